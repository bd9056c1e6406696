//! `/api/v1/runs`: records that a program brings in together, and what became of them.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pipeline::StoreError;
use pipeline::definitions::DefinitionError;
use pipeline::ingest::IngestError;
use pipeline::process::ProcessError;
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use schemas::input::DeclaredField;
use schemas::shape::TypeClass;
use schemas::{Input, TenantId};
use serde_json::Value;

use super::account::Done;
use super::{Signed, Tag};
use crate::auth::{Caller, Role};
use crate::http::Doors;
use crate::http::problem::Problem;
use crate::http::text::Text;
use crate::line::{Fates, NoMapping, NotCounted, Opening, Run, Said, version_type};

/// How long an answer waits for a run to settle.
const SETTLE_WAIT: Duration = Duration::from_secs(10);

/// A stream to bring records into. It is opened, with the mapping of a system or one that is given.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
pub struct RunWanted {
    /// The connection that the records came over.
    #[oai(validator(min_length = 1, max_length = 127))]
    pub connection: String,
    /// The stream within the connection, as the mapping names it.
    #[oai(validator(min_length = 1, max_length = 127))]
    pub stream: String,
    /// The system whose mapping is used; this or `mapping`.
    #[oai(validator(max_length = 80))]
    pub system: Option<String>,
    /// A mapping file's text; this or `system`.
    #[oai(validator(max_length = 262144))]
    pub mapping: Option<String>,
    /// The key's path, several joined by commas; instead of the mapping's.
    #[oai(validator(max_length = 1024))]
    pub key: Option<String>,
    /// The version's path, or none; instead of the mapping's.
    #[oai(validator(max_length = 1024))]
    pub version: Option<String>,
    /// The version's type: time, integer or text.
    #[oai(validator(max_length = 10))]
    pub version_type: Option<String>,
    /// The version's type as the first records show it: of a stream that is new and whose type nothing else tells.
    #[oai(validator(max_length = 10))]
    pub version_shown: Option<String>,
    /// COLUMN or COLUMN=VALUE that tells a deleted row.
    #[oai(validator(max_length = 1024))]
    pub deleted: Option<String>,
    /// The id of the program on its machine, which it keeps: 32 hex digits. Its lanes are told where they are.
    #[oai(validator(pattern = "^[0-9a-f]{32}$"))]
    pub relay: Option<String>,
}

/// The fields that a source says its records have: a file's header, a schema.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct SchemaSaid {
    /// The fields, in the source's order.
    #[oai(validator(max_items = 4096))]
    pub fields: Vec<FieldSaid>,
}

/// A field that a source says its records have.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
pub struct FieldSaid {
    /// Its path, as mappings write it.
    #[oai(validator(min_length = 1, max_length = 8192))]
    pub path: Text,
    /// Its type, where the source tells it.
    #[oai(rename = "type")]
    pub class: Option<TypeSaid>,
}

/// A field's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub enum TypeSaid {
    /// True or false.
    Boolean,
    /// Any number.
    Number,
    /// A text.
    Text,
    /// An object.
    Object,
    /// An array.
    Array,
}

/// What records would become.
#[derive(Debug, Object)]
pub struct RunPlan {
    /// The mapping.
    pub mapping: Any<Value>,
    /// The definition of the entity.
    pub entity: Any<Value>,
}

/// A run that has begun.
#[derive(Debug, Object)]
pub struct RunBegun {
    /// Its id.
    pub run: String,
    /// The mapping in force.
    pub mapping: Any<Value>,
    /// The table of the view that shows them.
    pub table: String,
    /// Where the program's lanes are.
    pub lanes: Vec<LanePlace>,
    /// Records taken before, if the run put another mapping in force: they stay what the former one made of them.
    #[oai(default)]
    pub under_former_mapping: u64,
}

/// Where a lane is.
#[derive(Debug, Object)]
pub struct LanePlace {
    /// The lane: 32 hex digits.
    pub lane: String,
    /// The last ordinal that the line took.
    pub ordinal: u64,
    /// The program's own note with it, in base64.
    pub cursor: String,
}

/// What became of a run.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct RunOutcome {
    /// Whether everything that came in has its fate; if not, ask again.
    pub settled: bool,
    /// What became of everything that came into the stream since the run began, whoever brought it.
    pub counts: Option<RunCounts>,
}

/// What became of the records of one run.
#[derive(Debug, Object)]
pub struct RunCounts {
    /// Read and durable.
    pub taken: u64,
    /// Rows, or deletes, that count now.
    pub visible: u64,
    /// Rows that newer ones beat.
    pub superseded: u64,
    /// Set aside.
    pub quarantined: u64,
    /// Kept back until a case is decided.
    pub held: u64,
    /// Of earlier runs: kept back then, released now.
    pub released: u64,
    /// Rows of earlier runs that were taken back and are held now, at least; not among `held`.
    pub recalled: u64,
    /// Taken before.
    pub duplicate: u64,
    /// Deletes among the visible and the superseded.
    pub deletes: u64,
}

#[derive(ApiResponse)]
enum Made {
    /// Begun.
    #[oai(status = 201)]
    Created(Json<RunBegun>),
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/runs", tag = "Tag::Records")]
impl Routes {
    /// Begin a run: open a stream, and have counted from now on what becomes of its records. Push them then. A run that
    /// nobody asks for within an hour is forgotten, its records are not.
    #[oai(path = "/", method = "post", operation_id = "begin_run")]
    async fn begin(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        body: Json<RunWanted>,
    ) -> Result<Made, Problem> {
        let opening = open(&doors, &caller, &body).await?;
        let stream = opening.stream_of(caller.tenant);
        let table = opening.entity_definition.table.to_string();
        let begun =
            doors.line.begin_run(&stream, opening.mapping, opening.entity.as_ref(), &caller.label(), true).await;
        let run = begun.map_err(|error| match error.downcast::<IngestError>() {
            Ok(error) => error.into(),
            Err(error) => Problem::internal(format!("{error:#}")),
        })?;
        let lanes = match &body.relay {
            Some(relay) => super::records::relay(relay)?.own(&run.lanes),
            None => Vec::new(),
        };
        let place = |place: pipeline::source::LaneCursor| LanePlace {
            lane: place.lane.to_string(),
            ordinal: place.ordinal,
            cursor: STANDARD.encode(&place.cursor),
        };
        let (mapping, under_former_mapping) = (value(&run.mapping)?, run.under_former);
        let run = doors.runs.keep(caller.tenant, run);
        let lanes = lanes.into_iter().map(place).collect();
        Ok(Made::Created(Json(RunBegun { run, mapping, table, lanes, under_former_mapping })))
    }

    /// Say what the records of a stream would become. Nothing is opened.
    #[oai(path = "/plan", method = "post", operation_id = "plan_run")]
    async fn plan(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        body: Json<RunWanted>,
    ) -> Result<Json<RunPlan>, Problem> {
        let opening = open(&doors, &caller, &body).await?;
        Ok(Json(RunPlan { mapping: value(&opening.mapping)?, entity: value(&opening.entity_definition)? }))
    }

    /// Say what fields the records have that are pushed next, as their source declares them: a field that is gone is missed
    /// from the first record on. What was said before holds until something else is said.
    #[oai(path = "/:run/schema", method = "post", operation_id = "declare_schema")]
    async fn declare(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        run: Path<String>,
        body: Json<SchemaSaid>,
    ) -> Result<Done, Problem> {
        let run = find(&doors, &caller, &run)?;
        let fields = body.0.fields.into_iter().map(DeclaredField::from).collect();
        doors.line.ingest.send(&run.open, &[Input::SchemaDeclared { fields }]).await.map_err(Problem::internal)?;
        Ok(Done::Done)
    }

    /// Wait a while until everything that came in has its fate and can be read, and say what became of it.
    #[oai(path = "/:run", method = "get", operation_id = "show_run")]
    async fn show(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        run: Path<String>,
    ) -> Result<Json<RunOutcome>, Problem> {
        let run = find(&doors, &caller, &run)?;
        match tokio::time::timeout(SETTLE_WAIT, doors.line.settle(&run)).await {
            Err(_) => Ok(Json(RunOutcome { settled: false, counts: None })),
            Ok(Ok(fates)) => Ok(Json(RunOutcome { settled: true, counts: Some(fates.into()) })),
            Ok(Err(error)) => Err(not_settled(error)),
        }
    }

    /// End a run. What it brought in stays.
    #[oai(path = "/:run", method = "delete", operation_id = "end_run")]
    async fn end(&self, doors: Data<&Arc<Doors>>, Signed(caller): Signed, run: Path<String>) -> Result<Done, Problem> {
        find(&doors, &caller, &run)?;
        doors.runs.end(caller.tenant, &run);
        Ok(Done::Done)
    }
}

impl From<FieldSaid> for DeclaredField {
    fn from(said: FieldSaid) -> Self {
        let class = |said| match said {
            TypeSaid::Boolean => TypeClass::Boolean,
            TypeSaid::Number => TypeClass::Number,
            TypeSaid::Text => TypeClass::Text,
            TypeSaid::Object => TypeClass::Object,
            TypeSaid::Array => TypeClass::Array,
        };
        Self { path: said.path.into(), class: said.class.map(class) }
    }
}

impl From<&DeclaredField> for FieldSaid {
    fn from(declared: &DeclaredField) -> Self {
        let class = |class| match class {
            TypeClass::Boolean => TypeSaid::Boolean,
            TypeClass::Number => TypeSaid::Number,
            TypeClass::Text => TypeSaid::Text,
            TypeClass::Object => TypeSaid::Object,
            TypeClass::Array => TypeSaid::Array,
        };
        Self { path: declared.path.as_str().into(), class: declared.class.map(class) }
    }
}

impl From<Fates> for RunCounts {
    fn from(fates: Fates) -> Self {
        let Fates { taken, visible, superseded, quarantined, held, released, recalled, duplicate, deletes, .. } = fates;
        Self { taken, visible, superseded, quarantined, held, released, recalled, duplicate, deletes }
    }
}

impl From<RunCounts> for Fates {
    fn from(counts: RunCounts) -> Self {
        let RunCounts { taken, visible, superseded, quarantined, held, released, recalled, duplicate, deletes } =
            counts;
        Self {
            taken,
            visible,
            superseded,
            quarantined,
            held,
            released,
            recalled,
            duplicate,
            deletes,
            pending: 0,
            others: 0,
        }
    }
}

/// A run of the caller's tenant, over a connection that is the caller's.
fn find(doors: &Doors, caller: &Caller, id: &str) -> Result<Arc<Run>, Problem> {
    caller.require(Role::Editor)?;
    let missing = || Problem::not_found("run");
    let run = doors.runs.find(caller.tenant, id).ok_or_else(missing)?;
    caller.require_connection(run.open.id.connection.as_str()).map_err(|_| missing())?;
    Ok(run)
}

/// What the wanted stream is opened with.
async fn open(doors: &Doors, caller: &Caller, wanted: &RunWanted) -> Result<Opening, Problem> {
    caller.require(Role::Editor)?;
    caller.require_connection(&wanted.connection)?;
    if wanted.system.is_some() == wanted.mapping.is_some() {
        return Err(Problem::invalid("say either system or mapping"));
    }
    let shown = wanted.version_shown.as_deref().map(version_type).transpose();
    let shown = shown.map_err(|error| Problem::invalid(error.to_string()))?;
    let mut opening = Opening::new(wanted.said(caller.tenant), doors.line.definitions()).await.map_err(not_opened)?;
    if opening.open_version().is_some() {
        let shown = shown.unwrap_or(schemas::VersionType::Time);
        opening.settle_version(shown, doors.line.definitions()).await.map_err(not_opened)?;
    }
    Ok(opening)
}

impl RunWanted {
    fn said(&self, tenant: TenantId) -> Said<'_> {
        Said {
            tenant: Some(tenant),
            connection: &self.connection,
            stream: &self.stream,
            system: self.system.as_deref(),
            mapping: self.mapping.as_deref().map(|text| ("the mapping", text)),
            key: self.key.as_deref(),
            version: self.version.as_deref(),
            version_type: self.version_type.as_deref(),
            deleted: self.deleted.as_deref(),
        }
    }
}

fn value(of: &impl serde::Serialize) -> Result<Any<Value>, Problem> {
    serde_json::to_value(of).map(Any).map_err(Problem::internal)
}

/// What is said of the stream is wrong, unless what we keep cannot be read.
fn not_opened(error: anyhow::Error) -> Problem {
    let is_store = matches!(error.downcast_ref(), Some(DefinitionError::Store(_)));
    let is_ours = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<StoreError>() || cause.is::<ProcessError>() || cause.is::<std::io::Error>()
    };
    if let Some(missing) = error.downcast_ref::<NoMapping>() {
        return Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "mapping_unknown", missing.to_string());
    }
    match is_store || error.chain().any(is_ours) {
        true => Problem::internal(format!("{error:#}")),
        false => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "mapping_unusable", format!("{error:#}")),
    }
}

fn not_settled(error: anyhow::Error) -> Problem {
    match error.downcast::<NotCounted>() {
        Ok(error) => Problem::new(StatusCode::CONFLICT, "not_counted", error.to_string()),
        Err(error) => Problem::internal(format!("{error:#}")),
    }
}
