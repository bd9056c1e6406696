//! Sessions: who signed in, and until when it counts.

use std::sync::Arc;

use pipeline::{Store, Table};
use schemas::TenantId;
use serde::{Deserialize, Serialize};

use super::token::SESSION_SECONDS;
use super::{AuthError, secret};
use crate::rows::Rows;

/// A session as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The user.
    pub user: String,
    /// When it began, in seconds since 1970 UTC.
    pub since: i64,
    /// When it ends.
    pub until: i64,
    /// What the client called itself, shortened.
    pub agent: String,
}

/// A tenant's sessions. One that is ended is removed, and its tokens count no more.
pub struct Sessions {
    rows: Rows<Session>,
}

const AGENT_CHARS_MAX: usize = 120;
/// A user who signs in more often than this ends the oldest sessions.
const SESSIONS_MAX: usize = 50;

impl Sessions {
    /// The sessions in `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { rows: Rows::new(store, Table::Sessions) }
    }

    /// Begins one; answers its id. Keys are `USER/SESSION`, so that a user's are found together.
    pub async fn begin(
        &self,
        tenant: TenantId,
        user: &str,
        agent: &str,
        now: i64,
    ) -> Result<(String, Session), AuthError> {
        self.trim(tenant, user, now).await?;
        let id = secret::id()?;
        let agent = agent.chars().filter(|c| !c.is_control()).take(AGENT_CHARS_MAX).collect();
        let session = Session { user: user.to_owned(), since: now, until: now + SESSION_SECONDS, agent };
        self.rows.insert(tenant, &key(user, &id), &session).await?;
        Ok((id, session))
    }

    /// A session that counts now.
    pub async fn find(&self, tenant: TenantId, user: &str, id: &str, now: i64) -> Result<Option<Session>, AuthError> {
        let row = self.rows.get(tenant, &key(user, id)).await?;
        Ok(row.map(|row| row.value).filter(|session| session.until > now && session.user == user))
    }

    /// A user's sessions, the newest first.
    pub async fn of(&self, tenant: TenantId, user: &str, now: i64) -> Result<Vec<(String, Session)>, AuthError> {
        let prefix = key(user, "");
        let all = self.rows.all(tenant, &prefix).await?.into_iter();
        let mut all: Vec<_> = all
            .filter(|(_, session)| session.until > now)
            .map(|(key, session)| (key[prefix.len()..].to_owned(), session))
            .collect();
        all.sort_by_key(|(_, session)| std::cmp::Reverse(session.since));
        Ok(all)
    }

    /// Ends one; false when there is none.
    pub async fn end(&self, tenant: TenantId, user: &str, id: &str) -> Result<bool, AuthError> {
        Ok(self.rows.remove(tenant, &key(user, id)).await?)
    }

    /// Ends all of a user, but `kept`.
    pub async fn end_all(&self, tenant: TenantId, user: &str, kept: Option<&str>) -> Result<(), AuthError> {
        let kept = kept.map(|id| key(user, id));
        for (key, _) in self.rows.all(tenant, &key(user, "")).await? {
            if kept.as_ref() != Some(&key) {
                self.rows.remove(tenant, &key).await?;
            }
        }
        Ok(())
    }

    /// Removes what has ended, and the oldest beyond the bound.
    async fn trim(&self, tenant: TenantId, user: &str, now: i64) -> Result<(), AuthError> {
        let mut all = self.rows.all(tenant, &key(user, "")).await?;
        all.sort_by_key(|(_, session)| std::cmp::Reverse(session.since));
        for (at, (key, session)) in all.iter().enumerate() {
            if at + 1 >= SESSIONS_MAX || session.until <= now {
                self.rows.remove(tenant, key).await?;
            }
        }
        Ok(())
    }
}

fn key(user: &str, id: &str) -> String {
    format!("{user}/{id}")
}
