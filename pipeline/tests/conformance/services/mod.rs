//! Real servers: each in a folder and on ports of its own, gone when the tests are.

#[cfg(feature = "scylla")]
pub mod cassandra;
#[cfg(feature = "kafka")]
pub mod kafka;
mod server;

pub use server::{Server, free_port, jars, skip};
