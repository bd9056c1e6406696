//! Values that are too large for a row, in parts.

use bytes::Bytes;

use super::ScyllaStore;
use super::head::Head;
use super::reading::first_row;
use crate::store::StoreError;

/// A larger value is put down in parts of this size. Cassandra refuses a write of 16 MiB, and ScyllaDB warns of 1 MiB.
const PART_BYTES: usize = 512 << 10;

impl ScyllaStore {
    /// The value of a row, put together from its parts; nothing when they are gone.
    pub(super) async fn whole(&self, head: &Head, value: Vec<u8>) -> Result<Option<Bytes>, StoreError> {
        if head.parts == 0 {
            return Ok(Some(value.into()));
        }
        let mut whole = Vec::new();
        for part in 0..head.parts {
            let chunk = self.again(|| async {
                let found = self.session.execute_unpaged(&self.statements.get_chunk, (head.mark(), part)).await?;
                Ok(first_row::<(Vec<u8>,)>(found)?.map(|(chunk,)| chunk))
            });
            match chunk.await? {
                Some(chunk) => whole.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
        Ok(Some(whole.into()))
    }

    /// Puts a value down in parts, where it is too large for a row. Answers how many there are.
    pub(super) async fn put_parts(&self, mark: &[u8], value: &[u8]) -> Result<i32, StoreError> {
        if value.len() <= PART_BYTES {
            return Ok(0);
        }
        let mut parts = 0;
        for chunk in value.chunks(PART_BYTES) {
            let put = self.again(|| async {
                self.session.execute_unpaged(&self.statements.put_chunk, (mark, parts, chunk)).await?;
                Ok(())
            });
            put.await?;
            parts += 1;
        }
        Ok(parts)
    }

    /// Removes parts that no row names any more. What is left behind when this fails does no harm.
    pub(super) async fn drop_parts(&self, mark: &[u8], parts: i32) {
        if parts == 0 {
            return;
        }
        if let Err(error) = self.session.execute_unpaged(&self.statements.delete_chunks, (mark,)).await {
            tracing::warn!(%error, "the parts of a value that was replaced stay behind");
        }
    }
}
