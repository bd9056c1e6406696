//! Who may do what: accounts and their passwords, sessions and their tokens, API keys, roles.
//!
//! Read in this order: [`caller`] is who asks, [`accounts`] what people do with their accounts, [`gate`] how a credential
//! becomes a caller. [`password`], [`token`] and [`secret`] hold the cryptography.
//!
//! The tenant of a request comes from its credential and from nowhere else.

pub mod caller;

pub mod accounts;
pub mod api_keys;
pub mod gate;
mod guesses;
pub mod invitations;
pub mod sessions;

pub mod master_key;
pub mod password;
pub mod secret;
pub mod token;

pub mod error;

pub use accounts::Accounts;
pub use caller::{Caller, Role, Who};
pub use error::AuthError;
pub use gate::Gate;
