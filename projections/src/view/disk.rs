//! A view's tables on disk: reading them into memory, writing files, the two commits, and what is deleted afterwards.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use arrow::array::BooleanArray;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
use schemas::Entity;

use super::deleted::DeletedKeys;
use super::error::ViewError;
use super::files::{PartWriter, discard, read_file, read_keys};
use super::marks::Standing;
use super::memory::Memory;
use super::moves::Moves;
use super::place::TablePlace;
use super::state::{Budgeted, Plan, State, Written};
use super::table::{Change, Table, TableFile};
use super::tail::live_rows;

/// The open tables, and the files that have gone from them.
pub(super) struct Disk {
    pub(super) main: Table,
    pub(super) deleted: DeletedKeys,
    pub(super) gone: Vec<Gone>,
}

/// A file that has gone from its table, and since when.
pub(super) type Gone = (Instant, Path);

/// How the names of files end that are being written.
const STAGED: &str = ".part";

/// Which part of a flush failed.
pub(super) enum FlushError {
    /// Nothing was committed.
    Before(ViewError),
    /// Something may have been.
    Commit(ViewError),
}

impl Disk {
    /// Commits files of deleted keys on top of the version `base` of their table, then the change of the view's table,
    /// which names the former. Answers the version that it names.
    pub(super) async fn commit(
        &mut self,
        standing: &Standing,
        mut change: Change,
        base: Option<u64>,
        tombstones: Vec<TableFile>,
        memory: &Memory,
    ) -> Result<Option<u64>, FlushError> {
        let mut standing = standing.clone();
        let place = self.main.place();
        let mut gone: Vec<_> = change.remove.iter().map(|f| place.file(&f.name)).collect();
        if !tombstones.is_empty() || base != standing.deleted {
            // Without the table's own commit whatever happened here counts for nothing, unless another writer did it.
            let committed = self.deleted.commit(base, tombstones, memory).await;
            let (version, removed) = committed.map_err(|error| match error {
                ViewError::Conflict { .. } => FlushError::Commit(error),
                _ => FlushError::Before(error),
            })?;
            gone.extend(removed.iter().map(|f| self.deleted.place().file(&f.name)));
            standing.deleted = Some(version);
        }
        change.transactions = standing.to_transactions();
        self.main.commit(change).await.map_err(FlushError::Commit)?;
        let now = Instant::now();
        self.gone.extend(gone.into_iter().map(|path| (now, path)));
        Ok(standing.deleted)
    }
    /// Deletes files that have been gone for longer than `grace`.
    pub(super) async fn vacuum(&mut self, grace: Duration) {
        let (old, young) = std::mem::take(&mut self.gone).into_iter().partition(|(at, _)| at.elapsed() >= grace);
        self.gone = young;
        let store = self.main.place().views.clone();
        for (at, path) in <Vec<Gone>>::into_iter(old) {
            match store.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => {
                    tracing::warn!(%path, %error, "a file that has gone from a view could not be deleted");
                    self.gone.push((at, path));
                }
            }
        }
    }
}

/// Reads keys and order keys of all files and of the deleted keys into a new state, and sweeps both tables. Answers also
/// the files that have gone and stay for a while.
pub(super) async fn load(
    main: &Table,
    deleted: &DeletedKeys,
    entity: Entity,
    standing: Standing,
    grace: Duration,
    memory: &Budgeted,
) -> Result<(State, Vec<Gone>), ViewError> {
    let version = standing.deleted;
    let mut state = State::new(entity, main.schema()?, standing, memory)?;
    let files = main.files()?;
    state.index.reserve(files.iter().map(|f| f.rows).sum());
    let mut gone = sweep(main.place(), Some(main), &files, grace).await;
    index_files(&mut state, main, files, &memory.all).await?;
    let newest = Table::open(deleted.place().clone(), None).await;
    let files = match (version, &newest) {
        (Some(version), Ok(Some(newest))) if newest.version() == version => newest.files()?,
        (Some(version), _) => deleted.files(version).await?,
        (None, _) => Vec::new(),
    };
    deleted.read(&files, &memory.all, |hash, order| state.index_deleted(hash, order)).await?;
    match newest.and_then(|newest| Ok((newest.as_ref().map_or(Ok(Vec::new()), Table::files)?, newest))) {
        Ok((others, newest)) => {
            gone.extend(sweep(deleted.place(), newest.as_ref(), &[files, others].concat(), grace).await);
        }
        // What the view needs of it has been read; what may be deleted is not known.
        Err(error) => tracing::warn!(table = deleted.place().name(), %error, "what no view needs stays for now"),
    }
    state.recount();
    Ok((state, gone))
}

/// The same for a process that does not write the tables, and sweeps nothing.
pub(super) async fn read(
    main: &Table,
    deleted: &DeletedKeys,
    entity: Entity,
    standing: Standing,
    memory: &Budgeted,
) -> Result<State, ViewError> {
    let version = standing.deleted;
    let mut state = State::new(entity, main.schema()?, standing, memory)?;
    let files = main.files()?;
    state.index.reserve(files.iter().map(|f| f.rows).sum());
    index_files(&mut state, main, files, &memory.all).await?;
    if let Some(version) = version {
        let files = deleted.files(version).await?;
        deleted.read(&files, &memory.all, |hash, order| state.index_deleted(hash, order)).await?;
    }
    state.recount();
    Ok(state)
}

async fn index_files(state: &mut State, main: &Table, files: Vec<TableFile>, memory: &Memory) -> Result<(), ViewError> {
    for file in files {
        let number = state.add_file(file.clone());
        let offer = |row, hash, order| state.index_row(number, row, hash, order);
        let rows = read_keys(main.place(), &file, memory, offer).await?;
        if let Some(file) = state.files.get_mut(&number) {
            file.file.rows = rows;
        }
        state.recount();
    }
    Ok(())
}

/// Deletes data files that have gone from the table for longer than `grace`, those that no version named and that were
/// written longer ago than that, and what a crash left of files and commits that were being written, by the clock of the
/// storage. What cannot be deleted now is tried again at the next opening. Answers the files that have gone and stay for who
/// still reads them.
async fn sweep(place: &TablePlace, table: Option<&Table>, named: &[TableFile], grace: Duration) -> Vec<Gone> {
    let named: HashSet<_> = named.iter().map(|f| place.file(&f.name)).collect();
    let mut staying = Vec::new();
    let swept = async {
        let mut objects = place.views.list_with_delimiter(Some(&place.prefix)).await.map_err(fail(place))?.objects;
        let is_ours = |path: &Path| place.is_data(path) || path.as_ref().ends_with(STAGED);
        objects.retain(|object| is_ours(&object.location) && !named.contains(&object.location));
        let removed = match table {
            Some(table) if !objects.is_empty() => table.removed().await?,
            _ => HashMap::new(),
        };
        let log = place.views.list_with_delimiter(Some(&place.log())).await.map_err(fail(place))?.objects;
        objects.extend(log.into_iter().filter(|object| object.location.as_ref().ends_with(STAGED)));
        if objects.is_empty() {
            return Ok(());
        }
        let (now, now_millis) = (Instant::now(), now_at(place).await?);
        for object in objects {
            let removed = removed.get(&object.location).copied();
            let since = removed.unwrap_or(object.last_modified.timestamp_millis());
            let age = Duration::from_millis(u64::try_from(now_millis.saturating_sub(since)).unwrap_or(0));
            if age >= grace {
                place.views.delete(&object.location).await.map_err(fail(place))?;
            } else if removed.is_some() {
                staying.push((now.checked_sub(age).unwrap_or(now), object.location));
            }
        }
        Ok::<_, ViewError>(())
    };
    if let Err(error) = swept.await {
        tracing::warn!(table = place.name(), %error, "files that no view needs could not be deleted");
    }
    staying
}

/// What time it is by the clock of the storage, in milliseconds since 1970 UTC: how old its files are no other clock tells, least
/// of all one that jumps. What is put for that lies beside the files for a moment, and is swept like them if it stays.
async fn now_at(place: &TablePlace) -> Result<i64, ViewError> {
    let path = place.file(&format!("{}{STAGED}", uuid::Uuid::now_v7()));
    place.views.put(&path, PutPayload::from_static(b"now")).await.map_err(fail(place))?;
    let put = place.views.head(&path).await;
    place.views.delete(&path).await.map_err(fail(place))?;
    Ok(put.map_err(fail(place))?.last_modified.timestamp_millis())
}

fn fail(place: &TablePlace) -> impl Fn(object_store::Error) -> ViewError {
    |error| ViewError::io(place.name(), &error)
}

/// Writes the live rows of a plan's files and chunks into new files. After an error nothing is left of them.
pub(super) async fn write_parts(place: &TablePlace, plan: &Plan, memory: &Memory) -> Result<Written, ViewError> {
    let mut writer = PartWriter::new(place.clone(), plan.columns.schema.clone(), memory);
    let mut moves = Moves::default();
    let written = async {
        for (number, file) in &plan.files {
            moves.file(*number, &file.dead, file.file.rows);
            let mut first = 0;
            for batch in read_file(place, &file.file, memory).await? {
                let batch = batch.map_err(|e| ViewError::io(place.name(), &e))?;
                let mask = BooleanArray::new(file.dead.live(first, batch.num_rows()), None);
                first += batch.num_rows();
                let live =
                    arrow::compute::filter_record_batch(&batch, &mask).map_err(|e| ViewError::io(place.name(), &e))?;
                if live.num_rows() > 0 {
                    writer.write(&live).await?;
                }
            }
        }
        for (number, chunk) in &plan.chunks {
            moves.chunk(*number, &chunk.dead, chunk.hashes.len());
            if chunk.dead.len() < chunk.hashes.len() {
                writer.write(&live_rows(&chunk.batch, &chunk.dead)).await?;
            }
        }
        Ok(())
    };
    let written = written.await;
    let files = writer.finish(written).await?;
    let rows: usize = files.iter().map(|f| f.rows).sum();
    if rows as u64 != moves.rows() {
        discard(place, &files).await;
        let reason = format!("{rows} rows were written of {}", moves.rows());
        return Err(ViewError::Table { table: place.name().to_owned(), reason });
    }
    Ok(Written { files, moves })
}
