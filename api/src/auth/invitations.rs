//! One-use tokens that an admin hands to a person: to join, or to set a new password.

use std::sync::Arc;

use pipeline::{Store, Table};
use schemas::TenantId;
use serde::{Deserialize, Serialize};

use super::{AuthError, Role, secret};
use crate::rows::Rows;

/// How long a token counts, in seconds.
pub const INVITATION_SECONDS: i64 = 7 * 24 * 3600;
const INVITATIONS_MAX: usize = 1_000;

/// What a token lets its bearer do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case")]
pub enum Purpose {
    /// Join with that address and role.
    Join {
        /// The address.
        email: String,
        /// The role.
        role: Role,
    },
    /// Set the password of that user anew.
    Reset {
        /// The user.
        user: String,
    },
}

/// A token as it is stored, under its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// What it lets its bearer do.
    pub purpose: Purpose,
    /// Who made it.
    pub by: String,
    /// Until when it counts, in seconds since 1970 UTC.
    pub until: i64,
}

/// A tenant's invitations.
pub struct Invitations {
    rows: Rows<Invitation>,
}

impl Invitations {
    /// The invitations in `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { rows: Rows::new(store, Table::Invitations) }
    }

    /// Makes one; answers its token, which is told once, and until when it counts.
    pub async fn make(
        &self,
        tenant: TenantId,
        purpose: Purpose,
        by: &str,
        now: i64,
    ) -> Result<(String, i64), AuthError> {
        self.trim(tenant, now).await?;
        let secret = secret::token()?;
        let until = now + INVITATION_SECONDS;
        let invitation = Invitation { purpose, by: by.to_owned(), until };
        self.rows.insert(tenant, &secret::hash(&secret), &invitation).await?;
        Ok((format!("{tenant}_{secret}"), until))
    }

    /// What a token is for, if it counts now.
    pub async fn find(&self, token: &str, now: i64) -> Result<Option<(TenantId, Invitation)>, AuthError> {
        let Some((tenant, secret)) = parse(token) else { return Ok(None) };
        let row = self.rows.get(tenant, &secret::hash(secret)).await?;
        Ok(row.filter(|row| row.value.until > now).map(|row| (tenant, row.value)))
    }

    /// Uses a token up; false when somebody was faster.
    pub async fn take(&self, token: &str) -> Result<bool, AuthError> {
        let Some((tenant, secret)) = parse(token) else { return Ok(false) };
        Ok(self.rows.remove(tenant, &secret::hash(secret)).await?)
    }

    /// Removes all that reset a user's password: it was set.
    pub async fn forget_resets(&self, tenant: TenantId, user: &str) -> Result<(), AuthError> {
        for (key, invitation) in self.rows.all(tenant, "").await? {
            if matches!(&invitation.purpose, Purpose::Reset { user: of } if of == user) {
                self.rows.remove(tenant, &key).await?;
            }
        }
        Ok(())
    }

    async fn trim(&self, tenant: TenantId, now: i64) -> Result<(), AuthError> {
        let all = self.rows.all(tenant, "").await?;
        let mut left = all.len();
        for (key, _) in all.iter().filter(|(_, invitation)| invitation.until <= now) {
            self.rows.remove(tenant, key).await?;
            left -= 1;
        }
        if left >= INVITATIONS_MAX {
            return Err(AuthError::Conflict(format!("{INVITATIONS_MAX} invitations are open: let some run out first")));
        }
        Ok(())
    }
}

fn parse(token: &str) -> Option<(TenantId, &str)> {
    let (tenant, secret) = token.split_once('_')?;
    (secret.len() == 43).then_some((tenant.parse().ok()?, secret))
}
