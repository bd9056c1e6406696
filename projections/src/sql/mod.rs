//! SQL over pinned views: a tenant's text in, record batches out, and nothing else within reach.
//!
//! Read in this order: [`engine`] runs a query from text to stream in one of its `places`, [`guard`] refuses what must not run, `functions` and
//! `bounded` say which functions there are, `session` builds the catalogue of one query, `table` scans a view and `live`
//! picks the rows that count. `planning`, `memory`, `portions`, `windows` and `deadline` keep a query within its limits, and
//! [`mod@format`] writes results.

mod bounded;
mod deadline;
mod footer;
mod functions;
mod information;
mod live;
mod memory;
mod pick;
mod places;
mod planning;
mod portions;
mod session;
mod table;
mod tap;
mod total;
mod weight;
mod windows;

pub mod engine;
pub mod error;
pub mod format;
pub mod guard;
pub mod rows;

pub use engine::{BatchStream, QueryEngine, QueryLimits, QueryResult};
pub use error::QueryError;
pub use format::{Format, FormatError, ResultWriter};
pub use rows::{RowsError, RowsPage};
