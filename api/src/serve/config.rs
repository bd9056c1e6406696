//! `autonomos.yaml`: what a server watches, its certificate, and what else its operator decides.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::backends::{Backends, Sections};
use crate::cli::{IngestArgs, Mode};
use crate::connections::roots::DeclaredRoot;
use crate::http::Operator;
use crate::http::listen::Tls;
use crate::http::manners::rate::Rates;
use crate::line::QuotaSettings;
use crate::roles::Roster;
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
    /// Where people reach the server, as https://autonomos.example.com: notices link there.
    public_url: Option<String>,
    #[serde(default)]
    webhooks: WebhookSettings,
    llm: Option<Llm>,
    /// Where the log is; see [`crate::backends::LogBackend`].
    log: Option<Value>,
    /// Where the store is; see [`crate::backends::StoreBackend`].
    store: Option<Value>,
    /// Where views lie; see [`projections::view::place::Settings`].
    views: Option<Value>,
}

/// What a command need know of the file.
#[derive(Debug, Default, Deserialize)]
struct Places {
    log: Option<Value>,
    store: Option<Value>,
    views: Option<Value>,
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
    /// Where log, store and views are.
    pub backends: Backends,
    /// The roles that the process takes: every one, unless the command line says otherwise.
    pub roles: Roster,
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

/// Where people reach the server, without a slash at its end.
fn public_url(text: &str) -> anyhow::Result<String> {
    // It is not repeated: there may be a password in it.
    let wrong =
        "public_url is where people reach the server: write https://host, without user, password, query or fragment";
    let url: Url = text.parse().context(wrong)?;
    let has_login = !url.username().is_empty() || url.password().is_some();
    if !matches!(url.scheme(), "http" | "https") || has_login || url.query().is_some() || url.fragment().is_some() {
        bail!(wrong);
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
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

/// The file as it stands there; no file is an empty one unless it is `required`.
fn parse<T: Default + DeserializeOwned>(path: &Path, required: bool) -> anyhow::Result<T> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => return Ok(T::default()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    if text.trim().is_empty() {
        return Ok(T::default());
    }
    // Without the lines around what is wrong: there may be passwords among them.
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(&text, options).with_context(|| format!("reading {}", path.display()))
}

/// Where a file and the environment say that log, store and views are; what else the file says is not looked at.
pub fn backends(path: &Path) -> anyhow::Result<Backends> {
    let Places { log, store, views } = parse(path, false)?;
    let base = path.parent().unwrap_or(Path::new("."));
    Backends::read(Sections { log, store, views }, base).with_context(|| format!("reading {}", path.display()))
}

/// Reads the file; no file is nothing to watch unless it is `required`.
pub fn read(path: &Path, required: bool) -> anyhow::Result<Settings> {
    let config: Config = parse(path, required)?;
    let base = path.parent().unwrap_or(Path::new("."));
    let sections = Sections { log: config.log, store: config.store, views: config.views };
    let backends = Backends::read(sections, base).with_context(|| format!("reading {}", path.display()))?;
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
        public_url: config.public_url.as_deref().map(public_url).transpose()?,
        metrics_token: config.metrics_token_file.map(|file| metrics_token(&base.join(file))).transpose()?,
    };
    let llm = config.llm.map(|llm| llm.checked(base)).transpose();
    let llm = llm.with_context(|| format!("reading {}", path.display()))?;
    Ok(Settings { streams: streams?, tls, operator, llm, backends, roles: Roster::default() })
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
    fn where_people_reach_the_server_is_an_address_of_the_web_and_nothing_more() {
        let read = |url: &str| told(&format!("public_url: \"{url}\"\n")).map(|read| read.operator.public_url);
        assert_eq!(told("watch: []\n").unwrap().operator.public_url, None);
        for (url, expected) in [
            ("https://autonomos.example.com/", "https://autonomos.example.com"),
            ("http://10.0.0.7:7400", "http://10.0.0.7:7400"),
            ("https://example.com/data//", "https://example.com/data"),
            ("https://example.com/<!channel>", "https://example.com/%3C!channel%3E"),
        ] {
            assert_eq!(read(url).unwrap().as_deref(), Some(expected), "{url}");
        }
        for wrong in
            ["", "example.com", "ftp://example.com", "https://", "https://a:canary@b.example", "https://b.example/?x=1"]
        {
            let refused = format!("{:#}", read(wrong).unwrap_err());
            assert!(refused.contains("public_url") && !refused.contains("canary"), "{wrong}: {refused}");
        }
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
    fn where_log_store_and_views_are_is_read_and_what_is_misspelt_is_refused() {
        assert_eq!(told("log: embedded\nstore: embedded\n").unwrap().backends.told(), "log: embedded, store: embedded");
        for (wrong, said) in [
            ("log: {kafka: {}, x: 1}", "log"),
            ("views: {folder: x}", "folder"),
            ("views: {location: \"gs://lake\"}", "gs://lake"),
        ] {
            let refused = format!("{:#}", told(wrong).unwrap_err());
            assert!(refused.contains("autonomos.yaml") && refused.contains(said), "{refused}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_file_is_told_by_its_line_without_what_stands_around_it() {
        for wrong in ["watch: 7\n", "watch: [\n"] {
            let wrong = format!("views: {{location: x, secret_key: canary}}\n{wrong}");
            let refused = format!("{:#}", told(&wrong).unwrap_err());
            assert!(refused.contains("line ") && !refused.contains("canary"), "{refused}");
        }
    }

    #[test]
    fn a_command_heeds_of_the_file_where_things_are_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("autonomos.yaml");
        assert!(backends(&path).unwrap().views.is_none());
        std::fs::write(&path, "views: {location: elsewhere}\nwatch: [nothing that could be watched]\n").unwrap();
        let expected = folder.path().join("elsewhere").display().to_string();
        assert_eq!(backends(&path).unwrap().views.unwrap().location, expected);
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
