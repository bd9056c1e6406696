//! Quotas: what each tenant may take of a server, and what it has taken.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use pipeline::{Expect, Store, StoreError, Table};
use schemas::{TenantId, TenantName};
use serde::Deserialize;

use super::{Busy, Line, Place};

/// What a tenant may take. What is not given is not bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Records a second that it may bring in.
    pub records_per_second: Option<u64>,
    /// Bytes of records a second that it may bring in.
    pub bytes_per_second: Option<u64>,
    /// Bytes of records that it may bring in altogether; what is deleted does not give any back.
    pub stored_bytes: Option<u64>,
    /// Queries of it that run at once; more wait.
    pub queries: usize,
    /// Event streams that it may have open at once.
    pub streams: usize,
    /// Connections that it may have.
    pub connections: usize,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            records_per_second: None,
            bytes_per_second: None,
            stored_bytes: None,
            queries: 4,
            streams: 1_000,
            connections: 100,
        }
    }
}

/// Quotas as an operator writes them: what is left out stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaChange {
    /// Records a second that it may bring in.
    pub records_per_second: Option<u64>,
    /// Bytes of records a second that it may bring in.
    pub bytes_per_second: Option<u64>,
    /// Bytes of records that it may bring in altogether.
    pub stored_bytes: Option<u64>,
    /// Queries of it that run at once.
    pub queries: Option<usize>,
    /// Event streams that it may have open at once.
    pub streams: Option<usize>,
    /// Connections that it may have.
    pub connections: Option<usize>,
}

/// The quotas of a server: for everybody, and for some by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaSettings {
    /// For everybody.
    #[serde(default)]
    pub each: QuotaChange,
    /// For some, over that.
    #[serde(default)]
    pub tenants: HashMap<String, QuotaChange>,
}

impl Quota {
    fn changed(self, by: &QuotaChange) -> Self {
        Self {
            records_per_second: by.records_per_second.or(self.records_per_second),
            bytes_per_second: by.bytes_per_second.or(self.bytes_per_second),
            stored_bytes: by.stored_bytes.or(self.stored_bytes),
            queries: by.queries.unwrap_or(self.queries),
            streams: by.streams.unwrap_or(self.streams),
            connections: by.connections.unwrap_or(self.connections),
        }
    }
}

impl QuotaSettings {
    fn of(&self, name: Option<&TenantName>) -> Quota {
        let everybody = Quota::default().changed(&self.each);
        match name.and_then(|name| self.tenants.get(name.as_str())) {
            Some(own) => everybody.changed(own),
            None => everybody,
        }
    }
}

/// A quota is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverQuota {
    /// Too much came in lately.
    #[error("this organisation brings in more than {allowed} {what} a second: send it again in {} s", after.as_secs())]
    Rate {
        /// Records or bytes.
        what: &'static str,
        /// How many are allowed.
        allowed: u64,
        /// When there is room again.
        after: Duration,
    },
    /// Everything is used up.
    #[error("this organisation has brought in {allowed} bytes, which is all that it may: ask the operator for more")]
    Stored {
        /// What is allowed.
        allowed: u64,
    },
    /// Too many streams.
    #[error("this organisation has {allowed} event streams open, which is all that it may: close some")]
    Streams {
        /// How many are allowed.
        allowed: usize,
    },
}

/// Bytes that are brought in between two notes of how many there are; a crash forgets as many at most, and where several
/// processes have doors each knows of as many less than there are.
const NOTE_EVERY_BYTES: u64 = 4 << 20;
/// Pushes of one tenant that are taken in at once.
const PUSHES_AT_ONCE: usize = 8;
/// Tenants in memory at once; beyond, all that nobody uses are read again.
const KNOWN_MAX: usize = 10_000;

/// What tenants have taken.
#[derive(Default)]
pub(crate) struct Quotas {
    settings: RwLock<Arc<QuotaSettings>>,
    known: Mutex<HashMap<TenantId, Arc<Account>>>,
}

/// What one tenant may take, and has taken.
#[derive(Debug)]
pub struct Account {
    /// What it may take.
    pub quota: Quota,
    records: Budget,
    bytes: Budget,
    stored: AtomicU64,
    /// What this process has brought in and not noted.
    unnoted: AtomicU64,
    streams: AtomicUsize,
}

/// An open stream; dropped, there is room for another.
#[derive(Debug)]
pub struct OpenStream(Arc<Account>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Account {
    fn new(quota: Quota, stored: u64) -> Self {
        Self {
            quota,
            records: Budget::new("records", quota.records_per_second),
            bytes: Budget::new("bytes", quota.bytes_per_second),
            stored: AtomicU64::new(stored),
            unnoted: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
        }
    }

    /// Whether so many records may come in at `now`. One that is too large for a second is taken when nothing is owed, and
    /// what comes after it waits the longer.
    pub fn bring_in(&self, records: u64, bytes: u64, now: Instant) -> Result<(), OverQuota> {
        if let Some(allowed) = self.quota.stored_bytes
            && self.stored.load(Ordering::Relaxed) + bytes > allowed
        {
            return Err(OverQuota::Stored { allowed });
        }
        self.records.check(now)?;
        self.bytes.check(now)?;
        self.records.take(records);
        self.bytes.take(bytes);
        Ok(())
    }

    /// Opens a stream, if there is room.
    pub fn open_stream(self: &Arc<Self>) -> Result<OpenStream, OverQuota> {
        let allowed = self.quota.streams;
        let more = |open: usize| (open < allowed).then_some(open + 1);
        match self.streams.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(OpenStream(self.clone())),
            Err(_) => Err(OverQuota::Streams { allowed }),
        }
    }

    /// Bytes that it has brought in, as far as is known.
    pub fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }
}

/// So much a second: what is taken beyond is owed.
#[derive(Debug)]
struct Budget {
    what: &'static str,
    per_second: Option<u64>,
    /// What is left, below zero what is owed; and since when.
    left: Mutex<(f64, Option<Instant>)>,
}

impl Budget {
    fn new(what: &'static str, per_second: Option<u64>) -> Self {
        Self { what, per_second, left: Mutex::new((per_second.unwrap_or(0) as f64, None)) }
    }

    fn check(&self, now: Instant) -> Result<(), OverQuota> {
        let Some(allowed) = self.per_second else { return Ok(()) };
        let rate = allowed.max(1) as f64;
        let (left, at) = &mut *self.left.lock();
        let passed = at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        (*left, *at) = ((*left + passed * rate).min(rate), Some(now));
        if *left > 0.0 {
            return Ok(());
        }
        let after = Duration::from_secs_f64((1.0 - *left) / rate).max(Duration::from_secs(1));
        Err(OverQuota::Rate { what: self.what, allowed, after })
    }

    fn take(&self, count: u64) {
        if self.per_second.is_some() {
            self.left.lock().0 -= count as f64;
        }
    }
}

impl Line {
    /// Puts quotas in force.
    pub fn ration(&self, settings: QuotaSettings) {
        *self.quotas.settings.write() = Arc::new(settings);
        self.quotas.known.lock().clear();
    }

    /// What a tenant may take, and has taken.
    pub async fn account(&self, tenant: TenantId) -> anyhow::Result<Arc<Account>> {
        if let Some(known) = self.quotas.known.lock().get(&tenant) {
            return Ok(known.clone());
        }
        let name = pipeline::definitions::tenant_name(&*self.store, tenant).await?;
        let quota = self.quotas.settings.read().of(name.as_ref());
        let row = self.store.get(tenant, Table::Usage, "").await?;
        let stored = row.and_then(|row| serde_json::from_slice(&row.value).ok()).unwrap_or(0);
        let mut known = self.quotas.known.lock();
        if known.len() >= KNOWN_MAX {
            known.retain(|_, account| Arc::strong_count(account) > 1);
        }
        Ok(known.entry(tenant).or_insert_with(|| Arc::new(Account::new(quota, stored))).clone())
    }

    /// A place for a push of so many bytes, in turn with other tenants' pushes. It is over when this is dropped.
    pub async fn place_to_push(&self, tenant: TenantId, bytes: usize) -> Result<Place<TenantId>, Busy> {
        self.pushes.place(tenant, bytes, PUSHES_AT_ONCE).await
    }

    /// Notes that bytes of a tenant are on the log.
    pub async fn note_brought_in(&self, tenant: TenantId, account: &Account, bytes: u64) -> Result<(), StoreError> {
        account.stored.fetch_add(bytes, Ordering::Relaxed);
        if account.unnoted.fetch_add(bytes, Ordering::Relaxed) + bytes >= NOTE_EVERY_BYTES {
            self.note_usage(tenant, account).await?;
        }
        Ok(())
    }

    /// Notes what is not noted yet, before the line is closed.
    pub(crate) async fn note_all_usage(&self) -> Result<(), StoreError> {
        let known: Vec<_> = self.quotas.known.lock().iter().map(|(tenant, a)| (*tenant, a.clone())).collect();
        for (tenant, account) in known {
            self.note_usage(tenant, &account).await?;
        }
        Ok(())
    }

    /// Adds what this process has brought in to what is noted, and learns what others have.
    async fn note_usage(&self, tenant: TenantId, account: &Account) -> Result<(), StoreError> {
        let bytes = account.unnoted.swap(0, Ordering::Relaxed);
        if bytes == 0 {
            return Ok(());
        }
        match add_usage(&*self.store, tenant, bytes).await {
            Ok(total) => {
                account.stored.fetch_max(total, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                account.unnoted.fetch_add(bytes, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// Waits until so much may come in for a tenant whose files are read on its behalf. Fails when it may bring in no more.
    pub async fn wait_to_bring_in(&self, account: &Account, records: u64, bytes: u64) -> Result<(), OverQuota> {
        loop {
            match account.bring_in(records, bytes, Instant::now()) {
                Err(OverQuota::Rate { after, .. }) => tokio::time::sleep(after).await,
                other => return other,
            }
        }
    }
}

async fn add_usage(store: &dyn Store, tenant: TenantId, bytes: u64) -> Result<u64, StoreError> {
    loop {
        let row = store.get(tenant, Table::Usage, "").await?;
        let noted: u64 = row.as_ref().and_then(|row| serde_json::from_slice(&row.value).ok()).unwrap_or(0);
        let (total, expect) = (noted.saturating_add(bytes), Expect::Ordered(row.map_or(0, |row| row.version)));
        match store.put(tenant, Table::Usage, "", total.to_string().into(), expect).await {
            Ok(_) => return Ok(total),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use pipeline::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn what_several_processes_bring_in_adds_up() {
        let (store, tenant) = (MemoryStore::new(), TenantId::from_bytes([1; 16]));
        let added = futures::future::join_all((1..=20).map(|bytes| add_usage(&store, tenant, bytes))).await;
        assert_eq!(added.into_iter().map(Result::unwrap).max(), Some(210));
        assert_eq!(add_usage(&store, tenant, 0).await.unwrap(), 210);
    }

    fn account(change: QuotaChange) -> Arc<Account> {
        Arc::new(Account::new(Quota::default().changed(&change), 0))
    }

    #[test]
    fn what_comes_in_too_fast_waits_for_what_it_owes() {
        let account = account(QuotaChange { records_per_second: Some(10), ..QuotaChange::default() });
        let start = Instant::now();
        assert_eq!(account.bring_in(35, 1 << 30, start), Ok(()), "the first is taken whole");
        let refused = account.bring_in(1, 1, start);
        let Err(OverQuota::Rate { what: "records", allowed: 10, after }) = refused else { panic!("{refused:?}") };
        assert!(after > Duration::from_secs(2) && after < Duration::from_secs(3), "{after:?}");
        assert_eq!(account.bring_in(1, 1, start + after), Ok(()));
        assert_eq!(account.bring_in(10, 1, start + Duration::from_secs(100)), Ok(()));
        assert!(account.bring_in(1, 1, start + Duration::from_secs(100)).is_err(), "no more than a second is saved up");
    }

    #[test]
    fn a_refused_push_is_not_counted() {
        let change =
            QuotaChange { records_per_second: Some(10), bytes_per_second: Some(100), ..QuotaChange::default() };
        let account = account(change);
        let start = Instant::now();
        assert_eq!(account.bring_in(1, 200, start), Ok(()));
        for _ in 0..50 {
            assert!(matches!(account.bring_in(5, 1, start), Err(OverQuota::Rate { what: "bytes", .. })));
        }
        assert_eq!(account.bring_in(1, 1, start + Duration::from_millis(1_500)), Ok(()));
    }

    #[test]
    fn streams_are_counted_while_they_are_open() {
        let account = account(QuotaChange { streams: Some(2), ..QuotaChange::default() });
        let (first, _second) = (account.open_stream().unwrap(), account.open_stream().unwrap());
        assert_eq!(account.open_stream().unwrap_err(), OverQuota::Streams { allowed: 2 });
        drop(first);
        account.open_stream().unwrap();
    }

    #[test]
    fn a_tenants_own_quota_goes_over_everybodys_member_by_member() {
        let text = "each: {queries: 2, streams: 7}\ntenants: {acme: {queries: 9, stored_bytes: 5}}";
        let settings: QuotaSettings = serde_saphyr::from_str(text).unwrap();
        let (acme, zeta) = (settings.of(Some(&"acme".parse().unwrap())), settings.of(Some(&"zeta".parse().unwrap())));
        assert_eq!((acme.queries, acme.streams, acme.stored_bytes), (9, 7, Some(5)));
        assert_eq!((zeta.queries, zeta.streams, zeta.stored_bytes), (2, 7, None));
        assert!(serde_saphyr::from_str::<QuotaSettings>("each: {querys: 2}").is_err());
    }
}
