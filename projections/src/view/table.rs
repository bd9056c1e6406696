//! A Delta Lake table as views use it: opened, read from at a version, committed to at exactly the next one.

use std::collections::{BTreeMap, HashMap};

use arrow::datatypes::{Field, Schema, SchemaRef};
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel as _;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties, TableReference};
use deltalake_core::kernel::{Action, Add, MetadataExt as _, Remove, StructField, StructType, Transaction};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use futures::TryStreamExt as _;
use object_store::path::Path;
use std::sync::Arc;

use super::GRACE;
use super::error::ViewError;
use super::marks::Standing;
use super::place::TablePlace;

/// A checkpoint of the table's log is written every so many commits.
const CHECKPOINT_COMMITS: u64 = 50;

/// A data file of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFile {
    /// Its path from the table's folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its rows.
    pub rows: usize,
    /// Delta Lake's statistics of it, as JSON; empty for files that were not written by this process.
    pub stats: String,
}

/// What one commit changes.
#[derive(Debug, Default)]
pub struct Change {
    /// The new schema, if it has changed.
    pub schema: Option<SchemaRef>,
    /// Files that come.
    pub add: Vec<TableFile>,
    /// Files that go.
    pub remove: Vec<TableFile>,
    /// How far the writers have come: application ids and numbers.
    pub transactions: BTreeMap<String, u64>,
}

/// An open table.
#[derive(Clone)]
pub struct Table {
    place: TablePlace,
    delta: DeltaTable,
}

impl Table {
    fn builder(place: &TablePlace) -> Result<DeltaTableBuilder, ViewError> {
        let builder = DeltaTableBuilder::from_url(place.url.clone()).map_err(|e| ViewError::delta(place.name(), e))?;
        Ok(builder.with_storage_backend(place.root.clone(), place.url.clone()))
    }
    /// Opens the table at `version`, else at its newest one; `None` if there is no table.
    pub async fn open(place: TablePlace, version: Option<u64>) -> Result<Option<Self>, ViewError> {
        let mut delta = Self::builder(&place)?.build().map_err(|e| ViewError::delta(place.name(), e))?;
        let exists = delta.verify_deltatable_existence().await.map_err(|e| ViewError::delta(place.name(), e))?;
        if !exists {
            return Ok(None);
        }
        let loaded = match version {
            Some(version) => delta.load_version(version).await,
            None => delta.load().await,
        };
        loaded.map_err(|e| ViewError::delta(place.name(), e))?;
        Ok(Some(Self { place, delta }))
    }
    /// Makes the table. Of several that try, one wins; the others get [`ViewError::Conflict`].
    pub async fn create(place: TablePlace, schema: &SchemaRef) -> Result<Self, ViewError> {
        let built = Self::builder(&place)?.build().map_err(|e| ViewError::delta(place.name(), e))?;
        let name = place.name().rsplit('/').next().unwrap_or_default().to_owned();
        let made = CreateBuilder::new()
            .with_log_store(built.log_store())
            .with_table_name(name)
            .with_columns(kernel_fields(&place, schema)?)
            .with_configuration([
                ("delta.checkpointInterval", Some(CHECKPOINT_COMMITS.to_string())),
                // What other readers of the table may count on: files that have gone stay for as long as this.
                ("delta.deletedFileRetentionDuration", Some(format!("interval {} seconds", GRACE.as_secs()))),
            ])
            .with_commit_properties(properties(0))
            .await;
        let error = match made {
            Ok(delta) => return Ok(Self { place, delta }),
            Err(error) => ViewError::delta(place.name(), error),
        };
        // It looks for a table before it makes one; that there is one it tells as it tells any other failure.
        let is_there = built.verify_deltatable_existence().await.unwrap_or(false);
        Err(if is_there { ViewError::Conflict { table: place.name().to_owned() } } else { error })
    }
    /// Where it lies.
    pub fn place(&self) -> &TablePlace {
        &self.place
    }
    fn fail(&self, error: DeltaTableError) -> ViewError {
        ViewError::delta(self.place.name(), error)
    }
    /// The version that is open.
    pub fn version(&self) -> u64 {
        self.delta.version().unwrap_or(0)
    }
    /// What tells the commit of the open version from any other of that number, as it lies there now; `None` where it was
    /// cleaned away, or the table was.
    pub async fn commit_hash(&self) -> Result<Option<u64>, ViewError> {
        let entry = self.delta.log_store().read_commit_entry(self.version()).await.map_err(|e| self.fail(e))?;
        Ok(entry.map(|bytes| xxhash_rust::xxh3::xxh3_64(&bytes)))
    }
    /// Goes on to the newest version; false if it is open already.
    pub async fn update(&mut self) -> Result<bool, ViewError> {
        let before = self.version();
        self.delta.update_state().await.map_err(|e| ViewError::delta(self.place.name(), e))?;
        Ok(self.version() != before)
    }
    /// Its columns, without metadata.
    pub fn schema(&self) -> Result<SchemaRef, ViewError> {
        let schema = self.delta.snapshot().map_err(|e| self.fail(e))?.snapshot().arrow_schema();
        let plain = |f: &Arc<Field>| Field::new(f.name(), f.data_type().clone(), f.is_nullable());
        Ok(Arc::new(Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>())))
    }
    /// Its files; rows come from their statistics, 0 when they have none.
    pub fn files(&self) -> Result<Vec<TableFile>, ViewError> {
        let state = self.delta.snapshot().map_err(|e| self.fail(e))?;
        let views = state.snapshot().try_log_data().map_err(|e| self.fail(e))?;
        let file = |view: deltalake_core::kernel::LogicalFileView| TableFile {
            name: view.object_store_path().to_string(),
            bytes: u64::try_from(view.size()).unwrap_or(0),
            rows: view.num_records().unwrap_or(0),
            stats: String::new(),
        };
        Ok(views.iter().map(file).collect())
    }
    /// Files that were taken out of it, as paths in the store of all views, and when: in milliseconds since 1970 UTC. Its
    /// log forgets them after the grace.
    pub async fn removed(&self) -> Result<HashMap<Path, i64>, ViewError> {
        let state = self.delta.snapshot().map_err(|e| self.fail(e))?;
        let log = self.delta.log_store();
        let removed = state.all_tombstones(&*log).map_ok(|file| {
            let path = self.place.file(&file.path());
            (path, file.deletion_timestamp().unwrap_or(0))
        });
        removed.try_collect().await.map_err(|e| self.fail(e))
    }
    /// The transactions that the newest commit of ours named. Others may have committed since; theirs name none. Where
    /// they did so until our commit was cleaned away, a checkpoint still knows those that a view at `start` would name.
    pub async fn transactions(&self, start: &Standing) -> Result<BTreeMap<String, u64>, ViewError> {
        let log = self.delta.log_store();
        for version in (0..=self.version()).rev() {
            let Some(commit) = log.read_commit_entry(version).await.map_err(|e| self.fail(e))? else {
                return self.checkpointed(start).await;
            };
            let found = transactions_of(&commit);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(BTreeMap::new())
    }
    async fn checkpointed(&self, start: &Standing) -> Result<BTreeMap<String, u64>, ViewError> {
        let mut found = BTreeMap::new();
        let partitions = self.transaction(&start.partitions_id()).await?.unwrap_or(0);
        for id in start.ids(partitions) {
            if let Some(number) = self.transaction(&id).await? {
                found.insert(id, number);
            }
        }
        Ok(found)
    }
    async fn transaction(&self, id: &str) -> Result<Option<u64>, ViewError> {
        let state = self.delta.snapshot().map_err(|e| self.fail(e))?;
        let number = state.transaction_version(&self.delta.log_store(), id).await.map_err(|e| self.fail(e))?;
        Ok(number.and_then(|number| u64::try_from(number).ok()))
    }
    /// Commits at exactly the next version, or fails with [`ViewError::Conflict`] and changes nothing.
    pub async fn commit(&mut self, change: Change) -> Result<(), ViewError> {
        let state = self.delta.snapshot().map_err(|e| self.fail(e))?.clone();
        let now = now_millis();
        let mut actions = Vec::with_capacity(change.add.len() + change.remove.len() + change.transactions.len() + 1);
        if let Some(schema) = &change.schema {
            let schema = StructType::try_new(kernel_fields(&self.place, schema)?)
                .map_err(|e| ViewError::io(self.place.name(), &e))?;
            let metadata = state.metadata().clone().with_schema(&schema);
            actions.push(Action::Metadata(metadata.map_err(|e| ViewError::io(self.place.name(), &e))?));
        }
        actions.extend(change.add.into_iter().map(|file| Action::Add(add(file, now))));
        actions.extend(change.remove.into_iter().map(|file| Action::Remove(remove(file, now))));
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let transaction =
            |(id, version)| Action::Txn(Transaction::new_with_last_update(id, number(version), Some(now)));
        actions.extend(change.transactions.into_iter().map(transaction));
        let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
        let committed = CommitBuilder::from(properties(self.version() + 1))
            .with_actions(actions)
            .build(Some(&state as &dyn TableReference), self.delta.log_store(), operation)
            .await
            .map_err(|e| self.fail(e))?;
        self.delta.state = Some(committed.snapshot());
        Ok(())
    }
}

/// How the commit of a version is made: once, and old commits are looked for only where a checkpoint is written.
fn properties(version: u64) -> CommitProperties {
    let cleans = (version + 1).is_multiple_of(CHECKPOINT_COMMITS);
    CommitProperties::default().with_max_retries(0).with_cleanup_expired_logs(Some(cleans))
}

fn kernel_fields(place: &TablePlace, schema: &SchemaRef) -> Result<Vec<StructField>, ViewError> {
    let fields: Result<Vec<StructField>, _> = schema.fields().iter().map(|f| f.as_ref().try_into_kernel()).collect();
    fields.map_err(|e| ViewError::io(place.name(), &e))
}

fn add(file: TableFile, now: i64) -> Add {
    Add {
        path: file.name,
        size: i64::try_from(file.bytes).unwrap_or(i64::MAX),
        modification_time: now,
        data_change: true,
        stats: Some(file.stats).filter(|s| !s.is_empty()),
        ..Add::default()
    }
}

fn remove(file: TableFile, now: i64) -> Remove {
    Remove {
        path: file.name,
        data_change: true,
        deletion_timestamp: Some(now),
        extended_file_metadata: Some(true),
        partition_values: Some(std::collections::HashMap::new()),
        size: Some(i64::try_from(file.bytes).unwrap_or(i64::MAX)),
        ..Remove::default()
    }
}

fn transactions_of(commit: &[u8]) -> BTreeMap<String, u64> {
    #[derive(serde::Deserialize)]
    struct Line {
        txn: Option<Named>,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        app_id: String,
        version: u64,
    }
    commit
        .split(|b| *b == b'\n')
        .filter_map(|line| serde_json::from_slice::<Line>(line).ok()?.txn)
        .filter(|txn| txn.app_id.starts_with(super::marks::APP_PREFIX))
        .map(|txn| (txn.app_id, txn.version))
        .collect()
}

/// Milliseconds since 1970 UTC, for what other readers of the table want to know.
fn now_millis() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Place;
    use crate::view::columns::deleted_schema;

    #[tokio::test]
    async fn who_makes_a_table_that_another_has_made_meanwhile_has_lost_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let name = schemas::EntityName::new("orders").unwrap();
        let place = Place::local(folder.path()).unwrap().table(schemas::TenantId::from_bytes([1; 16]), &name);
        Table::create(place.clone(), &deleted_schema()).await.unwrap();
        let again = Table::create(place, &deleted_schema()).await;
        assert!(matches!(again, Err(ViewError::Conflict { .. })), "{:?}", again.err());
    }
}
