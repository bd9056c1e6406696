//! Who asks.

use std::fmt;

use schemas::TenantId;
use serde::{Deserialize, Serialize};

use super::AuthError;

/// What somebody may do. Each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, poem_openapi::Enum)]
#[serde(rename_all = "lowercase")]
#[oai(rename_all = "lowercase")]
pub enum Role {
    /// Reads views, log, quarantine and events.
    Viewer,
    /// Pushes records, syncs, pauses and resumes connections.
    Editor,
    /// Makes and deletes connections, invites and removes users, makes API keys, reads the audit journal.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Admin => "admin",
        })
    }
}

impl std::str::FromStr for Role {
    type Err = AuthError;
    fn from_str(text: &str) -> Result<Self, AuthError> {
        match text {
            "viewer" => Ok(Self::Viewer),
            "editor" => Ok(Self::Editor),
            "admin" => Ok(Self::Admin),
            _ => Err(AuthError::Invalid(format!("there is no role {text:.40?}: use viewer, editor or admin"))),
        }
    }
}

/// A person's session, or a program's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A user who signed in.
    User {
        /// The user's id.
        user: String,
        /// The session.
        session: String,
        /// The address that the user signs in with.
        email: String,
    },
    /// A program with an API key.
    Key {
        /// The key's id.
        key: String,
        /// The name that its maker gave it.
        name: String,
        /// The connections whose streams it may push to and read; empty for all.
        connections: Vec<String>,
    },
}

/// Who asks, for which tenant, and what they may do. Made from a credential only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The tenant.
    pub tenant: TenantId,
    /// The person or program.
    pub who: Who,
    /// What they may do.
    pub role: Role,
}

impl Caller {
    /// Refuses a caller whose role is lower.
    pub fn require(&self, role: Role) -> Result<(), AuthError> {
        if self.role >= role { Ok(()) } else { Err(AuthError::Forbidden { has: self.role, needs: role }) }
    }

    /// The user; a key is refused.
    pub fn user(&self) -> Result<&str, AuthError> {
        match &self.who {
            Who::User { user, .. } => Ok(user),
            Who::Key { .. } => Err(AuthError::NotForKeys),
        }
    }

    /// The session; a key is refused.
    pub fn session(&self) -> Result<&str, AuthError> {
        match &self.who {
            Who::User { session, .. } => Ok(session),
            Who::Key { .. } => Err(AuthError::NotForKeys),
        }
    }

    /// Refuses a key that is bound to other connections.
    pub fn require_connection(&self, connection: &str) -> Result<(), AuthError> {
        match &self.who {
            Who::Key { connections, .. } if !connections.is_empty() && !connections.iter().any(|c| c == connection) => {
                Err(AuthError::OtherConnection(connection.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Whether a key bound to some connections asks; it sees nothing that spans connections.
    pub fn is_bound(&self) -> bool {
        matches!(&self.who, Who::Key { connections, .. } if !connections.is_empty())
    }

    /// How journal and log name the caller: `user:ID` or `key:ID`.
    pub fn label(&self) -> String {
        match &self.who {
            Who::User { user, .. } => format!("user:{user}"),
            Who::Key { key, .. } => format!("key:{key}"),
        }
    }
}
