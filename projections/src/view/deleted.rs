//! The companion table `<view>__deleted`: keys that were deleted, with their order keys, so that late rows lose.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};

use super::columns::deleted_schema;
use super::error::ViewError;
use super::files::{PartWriter, read_file, read_keys};
use super::index::{Loc, OrderKey};
use super::place::TablePlace;
use super::row::write_version;
use super::state::Tombstone;
use super::table::{Change, Table, TableFile};

/// More files than this are merged by the next commit.
const FILES_MAX: usize = 16;

/// The table of deleted keys of one view; it is made at the first delete.
pub struct DeletedKeys {
    place: TablePlace,
    table: Option<Table>,
}

impl DeletedKeys {
    /// Not opened yet.
    pub fn new(place: TablePlace) -> Self {
        Self { place, table: None }
    }
    /// Reads all keys that the table held at `version`.
    pub async fn read(&self, version: u64, mut each: impl FnMut(u128, OrderKey)) -> Result<(), ViewError> {
        let missing = || ViewError::Table { table: self.place.name().to_owned(), reason: "it is not there".into() };
        let table = Table::open(self.place.clone(), Some(version)).await?.ok_or_else(missing)?;
        for file in table.files()? {
            read_keys(&self.place, &file, |_, hash, order| each(hash, order)).await?;
        }
        Ok(())
    }
    /// Commits more keys and answers the version that holds them; `replaces` all that were there. Also answers the
    /// files that went.
    pub async fn commit(
        &mut self,
        tombstones: &[Tombstone],
        replaces: bool,
    ) -> Result<(u64, Vec<TableFile>), ViewError> {
        let mut table = match self.table.take() {
            Some(table) => table,
            None => match Table::open(self.place.clone(), None).await? {
                Some(table) => table,
                None => Table::create(self.place.clone(), &deleted_schema()).await?,
            },
        };
        let former = table.files()?;
        let merges = former.len() >= FILES_MAX;
        let mut writer = PartWriter::new(self.place.clone(), deleted_schema());
        let nowhere = std::iter::empty::<(u128, Loc)>;
        if merges && !replaces {
            for file in &former {
                for batch in read_file(&self.place, file).await? {
                    let batch = batch.map_err(|e| ViewError::io(self.place.name(), &e))?;
                    writer.write(&batch, nowhere()).await?;
                }
            }
        }
        if !tombstones.is_empty() {
            writer.write(&batch(tombstones), nowhere()).await?;
        }
        let add = writer.finish().await?.into_iter().map(|part| part.file).collect();
        let remove = if merges || replaces { former } else { Vec::new() };
        table.commit(Change { add, remove: remove.clone(), ..Change::default() }).await?;
        let version = table.version();
        self.table = Some(table);
        Ok((version, remove))
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
