//! Where views lie: one folder per tenant, one table per view, and a local store whose writes are on disk when they
//! return.

use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use schemas::TenantId;
use schemas::ids::EntityName;
use url::Url;

/// The root under which all views lie.
#[derive(Debug, Clone)]
pub struct Place {
    root: Arc<dyn ObjectStore>,
    views: Arc<dyn ObjectStore>,
    url: Url,
}

/// Where one table lies.
#[derive(Debug, Clone)]
pub struct TablePlace {
    /// Its URL, as Delta Lake readers take it.
    pub url: Url,
    /// A store with `/` at the root of the storage system.
    pub root: Arc<dyn ObjectStore>,
    /// A store with `/` at the folder of all views.
    pub views: Arc<dyn ObjectStore>,
    /// The table's folder in `views`.
    pub prefix: Path,
}

impl TablePlace {
    /// A file of the table as a path in `views`.
    pub fn file(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.prefix))
    }
    /// The table's name for messages.
    pub fn name(&self) -> &str {
        self.prefix.as_ref()
    }
}

impl Place {
    /// A folder on the local disk; it is made if it is not there.
    pub fn local(folder: &std::path::Path) -> std::io::Result<Self> {
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        let url = Url::from_directory_path(&folder)
            .map_err(|()| std::io::Error::other(format!("{} is no absolute path", folder.display())))?;
        let root: Arc<dyn ObjectStore> = Arc::new(DurableLocal::default());
        let prefix = Path::from_absolute_path(&folder).map_err(std::io::Error::other)?;
        let views = Arc::new(PrefixStore::new(root.clone(), prefix));
        Ok(Self { root, views, url })
    }
    /// A store with `/` at the root of the storage system, and the URL of the folder of all views in it.
    pub fn remote(root: Arc<dyn ObjectStore>, url: Url) -> Self {
        let prefix = Path::from(url.path());
        Self { views: Arc::new(PrefixStore::new(root.clone(), prefix)), root, url }
    }
    /// The store in which files of views are named by their path from the folder of all views.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.views.clone()
    }
    /// Where a tenant's table lies.
    pub fn table(&self, tenant: TenantId, table: &EntityName) -> TablePlace {
        self.named(format!("{tenant}/{table}"))
    }
    /// Where the deleted keys of a tenant's table lie.
    pub fn deleted(&self, tenant: TenantId, table: &EntityName) -> TablePlace {
        self.named(format!("{tenant}/{table}__deleted"))
    }
    fn named(&self, prefix: String) -> TablePlace {
        let mut url = self.url.clone();
        let folder = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{folder}/{prefix}/"));
        TablePlace { url, root: self.root.clone(), views: self.views.clone(), prefix: Path::from(prefix) }
    }
}

/// The local filesystem from `/`, with one promise more than `object_store` gives: what was put is on disk, name and
/// all, when the call returns. Delta Lake's commits then survive a power cut whole or not at all.
#[derive(Debug, Default)]
pub struct DurableLocal {
    inner: LocalFileSystem,
    staged: AtomicU64,
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DurableLocal")
    }
}

fn generic(source: std::io::Error) -> Error {
    Error::Generic { store: "DurableLocal", source: Box::new(source) }
}

fn put_synced(target: PathBuf, number: u64, payload: PutPayload, mode: PutMode) -> Result<()> {
    let folder = target.parent().ok_or_else(|| generic(std::io::Error::other("a file needs a folder")))?;
    if !folder.exists() {
        create_folder(folder).map_err(generic)?;
    }
    let staged = folder.join(format!(".{}-{number}.part", std::process::id()));
    let written = (|| {
        let mut file = File::create(&staged)?;
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

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let target = self.inner.path_to_filesystem(location)?;
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        tokio::task::spawn_blocking(move || put_synced(target, number, payload, opts.mode))
            .await
            .map_err(|source| Error::JoinError { source })??;
        Ok(PutResult { e_tag: None, version: None })
    }
    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        // Only Delta Lake's checkpoints come this way; a lost checkpoint costs time, not data.
        self.inner.put_multipart_opts(location, opts).await
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
