//! Listening: loopback unless told otherwise, TLS by configuration, and no client is waited for without an end.
//!
//! `client` answers one connection, `crowd` bounds how many there are, `pace` lets go who takes nothing.

mod client;
mod crowd;
mod pace;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use poem::Response;
use poem::endpoint::BoxEndpoint;
use poem::http::uri::Scheme;
use poem::listener::{Acceptor, AcceptorExt, IntoTlsConfigStream, RustlsCertificate, RustlsConfig, TcpAcceptor};
use poem::web::{LocalAddr, RemoteAddr};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use client::Waits;
use crowd::Crowd;

/// Connections at once, unless the process may not have so many files open.
const CONNECTIONS_MAX: usize = 10_000;
/// How long nobody is let in when that has failed: the process has too many files open.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

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

/// What is served.
type Endpoint = BoxEndpoint<'static, Response>;

/// Serves an endpoint until `stop` says true.
pub async fn serve(endpoint: Endpoint, listener: TcpListener, tls: Option<Tls>, stop: watch::Receiver<bool>) {
    if let Err(error) = try_serve(endpoint, listener, tls, stop).await {
        tracing::error!(error = format!("{error:#}"), "the HTTP listener has stopped");
    }
}

async fn try_serve(
    endpoint: Endpoint,
    listener: TcpListener,
    tls: Option<Tls>,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let tcp = Prompt(TcpAcceptor::from_std(listener)?);
    match tls {
        None => run(endpoint, tcp, stop).await,
        Some(tls) => {
            let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
            let certificate = RustlsCertificate::new().cert(read(&tls.certificate)?).key(read(&tls.key)?);
            let config = RustlsConfig::new().fallback(certificate);
            // A certificate that cannot be used ends the start: nothing goes on unencrypted.
            let checked = config.into_stream().context("the certificate or its key cannot be used")?;
            run(endpoint, tcp.rustls(checked), stop).await
        }
    }
}

/// Lets clients in until `stop` says true, then gives answers under way a moment.
async fn run(
    endpoint: Endpoint,
    mut acceptor: impl Acceptor + 'static,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let (endpoint, crowd, waits) = (Arc::new(endpoint), Crowd::new(connections_max()), Waits::default());
    let (mut clients, stopping) = (JoinSet::new(), stop.clone());
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = clients.join_next() => continue,
            accepted = acceptor.accept() => accepted,
        };
        match accepted {
            Ok((socket, local, remote, scheme)) => match crowd.enter() {
                Some(peer) => {
                    let client = (socket, (local, remote, scheme));
                    clients.spawn(client::serve(endpoint.clone(), client, peer, waits, stopping.clone()));
                }
                None => tracing::warn!(%remote, "too many connections are busy: one was not let in"),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be let in");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(acceptor);
    let all = async { while clients.join_next().await.is_some() {} };
    _ = tokio::time::timeout(waits.end, all).await;
    clients.shutdown().await;
    Ok(())
}

/// Half of the files that the process may have open are for what lies behind the doors.
fn connections_max() -> usize {
    let files = std::fs::read_to_string("/proc/self/limits").ok().and_then(|limits| open_files(&limits));
    let most = files.map_or(CONNECTIONS_MAX, |files| (files / 2).min(CONNECTIONS_MAX));
    if most < CONNECTIONS_MAX {
        tracing::info!(most, "connections at once: raise the process's limit of open files for more");
    }
    most
}

/// The soft limit of open files, as Linux tells it.
fn open_files(limits: &str) -> Option<usize> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok())
}

/// Connections whose small answers are sent at once.
struct Prompt(TcpAcceptor);

impl Acceptor for Prompt {
    type Io = TcpStream;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.0.local_addr()
    }

    async fn accept(&mut self) -> std::io::Result<(TcpStream, LocalAddr, RemoteAddr, Scheme)> {
        let accepted = self.0.accept().await?;
        // Who has left already needs no such thing.
        _ = accepted.0.set_nodelay(true);
        Ok(accepted)
    }
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

    #[test]
    fn the_limit_of_open_files_is_read_as_linux_tells_it() {
        let told = "Limit                     Soft Limit           Hard Limit           Units     \n\
            Max processes             96149                96149                processes \n\
            Max open files            1024                 524288               files     \n";
        assert_eq!(open_files(told), Some(1024));
        assert_eq!(open_files("Max open files            unlimited            unlimited            files"), None);
        assert!(connections_max() > 0);
    }
}
