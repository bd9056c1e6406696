//! What every bench and campaign shares: the workload, the stream that it is, and how its cost is measured. One program
//! a question stands in `src/bin`; `bench.py` runs them beside their peers.
//!
//! Read in this order: [`workload`] makes the records, [`input`] is which of them a program measures, [`stream`] is what
//! they are to the line, [`measure`] what the work costs, [`null`] what a log and a view cost that do nothing, [`feed`]
//! appends at a steady rate, [`command`] are the product's own commands inside one process, [`plain`] is DataFusion alone.

pub mod command;
pub mod feed;
pub mod input;
pub mod measure;
pub mod null;
pub mod plain;
pub mod stream;
pub mod workload;

pub use input::Input;
pub use workload::{Counts, Workload};

/// The allocator of the product, so that its parts cost here what they cost there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
