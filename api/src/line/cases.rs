//! Cases of drift, as people find and decide them.

use pipeline::ingest::OpenStream;
use pipeline::process::{self, decode_decisions};
use pipeline::repair::{self, Case};
use pipeline::{StoreError, Stored};
use schemas::decision::Fact;
use schemas::drift::{Decide, Verdict};
use schemas::input::Command;
use schemas::{BatchKind, Input, Position, StreamId, TenantId, Topic};

use super::Line;

const READ_BYTES: usize = 1 << 20;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Applied,
    /// It was refused, for this reason.
    Refused(String),
}

/// What a decision was made on, where that matters. Left out is the mapping that is there now; of the case, too, when its
/// proposal is approved or what it lacks is accepted as removed, and any version otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MadeOn {
    /// The mapping version in force.
    pub mapping_version: Option<u32>,
    /// The case's version.
    pub version: Option<u32>,
}

/// A decision that could not be given.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// There is no such case.
    #[error("there is no case {0}: autonomos cases list --all shows them")]
    Unknown(Position),
    /// It was decided, or is not told yet.
    #[error("case {position} is {status}: there is nothing to decide, or to take back")]
    NotOpen {
        /// The case.
        position: Position,
        /// Where it is.
        status: &'static str,
    },
    /// What was decided stays.
    #[error("what was decided of case {position} cannot be taken back: {why}; put another mapping in force instead")]
    Stays {
        /// The case.
        position: Position,
        /// Why.
        why: &'static str,
    },
    /// Whoever decides has approved the very same before.
    #[error("two people decide what is {0}, and you have approved it already: another one must approve it, too")]
    SecondPerson(&'static str),
    /// The line failed.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl Line {
    /// Waits until the cases of everything that stands on `inputs` now are kept.
    pub async fn wait_cases(&self) -> anyhow::Result<()> {
        for partition in 0..self.log.partitions(Topic::Inputs) {
            self.wait_processed(partition).await?;
            self.wait_kept(partition).await?;
        }
        Ok(())
    }

    /// One case of a tenant.
    pub async fn case(&self, tenant: TenantId, position: Position) -> Result<Option<Case>, StoreError> {
        repair::find(&*self.store, tenant, position).await
    }

    /// Gives a decision and waits for its outcome; what it lets go is on its way then.
    pub async fn decide(
        &self,
        tenant: TenantId,
        position: Position,
        made_on: MadeOn,
        verdict: Verdict,
        (by, why): (&str, &str),
    ) -> Result<Outcome, DecideError> {
        let case = self.case(tenant, position).await.map_err(anyhow::Error::from)?;
        let case = case.ok_or(DecideError::Unknown(position))?;
        let is_due = if verdict == Verdict::Revert { case.is_revertible() } else { case.status.is_waiting() };
        if !is_due {
            let stays = case.stays().filter(|_| verdict == Verdict::Revert);
            let not_open = DecideError::NotOpen { position, status: case.status.name() };
            return Err(stays.map_or(not_open, |why| DecideError::Stays { position, why }));
        }
        let stream = stream_of(tenant, &case)?;
        if let Some(first) = case.approval.as_ref().filter(|first| first.by == by && first.verdict == verdict) {
            let policies = self.policies(tenant).await.map_err(anyhow::Error::from)?;
            if policies.of(&stream.connection).wants_two(first.class) {
                return Err(DecideError::SecondPerson(first.class.name()));
            }
        }
        let open =
            self.ingest.find(&stream).await.map_err(anyhow::Error::from)?.ok_or(DecideError::Unknown(position))?;
        let decide = Decide {
            case: position.offset,
            mapping_version: made_on.mapping_version.unwrap_or(case.mapping_version),
            // What is approved, or accepted, must be what was read; whoever says himself what is to be done needs no version.
            version: made_on.version.or(is_of_case(&verdict).then_some(case.version)),
            once_read: true,
            verdict,
            by: by.to_owned(),
            why: why.to_owned(),
        };
        let id = uuid::Uuid::new_v4().to_string();
        let from = self.log.end(Topic::Decisions, open.partition).await.map_err(anyhow::Error::from)?;
        let input = Input::Command { id: id.clone(), command: Command::Decide(decide) };
        self.ingest.send(&open, &[input]).await.map_err(anyhow::Error::from)?;
        self.wait_processed(open.partition).await?;
        let outcome = self.outcome(&open, from, &id).await?;
        self.wait_kept(open.partition).await?;
        Ok(outcome)
    }

    /// Waits until what the decision of a case has let go has come again.
    pub async fn wait_let_go(&self, tenant: TenantId, case: &Case) -> anyhow::Result<()> {
        match self.ingest.find(&stream_of(tenant, case)?).await? {
            Some(open) => {
                self.wait_settled(open.partition).await?;
                self.wait_kept(open.partition).await
            }
            None => Ok(()),
        }
    }

    /// What became of a command to a stream whose outcome stands at or behind `from`.
    pub(super) async fn outcome(&self, open: &OpenStream, from: u64, id: &str) -> anyhow::Result<Outcome> {
        let (partition, mut next) = (open.partition, from);
        loop {
            let batches = self.log.read(Topic::Decisions, partition, next, READ_BYTES).await?;
            let Some(end) = batches.last().map(Stored::end) else {
                anyhow::bail!("the outcome of command {id} is not on the log")
            };
            let is_its = |s: &&Stored| process::stream_of(s.header()).as_ref() == Some(&open.id);
            for stored in batches.iter().filter(|s| s.header().kind == BatchKind::Decisions).filter(is_its) {
                let Some(body) = stored.body(Topic::Decisions, partition)? else { continue };
                for decision in decode_decisions(&body)? {
                    match decision.fact {
                        Fact::CommandApplied { id: of } if of == id => return Ok(Outcome::Applied),
                        Fact::CommandRefused { id: of, reason } if of == id => return Ok(Outcome::Refused(reason)),
                        _ => {}
                    }
                }
            }
            next = end;
        }
    }
}

/// Whether a decision takes the case as it is, so that what joins it meanwhile would be decided unseen.
const fn is_of_case(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Approve { .. } | Verdict::AcceptAsRemoved { .. })
}

/// The stream of a case.
pub(super) fn stream_of(tenant: TenantId, case: &Case) -> anyhow::Result<StreamId> {
    let (connection, stream) = case.stream.split_once('/').unwrap_or_default();
    Ok(StreamId { tenant, connection: connection.parse()?, stream: stream.parse()? })
}
