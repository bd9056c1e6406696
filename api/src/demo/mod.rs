//! The demo: files as four CRM systems and a help desk would export them, for one company that sells to some hundred others.
//!
//! [`generate`] writes real files and nothing else; they enter by the same door as anyone's. The same seed gives the
//! same bytes on every machine and at any time.

mod change;
mod drift;
mod generate;
mod layout;
mod run;
mod world;

pub use change::Changes;
pub use generate::{Delivery, DemoFile, generate};
pub use run::run;
