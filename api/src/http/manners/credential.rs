//! Who asks: the header `Authorization` becomes a caller, or the request ends here.

use std::sync::Arc;

use poem::{Endpoint, IntoResponse, Middleware, Request, Response, Result};

use super::body;
use crate::auth::AuthError;
use crate::http::problem::Problem;
use crate::http::{Doors, now, public};

/// The middleware: a request names its caller, or is refused.
pub struct Authenticate(pub Arc<Doors>);

/// The endpoint: what it wraps is only asked by callers that are known.
pub struct Authenticated<E> {
    endpoint: E,
    doors: Arc<Doors>,
}

impl<E: Endpoint> Middleware<E> for Authenticate {
    type Output = Authenticated<E>;
    fn transform(&self, endpoint: E) -> Authenticated<E> {
        Authenticated { endpoint, doors: self.0.clone() }
    }
}

/// Names under which others take tokens from the query, where they end in logs; here never.
const NOT_IN_THE_QUERY: [&str; 4] = ["token", "access_token", "api_key", "authorization"];

impl<E: Endpoint> Endpoint for Authenticated<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        if !public::is_public(request.uri().path())
            && let Err(problem) = self.authenticate(&mut request).await
        {
            body::drain(&mut request).await;
            return Err(problem.into());
        }
        Ok(self.endpoint.call(request).await?.into_response())
    }
}

impl<E> Authenticated<E> {
    async fn authenticate(&self, request: &mut Request) -> Result<(), Problem> {
        let query = request.uri().query().unwrap_or_default();
        let in_query = query.split('&').filter_map(|pair| pair.split('=').next());
        if in_query.into_iter().any(|name| NOT_IN_THE_QUERY.contains(&name.to_ascii_lowercase().as_str())) {
            return Err(AuthError::Unauthenticated.into());
        }
        // A stream may be opened with a ticket instead; its route checks and uses it up.
        if public::takes_ticket(request.uri().path()) && query.split('&').any(|pair| pair.starts_with("ticket=")) {
            return Ok(());
        }
        let mut values = request.headers().get_all("authorization").iter();
        let value = match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        };
        let caller = self.doors.gate.caller(value.ok_or(AuthError::Unauthenticated)?, now()).await?;
        request.set_data(caller);
        Ok(())
    }
}
