//! Parquet footers kept across queries.
//!
//! Files never change under their path, so a footer holds as long as its store. The store is part of the key: two
//! tenants' stores may use the same path.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::error::Result;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{AsyncFileReader, MetadataFetch};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use super::QueryError;
use crate::{Lost, LostFile};

/// Bytes read from a file's end at first: most footers fit.
const FOOTER_BYTES: usize = 32 << 10;

/// Footers by store and path, the least lately used dropped first.
#[derive(Debug)]
pub(super) struct FooterCache {
    kept: Mutex<Kept>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Kept {
    footers: HashMap<Key, Footer>,
    bytes: usize,
    uses: u64,
}

/// A store's address stands for the store: the entry holds the store, so the address is not used again.
type Key = (usize, Path);

#[derive(Debug)]
struct Footer {
    _store: Arc<dyn ObjectStore>,
    metadata: Arc<ParquetMetaData>,
    bytes: usize,
    used: u64,
}

impl FooterCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { kept: Mutex::default(), bytes_max }
    }

    /// The footer of a file, with its page index if asked for and written.
    pub(super) async fn load(
        &self,
        store: &Arc<dyn ObjectStore>,
        file: &ObjectMeta,
        pages: PageIndexPolicy,
    ) -> Result<Arc<ParquetMetaData>> {
        let key = (Arc::as_ptr(store).cast::<()>() as usize, file.location.clone());
        if let Some(metadata) = self.get(&key)
            && (pages == PageIndexPolicy::Skip || metadata.offset_index().is_some())
        {
            return Ok(metadata);
        }
        let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER_BYTES)).with_page_index_policy(pages);
        let metadata = Arc::new(reader.load_and_finish(Whole { store, file }, file.size).await?);
        self.put(key, Arc::clone(store), &metadata);
        Ok(metadata)
    }

    fn get(&self, key: &Key) -> Option<Arc<ParquetMetaData>> {
        let mut kept = self.kept.lock();
        kept.uses += 1;
        let now = kept.uses;
        let footer = kept.footers.get_mut(key)?;
        footer.used = now;
        Some(Arc::clone(&footer.metadata))
    }

    fn put(&self, key: Key, store: Arc<dyn ObjectStore>, metadata: &Arc<ParquetMetaData>) {
        let bytes = metadata.memory_size();
        if bytes > self.bytes_max / 4 {
            return;
        }
        let mut kept = self.kept.lock();
        kept.bytes += bytes;
        let used = kept.uses;
        let footer = Footer { _store: store, metadata: Arc::clone(metadata), bytes, used };
        if let Some(before) = kept.footers.insert(key, footer) {
            kept.bytes -= before.bytes;
        }
        if kept.bytes > self.bytes_max {
            kept.drop_oldest(self.bytes_max / 2);
        }
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.kept.lock().bytes
    }
}

impl Kept {
    fn drop_oldest(&mut self, bytes_left: usize) {
        let mut by_age: Vec<_> = self.footers.iter().map(|(key, footer)| (footer.used, key.clone())).collect();
        by_age.sort_unstable_by_key(|(used, _)| *used);
        for (_, key) in by_age {
            if self.bytes <= bytes_left {
                return;
            }
            if let Some(footer) = self.footers.remove(&key) {
                self.bytes -= footer.bytes;
            }
        }
    }
}

/// Opens the files of one store with cached footers.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) footers: Arc<FooterCache>,
    pub(super) lost: Lost,
}

impl ParquetFileReaderFactory for Reader {
    fn create_reader(
        &self,
        _: usize,
        file: PartitionedFile,
        _: Option<usize>,
        _: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let (store, footers, lost) = (Arc::clone(&self.store), Arc::clone(&self.footers), self.lost.clone());
        Ok(Box::new(FileReader { store, footers, lost, file: file.object_meta }))
    }
}

/// Reads parts of a file that are whole: of one that was cut short some stores give what is left, which no decoder checks.
struct Whole<'a> {
    store: &'a Arc<dyn ObjectStore>,
    file: &'a ObjectMeta,
}

impl Whole<'_> {
    async fn read(&self, ranges: &[Range<u64>]) -> parquet::errors::Result<Vec<Bytes>> {
        let parts = self.store.get_ranges(&self.file.location, ranges).await.map_err(external)?;
        match parts.iter().zip(ranges).all(|(part, range)| part.len() as u64 == range.end - range.start) {
            true => Ok(parts),
            false => Err(ParquetError::EOF("the file ends before that".into())),
        }
    }
}

impl MetadataFetch for Whole<'_> {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move { self.read(&[range]).await.map(|mut parts| parts.pop().unwrap_or_default()) }.boxed()
    }
}

struct FileReader {
    store: Arc<dyn ObjectStore>,
    footers: Arc<FooterCache>,
    lost: Lost,
    file: ObjectMeta,
}

impl FileReader {
    /// Parts of the file, whole.
    async fn read(&self, ranges: &[Range<u64>]) -> parquet::errors::Result<Vec<Bytes>> {
        match (Whole { store: &self.store, file: &self.file }).read(ranges).await {
            Ok(parts) => Ok(parts),
            Err(error) => Err(self.told(error).await),
        }
    }

    /// What an error while reading means.
    async fn told(&self, error: impl std::error::Error + Send + Sync + 'static) -> ParquetError {
        match lost(&self.store, &self.file, &self.lost).await {
            Some(expired) => external(expired),
            None => external(error),
        }
    }
}

/// Looks, after an error, whether a file is gone or cut short. If so its view is told, and the query has to ask anew.
pub(super) async fn lost(store: &Arc<dyn ObjectStore>, file: &ObjectMeta, lost: &Lost) -> Option<QueryError> {
    let found = match store.head(&file.location).await {
        Ok(meta) if meta.size == file.size => return None,
        Ok(meta) => Some(meta.size),
        Err(object_store::Error::NotFound { .. }) => None,
        Err(_) => return None,
    };
    lost.tell(LostFile { path: file.location.clone(), expected: file.size, found });
    Some(QueryError::Expired)
}

impl AsyncFileReader for FileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move { self.read(&[range]).await.map(|mut parts| parts.pop().unwrap_or_default()) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move { self.read(&ranges).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        let pages = options.map_or(PageIndexPolicy::Skip, |o| o.column_index_policy());
        async move {
            match self.footers.load(&self.store, &self.file, pages).await {
                Ok(footer) => Ok(footer),
                Err(error) => Err(self.told(error).await),
            }
        }
        .boxed()
    }
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> ParquetError {
    ParquetError::External(Box::new(error))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch};
    use object_store::memory::InMemory;
    use parquet::arrow::ArrowWriter;

    use super::*;

    async fn file(store: &dyn ObjectStore, name: &str, rows: i64) -> ObjectMeta {
        let values = Int64Array::from_iter_values(0..rows);
        let batch = RecordBatch::try_from_iter([("x", Arc::new(values) as _)]).unwrap();
        let mut writer = ArrowWriter::try_new(vec![], batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let path = Path::from(name);
        store.put(&path, writer.into_inner().unwrap().into()).await.unwrap();
        store.head(&path).await.unwrap()
    }

    #[tokio::test]
    async fn the_same_path_in_two_stores_is_two_files() {
        let cache = FooterCache::new(1 << 20);
        let stores: [Arc<dyn ObjectStore>; 2] = [Arc::new(InMemory::new()), Arc::new(InMemory::new())];
        for (store, rows) in stores.iter().zip([3, 7]) {
            let meta = file(store.as_ref(), "a.parquet", rows).await;
            let footer = cache.load(store, &meta, PageIndexPolicy::Skip).await.unwrap();
            assert_eq!(footer.file_metadata().num_rows(), rows);
        }
    }

    #[tokio::test]
    async fn kept_bytes_stay_within_the_bound() {
        let cache = FooterCache::new(40 << 10);
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        for i in 0..200 {
            let meta = file(store.as_ref(), &format!("{i}.parquet"), 2).await;
            cache.load(&store, &meta, PageIndexPolicy::Skip).await.unwrap();
            assert!(cache.bytes() <= 40 << 10);
        }
    }
}
