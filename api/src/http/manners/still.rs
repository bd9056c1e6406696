//! Reads end when their caller may no longer have them: a session that was ended, a key that was revoked, a role that was
//! lowered. What is still being worked on is given up, and an answer on its way breaks off. Event streams look for
//! themselves, and say so.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use poem::http::Method;
use poem::{Body, Endpoint, IntoResponse, Middleware, Request, Response, Result};

use super::etag::Streamed;
use crate::auth::{AuthError, Caller};
use crate::http::problem::Problem;
use crate::http::{Doors, now};

/// How often it is asked whether the caller still may.
const RECHECK: Duration = Duration::from_secs(3);

/// The middleware.
pub struct Allowed(pub Arc<Doors>);

/// The endpoint.
pub struct StillAllowed<E> {
    endpoint: E,
    doors: Arc<Doors>,
}

impl<E: Endpoint> Middleware<E> for Allowed {
    type Output = StillAllowed<E>;
    fn transform(&self, endpoint: E) -> StillAllowed<E> {
        StillAllowed { endpoint, doors: self.0.clone() }
    }
}

impl<E: Endpoint> Endpoint for StillAllowed<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let reads = *request.method() == Method::GET || request.uri().path() == "/api/v1/query";
        let Some(caller) = request.data::<Caller>().cloned().filter(|_| reads) else {
            return Ok(self.endpoint.call(request).await?.into_response());
        };
        let mut response = tokio::select! {
            answered = self.endpoint.call(request) => answered?.into_response(),
            () = revoked(self.doors.clone(), caller.clone()) => return Err(Problem::from(AuthError::Unauthenticated).into()),
        };
        let is_events = response.content_type().is_some_and(|media| media.starts_with("text/event-stream"));
        if response.data::<Streamed>().is_some() && !is_events {
            let body = response.take_body().into_bytes_stream().map_err(io::Error::other).boxed();
            response.set_body(Body::from_bytes_stream(while_allowed(self.doors.clone(), caller, body)));
        }
        Ok(response)
    }
}

/// The parts of a body, until the caller may have no more: then it breaks off, so that no client takes a part for the whole.
fn while_allowed(
    doors: Arc<Doors>,
    caller: Caller,
    body: BoxStream<'static, io::Result<Bytes>>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let state = Some((body, Box::pin(revoked(doors, caller))));
    let parts = stream::unfold(state, |state| async move {
        let (mut body, mut revoked) = state?;
        tokio::select! {
            part = body.next() => Some((part?, Some((body, revoked)))),
            () = &mut revoked => Some((Err(io::Error::other("the caller may have no more of it")), None)),
        }
    });
    parts.boxed()
}

/// Returns once the caller is no longer who it was.
async fn revoked(doors: Arc<Doors>, caller: Caller) {
    loop {
        tokio::time::sleep(RECHECK).await;
        if !doors.gate.still(&caller, now()).await.unwrap_or(false) {
            return;
        }
    }
}
