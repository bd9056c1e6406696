//! One client's connection, served within bounded waits: for its first request, for the next one, for an end.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use poem::endpoint::BoxEndpoint;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::crowd::{Busy, Peer};
use super::pace::Paced;

/// The largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;
/// Requests at once on one connection of HTTP/2.
const STREAMS_MAX: u32 = 256;
/// Requests of HTTP/2 that were taken back before they were answered; with more the connection ends.
const RESETS_MAX: usize = 20;

/// How long a client is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// For the first request, a TLS handshake before it included.
    pub first: Duration,
    /// For the next request, from the end of the last answer to the end of its head.
    pub next: Duration,
    /// For a client that takes nothing of what it asked for.
    pub taken: Duration,
    /// For answers under way, once the connection is to end.
    pub end: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { first: seconds(10), next: seconds(60), taken: seconds(60), end: seconds(5) }
    }
}

/// Whom a connection is from, and what it speaks.
pub type Ends = (LocalAddr, RemoteAddr, Scheme);

/// Serves a connection until its client leaves, keeps it waiting, or has to make room.
pub async fn serve<S>(
    endpoint: Arc<BoxEndpoint<'static, Response>>,
    (socket, ends): (S, Ends),
    peer: Arc<Peer>,
    waits: Waits,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let begun = watch::Sender::new(false);
    let mut first = begun.subscribe();
    let service = hyper::service::service_fn({
        let peer = peer.clone();
        move |request: hyper::Request<Incoming>| {
            let busy = peer.begin();
            begun.send_replace(true);
            let (endpoint, (local, remote, scheme)) = (endpoint.clone(), ends.clone());
            async move {
                let answer = endpoint.get_response((request, local, remote, scheme).into()).await;
                Ok::<_, Infallible>(hyper::Response::from(answer).map(|body| Answering { body, _busy: busy }))
            }
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_headers(HEADERS_MAX);
    builder.http1().max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(waits.next / 2)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32);
    let socket = TokioIo::new(Paced::new(socket, waits.taken));
    let mut connection = pin!(builder.serve_connection_with_upgrades(socket, service));
    let has_begun = first.wait_for(|begun| *begun);
    let late = async {
        if tokio::time::timeout(waits.first, has_begun).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = &mut connection => return,
        // Neither has anything under way, so nothing is lost.
        () = late => return,
        () = peer.must_leave() => return,
        () = peer.is_idle_for(waits.next) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    _ = tokio::time::timeout(waits.end, connection).await;
}

/// An answer on its way; its request is under way until it is taken.
struct Answering<B> {
    body: B,
    _busy: Busy,
}

impl<B: Body<Data = Bytes, Error = io::Error> + Unpin> Body for Answering<B> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use poem::EndpointExt;
    use poem::endpoint::make_sync;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::super::crowd::Crowd;
    use super::*;

    const FOR_EVER: Duration = Duration::from_secs(3_600);
    const BRIEF: Duration = Duration::from_millis(30);

    /// A client of a server that waits so long, what stops the server, and what it knows of the client.
    fn connect(waits: Waits) -> (DuplexStream, watch::Sender<bool>, Arc<Peer>) {
        let (ours, theirs) = tokio::io::duplex(1 << 10);
        let endpoint = make_sync(|_| "x".repeat(100)).map_to_response().boxed();
        let (stop, stopped) = watch::channel(false);
        let ends = (LocalAddr::default(), RemoteAddr::default(), Scheme::HTTP);
        let peer = Crowd::new(1).enter().unwrap();
        tokio::spawn(serve(Arc::new(endpoint), (theirs, ends), peer.clone(), waits, stopped));
        (ours, stop, peer)
    }

    fn waits() -> Waits {
        Waits { first: FOR_EVER, next: FOR_EVER, taken: FOR_EVER, end: FOR_EVER }
    }

    async fn rest(client: &mut DuplexStream) -> String {
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn who_says_nothing_or_half_a_request_is_not_waited_for() {
        for said in ["", "PRI * HT", "GET / HTTP/1.1\r\nhost: x\r\n"] {
            let (mut client, _stop, _peer) = connect(Waits { first: BRIEF, ..waits() });
            client.write_all(said.as_bytes()).await.unwrap();
            assert_eq!(rest(&mut client).await, "", "after {said:?}");
        }
    }

    #[tokio::test]
    async fn a_client_with_nothing_under_way_is_let_go_also_in_the_middle_of_a_head() {
        let (mut client, _stop, peer) = connect(Waits { next: BRIEF, ..waits() });
        // Until its first answer comes, however long that takes.
        let busy = peer.begin();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HT").await.unwrap();
        let mut head = [0; 12];
        client.read_exact(&mut head).await.unwrap();
        drop(busy);
        let answers = String::from_utf8_lossy(&head).into_owned() + &rest(&mut client).await;
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 1, "{answers}");
    }

    #[tokio::test]
    async fn a_stop_ends_what_is_idle_at_once() {
        let (mut client, stop, _peer) = connect(waits());
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        client.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        stop.send_replace(true);
        rest(&mut client).await;
    }
}
