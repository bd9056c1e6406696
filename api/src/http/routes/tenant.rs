//! `/api/v1/tenant`: a tenant as a whole, for its admins: taken along, or deleted.

use std::sync::Arc;

use futures::StreamExt;
use poem::http::{HeaderValue, StatusCode, header};
use poem::web::Data;
use poem::{Body, IntoResponse, Response};
use poem_openapi::payload::Json;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::account::Done;
use super::{Signed, Tag};
use crate::auth::{AuthError, Role};
use crate::http::Doors;
use crate::http::manners::etag::Streamed;
use crate::http::problem::Problem;
use crate::http::text::Text;
use crate::line::Busy;

/// What is to be deleted, in the caller's own words.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct Confirmation {
    /// The tenant's name: everything of it goes, for ever.
    #[oai(validator(min_length = 1, max_length = 127))]
    pub name: Text,
}

/// Lines of JSON on their way to a client.
struct Lines(Response);

impl IntoResponse for Lines {
    fn into_response(self) -> Response {
        self.0
    }
}

impl ApiResponse for Lines {
    fn meta() -> MetaResponses {
        let schema = MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")));
        let response = MetaResponse {
            description: "The export: one JSON object a line, each with its kind; the last has the kind end",
            status: Some(200),
            status_range: None,
            content: vec![MetaMediaType { content_type: "application/x-ndjson", schema }],
            headers: Vec::new(),
        };
        MetaResponses { responses: vec![response] }
    }

    fn register(_: &mut Registry) {}
}

fn busy() -> Problem {
    let detail = "an export of this organisation is under way: take it to its end, or try again in a moment";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "quota_exports", detail).retry_after(10)
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/tenant", tag = "Tag::Tenant")]
impl Routes {
    /// Export everything that the tenant has: users without secrets, connections, mappings, records as they came, rows of
    /// views, quarantine, audit. Streamed; an export without its line of kind end is not whole.
    #[oai(path = "/export", method = "get", operation_id = "export_tenant")]
    async fn export(&self, doors: Data<&Arc<Doors>>, Signed(caller): Signed) -> Result<Lines, Problem> {
        caller.require(Role::Admin)?;
        let parts = doors.line.clone().export(caller.tenant).await.map_err(|Busy| busy())?;
        let parts = futures::stream::unfold(parts, |mut parts| async move { Some((parts.recv().await?, parts)) });
        // An export that fails breaks off, so that no client takes a part for the whole.
        let parts = parts.map(|part| {
            part.map_err(|error| {
                tracing::warn!(error = format!("{error:#}"), "an export broke off");
                std::io::Error::other("the export broke off")
            })
        });
        let mut response = Response::builder()
            .header(header::CONTENT_TYPE, "application/x-ndjson")
            .body(Body::from_bytes_stream::<_, bytes::Bytes, std::io::Error>(parts));
        let disposition = HeaderValue::from_static("attachment; filename=\"tenant.ndjson\"");
        response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
        response.set_data(Streamed);
        Ok(Lines(response))
    }

    /// Delete the tenant: users, sessions and keys at once, then connections, views and every row; its payloads on the log
    /// are forgotten with its key, and its name is free. Nothing brings it back. Only a person can, who repeats the name.
    #[oai(path = "/", method = "delete", operation_id = "delete_tenant")]
    async fn delete(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        body: Json<Confirmation>,
    ) -> Result<Done, Problem> {
        caller.require(Role::Admin)?;
        caller.user()?;
        let name = doors.accounts.tenant_name(caller.tenant).await?.ok_or(AuthError::Unauthenticated)?;
        if name.as_str() != &*body.name {
            return Err(Problem::invalid("this is not the tenant's name: to delete it, repeat its name exactly"));
        }
        let (line, tenant) = (doors.line.clone(), caller.tenant);
        // A task of its own: who hangs up does not stop it half-way.
        let deleted = tokio::spawn(async move { line.delete_tenant(tenant, &name).await });
        deleted.await.map_err(Problem::internal)?.map_err(|error| Problem::internal(format!("{error:#}")))?;
        Ok(Done::Done)
    }
}
