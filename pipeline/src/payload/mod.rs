//! Payloads are sealed per tenant, so that a tenant is forgotten when its key is destroyed.
//!
//! [`SealedLog`] and [`SealedStore`] stand over any backend of their port: what a tenant's batches and rows say is
//! compressed, then sealed with the tenant's key (AES-256-GCM), which [`Keyring`] keeps sealed by the master key. What
//! stands in clear: the headers of batches, the keys of rows, and the rows of the system (names of tenants, addresses to
//! sign in with, checkpoints). Batches and rows from before there were keys are read as they are.
//!
//! Once a key is destroyed, the tenant's batches have no body ([`crate::Stored::body`]) though they keep their offsets, its
//! rows are not there, and what is still written for it is forgotten at once: whoever was at work for it goes on. Of processes
//! that share a store each learns of it ([`follow_destroyed`]) within [`FORGOTTEN_WITHIN`].

mod forgetting;
mod key;
mod keyring;
mod log;
mod store;
#[cfg(test)]
mod tests;

pub use forgetting::{DropTenants, FORGOTTEN_WITHIN, follow_destroyed, is_of_destroyed_key};
pub use key::SealingKey;
pub use keyring::{KeyError, Keyring};
pub use log::SealedLog;
pub(crate) use log::open;
pub use store::SealedStore;
