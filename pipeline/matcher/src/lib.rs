#![doc = include_str!("../README.md")]

mod lexicon;
mod text;

mod embedding;
mod words;

mod field;
mod format;
mod profile;
mod side;

mod agreement;
mod assign;
mod gap;
mod rivals;
mod signals;

mod matching;
mod model;
mod operations;

pub mod cases;

pub use field::{Field, Kind};
pub use matching::{Approved, CANDIDATES_MAX, Candidate, Matcher, Near, PAIRS_MAX, Problem, TooLarge, signal_names};
pub use model::{Models, Task, UnreadableModel};
pub use operations::{Operation, OperationKind, operations};
pub use rivals::RIVAL_SIGNALS;
pub use side::{Name, likeness};
pub use signals::{SIGNALS, Signals};
