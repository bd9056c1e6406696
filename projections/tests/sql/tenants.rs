//! Queries of one tenant while another has tables of the same and of other names, in the same engine.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _};
use projections::ViewSnapshot;

use crate::data::*;

const CANARY: &str = "canary";

/// A view whose file has the same path in every tenant's store, with the tenant's mark in every row.
async fn marked(table: &str, mark: &str, count: usize) -> Arc<ViewSnapshot> {
    let values = (0..count).map(|i| format!("{mark}-{i}"));
    let batch = RecordBatch::try_from_iter([("v", Arc::new(StringArray::from_iter_values(values)) as _)]).unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let files = vec![file(&store, "part-0.parquet", &batch, 10, [1]).await];
    assert!(store.head(&files[0].path).await.is_ok());
    view(table, batch.schema(), store, files, vec![batch.slice(1, 1)])
}

/// Small numbers that look random and are always the same.
struct Numbers(u64);

impl Numbers {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        from[(self.0 % from.len() as u64) as usize]
    }
}

fn statement(numbers: &mut Numbers, depth: usize) -> String {
    let table = numbers.pick(&[
        "mine",
        "mine",
        "both",
        "both",
        "theirs",
        "\"theirs\"",
        "THEIRS",
        "public.theirs",
        "views.public.theirs",
        "tenant_b.public.both",
        "datafusion.public.theirs",
        "information_schema.tables",
        "information_schema.columns",
        "'part-0.parquet'",
        "\"part-0.parquet\"",
        "'views://1/part-0.parquet'",
        "\"Mine\"",
        "\"ｔheirs\"",
    ]);
    let table = match depth {
        0 => table.to_owned(),
        _ => format!("({}) AS q{depth}", statement(numbers, depth - 1)),
    };
    let columns = numbers.pick(&["*", "count(*)", "v", "v AS tenant", "max(v)", "upper(v)", "'a' || v"]);
    let filter = numbers.pick(&[
        "",
        "",
        "WHERE v LIKE '%'",
        "WHERE v = 'x' OR true",
        "WHERE 1 = 1 OR v = 'tenant_b'",
        "WHERE v IN (SELECT v FROM theirs)",
        "WHERE EXISTS (SELECT 1 FROM both)",
        "WHERE v > (SELECT min(v) FROM both)",
    ]);
    let query = format!("SELECT {columns} FROM {table} {filter}");
    match numbers.pick(&["plain", "plain", "union", "shadow", "join"]) {
        "union" => format!("{query} UNION ALL SELECT {columns} FROM both"),
        "shadow" => format!("WITH both AS (SELECT * FROM mine), theirs AS (SELECT * FROM both) {query}"),
        "join" => format!("SELECT a.v FROM both a JOIN mine b ON a.v = b.v {}", filter.replace("v ", "a.v ")),
        _ => query,
    }
}

fn holds_canary(batch: &RecordBatch) -> bool {
    batch.columns().iter().any(|column| match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().iter().flatten().any(|v| v.to_lowercase().contains(CANARY)),
        DataType::Utf8View => column.as_string_view().iter().flatten().any(|v| v.to_lowercase().contains(CANARY)),
        _ => false,
    })
}

#[tokio::test]
async fn ten_thousand_statements_never_read_a_table_that_was_not_given() {
    let engine = engine(|_| {});
    let theirs = [marked("theirs", CANARY, 40).await, marked("both", CANARY, 40).await];
    let mine = [marked("mine", "own", 20).await, marked("both", "own", 30).await];
    // The other tenant's footers are in the cache under the same paths.
    assert_eq!(csv(&engine, &theirs, "SELECT count(DISTINCT v) FROM both").await, "40");
    let mut numbers = Numbers(0x5eed);
    let mut answered = 0;
    for i in 0..10_000 {
        let sql = statement(&mut numbers, i % 3);
        match run(&engine, &mine, &sql).await {
            Ok((_, batches)) => {
                answered += 1;
                assert!(!batches.iter().any(holds_canary), "{sql}");
            }
            Err(error) => {
                assert!(["sql_invalid", "sql_forbidden"].contains(&error.code()), "{sql}: {error}");
                assert!(!error.to_string().contains(CANARY), "{sql}: {error}");
            }
        }
    }
    assert!(answered > 1_000, "{answered}");
    assert_eq!(csv(&engine, &mine, "SELECT count(DISTINCT v) FROM both WHERE v LIKE 'own%'").await, "30");
}

#[tokio::test]
async fn a_query_that_shadows_a_table_reads_only_given_ones() {
    let engine = engine(|_| {});
    let mine = [marked("mine", "own", 20).await];
    for (sql, rows) in [
        ("WITH theirs AS (SELECT * FROM mine) SELECT count(*) FROM theirs", "20"),
        ("WITH mine AS (SELECT * FROM mine WHERE v = 'own-1') SELECT * FROM mine", "own-1"),
        ("SELECT count(*) FROM mine AS theirs", "20"),
        ("SELECT count(*) FROM theirs", "sql_invalid"),
        ("SELECT count(*) FROM mine UNION SELECT count(*) FROM theirs", "sql_invalid"),
    ] {
        assert_eq!(csv(&engine, &mine, sql).await, rows, "{sql}");
    }
}
