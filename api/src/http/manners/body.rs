//! Bounded bodies: a request's body is read whole, within a bound of bytes and time and within the room there is, before its
//! handler looks at it, and only once it is known who sends it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use poem::http::{StatusCode, header};
use poem::{Body, Endpoint, IntoResponse, Middleware, Request, Response, Result};

use super::room::{Full, Held};
use crate::auth::Caller;
use crate::http::Doors;
use crate::http::problem::Problem;

/// The largest body of a request, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// The largest body of pushed records.
pub const RECORDS_BYTES_MAX: usize = 32 << 20;
/// The largest body of somebody who is not signed in.
pub const ANYBODY_BYTES_MAX: usize = 64 << 10;
/// How long a client may take to send a body.
const SEND_WITHIN: Duration = Duration::from_secs(30);
/// What is taken in of a body that is not wanted.
const DRAINED_BYTES_MAX: usize = 8 << 20;
const DRAINED_WITHIN: Duration = Duration::from_secs(5);

/// The middleware.
pub struct Bound(pub Arc<Doors>);

/// The endpoint.
pub struct Bounded<E> {
    endpoint: E,
    doors: Arc<Doors>,
}

impl<E: Endpoint> Middleware<E> for Bound {
    type Output = Bounded<E>;
    fn transform(&self, endpoint: E) -> Bounded<E> {
        Bounded { endpoint, doors: self.0.clone() }
    }
}

impl<E: Endpoint> Endpoint for Bounded<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let whose = request.data::<Caller>().map(|caller| caller.tenant);
        let is_records = request.uri().path() == super::super::RECORDS_PATH;
        let max = match whose {
            None => ANYBODY_BYTES_MAX,
            Some(_) if is_records => RECORDS_BYTES_MAX,
            Some(_) => BODY_BYTES_MAX,
        };
        let declared = request.header(header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
        if declared.is_some_and(|bytes| bytes > max as u64) {
            drain(&mut request).await;
            return Err(too_large(max).into());
        }
        let mut held = Held::nothing(&self.doors.room, whose);
        let body = request.take_body();
        if !body.is_empty() {
            request.set_body(read(body, max, &mut held).await?);
        }
        Ok(self.endpoint.call(request).await?.into_response())
    }
}

/// Takes in what a client is sending anyway, within bounds and without holding it: most read an answer only once all is
/// sent. Who asks before it sends is not told to.
pub async fn drain(request: &mut Request) {
    if request.headers().contains_key(header::EXPECT) {
        return;
    }
    let mut stream = Box::pin(request.take_body().into_bytes_stream());
    let mut left = DRAINED_BYTES_MAX;
    let draining = async {
        while let Some(Ok(part)) = stream.next().await {
            left = left.saturating_sub(part.len());
            if left == 0 {
                return;
            }
        }
    };
    _ = tokio::time::timeout(DRAINED_WITHIN, draining).await;
}

async fn read(body: Body, max: usize, held: &mut Held) -> Result<Vec<u8>, Problem> {
    let read = async {
        let mut bytes = Vec::new();
        let mut stream = Box::pin(body.into_bytes_stream());
        while let Some(part) = stream.next().await {
            let part = part.map_err(|_| Problem::invalid("the body broke off before its end: send it again"))?;
            if bytes.len() + part.len() > max {
                return Err(too_large(max));
            }
            held.grow(part.len()).map_err(no_room)?;
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    };
    let slow = || {
        let seconds = SEND_WITHIN.as_secs();
        Problem::new(StatusCode::REQUEST_TIMEOUT, "body_slow", format!("the body did not arrive within {seconds} s"))
    };
    tokio::time::timeout(SEND_WITHIN, read).await.map_err(|_| slow())?
}

fn no_room(full: Full) -> Problem {
    match full {
        Full::Altogether => Problem::unavailable("too much is being sent to the server at once: try again in a moment"),
        Full::Own => {
            let detail = "too much is being sent at once: send less at a time, and this again in a moment";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "quota_bodies", detail).retry_after(1)
        }
    }
}

fn too_large(max: usize) -> Problem {
    Problem::too_large(format!("the body may have {max} bytes here: send it in parts"))
}
