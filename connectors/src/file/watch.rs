//! Says when it is worth reading files again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use pipeline::source::SourceError;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, timeout_at};

use super::discover;
use super::opening::SETTLED;
use super::settings::FileSettings;
use super::stamp::Stamp;

/// How often and how long to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Nothing may change for so long before a change is told, so that a file is mostly whole when it is read.
    pub quiet: Duration,
    /// A change is told after so long even where the files never come to rest.
    pub patience: Duration,
    /// The files are looked at so often where the system tells nothing (network file systems).
    pub rescan: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { quiet: Duration::from_millis(200), patience: Duration::from_secs(2), rescan: Duration::from_secs(10) }
    }
}

/// Watches the files, globs and directories of a [`FileSettings`].
///
/// It only says *that* something changed; what is new the next [`FileSource`](super::FileSource) finds out by the line's
/// cursors, so a change that is told twice or too early costs a look and no record.
#[derive(Debug)]
pub struct Watch {
    settings: FileSettings,
    pace: Pace,
    signs: mpsc::Receiver<()>,
    rescan: Interval,
    // The system's watcher ends when it is dropped; there is none where the system refused one.
    _watcher: Option<RecommendedWatcher>,
    seen: Snapshot,
    /// When a last line without an end must be looked at again.
    settles: Option<Instant>,
}

/// The stamp of every file, by which a change is seen, also a file that was replaced by one of the same size and time.
type Snapshot = BTreeMap<PathBuf, Stamp>;

/// Starts to watch. What is there already is no change: read it first, after this call.
pub async fn watch(settings: FileSettings, pace: Pace) -> Result<Watch, SourceError> {
    let settings = FileSettings { follow: true, ..settings };
    settings.check()?;
    let settings = settings.resolved();
    // One waiting sign is enough: it says that a look is due.
    let (sender, signs) = mpsc::channel(1);
    let watcher = start_watcher(&settings, sender);
    let seen = snapshot(&settings).await?;
    let settles = Some(Instant::now() + SETTLED);
    let mut rescan = interval_at(Instant::now() + pace.rescan, pace.rescan);
    rescan.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Ok(Watch { settings, pace, signs, rescan, _watcher: watcher, seen, settles })
}

impl Watch {
    /// Waits until something changed and then rested a moment. May be cancelled and called again.
    pub async fn changed(&mut self) -> Result<(), SourceError> {
        loop {
            let settles = self.settles.unwrap_or_else(|| Instant::now() + self.pace.rescan);
            let mut settled = false;
            tokio::select! {
                sign = self.signs.recv() => {
                    if sign.is_none() {
                        // Without the system's watcher only the clock is left.
                        self.rescan.tick().await;
                    }
                }
                _ = self.rescan.tick() => {}
                () = tokio::time::sleep_until(settles) => settled = self.settles.is_some(),
            }
            if settled {
                self.settles = None;
                return Ok(());
            }
            if snapshot(&self.settings).await? != self.seen {
                self.seen = self.rested().await?;
                self.settles = Some(Instant::now() + SETTLED);
                return Ok(());
            }
        }
    }

    /// The files once they have rested, or after all patience.
    async fn rested(&mut self) -> Result<Snapshot, SourceError> {
        let deadline = Instant::now() + self.pace.patience;
        let mut last = snapshot(&self.settings).await?;
        loop {
            if timeout_at(deadline, sleep(self.pace.quiet)).await.is_err() {
                return Ok(last);
            }
            let now = snapshot(&self.settings).await?;
            if now == last {
                return Ok(now);
            }
            last = now;
        }
    }
}

fn start_watcher(settings: &FileSettings, sender: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let told = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // A full channel already says that a look is due.
            let _ = sender.try_send(());
        }
    };
    let mut watcher = match notify::recommended_watcher(told) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "the system watches no files, so they are looked at from time to time");
            return None;
        }
    };
    for named in &settings.files {
        let folder = discover::base_of(Path::new(named));
        if settings.bounds.as_ref().is_some_and(|bounds| !bounds.admit_named(&folder)) {
            continue;
        }
        if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
            let folder = folder.display();
            tracing::warn!(%error, %folder, "a folder is not watched, so it is looked at from time to time");
        }
    }
    Some(watcher)
}

async fn snapshot(settings: &FileSettings) -> Result<Snapshot, SourceError> {
    let settings = settings.clone();
    let taken = tokio::task::spawn_blocking(move || {
        let (found, _) = discover::discover(&settings);
        found.into_iter().filter_map(|found| Some((found.path, found.stamp?))).collect()
    });
    taken.await.map_err(|error| SourceError::Content { what: "watched files".into(), message: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quick() -> Pace {
        Pace { quiet: Duration::from_millis(5), patience: Duration::from_millis(50), rescan: Duration::from_millis(20) }
    }

    #[test]
    fn changes_show_in_the_folder_before_the_first_wildcard() {
        let base = |named: &str| discover::base_of(Path::new(named));
        assert_eq!(base("data/2024/*.csv"), Path::new("data/2024"));
        assert_eq!(base("data/*/x.csv"), Path::new("data"));
        assert_eq!(base("*.csv"), Path::new("."));
        assert_eq!(base("none/x.csv"), Path::new("none"));
    }

    #[tokio::test]
    async fn a_new_and_a_grown_file_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let files = vec![folder.path().to_str().unwrap().to_string()];
        let settings = FileSettings { files, ..Default::default() };
        let mut watch = watch(settings, quick()).await.unwrap();
        std::fs::write(folder.path().join("a.csv"), "a\n").unwrap();
        watch.changed().await.unwrap();
        std::fs::write(folder.path().join("a.csv"), "a\n1\n").unwrap();
        watch.changed().await.unwrap();
        assert_eq!(watch.seen.len(), 1);
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_by_one_of_the_same_size_and_time_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "a\n1\n").unwrap();
        let files = vec![folder.path().to_str().unwrap().to_string()];
        let mut watch = watch(FileSettings { files, ..Default::default() }, quick()).await.unwrap();
        let other = folder.path().join("other.tmp");
        std::fs::write(&other, "a\n2\n").unwrap();
        let written = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::File::options().write(true).open(&other).unwrap().set_modified(written).unwrap();
        std::fs::rename(&other, &path).unwrap();
        watch.changed().await.unwrap();
    }
}
