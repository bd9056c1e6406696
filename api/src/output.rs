//! Where a command's answer goes: the terminal, a file, or a socket to the process that asked.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pipeline::onboarding::visible;
use serde::Serialize;
use serde_json::Value;

/// Where a command's answer goes.
pub trait Output: Send {
    /// Bytes of the answer.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()>;
    /// How far the work is; shown, not part of the answer.
    fn progress(&mut self, progress: &Progress);
    /// Whether the answer is wanted in JSON.
    fn json(&self) -> bool;
}

/// How far an ingest is.
#[derive(Debug, Clone, Default, Serialize, serde::Deserialize)]
pub struct Progress {
    /// Records that are durable in `inputs`, of this run.
    pub acknowledged: u64,
    /// Bytes of the source read.
    pub source_bytes: u64,
    /// Bytes of the source in all, 0 when unknown.
    pub source_bytes_total: u64,
    /// What is being done.
    pub stage: String,
}

impl dyn Output + '_ {
    /// A line of text.
    pub fn line(&mut self, text: &str) -> std::io::Result<()> {
        self.write(text.as_bytes())?;
        self.write(b"\n")
    }
    /// A line for people with names and values of anybody's making: they say nothing to the terminal.
    pub fn tell(&mut self, text: &str) -> std::io::Result<()> {
        self.line(&visible(text))
    }
    /// A value as one line of JSON.
    pub fn value(&mut self, value: &impl Serialize) -> std::io::Result<()> {
        let text = serde_json::to_string(value)?;
        self.line(&text)
    }
    /// Rows as a table for people, in which nothing says anything to the terminal, or one JSON object a line.
    pub fn table(&mut self, columns: &[&str], rows: &[Vec<Value>]) -> std::io::Result<()> {
        if self.json() {
            for row in rows {
                let object: serde_json::Map<String, Value> =
                    columns.iter().map(|c| (*c).to_owned()).zip(row.iter().cloned()).collect();
                self.value(&object)?;
            }
            return Ok(());
        }
        let cells: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(plain).collect()).collect();
        let widths: Vec<usize> = columns
            .iter()
            .enumerate()
            .map(|(at, name)| cells.iter().map(|row| row[at].chars().count()).chain([name.len()]).max().unwrap_or(0))
            .collect();
        let print = |row: &[String]| {
            let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            padded.join("  ").trim_end().to_owned()
        };
        let header: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
        self.line(&print(&header))?;
        for row in &cells {
            self.line(&print(row))?;
        }
        Ok(())
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => visible(text),
        Value::Null => String::new(),
        other => visible(&other.to_string()),
    }
}

/// An [`Output`] as a `std::io::Write`.
pub struct Writer<'a>(pub &'a mut dyn Output);

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Nobody looks.
pub struct Silent;

impl Output for Silent {
    fn write(&mut self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
    fn progress(&mut self, _: &Progress) {}
    fn json(&self) -> bool {
        true
    }
}

/// Whoever read the answer has seen enough, as `head` does.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the answer any more")]
struct ReaderGone;

/// Whether a command ended early because nobody reads its answer, and for no other reason.
pub fn is_reader_gone(error: &anyhow::Error) -> bool {
    let is_gone = |e: &std::io::Error| e.get_ref().is_some_and(|inner| inner.is::<ReaderGone>());
    error.chain().any(|e| e.downcast_ref::<std::io::Error>().is_some_and(is_gone))
}

/// The terminal: answers on standard output, progress on standard error.
pub struct Terminal {
    json: bool,
    bar: Option<indicatif::ProgressBar>,
    acknowledged: u64,
}

impl Terminal {
    /// A terminal that answers in JSON or for people.
    pub fn new(json: bool) -> Self {
        Self { json, bar: None, acknowledged: 0 }
    }

    fn bar(&mut self) -> &indicatif::ProgressBar {
        self.bar.get_or_insert_with(|| {
            // Hidden by the library when standard error is no terminal.
            let style = indicatif::ProgressStyle::with_template(
                "{msg:<12} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {prefix} {elapsed}",
            );
            let bar = indicatif::ProgressBar::new(0);
            if let Ok(style) = style {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        })
    }
}

impl Output for Terminal {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        std::io::stdout().lock().write_all(bytes).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => std::io::Error::new(ErrorKind::BrokenPipe, ReaderGone),
            _ => error,
        })
    }
    fn progress(&mut self, progress: &Progress) {
        if self.json {
            // One line for each group that became durable: what was promised can be checked from outside.
            if progress.acknowledged > self.acknowledged {
                self.acknowledged = progress.acknowledged;
                let mut out = std::io::stdout().lock();
                let written =
                    writeln!(out, "{{\"acknowledged\":{}}}", progress.acknowledged).and_then(|()| out.flush());
                if let Err(error) = written {
                    tracing::debug!(%error, "nobody reads the progress");
                }
            }
            return;
        }
        let bar = self.bar();
        bar.set_length(progress.source_bytes_total);
        bar.set_position(progress.source_bytes);
        bar.set_prefix(format!("{} records", progress.acknowledged));
        bar.set_message(progress.stage.clone());
    }
    fn json(&self) -> bool {
        self.json
    }
}

/// A new file that only its owner can read. It has its name once it is whole.
pub struct NewFile {
    path: PathBuf,
    part: PathBuf,
    file: File,
}

impl NewFile {
    /// Fails when there is a file of that name.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        if path.exists() {
            return Err(std::io::Error::new(ErrorKind::AlreadyExists, "it is there already: name a new file"));
        }
        let name = path.file_name().ok_or_else(|| std::io::Error::other("it names no file"))?;
        let part = path.with_file_name(format!("{}.part", name.to_string_lossy()));
        // What an export that was cut off has left.
        std::fs::remove_file(&part).ok();
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        Ok(Self { path: path.to_owned(), part, file })
    }

    /// Gives the file its name: everything is in it.
    pub fn keep(self) -> std::io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.part, &self.path)
    }
}

impl Output for NewFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)
    }
    fn progress(&mut self, _: &Progress) {}
    fn json(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps what is written.
    struct Kept {
        json: bool,
        text: Vec<u8>,
    }

    impl Output for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
            self.text.extend_from_slice(bytes);
            Ok(())
        }
        fn progress(&mut self, _: &Progress) {}
        fn json(&self) -> bool {
            self.json
        }
    }

    #[test]
    fn a_name_of_a_source_says_nothing_to_the_terminal_and_json_has_it_exactly() {
        let name = "a\u{1b}[31m\n\u{202e}b";
        let told = |json| {
            let mut kept = Kept { json, text: Vec::new() };
            let out: &mut dyn Output = &mut kept;
            out.table(&["lost"], &[vec![name.into()]]).unwrap();
            if !json {
                out.tell(name).unwrap();
            }
            String::from_utf8(kept.text).unwrap()
        };
        let seen = r"a\u001B[31m\u000A\u202Eb";
        assert_eq!(told(false).lines().map(str::trim_end).collect::<Vec<_>>(), ["lost", seen, seen]);
        let exact: Value = serde_json::from_str(&told(true)).unwrap();
        assert_eq!(exact["lost"], name);
    }

    #[test]
    fn only_a_reader_that_has_gone_ends_a_command_well() {
        let gone = std::io::Error::new(ErrorKind::BrokenPipe, ReaderGone);
        assert!(is_reader_gone(&anyhow::Error::from(projections::sql::FormatError::Io(gone)).context("writing")));
        let socket = std::io::Error::from(ErrorKind::BrokenPipe);
        assert!(!is_reader_gone(&anyhow::Error::from(socket).context("asking the server")));
    }
}
