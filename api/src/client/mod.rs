//! A server, as the command line asks it: over its HTTP API, as somebody who is signed in.
//!
//! [`Address`] is where it answers, `credential` who asks and where that is kept, [`Client`] sends requests and tries again
//! what may be, `error` says what went wrong and what to do. `backend` and `deciding` are a tenant's things behind it, `rows` decodes what a
//! query answers, `run` brings records in.

mod address;
mod backend;
mod credential;
mod deciding;
mod error;
mod rows;
mod run;
mod send;

pub use address::Address;
pub use credential::{API_KEY, Credential, Kept};
pub use error::ClientError;
pub use run::Relayed;
pub use send::{Ask, Client};
