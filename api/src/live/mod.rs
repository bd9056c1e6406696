//! The line, live: a tenant's log read as it grows, as events of the stages that people watch.
//!
//! [`vector`] is how far a reader is, [`filter`] what it wants to see, [`feed`] reads the log for it, without loss or as
//! a sample that says how much it leaves out. [`tickets`] let a browser open a stream.

pub mod feed;
pub mod filter;
pub mod tickets;
pub mod vector;

pub use feed::{Feed, Mode, Sent};
pub use filter::Filter;
pub use tickets::Tickets;
pub use vector::{Reading, Vector};
