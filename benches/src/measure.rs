//! What work costs, and the one row that a program prints of it.

use std::fs;
use std::ops::AddAssign;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The kernel counts CPU time in ticks of a hundredth of a second, whatever its own clock is.
const TICKS_PER_SECOND: f64 = 100.0;

/// What some work cost this process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// User and system time of all threads.
    pub cpu_seconds: f64,
    /// Time of the clock.
    pub wall_seconds: f64,
    /// The greatest resident set, less what was resident when the work began.
    pub rss_bytes: u64,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.cpu_seconds += other.cpu_seconds;
        self.wall_seconds += other.wall_seconds;
        self.rss_bytes = self.rss_bytes.max(other.rss_bytes);
    }
}

/// Work that is being measured.
pub struct Running {
    cpu_seconds: f64,
    started: Instant,
    rss_bytes: u64,
}

impl Running {
    /// Begins.
    pub fn start() -> Result<Self> {
        // Has the kernel forget the peak so far. Where it may not, a greater one from before counts.
        let _ = fs::write("/proc/self/clear_refs", "5");
        Ok(Self { rss_bytes: status_bytes("VmRSS:")?, cpu_seconds: cpu_seconds()?, started: Instant::now() })
    }

    /// Ends.
    pub fn stop(self) -> Result<Cost> {
        Ok(Cost {
            wall_seconds: self.started.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds()? - self.cpu_seconds,
            rss_bytes: status_bytes("VmHWM:")?.saturating_sub(self.rss_bytes),
        })
    }
}

/// Prints what `name` cost for `records`, and what else there is to say, as one line of JSON.
pub fn print_row(question: &str, name: &str, records: u64, cost: &Cost, more: Value) {
    let mut row = json!({
        "question": question,
        "name": name,
        "records": records,
        "cpu_s_per_m": rounded(cost.cpu_seconds / records as f64 * 1e6),
        "rows_s": (records as f64 / cost.wall_seconds).round(),
        "rss_mb": (cost.rss_bytes as f64 / 1e6).round(),
    });
    if let (Value::Object(row), Value::Object(more)) = (&mut row, more) {
        row.extend(more);
    }
    println!("{row}");
}

/// Two or three digits behind the point are more than a measurement gives.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The value below which a part of all values lies; `None` of none.
pub fn percentile(values: &mut [f64], part: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let place = ((values.len() as f64 * part).ceil() as usize).clamp(1, values.len().max(1)) - 1;
    values.get(place).copied().map(rounded)
}

fn cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().context("the command in /proc/self/stat ends with a bracket")?;
    let mut ticks = 0;
    for field in fields.split_whitespace().skip(11).take(2) {
        ticks += field.parse::<u64>().context("/proc/self/stat counts in whole ticks")?;
    }
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

fn status_bytes(name: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let line = line.with_context(|| format!("the kernel does not tell {name}"))?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_there_before_is_not_counted() {
        let before = vec![1u8; 64 << 20];
        let running = Running::start().unwrap();
        let during = vec![1u8; 32 << 20];
        let cost = running.stop().unwrap();
        assert!(cost.rss_bytes >= during.len() as u64 / 2, "{cost:?}");
        assert!(cost.rss_bytes < before.len() as u64, "{cost:?}");
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 0.5), Some(50.0));
        assert_eq!(percentile(&mut values, 0.99), Some(99.0));
        assert_eq!(percentile(&mut values, 1.0), Some(100.0));
        assert_eq!(percentile(&mut [], 0.5), None);
    }
}
