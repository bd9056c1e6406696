//! The mappings of a tenant's streams: what is in force, what was, and what a person puts in force.

use std::collections::BTreeMap;

use anyhow::Context;
use pipeline::Table;
use pipeline::ingest::IngestError;
use pipeline::onboarding::{self, Suggestions};
use pipeline::process::read_snapshot;
use pipeline::repair::{self, Case, Knowledge, MappingVersion, ShapeChange};
use schemas::{EntityName, Mapping, StreamId, TenantId, Topic};

use super::{Busy, Line, Outcome, Place};

const PAGE: usize = 1_000;

/// A stream's mapping in force.
#[derive(Debug, Clone)]
pub struct InForce {
    /// The stream.
    pub stream: StreamId,
    /// The entity that it fills.
    pub entity: EntityName,
    /// Its version.
    pub version: u32,
    /// The mapping.
    pub mapping: Mapping,
    /// Who or what made it; nothing where that was before it was noted.
    pub made: Option<MappingVersion>,
}

/// How a stream's shape and its cases fared.
#[derive(Debug, Clone)]
pub struct DriftOf {
    /// The stream.
    pub stream: StreamId,
    /// Paths seen so far.
    pub paths: u64,
    /// The fingerprint of all that was seen, in hex.
    pub fingerprint: String,
    /// Cases by their status.
    pub cases: BTreeMap<&'static str, u64>,
    /// Cases by their kinds of change; one of several kinds counts for each.
    pub kinds: BTreeMap<&'static str, u64>,
    /// When the last one opened, in microseconds since 1970 UTC.
    pub last_opened_at: Option<i64>,
    /// Records that are held now.
    pub held: u64,
}

/// What the unread paths of a stream could fill.
#[derive(Debug, Clone)]
pub struct SuggestedMapping {
    /// The stream.
    pub stream: StreamId,
    /// The entity that it fills.
    pub entity: EntityName,
    /// The version of the mapping in force, which was looked at.
    pub version: u32,
    /// Path by path.
    pub suggestions: Suggestions,
    /// The mapping with what is sure, as a mapping file.
    pub text: String,
}

/// Nothing is suggested.
#[derive(Debug, thiserror::Error)]
pub enum SuggestError {
    /// Too many ask already.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The line failed.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// A mapping is not put in force.
#[derive(Debug, thiserror::Error)]
pub enum SetMappingError {
    /// Nobody opened the stream.
    #[error("there is no stream {0}: it is opened by its first records")]
    Unknown(StreamId),
    /// It does not fit.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The step refused.
    #[error("{0}")]
    Refused(String),
    /// The line failed.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl Line {
    /// The names of a tenant's streams from the first behind `after` on.
    pub async fn stream_names(
        &self,
        tenant: TenantId,
        after: Option<&str>,
        limit: usize,
    ) -> anyhow::Result<Vec<StreamId>> {
        let rows = self.store.scan(tenant, Table::Streams, "", after, limit).await?;
        let name = |(key, _): (String, _)| {
            let (connection, stream) = key.split_once('/')?;
            Some(StreamId { tenant, connection: connection.parse().ok()?, stream: stream.parse().ok()? })
        };
        Ok(rows.into_iter().filter_map(name).collect())
    }

    /// The mapping in force of a stream, as of everything that is processed.
    pub async fn mapping_in_force(&self, stream: &StreamId) -> anyhow::Result<Option<InForce>> {
        let Some(state) = read_snapshot(&*self.store, stream).await? else { return Ok(None) };
        let (Some((mapping, version)), Some(entity)) = (state.mapping(), state.entity()) else { return Ok(None) };
        let made = repair::version(&*self.store, stream, version).await?;
        let (stream, entity, mapping) = (stream.clone(), entity.entity.clone(), mapping.clone());
        Ok(Some(InForce { stream, entity, version, mapping, made }))
    }

    /// What the paths of a stream that no rule reads could fill, as of everything that is processed; once it has its place:
    /// it takes a second, and much memory.
    pub async fn suggested_mapping(&self, stream: &StreamId) -> Result<Option<SuggestedMapping>, SuggestError> {
        let place = self.suggests.place(stream.tenant, 1, 1).await?;
        Ok(self.suggested_in(stream, place).await?)
    }

    async fn suggested_in(
        &self,
        stream: &StreamId,
        place: Place<TenantId>,
    ) -> anyhow::Result<Option<SuggestedMapping>> {
        let Some(state) = read_snapshot(&*self.store, stream).await? else { return Ok(None) };
        let known = Knowledge::read(&*self.store, stream.tenant).await?;
        let stream = stream.clone();
        let suggested = move || {
            // It goes on when nobody waits for it any more, and keeps its place.
            let _place = place;
            let (Some((mapping, version)), Some(entity)) = (state.mapping(), state.entity()) else { return Ok(None) };
            let suggestions = onboarding::suggest(&state, Some(mapping), entity, &known)?;
            let said =
                onboarding::Said { system: stream.connection.as_str(), mapping: Some(mapping), ..Default::default() };
            let text = onboarding::mapping_text(&state, entity, &suggestions, &said);
            let entity = entity.entity.clone();
            Ok(Some(SuggestedMapping { stream, entity, version, suggestions, text }))
        };
        tokio::task::spawn_blocking(suggested).await?
    }

    /// A version of a stream's mapping, with its text.
    pub async fn mapping_version(
        &self,
        stream: &StreamId,
        version: u32,
    ) -> anyhow::Result<Option<(Mapping, Option<MappingVersion>)>> {
        if let Some(now) = self.mapping_in_force(stream).await?.filter(|now| now.version == version) {
            return Ok(Some((now.mapping, now.made)));
        }
        let Some(made) = repair::version(&*self.store, stream, version).await? else { return Ok(None) };
        let Some(text) = &made.text else { return Ok(None) };
        let mapping = serde_json::from_str(text).with_context(|| format!("version {version} of {stream}"))?;
        Ok(Some((mapping, Some(made))))
    }

    /// The versions of a stream's mapping that are known, the earliest first.
    pub async fn mapping_history(&self, stream: &StreamId) -> anyhow::Result<Vec<MappingVersion>> {
        let mut all: Vec<MappingVersion> = Vec::new();
        loop {
            let after = all.last().map(|made| made.version);
            let page = repair::versions(&*self.store, stream, after, PAGE).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// Puts a mapping in force on an open stream, and waits for the outcome; answers what is in force then.
    pub async fn set_mapping(
        &self,
        stream: &StreamId,
        mapping: &Mapping,
        made_on: Option<u32>,
        by_why: (&str, &str),
    ) -> Result<InForce, SetMappingError> {
        let open = self.ingest.find(stream).await?.ok_or_else(|| SetMappingError::Unknown(stream.clone()))?;
        let id = uuid::Uuid::new_v4().to_string();
        let from = self.log.end(Topic::Decisions, open.partition).await.map_err(anyhow::Error::from)?;
        self.ingest.set_mapping(&open, mapping, &id, made_on, by_why).await?;
        self.wait_processed(open.partition).await?;
        if let Outcome::Refused(reason) = self.outcome(&open, from, &id).await? {
            return Err(SetMappingError::Refused(reason));
        }
        self.wait_kept(open.partition).await?;
        let now = self.mapping_in_force(stream).await?;
        Ok(now.context("the stream has no mapping")?)
    }

    /// How a stream's shape and its cases fared.
    pub async fn drift_of(&self, stream: &StreamId) -> anyhow::Result<Option<DriftOf>> {
        let Some(state) = read_snapshot(&*self.store, stream).await? else { return Ok(None) };
        let mut drift = DriftOf {
            stream: stream.clone(),
            paths: state.shape().paths() as u64,
            fingerprint: state.shape().fingerprint().to_string(),
            cases: BTreeMap::new(),
            kinds: BTreeMap::new(),
            last_opened_at: None,
            held: state.counters.held,
        };
        for case in self.cases_of(stream).await? {
            *drift.cases.entry(case.status.name()).or_default() += 1;
            if case.opened_at.is_some() {
                for kind in case.kinds() {
                    *drift.kinds.entry(kind.name()).or_default() += 1;
                }
                drift.last_opened_at = drift.last_opened_at.max(case.opened_at);
            }
        }
        Ok(Some(drift))
    }

    /// Every case of a stream, in the order in which they began.
    pub async fn cases_of(&self, stream: &StreamId) -> anyhow::Result<Vec<Case>> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = repair::list(&*self.store, stream.tenant, Some(stream), after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(all) };
            after = Some(last.clone());
            all.extend(page.into_iter().map(|(_, case)| case));
        }
    }

    /// What was new of a stream's shape, from the first behind `after` on.
    pub async fn shapes_of(
        &self,
        stream: &StreamId,
        after: Option<&str>,
        limit: usize,
    ) -> anyhow::Result<Vec<(String, ShapeChange)>> {
        Ok(repair::shapes(&*self.store, stream.tenant, Some(stream), after, limit).await?)
    }
}
