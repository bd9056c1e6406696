//! Where views lie: one folder per tenant, one table per view, in a folder on disk or in an object store.
//!
//! [`settings`] is what an operator says, `s3` opens a bucket, [`check`] asks a store for what views need of it.

pub mod check;
#[cfg(feature = "s3")]
mod s3;
pub mod settings;

use std::fs;
use std::sync::Arc;

use deltalake_core::DeltaResult;
use deltalake_core::logstore::{LogStore, LogStoreFactory, StorageConfig, default_logstore, logstore_factories};
use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use schemas::TenantId;
use schemas::ids::EntityName;
use url::Url;

pub use check::{Access, PlaceError};
pub use settings::{Located, Settings};

use super::durable::DurableLocal;

/// The root under which all views lie.
#[derive(Debug, Clone)]
pub struct Place {
    root: Arc<dyn ObjectStore>,
    views: Arc<dyn ObjectStore>,
    url: Url,
    mark: String,
    making: Arc<tokio::sync::RwLock<()>>,
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
    /// Written by who makes a table, read by who opens one: what is half made has no sound log.
    pub making: Arc<tokio::sync::RwLock<()>>,
}

impl TablePlace {
    /// A file of the table as a path in `views`.
    pub fn file(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.prefix))
    }
    /// The folder of the table's commits and checkpoints.
    pub fn log(&self) -> Path {
        self.file("_delta_log")
    }
    /// Whether a path in `views` is that of a data file of the table; checkpoints of its log are none.
    pub fn is_data(&self, path: &Path) -> bool {
        path.as_ref().ends_with(".parquet") && !path.prefix_matches(&self.log())
    }
    /// The table's name for messages.
    pub fn name(&self) -> &str {
        self.prefix.as_ref()
    }
}

impl Place {
    /// The place that an operator named; `folder` where none was. Whether it can be used is for [`Place::check`] to say.
    pub fn open(settings: Option<&Settings>, folder: &std::path::Path) -> Result<Self, PlaceError> {
        settings.map_or_else(|| Self::folder(folder), Self::of)
    }
    /// The place that an operator named.
    pub fn of(settings: &Settings) -> Result<Self, PlaceError> {
        match settings.located()? {
            Located::Folder(folder) => {
                let place = Self::folder(&folder)?;
                Ok(Self { mark: format!("@{}", place.url), ..place })
            }
            Located::Bucket { bucket, prefix } => Self::bucket(settings, bucket, prefix),
        }
    }
    fn folder(folder: &std::path::Path) -> Result<Self, PlaceError> {
        Self::local(folder).map_err(|source| PlaceError::Folder { folder: folder.to_owned(), source })
    }
    #[cfg(not(feature = "s3"))]
    fn bucket(settings: &Settings, _: &str, _: &str) -> Result<Self, PlaceError> {
        Err(PlaceError::NotBuilt(settings.location.clone()))
    }
    /// A folder on the local disk; it is made if it is not there.
    pub fn local(folder: &std::path::Path) -> std::io::Result<Self> {
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        let url = Url::from_directory_path(&folder)
            .map_err(|()| std::io::Error::other(format!("{} is no absolute path", folder.display())))?;
        let root: Arc<dyn ObjectStore> = Arc::new(DurableLocal::default());
        let prefix = Path::from_absolute_path(&folder).map_err(std::io::Error::other)?;
        let views = Arc::new(PrefixStore::new(root.clone(), prefix));
        Ok(Self { root, views, url, mark: String::new(), making: Arc::default() })
    }
    /// A store with `/` at the root of the storage system, and the URL of the folder of all views in it. Its puts have to
    /// honour [`object_store::PutMode::Create`].
    pub fn remote(root: Arc<dyn ObjectStore>, url: Url) -> Self {
        commit_by_conditional_put(&url);
        let prefix = Path::from(url.path());
        let views = Arc::new(PrefixStore::new(root.clone(), prefix));
        let mark = if url.scheme() == "file" { String::new() } else { format!("@{url}") };
        Self { root, views, url, mark, making: Arc::default() }
    }
    /// The store in which files of views are named by their path from the folder of all views.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.views.clone()
    }
    /// Its URL, as Delta Lake readers take it.
    pub fn url(&self) -> &Url {
        &self.url
    }
    /// What the names of rows in the store end with that say how far the tables of this place are. Nothing for a folder
    /// that belongs to its data folder; a place that was named has rows of its own, so that views which are sent elsewhere
    /// are folded there from the start.
    pub fn mark(&self) -> &str {
        &self.mark
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
        TablePlace {
            url,
            root: self.root.clone(),
            views: self.views.clone(),
            prefix: Path::from(prefix),
            making: self.making.clone(),
        }
    }
}

/// Has the library of the tables commit to places of this kind as it does in folders: by a put that fails where an object
/// is. It knows folders and memory by itself.
fn commit_by_conditional_put(url: &Url) {
    struct ConditionalPut;
    impl LogStoreFactory for ConditionalPut {
        fn with_options(
            &self,
            table: Arc<dyn ObjectStore>,
            root: Arc<dyn ObjectStore>,
            location: &Url,
            options: &StorageConfig,
        ) -> DeltaResult<Arc<dyn LogStore>> {
            Ok(default_logstore(table, root, location, options))
        }
    }
    if let Ok(scheme) = Url::parse(&format!("{}://", url.scheme())) {
        logstore_factories().entry(scheme).or_insert_with(|| Arc::new(ConditionalPut));
    }
}
