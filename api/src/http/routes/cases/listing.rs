//! Which cases are listed, page by page. Server and command line choose by the same.

use pipeline::repair::{self, Case, Status};
use pipeline::{Store, StoreError};
use schemas::drift::{DriftKind, Severity};
use schemas::{ConnectionName, StreamId, StreamName, TenantId};

use crate::http::problem::Problem;

/// Cases that are looked at for a page of some of them.
const LOOKED_AT: usize = 1_000;

const SEVERITIES: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Breaking];
const KINDS: [DriftKind; 9] = [
    DriftKind::Renamed,
    DriftKind::Nested,
    DriftKind::Unnested,
    DriftKind::Split,
    DriftKind::Merged,
    DriftKind::Retyped,
    DriftKind::Removed,
    DriftKind::Added,
    DriftKind::Nulls,
];

/// Which cases are wanted: all, unless something is said.
#[derive(Debug, Clone, Default)]
pub struct CasesWanted {
    /// Only of this connection, or of a stream of it.
    pub of: Option<(ConnectionName, Option<StreamName>)>,
    /// Only those that are there.
    pub status: Option<StatusWanted>,
    /// Only of this severity.
    pub severity: Option<Severity>,
    /// Only those with this among their kinds of change.
    pub kind: Option<DriftKind>,
}

/// Where the wanted cases are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusWanted {
    /// Where somebody can decide them.
    Waiting,
    /// At this status.
    Only(Status),
}

impl StatusWanted {
    /// Its name, as programs see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Only(status) => status.name(),
        }
    }

    fn fits(self, status: Status) -> bool {
        match self {
            Self::Waiting => status.is_waiting(),
            Self::Only(only) => only == status,
        }
    }
}

/// A name that no case has there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} {name:?}: use {known}")]
pub struct NoSuch {
    what: &'static str,
    name: String,
    known: String,
}

impl From<NoSuch> for Problem {
    fn from(error: NoSuch) -> Self {
        Self::invalid(error.to_string())
    }
}

impl CasesWanted {
    /// A page of the wanted cases behind a key, at most `limit`, and the key behind which there may be more. Where only some
    /// are wanted it may show fewer and still have one: so that no page takes for ever, only so many cases are looked at.
    pub async fn page(
        &self,
        store: &dyn Store,
        tenant: TenantId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Case>, Option<String>), StoreError> {
        let is_choosy = self.status.is_some() || self.severity.is_some() || self.kind.is_some();
        let looked_at = if is_choosy { limit.max(LOOKED_AT) } else { limit };
        let found = self.behind(store, tenant, after, looked_at).await?;
        let mut is_more = found.len() == looked_at;
        let (mut cases, mut last) = (Vec::new(), None);
        for (key, case) in found {
            if cases.len() == limit {
                is_more = true;
                break;
            }
            last = Some(key);
            if self.fits(&case) {
                cases.push(case);
            }
        }
        Ok((cases, last.filter(|_| is_more)))
    }

    /// The first cases behind a key of the connection or stream, whatever they are.
    async fn behind(
        &self,
        store: &dyn Store,
        tenant: TenantId,
        after: Option<&str>,
        count: usize,
    ) -> Result<Vec<(String, Case)>, StoreError> {
        match &self.of {
            None => repair::list(store, tenant, None, after, count).await,
            Some((connection, Some(stream))) => {
                let stream = StreamId { tenant, connection: connection.clone(), stream: stream.clone() };
                repair::list(store, tenant, Some(&stream), after, count).await
            }
            Some((connection, None)) => {
                // Keys begin with connection and stream, so a connection's stand together; what is behind them is cut off.
                let first = format!("{connection}/");
                let after = after.map_or(first.as_str(), |after| after.max(first.as_str()));
                let mut found = repair::list(store, tenant, None, Some(after), count).await?;
                found.retain(|(key, _)| key.starts_with(&first));
                Ok(found)
            }
        }
    }

    fn fits(&self, case: &Case) -> bool {
        self.status.is_none_or(|status| status.fits(case.status))
            && self.severity.is_none_or(|severity| severity == case.severity)
            && self.kind.is_none_or(|kind| case.kinds().contains(&kind))
    }
}

/// The status of that name.
pub fn status(name: &str) -> Result<StatusWanted, NoSuch> {
    let all: Vec<StatusWanted> =
        std::iter::once(StatusWanted::Waiting).chain(Status::ALL.map(StatusWanted::Only)).collect();
    named("status", name, &all, StatusWanted::name)
}

/// The severity of that name.
pub fn severity(name: &str) -> Result<Severity, NoSuch> {
    named("severity", name, &SEVERITIES, Severity::name)
}

/// The kind of change of that name.
pub fn kind(name: &str) -> Result<DriftKind, NoSuch> {
    named("kind", name, &KINDS, DriftKind::name)
}

fn named<T: Copy>(what: &'static str, name: &str, all: &[T], name_of: fn(T) -> &'static str) -> Result<T, NoSuch> {
    let found = all.iter().copied().find(|one| name_of(*one) == name);
    found.ok_or_else(|| {
        let known: Vec<&str> = all.iter().map(|one| name_of(*one)).collect();
        NoSuch { what, name: name.chars().take(40).collect(), known: known.join(", ") }
    })
}

#[cfg(test)]
mod tests {
    use pipeline::{Expect, MemoryStore, Table};
    use serde_json::json;

    use super::*;

    const TENANT: TenantId = TenantId::from_bytes([1; 16]);

    async fn put(store: &MemoryStore, stream: &str, offset: u64, severity: Severity) {
        let case = json!({
            "position": {"epoch": 1, "partition": 0, "offset": offset}, "stream": stream, "status": "open",
            "severity": severity.name(), "mapping_version": 1, "lost": [], "added": ["New"], "moves": [], "waits": null,
            "lacking": 0, "having": 0, "held": 0, "redriven": 0, "began_at": 0, "opened_at": 0, "decided": [], "first": 0,
            "mark": null,
        });
        let key = format!("{stream}/{offset:020}");
        store.put(TENANT, Table::Cases, &key, case.to_string().into(), Expect::Any).await.unwrap();
    }

    /// Every wanted case, by stream and offset, and the number of pages that it took.
    async fn all(store: &MemoryStore, wanted: &CasesWanted, limit: usize) -> (Vec<String>, usize) {
        let (mut found, mut after, mut pages) = (Vec::new(), None::<String>, 0);
        loop {
            let (page, next) = wanted.page(store, TENANT, after.as_deref(), limit).await.unwrap();
            assert!(page.len() <= limit);
            found.extend(page.iter().map(|case| format!("{}/{}", case.stream, case.position.offset)));
            (after, pages) = (next, pages + 1);
            if after.is_none() {
                return (found, pages);
            }
        }
    }

    fn of(connection: &str, stream: Option<&str>) -> CasesWanted {
        let of = Some((connection.parse().unwrap(), stream.map(|stream| stream.parse().unwrap())));
        CasesWanted { of, ..CasesWanted::default() }
    }

    #[tokio::test]
    async fn a_connection_has_its_own_cases_and_none_of_a_name_that_begins_alike() {
        let store = MemoryStore::default();
        for stream in ["a/x", "crm-2/x", "crm/x", "crm/y", "crm2/x", "erp/x"] {
            for offset in 0..2 {
                put(&store, stream, offset, Severity::Info).await;
            }
        }
        for limit in [1, 2, 3, 4, 100] {
            let (found, _) = all(&store, &of("crm", None), limit).await;
            assert_eq!(found, ["crm/x/0", "crm/x/1", "crm/y/0", "crm/y/1"], "{limit} a page");
        }
        assert_eq!(all(&store, &of("crm", Some("y")), 1).await.0, ["crm/y/0", "crm/y/1"]);
        assert_eq!(all(&store, &CasesWanted::default(), 5).await.0.len(), 12);
        assert_eq!(all(&store, &of("cr", None), 5).await.0, Vec::<String>::new());
        let elsewhere = of("crm", None).page(&store, TENANT, Some("a/x/1"), 9).await.unwrap();
        assert_eq!(elsewhere.0.len(), 4, "the key of another list is no harm");
    }

    #[tokio::test]
    async fn what_is_rare_is_found_on_later_pages_and_none_looks_at_everything() {
        let store = MemoryStore::default();
        for offset in 0..2_500 {
            let severity = if offset % 1_200 == 1_199 { Severity::Breaking } else { Severity::Info };
            put(&store, "crm/x", offset, severity).await;
        }
        put(&store, "erp/x", 7, Severity::Breaking).await;
        let breaking = CasesWanted { severity: Some(Severity::Breaking), ..of("crm", None) };
        let (first, next) = breaking.page(&store, TENANT, None, 1).await.unwrap();
        assert!(first.is_empty() && next.is_some(), "it may show fewer and go on");
        for limit in [1, 2, 1_000] {
            let (found, pages) = all(&store, &breaking, limit).await;
            assert_eq!(found, ["crm/x/1199", "crm/x/2399"], "{limit} a page");
            assert!(pages >= 3, "{pages}");
        }
        let added = CasesWanted { kind: Some(DriftKind::Added), ..CasesWanted::default() };
        assert_eq!(all(&store, &added, 1_000).await.0.len(), 2_501);
        let renamed = CasesWanted { kind: Some(DriftKind::Renamed), ..CasesWanted::default() };
        assert_eq!(all(&store, &renamed, 1_000).await.0.len(), 0);
        let watching = CasesWanted { status: Some(StatusWanted::Only(Status::Watching)), ..CasesWanted::default() };
        assert_eq!(all(&store, &watching, 1_000).await.0.len(), 0);
        let waiting = CasesWanted { status: Some(StatusWanted::Waiting), ..breaking };
        assert_eq!(all(&store, &waiting, 5).await.0.len(), 2);
    }

    #[test]
    fn names_are_those_that_a_case_shows_and_others_are_refused_with_what_there_is() {
        assert_eq!(status("waiting"), Ok(StatusWanted::Waiting));
        assert_eq!(status("noted"), Ok(StatusWanted::Only(Status::Noted)));
        assert!(SEVERITIES.iter().all(|one| severity(one.name()) == Ok(*one)));
        assert!(KINDS.iter().all(|one| kind(one.name()) == Ok(*one)));
        let refused = severity("grave").unwrap_err().to_string();
        assert_eq!(refused, "there is no severity \"grave\": use info, warning, breaking");
        assert!(kind("Renamed").is_err() && status("").is_err());
    }
}
