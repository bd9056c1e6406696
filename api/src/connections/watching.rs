//! A stream whose files are watched: ingested at the start, and again whenever something changes.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use connectors::file::watch::{Pace, Watch, watch as watch_files};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::cli::IngestArgs;
use crate::cli::ingest;
use crate::cli::plan::{Draft, settings};
use crate::line::{Fates, Line, Panics};
use crate::output::Silent;
use crate::serve::stopped;

/// Files that could not be read to their end are read again after so long, even if nobody touches them.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Files are read again after so long whatever the watcher says: an unchanged one costs a look.
const RESCAN: Duration = Duration::from_secs(600);

/// A stream that is watched.
pub struct Watched {
    args: IngestArgs,
    changes: Watch,
    told: Option<Told>,
}

/// Who is told how each run ended.
pub type Told = Box<dyn Fn(Result<Fates, String>) -> BoxFuture<'static, ()> + Send + Sync>;

impl Watched {
    /// Starts to watch. Fails when names, mapping or settings are wrong; files need not be there yet.
    pub async fn start(args: IngestArgs, line: &Line) -> anyhow::Result<Self> {
        Draft::new(&args, line.definitions()).await?;
        let changes = watch_files(settings(&args, false)?, Pace::default()).await?;
        Ok(Self { args, changes, told: None })
    }

    /// Has somebody told how each run ended.
    pub fn telling(self, told: Told) -> Self {
        Self { told: Some(told), ..self }
    }

    /// Ingests the files again at every change, until `stop` says true. A run that is under way then is left where it
    /// is: the next goes on there.
    pub async fn run(mut self, line: Arc<Line>, mut stop: watch::Receiver<bool>) {
        loop {
            let again = tokio::select! {
                again = self.ingest(&line) => again,
                () = stopped(&mut stop) => return,
            };
            tokio::select! {
                () = self.changed(&line) => {}
                () = tokio::time::sleep(again) => {}
                () = stopped(&mut stop) => return,
            }
        }
    }

    async fn changed(&mut self, line: &Line) {
        let changed = caught(self.changes.changed(), &line.panics).await;
        if let Err(error) = changed.and_then(|changed| changed.map_err(Into::into)) {
            let error = format!("{error:#}");
            tracing::warn!(error, stream = self.args.stream, "its files could not be looked at; trying again");
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// Reads what is new; answers after what time to look again at the latest.
    async fn ingest(&self, line: &Line) -> Duration {
        let (tenant, stream) = (self.args.tenant.as_deref(), format!("{}/{}", self.args.connection, self.args.stream));
        let run = caught(ingest::run(&self.args, line, &mut Silent), &line.panics).await;
        self.note_trouble(run.as_ref().map(|ended| ended.is_ok()), line);
        let ended = run.and_then(|ended| ended);
        if let Some(told) = &self.told {
            let telling = told(ended.as_ref().map_err(|error| format!("{error:#}")).copied());
            // That it could not be told is in the log output; the next run is told again.
            _ = caught(telling, &line.panics).await;
        }
        match ended {
            Ok(Fates { taken, visible, superseded, quarantined, held, duplicate, .. }) if taken > 0 => {
                tracing::info!(tenant, stream, taken, visible, superseded, quarantined, held, duplicate, "ingested");
                RESCAN
            }
            Ok(_) => RESCAN,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(tenant, stream, error, "not all was ingested; trying again");
                RETRY_AFTER
            }
        }
    }

    /// Has the server say that a stream's work panics, until a run ends well. One that a tenant set up is told to that
    /// tenant alone: it must not stop the others from being served.
    fn note_trouble(&self, ended: Result<bool, &anyhow::Error>, line: &Line) {
        if self.args.behalf.is_some() {
            return;
        }
        let tenant = self.args.tenant.as_deref().unwrap_or_default();
        let stream = format!("{}/{} of {tenant}", self.args.connection, self.args.stream);
        match ended {
            Ok(true) => _ = line.troubles.lock().remove(&stream),
            Ok(false) => {}
            Err(error) => {
                let why = format!("the stream {stream} is not read: {error:#}");
                line.troubles.lock().insert(stream, why);
            }
        }
    }
}

/// Does some work for a watched stream; that it panicked is an error as others are, and counted.
async fn caught<T>(work: impl Future<Output = T>, panics: &Panics) -> anyhow::Result<T> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|_| {
        panics.note();
        anyhow!("it panicked; what it did is in the log output")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn broken() -> u8 {
        panic!("as planned")
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_counted() {
        let panics = Panics::default();
        assert!(caught(broken(), &panics).await.unwrap_err().to_string().contains("panicked"));
        assert_eq!(panics.count(), 1);
        assert_eq!(caught(async { 5 }, &panics).await.unwrap(), 5);
        assert_eq!(panics.count(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_whose_watched_stream_panics_says_which_until_a_run_ends_well() {
        let folder = tempfile::tempdir().unwrap();
        let watch =
            "watch:\n  - {tenant: acme, connection: crm, stream: opportunity, system: salesforce, files: [x.csv]}";
        let config = folder.path().join("watch.yaml");
        std::fs::write(&config, watch).unwrap();
        let args = crate::serve::config::read(&config, true).unwrap().streams.remove(0);
        let line = Line::open_with(&folder.path().join("data"), Default::default(), true, None).await.unwrap();
        let watched = Watched::start(args, &line).await.unwrap();
        watched.note_trouble(Err(&anyhow!("it panicked")), &line);
        assert!(line.failure().unwrap().contains("crm/opportunity of acme is not read: it panicked"));
        watched.note_trouble(Ok(false), &line);
        assert!(line.failure().is_some());
        watched.note_trouble(Ok(true), &line);
        assert_eq!(line.failure(), None);
        line.close().await.unwrap();
    }
}
