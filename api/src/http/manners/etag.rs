//! Tags: an answer to a read that is held whole gets an ETag, and is left out when the client has it already.

use std::sync::Arc;

use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Body, Endpoint, IntoResponse, Request, Response, Result};

/// Answers larger than this are streamed, and not tagged.
const TAGGED_BYTES_MAX: usize = 8 << 20;

/// Marks a response whose body is streamed: it must not be held to be tagged.
#[derive(Debug, Clone, Copy)]
pub struct Streamed;

/// Tags answers around an endpoint.
pub async fn around<E: Endpoint>(endpoint: Arc<E>, request: Request) -> Result<Response> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let known = request.header(header::IF_NONE_MATCH).map(str::to_owned);
    let mut response = endpoint.call(request).await?.into_response();
    let is_plain = response.status() == StatusCode::OK && response.data::<Streamed>().is_none();
    if !reads || !is_plain {
        return Ok(response);
    }
    let bytes = response.take_body().into_bytes().await?;
    if bytes.len() <= TAGGED_BYTES_MAX {
        let content_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        // What has versions has a tag of its own, which a write can name.
        let own = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let tag = own.unwrap_or_else(|| tag(content_type, &bytes));
        if known.is_some_and(|known| matches(&known, &tag)) {
            let mut unchanged = Response::builder().status(StatusCode::NOT_MODIFIED).finish();
            *unchanged.headers_mut() = response.headers().clone();
            unchanged.headers_mut().remove(header::CONTENT_TYPE);
            unchanged.headers_mut().remove(header::CONTENT_LENGTH);
            insert(&mut unchanged, &tag);
            return Ok(unchanged);
        }
        insert(&mut response, &tag);
    }
    response.set_body(Body::from_bytes(bytes));
    Ok(response)
}

fn insert(response: &mut Response, tag: &str) {
    if let Ok(value) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("authorization, accept"));
}

fn tag(content_type: &[u8], bytes: &[u8]) -> String {
    use aws_lc_rs::digest;
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(content_type);
    context.update(&[0]);
    context.update(bytes);
    format!("\"{}\"", &crate::auth::secret::hex(context.finish().as_ref())[..32])
}

/// Whether a header `If-None-Match` or `If-Match` names the tag.
pub fn matches(known: &str, tag: &str) -> bool {
    known.split(',').map(|t| t.trim().trim_start_matches("W/")).any(|t| t == tag || t == "*")
}
