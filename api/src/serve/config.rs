//! `autonomos.yaml`: what a server watches, its certificate, and what else its operator decides.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use projections::view::place::Settings as Views;
use serde::Deserialize;

use crate::cli::{IngestArgs, Mode};
use crate::connections::roots::DeclaredRoot;
use crate::http::Operator;
use crate::http::listen::Tls;
use crate::http::manners::rate::Rates;
use crate::line::QuotaSettings;
use crate::serve::llm::Llm;

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    watch: Vec<WatchedStream>,
    tls: Option<Tls>,
    #[serde(default)]
    files_roots: Vec<DeclaredRoot>,
    #[serde(default)]
    quotas: QuotaSettings,
    #[serde(default)]
    rates: Rates,
    metrics_token_file: Option<PathBuf>,
    #[serde(default)]
    webhooks: WebhookSettings,
    llm: Option<Llm>,
    views: Option<Views>,
}

/// Where webhooks may be, besides public addresses.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookSettings {
    /// Networks, as 10.0.0.0/8.
    #[serde(default)]
    networks: Vec<String>,
}

/// What a server is told by the file.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The streams to watch.
    pub streams: Vec<IngestArgs>,
    /// The certificate to serve HTTPS with.
    pub tls: Option<Tls>,
    /// What the doors are told.
    pub operator: Operator,
    /// The language model that is asked; none when nothing is said.
    pub llm: Option<Llm>,
    /// Where views lie; in the data folder when nothing is said.
    pub views: Option<Views>,
}

/// A shorter token for `/metrics` could be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// The token for `/metrics` that a file holds.
pub fn metrics_token(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let token = text.trim();
    if token.len() < TOKEN_BYTES_MIN || token.bytes().any(|b| !b.is_ascii_graphic()) {
        bail!("the token in {} needs {TOKEN_BYTES_MIN} printable characters or more, without spaces", path.display());
    }
    Ok(token.to_owned())
}

/// A stream whose files are watched; the fields are the options of `ingest`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchedStream {
    /// The tenant; made when the name is new.
    pub tenant: String,
    /// The connection.
    pub connection: String,
    /// The stream within the connection.
    pub stream: String,
    /// The source system whose mapping is used.
    pub system: Option<String>,
    /// A mapping file, instead of a system's.
    pub mapping: Option<PathBuf>,
    /// The key's path in the source, several joined by commas.
    pub key: Option<String>,
    /// The version's path in the source.
    pub version: Option<String>,
    /// The version's type.
    pub version_type: Option<String>,
    /// What tells a deleted row.
    pub deleted: Option<String>,
    /// Only `append`: a snapshot must be whole, and a watched file may be half written.
    #[serde(default)]
    pub mode: Mode,
    /// The file format.
    pub format: Option<String>,
    /// CSV: what divides cells.
    pub delimiter: Option<String>,
    /// CSV: what quotes cells.
    pub quote: Option<char>,
    /// Text encoding.
    pub encoding: Option<String>,
    /// Excel: the sheet.
    pub sheet: Option<String>,
    /// Files, globs or folders; relative ones count from the file's folder.
    pub files: Vec<PathBuf>,
}

/// Reads the file; no file is nothing to watch unless it is `required`.
pub fn read(path: &Path, required: bool) -> anyhow::Result<Settings> {
    let Some(config) = parse(path, required)? else { return Ok(Settings::default()) };
    let base = path.parent().unwrap_or(Path::new("."));
    let tls = config.tls.map(|tls| Tls { certificate: base.join(tls.certificate), key: base.join(tls.key) });
    let streams: anyhow::Result<Vec<_>> = config
        .watch
        .into_iter()
        .map(|stream| {
            let name = format!("the stream {}/{} in {}", stream.connection, stream.stream, path.display());
            stream.into_arguments(base).context(name)
        })
        .collect();
    let network = |text: &String| text.parse().with_context(|| format!("{text:?} is no network: write 10.0.0.0/8"));
    let place = |root: DeclaredRoot| DeclaredRoot { folder: base.join(root.folder), ..root };
    let operator = Operator {
        quotas: config.quotas,
        rates: config.rates,
        files_roots: config.files_roots.into_iter().map(place).collect(),
        webhook_networks: config.webhooks.networks.iter().map(network).collect::<anyhow::Result<_>>()?,
        metrics_token: config.metrics_token_file.map(|file| metrics_token(&base.join(file))).transpose()?,
    };
    let llm = config.llm.map(|llm| llm.checked(base)).transpose();
    let llm = llm.with_context(|| format!("reading {}", path.display()))?;
    let views = config.views.map(|views| placed(views, base));
    Ok(Settings { streams: streams?, tls, operator, llm, views })
}

/// Where the views of a folder lie, as its own `autonomos.yaml` says: for commands, which heed nothing else of that.
pub fn views_of(folder: &Path) -> anyhow::Result<Option<Views>> {
    let config = parse(&folder.join("autonomos.yaml"), false)?;
    Ok(config.and_then(|config| config.views).map(|views| placed(views, folder)))
}

fn parse(path: &Path, required: bool) -> anyhow::Result<Option<Config>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let config: Config = serde_saphyr::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    Ok(Some(config))
}

/// A folder counts from where the file lies.
fn placed(mut views: Views, base: &Path) -> Views {
    if !views.location.is_empty() && !views.location.contains("://") {
        views.location = base.join(&views.location).display().to_string();
    }
    views
}

impl WatchedStream {
    /// What `ingest` is told at each change.
    fn into_arguments(self, base: &Path) -> anyhow::Result<IngestArgs> {
        if self.mode == Mode::Snapshot {
            bail!(
                "a watched stream cannot be a snapshot, which deletes what a half-written file lacks: run autonomos \
                 ingest --mode snapshot once the files are whole"
            );
        }
        if self.files.is_empty() {
            bail!("it names no files");
        }
        let mapping = self.mapping.map(|mapping| base.join(mapping));
        let read = |mapping: &PathBuf| {
            std::fs::read_to_string(mapping).with_context(|| format!("reading {}", mapping.display()))
        };
        let mapping_text = mapping.as_ref().map(read).transpose()?;
        Ok(IngestArgs {
            tenant: Some(self.tenant),
            connection: self.connection,
            stream: self.stream,
            system: self.system,
            mapping,
            mapping_text,
            key: self.key,
            version: self.version,
            version_type: self.version_type,
            deleted: self.deleted,
            mode: Mode::Append,
            max_deletes: 0,
            format: self.format,
            delimiter: self.delimiter,
            quote: self.quote,
            encoding: self.encoding,
            sheet: self.sheet,
            no_wait: false,
            dry_run: false,
            entity: None,
            follow: true,
            behalf: None,
            files: self.files.into_iter().map(|file| base.join(file)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> anyhow::Result<Settings> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("autonomos.yaml");
        std::fs::write(&path, text).unwrap();
        read(&path, true)
    }

    fn refused(more: &str) -> String {
        let stream = "{tenant: a, connection: c, stream: s, system: salesforce, files: [x.csv]";
        told(&format!("watch:\n  - {stream}{more}}}\n"))
            .map(|_| String::new())
            .unwrap_or_else(|error| format!("{error:#}"))
    }

    #[test]
    fn quotas_are_read_and_a_misspelt_one_is_refused() {
        let settings = told("quotas:\n  each: {queries: 2}\n  tenants:\n    acme: {stored_bytes: 5}\n").unwrap();
        let quotas = settings.operator.quotas;
        assert_eq!((quotas.each.queries, quotas.tenants["acme"].stored_bytes), (Some(2), Some(5)));
        assert!(format!("{:#}", told("quotas: {each: {querys: 2}}").unwrap_err()).contains("querys"));
    }

    #[test]
    fn rates_are_read_and_none_can_be_zero() {
        let rates = told("rates:\n  query: {per_minute: 60000, burst: 9}\n").unwrap().operator.rates;
        assert_eq!((rates.query.per_minute.get(), rates.query.burst.get()), (60_000, 9));
        assert_eq!(rates.push, Rates::default().push);
        for wrong in ["rates: {query: {per_minute: 0, burst: 9}}", "rates: {queries: {per_minute: 1, burst: 1}}"] {
            assert!(told(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks_that_webhooks_may_be_in_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("autonomos.yaml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path, true)
        };
        let settings = read("webhooks: {networks: [10.0.0.0/8, \"fd00::/8\"]}\n").unwrap();
        assert_eq!(settings.operator.webhook_networks.len(), 2);
        assert!(format!("{:#}", read("webhooks: {networks: [local]}").unwrap_err()).contains("no network"));
    }

    #[test]
    fn a_model_is_asked_only_where_one_is_named() {
        assert!(told("watch: []\n").unwrap().llm.is_none());
        let settings = told("llm: {provider: ollama, model: small, ask_always: true}\n").unwrap();
        assert!(settings.llm.is_some_and(|llm| llm.ask_always));
        let wrong = format!("{:#}", told("llm: {provider: ollama, model: small, api_key: x}").unwrap_err());
        assert!(wrong.contains("unknown field") && wrong.contains("api_key"), "{wrong}");
    }

    #[test]
    fn a_place_of_views_is_read_and_a_folder_counts_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(views_of(folder.path()).unwrap().is_none());
        let write = |text: &str| std::fs::write(folder.path().join("autonomos.yaml"), text).unwrap();
        write(
            "views: {location: s3://lake/acme, endpoint: \"https://minio:9000\", access_key: a, secret_key: canary}\n",
        );
        let views = views_of(folder.path()).unwrap().unwrap();
        assert_eq!(views.location, "s3://lake/acme");
        assert!(!format!("{views:?}").contains("canary"));
        write("views: {location: elsewhere}\n");
        let expected = folder.path().join("elsewhere").display().to_string();
        assert_eq!(views_of(folder.path()).unwrap().unwrap().location, expected);
        assert!(format!("{:#}", told("views: {bucket: lake}").unwrap_err()).contains("bucket"));
    }

    #[test]
    fn what_makes_no_sense_for_a_watched_stream_is_refused() {
        assert_eq!(refused(""), "");
        for more in [", dry_run: true", ", no_wait: true", ", follow: false", ", mapping_text: x", ", max_deletes: 90"]
        {
            assert!(refused(more).contains("unknown field"), "{more}: {}", refused(more));
        }
        assert!(refused(", mode: snapshot").contains("half-written"));
        assert!(refused(", mapping: none.yaml").contains("none.yaml"));
    }
}
