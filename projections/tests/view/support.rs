//! Events by hand, and the rows of a snapshot as text.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::util::display::array_value_to_string;
use object_store::ObjectStoreExt as _;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pipeline::{Durability, Log, MemoryLog, Partitions};
use projections::ViewSnapshot;
use projections::view::marks::Standing;
use projections::view::{Place, View, ViewError};
use schemas::batch::{Batch, BatchHeader, BatchKind};
use schemas::event::{EventBatch, EventBatchWriter, RowKind, ViewControl, put_value};
use schemas::{ConnectionName, Entity, EntityName, Position, StreamName, TenantId, Topic, Value, Version};

pub const TENANT: TenantId = TenantId::from_bytes([7; 16]);

/// One row of an event batch.
#[derive(Debug, Clone)]
pub struct Event {
    pub key: String,
    pub version: Version,
    pub origin: u64,
    pub input: u64,
    /// `None` deletes.
    pub amount: Option<i64>,
}

pub fn event(key: &str, version: i64, input: u64, amount: impl Into<Option<i64>>) -> Event {
    Event { key: key.into(), version: Version::Integer(version), origin: input, input, amount: amount.into() }
}

pub fn entity(fields: &str) -> Entity {
    serde_json::from_str(&format!(r#"{{"entity":"order","table":"orders","fields":[{fields}]}}"#)).unwrap()
}

pub const FIELDS: &str =
    r#"{"name":"id","type":"text"},{"name":"amount","type":"decimal"},{"name":"open","type":"boolean"}"#;

pub fn orders() -> Entity {
    entity(FIELDS)
}

/// Orders with one field more.
pub fn noted_orders() -> Entity {
    entity(&format!(r#"{FIELDS},{{"name":"note","type":"text"}}"#))
}

pub fn order_name() -> EntityName {
    EntityName::new("order").unwrap()
}

/// The body of a batch; every row has id, amount, open and, with `note`, one field more.
pub fn body(events: &[Event], note: Option<&str>) -> Vec<u8> {
    let shared = EventBatch {
        connection: ConnectionName::new("crm").unwrap(),
        stream: StreamName::new("orders").unwrap(),
        input_epoch: 1,
        input_partition: 0,
        logged_at: 1_700_000_000_000_000,
        mapping_version: 1,
        confidence: 950,
    };
    let mut writer = EventBatchWriter::new(&shared, 0);
    for event in events {
        let mut values = Vec::new();
        let mut count = 0;
        let mut put = |value| {
            put_value(&mut values, value);
            count += 1;
        };
        if let Some(amount) = event.amount {
            put(Value::Text(&event.key));
            put(Value::Decimal(i128::from(amount)));
            put(Value::Boolean(amount % 2 == 0));
            note.into_iter().for_each(|note| put(Value::Text(note)));
        }
        let kind = if event.amount.is_some() { RowKind::Accepted } else { RowKind::Deleted };
        writer.push(kind, event.input, 0, event.origin, &event.key, &event.version, count, &values, b"");
    }
    writer.finish()
}

pub fn log(partitions: u32) -> Arc<dyn Log> {
    Arc::new(MemoryLog::new(Partitions { inputs: 1, events: partitions, decisions: 1 }))
}

fn header(tenant: TenantId, kind: BatchKind, entity: &EntityName, count: u32) -> BatchHeader {
    BatchHeader { kind, tenant, subject: entity.to_string(), count, logged_at: 0, key_id: 0, trace: None }
}

/// Appends rows to the partition of a view.
pub async fn append(log: &Arc<dyn Log>, tenant: TenantId, events: &[Event]) {
    append_noted(log, tenant, events, None).await;
}

/// Appends rows that have, with `note`, one field more.
pub async fn append_noted(log: &Arc<dyn Log>, tenant: TenantId, events: &[Event], note: Option<&str>) {
    let header = header(tenant, BatchKind::Rows, &order_name(), events.len() as u32);
    append_batch(log, tenant, Batch { header, body: body(events, note).into() }).await;
}

/// Appends the definition of an entity.
pub async fn define(log: &Arc<dyn Log>, tenant: TenantId, entity: &Entity) {
    let input = Position { epoch: 1, partition: 0, offset: 0 };
    let control = ViewControl::EntityDefined { hash: entity.hash(), text: entity.text(), input };
    let header = header(tenant, BatchKind::ViewControl, &entity.entity, 1);
    append_batch(log, tenant, Batch { header, body: serde_json::to_vec(&control).unwrap().into() }).await;
}

pub async fn append_batch(log: &Arc<dyn Log>, tenant: TenantId, batch: Batch) {
    let partition = (schemas::ids::view_hash(tenant, &order_name()) % u64::from(log.partitions(Topic::Events))) as u32;
    log.append(Topic::Events, partition, vec![batch], Durability::Ordered).await.unwrap();
}

/// What comes of it; a test that would wait for ever fails.
pub async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(600), work).await.expect("it never came")
}

pub fn start() -> Standing {
    Standing::start(Position { epoch: 1, partition: 0, offset: 0 }, 1)
}

pub async fn open(place: &Place) -> Arc<View> {
    try_open(place).await.unwrap()
}

pub async fn try_open(place: &Place) -> Result<Arc<View>, ViewError> {
    View::open(place, TENANT, orders(), start(), std::time::Duration::ZERO).await.map(Arc::new)
}

/// Applies events at the view's position.
pub fn apply(view: &View, events: &[Event]) -> projections::view::Applied {
    view.apply(view.position().offset, events.len() as u32, &body(events, None)).unwrap()
}

/// Every row of a snapshot as text by key; columns named in `without` are left out. A key that stands twice fails.
pub async fn rows(snapshot: &ViewSnapshot, without: &[&str]) -> BTreeMap<String, String> {
    let mut batches = Vec::new();
    for part in &snapshot.tail {
        let live = (0..part.batch.num_rows()).filter(|row| !part.dead.contains(*row));
        batches.extend(live.map(|row| part.batch.slice(row, 1)));
    }
    for file in &snapshot.files {
        let bytes = snapshot.store.get(&file.path).await.unwrap().bytes().await.unwrap();
        assert_eq!(bytes.len() as u64, file.bytes);
        let mut first = 0;
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            for row in 0..batch.num_rows() {
                if !file.dead.contains(first + row) {
                    batches.push(batch.slice(row, 1));
                }
            }
            first += batch.num_rows();
        }
        assert_eq!(first, file.rows);
    }
    let mut rows = BTreeMap::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let key = batch.column_by_name("_key").unwrap().as_string::<i32>().value(row).to_owned();
            let text = row_text(snapshot, &batch, row, without);
            assert!(rows.insert(key.clone(), text).is_none(), "{key} stands twice");
        }
    }
    rows
}

fn row_text(snapshot: &ViewSnapshot, batch: &RecordBatch, row: usize, without: &[&str]) -> String {
    let names = snapshot.schema.fields().iter().map(|f| f.name());
    let cell = |name: &String| match batch.column_by_name(name) {
        Some(column) => format!("{name}={} ", array_value_to_string(column, row).unwrap()),
        None => format!("{name}= "),
    };
    names.filter(|name| !without.contains(&name.as_str())).map(cell).collect()
}
