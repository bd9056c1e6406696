//! `doctor`: checks a folder, sick or well, and says what to do.

mod log;
mod servers;
mod streams;

use std::path::Path;

use pipeline::engine::{FORMAT_VERSION, format_version, free_and_total_bytes};
use serde_json::{Value, json};

use crate::backends::{Backends, Sections};
use crate::line::Line;
use crate::output::Output;
use crate::serve::config::{self, Settings};

/// With less free than this, or than a twentieth of the disk where that is less, something is to be done.
const FREE_BYTES_MIN: u64 = 1 << 30;

const FROM_BACKUP: &str = "stop writing, and restore the folder from a backup";

/// What the checks found, one row each.
#[derive(Default)]
struct Findings {
    rows: Vec<Vec<Value>>,
    failed: usize,
}

impl Findings {
    fn ok(&mut self, check: &str, finding: impl Into<String>) {
        self.rows.push(vec![json!(check), json!("ok"), json!(finding.into()), Value::Null]);
    }
    fn failed(&mut self, check: &str, finding: impl Into<String>, what_to_do: &str) {
        self.failed += 1;
        self.rows.push(vec![json!(check), json!("failed"), json!(finding.into()), json!(what_to_do)]);
    }
    /// One row: what was found wrong, or `fine`.
    fn all(&mut self, check: &str, wrong: &[String], fine: impl Into<String>, what_to_do: &str) {
        match wrong {
            [] => self.ok(check, fine),
            wrong => self.failed(check, wrong.join("; "), what_to_do),
        }
    }
    /// Says all of it.
    fn say(&self, out: &mut dyn Output) -> anyhow::Result<()> {
        Ok(out.table(&["check", "state", "finding", "what_to_do"], &self.rows)?)
    }
    /// Fails when something was found wrong.
    fn outcome(&self) -> anyhow::Result<()> {
        match self.failed {
            0 => Ok(()),
            failed => anyhow::bail!("{failed} of {} checks failed", self.rows.len()),
        }
    }
}

/// What the checks of the servers came to.
pub struct Servers {
    /// Where log, store and views are.
    pub backends: Backends,
    /// Whether the line may be opened on them. Where something is wrong, nothing that is not there yet is made.
    pub may_be_opened: bool,
    outcome: anyhow::Result<()>,
}

impl Servers {
    /// What the doctor came to, the checks of the folder included. What is wrong at the servers fails it, whatever the rest is.
    pub fn and(self, folder: anyhow::Result<()>) -> anyhow::Result<()> {
        match (self.outcome, folder) {
            (Ok(()), folder) => folder,
            (Err(servers), Ok(())) => Err(servers.context("at the servers")),
            (Err(servers), Err(folder)) => Err(folder.context(format!("at the servers: {servers:#}; then"))),
        }
    }
}

/// Checks the servers that log and store are on, and the place of views, if any is outside the data folder, before anything
/// is opened there, and says what was found and what to do. A file that cannot be read is a finding of [`run`], if the folder
/// opens without it.
pub async fn servers(folder: &Path, out: &mut dyn Output) -> anyhow::Result<Servers> {
    let backends = Backends::of_folder(folder).or_else(|error| {
        tracing::warn!("{error:#}");
        Backends::read(Sections::default(), folder)
    })?;
    if backends.are_embedded() && backends.views.is_none() {
        return Ok(Servers { backends, may_be_opened: true, outcome: Ok(()) });
    }
    let mut findings = Findings::default();
    let is_there = servers::check(&backends, &mut findings).await;
    findings.say(out)?;
    Ok(Servers { backends, may_be_opened: is_there || findings.failed == 0, outcome: findings.outcome() })
}

/// Checks the folder's format and disk, every batch of the log, what the store says of it, and each view.
pub async fn run(line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let mut findings = Findings::default();
    format(line, &mut findings);
    disk(line, &mut findings);
    fsync(line, &mut findings);
    model(line, &mut findings);
    let counted = streams::counted(line).await?;
    let seen = log::read(line, &counted, &mut findings).await?;
    log::checkpoints(line, &mut findings).await?;
    log::oddities(line, &mut findings).await?;
    streams::register(line, &seen, &mut findings).await?;
    streams::counters(&counted, &seen, &mut findings);
    views(line, &mut findings).await?;
    if line.has_peers() {
        servers::shares(&*line.store, line.shared_roles(), &mut findings).await?;
    }
    // Last: a role that meets what is wrong has stopped by now.
    match line.failure() {
        None => findings.ok("roles", "every role runs"),
        Some(failure) => findings.failed("roles", failure, "see the checks above, then start again"),
    }
    findings.say(out)?;
    findings.outcome()
}

fn format(line: &Line, findings: &mut Findings) {
    match format_version(&line.folder) {
        Ok(Some(version)) => findings.ok("format", format!("version {version}, this build writes {FORMAT_VERSION}")),
        Ok(None) => findings.failed("format", "the file format is gone", FROM_BACKUP),
        Err(error) => findings.failed("format", error.to_string(), FROM_BACKUP),
    }
}

fn disk(line: &Line, findings: &mut Findings) {
    match free_and_total_bytes(&line.folder) {
        Ok((free, total)) => {
            let text = format!("{} of {} MiB free", free >> 20, total >> 20);
            if free < FREE_BYTES_MIN.min(total / 20) {
                findings.failed("disk", text, "free some room in the data folder's filesystem");
            } else {
                findings.ok("disk", text);
            }
        }
        Err(error) => findings.failed("disk", error.to_string(), "make sure that the disk works"),
    }
}

/// Times a few small writes with fsync in the folder: what an acknowledged record costs here.
fn fsync(line: &Line, findings: &mut Findings) {
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
            let (median, slowest) = (micros[micros.len() / 2], micros[micros.len() - 1]);
            findings.ok("fsync", format!("median {median} µs, slowest {slowest} µs"));
        }
        (Err(error), _) | (_, Err(error)) => {
            let text = format!("the folder cannot be written: {error}");
            findings.failed("fsync", text, "make sure that the folder is yours and the disk has room");
        }
    }
}

/// Whether `autonomos.yaml` can be read, and which language model is asked, if one is: this process's, or the one that a server
/// over the folder would read of.
fn model(line: &Line, findings: &mut Findings) {
    let read = config::read(&line.folder.join("autonomos.yaml"), false);
    if let Err(error) = &read {
        findings.failed("configuration", format!("{error:#}"), "mend autonomos.yaml");
    }
    let check = "language model";
    match (&line.asking, read) {
        (Some(asking), _) => findings.ok(check, format!("{} is asked what stays uncertain", asking.model())),
        (None, Ok(Settings { llm: Some(llm), .. })) => findings.ok(check, format!("a server asks {}", llm.told())),
        (None, Ok(_)) => findings.ok(check, "none is set up, so none is asked"),
        (None, Err(_)) => {}
    }
}

async fn views(line: &Line, findings: &mut Findings) -> anyhow::Result<()> {
    for (name, tenant) in line.tenants().await? {
        for view in line.views(tenant).await? {
            let check = format!("view {} of {name}", view.table);
            match (view.stopped(), &view.info) {
                (Some(why), _) => {
                    let rebuild = format!("autonomos views rebuild --tenant {name} {}", view.entity);
                    findings.failed(&check, why, &rebuild);
                }
                (None, Ok(info)) => {
                    findings.ok(&check, format!("{} rows in {} files, at {}", info.rows, info.files, info.position));
                }
                (None, Err(error)) => findings.failed(&check, error.to_string(), "autonomos views rebuild"),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_at_the_servers_fails_the_doctor_whatever_the_folder_is_and_hides_nothing_of_it() {
        let told = |servers: usize, folder: usize| {
            let findings = |failed| Findings { rows: vec![Vec::new(); 5], failed };
            let outcome = findings(servers).outcome();
            let servers = Servers { backends: Backends::default(), may_be_opened: true, outcome };
            servers.and(findings(folder).outcome()).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(told(0, 0), Ok(()));
        assert_eq!(told(0, 2), Err("2 of 5 checks failed".into()));
        assert_eq!(told(1, 0), Err("at the servers: 1 of 5 checks failed".into()));
        assert_eq!(told(1, 2), Err("at the servers: 1 of 5 checks failed; then: 2 of 5 checks failed".into()));
    }
}
