//! What every source must do, run over every format of the file source.

mod appended;
mod bad_input;
mod bombs;
mod bounds;
mod declared;
mod formats;
mod suite;
mod workbook;
