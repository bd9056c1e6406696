//! The workload that every bench and campaign shares. One binary or script per question stands beside it.

pub mod command;
pub mod workload;

pub use workload::{Counts, Workload};
