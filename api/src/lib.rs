//! The doors for people: the composition root, the HTTP API and the command line.
//!
//! [`http`] is the API, [`auth`] who may ask it.
//! [`roles`] wires the line together, [`line`] is what can be done with it, [`cli`] are the commands, [`socket`] carries
//! them to the process that holds the folder, [`serve`] keeps that process running, [`demo`] is the demo's real files.

pub mod auth;
pub mod cli;
pub mod demo;
pub mod http;
pub mod line;
pub mod live;
pub mod output;
pub mod roles;
pub mod serve;
pub mod socket;
