//! What views promise, tested through tables on a real disk.

mod projector;
mod support;
mod table;
