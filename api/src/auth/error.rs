//! What can go wrong with accounts and credentials.

use pipeline::StoreError;
use pipeline::definitions::DefinitionError;

use super::Role;
use crate::rows::RowError;

/// An account or a credential is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// No credential, or one that is wrong, expired, ended or revoked: nothing more is told.
    #[error("sign in, or send a valid API key, in the header Authorization: Bearer …")]
    Unauthenticated,
    /// Address or password is wrong: nothing tells which.
    #[error("the address or the password is wrong")]
    WrongPassword,
    /// Too many wrong passwords for this account, from addresses that it never signed in from.
    #[error("too many wrong passwords for this account: try again in {after} s, or ask an admin for a reset")]
    Guessed {
        /// Seconds after which one more may be tried.
        after: u64,
    },
    /// Several tenants know this address and password.
    #[error("several organisations know this address and password: name one in the field tenant")]
    TenantNeeded,
    /// The role is too low.
    #[error("this needs the role {needs}, you have {has}: ask an admin of your organisation")]
    Forbidden {
        /// The caller's role.
        has: Role,
        /// The role that it takes.
        needs: Role,
    },
    /// Only a person may do this.
    #[error("an API key cannot do this: sign in as a user")]
    NotForKeys,
    /// The key is bound to other connections.
    #[error("this API key is not for the connection {0}")]
    OtherConnection(String),
    /// Something of this tenant that is not there.
    #[error("there is no {0} of that name or id")]
    NotFound(&'static str),
    /// The name is taken, or the state has changed.
    #[error("{0}")]
    Conflict(String),
    /// The text breaks a rule.
    #[error("{0}")]
    Invalid(String),
    /// Passwords are being checked for too many others.
    #[error("too many sign-ins at once: try again in a few seconds")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row failed.
    #[error(transparent)]
    Row(#[from] RowError),
    /// A tenant's row failed.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// A key or the random generator is not usable.
    #[error("{0}")]
    Internal(String),
}
