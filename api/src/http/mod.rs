//! The HTTP doors: [`app`] puts the routes together, [`serve`] answers them. [`ops`] is what operators' tools ask.

pub mod ops;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use poem::listener::TcpAcceptor;
use poem::middleware::CatchPanic;
use poem::{Endpoint, EndpointExt, Route};
use tokio::sync::watch;

use crate::line::Line;
use crate::serve::stopped;

/// A connection that says nothing for so long is closed.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Requests under way when the server stops get so long.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Every route.
pub fn app(line: Arc<Line>) -> impl Endpoint {
    ops::routes(Route::new()).data(line).data(Arc::new(ops::TotalsCache::default())).with(CatchPanic::new())
}

/// Takes hold of an address.
pub fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    if !listen.ip().is_loopback() {
        bail!(
            "--listen {listen} would let anybody in who can reach this machine, and nothing asks for a password yet: \
             use a loopback address such as 127.0.0.1:{}",
            listen.port()
        );
    }
    let listener = TcpListener::bind(listen).with_context(|| format!("listening on {listen}"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers requests until `stop` says true.
pub async fn serve(listener: TcpListener, app: impl Endpoint + 'static, mut stop: watch::Receiver<bool>) {
    let ended = async {
        poem::Server::new_with_acceptor(TcpAcceptor::from_std(listener)?)
            .idle_timeout(IDLE_MAX)
            .run_with_graceful_shutdown(app, async move { stopped(&mut stop).await }, Some(DRAIN_MAX))
            .await
    };
    if let Err(error) = ended.await {
        tracing::error!(%error, "the HTTP listener has stopped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_on_while_nobody_is_asked_who_they_are() {
        for open in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
            let refused = bind(open.parse().unwrap()).unwrap_err().to_string();
            assert!(refused.contains("loopback"), "{refused}");
        }
        let held = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let refused = bind(held.local_addr().unwrap()).unwrap_err();
        assert!(format!("{refused:#}").contains("in use"), "{refused:#}");
    }
}
