//! Asking a language model what stays uncertain. It happens behind the repairer's back: nobody waits for a model, and one that
//! is slow, away or hostile leaves things as they are, waiting for a person. A process that dies forgets what it asked.

use std::sync::Arc;

use matcher::Kind;
use schemas::advice::{Asked, CallOutcome, Coverage, ModelCall, Recommendation};
use schemas::drift::{DriftKind, Lost, Move, Signal};
use schemas::policy::{AT_LEAST, ModelUse};
use schemas::{Input, TenantId};
use tokio::sync::Semaphore;

use super::knowledge::Knowledge;
use super::suggest::{Suggested, fields};
use crate::advice::{self, Advisor, FieldAsked, Pick, Question};
use crate::ingest::{Ingest, OpenStream};
use crate::step::StreamState;
use crate::store::{Store, StoreError};

/// Questions that are under way at once; those beyond wait for their turn.
const PLACES: usize = 4;
/// The signal by which a move says that a model named it.
const SIGNAL: &str = "language_model";

/// A model, and how it may be asked.
pub struct Asking {
    advisor: Arc<dyn Advisor>,
    /// What a tenant's questions may cost until an admin resets them, in millionths of a dollar.
    budget_micros: Option<u64>,
    /// It is asked even where enough is known.
    asks_always: bool,
    places: Semaphore,
}

/// What is to be asked of a case.
pub(super) struct Doubt {
    pub(super) open: OpenStream,
    pub(super) case: u64,
    pub(super) mapping_version: u32,
    /// The input behind which it was asked: it tells one question of a case from the next.
    pub(super) offset: u64,
    pub(super) question: Question,
    pub(super) suggested: Suggested,
}

impl Asking {
    /// A model that is asked within a budget for each tenant.
    pub fn new(advisor: Arc<dyn Advisor>, budget_micros: Option<u64>, asks_always: bool) -> Self {
        Self { advisor, budget_micros, asks_always, places: Semaphore::new(PLACES) }
    }

    /// What stays uncertain of a case, and how much of it is known; nothing when all is sure, or nobody may be asked.
    pub(super) fn doubt(
        &self,
        state: &StreamState,
        case: u64,
        suggested: &Suggested,
        known: &Knowledge,
    ) -> Option<(Question, Coverage)> {
        let told = state.policy().model.unwrap_or_default();
        let entity = &state.entity()?.entity;
        let is_sure = |lost: &Lost| suggested.moves.iter().any(|m| m.from == lost.path && m.confidence >= AT_LEAST);
        let lost = state.drift().lost(case, state.shape());
        let uncertain: Vec<&Lost> = lost.iter().filter(|lost| lost.change.is_none() && !is_sure(lost)).collect();
        let (before, after) = fields(state, case);
        if told == ModelUse::Never || uncertain.is_empty() || after.is_empty() {
            return None;
        }
        let ask = |field: &matcher::Field, fills: &[String]| FieldAsked {
            name: field.name.clone(),
            kind: kind(field.kind).to_owned(),
            fills: fills.to_vec(),
            values: match told {
                ModelUse::Values => field.samples.iter().map(ToString::to_string).collect(),
                ModelUse::Never | ModelUse::Names => vec![],
            },
        };
        let of = |lost: &&Lost| before.iter().find(|f| f.name == lost.path).map(|field| ask(field, &lost.feeds));
        let question = Question {
            entity: entity.to_string(),
            lost: uncertain.iter().filter_map(of).collect(),
            added: after.iter().map(|field| ask(field, &[])).collect(),
        };
        let added: Vec<String> = after.iter().map(|field| field.name.clone()).collect();
        let mut coverage = known.coverage(entity, uncertain.into_iter(), &added);
        if coverage.recommendation() == Recommendation::Skip && !self.asks_always {
            (coverage.skipped, coverage.saved_micros) = (true, self.most(&question));
        }
        Some((question, coverage))
    }

    /// What a question costs at most.
    fn most(&self, question: &Question) -> u64 {
        let prompt = question.prompt();
        self.advisor.price().of(prompt.tokens(), prompt.answer_tokens)
    }

    /// Asks, and sends what comes of it.
    pub(super) fn start(self: &Arc<Self>, store: Arc<dyn Store>, ingest: Ingest, doubt: Doubt) {
        let asking = self.clone();
        tokio::spawn(async move {
            let (stream, case) = (doubt.open.id.clone(), doubt.case);
            if let Err(error) = asking.ask(&*store, &ingest, doubt).await {
                tracing::warn!(%stream, case, error, "what a model said of a case is lost; the case waits for a person");
            }
        });
    }

    async fn ask(&self, store: &dyn Store, ingest: &Ingest, doubt: Doubt) -> Result<(), String> {
        let tenant = doubt.open.id.tenant;
        let Some((call, picks)) = self.call(store, tenant, &doubt.question).await.map_err(|e| e.to_string())? else {
            return Ok(());
        };
        let Doubt { open, case, mapping_version, offset, suggested, .. } = doubt;
        let id = format!("advise-{case}-{mapping_version}-{offset}");
        let Suggested { moves, alternatives } = preferred(suggested, &picks);
        let asked = Some(Asked { coverage: None, call: Some(call) });
        let input = Input::Suggestion { id, case, mapping_version, moves, alternatives, tried: None, asked };
        ingest.send(&open, &[input]).await.map(|_| ()).map_err(|e| e.to_string())
    }

    /// Calls the model; nothing when the tenant's budget is spent.
    async fn call(
        &self,
        store: &dyn Store,
        tenant: TenantId,
        question: &Question,
    ) -> Result<Option<(ModelCall, Vec<Pick>)>, StoreError> {
        let most = self.most(question);
        // A semaphore that is never closed has places.
        let _place = self.places.acquire().await;
        if !advice::reserve(store, tenant, most, self.budget_micros).await? {
            return Ok(None);
        }
        let (outcome, reply, picks) = match self.advisor.ask(&question.prompt()).await {
            Ok(reply) => {
                let picks = advice::picks(question, &reply.text);
                (if picks.is_empty() { CallOutcome::Useless } else { CallOutcome::Answered }, reply, picks)
            }
            Err(error) => {
                tracing::info!(%error, model = self.advisor.model(), "a model did not answer");
                (error.outcome(), advice::Reply::default(), vec![])
            }
        };
        let (input_tokens, output_tokens) = (reply.input_tokens, reply.output_tokens);
        let cost_micros = self.advisor.price().of(input_tokens, output_tokens);
        let model = self.advisor.model().to_owned();
        let call = ModelCall { model, outcome, input_tokens, output_tokens, cost_micros };
        advice::settle(store, tenant, most, &call).await?;
        Ok(Some((call, picks)))
    }
}

/// What was suggested, with what the model named before the rest. Its confidence stays the matcher's; what the matcher did
/// not name at all has none.
fn preferred(mut suggested: Suggested, picks: &[Pick]) -> Suggested {
    for Pick { from, to } in picks {
        let is_it = |m: &Move| m.from == *from && m.to == [to.as_str()];
        let all = suggested.moves.iter().chain(&suggested.alternatives);
        let mut picked = all.filter(|m| is_it(m)).max_by_key(|m| m.confidence).cloned().unwrap_or_else(|| Move {
            from: from.clone(),
            to: vec![to.clone()],
            kind: DriftKind::Renamed,
            confidence: 0,
            part: None,
            change: None,
            transform: None,
            signals: vec![],
        });
        picked.signals.insert(0, Signal { name: SIGNAL.to_owned(), strength: 1000, weight: 0 });
        let (others, rest): (Vec<Move>, Vec<Move>) = suggested.moves.into_iter().partition(|m| m.from == *from);
        suggested.moves = rest;
        suggested.moves.push(picked);
        suggested.alternatives.retain(|m| !is_it(m));
        let others = others.into_iter().filter(|m| !is_it(m));
        suggested.alternatives.splice(0..0, others);
    }
    suggested
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Unknown => "unknown",
        Kind::Boolean => "boolean",
        Kind::Integer => "integer",
        Kind::Number => "number",
        Kind::Date => "date",
        Kind::DateTime => "datetime",
        Kind::String => "string",
        Kind::Object => "object",
        Kind::Array => "array",
    }
}
