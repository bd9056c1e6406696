//! The data folder: who holds it, and what it says about itself.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{OpenError, Partitions};

/// The version of the data folder's format that this build writes.
pub const FORMAT_VERSION: u32 = 1;

const FORMAT_FILE: &str = "format";
const LOCK_FILE: &str = "lock";
const DATABASE_FOLDER: &str = "engine";
const DATABASE_FOLDER_NEW: &str = "engine.new";

/// What the file `format` says. A newer version may say anything else; only `format` is ever read of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Format {
    format: u32,
    epoch: u32,
    inputs: u32,
    events: u32,
    decisions: u32,
}

#[derive(Deserialize)]
struct FormatVersion {
    format: u32,
}

/// A data folder that this process holds.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Generation of its topics.
    pub(super) epoch: u32,
    /// Partition counts that it was made with.
    pub(super) partitions: Partitions,
    _lock: File,
}

impl Folder {
    /// Takes hold of a folder; an empty one is made a data folder with `partitions`, of the generation `epoch`.
    pub(super) fn hold(path: &Path, partitions: Partitions, epoch: u32) -> Result<Self, OpenError> {
        if !partitions.are_valid() {
            return Err(OpenError::Partitions(partitions));
        }
        create_folder(path)?;
        let lock = lock(path)?;
        let format = match fs::read(path.join(FORMAT_FILE)) {
            Ok(bytes) => read_format(path, &bytes)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => write_format(path, partitions, epoch)?,
            Err(source) => return Err(at(&path.join(FORMAT_FILE))(source)),
        };
        let partitions = Partitions { inputs: format.inputs, events: format.events, decisions: format.decisions };
        Ok(Self { path: path.to_owned(), epoch: format.epoch, partitions, _lock: lock })
    }

    /// The folder of the database; `make` fills a new one. A crash meanwhile leaves nothing that is taken for a database.
    pub(super) fn database(&self, make: impl FnOnce(&Path) -> Result<(), OpenError>) -> Result<PathBuf, OpenError> {
        let database = self.path.join(DATABASE_FOLDER);
        if !database.exists() {
            let new = self.path.join(DATABASE_FOLDER_NEW);
            if new.exists() {
                fs::remove_dir_all(&new).map_err(at(&new))?;
            }
            make(&new)?;
            fs::rename(&new, &database).map_err(at(&new))?;
            sync_folder(&self.path)?;
        }
        Ok(database)
    }

    /// Bytes free to us in the folder's filesystem, and its size.
    pub(super) fn free_and_total_bytes(&self) -> std::io::Result<(u64, u64)> {
        free_and_total_bytes(&self.path)
    }
}

/// Bytes free to us in the filesystem of a path, and its size.
pub fn free_and_total_bytes(path: &Path) -> std::io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(path)?;
    Ok((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
}

/// The format version of a data folder; `None` if the folder is none. Nothing is made or held.
pub fn format_version(folder: &Path) -> Result<Option<u32>, OpenError> {
    let path = folder.join(FORMAT_FILE);
    match fs::read(&path) {
        Ok(bytes) => read_format(folder, &bytes).map(|format| Some(format.format)),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(at(&path)(source)),
    }
}

/// Fails if somebody holds the folder, and names them. Nothing is made or held.
pub fn check_free(folder: &Path) -> Result<(), OpenError> {
    if folder.join(LOCK_FILE).exists() { lock(folder).map(drop) } else { Ok(()) }
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> OpenError {
    let path = path.to_owned();
    |source| OpenError::Io { path, source }
}

fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(LOCK_FILE);
    let mut file =
        File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => {
            let note = std::process::id().to_string();
            file.set_len(0).and_then(|()| file.rewind()).map_err(at(&path))?;
            file.write_all(note.as_bytes()).map_err(at(&path))?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut note = String::new();
            let read = file.read_to_string(&mut note).is_ok_and(|_| !note.trim().is_empty());
            let holder = if read { format!("process {}", note.trim()) } else { "another process".to_owned() };
            Err(OpenError::Held { folder: folder.to_owned(), holder })
        }
        Err(TryLockError::Error(source)) => Err(at(&path)(source)),
    }
}

fn read_format(folder: &Path, bytes: &[u8]) -> Result<Format, OpenError> {
    let path = folder.join(FORMAT_FILE);
    let damaged = |problem: String| OpenError::Format { path: path.clone(), problem };
    let version: FormatVersion = serde_json::from_slice(bytes).map_err(|e| damaged(format!("is damaged ({e})")))?;
    if version.format > FORMAT_VERSION {
        return Err(OpenError::Newer { folder: folder.to_owned(), found: version.format, known: FORMAT_VERSION });
    }
    let format: Format = serde_json::from_slice(bytes).map_err(|e| damaged(format!("is damaged ({e})")))?;
    let partitions = Partitions { inputs: format.inputs, events: format.events, decisions: format.decisions };
    if version.format == 0 || !partitions.are_valid() {
        return Err(damaged("is damaged (a number is out of range)".to_owned()));
    }
    Ok(format)
}

fn write_format(folder: &Path, partitions: Partitions, epoch: u32) -> Result<Format, OpenError> {
    let path = folder.join(FORMAT_FILE);
    if folder.join(DATABASE_FOLDER).exists() {
        return Err(OpenError::Format { path, problem: "is missing, though the folder has a database".to_owned() });
    }
    let Partitions { inputs, events, decisions } = partitions;
    let format = Format { format: FORMAT_VERSION, epoch, inputs, events, decisions };
    let mut text = serde_json::to_vec(&format).expect("numbers can be written as JSON");
    text.push(b'\n');
    let new = folder.join("format.new");
    let mut file = File::create(&new).map_err(at(&new))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(at(&new))?;
    fs::rename(&new, &path).map_err(at(&path))?;
    sync_folder(folder)?;
    sync_folder(parent_of(folder))?;
    Ok(format)
}

fn parent_of(folder: &Path) -> &Path {
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        // Of the root itself.
        None => folder,
        Some(_) => Path::new("."),
    }
}

/// Makes a folder and syncs every parent that got a new entry.
fn create_folder(folder: &Path) -> Result<(), OpenError> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = parent_of(folder);
    create_folder(parent)?;
    match fs::create_dir(folder) {
        Err(_) if folder.is_dir() => {}
        made => made.map_err(at(folder))?,
    }
    sync_folder(parent)
}

fn sync_folder(folder: &Path) -> Result<(), OpenError> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(at(folder))
}
