//! A bucket of S3, or of a server that speaks its protocol.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::{ClientOptions, RetryConfig};
use url::Url;

use super::{Place, PlaceError, Settings};

/// Who cannot even connect for so long is taken to be away.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

impl Place {
    /// A folder in a bucket. No request is made yet.
    pub(super) fn bucket(settings: &Settings, bucket: &str, prefix: &str) -> Result<Self, PlaceError> {
        let url = Url::parse(&format!("s3://{bucket}/{prefix}")).map_err(|e| settings.wrong(e))?;
        let client = ClientOptions::new()
            .with_timeout(Duration::from_millis(settings.request_timeout_ms.into()))
            .with_connect_timeout(CONNECT_WITHIN);
        // Only the client can go on in the middle of an answer that broke off, so the asking again is its own; it ends
        // soon, and what is to be done then is decided by `ViewError::is_retryable`.
        let retry = RetryConfig {
            retry_timeout: Duration::from_millis(settings.retry_for_ms.into()),
            ..RetryConfig::default()
        };
        let builder = match (&settings.access_key, &settings.secret_key) {
            (Some(name), Some(secret)) => {
                AmazonS3Builder::new().with_access_key_id(name).with_secret_access_key(secret.expose())
            }
            _ => AmazonS3Builder::from_env(),
        };
        let path_style = settings.path_style.unwrap_or(settings.endpoint.is_some());
        let builder = builder
            .with_bucket_name(bucket)
            .with_client_options(client)
            .with_allow_http(settings.allow_http)
            .with_virtual_hosted_style_request(!path_style)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(retry);
        let region = region(settings, |name| std::env::var(name).ok());
        let builder = region.iter().fold(builder, |builder, region| builder.with_region(region));
        let builder = settings.endpoint.iter().fold(builder, |builder, endpoint| builder.with_endpoint(endpoint));
        let store = builder.build().map_err(|e| settings.wrong(e))?;
        Ok(Self::remote(Arc::new(store), url))
    }
}

/// The region that is named, in the settings or in the environment, whoever signs in.
fn region(settings: &Settings, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let said = |name| variable(name).filter(|region| !region.is_empty());
    settings.region.clone().or_else(|| said("AWS_REGION")).or_else(|| said("AWS_DEFAULT_REGION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_the_one_that_is_named_else_that_of_the_environment_with_a_login_or_without() {
        let environment = |region: &'static str| move |name: &str| (name == region).then(|| format!("of {region}"));
        let mut settings = Settings::at("s3://lake/v");
        for login in [None, Some("autonomos".to_owned())] {
            settings.access_key = login;
            assert_eq!(region(&settings, |_| None), None);
            for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
                assert_eq!(region(&settings, environment(name)), Some(format!("of {name}")));
            }
            assert_eq!(region(&settings, |_| Some(String::new())), None);
        }
        settings.region = Some("eu-central-1".to_owned());
        assert_eq!(region(&settings, environment("AWS_REGION")).as_deref(), Some("eu-central-1"));
    }
}
