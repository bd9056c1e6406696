//! API keys for programs: shown once, stored as a hash, bound to a role and, if wanted, to connections and a time.

use std::sync::Arc;

use pipeline::{Store, Table};
use schemas::{ConnectionName, TenantId};
use serde::{Deserialize, Serialize};

use super::{AuthError, Role, secret};
use crate::rows::Rows;

/// How a key's text begins.
pub const PREFIX: &str = "ak_";
const NAME_CHARS_MAX: usize = 80;
const CONNECTIONS_MAX: usize = 100;
const KEYS_MAX: usize = 1_000;

/// A key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// The name that its maker gave it.
    pub name: String,
    /// What it may do; never admin.
    pub role: Role,
    /// The connections it is bound to; empty for all.
    pub connections: Vec<ConnectionName>,
    /// Who made it.
    pub by: String,
    /// When, in seconds since 1970 UTC.
    pub since: i64,
    /// Until when it counts; for ever when empty.
    pub until: Option<i64>,
    /// SHA-256 of its secret, in hex.
    pub hash: String,
}

/// A tenant's keys.
pub struct ApiKeys {
    rows: Rows<ApiKey>,
}

/// What a new key is to be.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The connections it is bound to; empty for all.
    pub connections: Vec<ConnectionName>,
    /// Until when it counts.
    pub until: Option<i64>,
}

impl ApiKeys {
    /// The keys in `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { rows: Rows::new(store, Table::ApiKeys) }
    }

    /// Makes one: its id, and its text, which is told once.
    pub async fn make(
        &self,
        tenant: TenantId,
        wanted: NewApiKey,
        by: &str,
        now: i64,
    ) -> Result<(String, ApiKey, String), AuthError> {
        let NewApiKey { name, role, connections, until } = wanted;
        check(&name, role, &connections, until, now)?;
        if self.rows.page(tenant, "", None, KEYS_MAX).await?.len() >= KEYS_MAX {
            return Err(AuthError::Conflict(format!("there are {KEYS_MAX} API keys: revoke some that are not used")));
        }
        let (id, secret) = (secret::id()?, secret::token()?);
        let hash = secret::hash(&secret);
        let key = ApiKey { name, role, connections, by: by.to_owned(), since: now, until, hash };
        self.rows.insert(tenant, &id, &key).await?;
        let text = format!("{PREFIX}{tenant}_{id}_{secret}");
        Ok((id, key, text))
    }

    /// The key that a text is, if it counts now.
    pub async fn find(&self, text: &str, now: i64) -> Result<Option<(TenantId, String, ApiKey)>, AuthError> {
        let Some((tenant, id, secret)) = parse(text) else { return Ok(None) };
        let Some(row) = self.rows.get(tenant, id).await? else { return Ok(None) };
        let counts = secret::equal(&row.value.hash, &secret::hash(secret)) && row.value.until.is_none_or(|t| t > now);
        Ok(counts.then(|| (tenant, id.to_owned(), row.value)))
    }

    /// All keys of a tenant by their ids.
    pub async fn list(&self, tenant: TenantId) -> Result<Vec<(String, ApiKey)>, AuthError> {
        Ok(self.rows.all(tenant, "").await?)
    }

    /// Whether a key counts now: what a long stream asks again and again.
    pub async fn counts(&self, tenant: TenantId, id: &str, now: i64) -> Result<bool, AuthError> {
        Ok(self.rows.get(tenant, id).await?.is_some_and(|row| row.value.until.is_none_or(|t| t > now)))
    }

    /// Revokes one; false when there is none.
    pub async fn revoke(&self, tenant: TenantId, id: &str) -> Result<bool, AuthError> {
        Ok(self.rows.remove(tenant, id).await?)
    }
}

fn check(
    name: &str,
    role: Role,
    connections: &[ConnectionName],
    until: Option<i64>,
    now: i64,
) -> Result<(), AuthError> {
    let refuse = |why: &str| Err(AuthError::Invalid(why.to_owned()));
    if name.trim().is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return refuse("a key has a name of 1 to 80 characters");
    }
    if role > Role::Editor {
        return refuse("a key's role is viewer or editor: what an admin does, people do");
    }
    if connections.len() > CONNECTIONS_MAX {
        return refuse("a key is bound to at most 100 connections");
    }
    if until.is_some_and(|until| until <= now) {
        return refuse("the key would have expired already: give a time that is still to come");
    }
    Ok(())
}

/// Tenant, id and secret of a key's text.
fn parse(text: &str) -> Option<(TenantId, &str, &str)> {
    let rest = text.strip_prefix(PREFIX)?;
    let (tenant, rest) = rest.split_once('_')?;
    let (id, secret) = rest.split_once('_')?;
    let is_id = id.len() == 24 && id.bytes().all(|b| b.is_ascii_hexdigit());
    (is_id && secret.len() == 43).then_some((tenant.parse().ok()?, id, secret))
}
