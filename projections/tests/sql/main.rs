//! SQL over snapshots built by hand.

mod answers;
mod data;
mod hostile;
mod limits;
mod tenants;
