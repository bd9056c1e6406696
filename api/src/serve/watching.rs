//! A stream whose files are watched: ingested at the start, and again whenever something changes.

use std::sync::Arc;
use std::time::Duration;

use connectors::file::watch::{Pace, Watch, watch as watch_files};
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::cli::IngestArgs;
use crate::cli::ingest;
use crate::cli::plan::{Draft, settings};
use crate::line::{Fates, Line};
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
                () = self.changed() => {}
                () = tokio::time::sleep(again) => {}
                () = stopped(&mut stop) => return,
            }
        }
    }

    async fn changed(&mut self) {
        if let Err(error) = self.changes.changed().await {
            tracing::warn!(%error, stream = self.args.stream, "its files could not be looked at; trying again");
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// Reads what is new; answers after what time to look again at the latest.
    async fn ingest(&self, line: &Line) -> Duration {
        let (tenant, stream) = (self.args.tenant.as_deref(), format!("{}/{}", self.args.connection, self.args.stream));
        let ended = ingest::run(&self.args, line, &mut Silent).await;
        if let Some(told) = &self.told {
            told(ended.as_ref().map_err(|error| format!("{error:#}")).copied()).await;
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
}
