//! What every request goes through before and after its handler, each manner in a file of its own.
//!
//! The order, from outside in, is written down once, in [`all`]: follow the trace, shape errors, know the caller, ration,
//! bound the body, end what is no longer allowed, answer repeats, keep the journal, tag what may be cached. Rationing and
//! repeats come after the credential, so that they are counted for its tenant and never shared; nothing of a body is held for
//! somebody who may not send it.

pub mod body;
pub mod credential;
pub mod etag;
pub mod idempotency;
pub mod journal;
pub mod rate;
pub mod room;
pub mod shape;
pub mod still;
pub mod trace;

use std::sync::Arc;

use poem::endpoint::BoxEndpoint;
use poem::{Endpoint, EndpointExt, Response};

use super::Doors;

/// Wraps an endpoint in every manner, in their order.
pub fn all(doors: &Arc<Doors>, endpoint: impl Endpoint + 'static) -> BoxEndpoint<'static, Response> {
    // What is named last stands outermost.
    endpoint
        .around(etag::around)
        .with(journal::Keep(doors.clone()))
        .with(idempotency::AnswerOnce(doors.clone()))
        .with(still::Allowed(doors.clone()))
        .with(body::Bound(doors.clone()))
        .with(rate::Ration(doors.clone()))
        .with(credential::Authenticate(doors.clone()))
        .with(shape::Shape(doors.line.panics.clone()))
        .around(trace::around)
        .boxed()
}
