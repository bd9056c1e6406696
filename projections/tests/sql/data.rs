//! Snapshots built by hand: files with dead rows, and tails.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use projections::sql::{Format, ResultWriter};
use projections::{FileSnapshot, Lost, QueryEngine, QueryError, QueryLimits, RowSet, TailSnapshot, ViewSnapshot};
use schemas::{Position, TenantId};

pub const COUNTRIES: [&str; 5] = ["at", "ch", "de", "fr", "it"];

pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("country", DataType::Utf8, true),
        Field::new("amount", DataType::Decimal128(12, 2), true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
    ]))
}

/// Rows of which every value follows from the id.
pub fn rows(ids: impl Iterator<Item = i64>) -> RecordBatch {
    let ids: Vec<i64> = ids.collect();
    let countries = StringArray::from_iter(ids.iter().map(|i| (i % 11 != 0).then(|| COUNTRIES[(*i % 5) as usize])));
    let amounts = Decimal128Array::from_iter_values(ids.iter().map(|i| *i as i128 * 25));
    let times = TimestampMicrosecondArray::from_iter_values(ids.iter().map(|i| i * 1_000_000)).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids)),
        Arc::new(countries),
        Arc::new(amounts.with_precision_and_scale(12, 2).unwrap()),
        Arc::new(times),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// Writes a file, `group` rows a row group, with the given rows dead.
pub async fn file(
    store: &Arc<dyn ObjectStore>,
    name: &str,
    batch: &RecordBatch,
    group: usize,
    dead: impl IntoIterator<Item = usize>,
) -> FileSnapshot {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
    let mut writer = ArrowWriter::try_new(vec![], batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    let bytes = writer.into_inner().unwrap();
    let path = Path::from(name);
    let size = bytes.len() as u64;
    store.put(&path, bytes.into()).await.unwrap();
    let mut set = RowSet::default();
    for row in dead {
        set.insert(row);
    }
    FileSnapshot { path, bytes: size, rows: batch.num_rows(), dead: Arc::new(set) }
}

pub fn view(
    table: &str,
    schema: SchemaRef,
    store: Arc<dyn ObjectStore>,
    files: Vec<FileSnapshot>,
    tail: Vec<RecordBatch>,
) -> Arc<ViewSnapshot> {
    view_of(table, schema, store, files, tail.into_iter().map(|batch| part(batch, [])).collect())
}

/// Rows in memory, of which some do not count.
pub fn part(batch: RecordBatch, dead: impl IntoIterator<Item = usize>) -> TailSnapshot {
    let mut set = RowSet::default();
    for row in dead {
        set.insert(row);
    }
    TailSnapshot { batch, dead: Arc::new(set) }
}

fn view_of(
    table: &str,
    schema: SchemaRef,
    store: Arc<dyn ObjectStore>,
    files: Vec<FileSnapshot>,
    tail: Vec<TailSnapshot>,
) -> Arc<ViewSnapshot> {
    Arc::new(ViewSnapshot {
        table: table.into(),
        schema,
        store,
        files,
        tail,
        position: Position { epoch: 0, partition: 0, offset: 0 },
        lost: Lost::default(),
    })
}

/// Two files over several row groups and a tail, all with dead rows: the ids 0 to 999, each once.
pub async fn orders(store: Arc<dyn ObjectStore>) -> Arc<ViewSnapshot> {
    let first: Vec<usize> = (0..400).filter(|r| r % 3 == 0 || (100..200).contains(r)).collect();
    let second: Vec<usize> = (0..500).filter(|r| *r >= 450).collect();
    let tail: Vec<i64> = first.iter().map(|r| *r as i64).chain(second.iter().map(|r| 400 + *r as i64)).collect();
    let files = vec![
        file(&store, "a.parquet", &rows(0..400), 100, first).await,
        file(&store, "b.parquet", &rows(400..900), 70, second).await,
    ];
    // What is dead would show: its ids stand elsewhere, or are beyond all others.
    let tail = vec![part(rows(tail.into_iter()), []), part(rows(850..1_000), 0..50), part(rows(2_000..2_100), 0..100)];
    view_of("orders", schema(), store, files, tail)
}

/// A time that no machine is too slow for.
pub const LONG: Duration = Duration::from_secs(600);

pub fn tenant(number: u8) -> TenantId {
    TenantId::from_bytes([number; 16])
}

pub fn engine(change: impl FnOnce(&mut QueryLimits)) -> QueryEngine {
    let mut limits = QueryLimits { timeout: LONG, ..QueryLimits::default() };
    change(&mut limits);
    QueryEngine::new(limits).unwrap()
}

pub async fn run(
    engine: &QueryEngine,
    views: &[Arc<ViewSnapshot>],
    sql: &str,
) -> Result<(SchemaRef, Vec<RecordBatch>), QueryError> {
    let result = engine.query(tenant(1), views.to_vec(), sql).await?;
    Ok((result.schema, result.batches.try_collect().await?))
}

/// The rows as CSV without the header, or the code of the error.
pub async fn csv(engine: &QueryEngine, views: &[Arc<ViewSnapshot>], sql: &str) -> String {
    match run(engine, views, sql).await {
        Ok((schema, batches)) => {
            let mut writer = ResultWriter::new(Format::Csv, schema, vec![]).unwrap();
            for batch in &batches {
                writer.write(batch).unwrap();
            }
            let text = String::from_utf8(writer.finish().unwrap()).unwrap();
            let rows: Vec<_> = text.lines().skip(1).collect();
            rows.join(" ")
        }
        Err(error) => error.code().to_owned(),
    }
}

/// The rows or the code once the engine has a place for the query.
pub async fn csv_in_a_place(engine: &QueryEngine, views: &[Arc<ViewSnapshot>], sql: &str) -> String {
    let answered = async {
        loop {
            match csv(engine, views, sql).await {
                busy if busy == "query_busy" => tokio::task::yield_now().await,
                answer => break answer,
            }
        }
    };
    tokio::time::timeout(LONG, answered).await.expect("a place becomes free")
}
