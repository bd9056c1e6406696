//! The step: `step(state, input) → (state, events)`. Pure: no I/O, no clock, no randomness, no floats, no order of maps.

mod cast;
mod control;
mod extended_json;
mod record;
mod rules;
mod state;
#[cfg(test)]
mod tests;

use schemas::event::{EventBatch, ViewControl};
use schemas::wire::WireError;
use schemas::{BatchKind, Decision, EntityName};

pub use record::KeyReader;
pub use state::{Counters, LaneState, StreamState};

/// What the fold of one batch of inputs gave, in order.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The view that the events are for.
    pub entity: Option<EntityName>,
    /// Control events of the view; they stand before the rows.
    pub controls: Vec<ViewControl>,
    /// Rows, and how many.
    pub rows: Option<(Vec<u8>, u32)>,
    /// Everything else.
    pub decisions: Vec<Decision>,
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

/// Folds one batch into the state and says what it gave.
pub fn fold(state: &mut StreamState, input: InputBatch<'_>, scratch: &mut Scratch) -> Result<Outcome, StepError> {
    let outcome = match input.kind {
        BatchKind::Records => record::fold_records(state, input, scratch)?,
        BatchKind::Control => control::fold_control(state, input)?,
        kind => return Err(StepError::Kind { offset: input.first, kind }),
    };
    state.next.offset = input.first + u64::from(input.count);
    Ok(outcome)
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
