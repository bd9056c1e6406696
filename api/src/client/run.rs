//! Records brought into a stream of a server.

use anyhow::{Context, bail};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use connectors::relay;
use pipeline::source::LaneCursor;
use poem_openapi::types::Any;
use schemas::input::DeclaredField;
use schemas::record::RecordBatch as Records;
use schemas::{Entity, Mapping, VersionType};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Ask, Client, ClientError};
use crate::cli::IngestArgs;
use crate::cli::backend::{Keys, Rows, Run};
use crate::http::routes::records::Pushed;
use crate::http::routes::runs::{FieldSaid, LanePlace, RunBegun, RunOutcome, RunPlan, RunWanted, SchemaSaid};
use crate::line::Fates;

/// A run at a server. Its batches carry their places in the files, so that one that comes twice adds nothing.
pub struct Relayed<'a> {
    server: &'a Client,
    relay: String,
    run: String,
    connection: String,
    stream: String,
    mapping: Mapping,
    table: String,
    lanes: Vec<LaneCursor>,
    under_former: u64,
    /// What the source declared last.
    declared: Option<Vec<DeclaredField>>,
    /// The position behind the last batch.
    position: Option<String>,
    /// Records whose batch was sent again because its answer was lost: they may be on the log twice.
    repeated: u64,
}

impl Client {
    /// Says what a stream's records would become: its mapping, and its entity.
    pub async fn plan(&self, args: &IngestArgs, shown: Option<VersionType>) -> anyhow::Result<(Mapping, Entity)> {
        let plan: RunPlan = self.json(Ask::post(&["runs", "plan"], &wanted(args, shown, None)?)).await?;
        Ok((self.read(plan.mapping)?, self.read(plan.entity)?))
    }

    /// Begins a run.
    pub async fn begin(&self, args: &IngestArgs, shown: Option<VersionType>) -> anyhow::Result<Relayed<'_>> {
        let relay = self.kept().relay()?;
        let begun: RunBegun = self.json(Ask::post(&["runs"], &wanted(args, shown, Some(relay.clone()))?)).await?;
        let RunBegun { run, mapping, table, lanes, under_former_mapping } = begun;
        Ok(Relayed {
            server: self,
            relay,
            run,
            connection: args.connection.clone(),
            stream: args.stream.clone(),
            mapping: self.read(mapping)?,
            table,
            lanes: lanes.into_iter().map(place).collect::<anyhow::Result<_>>()?,
            under_former: under_former_mapping,
            declared: None,
            position: None,
            repeated: 0,
        })
    }

    fn read<T: DeserializeOwned>(&self, Any(value): Any<Value>) -> Result<T, ClientError> {
        serde_json::from_value(value).map_err(|error| ClientError::Unreadable {
            server: self.address().clone(),
            why: error.to_string(),
            theirs: None,
        })
    }
}

fn wanted(args: &IngestArgs, shown: Option<VersionType>, relay: Option<String>) -> anyhow::Result<RunWanted> {
    let named = |shown| serde_json::to_value(shown).ok().and_then(|value| value.as_str().map(str::to_owned));
    Ok(RunWanted {
        connection: args.connection.clone(),
        stream: args.stream.clone(),
        // A file takes the place of a system's mapping, as on a folder.
        system: args.system.clone().filter(|_| args.mapping_text.is_none()),
        mapping: args.mapping_text.clone(),
        key: args.key.clone(),
        version: args.version.clone(),
        version_type: args.version_type.clone(),
        version_shown: shown.and_then(named),
        deleted: args.deleted.clone(),
        relay,
    })
}

fn place(place: LanePlace) -> anyhow::Result<LaneCursor> {
    let LanePlace { lane, ordinal, cursor } = place;
    let lane = lane.parse().with_context(|| format!("the lane {lane:?} that the server has told"))?;
    let cursor = STANDARD.decode(&cursor).context("the cursor that the server has told")?;
    Ok(LaneCursor { lane, ordinal, cursor })
}

impl Relayed<'_> {
    /// Says what the source declares. A server that was started again knows no run: then drift is told by the records.
    async fn declare(&mut self, fields: &[DeclaredField]) -> anyhow::Result<()> {
        let said = SchemaSaid { fields: fields.iter().map(FieldSaid::from).collect() };
        match self.server.send(&Ask::post(&["runs", &self.run, "schema"], &said)).await {
            Ok(_) => {}
            Err(error) if error.code() == Some("not_found") => {}
            Err(error) => return Err(error.into()),
        }
        self.declared = Some(fields.to_vec());
        Ok(())
    }
}

#[async_trait]
impl Run for Relayed<'_> {
    fn lanes(&self) -> Vec<LaneCursor> {
        self.lanes.clone()
    }

    fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    fn under_former(&self) -> u64 {
        self.under_former
    }

    async fn append(&mut self, records: Records, declared: Option<&[DeclaredField]>) -> anyhow::Result<()> {
        if let Some(fields) = declared.filter(|fields| self.declared.as_deref() != Some(*fields)) {
            self.declare(fields).await?;
        }
        let count = u64::from(records.count);
        let ask = Ask::put_in(&["records"], relay::MEDIA_TYPE, records.body.into())
            .with("connection", &self.connection)
            .with("stream", &self.stream)
            .with("run", &self.run)
            .with("relay", &self.relay);
        let lost_before = self.server.answers_lost();
        let pushed: Pushed = self.server.json(ask).await?;
        if self.server.answers_lost() > lost_before {
            self.repeated += count;
        }
        self.position = Some(pushed.position);
        Ok(())
    }

    async fn rows(&self) -> anyhow::Result<Option<Box<dyn Rows + '_>>> {
        // Names of connections and streams hold no quotes: their types see to that.
        let sql = format!(
            "select _key from {} where _connection = '{}' and _stream = '{}'",
            self.table, self.connection, self.stream
        );
        Ok(Some(Box::new(RelayedRows { server: self.server, sql, position: self.position.clone() })))
    }

    async fn settle(&mut self, acknowledged: u64) -> anyhow::Result<Fates> {
        let counts = loop {
            match self.server.json::<RunOutcome>(Ask::get(&["runs", &self.run])).await {
                Ok(RunOutcome { settled: true, counts: Some(counts) }) => break counts,
                Ok(_) => {}
                Err(error) if error.code() == Some("not_found") => {
                    self.wait_visible().await?;
                    bail!(
                        "everything is in, but the server was started again meanwhile: what became of it was not \
                         counted; see autonomos log stat"
                    );
                }
                Err(error) => return Err(error.into()),
            }
        };
        self.leave().await?;
        let fates = Fates::from(counts);
        // What was sent twice because its first answer was lost is on the log twice, and counted there as duplicate.
        let twice = fates.taken.saturating_sub(acknowledged).min(self.repeated).min(fates.duplicate);
        Ok(fates.with_own(acknowledged + twice))
    }

    async fn leave(&mut self) -> anyhow::Result<()> {
        match self.server.send(&Ask::delete(&["runs", &self.run])).await {
            // One that the server has forgotten is as good as ended.
            Err(error) if error.code() != Some("not_found") => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl Relayed<'_> {
    /// Waits until what was pushed can be read.
    async fn wait_visible(&self) -> Result<(), ClientError> {
        let Some(position) = &self.position else { return Ok(()) };
        let rows = Ask::get(&["dcl", "views", &self.table, "rows"]).with("limit", 1).with("min_position", position);
        self.server.send(&rows).await.map(|_| ())
    }
}

/// The visible rows of the stream, with everything that was pushed.
struct RelayedRows<'a> {
    server: &'a Client,
    sql: String,
    position: Option<String>,
}

#[async_trait]
impl Rows for RelayedRows<'_> {
    async fn keys(&self) -> anyhow::Result<Keys> {
        Ok(Keys(self.server.query_at(&self.sql, self.position.clone()).await?.batches))
    }
}
