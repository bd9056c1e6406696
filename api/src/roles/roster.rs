//! The roles that a process takes.

use std::collections::BTreeSet;

use anyhow::bail;
use clap::ValueEnum;
use schemas::Topic;

use crate::backends::Backends;

/// A role, as the command line and the leases name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum RoleName {
    /// Runs the step over `inputs`.
    Process,
    /// Folds `events` into the tables of views that processes share.
    Project,
    /// Keeps what was set aside, the cases and what people are told, and sends back in what they call for.
    Repair,
    /// Answers: the HTTP API, the folder's socket, connections, watched files.
    Api,
}

impl RoleName {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Project => "project",
            Self::Repair => "repair",
            Self::Api => "api",
        }
    }

    /// The roles whose partitions processes share, as many as the topic has; that of views where their tables are shared.
    pub(crate) fn shared(are_views_shared: bool) -> Vec<(Self, Topic)> {
        let mut shared = vec![(Self::Process, Topic::Inputs), (Self::Repair, Topic::Inputs)];
        if are_views_shared {
            shared.push((Self::Project, Topic::Events));
        }
        shared
    }
}

/// The roles that a process takes; by default every one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster(BTreeSet<RoleName>);

impl Default for Roster {
    fn default() -> Self {
        Self(RoleName::value_variants().iter().copied().collect())
    }
}

impl Roster {
    /// These; none is every one.
    pub fn of(roles: &[RoleName]) -> Self {
        if roles.is_empty() { Self::default() } else { Self(roles.iter().copied().collect()) }
    }

    /// None at all, for a process that asks once and goes.
    pub fn none() -> Self {
        Self(BTreeSet::new())
    }

    /// Whether a role is among them.
    pub fn has(&self, role: RoleName) -> bool {
        self.0.contains(&role)
    }

    /// Their names, for people.
    pub fn told(&self) -> String {
        self.0.iter().map(|role| role.name()).collect::<Vec<_>>().join(",")
    }

    /// Refuses roles that a process cannot take on these backends.
    pub fn check(&self, backends: &Backends) -> anyhow::Result<()> {
        if !backends.are_shared() && *self != Self::default() {
            bail!(
                "--roles {}: a log or a store in the data folder is one process's, and that takes every role: leave --roles \
                 out, or have processes share the work with log: kafka and store: scylla",
                self.told()
            );
        }
        if self.has(RoleName::Project) && !self.has(RoleName::Api) && backends.views.is_none() {
            bail!(
                "--roles {}: nobody would read the tables that project keeps: name the folder or bucket that processes \
                 share as views: location, or leave project out; a process with the role api keeps tables of its own",
                self.told()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedded_folder_has_one_process_with_every_role() {
        let embedded = Backends::default();
        assert!(Roster::of(&[]).check(&embedded).is_ok());
        let every = [RoleName::Api, RoleName::Repair, RoleName::Project, RoleName::Process];
        assert!(Roster::of(&every).check(&embedded).is_ok());
        let refused = Roster::of(&[RoleName::Process]).check(&embedded).unwrap_err().to_string();
        assert!(refused.contains("--roles process") && refused.contains("store: scylla"), "{refused}");
    }
}
