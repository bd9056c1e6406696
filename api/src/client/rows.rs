//! What a query answers: Arrow, decoded batch by batch as it arrives.

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamDecoder;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::{Address, ClientError};
use crate::cli::backend::Answer;

/// A stream on its way.
struct Arriving {
    server: Address,
    response: reqwest::Response,
    decoder: StreamDecoder,
    /// What has arrived and is not decoded.
    left: Buffer,
}

/// Waits for the columns; the rows come as they are asked for.
pub async fn arriving(server: Address, response: reqwest::Response) -> Result<Answer, ClientError> {
    let left = Buffer::from(Vec::<u8>::new());
    let mut arriving = Arriving { server, response, decoder: StreamDecoder::new(), left };
    let first = arriving.next().await?;
    let schema: SchemaRef = match arriving.decoder.schema() {
        Some(schema) => schema,
        None => return Err(arriving.unreadable("it holds no columns")),
    };
    let batches = futures::stream::try_unfold((arriving, first, true), |(mut arriving, first, is_first)| async move {
        let next = if is_first { first } else { arriving.next().await? };
        Ok::<_, ClientError>(next.map(|batch| (batch, (arriving, None, false))))
    });
    let batches: BoxStream<'static, anyhow::Result<RecordBatch>> = batches.map(|batch| Ok(batch?)).boxed();
    Ok(Answer { schema, batches })
}

impl Arriving {
    /// The next batch; nothing at the end. A stream that ends before its end mark is broken off.
    async fn next(&mut self) -> Result<Option<RecordBatch>, ClientError> {
        loop {
            while !self.left.is_empty() {
                let decoded = self.decoder.decode(&mut self.left);
                if let Some(batch) = decoded.map_err(|error| self.unreadable(&error.to_string()))? {
                    return Ok(Some(batch));
                }
            }
            let arrived = self.response.chunk().await.map_err(|source| ClientError::BrokenOff {
                server: self.server.clone(),
                source: source.without_url(),
            })?;
            match arrived {
                Some(bytes) => self.left = Buffer::from(bytes),
                None => {
                    self.decoder.finish().map_err(|error| self.unreadable(&error.to_string()))?;
                    return Ok(None);
                }
            }
        }
    }

    fn unreadable(&self, why: &str) -> ClientError {
        let theirs = super::error::version_of(self.response.headers());
        ClientError::Unreadable { server: self.server.clone(), why: why.to_owned(), theirs }
    }
}
