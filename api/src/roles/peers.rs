//! The roles of a process that shares log, store and work with others. What runs elsewhere is seen by what it leaves in the
//! store and on the log; no process asks another.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use pipeline::payload::follow_destroyed;
use pipeline::process::{Follower, Reader};
use pipeline::quarantine::watch_foreign;
use pipeline::repair::{Asking, Repaired};
use projections::view::place::Settings as ViewSettings;
use projections::view::{Access, Budget, Place, Projector};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::crew::Crew;
use super::node_store::NodeStore;
use super::{Notes, Role, RoleName, Roles, Roster, open_views};
use crate::backends::Opened;
use crate::line::Halted;

impl Roles {
    /// Starts the roles of `roster`, and what this process answers by: where `views` names a place, the tables there, which
    /// it follows while whoever has the lease writes them; else tables of its own.
    pub(super) async fn among_peers(
        opened: &Opened,
        folder: &Path,
        views: Option<&ViewSettings>,
        roster: &Roster,
        (asking, halted): (Option<&Arc<Asking>>, &Arc<Halted>),
    ) -> anyhow::Result<Self> {
        let Opened { log, store, local, keys } = opened;
        let (shutdown, stop) = watch::channel(false);
        let notes = Notes::new();
        let mut tasks = JoinSet::new();
        let shared = RoleName::shared(views.is_some());
        let named: Vec<_> = shared.iter().map(|(role, topic)| (role.name(), *topic)).collect();
        let follower = Follower::start(&**log, store.clone(), &named).await?;
        let processed = follower.places(Reader::Processor).into_iter().map(Into::into).collect();
        let (kept, noticed) = (follower.places(Reader::QuarantineKeeper), follower.places(Reader::NoticeKeeper));
        // A checkpoint tells that what was read is kept and that what it calls for is done.
        let done = follower.places(Reader::Repairer).into_iter();
        let repaired = done.map(|done| Repaired { kept: done.clone(), done }).collect();
        let mut stalls = vec![follower.stall()];
        tasks.spawn(notes.clone().watch(Role::Follower, follower.run(stop.clone())));
        let place = shared_place(folder, views, roster).await?;
        let role = match &place {
            Some(place) => Projector::follow(log.clone(), store.clone(), place.clone(), Budget::default()),
            None => {
                let own = Arc::new(NodeStore::new(store.clone(), local.clone()));
                Projector::at(log.clone(), own, open_views(folder, None, Access::Write).await?, Budget::default())
            }
        };
        let projector = role.handle();
        stalls.extend(projector.stalls());
        tasks.spawn(notes.clone().watch(Role::Projector, role.run(stop.clone())));
        tasks.spawn(watch_foreign(log.clone(), store.clone(), stop.clone()));
        let crew = Crew::new((log.clone(), store.clone()), place, asking.cloned(), notes.clone());
        let (at_work, leads) = (crew.at_work(), crew.leads());
        let dropped = crew.written().dropped_with_doors(halted.clone(), projector.clone(), folder.join("views"));
        tasks.spawn(follow_destroyed(keys.clone(), dropped, stop.clone()));
        if let Some(work) = crew.keep(roster, stop) {
            tasks.spawn(work);
        }
        let Notes { failures, lost } = notes;
        Ok(Self {
            processed,
            kept,
            repaired,
            noticed,
            projector,
            failures,
            stalls,
            at_work,
            leads,
            lost,
            shutdown,
            tasks: Mutex::new(tasks),
            shared: shared.into_iter().map(|(role, _)| role).collect(),
        })
    }
}

/// The place where processes share the tables of views, if one was named. Who takes the role that writes them must be able
/// to.
pub(super) async fn shared_place(
    folder: &Path,
    views: Option<&ViewSettings>,
    roster: &Roster,
) -> anyhow::Result<Option<Place>> {
    let access = if roster.has(RoleName::Project) { Access::Write } else { Access::Read };
    match views {
        Some(_) => Ok(Some(open_views(folder, views, access).await?)),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pipeline::ingest::Ingest;
    use pipeline::payload::Keyring;
    use pipeline::{Log, MemoryLog, MemoryStore, Partitions, Store, Table};
    use projections::view::ViewError;
    use schemas::record::RecordBatchWriter;
    use schemas::{Entity, Lane, Mapping, Op, Record, StreamId, TenantId, Topic, Version};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::roles::requests::{self, Deed};

    const ENTITY: &str = r#"{"entity":"order","table":"orders","fields":[{"name":"order_id","type":"text"}]}"#;
    const MAPPING: &str = r#"{"entity":"order","key":"Id","fields":{"order_id":"Id"}}"#;
    const TENANT: TenantId = TenantId::from_bytes([1; 16]);

    async fn in_time<T>(work: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(300), work).await.expect("it never came")
    }

    /// Has a record taken in.
    async fn record(log: &Arc<dyn Log>, store: &Arc<dyn Store>) {
        let (mapping, entity): (Mapping, Entity) =
            (serde_json::from_str(MAPPING).unwrap(), serde_json::from_str(ENTITY).unwrap());
        let id = StreamId { tenant: TENANT, connection: "crm".parse().unwrap(), stream: "orders".parse().unwrap() };
        let ingest = Ingest::new(log.clone(), store.clone());
        let open = ingest.open(&id, &mapping, Some(&entity), "test").await.unwrap();
        let mut writer = RecordBatchWriter::new(Lane(1), 0, 0);
        let payload = br#"{"Id":"1"}"#;
        writer.push(&Record { ordinal: 1, op: Op::Upsert, key: None, version: Version::None, defect: None, payload });
        ingest.append(&open, writer.finish(b"1")).await.unwrap();
    }

    /// A process with roles that work, and what has it stop.
    fn crew(
        (log, store): (&Arc<dyn Log>, &Arc<dyn Store>),
        views: Option<Place>,
        roles: &[RoleName],
    ) -> (watch::Sender<bool>, JoinHandle<()>) {
        let (stop, stopped) = watch::channel(false);
        let crew = Crew::new((log.clone(), store.clone()), views, None, Notes::new());
        (stop, tokio::spawn(crew.keep(&Roster::of(roles), stopped).unwrap()))
    }

    /// A process that only asks.
    async fn asks(
        (log, store): (&Arc<dyn Log>, &Arc<dyn Store>),
        folder: &Path,
        views: Option<&ViewSettings>,
    ) -> anyhow::Result<Roles> {
        let keys = Arc::new(Keyring::open(store.clone(), &[7; 32]).await.unwrap());
        let local = Arc::new(MemoryStore::new());
        let opened = Opened { log: log.clone(), store: store.clone(), local, keys };
        Roles::among_peers(&opened, folder, views, &Roster::none(), (None, &Arc::default())).await
    }

    fn line() -> (Arc<dyn Log>, Arc<dyn Store>) {
        let log = MemoryLog::new(Partitions { inputs: 1, events: 1, decisions: 1 });
        (Arc::new(log), Arc::new(MemoryStore::new()))
    }

    async fn processed(log: &Arc<dyn Log>, roles: &Roles) {
        let (inputs, mut processed) = (log.end(Topic::Inputs, 0).await.unwrap(), roles.processed[0].clone());
        in_time(processed.wait(inputs)).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_process_without_doors_does_the_work_and_one_that_asks_sees_it_done() {
        let (log, store) = line();
        let (stop, working) = crew((&log, &store), None, &[RoleName::Process, RoleName::Repair]);
        let folder = tempfile::tempdir().unwrap();
        let roles = asks((&log, &store), folder.path(), None).await.unwrap();
        record(&log, &store).await;
        processed(&log, &roles).await;
        let (decisions, mut repaired) = (log.end(Topic::Decisions, 0).await.unwrap(), roles.repaired[0].clone());
        in_time(repaired.done.wait_for(|next| *next >= decisions)).await.unwrap();
        let events = log.end(Topic::Events, 0).await.unwrap();
        in_time(roles.projector.wait_position(0, events)).await.unwrap();
        assert_eq!(roles.projector.holdings().tail_rows, 1);
        assert!(!*roles.leads.borrow(), "one that only asks leads nobody");
        in_time(roles.stop()).await.unwrap();
        stop.send_replace(true);
        in_time(working).await.unwrap();
        let peers = pipeline::lease::list(&*store).await.unwrap();
        assert!(peers.nodes.is_empty() && peers.leases.values().all(|lease| lease.owner.is_none()), "{peers:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn views_at_a_place_that_was_named_are_written_by_who_has_the_lease_and_followed_by_who_asks() {
        let (log, store) = line();
        let folder = tempfile::tempdir().unwrap();
        let views = ViewSettings::at(folder.path().join("shared").display().to_string());
        let place = open_views(folder.path(), Some(&views), Access::Write).await.unwrap();
        let (stop, working) = crew((&log, &store), Some(place), &[RoleName::Process, RoleName::Project]);
        let roles = asks((&log, &store), folder.path(), Some(&views)).await.unwrap();
        assert!(matches!(roles.projector.flush_all().await, Err(ViewError::Followed)));
        record(&log, &store).await;
        processed(&log, &roles).await;
        let (events, entity) = (log.end(Topic::Events, 0).await.unwrap(), "order".parse().unwrap());
        for deed in [Deed::Flush, Deed::Rebuild] {
            let asked = requests::ask((&*log, &*store), &roles.projector, deed, (TENANT, &entity));
            in_time(asked).await.unwrap();
        }
        assert!(roles.projector.in_tables(0).await.unwrap() >= events, "who writes has flushed it");
        assert!(store.scan(TenantId::SYSTEM, Table::Views, "asked/", None, 1).await.unwrap().is_empty());
        // Noted when its first event comes; what it is read with is folded, whatever stops.
        in_time(async {
            while store.scan(TENANT, Table::Views, "", None, 1).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        stop.send_replace(true);
        in_time(working).await.unwrap();
        let events = log.end(Topic::Events, 0).await.unwrap();
        in_time(roles.projector.wait_position(0, events)).await.unwrap();
        let tables = in_time(roles.projector.tables(TENANT)).await.unwrap();
        let found: Vec<_> = tables.iter().map(|table| (&*table.table, table.rows, table.files)).collect();
        assert_eq!(found, [("orders", 1, 1)]);
        assert!(roles.projector.in_tables(0).await.unwrap() > 0);
        assert!(!folder.path().join("views").exists(), "it has none of its own");
        in_time(roles.stop()).await.unwrap();
    }
}
