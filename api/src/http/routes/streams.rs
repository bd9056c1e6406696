//! `/api/v1/streams`: a tenant's streams, and what became of their records.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipeline::step::{Counters, StreamState};
use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use super::{Signed, Tag};
use crate::http::Doors;
use crate::http::problem::Problem;

const LIMIT: u32 = 100;

/// A stream.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct StreamInfo {
    /// Its name: `connection/stream`.
    pub stream: String,
    /// What its records are.
    pub entity: Option<String>,
    /// What became of its records.
    pub counts: StreamCounts,
    /// The version of the mapping in force.
    pub mapping_version: Option<u32>,
    /// The fingerprint of the shape that its records have had so far.
    pub fingerprint: String,
    /// How often each mapped field was absent or null.
    pub missing: BTreeMap<String, u64>,
    /// The position on `inputs` up to which it is processed.
    pub position: String,
}

/// What became of a stream's records; taken = accepted + deleted + quarantined + discarded + held + duplicate.
#[derive(Debug, Object)]
pub struct StreamCounts {
    /// Records that came in.
    pub taken: u64,
    /// Mapped to a row.
    pub accepted: u64,
    /// Deletes.
    pub deleted: u64,
    /// Set aside.
    pub quarantined: u64,
    /// Set aside, and given up by a person.
    pub discarded: u64,
    /// Kept back until a case is decided.
    pub held: u64,
    /// Taken before.
    pub duplicate: u64,
}

/// A page of streams.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct StreamPage {
    /// The streams, by name.
    pub streams: Vec<StreamInfo>,
    /// For the next page; absent at the end.
    pub next: Option<String>,
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/streams", tag = "Tag::Records")]
impl Routes {
    /// List the streams with the counters of their records, up to what has come in by now.
    #[oai(path = "/", method = "get", operation_id = "list_streams")]
    async fn list(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        /// Streams at most.
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        #[oai(validator(max_length = 1024))]
        cursor: Query<Option<String>>,
    ) -> Result<Json<StreamPage>, Problem> {
        let failed = |error: anyhow::Error| Problem::internal(format!("{error:#}"));
        let purpose = format!("{}/streams", caller.tenant);
        let after = super::open_key(&doors, &purpose, cursor.0.as_deref())?;
        doors.line.wait_all_processed().await.map_err(failed)?;
        let limit = limit.0.unwrap_or(LIMIT) as usize;
        let page = doors.line.streams_behind(caller.tenant, after.as_deref(), limit).await.map_err(failed)?;
        let next = page.last().filter(|_| page.len() == limit);
        let next = next.map(|(key, _)| doors.seal.close(&purpose, key.as_bytes()));
        let mine = page.iter().filter(|(_, state)| caller.require_connection(state.stream.connection.as_str()).is_ok());
        Ok(Json(StreamPage { streams: mine.map(|(_, state)| info(state)).collect(), next }))
    }
}

/// A stream as it is shown.
pub fn info(state: &StreamState) -> StreamInfo {
    StreamInfo {
        stream: state.stream.to_string(),
        entity: state.entity().map(|e| e.entity.to_string()),
        counts: state.counters.into(),
        mapping_version: state.mapping().map(|(_, version)| version),
        fingerprint: state.shape().fingerprint().to_string(),
        missing: state.missing.clone(),
        position: state.next.to_string(),
    }
}

impl From<Counters> for StreamCounts {
    fn from(counters: Counters) -> Self {
        let Counters { taken, accepted, deleted, quarantined, discarded, duplicate, held } = counters;
        Self { taken, accepted, deleted, quarantined, discarded, held, duplicate }
    }
}
