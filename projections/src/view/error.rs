//! What can go wrong with a view, and what to do about it.

use deltalake_core::DeltaTableError;
use deltalake_core::kernel::transaction::TransactionError;
use schemas::ids::EntityName;
use schemas::wire::WireError;

/// A view cannot do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ViewError {
    /// Events that do not follow their codec.
    #[error("events at offset {offset} cannot be read: {source}; restore the log from a backup")]
    Events {
        /// Offset of the batch's first event.
        offset: u64,
        /// What is wrong.
        source: WireError,
    },
    /// A value that its column cannot hold.
    #[error(
        "the event of input {input} has {found} for column {column}, which holds {expected}; restore the log from a backup"
    )]
    Value {
        /// The input.
        input: u64,
        /// The column.
        column: String,
        /// What the column holds.
        expected: String,
        /// What came.
        found: &'static str,
    },
    /// A control event that is no JSON of ours.
    #[error("the control event at offset {offset} cannot be read: {reason}; use a newer autonomos or restore the log")]
    Control {
        /// Its offset.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// Another generation of a topic than the view was folded from.
    #[error(
        "the view was folded from epoch {expected} of {topic} and met epoch {found}: rebuild it with `autonomos views rebuild`"
    )]
    Epoch {
        /// The topic.
        topic: schemas::Topic,
        /// The epoch that the view stands on.
        expected: u32,
        /// The epoch met.
        found: u32,
    },
    /// The table's position is beyond the log's end.
    #[error(
        "the view stands at event {view}, the log ends at {log}: the log was replaced; rebuild with `autonomos views rebuild`"
    )]
    WentBack {
        /// The view's next offset.
        view: u64,
        /// The log's end.
        log: u64,
    },
    /// Rows of an entity that was never defined.
    #[error(
        "entity {0} has rows but no definition; restore the store from a backup, or delete the data folder and ingest again"
    )]
    Undefined(EntityName),
    /// A definition that the table cannot follow.
    #[error("the definition of entity {entity} does not fit: {reason}")]
    Definition {
        /// The entity.
        entity: EntityName,
        /// Why.
        reason: String,
    },
    /// Another writer committed to the table. The view drops what it holds and opens the table again.
    #[error("another writer committed to the table {table}; stop it: a view has one writer")]
    Conflict {
        /// The table.
        table: String,
    },
    /// The disk is full. Nothing is lost; free some room.
    #[error("the disk is full: free some room in the data folder's filesystem; nothing acknowledged is lost")]
    DiskFull,
    /// The table or its storage failed.
    #[error("the table {table} failed: {reason}; delete its folder to have it rebuilt from the log")]
    Table {
        /// The table.
        table: String,
        /// What happened.
        reason: String,
    },
    /// The view met an error before and takes no more events until it is opened again.
    #[error("the view stopped: {0}")]
    Stopped(Box<ViewError>),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] pipeline::LogError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] pipeline::StoreError),
    /// The projector has been shut down.
    #[error("the projector has stopped; start the server again")]
    ShutDown,
}

impl ViewError {
    /// An error of Delta Lake on a table.
    pub(crate) fn delta(table: &str, error: DeltaTableError) -> Self {
        match error {
            DeltaTableError::VersionAlreadyExists(_)
            | DeltaTableError::Transaction {
                source: TransactionError::MaxCommitAttempts(_) | TransactionError::VersionAlreadyExists(_),
            } => Self::Conflict { table: table.to_owned() },
            other => Self::io(table, &other),
        }
    }
    /// Any other error on a table's files.
    pub(crate) fn io(table: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        if is_disk_full(error) {
            return Self::DiskFull;
        }
        Self::Table { table: table.to_owned(), reason: error.to_string() }
    }
    /// Whether the table on disk is to blame: folding the view from zero into a new one helps.
    pub fn is_of_the_table(&self) -> bool {
        matches!(self, Self::Table { .. } | Self::Epoch { .. } | Self::WentBack { .. } | Self::Definition { .. })
    }
    /// Whether it is past once the table is opened again: nothing is wrong with the table itself.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Conflict { .. }) || self.is_retryable()
    }
    /// Whether the same flush may work later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::DiskFull => true,
            Self::Log(error) => error.is_retryable(),
            Self::Store(error) => matches!(error, pipeline::StoreError::DiskFull),
            _ => false,
        }
    }
}

fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
        {
            return true;
        }
        next = error.source();
    }
    false
}
