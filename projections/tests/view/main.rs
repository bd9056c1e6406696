//! What views promise, tested through tables on a real disk, in memory and, with the feature `s3`, on a server of S3.

mod deleted;
mod failing;
mod faulty;
mod follow;
mod memory;
mod places;
mod projector;
mod rebuild;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "s3")]
mod s3proxy;
#[cfg(feature = "s3")]
#[path = "../../../pipeline/tests/conformance/services/server.rs"]
mod server;
mod support;
mod table;
