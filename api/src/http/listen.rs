//! Listening: loopback unless told otherwise, TLS by configuration, bounded waiting.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use poem::Server;
use poem::listener::{Acceptor, AcceptorExt, IntoTlsConfigStream, RustlsCertificate, RustlsConfig, TcpAcceptor};
use tokio::sync::watch;

use super::{Doors, app};

/// A connection on which nothing happens for so long is closed.
const IDLE: Duration = Duration::from_secs(75);
/// How long answers under way may take once the server is told to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// The largest header block of HTTP/2, in bytes.
const HEADER_BYTES_MAX: u32 = 64 << 10;
const STREAMS_MAX: u32 = 256;

/// A certificate and its key, both PEM.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The file with the certificate chain.
    pub certificate: PathBuf,
    /// The file with the private key.
    pub key: PathBuf,
}

/// Takes the address, so that a port in use is told at the start. Without TLS only loopback is allowed: passwords and
/// tokens would travel in the open.
pub fn bind(address: SocketAddr, tls: Option<&Tls>, allow_plain: bool) -> anyhow::Result<TcpListener> {
    if !address.ip().is_loopback() && tls.is_none() && !allow_plain {
        bail!(
            "{address} is no loopback address and there is no TLS: name certificate and key under tls in the \
             configuration, or say --allow-plain-http when a proxy in front encrypts"
        );
    }
    let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves the API until `stop` says true.
pub async fn serve(doors: Arc<Doors>, listener: TcpListener, tls: Option<Tls>, stop: watch::Receiver<bool>) {
    if let Err(error) = try_serve(doors, listener, tls, stop).await {
        tracing::error!(error = format!("{error:#}"), "the HTTP listener has stopped");
    }
}

async fn try_serve(
    doors: Arc<Doors>,
    listener: TcpListener,
    tls: Option<Tls>,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let tcp = TcpAcceptor::from_std(listener)?;
    match tls {
        None => run(doors, tcp, stop).await,
        Some(tls) => {
            let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
            let certificate = RustlsCertificate::new().cert(read(&tls.certificate)?).key(read(&tls.key)?);
            let config = RustlsConfig::new().fallback(certificate);
            // A certificate that cannot be used ends the start: nothing goes on unencrypted.
            let checked = config.into_stream().context("the certificate or its key cannot be used")?;
            run(doors, tcp.rustls(checked), stop).await
        }
    }
}

async fn run(
    doors: Arc<Doors>,
    acceptor: impl Acceptor + 'static,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let stopped = async move { _ = stop.wait_for(|stop| *stop).await };
    let server = Server::new_with_acceptor(acceptor)
        .name("autonomos")
        .idle_timeout(IDLE)
        .http2_max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX);
    server.run_with_graceful_shutdown(app(&doors), stopped, Some(DRAIN)).await.context("the HTTP listener has stopped")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_on_without_tls() {
        for open in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
            let refused = bind(open.parse().unwrap(), None, false).unwrap_err().to_string();
            assert!(refused.contains("loopback"), "{refused}");
        }
        let held = bind("127.0.0.1:0".parse().unwrap(), None, false).unwrap();
        let refused = bind(held.local_addr().unwrap(), None, false).unwrap_err();
        assert!(format!("{refused:#}").contains("in use"), "{refused:#}");
    }
}
