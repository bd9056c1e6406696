//! Queries of one tenant while another has tables of the same and of other names, in the same engine.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use projections::ViewSnapshot;

use crate::data::*;

const CANARY: &str = "canary";

/// A view in its tenant's folder of the store that all tenants share, with the tenant's mark in every row.
async fn marked(store: &Arc<dyn ObjectStore>, tenant: &str, table: &str, mark: &str) -> Arc<ViewSnapshot> {
    let values = (0..30).map(|i| format!("{mark}-{i}"));
    let batch = RecordBatch::try_from_iter([("v", Arc::new(StringArray::from_iter_values(values)) as _)]).unwrap();
    let files = vec![file(store, &format!("{tenant}/{table}/part-0.parquet"), &batch, 10, [1]).await];
    view(table, batch.schema(), Arc::clone(store), files, vec![batch.slice(1, 1)])
}

fn shared() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
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
        "'b/theirs/part-0.parquet'",
        "'views://0/b/both/part-0.parquet'",
        "\"../b/both/part-0.parquet\"",
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
    let store = shared();
    let theirs = [marked(&store, "b", "theirs", CANARY).await, marked(&store, "b", "both", CANARY).await];
    let mine = [marked(&store, "a", "mine", "own").await, marked(&store, "a", "both", "own").await];
    // The other tenant's footers are in the cache, under the same store.
    assert_eq!(csv(&engine, &theirs, "SELECT count(DISTINCT v) FROM both").await, "30");
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
    let mine = [marked(&shared(), "a", "mine", "own").await];
    for (sql, rows) in [
        ("WITH theirs AS (SELECT * FROM mine) SELECT count(*) FROM theirs", "30"),
        ("WITH mine AS (SELECT * FROM mine WHERE v = 'own-1') SELECT * FROM mine", "own-1"),
        ("SELECT count(*) FROM mine AS theirs", "30"),
        ("SELECT count(*) FROM theirs", "sql_invalid"),
        ("SELECT count(*) FROM mine UNION SELECT count(*) FROM theirs", "sql_invalid"),
    ] {
        assert_eq!(csv(&engine, &mine, sql).await, rows, "{sql}");
    }
}

#[tokio::test]
async fn the_same_path_in_the_stores_of_two_tenants_is_two_files() {
    let engine = engine(|_| {});
    for (mark, count) in [("one", 20), ("two", 30)] {
        let store = shared();
        let values = StringArray::from_iter_values((0..count).map(|i| format!("{mark}-{i}")));
        let batch = RecordBatch::try_from_iter([("v", Arc::new(values) as _)]).unwrap();
        let files = vec![file(&store, "both/part-0.parquet", &batch, 10, [1]).await];
        let views = [view("both", batch.schema(), store, files, vec![])];
        let sql = format!("SELECT count(*) FROM both WHERE v LIKE '{mark}-%'");
        assert_eq!(csv(&engine, &views, &sql).await, (count - 1).to_string());
    }
}

#[tokio::test]
async fn a_view_with_a_file_from_another_folder_is_not_read() {
    let engine = engine(|_| {});
    let store = shared();
    let theirs = marked(&store, "b", "both", CANARY).await;
    let mut mine = ViewSnapshot::clone(&*marked(&store, "a", "both", "own").await);
    mine.files.extend(theirs.files.iter().cloned());
    let error = run(&engine, &[Arc::new(mine)], "SELECT v FROM both").await.unwrap_err();
    assert_eq!(error.code(), "query_failed");
    assert!(!error.to_string().contains(CANARY) && !error.to_string().contains("folder"), "{error}");
}
