//! A store and a log that fail, or wait, when they are told to.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use pipeline::{Durability, Log, LogError, Stored};
use projections::view::Place;
use projections::view::durable::DurableLocal;
use schemas::Topic;
use schemas::batch::Batch;
use tokio::sync::watch;

/// How far a clock is behind.
pub const BEHIND: Duration = Duration::from_secs(900);

/// What a store does wrong: to objects whose path holds a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Nothing can be put.
    Put(&'static str),
    /// Putting says that the disk is full.
    PutFull(&'static str),
    /// Putting is refused.
    PutDenied(&'static str),
    /// Putting takes too long.
    PutAway(&'static str),
    /// What is to be made once is overwritten.
    Overwrites(&'static str),
    /// Reading and putting are refused.
    Denied(&'static str),
    /// Reading data files is refused, and putting anything.
    AllDenied,
    /// The clock of the store is [`BEHIND`] that of this machine.
    Late,
    /// Reading says that the disk is full.
    Full(&'static str),
    /// Reading waits.
    Wait(&'static str),
}

#[derive(Debug)]
pub struct FaultyStore {
    inner: DurableLocal,
    faults: Faults,
}

/// What a store does wrong now, and what it was asked for.
#[derive(Debug, Clone)]
pub struct Faults {
    now: Arc<watch::Sender<Fault>>,
    reads: Arc<watch::Sender<Vec<Path>>>,
}

impl Faults {
    /// From now on the store does this wrong.
    pub fn send_replace(&self, fault: Fault) {
        self.now.send_replace(fault);
    }
    /// Returns once a read waits because of the fault.
    pub async fn is_waited_for(&self) {
        let now = *self.now.borrow();
        let is_met = |reads: &Vec<Path>| reads.iter().any(|path| now.of(path) == now);
        self.reads.subscribe().wait_for(is_met).await.unwrap();
    }
    /// How often data files were read.
    pub fn data_reads(&self) -> usize {
        self.reads.borrow().iter().filter(|path| path.as_ref().contains("/part-")).count()
    }
}

impl Fault {
    /// What goes wrong with a path.
    fn of(self, path: &Path) -> Self {
        match self {
            Self::Put(part)
            | Self::PutFull(part)
            | Self::PutDenied(part)
            | Self::PutAway(part)
            | Self::Overwrites(part)
            | Self::Denied(part)
            | Self::Full(part)
            | Self::Wait(part)
                if path.as_ref().contains(part) =>
            {
                self
            }
            Self::AllDenied | Self::Late => self,
            _ => Self::None,
        }
    }
}

/// Views in `folder`; what is sent makes them fail.
pub fn faulty_place(folder: &std::path::Path) -> (Place, Faults) {
    let faults = Faults { now: Arc::new(watch::Sender::new(Fault::None)), reads: Arc::default() };
    let url = url::Url::from_directory_path(folder.canonicalize().unwrap()).unwrap();
    let root = Arc::new(FaultyStore { inner: DurableLocal::default(), faults: faults.clone() });
    (Place::remote(root, url), faults)
}

impl FaultyStore {
    fn fault(&self, path: &Path) -> Fault {
        self.faults.now.borrow().of(path)
    }
    fn failure(kind: std::io::ErrorKind) -> Error {
        Error::Generic { store: "faulty", source: Box::new(std::io::Error::from(kind)) }
    }
    fn dated(&self, mut object: ObjectMeta) -> ObjectMeta {
        if self.fault(&object.location) == Fault::Late {
            object.last_modified -= BEHIND;
        }
        object
    }
    fn refusal(path: &Path) -> Error {
        Error::PermissionDenied { path: path.to_string(), source: "it is not ours".into() }
    }
    async fn before_read(&self, path: &Path) -> Result<()> {
        self.faults.reads.send_modify(|reads| reads.push(path.clone()));
        match self.fault(path) {
            Fault::Full(_) => Err(Self::failure(std::io::ErrorKind::StorageFull)),
            Fault::Wait(_) => {
                let _ = self.faults.now.subscribe().wait_for(|fault| !matches!(fault, Fault::Wait(_))).await;
                Ok(())
            }
            Fault::Denied(_) => Err(Self::refusal(path)),
            Fault::AllDenied if path.as_ref().ends_with(".parquet") => Err(Self::refusal(path)),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        match self.fault(location) {
            Fault::Put(_) => Err(Self::failure(std::io::ErrorKind::Other)),
            Fault::PutFull(_) => Err(Self::failure(std::io::ErrorKind::StorageFull)),
            Fault::PutDenied(_) | Fault::Denied(_) | Fault::AllDenied => Err(Self::refusal(location)),
            Fault::PutAway(_) => Err(Self::failure(std::io::ErrorKind::TimedOut)),
            Fault::Overwrites(_) => self.inner.put_opts(location, payload, PutOptions::default()).await,
            _ => self.inner.put_opts(location, payload, opts).await,
        }
    }
    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.before_read(location).await?;
        let mut found = self.inner.get_opts(location, options).await?;
        found.meta = self.dated(found.meta);
        Ok(found)
    }
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.before_read(location).await?;
        self.inner.get_ranges(location, ranges).await
    }
    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        listed.objects = listed.objects.into_iter().map(|object| self.dated(object)).collect();
        Ok(listed)
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A log that cannot make anything durable, or waits when it is read from some offsets, once it is told so.
pub struct FaultyLog {
    pub inner: Arc<dyn Log>,
    pub fails: AtomicBool,
    /// Reads from these offsets wait.
    pub holds: watch::Sender<Range<u64>>,
    /// From where it was read.
    pub reads: watch::Sender<Vec<u64>>,
}

impl FaultyLog {
    /// Nothing is wrong yet.
    pub fn new(inner: Arc<dyn Log>) -> Arc<Self> {
        let (holds, reads) = (watch::Sender::default(), watch::Sender::default());
        Arc::new(Self { inner, fails: AtomicBool::new(false), holds, reads })
    }
    /// Reads from these offsets wait from now on.
    pub fn hold(&self, offsets: Range<u64>) {
        self.reads.send_modify(Vec::clear);
        self.holds.send_replace(offsets);
    }
    /// Returns once a read waits.
    pub async fn is_waited_for(&self) {
        let holds = self.holds.borrow().clone();
        self.reads.subscribe().wait_for(|reads| reads.iter().any(|from| holds.contains(from))).await.unwrap();
    }
}

#[async_trait]
impl Log for FaultyLog {
    fn partitions(&self, topic: Topic) -> u32 {
        self.inner.partitions(topic)
    }
    fn epoch(&self, topic: Topic) -> u32 {
        self.inner.epoch(topic)
    }
    async fn append(
        &self,
        topic: Topic,
        partition: u32,
        batches: Vec<Batch>,
        durability: Durability,
    ) -> std::result::Result<Vec<u64>, LogError> {
        self.inner.append(topic, partition, batches, durability).await
    }
    async fn read(
        &self,
        topic: Topic,
        partition: u32,
        from: u64,
        max_bytes: usize,
    ) -> std::result::Result<Vec<Stored>, LogError> {
        self.reads.send_modify(|reads| reads.push(from));
        let _ = self.holds.subscribe().wait_for(|holds| !holds.contains(&from)).await;
        self.inner.read(topic, partition, from, max_bytes).await
    }
    async fn end(&self, topic: Topic, partition: u32) -> std::result::Result<u64, LogError> {
        self.inner.end(topic, partition).await
    }
    async fn wait_beyond(&self, topic: Topic, partition: u32, offset: u64) -> std::result::Result<(), LogError> {
        self.inner.wait_beyond(topic, partition, offset).await
    }
    async fn sync(&self) -> std::result::Result<(), LogError> {
        if self.fails.load(Ordering::Acquire) { Err(LogError::DiskFull) } else { self.inner.sync().await }
    }
}
