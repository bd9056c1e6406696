//! Where records come from: one module per source system, each an implementation of the port
//! [`Source`](pipeline::Source).

pub mod file;
pub mod push;
pub mod relay;

pub use file::{Bounds, FileFormat, FileSettings, FileSource};
