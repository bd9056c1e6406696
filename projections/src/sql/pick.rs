//! Picks the wanted rows out of one batch after another.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{BatchCoalescer, cast, filter_record_batch};
use arrow::datatypes::SchemaRef;
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use futures::{StreamExt, stream};

use super::live::{Masks, moved};

/// What is wanted of a scan.
pub(super) struct Picker {
    /// The columns that are looked at, by their place in the scan.
    looked_at: Vec<usize>,
    looked_at_schema: SchemaRef,
    /// Over the columns looked at.
    predicate: Option<Arc<dyn PhysicalExpr>>,
    /// Which of the columns looked at are given.
    given: Vec<usize>,
    given_schema: SchemaRef,
    masks: Option<Masks>,
}

/// Rows of one batch.
struct Rows {
    batch: RecordBatch,
    /// A bit for each, set where the row is wanted; none if all are.
    wanted: Option<BooleanBuffer>,
}

impl Picker {
    /// `given` and the predicate are over `columns`, the first ones of the scan.
    pub(super) fn new(
        columns: &SchemaRef,
        given: &[usize],
        predicate: Option<&Arc<dyn PhysicalExpr>>,
        masks: Option<Masks>,
    ) -> Result<Self> {
        let filtered = predicate.into_iter().flat_map(collect_columns).map(|column| column.index());
        let mut looked_at: Vec<usize> = given.iter().copied().chain(filtered).collect();
        looked_at.sort_unstable();
        looked_at.dedup();
        let place = |column: usize| looked_at.binary_search(&column).ok();
        let predicate = predicate.map(|p| moved(Arc::clone(p), place)).transpose()?;
        let given_schema = Arc::new(columns.project(given)?);
        let given = given.iter().filter_map(|column| place(*column)).collect();
        let looked_at_schema = Arc::new(columns.project(&looked_at)?);
        Ok(Self { looked_at, looked_at_schema, predicate, given, given_schema, masks })
    }

    fn pick(&self, batch: &RecordBatch) -> Result<Rows> {
        let columns = self.look_at(batch)?;
        let live = self.masks.as_ref().map(|masks| masks.of(batch)).transpose()?;
        let matching = self.predicate.as_ref().map(|predicate| true_rows(predicate, &columns)).transpose()?;
        let wanted = match (live, matching) {
            (Some(live), Some(matching)) => Some(&live & &matching),
            (live, matching) => live.or(matching),
        };
        let wanted = wanted.filter(|wanted| wanted.count_set_bits() < wanted.len());
        Ok(Rows { batch: columns.project(&self.given)?, wanted })
    }

    fn look_at(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut arrays = Vec::with_capacity(self.looked_at.len());
        for (column, field) in self.looked_at.iter().zip(self.looked_at_schema.fields()) {
            arrays.push(match batch.columns().get(*column) {
                Some(array) if array.data_type() == field.data_type() => Arc::clone(array),
                Some(array) => cast(array, field.data_type())?,
                None => return exec_err!("a scan without a column that was asked for"),
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.looked_at_schema), arrays, &options)?)
    }
}

/// A bit for each row, set where the predicate is true.
fn true_rows(predicate: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<BooleanBuffer> {
    let values = predicate.evaluate(batch)?.into_array(batch.num_rows())?;
    let Some(values) = values.as_boolean_opt() else { return exec_err!("a filter that is neither true nor false") };
    Ok(match values.nulls() {
        Some(valid) => values.values() & valid.inner(),
        None => values.values().clone(),
    })
}

/// The picked rows of a stream, those of a filter put together to batches of so many rows.
pub(super) fn picked(
    input: SendableRecordBatchStream,
    picker: Picker,
    batch_rows: usize,
) -> impl stream::Stream<Item = Result<RecordBatch>> {
    let gathered = Gathered { picker, batch_rows, waiting: None };
    stream::try_unfold((input, gathered), async |(mut input, mut gathered)| {
        loop {
            if let Some(batch) = gathered.full() {
                return Ok(Some((batch, (input, gathered))));
            }
            match input.next().await.transpose()? {
                Some(batch) => {
                    if let Some(batch) = gathered.add(&batch)? {
                        return Ok(Some((batch, (input, gathered))));
                    }
                }
                None if gathered.end()? => {}
                None => return Ok(None),
            }
        }
    })
}

/// Rows on their way, the few of a filter waiting for more.
struct Gathered {
    picker: Picker,
    batch_rows: usize,
    waiting: Option<BatchCoalescer>,
}

impl Gathered {
    /// The wanted rows of a batch if they need not wait.
    fn add(&mut self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        let Rows { batch, wanted } = self.picker.pick(batch)?;
        let Some(wanted) = wanted else { return Ok(Some(batch)) };
        if batch.num_columns() == 0 {
            let options = RecordBatchOptions::new().with_row_count(Some(wanted.count_set_bits()));
            return Ok(Some(RecordBatch::try_new_with_options(batch.schema(), vec![], &options)?));
        }
        let wanted = BooleanArray::new(wanted, None);
        if self.picker.predicate.is_none() {
            return Ok(Some(filter_record_batch(&batch, &wanted)?));
        }
        let waiting = self.waiting.get_or_insert_with(|| {
            BatchCoalescer::new(Arc::clone(&self.picker.given_schema), self.batch_rows)
                .with_biggest_coalesce_batch_size(Some(self.batch_rows / 2))
        });
        waiting.push_batch_with_filter(batch, &wanted)?;
        Ok(None)
    }

    /// A batch that has waited long enough.
    fn full(&mut self) -> Option<RecordBatch> {
        self.waiting.as_mut()?.next_completed_batch()
    }

    /// Lets go what still waits; false if nothing does.
    fn end(&mut self) -> Result<bool> {
        let Some(waiting) = self.waiting.as_mut() else { return Ok(false) };
        waiting.finish_buffered_batch()?;
        Ok(waiting.has_completed_batch())
    }
}
