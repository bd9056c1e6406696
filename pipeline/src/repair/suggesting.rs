//! Suggesting repairs for the cases that wait.

use schemas::advice::Asked;
use schemas::drift::{Move, Tried, Verdict};
use schemas::{Input, StreamId};

use super::asking::{Doubt, advice_id};
use super::cases::{self, key_of};
use super::{Case, EvidenceError, HELD_KEPT, Knowledge, Mask, Repairer, dry_run, suggest};
use crate::advice;
use crate::process::ProcessError;
use crate::step::StreamState;
use crate::store::{StoreError, Table};

impl Repairer {
    /// Suggests repairs for a case, or for every open one of the stream, once the state behind the decision is written.
    pub(super) async fn suggest(
        &mut self,
        stream: &StreamId,
        offset: u64,
        only: Option<u64>,
    ) -> Result<bool, ProcessError> {
        let Some(state) = self.state_behind(stream, offset).await? else { return Ok(false) };
        let (Some((_, mapping_version)), Some(_)) = (state.mapping(), state.entity()) else { return Ok(true) };
        let is_meant = |case: &u64| only.is_none_or(|only| only == *case);
        let waiting: Vec<u64> = state.drift().waiting().filter(is_meant).collect();
        if waiting.is_empty() {
            return Ok(true);
        }
        let known = Knowledge::read(&*self.store, stream.tenant).await?;
        for case in waiting {
            let suggested = tokio::task::block_in_place(|| suggest::suggest(&state, case, &known));
            let suggested = suggested.unwrap_or_else(|error| {
                tracing::warn!(%stream, case, %error, "nothing is suggested for a case");
                suggest::Suggested::default()
            });
            let row = self.kept_case(&state, case).await?;
            let doubt = self.asking.as_ref().and_then(|asking| {
                let names = state.policy().mask.as_deref().unwrap_or_default();
                let mask = row.as_ref().and_then(|case| Mask::of_case(&state, case, names));
                tokio::task::block_in_place(|| asking.doubt(&state, case, &suggested, &known, mask.as_ref()))
            });
            let coverage = doubt.as_ref().map(|(_, coverage)| coverage.clone());
            let suggest::Suggested { moves, alternatives } = suggested.clone();
            // A case that is told again is suggested for again.
            let id = format!("suggest-{case}-{mapping_version}-{offset}");
            let tried = match &row {
                Some(row) => self.tried(&state, row, &moves).await?,
                None => None,
            };
            let asked = coverage.map(|coverage| Asked { coverage: Some(coverage), call: None });
            // It may have been proposed before a restart.
            let is_new = !state.has_taken(&id);
            let version = self.version_behind(&state, case, is_new);
            let suggestion =
                Input::Suggestion { id, case, mapping_version, moves, alternatives, tried, asked, version: None };
            let end = self.ingest.send(&self.open(stream), &[suggestion]).await?;
            if is_new && self.asking.is_some() {
                self.sent.entry(stream.clone()).or_default().push((case, end));
            }
            if let (Some(asking), Some((question, coverage))) = (&self.asking, doubt) {
                let open = self.open(stream);
                match coverage.skipped {
                    true if is_new => advice::saved(&*self.store, stream.tenant, coverage.saved_micros).await?,
                    // It was counted before a restart; what was asked then and answered was paid for, and is on the log.
                    true => {}
                    false if state.has_taken(&advice_id(case, mapping_version, offset)) => {}
                    false => asking.start(
                        self.store.clone(),
                        self.ingest.clone(),
                        Doubt { open, case, mapping_version, version, offset, question, suggested, tried },
                    ),
                }
            }
        }
        Ok(true)
    }

    /// The version that a case has once everything that was suggested is proposed, and one more if that is new; a case that
    /// changes otherwise meanwhile has a later one.
    fn version_behind(&mut self, state: &StreamState, case: u64, is_new: bool) -> Option<u32> {
        let under_way = self.sent.get_mut(&state.stream).map_or(0, |sent| {
            sent.retain(|(_, end)| *end > state.next.offset);
            sent.iter().filter(|(of, _)| *of == case).count()
        });
        let proposals = u32::try_from(under_way + usize::from(is_new)).ok()?;
        state.case_version(case)?.checked_add(proposals)
    }

    /// The case as it is kept.
    async fn kept_case(&self, state: &StreamState, case: u64) -> Result<Option<Case>, StoreError> {
        let key = key_of(&state.stream.to_string(), case);
        let row = self.store.get(state.stream.tenant, Table::Cases, &key).await?;
        row.map(|row| cases::read(&key, &row)).transpose()
    }

    /// What becomes of the last records that a case holds by these moves; nothing where they leave something lost.
    async fn tried(&self, state: &StreamState, case: &Case, moves: &[Move]) -> Result<Option<Tried>, ProcessError> {
        let lost = state.drift().lost(case.position.offset, state.shape());
        let best: Vec<Move> =
            lost.iter().filter_map(|lost| moves.iter().find(|to| to.from == lost.path)).cloned().collect();
        if best.len() < lost.len() || best.is_empty() {
            return Ok(None);
        }
        let verdict = Verdict::Edit { moves: best };
        match dry_run(&*self.log, state, case, &Mask::default(), verdict, HELD_KEPT).await {
            Ok(run) => Ok(Some(run.tried())),
            Err(EvidenceError::Refused(_)) => Ok(None),
            Err(EvidenceError::Log(error)) => Err(error.into()),
            Err(EvidenceError::Step(source)) => Err(ProcessError::Step { partition: self.partition, source }),
        }
    }
}
