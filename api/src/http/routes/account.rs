//! `/api/v1/auth`: registering, signing in and out, one's own sessions and password.

use std::sync::Arc;
use std::time::Instant;

use poem::Request;
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::{Signed, Tag};
use crate::auth::accounts::SignedIn;
use crate::auth::{Caller, Role, Who};
use crate::http::manners::{journal, rate};
use crate::http::problem::Problem;
use crate::http::text::Text;
use crate::http::time;
use crate::http::{Doors, now};

/// A new organisation and its first admin.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct Register {
    /// The organisation's name: lower-case letters, digits, - and _.
    #[oai(validator(min_length = 1, max_length = 63))]
    name: Text,
    /// The address to sign in with.
    #[oai(validator(min_length = 3, max_length = 254))]
    email: Text,
    /// At least 10 characters.
    #[oai(validator(max_length = 1024))]
    password: Text,
}

/// An address and a password.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
pub struct Login {
    /// The organisation, when several know the address.
    #[oai(validator(max_length = 63))]
    pub tenant: Option<Text>,
    /// The address.
    #[oai(validator(max_length = 254))]
    pub email: Text,
    /// The password.
    #[oai(validator(max_length = 1024))]
    pub password: Text,
}

/// An invitation or a reset, and the password to set.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct Accept {
    /// The one-use token.
    #[oai(validator(max_length = 128))]
    token: Text,
    /// The new password: at least 10 characters.
    #[oai(validator(max_length = 1024))]
    password: Text,
}

/// A session that has begun.
#[derive(Debug, Object)]
pub struct SessionBegun {
    /// To be sent as `Authorization: Bearer …`.
    pub access_token: String,
    /// Always `bearer`.
    pub token_type: String,
    /// Until when it counts.
    pub expires_at: String,
    /// Who signed in.
    pub user: Me,
}

/// Oneself.
#[derive(Debug, Object)]
pub struct Me {
    /// The user's id; empty for an API key.
    pub id: String,
    /// The address, or the API key's name.
    pub email: String,
    /// What one may do.
    pub role: Role,
    /// The organisation's id.
    pub tenant_id: String,
    /// The organisation's name.
    pub tenant: String,
}

/// One of one's sessions.
#[derive(Debug, Object)]
struct SessionInfo {
    /// Its id.
    id: String,
    /// When it began.
    since: String,
    /// Until when it counts.
    expires_at: String,
    /// What the client called itself.
    agent: String,
    /// Whether it is the one that asks.
    current: bool,
}

/// One's sessions, the newest first.
#[derive(Debug, Object)]
struct SessionList {
    /// The sessions.
    sessions: Vec<SessionInfo>,
}

/// The password in force and the one to come.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct PasswordChange {
    /// The password in force.
    #[oai(validator(max_length = 1024))]
    old_password: Text,
    /// The password to come: at least 10 characters.
    #[oai(validator(max_length = 1024))]
    new_password: Text,
}

/// It was made.
#[derive(ApiResponse)]
enum Begun {
    /// Made, and signed in.
    #[oai(status = 201)]
    Created(Json<SessionBegun>),
}

/// Done, nothing to tell.
#[derive(ApiResponse)]
pub enum Done {
    /// Done.
    #[oai(status = 204)]
    Done,
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/auth", tag = "Tag::Account")]
impl Routes {
    /// Make an organisation and its first admin.
    #[oai(path = "/register", method = "post", operation_id = "register")]
    async fn register(
        &self,
        doors: Data<&Arc<Doors>>,
        request: &Request,
        body: Json<Register>,
    ) -> Result<Begun, Problem> {
        let started = Instant::now();
        let Json(Register { name, email, password }) = body;
        let begun = doors.accounts.register(&name, &email, &password, agent(request), now()).await?;
        Ok(Begun::Created(Json(signed_in(&doors, begun, request, (StatusCode::CREATED, started)).await?)))
    }

    /// Sign in. A wrong address and a wrong password are told alike.
    #[oai(path = "/login", method = "post", operation_id = "login")]
    async fn login(
        &self,
        doors: Data<&Arc<Doors>>,
        request: &Request,
        body: Json<Login>,
    ) -> Result<Json<SessionBegun>, Problem> {
        let started = Instant::now();
        let Json(Login { tenant, email, password }) = body;
        let begun = doors
            .accounts
            .login(tenant.as_deref(), &email, &password, (rate::address(request), agent(request)), now())
            .await?;
        Ok(Json(signed_in(&doors, begun, request, (StatusCode::OK, started)).await?))
    }

    /// Use an invitation or a reset: set a password, and be signed in.
    #[oai(path = "/accept", method = "post", operation_id = "accept")]
    async fn accept(
        &self,
        doors: Data<&Arc<Doors>>,
        request: &Request,
        body: Json<Accept>,
    ) -> Result<Json<SessionBegun>, Problem> {
        let started = Instant::now();
        let Json(Accept { token, password }) = body;
        let begun = doors.accounts.accept(&token, &password, agent(request), now()).await?;
        Ok(Json(signed_in(&doors, begun, request, (StatusCode::OK, started)).await?))
    }

    /// End the session that asks.
    #[oai(path = "/logout", method = "post", operation_id = "logout")]
    async fn logout(&self, doors: Data<&Arc<Doors>>, Signed(caller): Signed) -> Result<Done, Problem> {
        doors.accounts.sessions.end(caller.tenant, caller.user()?, caller.session()?).await?;
        Ok(Done::Done)
    }

    /// Who am I?
    #[oai(path = "/me", method = "get", operation_id = "me")]
    async fn me(&self, doors: Data<&Arc<Doors>>, Signed(caller): Signed) -> Result<Json<Me>, Problem> {
        Ok(Json(me(&doors, &caller).await?))
    }

    /// List one's sessions.
    #[oai(path = "/sessions", method = "get", operation_id = "list_sessions")]
    async fn sessions(&self, doors: Data<&Arc<Doors>>, Signed(caller): Signed) -> Result<Json<SessionList>, Problem> {
        let own = caller.session()?;
        let all = doors.accounts.sessions.of(caller.tenant, caller.user()?, now()).await?;
        let info = |(id, session): (String, crate::auth::sessions::Session)| SessionInfo {
            current: id == own,
            id,
            since: time::of_seconds(session.since),
            expires_at: time::of_seconds(session.until),
            agent: session.agent,
        };
        Ok(Json(SessionList { sessions: all.into_iter().map(info).collect() }))
    }

    /// End one of one's sessions.
    #[oai(path = "/sessions/:id", method = "delete", operation_id = "end_session")]
    async fn end_session(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        id: Path<String>,
    ) -> Result<Done, Problem> {
        match doors.accounts.sessions.end(caller.tenant, caller.user()?, &id).await? {
            true => Ok(Done::Done),
            false => Err(Problem::not_found("session")),
        }
    }

    /// Change one's password; every other session ends.
    #[oai(path = "/password", method = "post", operation_id = "change_password")]
    async fn change_password(
        &self,
        doors: Data<&Arc<Doors>>,
        request: &Request,
        Signed(caller): Signed,
        body: Json<PasswordChange>,
    ) -> Result<Done, Problem> {
        let from = rate::address(request);
        doors.accounts.change_password(&caller, &body.old_password, &body.new_password, from).await?;
        Ok(Done::Done)
    }
}

fn agent(request: &Request) -> &str {
    request.header("user-agent").unwrap_or_default()
}

/// Notes a sign-in in the journal, for its request had no caller yet, and shapes the answer. What is noted is the status
/// that it is answered with, and how long it took since it was `started`.
async fn signed_in(
    doors: &Doors,
    begun: SignedIn,
    request: &Request,
    (status, started): (StatusCode, Instant),
) -> Result<SessionBegun, Problem> {
    let SignedIn { tenant, user, account, token, until } = begun;
    let who = Who::User { user, session: String::new(), email: account.email };
    let caller = Caller { tenant, who, role: account.role };
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    doors.journal.keep(tenant, journal::entry(&caller, method, path, status.as_u16(), took_us)).await;
    let user = me(doors, &caller).await?;
    Ok(SessionBegun { access_token: token, token_type: "bearer".into(), expires_at: time::of_seconds(until), user })
}

async fn me(doors: &Doors, caller: &Caller) -> Result<Me, Problem> {
    let tenant = doors.accounts.tenant_name(caller.tenant).await?;
    let (id, email) = match &caller.who {
        Who::User { user, email, .. } => (user.clone(), email.clone()),
        Who::Key { name, .. } => (String::new(), name.clone()),
    };
    let tenant = tenant.map_or_else(String::new, |name| name.to_string());
    Ok(Me { id, email, role: caller.role, tenant_id: caller.tenant.to_string(), tenant })
}
