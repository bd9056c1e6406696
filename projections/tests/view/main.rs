//! What views promise, tested through tables on a real disk.

mod deleted;
mod failing;
mod faulty;
mod memory;
mod projector;
mod rebuild;
mod support;
mod table;
