//! The columns of a view's table: the entity's fields, `extras`, system columns, then fields that were added later.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use schemas::{Entity, FieldType};

use super::error::ViewError;

/// Unmapped fields of a row: a JSON object, or null.
pub const EXTRAS: &str = "extras";
/// The connection that the row came over.
pub const CONNECTION: &str = "_connection";
/// The stream that the row is of.
pub const STREAM: &str = "_stream";
/// The source key.
pub const KEY: &str = "_key";
/// The source version, tagged with its type; null for a source without versions.
pub const VERSION: &str = "_version";
/// Offset at which the record first entered `inputs`.
pub const ORIGIN: &str = "_origin";
/// Offset of the input that made the row.
pub const POSITION: &str = "_position";
/// Partition of that input.
pub const PARTITION: &str = "_partition";
/// The mapping version in force.
pub const MAPPING_VERSION: &str = "_mapping_version";
/// The lowest confidence of the rules used.
pub const CONFIDENCE: &str = "_confidence";
/// When the log took the record.
pub const LOGGED_AT: &str = "_logged_at";

/// The columns that the key index is rebuilt from, in the order in which they stand in every table.
pub const INDEXED: [&str; 6] = [CONNECTION, STREAM, KEY, VERSION, ORIGIN, POSITION];

fn utc_micros() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The column type of a field.
pub fn data_type(field: FieldType) -> DataType {
    match field {
        FieldType::Text | FieldType::Json => DataType::Utf8,
        FieldType::Integer => DataType::Int64,
        FieldType::Decimal { precision, scale } => DataType::Decimal128(precision, scale.cast_signed()),
        FieldType::Boolean => DataType::Boolean,
        FieldType::Date => DataType::Date32,
        FieldType::Timestamp => utc_micros(),
    }
}

fn system_fields() -> Vec<Field> {
    [
        (EXTRAS, DataType::Utf8),
        (CONNECTION, DataType::Utf8),
        (STREAM, DataType::Utf8),
        (KEY, DataType::Utf8),
        (VERSION, DataType::Utf8),
        (ORIGIN, DataType::Int64),
        (POSITION, DataType::Int64),
        (PARTITION, DataType::Int32),
        (MAPPING_VERSION, DataType::Int32),
        (CONFIDENCE, DataType::Decimal128(4, 3)),
        (LOGGED_AT, utc_micros()),
    ]
    .map(|(name, data_type)| Field::new(name, data_type, true))
    .to_vec()
}

/// The columns of the table of deleted keys.
pub fn deleted_schema() -> SchemaRef {
    let wanted = [CONNECTION, STREAM, KEY, VERSION, ORIGIN, POSITION, PARTITION];
    Arc::new(Schema::new(
        system_fields().into_iter().filter(|f| wanted.contains(&f.name().as_str())).collect::<Vec<_>>(),
    ))
}

/// A table's columns and where each field of the entity stands.
#[derive(Debug, Clone)]
pub struct Columns {
    /// The columns in the table's order.
    pub schema: SchemaRef,
    /// Column of each field of the entity.
    pub fields: Vec<usize>,
    /// Column of `extras`; the system columns follow it.
    pub extras: usize,
    /// Columns that are no field of the entity as it is known here; null in new rows.
    pub unknown: Vec<usize>,
}

impl Columns {
    /// The columns of a new table.
    pub fn new(entity: &Entity) -> Result<Self, ViewError> {
        let mut fields: Vec<_> = entity.fields.iter().map(field).collect();
        fields.extend(system_fields());
        Self::of(Arc::new(Schema::new(fields)), entity)
    }
    /// The columns of a table that is there, with new fields of the entity at the end.
    pub fn of(schema: SchemaRef, entity: &Entity) -> Result<Self, ViewError> {
        let refuse = |reason: String| ViewError::Definition { entity: entity.entity.clone(), reason };
        let mut all: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone()).collect();
        let extras = all.iter().position(|f| f.name() == EXTRAS).ok_or_else(|| refuse("no column extras".into()))?;
        for (at, expected) in system_fields().iter().enumerate() {
            if all.get(extras + at).is_none_or(|f| f.name() != expected.name() || f.data_type() != expected.data_type())
            {
                return Err(refuse(format!("the table has no column {} in its place", expected.name())));
            }
        }
        let mut fields = Vec::with_capacity(entity.fields.len());
        for wanted in &entity.fields {
            let column = field(wanted);
            let at = all.iter().position(|f| f.name() == column.name());
            if let Some(at) = at {
                if all[at].data_type() != column.data_type() {
                    let (name, found) = (column.name(), all[at].data_type());
                    return Err(refuse(format!("column {name} of the table is {found}, not {}", wanted.field_type())));
                }
            } else {
                all.push(column);
            }
            fields.push(at.unwrap_or(all.len() - 1));
        }
        let system = extras..extras + system_fields().len();
        let unknown = (0..all.len()).filter(|at| !system.contains(at) && !fields.contains(at)).collect();
        Ok(Self { schema: Arc::new(Schema::new(all)), fields, extras, unknown })
    }
}

fn field(field: &schemas::entity::Field) -> Field {
    Field::new(field.name.as_str(), data_type(field.field_type()), true)
}

/// The batch under a schema that has columns which it lacks: they are null. Columns are matched by name.
pub fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, arrow::error::ArrowError> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|f| match batch.column_by_name(f.name()) {
            Some(column) => column.clone(),
            None => new_null_array(f.data_type(), batch.num_rows()),
        })
        .collect();
    RecordBatch::try_new(schema.clone(), columns)
}
