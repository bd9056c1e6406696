use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use projections::sql::RowsPage;

use crate::data::*;

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

#[tokio::test]
async fn dead_rows_are_left_out_and_the_tail_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let local: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new_with_prefix(dir.path()).unwrap());
    let engine = engine(|_| {});
    for store in [memory(), local] {
        let views = [orders(store).await];
        for (sql, rows) in [
            ("SELECT count(*) FROM orders", "1000"),
            ("SELECT count(*), count(DISTINCT id), sum(id), min(id), max(id) FROM orders", "1000,1000,499500,0,999"),
            ("SELECT count(*) FROM orders WHERE id BETWEEN 100 AND 299", "200"),
            ("SELECT count(*) FROM orders WHERE id >= 850", "150"),
            ("SELECT count(country) FROM orders", "909"),
            ("SELECT sum(amount) FROM orders", "124875.00"),
            ("SELECT id FROM orders WHERE id = 777", "777"),
            ("SELECT count(*) FROM (SELECT id FROM orders LIMIT 900) AS o", "900"),
            ("SELECT id FROM orders ORDER BY id DESC LIMIT 3", "999 998 997"),
            (
                "SELECT id, at FROM orders ORDER BY at LIMIT 2 OFFSET 61",
                "61,1970-01-01T00:01:01Z 62,1970-01-01T00:01:02Z",
            ),
        ] {
            assert_eq!(csv(&engine, &views, sql).await, rows, "{sql}");
        }
    }
}

#[tokio::test]
async fn a_page_is_filtered_by_times_to_the_end_of_the_calendar() {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = Arc::new(Schema::new(vec![
        text("_connection"),
        text("_stream"),
        text("_key"),
        Field::new("at", time, true),
        Field::new("day", DataType::Date32, true),
    ]));
    let last = schemas::time::MAX_TIMESTAMP;
    let days = schemas::time::parse_date("9999-12-31").unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["crm", "crm"])),
        Arc::new(StringArray::from(vec!["deals", "deals"])),
        Arc::new(StringArray::from(vec!["a", "b"])),
        Arc::new(TimestampMicrosecondArray::from(vec![last - 1, last]).with_timezone("UTC")),
        Arc::new(Date32Array::from(vec![days - 1, days])),
    ];
    let rows = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let views = [view("deals", schema.clone(), memory(), vec![], vec![rows])];
    for (filter, expected) in [
        ("at:eq:9999-12-31T23:59:59.999999Z", "b"),
        ("at:lt:9999-12-31T23:59:59.999999Z", "a"),
        ("at:gt:2262-04-11T23:47:16.854775Z", "a b"),
        ("day:eq:9999-12-31", "b"),
        ("day:lte:9999-12-30", "a"),
    ] {
        let page = RowsPage { filters: vec![filter.into()], limit: 5, ..RowsPage::default() };
        let sql = page.to_sql("deals", &schema).unwrap().replace("SELECT *", "SELECT _key");
        assert_eq!(csv(&engine(|_| {}), &views, &sql).await, expected, "{filter}");
    }
}

#[tokio::test]
async fn queries_of_every_kind_are_answered() {
    let engine = engine(|_| {});
    let people = RecordBatch::try_from_iter([("person", Arc::new(Int64Array::from_iter_values(0..5)) as _)]).unwrap();
    let people = view("people", people.schema(), memory(), vec![], vec![people]);
    let views = [orders(memory()).await, people];
    for (sql, rows) in [
        (
            "SELECT country, count(*) AS n FROM orders GROUP BY country ORDER BY country NULLS LAST",
            "at,181 ch,182 de,182 fr,182 it,182 ,91",
        ),
        (
            "SELECT person, count(id) FROM people JOIN orders ON person = id % 5 GROUP BY person ORDER BY 1 LIMIT 2",
            "0,200 1,200",
        ),
        ("SELECT person FROM people LEFT JOIN orders ON id = person + 998 WHERE id IS NULL ORDER BY 1", "2 3 4"),
        (
            "WITH big AS (SELECT * FROM orders WHERE id > 990) SELECT count(*) FROM big AS a JOIN big AS b USING (id)",
            "9",
        ),
        ("SELECT id, sum(id) OVER (ORDER BY id) FROM orders WHERE id < 4 ORDER BY id", "0,0 1,1 2,3 3,6"),
        ("SELECT id, lag(id) OVER (ORDER BY id) FROM orders WHERE id < 3 ORDER BY id", "0, 1,0 2,1"),
        ("SELECT id FROM orders WHERE id < 2 UNION ALL SELECT person FROM people WHERE person = 4 ORDER BY 1", "0 1 4"),
        ("SELECT person FROM people WHERE person IN (SELECT id FROM orders WHERE id > 2) ORDER BY 1", "3 4"),
        ("SELECT count(*) FROM people WHERE EXISTS (SELECT 1 FROM orders WHERE id = person * 400)", "3"),
        ("SELECT (SELECT max(id) FROM orders) - min(person) FROM people", "999"),
        ("SELECT a.person, b.person FROM people a CROSS JOIN people b WHERE a.person + b.person = 8", "4,4"),
        ("SELECT 'a' || id || NULL, 'a' || id, concat('a', NULL, id) FROM orders WHERE id = 1", ",a1,a1"),
        ("SELECT upper(country) FROM orders WHERE country LIKE '%h' ORDER BY id LIMIT 1", "CH"),
        (
            "SELECT date_trunc('minute', at), extract(second FROM at) FROM orders WHERE id = 61",
            "1970-01-01T00:01:00Z,1",
        ),
        (
            "SELECT CASE WHEN id > 500 THEN 'big' ELSE 'small' END AS c, count(*) FROM orders GROUP BY c ORDER BY c",
            "big,499 small,501",
        ),
        ("SELECT count(*) FROM orders GROUP BY ROLLUP (country) ORDER BY 1 DESC LIMIT 1", "1000"),
        (
            "SELECT [1, 2, 3][2:3], substring('abcd' FROM 2 FOR 2), overlay('abcd' PLACING 'x' FROM 2 FOR 2), array_agg(person)[1] FROM people WHERE person = 4",
            "\"[2, 3]\",bc,axd,4",
        ),
        ("SELECT [1, 2][1], array_length([1, 2] || [3]), array_to_string([1, 2], '-')", "1,3,1-2"),
        (
            "SELECT replace('a.b', '.', '-'), regexp_replace('abc', '[ab]', 'x', 'g'), to_char(DATE '2026-01-02', '%d.%m.')",
            "a-b,xxc,02.01.",
        ),
        ("SELECT string_agg(person, ',' ORDER BY person) FROM people", "\"0,1,2,3,4\""),
        ("VALUES (1), (2)", "1 2"),
        ("SELECT count(*) FROM orders WHERE country = 'de' OR id IN (1, 2, 3)", "184"),
    ] {
        assert_eq!(csv(&engine, &views, sql).await, rows, "{sql}");
    }
}

#[tokio::test]
async fn a_dead_row_cannot_even_cause_an_error() {
    let store = memory();
    let files = vec![file(&store, "a.parquet", &rows(0..100), 30, [0]).await];
    let views = [view("orders", schema(), store, files, vec![])];
    let sql = "SELECT count(*) FROM orders WHERE 100 / id >= 2";
    assert_eq!(csv(&engine(|_| {}), &views, sql).await, "50");
}

#[tokio::test]
async fn a_column_that_a_file_lacks_is_null_there() {
    let store = memory();
    let narrow = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from_iter_values(0..10)) as _)]).unwrap();
    let old = file(&store, "old.parquet", &narrow, 4, [2]).await;
    let new = file(&store, "new.parquet", &rows(10..20), 100, []).await;
    let mut fields: Vec<_> = schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("note", DataType::Utf8, true)));
    let wide = Arc::new(Schema::new(fields));
    let tail = vec![rows(20..25), narrow.slice(2, 1)];
    let views = [view("orders", wide, store, vec![old, new], tail)];
    let engine = engine(|_| {});
    for (sql, rows) in [
        ("SELECT count(*), count(amount), count(note) FROM orders", "25,15,0"),
        ("SELECT id FROM orders WHERE country IS NULL AND id > 6 ORDER BY id", "7 8 9 11 22"),
        ("SELECT sum(id) FROM orders WHERE amount > 5", "90"),
        ("SELECT count(*) FROM orders WHERE note = 'x'", "0"),
    ] {
        assert_eq!(csv(&engine, &views, sql).await, rows, "{sql}");
    }
}

#[tokio::test]
async fn empty_views_and_views_without_files_are_tables_too() {
    let store = memory();
    let all_dead = file(&store, "dead.parquet", &rows(0..10), 4, 0..10).await;
    let engine = engine(|_| {});
    let empty = [view("orders", schema(), memory(), vec![], vec![])];
    let dead = [view("orders", schema(), store, vec![all_dead], vec![rows(0..0)])];
    let tail = [view("orders", schema(), memory(), vec![], vec![rows(0..3)])];
    for (views, count, ids) in [(empty, "0", ""), (dead, "0", ""), (tail, "3", "0 1 2")] {
        assert_eq!(csv(&engine, &views, "SELECT count(*) FROM orders").await, count);
        assert_eq!(csv(&engine, &views, "SELECT id FROM orders WHERE id < 100 ORDER BY id").await, ids);
    }
}

#[tokio::test]
async fn own_tables_are_listed_and_described() {
    let engine = engine(|_| {});
    let views = [orders(memory()).await];
    let names =
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'orders' ORDER BY ordinal_position";
    assert_eq!(csv(&engine, &views, "SHOW TABLES").await, "views,public,orders,VIEW");
    assert_eq!(csv(&engine, &views, names).await, "id country amount at");
    assert!(csv(&engine, &views, "DESCRIBE orders").await.starts_with("id,Int64,NO country,Utf8View,YES amount,"));
    assert!(csv(&engine, &views, "SHOW COLUMNS FROM orders").await.starts_with("views,public,orders,id,"));
    assert_eq!(csv(&engine, &views, "DESCRIBE nothing").await, "sql_invalid");
}
