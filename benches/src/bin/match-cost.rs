//! What matching costs: per case of a file, and for two sides of many fields.
//!
//! usage: match-cost [crm|drift CASES.json]

use std::time::{Duration, Instant};

use matcher::cases::{self, Kind};
use matcher::{Field, Matcher, Problem, Task};
use serde_json::json;

const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let matcher = Matcher::default();
    // The tables of words are read once in a process.
    let begun = Instant::now();
    matcher.find(&sides(1), Task::Drift, &[])?;
    println!("first answer of a process        {:>10.1} ms", milliseconds(begun.elapsed()));
    if let [kind, file] = args.as_slice() {
        let (kind, task) = if kind == "crm" { (Kind::Crm, Task::Onboard) } else { (Kind::Drift, Task::Drift) };
        let cases = cases::read(kind, std::fs::File::open(file)?)?;
        let pairs: usize = cases.iter().map(|c| c.problem.sources.len() * c.problem.targets.len()).sum();
        let spent = least(|| cases.iter().for_each(|case| drop(matcher.find(&case.problem, task, &[]))));
        let per_case = milliseconds(spent) / cases.len().max(1) as f64;
        println!("{} cases, {pairs} pairs: {per_case:.3} ms a case, {:.1} ms in all", cases.len(), milliseconds(spent));
    }
    for count in [10, 100, 300, 1000] {
        let problem = sides(count);
        let spent = least(|| drop(matcher.find(&problem, Task::Drift, &[])));
        println!("{count:>4} x {count:<4} fields               {:>10.1} ms", milliseconds(spent));
    }
    Ok(())
}

/// The shortest of some rounds: what is longer was disturbed.
fn least(mut work: impl FnMut()) -> Duration {
    let round = |_| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    (0..ROUNDS).map(round).min().unwrap_or_default()
}

fn milliseconds(spent: Duration) -> f64 {
    spent.as_secs_f64() * 1e3
}

/// Fields of all sorts of words, in two spellings.
fn sides(count: usize) -> Problem {
    const FIRST: [&str; 10] =
        ["order", "customer", "invoice", "shipping", "payment", "product", "tax", "owner", "partner", "ticket"];
    const LAST: [&str; 10] = ["id", "name", "date", "amount", "status", "type", "count", "code", "email", "note"];
    let field = |i: usize, glue: &str| Field {
        name: [FIRST[i % 10], LAST[i / 10 % 10], &(i / 100).to_string()].join(glue),
        samples: (0..8).map(|n| json!(format!("value {}", i * 8 + n))).collect(),
        ..Field::default()
    };
    Problem {
        sources: (0..count).map(|i| field(i, "_")).collect(),
        targets: (0..count).map(|i| field(count - 1 - i, ".")).collect(),
        ..Problem::default()
    }
}
