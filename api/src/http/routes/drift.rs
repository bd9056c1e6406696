//! `/api/v1/aam/drift`: how the shapes of streams have changed, and what became of it.

use std::sync::Arc;

use pipeline::repair::{Case, ShapeChange};
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use schemas::shape::TypeClass;

use super::{Signed, Tag};
use crate::http::Doors;
use crate::http::problem::Problem;
use crate::http::time;
use crate::line::DriftOf;

const LIMIT: u32 = 100;

/// How a stream's shape and its cases fared.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct DriftInfo {
    /// The stream: `connection/stream`.
    pub stream: String,
    /// Paths seen so far.
    pub paths: u64,
    /// The fingerprint of all paths and types seen so far.
    pub fingerprint: String,
    /// Cases by their status.
    pub cases: Vec<Count>,
    /// Cases that were opened, by their kinds of change; one of several kinds counts for each.
    pub kinds: Vec<Count>,
    /// When the last one opened.
    pub last_opened_at: Option<String>,
    /// Records that are held now.
    pub held: u64,
}

/// How many there are of something.
#[derive(Debug, Object)]
pub struct Count {
    /// What.
    pub name: String,
    /// How many.
    pub count: u64,
}

/// A page of streams.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct DriftPage {
    /// The streams.
    pub streams: Vec<DriftInfo>,
    /// For the next page; null at the end.
    pub next: Option<String>,
}

/// How a stream's shape and its cases fared, in detail.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct DriftHistory {
    /// As a whole.
    pub drift: DriftInfo,
    /// Records that showed something new, in their order.
    pub shapes: Vec<ShapeInfo>,
    /// Every case, in the order in which they began.
    pub cases: Vec<CaseSummary>,
    /// For the next page of shapes; null at the end.
    pub next: Option<String>,
}

/// A record that showed something new of the shape.
#[derive(Debug, Object)]
pub struct ShapeInfo {
    /// The record.
    pub position: String,
    /// When the log took it.
    pub at: String,
    /// The stream's fingerprint from here on.
    pub fingerprint: String,
    /// What was new.
    pub observed: Vec<ObservedInfo>,
}

/// A path that was seen for the first time with a type.
#[derive(Debug, Object)]
pub struct ObservedInfo {
    /// The path.
    pub path: String,
    /// boolean, number, text, object or array.
    #[oai(rename = "type")]
    pub class: String,
}

/// A case in short.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct CaseSummary {
    /// Its id.
    pub case: String,
    /// Where it is.
    pub status: String,
    /// The kind of change.
    pub kind: String,
    /// The paths that are lost.
    pub lost: Vec<String>,
    /// When it began.
    pub began_at: String,
    /// When it opened; null when it never did.
    pub opened_at: Option<String>,
    /// Records that it held.
    pub held: u64,
    /// Who decided last.
    pub by: Option<String>,
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/aam/drift", tag = "Tag::Cases")]
impl Routes {
    /// List the streams, with their fingerprints and how many cases of which kind they had.
    #[oai(path = "/", method = "get", operation_id = "list_drift")]
    async fn list(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        /// Streams at most.
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        #[oai(validator(max_length = 1024))]
        cursor: Query<Option<String>>,
    ) -> Result<Json<DriftPage>, Problem> {
        let purpose = format!("{}/drift", caller.tenant);
        let after = super::open_key(&doors, &purpose, cursor.0.as_deref())?;
        let limit = limit.0.unwrap_or(LIMIT) as usize;
        super::wait_cases(&doors).await?;
        let found = doors.line.stream_names(caller.tenant, after.as_deref(), limit).await.map_err(failed)?;
        let next = found.last().filter(|_| found.len() == limit);
        let next = next.map(|stream| doors.seal.close(&purpose, stream.to_string().as_bytes()));
        let mut streams = Vec::new();
        for stream in found.iter().filter(|s| caller.require_connection(s.connection.as_str()).is_ok()) {
            streams.extend(doors.line.drift_of(stream).await.map_err(failed)?.map(info));
        }
        Ok(Json(DriftPage { streams, next }))
    }

    /// Show how a stream's shape changed, record by record, and its cases.
    #[oai(path = "/:connection/:stream", method = "get", operation_id = "show_drift")]
    async fn show(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        connection: Path<String>,
        stream: Path<String>,
        /// Records at most.
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        #[oai(validator(max_length = 1024))]
        cursor: Query<Option<String>>,
    ) -> Result<Json<DriftHistory>, Problem> {
        let stream = super::one_stream(&caller, &connection, &stream)?;
        let purpose = format!("{}/drift/{stream}", caller.tenant);
        let after = super::open_key(&doors, &purpose, cursor.0.as_deref())?;
        let limit = limit.0.unwrap_or(LIMIT) as usize;
        super::wait_cases(&doors).await?;
        let drift = doors.line.drift_of(&stream).await.map_err(failed)?;
        let drift = info(drift.ok_or_else(|| Problem::not_found("stream"))?);
        let found = doors.line.shapes_of(&stream, after.as_deref(), limit).await.map_err(failed)?;
        let next = found.last().filter(|_| found.len() == limit);
        let next = next.map(|(key, _)| doors.seal.close(&purpose, key.as_bytes()));
        let cases = doors.line.cases_of(&stream).await.map_err(failed)?.into_iter().map(case).collect();
        let shapes = found.into_iter().map(|(_, change)| shape(change)).collect();
        Ok(Json(DriftHistory { drift, shapes, cases, next }))
    }
}

fn failed(error: anyhow::Error) -> Problem {
    Problem::internal(format!("{error:#}"))
}

/// How a stream fared.
pub fn info(drift: DriftOf) -> DriftInfo {
    let count = |(name, count): (&str, u64)| Count { name: name.to_owned(), count };
    DriftInfo {
        stream: drift.stream.to_string(),
        paths: drift.paths,
        fingerprint: drift.fingerprint,
        cases: drift.cases.into_iter().map(count).collect(),
        kinds: drift.kinds.into_iter().map(count).collect(),
        last_opened_at: drift.last_opened_at.map(time::of_micros),
        held: drift.held,
    }
}

/// What was new of a shape.
pub fn shape(change: ShapeChange) -> ShapeInfo {
    let name = |class: TypeClass| format!("{class:?}").to_lowercase();
    let observed = change.observed.into_iter().map(|(path, class)| ObservedInfo { path, class: name(class) });
    ShapeInfo {
        position: change.position.to_string(),
        at: time::of_micros(change.at),
        fingerprint: change.fingerprint,
        observed: observed.collect(),
    }
}

/// A case in short.
pub fn case(case: Case) -> CaseSummary {
    CaseSummary {
        case: case.position.to_string(),
        status: case.status.name().to_owned(),
        kind: case.kind().name().to_owned(),
        lost: case.lost.into_iter().map(|lost| lost.path).collect(),
        began_at: time::of_micros(case.began_at),
        opened_at: case.opened_at.map(time::of_micros),
        held: case.held,
        by: case.decided.last().map(|decided| decided.by.clone()),
    }
}
