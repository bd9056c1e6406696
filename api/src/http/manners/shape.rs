//! Errors in one shape: whatever fails inside, a panic too, leaves as a problem; every answer says how it is to be used.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use poem::error::ResponseError;
use poem::http::{HeaderValue, header};
use poem::{Endpoint, IntoResponse, Middleware, Request, Response, Result};

use crate::http::problem::{Problem, of_poem_error};

/// The middleware.
pub struct Shape;

/// The endpoint.
pub struct Shaped<E>(E);

impl<E: Endpoint> Middleware<E> for Shape {
    type Output = Shaped<E>;
    fn transform(&self, endpoint: E) -> Shaped<E> {
        Shaped(endpoint)
    }
}

impl<E: Endpoint> Endpoint for Shaped<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let answered = AssertUnwindSafe(self.0.call(request)).catch_unwind().await;
        let mut response = match answered {
            Ok(Ok(response)) => response.into_response(),
            Ok(Err(error)) if error.is::<Problem>() => error.into_response(),
            Ok(Err(error)) => of_poem_error(&error).as_response(),
            // The panic's own message went to standard error.
            Err(_) => Problem::internal("a handler panicked").as_response(),
        };
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
        Ok(response)
    }
}
