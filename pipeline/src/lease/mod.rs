//! Leases: which process works on which partition of a role.
//!
//! They are rows of `Store` and nothing else. A process is a row that it writes again every few seconds; a partition of a role
//! is a row that names its process, and has a token that every taking raises. Whoever finds the row of a process unchanged for
//! long enough, by a clock of its own that only goes forward, removes that row *at the version that it found*: from then on
//! the process can write it no more, knows that it was taken for dead, and others may take what it had. A process trusts its
//! leases for two thirds of that time, counted from before its last write was sent. No clock is compared with another one.
//!
//! That keeps work from being done twice. What is *right* does not rest on it: what only one may write is written over the
//! version that was read, so that of two processes that both believe in their lease one loses, and starts again.
//!
//! [`Node`] is a process among its peers, [`FencedStore`] takes no writes once a lease is over, [`keep()`] works on what is leased.

mod failures;
mod fence;
mod keep;
mod node;
mod peers;
#[cfg(test)]
mod tests;

pub use fence::FencedStore;
pub use keep::{Ended, Work, keep};
pub use node::{Clock, Joining, LeaseError, Node, Pace, Share, Trust};
pub(crate) use peers::idle;
pub use peers::{Lease, NodeRow, Peers, list};
