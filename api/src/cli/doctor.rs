//! `doctor`: checks a folder and says what to do.

use pipeline::Stored;
use schemas::Topic;
use serde_json::json;

use crate::line::Line;
use crate::output::Output;

const READ_BYTES: usize = 4 << 20;

/// Reads every batch of the log, compares the register with the log, and measures the disk.
pub async fn run(line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    let mut sick = 0;
    let mut say = |check: &str, finding: Result<String, String>| {
        sick += usize::from(finding.is_err());
        let (state, text) = match finding {
            Ok(text) => ("ok", text),
            Err(text) => ("wrong", text),
        };
        rows.push(vec![json!(check), json!(state), json!(text)]);
    };
    for topic in Topic::ALL {
        say(&format!("log {topic}"), read_all(line, topic).await.map_err(|e| e.to_string()));
    }
    let version =
        format!("format {} of the data folder is the one that this build writes", pipeline::engine::FORMAT_VERSION);
    say("format", Ok(version));
    for (name, tenant) in line.tenants().await? {
        match line.views(tenant).await {
            Ok(views) => say(&format!("views of {name}"), Ok(format!("{} views open", views.len()))),
            Err(error) => say(&format!("views of {name}"), Err(format!("{error:#}: run autonomos views rebuild"))),
        }
    }
    say("fsync", measure_fsync(line));
    out.table(&["check", "state", "finding"], &rows)?;
    anyhow::ensure!(sick == 0, "{sick} checks found something wrong");
    Ok(())
}

async fn read_all(line: &Line, topic: Topic) -> anyhow::Result<String> {
    let (mut batches, mut items, mut bytes) = (0usize, 0u64, 0usize);
    for partition in 0..line.log.partitions(topic) {
        let mut next = 0;
        loop {
            let read = line.log.read(topic, partition, next, READ_BYTES).await?;
            let Some(end) = read.last().map(Stored::end) else { break };
            for stored in &read {
                stored.body(topic, partition)?;
                bytes += stored.packed.packed_bytes();
            }
            batches += read.len();
            next = end;
        }
        items += next;
    }
    Ok(format!("{items} items in {batches} batches, {bytes} bytes packed, every checksum right"))
}

/// Times a few small writes with fsync in the folder: what an acknowledged record costs here.
fn measure_fsync(line: &Line) -> Result<String, String> {
    let path = line.folder.join("doctor.tmp");
    let measure = || -> std::io::Result<Vec<u128>> {
        use std::io::Write;
        let mut file = std::fs::File::create(&path)?;
        let mut micros = Vec::new();
        for _ in 0..20 {
            let started = std::time::Instant::now();
            file.write_all(&[0; 4096])?;
            file.sync_data()?;
            micros.push(started.elapsed().as_micros());
        }
        Ok(micros)
    };
    let measured = measure();
    let removed = std::fs::remove_file(&path);
    match (measured, removed) {
        (Ok(mut micros), Ok(())) => {
            micros.sort_unstable();
            Ok(format!("median {} µs, slowest {} µs", micros[micros.len() / 2], micros[micros.len() - 1]))
        }
        (Err(error), _) | (_, Err(error)) => Err(format!("the folder cannot be written: {error}")),
    }
}
