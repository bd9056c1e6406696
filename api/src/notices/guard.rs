//! Where notices may go: to public addresses, and to what the operator allows besides. A host is looked up once, and what was
//! checked is what is connected to; redirects are not followed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Host;

/// An address that notices may not go to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// It is none.
    #[error("this is no address of a webhook: write https://host/path")]
    Address,
    /// It names a user or a password.
    #[error("an address of a webhook has no user and no password in it")]
    Credentials,
    /// In clear, to somewhere public.
    #[error("notices go to public addresses by https only")]
    Plain,
    /// The host is, or leads to, an address that is not public.
    #[error("the host {0:?} is not public, and the operator does not allow it")]
    Host(String),
}

/// What the operator allows besides public addresses.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allowed: Arc<[IpNet]>,
    /// Public addresses are refused as well: for what is sent in clear.
    is_near: bool,
}

impl Guard {
    /// A guard that lets notices go to these networks, too.
    pub fn new(allowed: &[IpNet]) -> Self {
        Self { allowed: allowed.into(), is_near: false }
    }

    /// The guard of what is sent in clear: it goes to what the operator allows, and to nothing public.
    pub fn near(&self) -> Self {
        Self { allowed: self.allowed.clone(), is_near: true }
    }

    /// Checks an address as far as its text tells; what a name leads to is checked whenever it is connected to.
    pub fn check(&self, text: &str) -> Result<Url, NotAllowed> {
        let url: Url = text.parse().map_err(|_| NotAllowed::Address)?;
        let is_plain = url.scheme() == "http";
        if !is_plain && url.scheme() != "https" {
            return Err(NotAllowed::Address);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(NotAllowed::Credentials);
        }
        let address = match url.host() {
            None => return Err(NotAllowed::Address),
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            Some(Host::Domain(_)) => None,
        };
        // Only what the operator allows is so near that nobody listens.
        let may_be_near = address.map_or(!self.allowed.is_empty(), |ip| self.allows(ip));
        if is_plain && !may_be_near && address.is_none_or(is_public) {
            return Err(NotAllowed::Plain);
        }
        let host = url.host_str().unwrap_or_default();
        address.map_or(Ok(()), |ip| self.admit(ip, host))?;
        Ok(url)
    }

    /// Looks a host up and checks what it leads to, before anything is sent there.
    pub async fn look_up(&self, url: &Url) -> Result<(), NotAllowed> {
        let Some(Host::Domain(name)) = url.host() else { return Ok(()) };
        let guard = if url.scheme() == "http" { self.near() } else { self.clone() };
        guard.resolve_name(name).await.map(|_| ())
    }

    /// The addresses of a name that notices may go to.
    async fn resolve_name(&self, name: &str) -> Result<Vec<SocketAddr>, NotAllowed> {
        let refused = || NotAllowed::Host(name.to_owned());
        // A name that cannot be looked up is told like one that may not be reached: it says nothing of the network here.
        let found: Vec<SocketAddr> = tokio::net::lookup_host((name, 0)).await.map_err(|_| refused())?.collect();
        // One address that is not public spoils the name: whoever made it so wants to get in.
        let is_admitted = !found.is_empty() && found.iter().all(|address| self.admit(address.ip(), name).is_ok());
        if is_admitted { Ok(found) } else { Err(refused()) }
    }

    fn admit(&self, ip: IpAddr, host: &str) -> Result<(), NotAllowed> {
        let is_far = is_public(ip) && !self.is_near;
        if is_far || self.allows(ip) { Ok(()) } else { Err(NotAllowed::Host(host.to_owned())) }
    }

    fn allows(&self, ip: IpAddr) -> bool {
        let ip = plain(ip);
        self.allowed.iter().any(|network| network.contains(&ip))
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found = guard.resolve_name(name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// An IPv4 address that is written as an IPv6 one, as itself.
fn plain(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

fn is_public(ip: IpAddr) -> bool {
    match plain(ip) {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// After the IANA registry of special-purpose addresses.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let is_special = matches!(
        (a, b, c),
        (0 | 10 | 127, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224.., ..)
    );
    !is_special
}

/// Only what is given out as global unicast, without what leads back to an IPv4 address that is not public.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let parts = ip.segments();
    let inner = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match parts {
        // NAT64: the IPv4 address is at the end.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(inner(high, low)),
        // 6to4: behind the prefix.
        [0x2002, high, low, ..] => is_public_v4(inner(high, low)),
        // Teredo, benchmarks, ORCHID, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allowed: &[&str]) -> Guard {
        Guard::new(&allowed.iter().map(|n| n.parse().unwrap()).collect::<Vec<IpNet>>())
    }

    #[test]
    fn whatever_way_a_private_address_is_written_it_is_refused() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[::ffff:169.254.169.254]",
            "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[2001:db8::1]",
            "[fe80::1]",
            "[fc00::1]",
            "[fd00:ec2::254]",
            "[ff02::1]",
            "169.254.169.254",
            "100.64.0.1",
            "10.0.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "１２７。０。０。１",
        ] {
            let found = guard(&[]).check(&format!("https://{host}/hook"));
            assert!(matches!(found, Err(NotAllowed::Host(_))), "{host}: {found:?}");
        }
        for host in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "[2606:4700::1111]", "[64:ff9b::101:101]", "example.com"] {
            assert!(guard(&[]).check(&format!("https://{host}/hook")).is_ok(), "{host}");
        }
    }

    #[test]
    fn what_is_no_address_of_a_webhook_is_refused() {
        for (text, expected) in [
            ("", NotAllowed::Address),
            ("example.com/hook", NotAllowed::Address),
            ("file:///etc/passwd", NotAllowed::Address),
            ("gopher://example.com/", NotAllowed::Address),
            ("https://", NotAllowed::Address),
            ("https://a@b.example/", NotAllowed::Credentials),
            ("https://a:b@b.example/", NotAllowed::Credentials),
            ("http://example.com/", NotAllowed::Plain),
            ("http://1.1.1.1/", NotAllowed::Plain),
        ] {
            assert_eq!(guard(&[]).check(text).err(), Some(expected), "{text}");
        }
    }

    #[test]
    fn the_operator_lets_notices_go_to_networks_of_his_own_in_clear() {
        let guard = guard(&["127.0.0.0/8", "fd00::/8"]);
        for text in ["http://127.0.0.1:9000/", "https://[fd00::1]/", "http://[::ffff:127.0.0.1]/", "http://localhost/"]
        {
            assert!(guard.check(text).is_ok(), "{text}");
        }
        assert!(guard.check("http://10.0.0.1/").is_err() && guard.check("http://1.1.1.1/").is_err());
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_private_address_is_refused_whenever_it_is_looked_up() {
        for name in ["localhost", "localhost.", "no-such-host.invalid"] {
            let found = guard(&[]).resolve_name(name).await;
            assert_eq!(found, Err(NotAllowed::Host(name.to_owned())));
        }
        let local = guard(&["127.0.0.0/8", "::1/128"]);
        assert!(local.resolve_name("localhost").await.is_ok_and(|found| !found.is_empty()));
        assert!(local.near().resolve_name("localhost").await.is_ok());
        assert!(local.near().admit("1.1.1.1".parse().unwrap(), "far.example").is_err(), "nothing in clear to afar");
        let resolved = guard(&[]).resolve("localhost".parse().unwrap()).await;
        assert!(resolved.err().is_some_and(|e| e.downcast_ref::<NotAllowed>().is_some()));
    }
}
