//! The doors for people: the composition root and the command line.
//!
//! [`roles`] wires the line together, [`cli`] are the commands, [`socket`] carries them to the process that holds the
//! folder, [`serve`] keeps that process running, [`demo`] is the demo's real files.

pub mod auth;
pub mod cli;
pub mod demo;
pub mod http;
pub mod output;
pub mod roles;
pub mod serve;
pub mod socket;
