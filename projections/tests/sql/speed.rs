//! Figures, printed: `cargo test -p projections --test sql speed -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;

use crate::data::*;

const ROWS: i64 = 1_000_000;
const QUERY: &str = "SELECT country, count(*), sum(amount), max(id) FROM orders WHERE id % 10 < 7 GROUP BY country";

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures time"]
async fn a_query_over_a_view_against_one_over_plain_parquet() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new_with_prefix(dir.path()).unwrap());
    let all = rows(0..ROWS);
    let plain = file(&store, "a.parquet", &all, 128 << 10, []).await;
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    let path = format!("{}/a.parquet", dir.path().display());
    context.register_parquet("orders", path, ParquetReadOptions::default()).await.unwrap();
    let engine = engine(|_| {});
    for percent in [0, 1, 10, 30] {
        // Pseudo-random rows, the worst case for selections.
        let is_dead = |row: &usize| (row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % 100 < percent;
        let dead: Vec<usize> = (0..ROWS as usize).filter(is_dead).collect();
        let moved: Vec<i64> = dead.iter().map(|r| *r as i64).collect();
        let tail = moved.chunks(8_192).map(|ids| rows(ids.iter().copied())).collect();
        let mut set = projections::RowSet::default();
        dead.iter().for_each(|r| {
            set.insert(*r);
        });
        let split = projections::FileSnapshot { dead: Arc::new(set), ..plain.clone() };
        let views = [view("orders", schema(), Arc::clone(&store), vec![split], tail)];
        for sql in [
            QUERY,
            "SELECT sum(id) FROM orders WHERE amount > 100",
            "SELECT count(*) FROM orders WHERE country = 'de'",
            "SELECT count(*) FROM orders",
        ] {
            let (mut ours, mut theirs) = (vec![], vec![]);
            for _ in 0..21 {
                let started = Instant::now();
                context.sql(sql).await.unwrap().collect().await.unwrap();
                theirs.push(started.elapsed());
                let started = Instant::now();
                run(&engine, &views, sql).await.unwrap();
                ours.push(started.elapsed());
            }
            let (ours, theirs) = (median(ours), median(theirs));
            let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
            println!("{percent:>3} % dead: {ours:>9.1?} plain {theirs:>9.1?} ratio {ratio:.2}  {sql}");
        }
    }
}

#[tokio::test]
#[ignore = "measures time"]
async fn the_largest_statements_that_are_planned() {
    let engine = engine(|_| {});
    let views = [orders(Arc::new(object_store::memory::InMemory::new())).await];
    let chain = |item: &str, separator: &str, count: usize| vec![item; count].join(separator);
    let mut selects = "SELECT id AS x FROM orders".to_owned();
    for i in 0..12 {
        selects = format!("SELECT x + x AS x FROM ({selects}) AS s{i} WHERE x > 1");
    }
    for (name, sql) in [
        ("nothing", "SELECT 1".to_owned()),
        ("sum of constants", format!("SELECT {}", chain("1", "+", 500))),
        ("sum of columns", format!("SELECT max({}) FROM orders", chain("id", "+", 500))),
        ("ORs", format!("SELECT count(*) FROM orders WHERE {}", chain("id=1", " OR ", 250))),
        (
            "different ORs",
            format!(
                "SELECT count(*) FROM orders WHERE {}",
                (0..250).map(|i| format!("id={i}")).collect::<Vec<_>>().join(" OR ")
            ),
        ),
        (
            "ANDs of ORs",
            format!(
                "SELECT count(*) FROM orders WHERE {}",
                (0..120).map(|i| format!("(id<>{i} OR amount>{i})")).collect::<Vec<_>>().join(" AND ")
            ),
        ),
        (
            "CASE",
            format!(
                "SELECT max(CASE {} END) FROM orders",
                (0..240).map(|i| format!("WHEN id={i} THEN {i}")).collect::<Vec<_>>().join(" ")
            ),
        ),
        ("64 unions", chain("SELECT id, country FROM orders", " UNION ALL ", 64)),
        (
            "32 joins",
            format!(
                "SELECT count(*) FROM orders o {}",
                (0..32).map(|i| format!("JOIN orders o{i} ON o.id=o{i}.id")).collect::<Vec<_>>().join(" ")
            ),
        ),
        ("columns of columns", selects),
        (
            "IN list",
            format!(
                "SELECT count(*) FROM orders WHERE id IN ({})",
                (0..10_000).map(|i| i.to_string()).collect::<Vec<_>>().join(",")
            ),
        ),
        (
            "columns",
            format!("SELECT {} FROM orders", (0..1_900).map(|i| format!("id AS c{i}")).collect::<Vec<_>>().join(",")),
        ),
        ("40 deep", format!("SELECT {}1{}", "(".repeat(40), ")".repeat(40))),
        ("38 subqueries", format!("{}SELECT 1{}", "SELECT * FROM (".repeat(38), ")".repeat(38))),
    ] {
        let started = Instant::now();
        let code = run(&engine, &views, &sql).await.map_or_else(|e| e.code(), |_| "ok");
        println!("{name:>20}: {:>9.1?} {code}", started.elapsed());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|l| l.starts_with("VmHWM")).unwrap());
}
