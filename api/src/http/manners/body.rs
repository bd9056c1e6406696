//! Bounded bodies: a request's body is read whole within a bound of bytes and time before anything else looks at it. The
//! routes that take records bound and read their own.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use poem::http::StatusCode;
use poem::{Body, Endpoint, IntoResponse, Request, Response, Result};

use crate::http::problem::Problem;

/// The largest body of a request, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// The largest body of pushed records.
pub const RECORDS_BYTES_MAX: usize = 32 << 20;
/// How long a client may take to send a body.
const SEND_WITHIN: Duration = Duration::from_secs(30);
/// What is taken in of a body that is refused for its size.
const DRAINED_BYTES_MAX: usize = 8 << 20;
const DRAINED_WITHIN: Duration = Duration::from_secs(5);

/// Bounds the body around an endpoint.
pub async fn around<E: Endpoint>(endpoint: Arc<E>, mut request: Request) -> Result<Response> {
    let is_records = request.uri().path() == super::super::RECORDS_PATH;
    let max = if is_records { RECORDS_BYTES_MAX } else { BODY_BYTES_MAX };
    let declared = request.header("content-length").and_then(|text| text.parse::<u64>().ok());
    let body = request.take_body();
    if declared.is_some_and(|bytes| bytes > max as u64) {
        drain(body).await;
        return Err(too_large(max).into());
    }
    if !body.is_empty() {
        request.set_body(read(body, max).await?);
    }
    Ok(endpoint.call(request).await?.into_response())
}

/// Takes in what a client is sending anyway, within bounds: most read an answer only once all is sent.
async fn drain(body: Body) {
    let mut stream = Box::pin(body.into_bytes_stream());
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

async fn read(body: Body, max: usize) -> Result<Vec<u8>, Problem> {
    let read = async {
        let mut bytes = Vec::new();
        let mut stream = Box::pin(body.into_bytes_stream());
        while let Some(part) = stream.next().await {
            let part = part.map_err(|_| Problem::invalid("the body broke off before its end: send it again"))?;
            if bytes.len() + part.len() > max {
                return Err(too_large(max));
            }
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

fn too_large(max: usize) -> Problem {
    Problem::too_large(format!("the body may have {max} bytes here: send it in parts"))
}
