//! Keeping the cases, as the decisions tell of them.

use std::collections::{BTreeMap, BTreeSet};

use schemas::decision::Fact;
use schemas::{Decision, Position, StreamId, Topic};

use super::call::{Call, call};
use super::case::case_of;
use super::cases::{self, key_of};
use super::{Case, Repairer, Status};
use crate::log::Stored;
use crate::process::{Mark, ProcessError, decode_decisions, stream_of};
use crate::step::drift::APPLIED_MAX;
use crate::store::{Expect, StoreError, Table};

/// Cases by their keys, each with the version of its row, 0 for none.
type Cases = BTreeMap<String, (Option<Case>, u64)>;

impl Repairer {
    /// Keeps the cases of a batch, and says what it calls for: each with the offset of its input.
    pub(super) async fn take(
        &mut self,
        stored: &Stored,
        mark: &mut Mark,
    ) -> Result<Vec<(StreamId, u64, Call)>, ProcessError> {
        let header = stored.header();
        let subject = || ProcessError::Subject { offset: stored.first, subject: header.subject.clone() };
        let stream = stream_of(header).ok_or_else(subject)?;
        let Some(body) = stored.body(Topic::Decisions, self.partition)? else { return Ok(Vec::new()) };
        let mut decisions = decode_decisions(&body)
            .map_err(|e| ProcessError::State { stream: stream.to_string(), message: e.to_string() })?;
        decisions.retain(|decision| mark.take(decision));
        let mut cases = Cases::new();
        let mut calls = Vec::new();
        for decision in &decisions {
            self.keep(&stream, stored, decision, &mut cases).await?;
            calls.extend(call(&stream, decision).map(|call| (stream.clone(), decision.input_offset, call)));
        }
        self.write(&stream, cases).await?;
        self.keep_history(&stream, stored, &decisions).await?;
        Ok(calls)
    }

    async fn keep(
        &self,
        stream: &StreamId,
        stored: &Stored,
        decision: &Decision,
        cases: &mut Cases,
    ) -> Result<(), StoreError> {
        let at = stored.header().logged_at;
        if matches!(decision.fact, Fact::MappingActivated { .. }) {
            let waiting = self.stored(stream, cases, |case| case.status.is_waiting()).await?;
            cases.extend(waiting);
            let waiting =
                cases.values_mut().filter_map(|(case, _)| case.as_mut().filter(|case| case.status.is_waiting()));
            waiting.for_each(|case| case.apply(decision, at));
            return Ok(());
        }
        let Some(number) = case_of(&decision.fact) else { return Ok(()) };
        // A run that stands twice does not bring back a case that is over and forgotten.
        let begins = matches!(decision.fact, Fact::TimerSet { .. } | Fact::DriftDetected { .. });
        if let Some(case) = self.load(stream, stored, number, begins, cases).await? {
            case.apply(decision, at);
        }
        match &decision.fact {
            // What opens that one, right behind, does not say that. A part of a case goes back into the case itself.
            Fact::RepairReverted { into, .. } => {
                if let Some(next) = self.load(stream, stored, *into, true, cases).await? {
                    next.is_reverted = true;
                }
            }
            Fact::RepairApplied { .. } => self.forget(stream, decision, cases).await?,
            _ => {}
        }
        Ok(())
    }

    /// Follows what the step forgets with a decision: so many are remembered, those of the cases that began last.
    async fn forget(&self, stream: &StreamId, decision: &Decision, cases: &mut Cases) -> Result<(), StoreError> {
        // What somebody wrote who died further on tells of a later time.
        let is_meant = |case: &Case| case.is_remembered() && !case.is_ahead_of(decision);
        let mut stored = self.stored(stream, cases, is_meant).await?;
        let known =
            cases.iter().filter(|(_, (case, _))| case.as_ref().is_some_and(is_meant)).map(|(key, _)| key.clone());
        let mut remembered: BTreeSet<String> = known.chain(stored.keys().cloned()).collect();
        while remembered.len() > APPLIED_MAX {
            let Some(first) = remembered.pop_first() else { break };
            cases.extend(stored.remove_entry(&first));
            if let Some((Some(case), _)) = cases.get_mut(&first) {
                case.is_forgotten = true;
            }
        }
        Ok(())
    }

    /// Reads a case, unless it is there; one that begins is made.
    async fn load<'a>(
        &self,
        stream: &StreamId,
        stored: &Stored,
        number: u64,
        begins: bool,
        cases: &'a mut Cases,
    ) -> Result<Option<&'a mut Case>, StoreError> {
        let key = key_of(&stream.to_string(), number);
        if !cases.contains_key(&key) {
            let row = self.store.get(stream.tenant, Table::Cases, &key).await?;
            let version = row.as_ref().map_or(0, |row| row.version);
            let known = row.map(|row| cases::read(&key, &row)).transpose()?;
            let epoch = self.log.epoch(Topic::Inputs);
            let position = Position { epoch, partition: self.partition, offset: number };
            let new =
                || begins.then(|| Case::new(position, stream.to_string(), stored.first, stored.header().logged_at));
            cases.insert(key.clone(), (known.or_else(new), version));
        }
        Ok(cases.get_mut(&key).and_then(|(case, _)| case.as_mut()))
    }

    /// The stream's cases of a kind that are stored, except those that are there.
    async fn stored(
        &self,
        stream: &StreamId,
        cases: &Cases,
        is_meant: impl Fn(&Case) -> bool + Send,
    ) -> Result<Cases, StoreError> {
        const PAGE: usize = 1_000;
        let (mut after, mut found): (Option<String>, _) = (None, Cases::new());
        loop {
            let prefix = format!("{stream}/");
            let page = self.store.scan(stream.tenant, Table::Cases, &prefix, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            after = Some(last.clone());
            for (key, row) in page {
                let case = cases::read(&key, &row)?;
                if is_meant(&case) && !cases.contains_key(&key) {
                    found.insert(key, (Some(case), row.version));
                }
            }
        }
    }

    /// Writes cases back; an absence that was an accident, and is over, leaves nothing behind.
    async fn write(&self, stream: &StreamId, cases: Cases) -> Result<(), StoreError> {
        for (key, (case, version)) in &cases {
            let Some(case) = case else { continue };
            // What another process has written meanwhile stays.
            let expect = Expect::Ordered(*version);
            if case.status == Status::Released && case.redriven == case.held && case.opened_at.is_none() {
                if *version > 0 {
                    self.store.delete(stream.tenant, Table::Cases, key, expect).await?;
                }
                continue;
            }
            let value = serde_json::to_vec(case).expect("a case has only text keys");
            self.store.put(stream.tenant, Table::Cases, key, value.into(), expect).await?;
        }
        Ok(())
    }
}
