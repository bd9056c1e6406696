//! What can be asked: tenant views as Delta Lake tables with a tail in memory, and SQL over them.

pub mod snapshot;

pub mod sql;

pub mod view;

pub use snapshot::{FileSnapshot, Lost, LostFile, RowSet, TailSnapshot, ViewSnapshot};
pub use sql::{QueryEngine, QueryError, QueryLimits, QueryResult};
