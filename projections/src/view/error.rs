//! What can go wrong with a view, and what to do about it.

use deltalake_core::DeltaTableError;
use deltalake_core::kernel::transaction::TransactionError;
use schemas::Position;
use schemas::ids::EntityName;
use schemas::wire::WireError;

use super::trouble::Trouble;

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
    /// The checkpoint of a partition is none of this log: it is of another epoch, or beyond the end.
    #[error(
        "the views were folded up to {views} of events, and the log ends at {end}, so it is another one or went back: name the \
         log that they come from, restore log and store from one backup, or begin with an empty data folder and keyspace"
    )]
    OtherLog {
        /// Up to where they were folded.
        views: Position,
        /// The log's end.
        end: Position,
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
    /// The storage did not answer, however often it was asked. Nothing is lost; it is asked again.
    #[error("the storage of {table} does not answer: {reason}; it is asked again, nothing acknowledged is lost")]
    Away {
        /// The table.
        table: String,
        /// What happened.
        reason: String,
    },
    /// The storage refuses us. Nothing is lost; it is asked again.
    #[error(
        "the storage refuses what {table} needs: {reason}; give the login of the views the rights to list, read, write and delete there"
    )]
    Denied {
        /// The table.
        table: String,
        /// What happened.
        reason: String,
    },
    /// The bucket has gone. Nothing is lost; it is asked for again.
    #[error("the bucket of {table} is not there: make it again; the views in it come from the log")]
    NoBucket {
        /// The table.
        table: String,
    },
    /// A file that the table names is not there.
    #[error(
        "the file {file} of the table {table} is gone: restore it, or make the view again with `autonomos views rebuild`"
    )]
    FileGone {
        /// The table.
        table: String,
        /// The file.
        file: String,
    },
    /// A file that the table names is not as long as when it was written.
    #[error(
        "the file {file} of the table {table} has {found} bytes, and {expected} were written: restore it, or make the view again with `autonomos views rebuild`"
    )]
    FileCut {
        /// The table.
        table: String,
        /// The file.
        file: String,
        /// The bytes that it had.
        expected: u64,
        /// Those that it has.
        found: u64,
    },
    /// What only the process that writes the views can do.
    #[error(
        "this process only reads the views; one with the role project writes them, within a minute of what comes, and at once when `autonomos views flush` or `views rebuild` asks it to"
    )]
    Followed,
    /// The projector has not committed for so long that this process cannot hold what came since.
    #[error(
        "the projector has not committed {table} for so long that what came since does not fit here: see that it runs and gets on"
    )]
    Uncommitted {
        /// The table.
        table: String,
    },
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
    /// Another process has written what only one may write: it works on the partition by now.
    #[error(
        "the checkpoint of partition {0} of events was written by another process meanwhile: stop one of the two; nothing is \
         lost, the other goes on"
    )]
    Overtaken(u32),
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
        let (table, reason) = (table.to_owned(), error.to_string());
        match Trouble::of(error) {
            Trouble::Full => Self::DiskFull,
            Trouble::Away => Self::Away { table, reason },
            Trouble::Denied => Self::Denied { table, reason },
            Trouble::NoBucket => Self::NoBucket { table },
            Trouble::Gone | Trouble::Other => Self::Table { table, reason },
        }
    }
    /// Whether the table on disk is to blame: folding the view from zero into a new one helps.
    pub fn is_of_the_table(&self) -> bool {
        matches!(
            self,
            Self::Table { .. }
                | Self::FileGone { .. }
                | Self::FileCut { .. }
                | Self::Epoch { .. }
                | Self::WentBack { .. }
                | Self::Definition { .. }
        )
    }
    /// Whether the storage of all tables cannot be used.
    pub fn is_of_the_storage(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Denied { .. } | Self::NoBucket { .. })
    }
    /// Whether it is past once the table is opened again: nothing is wrong with the table itself, and nobody has to give rights
    /// to it.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Conflict { .. }) || self.is_retryable() && !matches!(self, Self::Denied { .. })
    }
    /// Whether another process works on the partition by now.
    pub fn is_overtaken(&self) -> bool {
        matches!(self, Self::Overtaken(_) | Self::Store(pipeline::StoreError::Fenced(_)))
    }
    /// Whether the log or the store takes no more until it is opened again.
    pub fn needs_reopening(&self) -> bool {
        matches!(self, Self::Log(pipeline::LogError::Failed(_)) | Self::Store(pipeline::StoreError::Failed(_)))
    }
    /// Whether the same flush may work later: at once, or when somebody has seen to it.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::DiskFull | Self::Uncommitted { .. } => true,
            Self::Away { .. } | Self::Denied { .. } | Self::NoBucket { .. } => true,
            Self::Log(error) => error.is_retryable(),
            Self::Store(error) => error.is_retryable(),
            _ => false,
        }
    }
}
