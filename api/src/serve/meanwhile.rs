//! What a process answers while it waits for servers that are away.

use std::net::TcpListener;

use anyhow::Context;
use tokio::sync::watch;

use crate::backends::Patience;
use crate::http::listen::{self, Tls};
use crate::http::starting;

/// Answers as long as it is there, and from when something is waited for.
pub(super) struct Meanwhile {
    _until_dropped: watch::Sender<bool>,
}

impl Meanwhile {
    /// On the address that the process itself will answer at.
    pub(super) fn at(listener: &TcpListener, tls: Option<&Tls>, patience: &Patience) -> anyhow::Result<Self> {
        let (listener, tls) = (listener.try_clone().context("listening")?, tls.cloned());
        let (until_dropped, stopped) = watch::channel(false);
        let waits_for = patience.waits_for();
        let address = listener.local_addr().context("listening")?;
        tokio::spawn(async move {
            if waits_for.clone().wait_for(Option::is_some).await.is_ok() {
                tracing::info!(%address, "answering that it is not ready");
                listen::serve(starting::app(waits_for), listener, tls, stopped).await;
            }
        });
        Ok(Self { _until_dropped: until_dropped })
    }
}
