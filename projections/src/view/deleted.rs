//! The companion table `<view>__deleted`: keys that were deleted, with their order keys, so that late rows lose.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};

use super::columns::deleted_schema;
use super::error::ViewError;
use super::files::{PartWriter, SMALL_FILE_ROWS, discard, read_file, read_keys};
use super::index::OrderKey;
use super::memory::Memory;
use super::place::TablePlace;
use super::row::write_version;
use super::state::Tombstone;
use super::table::{Change, Table, TableFile};

/// So many small files are merged by the next commit.
const SMALL_FILES_MAX: usize = 16;
const WRITE_ROWS: usize = 8192;

/// The table of deleted keys of one view; it is made at the first delete.
pub struct DeletedKeys {
    place: TablePlace,
    table: Option<Table>,
}

/// Writes deleted keys into files that no version of the table names yet.
pub async fn write(place: &TablePlace, tombstones: &[Tombstone], memory: &Memory) -> Result<Vec<TableFile>, ViewError> {
    let mut writer = PartWriter::new(place.clone(), deleted_schema(), memory);
    let mut written = Ok(());
    for some in tombstones.chunks(WRITE_ROWS) {
        if written.is_ok() {
            written = writer.write(&batch(some)).await;
        }
    }
    writer.finish(written).await
}

impl DeletedKeys {
    /// Not opened yet.
    pub fn new(place: TablePlace) -> Self {
        Self { place, table: None }
    }
    /// Where it lies.
    pub fn place(&self) -> &TablePlace {
        &self.place
    }
    /// The files that the table held at `version`.
    pub async fn files(&self, version: u64) -> Result<Vec<TableFile>, ViewError> {
        let missing = || ViewError::Table { table: self.place.name().to_owned(), reason: "it is not there".into() };
        Table::open(self.place.clone(), Some(version)).await?.ok_or_else(missing)?.files()
    }
    /// Reads all keys of the files.
    pub async fn read(
        &self,
        files: &[TableFile],
        memory: &Memory,
        mut each: impl FnMut(u128, OrderKey),
    ) -> Result<(), ViewError> {
        for file in files {
            read_keys(&self.place, file, memory, |_, hash, order| each(hash, order)).await?;
        }
        Ok(())
    }
    /// Commits files of more keys. The new version holds them and what `base` held, the version that the view's own
    /// table names: what a commit in between added belongs to a flush that never came to be. Answers the new version and
    /// the files that went. After an error that came before the commit nothing is left of the files.
    pub async fn commit(
        &mut self,
        base: Option<u64>,
        mut add: Vec<TableFile>,
        memory: &Memory,
    ) -> Result<(u64, Vec<TableFile>), ViewError> {
        let (mut table, change) = match self.prepare(base, &mut add, memory).await {
            Ok(prepared) => prepared,
            Err(error) => {
                discard(&self.place, &add).await;
                return Err(error);
            }
        };
        let remove = change.remove.clone();
        if let Err(error) = table.commit(change).await {
            if matches!(error, ViewError::Conflict { .. }) {
                discard(&self.place, &add).await;
            }
            return Err(error);
        }
        let version = table.version();
        self.table = Some(table);
        Ok((version, remove))
    }
    /// The table, and the change that brings it from its newest version to what `base` held and the files of `add`; what
    /// is merged is added to them.
    async fn prepare(
        &mut self,
        base: Option<u64>,
        add: &mut Vec<TableFile>,
        memory: &Memory,
    ) -> Result<(Table, Change), ViewError> {
        let table = match self.table.take() {
            Some(table) => table,
            None => match Table::open(self.place.clone(), None).await? {
                Some(table) => table,
                None => Table::create(self.place.clone(), &deleted_schema()).await?,
            },
        };
        let head = table.files()?;
        let named = match base {
            Some(version) if version == table.version() => head.clone(),
            Some(version) => self.files(version).await?,
            None => Vec::new(),
        };
        let (mut merge, mut keep): (Vec<_>, Vec<_>) = named.into_iter().partition(|f| f.rows < SMALL_FILE_ROWS);
        if merge.len() < SMALL_FILES_MAX {
            keep.append(&mut merge);
        }
        if !merge.is_empty() {
            add.extend(self.merge(&merge, memory).await?);
        }
        let is_in = |files: &[TableFile], file: &TableFile| files.iter().any(|f| f.name == file.name);
        let remove: Vec<_> = head.iter().filter(|file| !is_in(&keep, file)).cloned().collect();
        let back = keep.into_iter().filter(|file| !is_in(&head, file));
        let add = add.iter().cloned().chain(back).collect();
        Ok((table, Change { add, remove, ..Change::default() }))
    }
    async fn merge(&self, files: &[TableFile], memory: &Memory) -> Result<Vec<TableFile>, ViewError> {
        let mut writer = PartWriter::new(self.place.clone(), deleted_schema(), memory);
        let copied = async {
            for file in files {
                for batch in read_file(&self.place, file, memory).await? {
                    let batch = batch.map_err(|e| ViewError::io(self.place.name(), &e))?;
                    writer.write(&batch).await?;
                }
            }
            Ok(())
        };
        let copied = copied.await;
        writer.finish(copied).await
    }
}

fn batch(tombstones: &[Tombstone]) -> RecordBatch {
    let version = |t: &Tombstone| {
        let mut text = String::new();
        write_version(&mut text, &t.order.version).then_some(text)
    };
    let text =
        |of: fn(&Tombstone) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(tombstones.iter().map(of))) };
    let number = |of: fn(&Tombstone) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(tombstones.iter().map(|t| of(t).cast_signed())))
    };
    let columns: Vec<ArrayRef> = vec![
        text(|t| t.connection.as_str()),
        text(|t| t.stream.as_str()),
        text(|t| &t.key),
        Arc::new(tombstones.iter().map(version).collect::<StringArray>()),
        number(|t| t.order.origin),
        number(|t| t.order.position),
        Arc::new(Int32Array::from_iter_values(tombstones.iter().map(|t| t.partition.cast_signed()))),
    ];
    RecordBatch::try_new(deleted_schema(), columns).expect("the columns are those of the schema")
}
