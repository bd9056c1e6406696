//! Rationing: so many requests in a while for each tenant and kind of route; without a credential, for each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use poem::http::{HeaderValue, Method, StatusCode};
use poem::{Endpoint, IntoResponse, Middleware, Request, Response, Result};
use schemas::TenantId;
use serde::Deserialize;

use super::body;
use crate::auth::Caller;
use crate::http::Doors;
use crate::http::problem::Problem;

/// What a request is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Registering, signing in, using an invitation.
    SignIn,
    /// SQL and rows.
    Query,
    /// Records that are pushed.
    Push,
    /// Everything else that reads.
    Read,
    /// Everything else that writes.
    Write,
}

/// A budget that refills: `burst` at once, `per_minute` in the long run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Requests a minute.
    pub per_minute: NonZeroU32,
    /// Requests at once.
    pub burst: NonZeroU32,
}

impl Rate {
    /// So many requests; 0 counts as 1, for with it nobody could ever be answered.
    pub const fn new(per_minute: u32, burst: u32) -> Self {
        Self { per_minute: at_least_one(per_minute), burst: at_least_one(burst) }
    }
    fn per_second(self) -> f64 {
        f64::from(self.per_minute.get()) / 60.0
    }
    fn most(self) -> f64 {
        f64::from(self.burst.get())
    }
}

const fn at_least_one(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

/// The rates of every kind; what an operator leaves out stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Of sign-ins, for each address.
    pub sign_in: Rate,
    /// Of queries.
    pub query: Rate,
    /// Of pushes.
    pub push: Rate,
    /// Of other reads.
    pub read: Rate,
    /// Of other writes.
    pub write: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            sign_in: Rate::new(30, 20),
            query: Rate::new(6_000, 200),
            push: Rate::new(60_000, 2_000),
            read: Rate::new(12_000, 600),
            write: Rate::new(1_200, 200),
        }
    }
}

impl Rates {
    fn of(&self, kind: Kind) -> Rate {
        match kind {
            Kind::SignIn => self.sign_in,
            Kind::Query => self.query,
            Kind::Push => self.push,
            Kind::Read => self.read,
            Kind::Write => self.write,
        }
    }
}

/// Whose budget it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whose {
    /// A tenant's.
    Tenant(TenantId),
    /// An address's: nobody is signed in.
    Address(IpAddr),
}

/// Budgets that are being used up. Full ones are forgotten.
pub struct Budgets {
    rates: Rates,
    used: Mutex<HashMap<(Whose, Kind), (f64, Instant)>>,
}

/// Budgets kept at once; beyond, the full ones are dropped.
const BUDGETS_MAX: usize = 100_000;

impl Budgets {
    /// Full budgets with these rates.
    pub fn new(rates: Rates) -> Self {
        Self { rates, used: Mutex::default() }
    }

    /// Takes one request from a budget at `now`; says how many are left, or after how many seconds there is one again.
    pub fn take(&self, whose: Whose, kind: Kind, now: Instant) -> Result<u32, u64> {
        let rate = self.rates.of(kind);
        let mut used = self.used.lock();
        if used.len() >= BUDGETS_MAX {
            // A budget that would be full by now says nothing.
            used.retain(|(_, kind), (left, at)| {
                let rate = self.rates.of(*kind);
                *left + now.duration_since(*at).as_secs_f64() * rate.per_second() < rate.most()
            });
        }
        let (left, at) = used.entry((whose, kind)).or_insert((rate.most(), now));
        *left = (*left + now.duration_since(*at).as_secs_f64() * rate.per_second()).min(rate.most());
        *at = now;
        if *left < 1.0 {
            return Err(((1.0 - *left) / rate.per_second()).ceil().max(1.0) as u64);
        }
        *left -= 1.0;
        Ok(*left as u32)
    }

    /// The rate of a kind.
    pub fn rate(&self, kind: Kind) -> Rate {
        self.rates.of(kind)
    }
}

/// What a request is counted as.
pub fn kind(method: &Method, path: &str) -> Kind {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    match path {
        "/api/v1/auth/login" | "/api/v1/auth/register" | "/api/v1/auth/accept" => Kind::SignIn,
        "/api/v1/query" => Kind::Query,
        "/api/v1/records" => Kind::Push,
        path if path.ends_with("/rows") => Kind::Query,
        _ if reads => Kind::Read,
        _ => Kind::Write,
    }
}

/// The middleware.
pub struct Ration(pub Arc<Doors>);

/// The endpoint.
pub struct Rationed<E> {
    endpoint: E,
    doors: Arc<Doors>,
}

impl<E: Endpoint> Middleware<E> for Ration {
    type Output = Rationed<E>;
    fn transform(&self, endpoint: E) -> Rationed<E> {
        Rationed { endpoint, doors: self.0.clone() }
    }
}

impl<E: Endpoint> Endpoint for Rationed<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        // Probes and scrapes are the operator's own.
        if matches!(request.uri().path(), "/healthz" | "/readyz" | "/metrics") {
            return Ok(self.endpoint.call(request).await?.into_response());
        }
        let kind = kind(request.method(), request.uri().path());
        let whose = match request.data::<Caller>() {
            Some(caller) => Whose::Tenant(caller.tenant),
            None => Whose::Address(address(&request)),
        };
        let rate = self.doors.budgets.rate(kind);
        match self.doors.budgets.take(whose, kind, Instant::now()) {
            Ok(left) => {
                let mut response = self.endpoint.call(request).await?.into_response();
                let headers = response.headers_mut();
                headers.insert("ratelimit-limit", HeaderValue::from(rate.burst.get()));
                headers.insert("ratelimit-remaining", HeaderValue::from(left));
                Ok(response)
            }
            Err(seconds) => {
                body::drain(&mut request).await;
                let detail =
                    format!("more than {} requests a minute of this kind: try again in {seconds} s", rate.per_minute);
                Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).retry_after(seconds).into())
            }
        }
    }
}

/// The peer's own address: headers that a client can write are not asked.
pub fn address(request: &Request) -> IpAddr {
    let address = request.remote_addr().as_socket_addr().map(std::net::SocketAddr::ip);
    match address {
        // A network gives each of its hosts as many addresses as it likes: its prefix counts.
        Some(IpAddr::V6(v6)) => {
            let bits = u128::from(v6) >> 64 << 64;
            IpAddr::V6(bits.into())
        }
        Some(v4) => v4,
        None => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_budget_is_used_up_refills_and_is_nobody_elses() {
        let budgets = Budgets::new(Rates { read: Rate::new(60, 3), ..Rates::default() });
        let (a, b) = (Whose::Tenant(TenantId::from_bytes([1; 16])), Whose::Tenant(TenantId::from_bytes([2; 16])));
        let start = Instant::now();
        for left in [2, 1, 0] {
            assert_eq!(budgets.take(a, Kind::Read, start), Ok(left));
        }
        assert_eq!(budgets.take(a, Kind::Read, start), Err(1));
        assert_eq!(budgets.take(b, Kind::Read, start), Ok(2));
        assert!(budgets.take(a, Kind::Write, start).is_ok());
        assert_eq!(budgets.take(a, Kind::Read, start + Duration::from_millis(1_500)), Ok(0));
        assert_eq!(budgets.take(a, Kind::Read, start + Duration::from_secs(3_600)), Ok(2));
    }
}
