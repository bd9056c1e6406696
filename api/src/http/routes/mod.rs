//! Handlers, one file a resource. Each is thin: caller, role, one call, the answer's shape.

pub mod account;
pub mod api_keys;
pub mod audit;
pub mod ops;
pub mod time;
pub mod users;

use poem_openapi::auth::Bearer;
use poem_openapi::{OpenApi, OpenApiService, SecurityScheme, Tags};

use super::problem::Problem;
use crate::auth::{AuthError, Caller};

/// Groups of the document.
#[derive(Debug, Clone, Copy, Tags)]
pub enum Tag {
    /// Registering, signing in and out, sessions.
    Account,
    /// A tenant's people and API keys.
    Tenant,
    /// Who did what.
    Audit,
    /// Health and readiness.
    Operations,
}

/// The caller: a session's token or an API key, in `Authorization: Bearer …`.
#[derive(SecurityScheme)]
#[oai(ty = "bearer", checker = "known", bearer_format = "session token or API key")]
pub struct Signed(pub Caller);

/// The credential was checked outside, in `manners::credential`; here its result is handed over.
async fn known(request: &poem::Request, _: Bearer) -> poem::Result<Caller> {
    request.data::<Caller>().cloned().ok_or_else(|| Problem::from(AuthError::Unauthenticated).into())
}

/// Everything that the document describes.
pub fn service() -> OpenApiService<impl OpenApi, ()> {
    let apis = (account::Routes, users::Routes, api_keys::Routes, audit::Routes, ops::Routes);
    OpenApiService::new(apis, "AutonomOS", env!("CARGO_PKG_VERSION"))
        .description("The system of record for data that keeps changing shape.")
        .server("/")
}
