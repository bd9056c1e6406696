//! The step: `step(state, input) → (state, events)`. Pure: no I/O, no clock, no randomness, no floats, no order of maps.

mod activation;
mod blanking;
mod cast;
mod control;
mod decide;
#[cfg(test)]
mod deciding;
pub mod drift;
mod extended_json;
mod extras;
mod fields;
mod key;
mod record;
mod rules;
mod settle;
mod state;
#[cfg(test)]
mod tests;
mod trial;
mod undecided;
mod view;
mod waiting;

use schemas::decision::Fact;
use schemas::event::{EventBatch, ViewControl};
use schemas::wire::WireError;
use schemas::{BatchKind, Decision, EntityName, Lane};

pub use activation::{MappingChange, check_change};
pub use key::KeyReader;
pub(crate) use record::{Again, redriven_for};
pub use state::{Counters, LaneState, StreamState};
pub use trial::{Fate, Trial};
pub(crate) use undecided::is_still_read;

use record::RecordFold;

/// A longer definition is refused, in bytes.
pub const DEFINITION_BYTES_MAX: usize = 512 << 10;
/// A longer cursor is not kept, in bytes.
pub const CURSOR_BYTES_MAX: usize = 8 << 10;

/// What the fold of a batch of inputs gave, in order.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The view that the events are for.
    pub entity: Option<EntityName>,
    /// Control events of the view; they stand before the rows.
    pub controls: Vec<ViewControl>,
    /// Batches of rows, each with the number of its rows.
    pub rows: Vec<(Vec<u8>, u32)>,
    /// Everything else.
    pub decisions: Vec<Decision>,
}

impl Outcome {
    fn append(&mut self, next: Self) {
        self.entity = next.entity.or(self.entity.take());
        self.controls.extend(next.controls);
        self.rows.extend(next.rows);
        self.decisions.extend(next.decisions);
    }
}

/// An input that cannot be folded. The partition stops: going on would lose it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The body does not follow its codec although its checksum is right.
    #[error("the input at offset {offset} does not follow its codec: {source}")]
    Malformed {
        /// Offset of the batch.
        offset: u64,
        /// What is wrong.
        source: WireError,
    },
    /// Not for this topic.
    #[error("a batch of kind {kind:?} at offset {offset} does not belong on inputs")]
    Kind {
        /// Offset of the batch.
        offset: u64,
        /// Its kind.
        kind: BatchKind,
    },
    /// The control message cannot be read.
    #[error("the control input at offset {offset} cannot be read: {message}")]
    Control {
        /// Offset of the batch.
        offset: u64,
        /// What is wrong.
        message: String,
    },
}

/// The buffers of the step, reused from batch to batch.
#[derive(Debug, Default)]
pub struct Scratch {
    walker: schemas::shape::Walker,
    values: Vec<u8>,
    /// Which slots filled a field.
    taken: Vec<bool>,
    extras: Vec<u8>,
    key: String,
    /// The fields that the record lacks.
    absent: Vec<usize>,
    /// What the look for drift found.
    facts: Vec<Fact>,
    /// Bytes of the rows that the last batch gave, and its own.
    rows_per_input: (usize, usize),
}

impl Scratch {
    /// Room for the rows of a batch of so many bytes, judged by the last one: rows that outgrow it are copied.
    fn rows_room(&self, input_bytes: usize) -> usize {
        let (rows, input) = match self.rows_per_input {
            (_, 0) => (3, 4),
            (rows, input) => (rows + rows / 16 + 256, input),
        };
        input_bytes.saturating_mul(rows).div_ceil(input).min(record::PIECE_BYTES)
    }
}

/// One batch of inputs of one stream, as the log has it.
#[derive(Debug, Clone, Copy)]
pub struct InputBatch<'a> {
    /// What the body is.
    pub kind: BatchKind,
    /// Offset of its first input.
    pub first: u64,
    /// Inputs in it.
    pub count: u32,
    /// When the log took it, in microseconds since 1970 UTC.
    pub logged_at: i64,
    /// The body, unpacked.
    pub body: &'a [u8],
}

/// The fold of one batch, in pieces: what one gives is bounded in bytes, whatever the batch holds. Between two pieces the
/// state is that behind a whole input.
pub struct Folding<'a> {
    input: InputBatch<'a>,
    records: Option<RecordFold<'a>>,
    is_done: bool,
}

impl<'a> Folding<'a> {
    /// The fold of a batch.
    pub fn new(input: InputBatch<'a>) -> Result<Self, StepError> {
        let records = match input.kind {
            BatchKind::Records | BatchKind::Redriven => Some(RecordFold::new(input)?),
            BatchKind::Control => None,
            kind => return Err(StepError::Kind { offset: input.first, kind }),
        };
        Ok(Self { input, records, is_done: false })
    }

    /// The lane of the batch, if it has one: the state must hold it if it was read before.
    pub fn lane(&self) -> Option<Lane> {
        self.records.as_ref().map(RecordFold::lane)
    }

    /// Folds on, and says what that gave; nothing at the end.
    pub fn next(&mut self, state: &mut StreamState, scratch: &mut Scratch) -> Result<Option<Outcome>, StepError> {
        if self.is_done {
            return Ok(None);
        }
        let outcome = match &mut self.records {
            Some(records) => {
                let outcome = records.next(state, scratch)?;
                self.is_done = records.is_done();
                outcome
            }
            None => {
                self.is_done = true;
                let outcome = control::fold_control(state, self.input)?;
                state.next.offset = self.input.first + u64::from(self.input.count);
                outcome
            }
        };
        Ok(Some(outcome))
    }
}

/// Folds one batch into the state and says all that it gave.
pub fn fold(state: &mut StreamState, input: InputBatch<'_>, scratch: &mut Scratch) -> Result<Outcome, StepError> {
    let mut folding = Folding::new(input)?;
    let mut whole = Outcome::default();
    while let Some(piece) = folding.next(state, scratch)? {
        whole.append(piece);
    }
    Ok(whole)
}

/// What the rows of a batch share.
fn shared(state: &StreamState, logged_at: i64, mapping_version: u32, confidence: u16) -> EventBatch {
    EventBatch {
        connection: state.stream.connection.clone(),
        stream: state.stream.stream.clone(),
        input_epoch: state.next.epoch,
        input_partition: state.next.partition,
        logged_at,
        mapping_version,
        confidence,
    }
}
