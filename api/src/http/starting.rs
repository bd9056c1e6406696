//! What a process answers that is still waiting for its servers: that it lives, and what it waits for.

use poem::endpoint::{BoxEndpoint, make_sync};
use poem::error::ResponseError;
use poem::http::StatusCode;
use poem::{EndpointExt, IntoResponse, Request, Response};
use tokio::sync::watch;

use super::problem::Problem;

/// All of it as one endpoint.
pub fn app(waits_for: watch::Receiver<Option<&'static str>>) -> BoxEndpoint<'static, Response> {
    make_sync(move |request: Request| answer(request.uri().path(), *waits_for.borrow())).map_to_response().boxed()
}

fn answer(path: &str, waits_for: Option<&str>) -> Response {
    let why = waits_for.map_or_else(|| "it is starting".to_owned(), |what| format!("{what} is waited for"));
    match path {
        "/healthz" => "ok\n".into_response(),
        "/readyz" => {
            let told = format!("not ready: {why}; the process's log says more\n");
            (StatusCode::SERVICE_UNAVAILABLE, told).into_response()
        }
        _ => Problem::unavailable(format!("the server is not ready: {why}")).as_response(),
    }
}

#[cfg(test)]
mod tests {
    use poem::Endpoint;

    use super::*;

    #[tokio::test]
    async fn a_process_that_waits_lives_and_says_what_it_waits_for_to_whoever_asks() {
        let waits_for = watch::Sender::new(Some("the log"));
        let endpoint = app(waits_for.subscribe());
        let ask = async |path: &str| {
            let request = Request::builder().uri(path.parse().unwrap()).finish();
            let mut answer = endpoint.get_response(request).await;
            (answer.status().as_u16(), answer.take_body().into_string().await.unwrap())
        };
        assert_eq!(ask("/healthz").await, (200, "ok\n".to_owned()));
        for path in ["/readyz", "/api/v1/streams"] {
            let (status, told) = ask(path).await;
            assert!(status == 503 && told.contains("not ready: the log is waited for"), "{path}: {told}");
        }
        waits_for.send_replace(None);
        let (status, told) = ask("/readyz").await;
        assert!(status == 503 && told.contains("it is starting"), "{told}");
    }
}
