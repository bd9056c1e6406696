//! What operators and their tools ask: whether the server is ready, and `/metrics`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pipeline::Log;
use pipeline::lease::Share;
use pipeline::step::Counters;
use poem::http::StatusCode;
use poem::web::Data;
use poem::{Request, handler};
use schemas::Topic;
use tokio::sync::Mutex;

use super::Doors;
use super::asked::Asked;
use super::problem::Problem;
use crate::auth::{AuthError, secret};
use crate::line::{Lag, Line};
use crate::roles::AtWork;

/// The oldest that a record may be that is in no view yet, for the server to be ready.
const BEHIND_MAX: Duration = Duration::from_secs(60);
/// How long the totals of all streams are good for: counting them reads every stream's state.
const TOTALS_AGE_MAX: Duration = Duration::from_secs(5);

/// What is asked of log and store. Where their servers are away nobody waits for them.
#[derive(Default)]
pub struct Signals {
    behind: Asked<Duration>,
    lags: Asked<(Duration, Vec<Lag>)>,
    told: Asked<Told>,
    totals: Arc<TotalsCache>,
}

impl Signals {
    /// The age of the oldest record that is in no view yet, and how far every role is behind.
    pub async fn lags(&self, line: &Arc<Line>) -> Result<(Duration, Vec<Lag>), String> {
        let line = line.clone();
        self.lags.ask(move || async move { Ok((line.behind().await?, line.lags().await?)) }).await
    }

    async fn behind(&self, line: &Arc<Line>) -> Result<Duration, String> {
        let line = line.clone();
        self.behind.ask(move || async move { line.behind().await }).await
    }

    async fn told(&self, line: &Arc<Line>) -> (Option<Told>, bool) {
        let (line, totals) = (line.clone(), self.totals.clone());
        self.told.ask_or_last(move || async move { Told::by(&line, &totals).await }).await
    }
}

/// The totals of all streams, counted at most every few seconds and by one request at a time.
#[derive(Default)]
struct TotalsCache(Mutex<Option<(Instant, Counters, usize)>>);

impl TotalsCache {
    async fn get(&self, line: &Line) -> anyhow::Result<(Counters, usize)> {
        let mut held = self.0.lock().await;
        if let Some((_, counters, tenants)) = held.filter(|(at, ..)| at.elapsed() < TOTALS_AGE_MAX) {
            return Ok((counters, tenants));
        }
        let (counters, tenants) = line.totals().await?;
        *held = Some((Instant::now(), counters, tenants));
        Ok((counters, tenants))
    }
}

/// Ready means: every role runs, and what comes in is visible soon. A view that has stopped is told but does not count:
/// it is one tenant's, and the others are served.
pub async fn ready(line: &Arc<Line>, signals: &Signals) -> (StatusCode, String) {
    let stopped = line.holdings().stopped;
    match signals.behind(line).await {
        Ok(behind) => readiness(line.failure(), behind, stopped),
        Err(why) => readiness(Some(why), Duration::ZERO, stopped),
    }
}

fn readiness(failure: Option<String>, behind: Duration, stopped: usize) -> (StatusCode, String) {
    let seconds = behind.as_secs_f64();
    let views = if stopped == 0 { String::new() } else { format!("; {stopped} views stopped, see autonomos doctor") };
    match failure {
        Some(failure) => (StatusCode::SERVICE_UNAVAILABLE, format!("{failure}\n")),
        None if behind > BEHIND_MAX => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("behind by {seconds:.0} s, more than {} s{views}\n", BEHIND_MAX.as_secs()),
        ),
        None => (StatusCode::OK, format!("ready, {seconds:.3} s behind{views}\n")),
    }
}

/// Prometheus text format, on loopback or with the operator's token. No tenant is named: a label per tenant would know no bound.
#[handler]
pub async fn metrics(
    request: &Request,
    doors: Data<&Arc<Doors>>,
    signals: Data<&Arc<Signals>>,
) -> Result<String, Problem> {
    if !may_see(request, doors.metrics_token.as_deref()) {
        return Err(AuthError::Unauthenticated.into());
    }
    let mut text = Text::default();
    write(&doors.line, &signals, &mut text).await;
    Ok(text.into_string())
}

/// Whether a request may see metrics: it comes from this machine, or bears the operator's token, of which the hash is known.
pub(super) fn may_see(request: &Request, hash: Option<&str>) -> bool {
    let is_local = request.remote_addr().as_socket_addr().is_some_and(|peer| peer.ip().is_loopback());
    is_local || is_operator(request, hash)
}

/// Whether a request bears the operator's token, of which the hash is known.
fn is_operator(request: &Request, hash: Option<&str>) -> bool {
    let given = request.header("authorization").and_then(|value| value.split_once(' '));
    match (hash, given) {
        (Some(hash), Some((scheme, token))) if scheme.eq_ignore_ascii_case("bearer") => {
            secret::equal(hash, &secret::hash(token.trim()))
        }
        _ => false,
    }
}

/// Metrics as they are written.
#[derive(Default)]
pub(super) struct Text(String);

impl Text {
    /// The text.
    pub(super) fn into_string(self) -> String {
        self.0
    }
    /// A metric with its values, each behind its labels.
    pub(super) fn family(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        values: impl IntoIterator<Item = (String, u64)>,
    ) {
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for (labels, value) in values {
            self.0.push_str(&format!("{name}{labels} {value}\n"));
        }
    }
    /// A metric with one value that goes up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: usize) {
        self.family(name, "gauge", help, [(String::new(), value as u64)]);
    }
}

/// How far readers are behind.
pub(super) fn lags(lags: Vec<Lag>, text: &mut Text) {
    let labelled = |lag: Lag| {
        let Lag { role, topic, partition, items } = lag;
        (format!("{{role=\"{role}\",topic=\"{topic}\",partition=\"{partition}\"}}"), items)
    };
    let help = "items of a partition that a role has not done yet, wherever it runs";
    text.family("autonomos_consumer_lag_items", "gauge", help, lags.into_iter().map(labelled));
}

/// What this process works on among its peers.
pub(super) fn work(at_work: &AtWork, text: &mut Text) {
    let shares = at_work.shares();
    let labelled = |share: Share| (format!("{{role=\"{}\",partition=\"{}\"}}", share.role, share.partition), 1);
    let help = "partitions of a role that this process works on by its lease";
    text.family("autonomos_leases", "gauge", help, shares.into_iter().map(labelled));
}

/// What was odd on the log's servers, if it has servers.
pub(super) fn oddities(log: &dyn Log, text: &mut Text) {
    let Some(oddities) = log.oddities() else { return };
    let help = "messages on the log's servers that are none of the line's and were passed over";
    text.family("autonomos_foreign_messages_total", "counter", help, [(String::new(), oddities.foreign())]);
    let help = "readers of the log's servers that stood still and were replaced";
    text.family("autonomos_reader_stalls_total", "counter", help, [(String::new(), oddities.stalls())]);
}

/// Whether log and store have answered.
pub(super) fn up(is_up: bool, text: &mut Text) {
    let help = "whether log and store answer in time; if not, what they are asked for is as it was last, or missing";
    text.gauge("autonomos_backends_up", help, usize::from(is_up));
}

/// What log and store say.
#[derive(Clone)]
struct Told {
    ends: Vec<(Topic, u32, u64)>,
    lags: Vec<Lag>,
    behind: Duration,
    totals: Counters,
    tenants: usize,
}

impl Told {
    async fn by(line: &Line, totals: &TotalsCache) -> anyhow::Result<Self> {
        let mut ends = Vec::new();
        for topic in Topic::ALL {
            for partition in 0..line.log.partitions(topic) {
                ends.push((topic, partition, line.log.end(topic, partition).await?));
            }
        }
        let (lags, behind) = (line.lags().await?, line.behind().await?);
        let (totals, tenants) = totals.get(line).await?;
        Ok(Self { ends, lags, behind, totals, tenants })
    }

    fn write(self, text: &mut Text) {
        let Self { ends, lags: all, behind, totals, tenants } = self;
        let labelled = |(topic, partition, end): (Topic, u32, u64)| {
            (format!("{{topic=\"{topic}\",partition=\"{partition}\"}}"), end)
        };
        let ends = ends.into_iter().map(labelled);
        text.family("autonomos_log_items_total", "counter", "items ever appended to a partition", ends);
        former_lags(&all, text);
        lags(all, text);
        let behind = usize::try_from(behind.as_millis()).unwrap_or(usize::MAX);
        text.gauge("autonomos_behind_ms", "age of the oldest record that is in no view yet", behind);
        let fates = [
            ("accepted", totals.accepted),
            ("deleted", totals.deleted),
            ("discarded", totals.discarded),
            ("duplicate", totals.duplicate),
        ];
        let fates = fates.map(|(fate, n)| (format!("{{fate=\"{fate}\"}}"), n));
        text.family("autonomos_records_total", "counter", "records by what the step made of them", fates);
        let held = totals.held as usize;
        text.gauge("autonomos_records_held", "records that are kept back until a case is decided", held);
        let help = "records that are set aside until somebody retries or discards them";
        text.gauge("autonomos_records_quarantined", help, totals.quarantined as usize);
        text.gauge("autonomos_tenants", "tenants", tenants);
    }
}

/// Two of the lags under the names that they had alone.
fn former_lags(lags: &[Lag], text: &mut Text) {
    for (role, name, help) in [
        ("processor", "autonomos_processor_lag_inputs", "inputs that are not processed yet"),
        ("projector", "autonomos_projector_lag_events", "events that are in no view yet"),
    ] {
        let of_role = lags.iter().filter(|lag| lag.role == role);
        let labelled = of_role.map(|lag| (format!("{{partition=\"{}\"}}", lag.partition), lag.items));
        text.family(name, "gauge", help, labelled);
    }
}

async fn write(line: &Arc<Line>, signals: &Signals, text: &mut Text) {
    let (told, is_up) = signals.told(line).await;
    up(is_up, text);
    if let Some(told) = told {
        told.write(text);
    }
    if line.has_peers() {
        work(line.at_work(), text);
    }
    let views = line.holdings();
    text.gauge("autonomos_views_open", "views in memory", views.open);
    text.gauge("autonomos_views_stopped", "views that take no more events or cannot be opened", views.stopped);
    text.gauge("autonomos_views_tail_rows", "rows that are in no file yet", views.tail_rows);
    text.gauge("autonomos_views_tail_bytes", "bytes of rows that are in no file yet", views.tail_bytes);
    text.gauge(
        "autonomos_views_memory_bytes",
        "bytes that views hold in memory, tails and indexes",
        views.memory_bytes,
    );
    let panics = [(String::new(), line.panics.count())];
    text.family("autonomos_panics_total", "counter", "requests and watched streams that ended in a panic", panics);
    let passed_over = [(String::new(), line.keys.forgotten())];
    let help = "items of deleted tenants that readers passed over, once for each reader";
    text.family("autonomos_forgotten_items_total", "counter", help, passed_over);
    oddities(&*line.log, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_that_the_operator_named_opens_the_metrics() {
        let hash = secret::hash("a-long-enough-token");
        let asked = |header: Option<&str>, hash: Option<&str>| {
            let request = header.into_iter().fold(Request::builder(), |r, value| r.header("authorization", value));
            is_operator(&request.finish(), hash)
        };
        assert!(asked(Some("Bearer a-long-enough-token"), Some(&hash)));
        for wrong in ["Bearer a-long-enough-tokem", "Bearer ", "Basic a-long-enough-token", "a-long-enough-token"] {
            assert!(!asked(Some(wrong), Some(&hash)), "{wrong}");
        }
        assert!(!asked(None, Some(&hash)) && !asked(Some("Bearer a-long-enough-token"), None));
    }

    #[test]
    fn a_server_that_is_far_behind_or_has_lost_a_role_is_not_ready() {
        let status =
            |failure: Option<&str>, seconds| readiness(failure.map(str::to_owned), Duration::from_secs(seconds), 1).0;
        assert_eq!(status(None, 0), StatusCode::OK);
        assert_eq!(status(None, 61), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(Some("the projector has stopped"), 0), StatusCode::SERVICE_UNAVAILABLE);
        assert!(readiness(None, Duration::ZERO, 2).1.contains("2 views stopped"));
    }
}
