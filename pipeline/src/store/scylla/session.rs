//! The connection to the cluster.

use std::sync::Arc;
use std::time::Duration;

use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;

use super::error::{OpenError, of_session};
use super::settings::Settings;
use super::tls;

pub(super) async fn connect(settings: &Settings) -> Result<Session, OpenError> {
    let mut policy = DefaultPolicy::builder().token_aware(true);
    if let Some(datacenter) = &settings.datacenter {
        policy = policy.prefer_datacenter(datacenter.clone());
    }
    let timeout = Duration::from_millis(settings.request_timeout_ms.into());
    let profile = ExecutionProfile::builder()
        .load_balancing_policy(policy.build())
        .request_timeout(Some(timeout))
        .retry_policy(Arc::new(scylla::policies::retry::FallthroughRetryPolicy::new()))
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&settings.nodes)
        .connection_timeout(Duration::from_millis(settings.connect_timeout_ms.into()))
        .fetch_schema_metadata(false)
        .default_execution_profile_handle(profile.into_handle());
    if let Some(tls) = &settings.tls {
        builder = builder.tls_context(Some(tls::config(tls)?));
    }
    if let Some(login) = &settings.login {
        builder = builder.user(&login.username, login.password.expose());
    }
    builder.build().await.map_err(|e| of_session(&e, settings.nodes.join(", ")))
}
