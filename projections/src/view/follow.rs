//! A view whose tables another process writes. It is read at the table's newest version, its tail comes from the log as
//! the writer's does, and what has been committed since is taken over: files that came are read for their keys, those
//! that went are left. It makes, changes and deletes nothing.

use std::collections::HashSet;

use parking_lot::Mutex;
use schemas::{Entity, TenantId};

use super::columns::Columns;
use super::deleted::DeletedKeys;
use super::disk::read;
use super::error::ViewError;
use super::files::read_keys;
use super::index::OrderKey;
use super::marks::Standing;
use super::place::Place;
use super::state::{Budgeted, State};
use super::table::{Table, TableFile};
use super::{Tables, View};

/// The table as it was looked at last.
pub(super) struct Followed {
    /// `None` if there was none.
    table: Option<Table>,
    /// What tells its last commit from another of the same number.
    commit: Option<u64>,
}

/// What looking at a followed view's table came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Nothing was committed.
    Same,
    /// What was committed was taken over.
    Taken,
    /// The table is ahead of the view, which first has to come that far on the log.
    Ahead,
    /// It is not the table that was opened, or it holds other rows than the log gave: the view has to be opened anew.
    Other,
}

impl View {
    /// Opens a view that another process writes; without a table it is empty. `start` names partition and epochs; its
    /// offset is where a view without a table starts.
    pub async fn follow(
        place: &Place,
        tenant: TenantId,
        entity: Entity,
        start: Standing,
        memory: Budgeted,
    ) -> Result<Self, ViewError> {
        let name = entity.entity.clone();
        let refused =
            |e: schemas::entity::InvalidEntity| ViewError::Definition { entity: name.clone(), reason: e.to_string() };
        entity.validate().map_err(refused)?;
        let (table_place, deleted_place) = (place.table(tenant, &entity.table), place.deleted(tenant, &entity.table));
        let table = {
            let _opening = table_place.making.read().await;
            Table::open(table_place.clone(), None).await?
        };
        let (state, commit) = match &table {
            Some(table) => {
                let standing = start.clone().read(&table.transactions(&start).await?)?;
                let deleted = DeletedKeys::new(deleted_place.clone());
                (read(table, &deleted, entity, standing, &memory).await?, table.commit_hash().await?)
            }
            None => {
                let schema = Columns::new(&entity)?.schema;
                (State::new(entity, schema, start, &memory)?, None)
            }
        };
        let tables = Tables::Followed(Box::new(tokio::sync::Mutex::new(Followed { table, commit })));
        // Files that are gone are for the writer to delete.
        let grace = super::GRACE;
        Ok(Self { tenant, name, place: table_place, deleted_place, grace, memory, state: Mutex::new(state), tables })
    }
    /// Takes over what has been committed to a followed view's table since it was looked at last.
    pub async fn look(&self) -> Result<Look, ViewError> {
        let Tables::Followed(followed) = &self.tables else { return Ok(Look::Same) };
        let mut followed = followed.lock().await;
        let Some(table) = &followed.table else {
            let is_there = Table::open(self.place.clone(), None).await?.is_some();
            return Ok(if is_there { Look::Other } else { Look::Same });
        };
        // A table that was deleted and made again has versions of the same numbers.
        if table.commit_hash().await? != followed.commit {
            return Ok(Look::Other);
        }
        let mut newer = table.clone();
        if !newer.update().await? {
            return Ok(Look::Same);
        }
        let (position, input_epoch) = self.with_state(|s| (s.position(), s.standing.input_epoch));
        let mut start = position;
        start.offset = 0;
        let start = Standing::start(start, input_epoch);
        let standing = start.clone().read(&newer.transactions(&start).await?)?;
        if standing.position.offset > position.offset {
            return Ok(Look::Ahead);
        }
        let commit = newer.commit_hash().await?;
        if !self.take_over(&newer).await? {
            return Ok(Look::Other);
        }
        *followed = Followed { table: Some(newer), commit };
        Ok(Look::Taken)
    }
    /// Takes the files of a newer version; false if they do not hold all rows of those that they replace. The view stands
    /// at or beyond the version. What was taken before an error is taken.
    async fn take_over(&self, newer: &Table) -> Result<bool, ViewError> {
        let (files, schema) = (newer.files()?, newer.schema()?);
        let known: HashSet<String> = self.with_state(|s| s.files.values().map(|f| f.file.name.clone()).collect());
        for file in files.iter().filter(|file| !known.contains(&file.name)) {
            let mut held = self.memory.all.charge();
            held.set(file.rows * size_of::<(u128, OrderKey)>());
            let mut keys = Vec::with_capacity(file.rows);
            let offer = |_: usize, hash, order| keys.push((hash, order));
            let rows = read_keys(&self.place, file, &self.memory.all, offer).await?;
            let mut state = self.state.lock();
            if let Some(error) = state.stopped() {
                return Err(ViewError::Stopped(Box::new(error.clone())));
            }
            state.take_file(TableFile { rows, ..file.clone() }, keys);
        }
        let named: HashSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
        Ok(self.state.lock().leave_files(&named, schema))
    }
}
