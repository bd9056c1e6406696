//! The line: ports (`Log`, `Store`, `Source`), ingest, the pure step, the processor, quarantine and the repairer.
//!
//! Read in this order: [`log`] and [`store`] are what everything stands on, [`payload`]
//! seals what they hold, [`migrate`] moves it elsewhere, [`secret`] is what settings hold and nothing shows, [`source`] is where records come from,
//! [`ingest`] puts them on the log, [`policies`] says how cases are decided, [`step`] says what they mean, [`process`] runs the step over a partition,
//! [`lease`] has processes share the partitions,
//! [`records`] finds records again, [`quarantine`] keeps what was set aside, [`notices`] what people are told, [`onboarding`] suggests which fields a stream fills, [`repair`] keeps the cases of drift and sends back in what they call for.

pub mod engine;
pub mod log;
pub mod migrate;
pub mod payload;
pub mod secret;
pub mod store;

pub mod advice;
pub mod definitions;
pub mod ingest;
pub mod policies;
pub mod source;

pub mod lease;
pub mod notices;
pub mod onboarding;
pub mod process;
pub mod quarantine;
pub mod records;
pub mod repair;
pub mod step;

#[cfg(test)]
mod testing;

pub use engine::{Embedded, OpenError, Partitions};
#[cfg(feature = "kafka")]
pub use log::KafkaLog;
pub use log::{Durability, EmbeddedLog, Log, LogError, MemoryLog, Stored};
pub use source::{MemorySource, Source, SourceBatch, SourceError};
#[cfg(feature = "scylla")]
pub use store::ScyllaStore;
pub use store::{EmbeddedStore, Expect, MemoryStore, Row, Store, StoreError, Table};
