//! The doors for people: the composition root, the HTTP API and the command line.
//!
//! [`roles`] wires the line together on what [`backends`] opens, [`mod@line`] is what can be done with it, [`cli`] are the commands, [`socket`] carries
//! them to the process that holds the folder, [`client`] to a server; [`http`] is the API for everybody else, [`auth`] who may ask it,
//! [`connections`] what reads files for it, [`live`] the line as it moves, [`notices`] tells webhooks of cases, [`serve`] keeps
//! that process running, [`demo`] is the demo's real files. [`rows`] are typed rows of the store, [`folder`] says what may be taken for a data folder.

pub mod auth;
pub mod backends;
pub mod cli;
pub mod client;
pub mod connections;
pub mod demo;
pub mod folder;
pub mod http;
pub mod line;
pub mod live;
pub mod notices;
pub mod output;
pub mod roles;
pub mod rows;
pub mod serve;
pub mod socket;
