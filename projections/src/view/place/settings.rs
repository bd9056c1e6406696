//! What has to be said about the place of views before it can be used.

use std::path::PathBuf;

use pipeline::secret::Secret;
use serde::Deserialize;

use super::PlaceError;

/// Where views lie and how to get there. Everything but `location` has a default, and is of object stores alone.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A folder, or `s3://BUCKET/PREFIX`.
    pub location: String,
    /// The server, as `https://HOST:PORT`; without it the one of AWS in the region.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The region; without it the environment's, else us-east-1.
    #[serde(default)]
    pub region: Option<String>,
    /// The login's name. Without one the environment is asked, as AWS' own tools do: `AWS_*`, then the machine's role.
    #[serde(default)]
    pub access_key: Option<String>,
    /// The login's secret.
    #[serde(default)]
    pub secret_key: Option<Secret>,
    /// Whether the endpoint may be in clear.
    #[serde(default)]
    pub allow_http: bool,
    /// Whether the bucket stands in the path and not in the host's name; so it does where an endpoint is named.
    #[serde(default)]
    pub path_style: Option<bool>,
    /// A request that takes longer is given up. In milliseconds.
    #[serde(default = "default_request_timeout_ms")]
    pub request_timeout_ms: u32,
    /// What was not answered, or with an error of the server's, is asked again for so long, commits too: one that had come
    /// through the first time is met as another writer's then, and the table is read again. In milliseconds.
    #[serde(default = "default_retry_for_ms")]
    pub retry_for_ms: u32,
}

fn default_request_timeout_ms() -> u32 {
    60_000
}

fn default_retry_for_ms() -> u32 {
    20_000
}

/// A location, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located<'a> {
    /// A folder on disk.
    Folder(PathBuf),
    /// A bucket, and the folder in it.
    Bucket {
        /// The bucket.
        bucket: &'a str,
        /// The folder, without slashes at its ends.
        prefix: &'a str,
    },
}

impl Settings {
    /// A place with every other setting at its default.
    pub fn at(location: impl Into<String>) -> Self {
        Self {
            location: location.into(),
            endpoint: None,
            region: None,
            access_key: None,
            secret_key: None,
            allow_http: false,
            path_style: None,
            request_timeout_ms: default_request_timeout_ms(),
            retry_for_ms: default_retry_for_ms(),
        }
    }
    /// Reads the location. Names are plain, so that a path is the same in a URL, in the store and on disk.
    pub fn located(&self) -> Result<Located<'_>, PlaceError> {
        let refused =
            |reason: &str| PlaceError::Location { location: self.location.clone(), reason: reason.to_owned() };
        let Some(rest) = self.location.strip_prefix("s3://") else {
            return match self.location.contains("://") {
                false if !self.location.is_empty() => Ok(Located::Folder(PathBuf::from(&self.location))),
                _ => Err(refused("there are folders and s3:// alone")),
            };
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(is_plain) {
            return Err(refused("a bucket has 3 to 63 letters, digits, dots and dashes"));
        }
        let is_name = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(is_plain);
        if !prefix.is_empty() && !prefix.split('/').all(is_name) {
            return Err(refused("a prefix has letters, digits, dots, dashes and underlines between single slashes"));
        }
        if self.access_key.is_some() != self.secret_key.is_some() {
            return Err(self.wrong("access_key and secret_key go together"));
        }
        match &self.endpoint {
            Some(url) if url.starts_with("https://") || url.starts_with("http://") && self.allow_http => {}
            Some(url) if url.starts_with("http://") => {
                return Err(self.wrong("the endpoint is in clear: use https, or say allow_http: true"));
            }
            Some(_) => return Err(self.wrong("the endpoint begins with https://")),
            None => {}
        }
        Ok(Located::Bucket { bucket, prefix })
    }
    pub(super) fn wrong(&self, reason: impl ToString) -> PlaceError {
        PlaceError::Settings { location: self.location.clone(), reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Settings {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_location_is_a_folder_or_a_bucket_and_a_plain_folder_in_it() {
        assert_eq!(read(r#"{"location":"views"}"#).located().unwrap(), Located::Folder("views".into()));
        let bucket = |bucket, prefix| Located::Bucket { bucket, prefix };
        assert_eq!(Settings::at("s3://lake/a/b/").located().unwrap(), bucket("lake", "a/b"));
        assert_eq!(Settings::at("s3://lake").located().unwrap(), bucket("lake", ""));
        for wrong in ["", "gs://lake", "s3://", "s3://ab/x", "s3://lake/a//b", "s3://lake/../b", "s3://lake/a b"] {
            assert!(matches!(Settings::at(wrong).located(), Err(PlaceError::Location { .. })), "{wrong}");
        }
    }

    #[test]
    fn half_a_login_and_an_endpoint_in_clear_that_nobody_allowed_are_refused_and_no_secret_is_shown() {
        let with = |more: &str| read(&format!(r#"{{"location":"s3://lake/v",{more}}}"#));
        for wrong in [
            r#""access_key":"a""#,
            r#""secret_key":"canary""#,
            r#""endpoint":"http://minio:9000""#,
            r#""endpoint":"minio:9000""#,
        ] {
            assert!(matches!(with(wrong).located(), Err(PlaceError::Settings { .. })), "{wrong}");
        }
        let right = with(r#""endpoint":"http://minio:9000","allow_http":true,"access_key":"a","secret_key":"canary""#);
        assert!(right.located().is_ok());
        assert!(!format!("{right:?}").contains("canary"));
        assert!(serde_json::from_str::<Settings>(r#"{"location":"views","bucket":"x"}"#).is_err());
    }
}
