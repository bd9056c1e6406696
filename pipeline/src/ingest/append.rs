//! Putting records and commands on the log.

use std::collections::BTreeMap;

use schemas::input::DeclaredField;
use schemas::record::RecordBatch;
use schemas::{Batch, BatchHeader, BatchKind, Input, Topic, Trace};

use super::{Ingest, OpenStream};
use crate::log::{Durability, LogError};

impl Ingest {
    /// Appends inputs that are no records, in their order; they are on disk when this returns. Answers the offset behind
    /// the last.
    pub async fn send(&self, open: &OpenStream, inputs: &[Input]) -> Result<u64, LogError> {
        let batches = inputs.iter().map(|input| control(open, input)).collect();
        let firsts = self.log.append(Topic::Inputs, open.partition, batches, Durability::Durable).await?;
        Ok(firsts.last().map_or(0, |last| last + 1))
    }

    /// Appends one input to each of several streams; all are on disk when this returns.
    pub(crate) async fn send_each(&self, inputs: &[(OpenStream, Input)]) -> Result<(), LogError> {
        let mut partitions: BTreeMap<u32, Vec<Batch>> = BTreeMap::new();
        for (open, input) in inputs {
            let body = serde_json::to_vec(input).expect("an input has only text keys");
            partitions.entry(open.partition).or_default().push(batch(open, BatchKind::Control, 1, body));
        }
        for (partition, batches) in partitions {
            self.log.append(Topic::Inputs, partition, batches, Durability::Durable).await?;
        }
        Ok(())
    }

    /// Appends records that come again. Answers the offset behind the last.
    pub(crate) async fn append_again(&self, open: &OpenStream, records: RecordBatch) -> Result<u64, LogError> {
        let count = u64::from(records.count);
        let batches = vec![batch(open, BatchKind::Redriven, records.count, records.body)];
        let firsts = self.log.append(Topic::Inputs, open.partition, batches, Durability::Durable).await?;
        Ok(firsts.first().copied().unwrap_or_default() + count)
    }

    /// Appends records; they are on disk when this returns. Answers the offset behind the last. Waits while the log is
    /// busy with as many bytes as it may hold.
    pub async fn append(&self, open: &OpenStream, records: RecordBatch) -> Result<u64, LogError> {
        self.append_traced(open, records, None).await
    }

    /// The same; the records, and those that follow, have the fields that their source declares.
    pub async fn append_declared(
        &self,
        open: &OpenStream,
        fields: &[DeclaredField],
        records: RecordBatch,
    ) -> Result<u64, LogError> {
        let count = records.count;
        let declared = control(open, &Input::SchemaDeclared { fields: fields.to_vec() });
        let batches = vec![declared, batch(open, BatchKind::Records, count, records.body)];
        let firsts = self.log.append(Topic::Inputs, open.partition, batches, Durability::Durable).await?;
        Ok(firsts.last().copied().unwrap_or_default() + u64::from(count))
    }

    /// The same; what comes of the records carries the trace of the request that brought them.
    pub async fn append_traced(
        &self,
        open: &OpenStream,
        records: RecordBatch,
        trace: Option<Trace>,
    ) -> Result<u64, LogError> {
        let count = records.count;
        if count == 0 {
            return self.log.end(Topic::Inputs, open.partition).await;
        }
        let mut batch = batch(open, BatchKind::Records, count, records.body);
        batch.header.trace = trace;
        let batches = vec![batch];
        let firsts = self.log.append(Topic::Inputs, open.partition, batches, Durability::Durable).await?;
        Ok(firsts.first().copied().unwrap_or_default() + u64::from(count))
    }
}

fn control(open: &OpenStream, input: &Input) -> Batch {
    batch(open, BatchKind::Control, 1, serde_json::to_vec(input).expect("an input has only text keys"))
}

fn batch(open: &OpenStream, kind: BatchKind, count: u32, body: Vec<u8>) -> Batch {
    let (tenant, subject) = (open.id.tenant, open.id.to_string());
    Batch {
        header: BatchHeader { kind, tenant, subject, count, logged_at: 0, key_id: 0, trace: None },
        body: body.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Log;
    use crate::process::Processor;
    use crate::testing::{ENTITY, Line, MAPPING, record};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn records_of_a_stream_stand_in_order_and_an_empty_batch_changes_nothing() {
        let line = Line::new();
        let open = line.open("orders", MAPPING, ENTITY).await;
        line.append(&open, 1, 0, &[]).await;
        line.append(&open, 1, 0, &[&record(1), &record(2)]).await;
        assert_eq!(line.log.end(Topic::Inputs, 0).await.unwrap(), 5);
        let (mut processor, processed) = Processor::start(line.log.clone(), line.store.clone(), 0).await.unwrap();
        processor.drain().await.unwrap();
        assert_eq!(processed.next(), 5);
    }
}
