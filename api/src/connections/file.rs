//! The connector `file`: what may be said of it, and what `ingest` is told for each of its streams.

use std::path::{Path, PathBuf};

use schemas::{ConnectionName, StreamName, TenantName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::schema::Fault;
use crate::cli::{Behalf, IngestArgs, Mode};

/// The settings of a file connection, as their schema has let them in.
#[derive(Debug, Clone, Deserialize)]
pub struct FileConnection {
    /// Follow the files: read again at every change.
    #[serde(default)]
    pub watch: bool,
    /// What is read from where.
    pub streams: Vec<FileStream>,
}

/// A stream of a file connection; the fields are the options of `ingest`.
#[derive(Debug, Clone, Deserialize)]
pub struct FileStream {
    /// The stream within the connection.
    pub stream: String,
    files: Vec<String>,
    system: Option<String>,
    mapping: Option<String>,
    key: Option<String>,
    version: Option<String>,
    version_type: Option<String>,
    deleted: Option<String>,
    #[serde(default)]
    mode: Mode,
    max_deletes: Option<u8>,
    format: Option<String>,
    delimiter: Option<String>,
    quote: Option<String>,
    encoding: Option<String>,
    sheet: Option<String>,
}

/// The share of rows, in percent, that a snapshot may delete where nothing is said.
const MAX_DELETES: u8 = 20;

/// The schema of the settings.
pub fn schema() -> Value {
    let text =
        |most: u32, what: &str| json!({"type": "string", "minLength": 1, "maxLength": most, "description": what});
    let choice = |values: &[&str], what: &str| json!({"type": "string", "enum": values, "description": what});
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Files",
        "type": "object",
        "additionalProperties": false,
        "required": ["streams"],
        "properties": {
            "watch": {"type": "boolean", "default": false, "description": "Follow the files: read again at every change."},
            "streams": {
                "type": "array", "minItems": 1, "maxItems": 20,
                "description": "What is read from where, each name once.",
                "items": {
                    "type": "object", "additionalProperties": false, "required": ["stream", "files"],
                    "properties": {
                        "stream": text(127, "The stream within the connection, as the mapping names it."),
                        "files": {
                            "type": "array", "minItems": 1, "maxItems": 100,
                            "description": "Files, globs or folders, under a folder that the operator declared.",
                            "items": text(1024, "A path; a relative one counts from the declared folder."),
                        },
                        "system": text(80, "The system whose mapping is used; this or mapping."),
                        "mapping": text(262_144, "A mapping file's text; this or system."),
                        "key": text(1024, "The key's path, several joined by commas; instead of the mapping's."),
                        "version": text(1024, "The version's path, or none; instead of the mapping's."),
                        "version_type": choice(&["time", "integer", "text"], "The version's type."),
                        "deleted": text(1024, "COLUMN or COLUMN=VALUE that tells a deleted row."),
                        "mode": choice(&["append", "snapshot"], "snapshot also deletes what is missing; not with watch."),
                        "max_deletes": {
                            "type": "integer", "minimum": 0, "maximum": 100, "default": MAX_DELETES,
                            "description": "The largest share of rows, in percent, that a snapshot may delete.",
                        },
                        "format": choice(&["csv", "ndjson", "json", "parquet", "excel"], "By default told by the name."),
                        "delimiter": text(3, "CSV: what divides cells; tab for a tab."),
                        "quote": text(1, "CSV: what quotes cells."),
                        "encoding": text(40, "The text's encoding, for example windows-1252."),
                        "sheet": text(255, "Excel: the sheet; by default the first."),
                    },
                },
            },
        },
    })
}

impl FileConnection {
    /// What no schema says: names that fit, each once, and options that go together.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (number, stream) in self.streams.iter().enumerate() {
            let at = format!("/settings/streams/{number}");
            if let Err(error) = StreamName::new(&stream.stream) {
                faults.push(Fault::new(format!("{at}/stream"), error.to_string()));
            }
            if self.streams[..number].iter().any(|other| other.stream == stream.stream) {
                faults.push(Fault::new(format!("{at}/stream"), "this stream is named twice: name its files together"));
            }
            if stream.system.is_some() == stream.mapping.is_some() {
                faults.push(Fault::new(&at, "say either system or mapping"));
            }
            for (place, file) in stream.files.iter().enumerate().filter(|(_, file)| file.contains('\0')) {
                faults.push(Fault::new(format!("{at}/files/{place}"), format!("{file:?} is no path")));
            }
            if self.watch && stream.mode == Mode::Snapshot {
                let detail = "a watched stream cannot be a snapshot, which deletes what a half-written file lacks: leave \
                              watch out, and sync once the files are whole";
                faults.push(Fault::new(format!("{at}/mode"), detail));
            }
        }
        faults
    }

    /// What `ingest` is told for each stream; relative files count from `base`.
    pub fn arguments(
        &self,
        tenant: &TenantName,
        connection: &ConnectionName,
        behalf: &Behalf,
        base: Option<&Path>,
    ) -> Vec<IngestArgs> {
        let each = |stream: &FileStream| IngestArgs {
            tenant: Some(tenant.to_string()),
            connection: connection.to_string(),
            stream: stream.stream.clone(),
            system: stream.system.clone(),
            mapping: None,
            mapping_text: stream.mapping.clone(),
            key: stream.key.clone(),
            version: stream.version.clone(),
            version_type: stream.version_type.clone(),
            deleted: stream.deleted.clone(),
            mode: stream.mode,
            max_deletes: stream.max_deletes.unwrap_or(MAX_DELETES),
            format: stream.format.clone(),
            delimiter: stream.delimiter.clone(),
            quote: stream.quote.as_ref().and_then(|quote| quote.chars().next()),
            encoding: stream.encoding.clone(),
            sheet: stream.sheet.clone(),
            no_wait: false,
            dry_run: false,
            entity: None,
            follow: self.watch,
            behalf: Some(behalf.clone()),
            files: stream.files.iter().map(|file| placed(file, base)).collect(),
        };
        self.streams.iter().map(each).collect()
    }

    /// Relative files, as JSON pointers.
    pub fn relative(&self) -> Vec<String> {
        let mut pointers = Vec::new();
        for (number, stream) in self.streams.iter().enumerate() {
            for (file, _) in stream.files.iter().enumerate().filter(|(_, file)| Path::new(file).is_relative()) {
                pointers.push(format!("/settings/streams/{number}/files/{file}"));
            }
        }
        pointers
    }
}

fn placed(file: &str, base: Option<&Path>) -> PathBuf {
    base.map_or_else(|| PathBuf::from(file), |base| base.join(file))
}
