//! Where a tenant's things are: on the line of a folder ([`folder`]), or behind a server ([`crate::client`]). A command is
//! written once, against this; what it is answered has the API's own shapes, so that it prints the same either way.

mod deciding;
pub mod folder;

use std::path::PathBuf;

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use pipeline::source::LaneCursor;
use schemas::drift::Verdict;
use schemas::input::DeclaredField;
use schemas::record::RecordBatch as Records;
use schemas::{ConnectionName, Mapping, StreamName, Topic};

use crate::http::routes::cases::listing::CasesWanted;
use crate::http::routes::cases::shape::CaseInfo;
use crate::http::routes::log::LogPage;
use crate::http::routes::quarantine::{QuarantinePage, QuarantinedPayload};
use crate::http::routes::streams::StreamInfo;
use crate::http::routes::users::OneUse;
use crate::http::routes::views::{ViewColumns, ViewInfo};
use crate::line::{Fates, MadeOn};
use crate::output::Output;
pub use deciding::{Deciding, Settling};

/// What the command line asks of one tenant's things.
#[async_trait]
pub trait Backend: Deciding {
    /// The tenant's name.
    fn tenant(&self) -> &str;
    /// Where its HTTP API answers, as far as that is known.
    fn address(&self) -> &str;
    /// Its views, by their tables' names.
    async fn views(&self) -> anyhow::Result<Vec<ViewInfo>>;
    /// The columns of a view, by its table's name.
    async fn view(&self, table: &str) -> anyhow::Result<ViewColumns>;
    /// The folder of a view's table, where it can be reached from here.
    fn view_folder(&self, table: &str) -> Option<PathBuf>;
    /// Asks with SQL.
    async fn query(&self, sql: &str) -> anyhow::Result<Answer>;
    /// What was set aside behind `after`, at most `limit`; `next` says that there is more. What waits, or what was settled.
    async fn quarantine(
        &self,
        stream: Option<&StreamPath>,
        is_settled: bool,
        after: Option<&str>,
        limit: usize,
    ) -> anyhow::Result<QuarantinePage>;
    /// One record that was set aside, with its bytes.
    async fn quarantined(&self, position: &str) -> anyhow::Result<QuarantinedPayload>;
    /// The wanted cases of drift, at most `limit`.
    async fn cases(&self, wanted: &CasesWanted, limit: usize) -> anyhow::Result<Vec<CaseInfo>>;
    /// One case.
    async fn case(&self, case: &str) -> anyhow::Result<CaseInfo>;
    /// Gives a decision, waits for its outcome and for what it lets go, and answers the case as it is then.
    async fn decide(&self, case: &str, decision: Decision) -> anyhow::Result<CaseInfo>;
    /// Its streams with their counters.
    async fn streams(&self) -> anyhow::Result<Vec<StreamInfo>>;
    /// A page of its log: of a topic, from an offset of each partition on, behind the `next` of the page before.
    async fn log(&self, topic: Topic, from: u64, after: Option<&str>, limit: usize) -> anyhow::Result<LogPage>;
    /// Invites an admin.
    async fn invite(&self, email: &str) -> anyhow::Result<OneUse>;
    /// Writes everything that the tenant has.
    async fn export(&self, out: &mut dyn Output) -> anyhow::Result<()>;
    /// Deletes the tenant, for ever.
    async fn delete(&self) -> anyhow::Result<()>;
}

/// A stream within a tenant, as the command line names it: CONNECTION/STREAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPath {
    /// The connection.
    pub connection: ConnectionName,
    /// The stream within it.
    pub stream: StreamName,
}

impl std::fmt::Display for StreamPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.connection, self.stream)
    }
}

impl std::str::FromStr for StreamPath {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let Some((connection, stream)) = text.split_once('/') else {
            anyhow::bail!("{text:?} names no stream: write CONNECTION/STREAM")
        };
        Ok(Self { connection: connection.parse()?, stream: stream.parse()? })
    }
}

/// A decision of a case, and what it was made on.
#[derive(Debug, Clone)]
pub struct Decision {
    /// What is decided.
    pub verdict: Verdict,
    /// Why.
    pub why: String,
    /// What it was made on.
    pub made_on: MadeOn,
}

/// The answer to a query, batch by batch.
pub struct Answer {
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows.
    pub batches: BoxStream<'static, anyhow::Result<RecordBatch>>,
}

/// Records of one stream that are brought in together.
#[async_trait]
pub trait Run: Send + Sync {
    /// The lanes that were read before.
    fn lanes(&self) -> Vec<LaneCursor>;
    /// What the records become, and how.
    fn mapping(&self) -> &Mapping;
    /// Records of earlier runs, if this one put another mapping in force: they stay what the former one made of them.
    fn under_former(&self) -> u64;
    /// Takes records, which have these fields if their source says so; they are durable when this returns.
    async fn append(&mut self, records: Records, declared: Option<&[DeclaredField]>) -> anyhow::Result<()>;
    /// The stream's visible rows, with everything that was appended; nothing if its entity has no view.
    async fn rows(&self) -> anyhow::Result<Option<Box<dyn Rows + '_>>>;
    /// Waits until every record has its fate. So many were acknowledged.
    async fn settle(&mut self, acknowledged: u64) -> anyhow::Result<Fates>;
    /// Ends the run without waiting.
    async fn leave(&mut self) -> anyhow::Result<()>;
}

/// The visible rows of a stream.
#[async_trait]
pub trait Rows: Send + Sync {
    /// Reads their keys. It may be done twice.
    async fn keys(&self) -> anyhow::Result<Keys>;
}

/// Keys on their way, a batch at a time.
pub struct Keys(pub BoxStream<'static, anyhow::Result<RecordBatch>>);

impl Keys {
    /// The next keys, or `None` when there are no more.
    pub async fn next(&mut self) -> anyhow::Result<Option<StringArray>> {
        let Some(batch) = self.0.next().await else { return Ok(None) };
        let batch = batch?;
        let column = arrow::compute::cast(batch.column(0), &DataType::Utf8)?;
        Ok(Some(column.as_string::<i32>().clone()))
    }
}
