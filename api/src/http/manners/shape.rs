//! Errors in one shape: whatever fails inside, a panic too, leaves as a problem; every answer says how it is to be used.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use poem::error::ResponseError;
use poem::http::{HeaderValue, header};
use poem::{Endpoint, IntoResponse, Middleware, Request, Response, Result};

use crate::http::problem::{Problem, of_poem_error};
use crate::line::Panics;

/// The middleware; it counts requests that end in a panic.
pub struct Shape(pub Arc<Panics>);

/// The endpoint.
pub struct Shaped<E> {
    endpoint: E,
    panics: Arc<Panics>,
}

impl<E: Endpoint> Middleware<E> for Shape {
    type Output = Shaped<E>;
    fn transform(&self, endpoint: E) -> Shaped<E> {
        Shaped { endpoint, panics: self.0.clone() }
    }
}

impl<E: Endpoint> Endpoint for Shaped<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let answered = AssertUnwindSafe(self.endpoint.call(request)).catch_unwind().await;
        let mut response = match answered {
            Ok(Ok(response)) => response.into_response(),
            Ok(Err(error)) if error.is::<Problem>() => error.into_response(),
            Ok(Err(error)) => of_poem_error(&error).as_response(),
            // The panic's own message went to standard error.
            Err(_) => {
                self.panics.note();
                Problem::internal("a handler panicked").as_response()
            }
        };
        let headers = response.headers_mut();
        headers.insert(header::SERVER, HeaderValue::from_static(concat!("autonomos/", env!("CARGO_PKG_VERSION"))));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use poem::EndpointExt;
    use poem::endpoint::make_sync;
    use poem::http::StatusCode;

    use super::*;

    #[tokio::test]
    async fn a_panic_leaves_as_a_problem_that_tells_nothing_and_is_counted() {
        let panics = Arc::new(Panics::default());
        let breaks = |request: Request| match request.uri().path() {
            "/breaks" => panic!("a secret"),
            _ => "fine",
        };
        let endpoint = make_sync(breaks).with(Shape(panics.clone()));
        let ask = |path: &'static str| endpoint.get_response(Request::builder().uri_str(path).finish());
        let broken = ask("/breaks").await;
        assert_eq!(broken.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let said = broken.into_body().into_string().await.unwrap();
        assert!(said.contains("\"internal\"") && !said.contains("secret"), "{said}");
        assert_eq!(panics.count(), 1);
        assert_eq!(ask("/works").await.status(), StatusCode::OK);
    }
}
