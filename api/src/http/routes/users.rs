//! `/api/v1/auth/users`: a tenant's people, for its admins.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::account::Done;
use super::{Signed, Tag};
use crate::auth::Role;
use crate::auth::accounts::User;
use crate::http::problem::Problem;
use crate::http::text::Text;
use crate::http::time;
use crate::http::{Doors, now};

/// A user.
#[derive(Debug, Object)]
struct UserInfo {
    /// The user's id.
    id: String,
    /// The address.
    email: String,
    /// What the user may do.
    role: Role,
    /// Since when.
    created_at: String,
}

/// A tenant's users.
#[derive(Debug, Object)]
struct UserList {
    /// The users.
    users: Vec<UserInfo>,
}

/// Whom to invite.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct Invite {
    /// The address.
    #[oai(validator(min_length = 3, max_length = 254))]
    pub email: Text,
    /// What the user will be allowed to do.
    pub role: Role,
}

/// A token that is told once.
#[derive(Debug, Object)]
pub struct OneUse {
    /// For `POST /api/v1/auth/accept`.
    pub token: String,
    /// Until when it counts.
    pub expires_at: String,
}

/// What to change of a user.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct UserChange {
    /// What the user may do from now on.
    role: Role,
}

#[derive(ApiResponse)]
enum Made {
    /// Made; the token is told once.
    #[oai(status = 201)]
    Created(Json<OneUse>),
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/auth/users", tag = "Tag::Tenant")]
impl Routes {
    /// List the users.
    #[oai(path = "/", method = "get", operation_id = "list_users")]
    async fn list(&self, doors: Data<&Arc<Doors>>, Signed(caller): Signed) -> Result<Json<UserList>, Problem> {
        caller.require(Role::Admin)?;
        let users = doors.accounts.users(caller.tenant).await?;
        Ok(Json(UserList { users: users.into_iter().map(|(id, user)| info(id, user)).collect() }))
    }

    /// Invite somebody: hand the token over, it is used once.
    #[oai(path = "/invitations", method = "post", operation_id = "invite_user")]
    async fn invite(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        body: Json<Invite>,
    ) -> Result<Made, Problem> {
        caller.require(Role::Admin)?;
        let (token, until) =
            doors.accounts.invite(caller.tenant, &body.email, body.role, &caller.label(), now()).await?;
        Ok(Made::Created(Json(OneUse { token, expires_at: time::of_seconds(until) })))
    }

    /// Make a token with which a user sets a new password.
    #[oai(path = "/:id/reset", method = "post", operation_id = "reset_user")]
    async fn reset(&self, doors: Data<&Arc<Doors>>, Signed(caller): Signed, id: Path<String>) -> Result<Made, Problem> {
        caller.require(Role::Admin)?;
        let (token, until) = doors.accounts.reset(caller.tenant, &id, &caller.label(), now()).await?;
        Ok(Made::Created(Json(OneUse { token, expires_at: time::of_seconds(until) })))
    }

    /// Change a user's role. The last admin stays one.
    #[oai(path = "/:id", method = "patch", operation_id = "change_user")]
    async fn change(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        id: Path<String>,
        body: Json<UserChange>,
    ) -> Result<Json<UserInfo>, Problem> {
        caller.require(Role::Admin)?;
        let user = doors.accounts.set_role(caller.tenant, &id, body.role).await?;
        Ok(Json(info(id.0, user)))
    }

    /// Remove a user; every session ends. The last admin stays.
    #[oai(path = "/:id", method = "delete", operation_id = "remove_user")]
    async fn remove(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        id: Path<String>,
    ) -> Result<Done, Problem> {
        caller.require(Role::Admin)?;
        doors.accounts.remove(caller.tenant, &id).await?;
        Ok(Done::Done)
    }
}

fn info(id: String, user: User) -> UserInfo {
    UserInfo { id, email: user.email, role: user.role, created_at: time::of_seconds(user.since) }
}
