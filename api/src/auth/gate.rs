//! How a credential becomes a caller.

use std::sync::Arc;

use super::{Accounts, AuthError, Caller, Who, api_keys};

/// No credential is longer, in bytes.
const CREDENTIAL_BYTES_MAX: usize = 2_048;

/// Turns the header `Authorization` into a caller. Asked at every request, and again and again by long streams: what was
/// ended, revoked or lowered counts at once.
#[derive(Clone)]
pub struct Gate {
    accounts: Arc<Accounts>,
}

impl Gate {
    /// A gate to these accounts.
    pub fn new(accounts: Arc<Accounts>) -> Self {
        Self { accounts }
    }

    /// The caller whom the header's value names. `now` is in seconds since 1970 UTC.
    pub async fn caller(&self, authorization: &str, now: i64) -> Result<Caller, AuthError> {
        if authorization.len() > CREDENTIAL_BYTES_MAX {
            return Err(AuthError::Unauthenticated);
        }
        let (scheme, credential) = authorization.split_once(' ').ok_or(AuthError::Unauthenticated)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(AuthError::Unauthenticated);
        }
        let credential = credential.trim();
        if credential.starts_with(api_keys::PREFIX) {
            self.program(credential, now).await
        } else {
            self.person(credential, now).await
        }
    }

    async fn person(&self, token: &str, now: i64) -> Result<Caller, AuthError> {
        let claims = self.accounts.tokens.read(token)?;
        let (tenant, user, session) = (claims.tenant, claims.sub, claims.session);
        self.accounts.sessions.find(tenant, &user, &session, now).await?.ok_or(AuthError::Unauthenticated)?;
        let account = self.accounts.user(tenant, &user).await?.ok_or(AuthError::Unauthenticated)?;
        Ok(Caller { tenant, who: Who::User { user, session, email: account.email }, role: account.role })
    }

    async fn program(&self, text: &str, now: i64) -> Result<Caller, AuthError> {
        let (tenant, id, key) = self.accounts.keys.find(text, now).await?.ok_or(AuthError::Unauthenticated)?;
        let connections = key.connections.iter().map(ToString::to_string).collect();
        Ok(Caller { tenant, who: Who::Key { key: id, name: key.name, connections }, role: key.role })
    }

    /// Whether a caller still is who it was: nothing was ended, revoked or lowered below `role` since.
    pub async fn still(&self, caller: &Caller, now: i64) -> Result<bool, AuthError> {
        match &caller.who {
            Who::User { user, session, .. } => {
                let session = self.accounts.sessions.find(caller.tenant, user, session, now).await?;
                let account = self.accounts.user(caller.tenant, user).await?;
                Ok(session.is_some() && account.is_some_and(|a| a.role >= caller.role))
            }
            Who::Key { key, .. } => self.accounts.keys.counts(caller.tenant, key, now).await,
        }
    }
}
