//! Where a server answers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use url::{Host, Url};

/// The address of a server: `http` or `https`, a host, perhaps a port and a path that a proxy adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Arc<Parts>);

#[derive(Debug, PartialEq, Eq)]
struct Parts {
    url: Url,
    text: String,
}

/// An address that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// It cannot be read.
    #[error("it is no address ({0}): write it like https://autonomos.example:7400")]
    Unreadable(url::ParseError),
    /// Neither http nor https.
    #[error("write it with http:// or https:// in front")]
    Scheme,
    /// It says more than where the server is.
    #[error("it holds {0}: leave that out")]
    TooMuch(&'static str),
}

impl FromStr for Address {
    type Err = NoAddress;
    fn from_str(text: &str) -> Result<Self, NoAddress> {
        if !(text.starts_with("http://") || text.starts_with("https://")) {
            return Err(NoAddress::Scheme);
        }
        let url = Url::parse(text).map_err(NoAddress::Unreadable)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(NoAddress::TooMuch("a user or a password, for which there is autonomos login"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(NoAddress::TooMuch("a query or a fragment"));
        }
        let text = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self(Arc::new(Parts { url, text })))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl Address {
    /// Without an end slash.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    pub(super) fn url(&self) -> &Url {
        &self.0.url
    }

    /// Whether what is sent is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.0.url.scheme() == "https"
    }

    /// Whether it is this machine, so that what is sent does not leave it.
    pub fn is_loopback(&self) -> bool {
        match self.0.url.host() {
            Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        }
    }

    /// A name for files about the server, the same however its address is written.
    pub fn file_name(&self) -> String {
        let port = self.0.url.port_or_known_default().unwrap_or_default();
        let whole = format!(
            "{}-{}-{port}{}",
            self.0.url.scheme(),
            self.0.url.host_str().unwrap_or_default(),
            self.0.url.path()
        );
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        whole.trim_end_matches('/').chars().map(|c| if is_plain(c) { c } else { '_' }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_a_scheme_a_host_and_nothing_secret() {
        assert_eq!(address("http://127.0.0.1:7400/").as_str(), "http://127.0.0.1:7400");
        assert_eq!(address("https://a.example/autonomos/").as_str(), "https://a.example/autonomos");
        for wrong in ["127.0.0.1:7400", "localhost:7400", "ftp://a", "http://", "", "/data"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
        for secret in ["https://ada:pw@a.example", "https://ada@a.example", "https://a.example/?token=x"] {
            assert!(matches!(secret.parse::<Address>(), Err(NoAddress::TooMuch(_))), "{secret}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for here in ["http://localhost:1", "http://127.0.0.2", "http://[::1]:7400"] {
            assert!(address(here).is_loopback(), "{here}");
        }
        for there in ["http://localhost.example", "http://192.0.2.1", "http://127.0.0.1.example", "http://[::2]"] {
            assert!(!address(there).is_loopback(), "{there}");
        }
    }

    #[test]
    fn a_server_has_one_file_however_its_address_is_written() {
        assert_eq!(address("https://A.example").file_name(), "https-a.example-443");
        assert_eq!(address("https://a.example:443/").file_name(), "https-a.example-443");
        assert_ne!(address("http://a.example:443").file_name(), address("https://a.example").file_name());
        assert!(!address("http://[::1]:7400/x/..%2f..%2f").file_name().contains(['/', '%', '[']));
    }
}
