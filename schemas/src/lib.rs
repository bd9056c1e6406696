#![doc = include_str!("../README.md")]

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
pub mod shipped;

pub mod advice;
pub mod cloudevent;
pub mod decision;
pub mod drift;
pub mod event;
pub mod policy;
pub mod reason;
pub mod settle;
pub mod stage;

pub mod batch;
pub mod trace;
pub mod wire;

pub use batch::{Batch, BatchHeader, BatchKind, PackedBatch};
pub use decision::Decision;
pub use entity::Entity;
pub use event::{EventBatch, EventRow};
pub use ids::{ConnectionName, EntityName, StreamId, StreamName, TenantId, TenantName};
pub use input::Input;
pub use mapping::Mapping;
pub use policy::Policy;
pub use position::Position;
pub use record::{Lane, Op, Record, RecordBatch};
pub use shipped::{shipped_mapping, shipped_systems};
pub use topic::Topic;
pub use trace::Trace;
pub use value::{FieldType, Value};
pub use version::{Version, VersionType};
