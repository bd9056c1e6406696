//! What the file system says of a file, by which a change of it is seen.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A file system may tell two changes of a file that are closer than this by the same time.
const COARSEST_TICK: Duration = Duration::from_secs(2);

/// Which file it is, its size and its times. The time of the last change of the inode cannot be set back by a program, so
/// that also a file of the same size and time of writing is seen to be another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    /// Its size in bytes.
    pub(super) size: u64,
    modified_ns: i128,
    changed_ns: i128,
}

/// Now, by the clock on the wall and by one that never jumps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Comparable with the times of files.
    pub(super) wall: SystemTime,
    /// Comparable within this process.
    pub(super) steady: Instant,
}

impl Moment {
    /// This moment.
    pub(super) fn now() -> Self {
        Self { wall: SystemTime::now(), steady: Instant::now() }
    }
}

impl Stamp {
    /// The stamp in `meta`.
    pub(super) fn of(meta: &Metadata) -> Self {
        let ns = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            modified_ns: ns(meta.mtime(), meta.mtime_nsec()),
            changed_ns: ns(meta.ctime(), meta.ctime_nsec()),
        }
    }
    /// Whether both are of one file, whatever happened to it between them.
    pub(super) fn is_of_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
    /// How long ago the file was written, unless that time lies ahead.
    pub(super) fn written_ago(&self, now: SystemTime) -> Option<Duration> {
        ago(self.modified_ns, now)
    }
    /// Whether a change from now on would give another stamp.
    pub(super) fn is_distinct(&self, now: SystemTime) -> bool {
        ago(self.changed_ns, now).is_some_and(|ago| ago >= COARSEST_TICK)
    }
}

fn ago(time_ns: i128, now: SystemTime) -> Option<Duration> {
    let now_ns = i128::try_from(now.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()?;
    let ago_ns = u64::try_from(now_ns - time_ns).ok()?;
    Some(Duration::from_nanos(ago_ns))
}
