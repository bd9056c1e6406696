//! What may be said on the line: ids, records, inputs, events, shapes, mappings, the ontology and their codecs. No I/O.
//!
//! Read in this order: [`ids`] name things, [`position`] places them on the log, [`record`] is what a connector read,
//! [`input`] what goes into the log, [`mapping`] and [`entity`] say how a record becomes a canonical row, [`event`] is
//! what the step made of it, [`batch`] is how both lie on disk.

pub mod ids;
pub mod position;
pub mod topic;

pub mod decimal;
pub mod time;
pub mod value;
pub mod version;

pub mod entity;
pub mod input;
pub mod mapping;
pub mod ontology;
pub mod record;
pub mod shape;

pub mod cloudevent;
pub mod decision;
pub mod event;
pub mod reason;
pub mod stage;

pub mod batch;
pub mod wire;

pub use batch::{Batch, BatchHeader, BatchKind, PackedBatch};
pub use decision::Decision;
pub use entity::Entity;
pub use event::{EventBatch, EventRow};
pub use ids::{ConnectionName, EntityName, StreamId, StreamName, TenantId, TenantName};
pub use input::Input;
pub use mapping::Mapping;
pub use position::Position;
pub use record::{Lane, Op, Record, RecordBatch};
pub use topic::Topic;
pub use value::{FieldType, Value};
pub use version::{Version, VersionType};
