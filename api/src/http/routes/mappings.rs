//! `/api/v1/aam/mappings`: the mappings in force, what they were, who or what made each, and putting another one in force.

pub mod suggestions;

use std::sync::Arc;

use pipeline::repair::MappingVersion;
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{ApiResponse, Object, OpenApi};
use schemas::mapping::Difference;
use schemas::{Mapping, StreamId, TenantId};
use serde_json::Value;

use super::{Signed, Tag};
use crate::auth::Role;
use crate::http::Doors;
use crate::http::manners::etag;
use crate::http::manners::journal::Noted;
use crate::http::problem::Problem;
use crate::http::text::Text;
use crate::http::time;
use crate::line::{InForce, SetMappingError, SuggestError};
use suggestions::SuggestionsInfo;

const LIMIT: u32 = 100;

/// A stream's mapping in force.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct MappingSummary {
    /// Its stream: `connection/stream`.
    pub stream: String,
    /// The entity that it fills.
    pub entity: String,
    /// Its version, counted from 1.
    pub version: u32,
    /// The name of its text.
    pub hash: String,
    /// Fields that it fills.
    pub fields: u64,
    /// The lowest confidence of its rules, from 0 to 1.
    pub confidence: f64,
    /// opened, set, repaired or reverted; null where that was before it was noted.
    pub origin: Option<String>,
    /// Who or what made it.
    pub by: Option<String>,
    /// When.
    pub at: Option<String>,
}

/// A page of mappings.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct MappingPage {
    /// The mappings, by their streams.
    pub mappings: Vec<MappingSummary>,
    /// For the next page; null at the end.
    pub next: Option<String>,
}

/// A version of a stream's mapping.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct VersionInfo {
    /// Counted from 1.
    pub version: u32,
    /// The name of its text.
    pub hash: String,
    /// opened, set, repaired or reverted.
    pub origin: String,
    /// Who wanted it: `open`, `ingest`, `rules`, `command line`, `user:ID` or `key:ID`.
    pub by: String,
    /// Why, where somebody said so.
    pub why: String,
    /// The case that it repaired, or that was taken back.
    pub case: Option<String>,
    /// The input from which on it was in force.
    pub position: String,
    /// When.
    pub at: String,
}

/// A mapping.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct MappingInfo {
    /// Its stream: `connection/stream`.
    pub stream: String,
    /// Its version.
    pub version: u32,
    /// The version in force.
    pub in_force: u32,
    /// The mapping, as in a mapping file.
    pub mapping: Any<Value>,
    /// How it came about; null where that was before it was noted.
    pub made: Option<VersionInfo>,
}

/// The versions of a stream's mapping.
#[derive(Debug, Object)]
pub struct History {
    /// The versions that are known, the earliest first.
    pub versions: Vec<VersionInfo>,
}

/// What differs between two versions.
#[derive(Debug, Object)]
pub struct Differences {
    /// The first.
    pub from: u32,
    /// The second.
    pub to: u32,
    /// First what concerns whole rows, then fields.
    pub differences: Vec<DifferenceInfo>,
}

/// Something that two versions do not say alike.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct DifferenceInfo {
    /// A field of the entity, or another member of the mapping as `$key`, `$version`, `$deleted`.
    pub what: String,
    /// What the first says of it; null where it says nothing.
    pub before: Option<Any<Value>>,
    /// What the second says of it.
    pub after: Option<Any<Value>>,
}

/// Another mapping.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct MappingWanted {
    /// The whole mapping of the stream, as in a mapping file.
    pub mapping: Any<Value>,
    /// Why, for the record.
    #[oai(default, validator(max_length = 1000))]
    pub why: Text,
}

#[derive(ApiResponse)]
enum Found {
    /// The mapping; its ETag goes back as If-Match.
    #[oai(status = 200)]
    Found(Json<MappingInfo>, #[oai(header = "ETag")] String),
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/aam/mappings", tag = "Tag::Cases")]
impl Routes {
    /// List the mappings in force.
    #[oai(path = "/", method = "get", operation_id = "list_mappings")]
    async fn list(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        /// Mappings at most.
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        #[oai(validator(max_length = 1024))]
        cursor: Query<Option<String>>,
    ) -> Result<Json<MappingPage>, Problem> {
        let purpose = format!("{}/mappings", caller.tenant);
        let after = super::open_key(&doors, &purpose, cursor.0.as_deref())?;
        let limit = limit.0.unwrap_or(LIMIT) as usize;
        super::wait_cases(&doors).await?;
        let streams = doors.line.stream_names(caller.tenant, after.as_deref(), limit).await.map_err(failed)?;
        let next = streams.last().filter(|_| streams.len() == limit);
        let next = next.map(|stream| doors.seal.close(&purpose, stream.to_string().as_bytes()));
        let mut mappings = Vec::new();
        for stream in streams.iter().filter(|s| caller.require_connection(s.connection.as_str()).is_ok()) {
            mappings.extend(doors.line.mapping_in_force(stream).await.map_err(failed)?.map(summary));
        }
        Ok(Json(MappingPage { mappings, next }))
    }

    /// Show a stream's mapping: the one in force, or a version.
    #[oai(path = "/:connection/:stream", method = "get", operation_id = "show_mapping")]
    async fn show(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        connection: Path<String>,
        stream: Path<String>,
        /// This version.
        #[oai(validator(minimum(value = "1")))]
        version: Query<Option<u32>>,
    ) -> Result<Found, Problem> {
        let stream = super::one_stream(&caller, &connection, &stream)?;
        let now = in_force(&doors, &stream).await?;
        let Some(version) = version.0.filter(|version| *version != now.version) else {
            return Ok(found(caller.tenant, info(now)));
        };
        let known = doors.line.mapping_version(&stream, version).await.map_err(failed)?;
        let (mapping, made) = known.ok_or_else(|| Problem::not_found("version of the mapping"))?;
        Ok(found(caller.tenant, info_of(&stream, version, now.version, &mapping, made)))
    }

    /// List the versions of a stream's mapping, who or what made each, and why.
    #[oai(path = "/:connection/:stream/history", method = "get", operation_id = "list_mapping_versions")]
    async fn history(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        connection: Path<String>,
        stream: Path<String>,
    ) -> Result<Json<History>, Problem> {
        let stream = super::one_stream(&caller, &connection, &stream)?;
        in_force(&doors, &stream).await?;
        let versions = doors.line.mapping_history(&stream).await.map_err(failed)?;
        Ok(Json(History { versions: versions.into_iter().map(version_info).collect() }))
    }

    /// Tell what differs between two versions of a stream's mapping.
    #[oai(path = "/:connection/:stream/diff", method = "get", operation_id = "diff_mapping_versions")]
    async fn diff(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        connection: Path<String>,
        stream: Path<String>,
        /// The first version.
        #[oai(validator(minimum(value = "1")))]
        from: Query<u32>,
        /// The second one; the one in force when left out.
        #[oai(validator(minimum(value = "1")))]
        to: Query<Option<u32>>,
    ) -> Result<Json<Differences>, Problem> {
        let stream = super::one_stream(&caller, &connection, &stream)?;
        let (from, to) = (from.0, to.0.unwrap_or(in_force(&doors, &stream).await?.version));
        let missing = || Problem::not_found("version of the mapping");
        let (before, _) = doors.line.mapping_version(&stream, from).await.map_err(failed)?.ok_or_else(missing)?;
        let (after, _) = doors.line.mapping_version(&stream, to).await.map_err(failed)?.ok_or_else(missing)?;
        let differences = before.diff(&after).into_iter().map(difference).collect();
        Ok(Json(Differences { from, to, differences }))
    }

    /// Suggest which fields the paths could fill that no rule reads yet: names, types and probabilities, never values.
    #[oai(path = "/:connection/:stream/suggestions", method = "get", operation_id = "suggest_mapping")]
    async fn suggest(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        connection: Path<String>,
        stream: Path<String>,
    ) -> Result<Json<SuggestionsInfo>, Problem> {
        caller.require(Role::Editor)?;
        let stream = super::one_stream(&caller, &connection, &stream)?;
        super::wait_cases(&doors).await?;
        let found = doors.line.suggested_mapping(&stream).await.map_err(not_suggested)?;
        Ok(Json(suggestions::of_stream(found.ok_or_else(|| Problem::not_found("stream"))?)))
    }

    /// Put another mapping in force for what comes from now on. If-Match says which it replaces.
    #[oai(path = "/:connection/:stream", method = "put", operation_id = "set_mapping")]
    #[allow(clippy::too_many_arguments)]
    async fn set(
        &self,
        doors: Data<&Arc<Doors>>,
        noted: Data<&Noted>,
        Signed(caller): Signed,
        connection: Path<String>,
        stream: Path<String>,
        /// The ETag of the mapping as it was read, or * for any.
        #[oai(name = "If-Match", validator(max_length = 200))]
        if_match: Header<Option<String>>,
        body: Json<MappingWanted>,
    ) -> Result<Found, Problem> {
        caller.require(Role::Admin)?;
        let stream = super::one_stream(&caller, &connection, &stream)?;
        let missing = "send the mapping's ETag as If-Match, or * to replace whatever is there";
        let missing = || Problem::new(StatusCode::PRECONDITION_REQUIRED, "if_match_missing", missing);
        let known = if_match.0.ok_or_else(missing)?;
        let now = in_force(&doors, &stream).await?;
        if !etag::matches(&known, &tag(caller.tenant, now.version)) {
            let detail = "another mapping is in force by now: read it again";
            return Err(Problem::new(StatusCode::PRECONDITION_FAILED, "changed_meanwhile", detail));
        }
        let Json(MappingWanted { mapping: Any(mapping), why }) = body;
        let mapping: Mapping = serde_json::from_value(mapping).map_err(|e| {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "mapping_unusable", format!("this is no mapping: {e}"))
        })?;
        let (line, by, named) = (doors.line.clone(), caller.label(), stream.clone());
        // It has its outcome even when nobody waits for it.
        let set = tokio::spawn(async move { line.set_mapping(&named, &mapping, Some(now.version), (&by, &why)).await });
        let set = set.await.map_err(Problem::internal)??;
        noted.say(format!("mapping of {stream}: version {} → {}", now.version, set.version));
        Ok(found(caller.tenant, info(set)))
    }
}

fn not_suggested(error: SuggestError) -> Problem {
    let detail = "suggestions for this organisation are under way: wait for them, or try again in a moment";
    match error {
        SuggestError::Busy(_) => {
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "quota_suggestions", detail).retry_after(1)
        }
        SuggestError::Failed(error) => failed(error),
    }
}

fn failed(error: anyhow::Error) -> Problem {
    Problem::internal(format!("{error:#}"))
}

async fn in_force(doors: &Doors, stream: &StreamId) -> Result<InForce, Problem> {
    super::wait_cases(doors).await?;
    let now = doors.line.mapping_in_force(stream).await.map_err(failed)?;
    now.ok_or_else(|| Problem::not_found("stream"))
}

/// With the tenant, since another one's version of the same number is another mapping.
fn tag(tenant: TenantId, version: u32) -> String {
    format!("\"mapping-{tenant}-{version}\"")
}

/// A mapping in force in short.
pub fn summary(now: InForce) -> MappingSummary {
    let confidence = now.mapping.fields.values().flat_map(|f| &f.0).filter_map(|r| r.confidence).min().unwrap_or(1000);
    MappingSummary {
        stream: now.stream.to_string(),
        entity: now.entity.to_string(),
        version: now.version,
        hash: now.mapping.hash().to_string(),
        fields: now.mapping.fields.len() as u64,
        confidence: f64::from(confidence) / 1000.0,
        origin: now.made.as_ref().map(|made| made.origin.name().to_owned()),
        by: now.made.as_ref().map(|made| made.by.clone()),
        at: now.made.as_ref().map(|made| time::of_micros(made.at)),
    }
}

/// A version of a mapping, and how it came about.
pub type Version = (Mapping, Option<MappingVersion>);

fn found(tenant: TenantId, mapping: MappingInfo) -> Found {
    let tag = tag(tenant, mapping.version);
    Found::Found(Json(mapping), tag)
}

/// The mapping in force.
pub fn info(now: InForce) -> MappingInfo {
    info_of(&now.stream, now.version, now.version, &now.mapping, now.made)
}

/// A version of a mapping, and which one is in force.
pub fn info_of(
    stream: &StreamId,
    version: u32,
    in_force: u32,
    mapping: &Mapping,
    made: Option<MappingVersion>,
) -> MappingInfo {
    let mapping = Any(serde_json::to_value(mapping).unwrap_or_default());
    MappingInfo { stream: stream.to_string(), version, in_force, mapping, made: made.map(version_info) }
}

/// How a version came about.
pub fn version_info(made: MappingVersion) -> VersionInfo {
    VersionInfo {
        version: made.version,
        hash: made.hash.to_string(),
        origin: made.origin.name().to_owned(),
        by: made.by,
        why: made.why,
        case: made.case.map(|case| case.to_string()),
        position: made.position.to_string(),
        at: time::of_micros(made.at),
    }
}

/// What two versions do not say alike.
pub fn difference(difference: Difference) -> DifferenceInfo {
    let Difference { what, before, after } = difference;
    DifferenceInfo { what, before: before.map(Any), after: after.map(Any) }
}

impl From<SetMappingError> for Problem {
    fn from(error: SetMappingError) -> Self {
        match error {
            SetMappingError::Unknown(_) => Self::not_found("stream"),
            SetMappingError::Ingest(error) => error.into(),
            SetMappingError::Refused(reason) => Self::conflict(reason),
            SetMappingError::Failed(error) => Self::internal(format!("{error:#}")),
        }
    }
}
