//! A local store whose writes are on disk when they return.

use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// The local filesystem from `/`, with one promise more than `object_store` gives: what was put is on disk, name and
/// all, when the call returns. Delta Lake's commits then survive a power cut whole or not at all.
#[derive(Debug, Default)]
pub struct DurableLocal {
    inner: LocalFileSystem,
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DurableLocal")
    }
}

fn generic(source: std::io::Error) -> Error {
    Error::Generic { store: "DurableLocal", source: Box::new(source) }
}

fn put_synced(target: PathBuf, payload: PutPayload, mode: PutMode) -> Result<()> {
    let (staged, mut file) = stage(&target)?;
    let written = (|| {
        payload.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()
    })();
    let outcome = written.map_err(generic).and_then(|()| match mode {
        PutMode::Create => fs::hard_link(&staged, &target).map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Error::AlreadyExists { path: target.display().to_string(), source: Box::new(source) }
            }
            _ => generic(source),
        }),
        _ => fs::rename(&staged, &target).map_err(generic),
    });
    if outcome.is_err() || mode == PutMode::Create {
        // A leftover is harmless: no reader lists names that start with a dot.
        let _ = fs::remove_file(&staged);
    }
    outcome?;
    sync_folder_of(&target)
}

/// A new file under the name that it has while it is written; its folder is there afterwards. No staged file is ever
/// opened again: what a crash left behind may be another name of a committed file.
fn stage(target: &std::path::Path) -> Result<(PathBuf, File)> {
    let folder = target.parent().ok_or_else(|| generic(std::io::Error::other("a file needs a folder")))?;
    if !folder.exists() {
        create_folder(folder).map_err(generic)?;
    }
    let staged = folder.join(format!(".{}.part", uuid::Uuid::now_v7()));
    let file = File::create_new(&staged).map_err(generic)?;
    Ok((staged, file))
}

fn sync_folder_of(target: &std::path::Path) -> Result<()> {
    let folder = target.parent().unwrap_or(std::path::Path::new("/"));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(generic)
}

/// Makes a folder and syncs every parent that got a new entry.
fn create_folder(folder: &std::path::Path) -> std::io::Result<()> {
    if let Some(parent) = folder.parent() {
        if !parent.exists() {
            create_folder(parent)?;
        }
        match fs::create_dir(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// A file that comes in parts: checkpoints of Delta Lake do. It gets its name once it is on disk, for a reader takes any
/// checkpoint that has one.
#[derive(Debug)]
struct Upload {
    file: Arc<File>,
    staged: PathBuf,
    target: PathBuf,
    len: u64,
    is_open: bool,
}

impl Upload {
    fn start(target: PathBuf) -> Result<Self> {
        let (staged, file) = stage(&target)?;
        Ok(Self { file: Arc::new(file), staged, target, len: 0, is_open: true })
    }
    fn close(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_open) { Ok(()) } else { Err(generic(std::io::Error::other("it has ended"))) }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.is_open {
            // A leftover is harmless: no reader lists names that start with a dot.
            let _ = fs::remove_file(&self.staged);
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|source| Error::JoinError { source })?
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (file, mut at) = (self.file.clone(), self.len);
        self.len += data.content_length() as u64;
        Box::pin(blocking(move || {
            for part in &data {
                file.write_all_at(part, at).map_err(generic)?;
                at += part.len() as u64;
            }
            Ok(())
        }))
    }
    async fn complete(&mut self) -> Result<PutResult> {
        self.close()?;
        let (file, staged, target) = (self.file.clone(), self.staged.clone(), self.target.clone());
        blocking(move || {
            let named = file.sync_all().and_then(|()| fs::rename(&staged, &target)).map_err(generic);
            if named.is_err() {
                let _ = fs::remove_file(&staged);
            }
            named?;
            sync_folder_of(&target)
        })
        .await?;
        Ok(PutResult { e_tag: None, version: None })
    }
    async fn abort(&mut self) -> Result<()> {
        self.close()?;
        let staged = self.staged.clone();
        blocking(move || fs::remove_file(&staged).map_err(generic)).await
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let target = self.inner.path_to_filesystem(location)?;
        blocking(move || put_synced(target, payload, opts.mode)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }
    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let target = self.inner.path_to_filesystem(location)?;
        Ok(Box::new(blocking(move || Upload::start(target)).await?))
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }
    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt as _;

    use super::*;

    #[tokio::test]
    async fn a_file_that_comes_in_parts_has_its_name_once_it_is_whole_and_never_when_it_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableLocal::default();
        let path = Path::from_absolute_path(folder.path().canonicalize().unwrap().join("a/whole")).unwrap();
        let mut upload = store.put_multipart(&path).await.unwrap();
        let (first, second) = (upload.put_part("first ".into()), upload.put_part("second".into()));
        // Parts may end in any order.
        second.await.unwrap();
        first.await.unwrap();
        assert!(store.head(&path).await.is_err());
        upload.complete().await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "first second");
        let mut upload = store.put_multipart(&path).await.unwrap();
        upload.put_part("other".into()).await.unwrap();
        upload.abort().await.unwrap();
        drop(store.put_multipart(&path).await.unwrap());
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "first second");
        assert_eq!(std::fs::read_dir(folder.path().join("a")).unwrap().count(), 1, "nothing is left over");
    }

    #[tokio::test]
    async fn what_a_crash_left_staged_is_another_name_of_a_commit_and_is_never_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let place = Path::from_absolute_path(folder.path().canonicalize().unwrap()).unwrap();
        let create = async |name: &str, text: &'static str| {
            let options = PutOptions::from(PutMode::Create);
            DurableLocal::default().put_opts(&place.clone().join(name), text.into(), options).await.unwrap();
        };
        create("first", "committed").await;
        // A crash between naming the file and taking the staged name away, under every name that the next process with
        // the same id might choose by counting.
        for number in 0..3 {
            let staged = format!(".{}-{number}.part", std::process::id());
            std::fs::hard_link(folder.path().join("first"), folder.path().join(staged)).unwrap();
        }
        create("second", "other").await;
        drop(DurableLocal::default().put_multipart(&place.clone().join("third")).await.unwrap());
        assert_eq!(std::fs::read_to_string(folder.path().join("first")).unwrap(), "committed");
    }
}
