//! Every role in this process, which has log and store to itself.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use pipeline::notices::NoticeKeeper;
use pipeline::process::Processor;
use pipeline::quarantine::{QuarantineKeeper, watch_foreign};
use pipeline::repair::{Asking, Repairer};
use projections::view::place::Settings as ViewSettings;
use projections::view::{Access, Budget, Projector};
use schemas::Topic;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Notes, Role, Roles, open_views};
use crate::backends::Opened;

impl Roles {
    /// Starts every role.
    pub(super) async fn alone(
        opened: &Opened,
        folder: &Path,
        views: Option<&ViewSettings>,
        asking: Option<&Arc<Asking>>,
    ) -> anyhow::Result<Self> {
        let Opened { log, store, .. } = opened;
        let place = open_views(folder, views, Access::Write).await?;
        let (shutdown, stop) = watch::channel(false);
        let notes = Notes::new();
        let mut tasks = JoinSet::new();
        let (mut processed, mut kept, mut repaired) = (Vec::new(), Vec::new(), Vec::new());
        let (mut noticed, mut stalls) = (Vec::new(), Vec::new());
        for partition in 0..log.partitions(Topic::Inputs) {
            let (processor, done) = Processor::start(log.clone(), store.clone(), partition).await?;
            processed.push(done);
            stalls.push(processor.stall());
            tasks.spawn(notes.clone().watch(Role::Processor(partition), processor.run(stop.clone())));
            let (keeper, done) = QuarantineKeeper::start(log.clone(), store.clone(), partition).await?;
            kept.push(done);
            stalls.push(keeper.stall());
            tasks.spawn(notes.clone().watch(Role::QuarantineKeeper(partition), keeper.run(stop.clone())));
            let (repairer, done) = Repairer::start(log.clone(), store.clone(), partition, stop.clone()).await?;
            let repairer = repairer.asking(asking.cloned());
            repaired.push(done);
            stalls.push(repairer.stall());
            tasks.spawn(notes.clone().watch(Role::Repairer(partition), repairer.run()));
            let (keeper, done) = NoticeKeeper::start(log.clone(), store.clone(), partition).await?;
            noticed.push(done);
            stalls.push(keeper.stall());
            tasks.spawn(notes.clone().watch(Role::NoticeKeeper(partition), keeper.run(stop.clone())));
        }
        let role = Projector::at(log.clone(), store.clone(), place, Budget::default());
        let projector = role.handle();
        stalls.extend(projector.stalls());
        tasks.spawn(notes.clone().watch(Role::Projector, role.run(stop.clone())));
        tasks.spawn(watch_foreign(log.clone(), store.clone(), stop));
        let Notes { failures, lost } = notes;
        let (tasks, leads) = (Mutex::new(tasks), watch::Sender::new(true));
        Ok(Self {
            processed,
            kept,
            repaired,
            noticed,
            projector,
            failures,
            stalls,
            at_work: Default::default(),
            leads,
            lost,
            shutdown,
            tasks,
            shared: Vec::new(),
        })
    }
}
