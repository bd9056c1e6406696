//! `/api/v1/auth/keys`: API keys for programs.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use schemas::ConnectionName;

use super::account::Done;
use super::{Signed, Tag};
use crate::auth::Role;
use crate::auth::api_keys::{ApiKey, NewApiKey};
use crate::http::problem::Problem;
use crate::http::text::Text;
use crate::http::time;
use crate::http::{Doors, now};

/// A key, without its secret.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct KeyInfo {
    /// Its id.
    id: String,
    /// Its name.
    name: String,
    /// What it may do.
    role: Role,
    /// The connections that it is bound to; empty for all.
    connections: Vec<String>,
    /// Who made it.
    created_by: String,
    /// When.
    created_at: String,
    /// Until when it counts; for ever when it is missing.
    expires_at: Option<String>,
}

/// A tenant's keys.
#[derive(Debug, Object)]
struct KeyList {
    /// The keys.
    keys: Vec<KeyInfo>,
}

/// A key to make.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
struct KeyWanted {
    /// Its name.
    #[oai(validator(min_length = 1, max_length = 80))]
    name: Text,
    /// What it may do: viewer or editor.
    role: Role,
    /// The connections that it is bound to; empty for all.
    #[oai(default, validator(max_items = 100))]
    connections: Vec<Text>,
    /// Until when it counts, as RFC 3339; for ever when left out.
    #[oai(validator(max_length = 64))]
    expires_at: Option<Text>,
}

/// A key that was made.
#[derive(Debug, Object)]
struct KeyMade {
    /// The key.
    key: KeyInfo,
    /// Its text, told once: to be sent as `Authorization: Bearer …`.
    secret: String,
}

#[derive(ApiResponse)]
enum Made {
    /// Made; the secret is told once.
    #[oai(status = 201)]
    Created(Json<KeyMade>),
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/auth/keys", tag = "Tag::Tenant")]
impl Routes {
    /// List the API keys.
    #[oai(path = "/", method = "get", operation_id = "list_keys")]
    async fn list(&self, doors: Data<&Arc<Doors>>, Signed(caller): Signed) -> Result<Json<KeyList>, Problem> {
        caller.require(Role::Admin)?;
        let keys = doors.accounts.keys.list(caller.tenant).await?;
        Ok(Json(KeyList { keys: keys.into_iter().map(|(id, key)| info(id, key)).collect() }))
    }

    /// Make an API key; its text is told once.
    #[oai(path = "/", method = "post", operation_id = "make_key")]
    async fn make(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        body: Json<KeyWanted>,
    ) -> Result<Made, Problem> {
        caller.require(Role::Admin)?;
        let Json(KeyWanted { name, role, connections, expires_at }) = body;
        let connections: Result<Vec<ConnectionName>, _> = connections.iter().map(|c| ConnectionName::new(c)).collect();
        let connections = connections.map_err(|e| Problem::invalid(e.to_string()))?;
        let wrong = || Problem::invalid("expires_at is no time: write it as 2027-01-31T00:00:00Z");
        let until = expires_at.map(|text| time::seconds_of(&text).ok_or_else(wrong)).transpose()?;
        let wanted = NewApiKey { name: name.into(), role, connections, until };
        let (id, key, secret) = doors.accounts.keys.make(caller.tenant, wanted, &caller.label(), now()).await?;
        Ok(Made::Created(Json(KeyMade { key: info(id, key), secret })))
    }

    /// Revoke an API key; it counts no more at once.
    #[oai(path = "/:id", method = "delete", operation_id = "revoke_key")]
    async fn revoke(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        id: Path<String>,
    ) -> Result<Done, Problem> {
        caller.require(Role::Admin)?;
        match doors.accounts.keys.revoke(caller.tenant, &id).await? {
            true => Ok(Done::Done),
            false => Err(Problem::not_found("API key")),
        }
    }
}

fn info(id: String, key: ApiKey) -> KeyInfo {
    KeyInfo {
        id,
        name: key.name,
        role: key.role,
        connections: key.connections.iter().map(ToString::to_string).collect(),
        created_by: key.by,
        created_at: time::of_seconds(key.since),
        expires_at: key.until.map(time::of_seconds),
    }
}
