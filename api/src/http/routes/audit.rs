//! `/api/v1/audit`: the journal, for a tenant's admins.

use std::sync::Arc;

use pipeline::Table;
use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use super::{Signed, Tag};
use crate::auth::Role;
use crate::http::Doors;
use crate::http::problem::Problem;
use crate::http::time;
use crate::line::journal::Entry;
use crate::rows::Rows;

const LIMIT: u32 = 100;

/// Who did what.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct AuditEntry {
    /// When.
    at: String,
    /// Who: `user:ID`, `key:ID` or `command line`.
    who: String,
    /// The address, or the key's name.
    name: String,
    /// The method.
    method: String,
    /// The path, or the command.
    path: String,
    /// How it ended.
    status: u16,
    /// How long it took, in milliseconds.
    took_ms: f64,
    /// The request's trace.
    trace_id: String,
    /// What was changed, where the path does not say it.
    detail: Option<String>,
}

/// A page of the journal, in the order of time.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct AuditPage {
    /// The entries.
    entries: Vec<AuditEntry>,
    /// For the next page; left out at the end.
    next: Option<String>,
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/audit", tag = "Tag::Audit")]
impl Routes {
    /// Read the audit journal. It holds everything that was answered before this was asked.
    #[oai(path = "/", method = "get", operation_id = "read_audit")]
    async fn read(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        /// At most so many entries.
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        #[oai(validator(max_length = 512))]
        cursor: Query<Option<String>>,
    ) -> Result<Json<AuditPage>, Problem> {
        caller.require(Role::Admin)?;
        doors.journal.settle().await;
        let purpose = format!("{}/audit", caller.tenant);
        let after = super::open_key(&doors, &purpose, cursor.0.as_deref())?;
        let limit = limit.0.unwrap_or(LIMIT) as usize;
        let rows: Rows<Entry> = Rows::new(doors.line.store.clone(), Table::Journal);
        let page = rows.page(caller.tenant, "", after.as_deref(), limit).await?;
        let next =
            page.last().filter(|_| page.len() == limit).map(|(key, _)| doors.seal.close(&purpose, key.as_bytes()));
        let entries = page.into_iter().map(|(_, entry)| shape(entry)).collect();
        Ok(Json(AuditPage { entries, next }))
    }
}

fn shape(entry: Entry) -> AuditEntry {
    let Entry { at, who, name, method, path, status, took_us, trace_id, detail } = entry;
    let (at, took_ms) = (time::of_micros(at), took_us as f64 / 1_000.0);
    AuditEntry { at, who, name, method, path, status, took_ms, trace_id, detail }
}
