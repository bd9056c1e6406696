//! Cases that wait for people: until when, in which version, and whose approval is given already.

use std::collections::BTreeMap;

use schemas::decision::Fact;
use schemas::drift::{Decide, Verdict};
use schemas::policy::{DecisionClass, EXPIRE_HOURS, Policy, REMIND_HOURS};
use serde::{Deserialize, Serialize};

use super::StreamState;
use super::cast::shorten;

/// Who decides when nobody need be asked.
pub(super) const RULES: &str = "rules";
const EXPIRE: &str = "expire-";
const REMIND: &str = "remind-";
const SNOOZE: &str = "snooze-";
const HOUR: i64 = 3_600_000_000;
/// First approvals that wait for a second; with more, the oldest are given again.
const APPROVALS_MAX: usize = 64;
/// Decided cases whose versions are known; far more than there are decisions that can be taken back.
const DECIDED_MAX: usize = 64;

/// What is known of the cases that wait for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    /// By the offset of the input at which they began.
    cases: BTreeMap<u64, Case>,
    /// The first of two approvals, by their cases.
    approvals: BTreeMap<u64, Approval>,
    /// The versions of cases that are decided: their decisions can be taken back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    decided: BTreeMap<u64, u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Case {
    /// Raised by everything that changes what is to be decided.
    version: u32,
    expires_at: i64,
    snoozed_until: Option<i64>,
    /// A proposal was rejected: only a person decides from here on.
    is_rejected: bool,
    /// A timer is set, behind which people are reminded. Of an earlier release it is known once it has come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_reminding: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Approval {
    verdict: Verdict,
    by: String,
}

/// How far a decision is.
pub(super) enum Approved {
    /// It is carried out, by these.
    By(String),
    /// Another person must approve it, too.
    Once,
}

impl Waiting {
    /// Follows what was said, and adds what follows from it: a case that opens has its times. What joins a case that was
    /// rejected, or that nobody decided in time, would be seen by nobody: it opens anew.
    pub(super) fn follow(&mut self, policy: &Policy, now: i64, facts: &mut Vec<Fact>) {
        let mut more = Vec::new();
        for fact in facts.iter_mut() {
            match fact {
                Fact::RecordsReleased { case, .. } => self.is_over(*case),
                Fact::RepairReverted { case, .. } => _ = self.approvals.remove(case),
                Fact::DriftDetected { case, again, .. } => {
                    *again = match self.cases.get_mut(case) {
                        Some(known) if known.is_rejected && !*again => {
                            known.is_rejected = false;
                            false
                        }
                        Some(_) => true,
                        None => {
                            self.cases.insert(*case, Case::default());
                            false
                        }
                    };
                }
                _ => {}
            }
            let Some(id) = fact.case_changed() else { continue };
            let Some(case) = self.cases.get_mut(&id) else {
                // What is approved to be taken back is of a case that is over.
                if let Some(version) = self.decided.get_mut(&id) {
                    *version += 1;
                }
                continue;
            };
            case.version += 1;
            match fact {
                Fact::DriftDetected { lost, again: false, .. } => {
                    case.expires_at = now.saturating_add(hours(policy.expire_hours, EXPIRE_HOURS));
                    more.push(timer(EXPIRE, id, case.expires_at));
                    // Of one that no view shows anything of nobody is reminded.
                    let is_shown = lost.iter().any(|lost| !lost.feeds.is_empty());
                    if is_shown && !std::mem::replace(&mut case.is_reminding, true) {
                        more.push(timer(REMIND, id, now.saturating_add(hours(policy.remind_hours, REMIND_HOURS))));
                    }
                }
                Fact::RepairRejected { .. } => case.is_rejected = true,
                _ => {}
            }
            if !matches!(fact, Fact::ApprovalGiven { .. }) {
                self.approvals.remove(&id);
            }
        }
        facts.append(&mut more);
    }

    /// A case is over; its version counts as long as its decision can be taken back.
    fn is_over(&mut self, id: u64) {
        let Some(case) = self.cases.remove(&id) else { return };
        self.decided.insert(id, case.version);
        while self.decided.len() > DECIDED_MAX {
            self.decided.pop_first();
        }
    }

    /// The version of a case that waits, or whose decision can be taken back.
    pub(super) fn version(&self, case: u64) -> Option<u32> {
        self.cases.get(&case).map(|case| case.version).or_else(|| self.decided.get(&case).copied())
    }

    /// Refuses what was made on another version of the case than this one.
    pub(super) fn check(&self, case: u64, made_on: Option<u32>) -> Result<(), String> {
        let Some(known) = self.version(case) else { return Ok(()) };
        match made_on {
            Some(version) if version != known => {
                Err(format!("it was made on version {version} of the case, which is at {known} by now: look again"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a proposal of the case was rejected.
    pub(super) fn is_rejected(&self, case: u64) -> bool {
        self.cases.get(&case).is_some_and(|case| case.is_rejected)
    }

    /// Whether somebody else has approved the very same before, where two people decide.
    pub(super) fn approve(
        &mut self,
        decide: &Decide,
        class: Option<DecisionClass>,
        facts: &mut Vec<Fact>,
    ) -> Result<Approved, String> {
        let Decide { case, verdict, by, why, .. } = decide;
        let Some(class) = class else { return Ok(Approved::By(by.clone())) };
        if by.starts_with("key:") {
            return Err(format!("two people decide what is {}, and a key is none", class.name()));
        }
        match self.approvals.get(case).filter(|first| first.verdict == *verdict) {
            Some(first) if first.by == *by => {
                Err(format!("two people decide what is {}: another one than you must approve it", class.name()))
            }
            Some(first) => Ok(Approved::By(format!("{} and {by}", first.by))),
            None => {
                if self.approvals.len() == APPROVALS_MAX {
                    self.approvals.pop_first();
                }
                let (case, verdict, by) = (*case, verdict.clone(), shorten(by));
                self.approvals.insert(case, Approval { verdict: verdict.clone(), by: by.clone() });
                facts.push(Fact::ApprovalGiven { case, verdict, class, by, why: why.clone() });
                Ok(Approved::Once)
            }
        }
    }

    /// Puts a case off; nobody is reminded of it before, and it does not expire before its usual time after that.
    pub(super) fn snooze(&mut self, decide: &Decide, until: i64, facts: &mut Vec<Fact>) {
        let Decide { case, by, why, .. } = decide;
        if let Some(case) = self.cases.get_mut(case) {
            case.snoozed_until = Some(until);
        }
        facts.push(Fact::CaseSnoozed { case: *case, until, by: shorten(by), why: why.clone() });
        facts.push(timer(SNOOZE, *case, until));
    }
}

impl StreamState {
    /// The time of a case that waits for people has come.
    pub(super) fn time_of_waiting(&mut self, id: &str, now: i64, facts: &mut Vec<Fact>) {
        let Some((kind, case)) = id.split_once('-').and_then(|(kind, case)| Some((kind, case.parse().ok()?))) else {
            return;
        };
        if !self.drift.is_open(case) {
            return;
        }
        // What no view shows anything of is noted in the end, rejected or not.
        let is_shown = self.drift.notice(case).is_none_or(|notice| !notice.lost.is_empty());
        let Some(waiting) = self.waiting.cases.get_mut(&case) else { return };
        let snoozed_until = waiting.snoozed_until.filter(|until| *until > now);
        match kind {
            "snooze" if snoozed_until.is_none() && waiting.snoozed_until.take().is_some() => {
                facts.push(Fact::CaseReminded { case });
            }
            "remind" if waiting.is_rejected => waiting.is_reminding = false,
            "remind" => {
                waiting.is_reminding = true;
                let again = snoozed_until.unwrap_or(now).saturating_add(hours(self.policy.remind_hours, REMIND_HOURS));
                if snoozed_until.is_none() {
                    facts.push(Fact::CaseReminded { case });
                }
                facts.push(timer(REMIND, case, again));
            }
            "expire" if waiting.is_rejected && is_shown => {}
            "expire" => {
                let expire = hours(self.policy.expire_hours, EXPIRE_HOURS);
                if let Some(until) = snoozed_until {
                    waiting.expires_at = until.saturating_add(expire);
                }
                if waiting.expires_at > now {
                    return facts.push(timer(EXPIRE, case, waiting.expires_at));
                }
                self.expire(case, expire / HOUR, facts);
            }
            _ => {}
        }
    }

    /// Nobody decided: the proposal is rejected, and what is held stays held. What holds nothing and is shown by no view is
    /// noted.
    fn expire(&mut self, case: u64, hours: i64, facts: &mut Vec<Fact>) {
        if self.drift.notice(case).is_some_and(|notice| notice.lost.is_empty()) {
            let why = format!("nobody mapped it within {hours} hours, and no view shows anything of it");
            let (moves, removed, by) = (vec![], vec![], RULES.to_owned());
            facts.push(Fact::RepairApplied { case, moves, removed, by, why });
            return self.drift.settle_notice(case, &[], "noted", facts);
        }
        self.drift.propose(case, vec![]);
        let why = format!("nobody decided it within {hours} hours; what is held stays held");
        facts.push(Fact::RepairRejected { case, by: RULES.to_owned(), why });
    }
}

fn hours(wanted: Option<u32>, usual: u32) -> i64 {
    i64::from(wanted.unwrap_or(usual)) * HOUR
}

fn timer(kind: &str, case: u64, at: i64) -> Fact {
    Fact::TimerSet { id: format!("{kind}{case}"), at }
}
