//! What people do with their accounts: register, sign in and out, invite, change passwords and roles.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use pipeline::{Store, Table, definitions};
use schemas::{TenantId, TenantName};
use serde::{Deserialize, Serialize};

use super::api_keys::ApiKeys;
use super::guesses::Guesses;
use super::invitations::{Invitations, Purpose};
use super::password::Passwords;
use super::sessions::Sessions;
use super::token::Tokens;
use super::{AuthError, Caller, Role, secret};
use crate::rows::Rows;

/// With how many tenants of one address a sign-in without a tenant's name tries the password.
const TENANTS_TRIED_MAX: usize = 4;
const USERS_MAX: usize = 10_000;
const EMAIL_BYTES_MAX: usize = 254;

/// A user as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The address that the user signs in with, in lower case.
    pub email: String,
    /// What the user may do.
    pub role: Role,
    /// The argon2id hash of the password.
    pub password: String,
    /// When the account was made, in seconds since 1970 UTC.
    pub since: i64,
}

/// A sign-in that worked.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// The tenant.
    pub tenant: TenantId,
    /// The user's id.
    pub user: String,
    /// The user.
    pub account: User,
    /// The session's token.
    pub token: String,
    /// Until when it counts, in seconds since 1970 UTC.
    pub until: i64,
}

/// Accounts, and everything that gives access.
pub struct Accounts {
    store: Arc<dyn Store>,
    users: Rows<User>,
    addresses: Rows<String>,
    /// Sessions.
    pub sessions: Sessions,
    /// API keys.
    pub keys: ApiKeys,
    /// Invitations and resets.
    pub invitations: Invitations,
    /// Session tokens.
    pub tokens: Tokens,
    passwords: Passwords,
    guesses: Guesses,
}

impl Accounts {
    /// The accounts in `store`; tokens are signed with `key`.
    pub fn new(store: Arc<dyn Store>, key: &[u8; 32]) -> Result<Self, AuthError> {
        Ok(Self {
            users: Rows::new(store.clone(), Table::Users),
            addresses: Rows::new(store.clone(), Table::Addresses),
            sessions: Sessions::new(store.clone()),
            keys: ApiKeys::new(store.clone()),
            invitations: Invitations::new(store.clone()),
            tokens: Tokens::new(key)?,
            passwords: Passwords::new()?,
            guesses: Guesses::default(),
            store,
        })
    }

    /// Makes a tenant and its first admin, signed in. A name that is taken is a conflict.
    pub async fn register(
        &self,
        name: &str,
        email: &str,
        password: &str,
        agent: &str,
        now: i64,
    ) -> Result<SignedIn, AuthError> {
        let name = TenantName::new(name).map_err(|e| AuthError::Invalid(e.to_string()))?;
        let email = address(email)?;
        // The slow part first: what fails later has cost no name.
        let hash = self.passwords.hash(password).await?;
        let taken = || AuthError::Conflict(format!("the name {name} is taken: choose another"));
        let tenant = definitions::create_tenant(&*self.store, &name).await?.ok_or_else(taken)?;
        let user = self.add(tenant, &email, Role::Admin, hash, now).await?;
        self.begin(tenant, user, agent, now).await
    }

    /// Signs in. Unknown addresses take as long as wrong passwords, and are told the same. `from` is the client's
    /// network address, `agent` what it calls itself.
    pub async fn login(
        &self,
        tenant: Option<&str>,
        email: &str,
        password: &str,
        (from, agent): (IpAddr, &str),
        now: i64,
    ) -> Result<SignedIn, AuthError> {
        let guess = self.guesses.begin(email, from, Instant::now())?;
        let candidates = self.candidates(tenant, email).await?;
        let mut found = Vec::new();
        for (tenant, id, user) in &candidates {
            if self.passwords.verify(password, Some(&user.password)).await? {
                found.push((*tenant, id.clone(), user.clone()));
            }
        }
        if candidates.is_empty() {
            self.passwords.verify(password, None).await?;
        }
        match found.len() {
            0 => Err(AuthError::WrongPassword),
            1 => {
                guess.was_right();
                let (tenant, id, user) = found.remove(0);
                self.begin(tenant, (id, user), agent, now).await
            }
            _ => Err(AuthError::TenantNeeded),
        }
    }

    async fn candidates(&self, tenant: Option<&str>, email: &str) -> Result<Vec<(TenantId, String, User)>, AuthError> {
        let Ok(email) = address(email) else { return Ok(Vec::new()) };
        let only = match tenant.map(TenantName::new) {
            None => None,
            Some(Err(_)) => return Ok(Vec::new()),
            Some(Ok(name)) => match definitions::find_tenant(&*self.store, &name).await? {
                Some(id) => Some(id),
                None => return Ok(Vec::new()),
            },
        };
        let prefix = only.map_or_else(|| format!("{email}/"), |id| format!("{email}/{id}"));
        let mut candidates = Vec::new();
        for (key, id) in self.addresses.page(TenantId::SYSTEM, &prefix, None, TENANTS_TRIED_MAX).await? {
            let tenant = key.rsplit_once('/').and_then(|(_, t)| t.parse().ok());
            let Some(tenant) = tenant else { continue };
            if let Some(user) = self.users.get(tenant, &id).await? {
                candidates.push((tenant, id, user.value));
            }
        }
        Ok(candidates)
    }

    async fn begin(
        &self,
        tenant: TenantId,
        (id, account): (String, User),
        agent: &str,
        now: i64,
    ) -> Result<SignedIn, AuthError> {
        let (session, begun) = self.sessions.begin(tenant, &id, agent, now).await?;
        let token = self.tokens.issue(tenant, &id, &session, now, begun.until)?;
        Ok(SignedIn { tenant, user: id, account, token, until: begun.until })
    }

    /// Adds a user; an address that is in use in this tenant is a conflict.
    async fn add(
        &self,
        tenant: TenantId,
        email: &str,
        role: Role,
        password: String,
        now: i64,
    ) -> Result<(String, User), AuthError> {
        if self.users.page(tenant, "", None, USERS_MAX).await?.len() >= USERS_MAX {
            return Err(AuthError::Conflict(format!("there are {USERS_MAX} users: remove some")));
        }
        let id = secret::id()?;
        if !self.addresses.insert(TenantId::SYSTEM, &address_key(tenant, email), &id).await? {
            return Err(AuthError::Conflict(format!("{email} has an account here already")));
        }
        let user = User { email: email.to_owned(), role, password, since: now };
        self.users.insert(tenant, &id, &user).await?;
        Ok((id, user))
    }

    /// A user of the tenant.
    pub async fn user(&self, tenant: TenantId, id: &str) -> Result<Option<User>, AuthError> {
        Ok(self.users.get(tenant, id).await?.map(|row| row.value))
    }

    /// All users of the tenant by their ids.
    pub async fn users(&self, tenant: TenantId) -> Result<Vec<(String, User)>, AuthError> {
        Ok(self.users.all(tenant, "").await?)
    }

    /// Invites somebody; answers the one-use token and until when it counts.
    pub async fn invite(
        &self,
        tenant: TenantId,
        email: &str,
        role: Role,
        by: &str,
        now: i64,
    ) -> Result<(String, i64), AuthError> {
        let email = address(email)?;
        if self.addresses.get(TenantId::SYSTEM, &address_key(tenant, &email)).await?.is_some() {
            return Err(AuthError::Conflict(format!("{email} has an account here already")));
        }
        self.invitations.make(tenant, Purpose::Join { email, role }, by, now).await
    }

    /// A one-use token with which a user sets a new password.
    pub async fn reset(&self, tenant: TenantId, user: &str, by: &str, now: i64) -> Result<(String, i64), AuthError> {
        self.user(tenant, user).await?.ok_or(AuthError::NotFound("user"))?;
        self.invitations.make(tenant, Purpose::Reset { user: user.to_owned() }, by, now).await
    }

    /// Uses an invitation or a reset: the bearer sets a password and is signed in.
    pub async fn accept(&self, token: &str, password: &str, agent: &str, now: i64) -> Result<SignedIn, AuthError> {
        let gone = || AuthError::NotFound("open invitation");
        let (tenant, invitation) = self.invitations.find(token, now).await?.ok_or_else(gone)?;
        let hash = self.passwords.hash(password).await?;
        // Only one of those who hold the same token gets past this.
        if !self.invitations.take(token).await? {
            return Err(gone());
        }
        let user = match invitation.purpose {
            Purpose::Join { email, role } => self.add(tenant, &email, role, hash, now).await?,
            Purpose::Reset { user } => {
                let changed = self.set_password(tenant, &user, hash, None).await?;
                (user, changed)
            }
        };
        self.begin(tenant, user, agent, now).await
    }

    /// Changes a password; every other session of the user ends. Who came by a session guesses the password no more
    /// often than who signs in: wrong ones count together. `from` is the client's network address.
    pub async fn change_password(&self, caller: &Caller, old: &str, new: &str, from: IpAddr) -> Result<(), AuthError> {
        let (tenant, id) = (caller.tenant, caller.user()?);
        let user = self.user(tenant, id).await?.ok_or(AuthError::Unauthenticated)?;
        let guess = self.guesses.begin(&user.email, from, Instant::now())?;
        if !self.passwords.verify(old, Some(&user.password)).await? {
            return Err(AuthError::WrongPassword);
        }
        guess.was_right();
        let hash = self.passwords.hash(new).await?;
        self.set_password(tenant, id, hash, Some(caller.session()?)).await.map(|_| ())
    }

    async fn set_password(
        &self,
        tenant: TenantId,
        id: &str,
        hash: String,
        kept: Option<&str>,
    ) -> Result<User, AuthError> {
        let set = |user: &mut User| {
            user.password.clone_from(&hash);
        };
        let user = self.users.update(tenant, id, set).await?.ok_or(AuthError::NotFound("user"))?;
        self.sessions.end_all(tenant, id, kept).await?;
        self.invitations.forget_resets(tenant, id).await?;
        Ok(user)
    }

    /// Gives a user another role. The last admin stays one.
    pub async fn set_role(&self, tenant: TenantId, id: &str, role: Role) -> Result<User, AuthError> {
        if role != Role::Admin {
            self.protect_last_admin(tenant, id).await?;
        }
        let set = |user: &mut User| {
            user.role = role;
        };
        let user = self.users.update(tenant, id, set).await?.ok_or(AuthError::NotFound("user"))?;
        self.restore_if_nobody_is_left(tenant, id, &user).await?;
        Ok(user)
    }

    /// Removes a user and ends all sessions. The last admin stays.
    pub async fn remove(&self, tenant: TenantId, id: &str) -> Result<User, AuthError> {
        self.protect_last_admin(tenant, id).await?;
        let row = self.users.get(tenant, id).await?.ok_or(AuthError::NotFound("user"))?;
        if !self.users.take(tenant, id, row.version).await? {
            return Err(AuthError::Conflict("the user changed meanwhile: look again".into()));
        }
        if row.value.role == Role::Admin && !self.has_admin(tenant).await? {
            self.users.insert(tenant, id, &row.value).await?;
            return Err(last_admin());
        }
        self.addresses.remove(TenantId::SYSTEM, &address_key(tenant, &row.value.email)).await?;
        self.sessions.end_all(tenant, id, None).await?;
        self.invitations.forget_resets(tenant, id).await?;
        Ok(row.value)
    }

    async fn protect_last_admin(&self, tenant: TenantId, id: &str) -> Result<(), AuthError> {
        let users = self.users(tenant).await?;
        let is_admin = users.iter().any(|(user, account)| user == id && account.role == Role::Admin);
        let others = users.iter().any(|(user, account)| user != id && account.role == Role::Admin);
        if is_admin && !others { Err(last_admin()) } else { Ok(()) }
    }

    /// Two admins who lower each other at once would leave none: whoever finds that puts its own change back.
    async fn restore_if_nobody_is_left(&self, tenant: TenantId, id: &str, user: &User) -> Result<(), AuthError> {
        if user.role == Role::Admin || self.has_admin(tenant).await? {
            return Ok(());
        }
        let restore = |user: &mut User| {
            user.role = Role::Admin;
        };
        self.users.update(tenant, id, restore).await?;
        Err(last_admin())
    }

    async fn has_admin(&self, tenant: TenantId) -> Result<bool, AuthError> {
        Ok(self.users(tenant).await?.iter().any(|(_, user)| user.role == Role::Admin))
    }

    /// The tenant's name.
    pub async fn tenant_name(&self, tenant: TenantId) -> Result<Option<TenantName>, AuthError> {
        Ok(definitions::tenant_name(&*self.store, tenant).await?)
    }
}

fn last_admin() -> AuthError {
    AuthError::Conflict("this is the last admin: make another user an admin first".into())
}

fn address_key(tenant: TenantId, email: &str) -> String {
    format!("{email}/{tenant}")
}

/// An address as it is stored: checked, in lower case.
pub fn address(text: &str) -> Result<String, AuthError> {
    let text = text.trim();
    let is_plain = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b'"' | b'<' | b'>' | b',' | b';'))
    };
    let parts = text.split_once('@').filter(|(name, host)| {
        is_plain(name) && is_plain(host) && !host.contains('@') && !host.starts_with('.') && !host.ends_with('.')
    });
    if text.len() > EMAIL_BYTES_MAX || parts.is_none() {
        return Err(AuthError::Invalid("this is no e-mail address: write it as name@host".into()));
    }
    Ok(text.to_ascii_lowercase())
}
