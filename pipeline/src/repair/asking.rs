//! Asking a language model what stays uncertain. It happens behind the repairer's back: nobody waits for a model, and one that
//! is slow, away or hostile leaves things as they are, waiting for a person. A process that dies forgets what it asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use matcher::Kind;
use parking_lot::Mutex;
use schemas::advice::{Asked, CallOutcome, Coverage, ModelCall, Recommendation};
use schemas::drift::{DriftKind, Lost, Move, Signal, Tried};
use schemas::policy::ModelUse;
use schemas::{Input, StreamId, TenantId, TenantName};
use tokio::sync::Semaphore;

use super::knowledge::Knowledge;
use super::names::Names;
use super::suggest::{Suggested, fields, is_written_beside, text_of};
use super::{Mask, now};
use crate::advice::{self, Advisor, FieldAsked, Pick, Question, Reservation};
use crate::definitions::{self, DefinitionError};
use crate::ingest::{Ingest, OpenStream};
use crate::step::StreamState;
use crate::store::{Store, StoreError};

/// Questions that are under way at once; those beyond wait for their turn.
const PLACES: usize = 4;
/// Questions of one tenant that wait or are under way; what comes beyond is not asked.
const WAITING_MAX: usize = 32;
/// The signal by which a move says that a model named it.
const SIGNAL: &str = "language_model";

/// A model, and how it may be asked.
pub struct Asking {
    advisor: Arc<dyn Advisor>,
    /// What a tenant's questions may cost until an admin resets them, in millionths of a dollar.
    budget_micros: Option<u64>,
    /// The same of some tenants, by their names.
    budgets: BTreeMap<TenantName, u64>,
    /// It is asked even where enough is known.
    asks_always: bool,
    places: Semaphore,
    /// Questions that wait or are under way, by the streams and the ids of their answers.
    waiting: Mutex<BTreeMap<TenantId, BTreeSet<(StreamId, String)>>>,
}

/// What is to be asked of a case.
pub(super) struct Doubt {
    pub(super) open: OpenStream,
    pub(super) case: u64,
    pub(super) mapping_version: u32,
    /// The version that the case has once what was suggested is proposed: an answer for another one comes too late.
    pub(super) version: Option<u32>,
    /// The input behind which it was asked: it tells one question of a case from the next.
    pub(super) offset: u64,
    pub(super) question: Question,
    pub(super) suggested: Suggested,
    pub(super) tried: Option<Tried>,
}

/// A place among what a tenant asks; given back when it is dropped.
struct Turn {
    asking: Arc<Asking>,
    question: (StreamId, String),
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut waiting = self.asking.waiting.lock();
        let tenant = self.question.0.tenant;
        if let Some(questions) = waiting.get_mut(&tenant) {
            questions.remove(&self.question);
            if questions.is_empty() {
                waiting.remove(&tenant);
            }
        }
    }
}

impl Asking {
    /// A model that is asked within a budget for each tenant.
    pub fn new(advisor: Arc<dyn Advisor>, budget_micros: Option<u64>, asks_always: bool) -> Self {
        let (budgets, places, waiting) = (BTreeMap::new(), Semaphore::new(PLACES), Mutex::default());
        Self { advisor, budget_micros, budgets, asks_always, places, waiting }
    }

    /// Some tenants, by their names, have budgets of their own, in millionths of a dollar.
    pub fn budgets(self, budgets: BTreeMap<TenantName, u64>) -> Self {
        Self { budgets, ..self }
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        self.advisor.model()
    }

    /// What a tenant's questions may cost until an admin resets them, in millionths of a dollar.
    pub async fn budget_micros(&self, store: &dyn Store, tenant: TenantId) -> Result<Option<u64>, StoreError> {
        if self.budgets.is_empty() {
            return Ok(self.budget_micros);
        }
        let name = definitions::tenant_name(store, tenant).await.map_err(|error| match error {
            DefinitionError::Store(error) => error,
            other => StoreError::Unreadable(other.to_string()),
        })?;
        let own = name.and_then(|name| self.budgets.get(&name).copied());
        Ok(own.or(self.budget_micros))
    }

    /// What stays uncertain of a case, and how much of it is known; nothing when all is sure, or nobody may be asked. Without
    /// a mask nobody knows what is masked, and no value is told. A path whose name may be a value is not told at all.
    pub(super) fn doubt(
        &self,
        state: &StreamState,
        case: u64,
        suggested: &Suggested,
        known: &Knowledge,
        mask: Option<&Mask>,
    ) -> Option<(Question, Coverage)> {
        let told = state.policy().model.unwrap_or_default();
        let names = Names::of_case(state, case, state.policy().mask.as_deref().unwrap_or_default())?;
        let entity = &state.entity()?.entity;
        let lost = state.drift().lost(case, state.shape());
        let is_sure = |lost: &Lost| suggested.moves.iter().any(|m| m.from == lost.path && m.confidence >= sure(state));
        // What stood beside it for a while is not among what could be named.
        let is_beside = |lost: &Lost| suggested.moves.iter().any(|m| m.from == lost.path && is_written_beside(m));
        let is_uncertain = |lost: &&Lost| lost.change.is_none() && !is_sure(lost) && !is_beside(lost);
        let uncertain: Vec<&Lost> = lost.iter().filter(is_uncertain).collect();
        let (before, after) = fields(state, case);
        if told == ModelUse::Never || uncertain.is_empty() || after.is_empty() {
            return None;
        }
        let ask = |field: &matcher::Field, fills: &[String], is_hidden: &dyn Fn(&Mask) -> bool| FieldAsked {
            name: text_of(state.shape(), &field.name),
            kind: kind(field.kind).to_owned(),
            fills: fills.to_vec(),
            values: match mask {
                Some(mask) if told == ModelUse::Values && !is_hidden(mask) => {
                    field.samples.iter().map(ToString::to_string).collect()
                }
                _ => vec![],
            },
        };
        let of_lost = |lost: &&Lost| {
            let is_hidden = |mask: &Mask| {
                lost.paths.iter().chain([&lost.path]).any(|path| mask.hides_path(path))
                    || lost.feeds.iter().any(|feed| mask.hides_field(feed))
            };
            let field = before.iter().find(|field| field.name == lost.path)?;
            Some(FieldAsked { name: lost.path.clone(), ..ask(field, &lost.feeds, &is_hidden) })
        };
        let of_added = |field: &matcher::Field| {
            let path = text_of(state.shape(), &field.name);
            ask(field, &[], &|mask: &Mask| mask.hides_path(&path) || mask.hides_path(&field.name))
        };
        let may_tell = |field: &&matcher::Field| names.may_tell(&text_of(state.shape(), &field.name));
        let added = after.iter().filter(may_tell).map(of_added).collect();
        let lost = uncertain.iter().filter_map(of_lost).collect();
        let question = Question { entity: entity.to_string(), lost, added }.told()?;
        let added: Vec<String> = question.added.iter().map(|field| field.name.clone()).collect();
        let is_asked = |lost: &&Lost| question.lost.iter().any(|field| field.name == lost.path);
        let mut coverage = known.coverage(entity, uncertain.into_iter().filter(is_asked), &added);
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

    /// Asks, unless the very same question is under way, and sends what comes of it.
    pub(super) fn start(self: &Arc<Self>, store: Arc<dyn Store>, ingest: Ingest, doubt: Doubt) {
        let (stream, case) = (doubt.open.id.clone(), doubt.case);
        let question = (stream.clone(), advice_id(case, doubt.mapping_version, doubt.offset));
        if self.waiting.lock().get(&stream.tenant).is_some_and(|questions| questions.contains(&question)) {
            return;
        }
        let Some(turn) = self.turn(question) else {
            tracing::warn!(%stream, case, "no model is asked: {WAITING_MAX} questions of the tenant wait already");
            return;
        };
        tokio::spawn(async move {
            if let Err(error) = turn.asking.ask(&*store, &ingest, doubt).await {
                tracing::warn!(%stream, case, error, "what a model said of a case is lost; the case waits for a person");
            }
        });
    }

    fn turn(self: &Arc<Self>, question: (StreamId, String)) -> Option<Turn> {
        let mut waiting = self.waiting.lock();
        let questions = waiting.entry(question.0.tenant).or_default();
        (questions.len() < WAITING_MAX).then(|| {
            questions.insert(question.clone());
            Turn { asking: self.clone(), question }
        })
    }

    async fn ask(&self, store: &dyn Store, ingest: &Ingest, doubt: Doubt) -> Result<(), String> {
        let (call, picks) = self.call(store, doubt.open.id.tenant, &doubt.question).await.map_err(|e| e.to_string())?;
        let Doubt { open, case, mapping_version, version, offset, suggested, tried, .. } = doubt;
        let id = advice_id(case, mapping_version, offset);
        let places = |moves: &[Move]| moves.iter().map(|m| (m.from.clone(), m.to.clone())).collect::<Vec<_>>();
        let before = places(&suggested.moves);
        let Suggested { moves, alternatives } = preferred(suggested, &picks);
        // What was tried is the proposal of before.
        let tried = tried.filter(|_| places(&moves) == before);
        let asked = Some(Asked { coverage: None, call: Some(call) });
        let input = Input::Suggestion { id, case, mapping_version, moves, alternatives, tried, asked, version };
        ingest.send(&open, &[input]).await.map(|_| ()).map_err(|e| e.to_string())
    }

    /// Calls the model, unless the tenant's budget is spent.
    async fn call(
        &self,
        store: &dyn Store,
        tenant: TenantId,
        question: &Question,
    ) -> Result<(ModelCall, Vec<Pick>), StoreError> {
        let model = self.advisor.model().to_owned();
        let (outcome, input_tokens, output_tokens, cost_micros) = (CallOutcome::OverBudget, 0, 0, 0);
        let mut call = ModelCall { model, outcome, input_tokens, output_tokens, cost_micros };
        let most = self.most(question);
        // A semaphore that is never closed has places.
        let _place = self.places.acquire().await;
        let reserved = Reservation { began: now(), most };
        let budget = self.budget_micros(store, tenant).await?;
        if !advice::reserve(store, tenant, reserved, budget).await? {
            return Ok((call, vec![]));
        }
        let mut picks = vec![];
        match self.advisor.ask(&question.prompt()).await {
            Ok(reply) => {
                picks = advice::picks(question, &reply.text);
                call.outcome = if picks.is_empty() { CallOutcome::Useless } else { CallOutcome::Answered };
                (call.input_tokens, call.output_tokens) = (reply.input_tokens, reply.output_tokens);
                let is_counted = reply.input_tokens > 0 && reply.output_tokens > 0;
                let cost = self.advisor.price().of(reply.input_tokens, reply.output_tokens);
                // One that does not count cannot spend more than its budget unseen.
                call.cost_micros = if is_counted { cost } else { most };
            }
            Err(error) => {
                tracing::info!(%error, model = self.advisor.model(), "a model did not answer");
                call.outcome = error.outcome();
                call.cost_micros = if error.may_be_paid() { most } else { 0 };
            }
        }
        advice::settle(store, tenant, reserved, &call).await?;
        Ok((call, picks))
    }
}

/// The id of the suggestion that a model's answer becomes: it tells one question of a case from the next.
pub(super) fn advice_id(case: u64, mapping_version: u32, offset: u64) -> String {
    format!("advise-{case}-{mapping_version}-{offset}")
}

/// From which confidence on, in thousandths, nothing of a stream needs to be asked: it is applied, or a person is asked
/// whatever a model would say.
fn sure(state: &StreamState) -> u16 {
    state.policy().at_least(state.repairs())
}

/// What was suggested, with what the model named. Its confidence stays the matcher's; what the matcher did not name at all
/// has none. It never takes the place of what the matcher proposes: it is proposed only where that proposes nothing, and
/// for no place that is taken.
fn preferred(mut suggested: Suggested, picks: &[Pick]) -> Suggested {
    let signal = || Signal { name: SIGNAL.to_owned(), strength: 1000, weight: 0 };
    for Pick { from, to } in picks {
        let is_it = |m: &Move| m.from == *from && m.to == [to.as_str()];
        if let Some(same) = suggested.moves.iter_mut().find(|m| is_it(m)) {
            same.signals.insert(0, signal());
            continue;
        }
        let known = suggested.alternatives.iter().position(is_it).map(|place| suggested.alternatives.remove(place));
        let mut picked = known.unwrap_or_else(|| Move {
            from: from.clone(),
            to: vec![to.clone()],
            kind: DriftKind::Renamed,
            confidence: 0,
            part: None,
            change: None,
            transform: None,
            signals: vec![],
        });
        picked.signals.insert(0, signal());
        let is_taken = |m: &Move| m.from == *from || m.to.contains(to);
        match suggested.moves.iter().any(is_taken) {
            true => suggested.alternatives.insert(0, picked),
            false => suggested.moves.push(picked),
        }
    }
    suggested
}

/// Whether a model named a move.
pub(super) fn is_by_model(to: &Move) -> bool {
    to.signals.iter().any(|signal| signal.name == SIGNAL)
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::advice::{AdvisorError, Price, Prompt, Reply};
    use crate::store::MemoryStore;
    use crate::testing::{Line, TENANT, stream};

    /// A model that ends so, whatever it is asked.
    struct Ending(Result<Reply, AdvisorError>);

    #[async_trait]
    impl Advisor for Ending {
        fn model(&self) -> &str {
            "small"
        }

        fn price(&self) -> Price {
            Price { input: 1_000_000, output: 1_000_000 }
        }

        async fn ask(&self, _: &Prompt) -> Result<Reply, AdvisorError> {
            self.0.clone()
        }
    }

    #[tokio::test]
    async fn what_may_have_been_paid_for_and_was_not_counted_costs_the_most_that_it_may() {
        let field = |name: &str| FieldAsked { name: name.into(), ..FieldAsked::default() };
        let question = Question { entity: "order".into(), lost: vec![field("A")], added: vec![field("x")] };
        let reply = |input_tokens, output_tokens| Ok(Reply { text: String::new(), input_tokens, output_tokens });
        for (ending, cost) in [
            (reply(7, 3), Some(10)),
            (reply(0, 3), None),
            (reply(7, 0), None),
            (Err(AdvisorError::TimedOut), None),
            (Err(AdvisorError::Lost("it broke off".into())), None),
            (Err(AdvisorError::Failed("it answered 500".into())), Some(0)),
            (Err(AdvisorError::Limited), Some(0)),
        ] {
            let (store, asking) = (MemoryStore::default(), Asking::new(Arc::new(Ending(ending)), None, false));
            let (call, picks) = asking.call(&store, TENANT, &question).await.unwrap();
            let cost = cost.unwrap_or(asking.most(&question));
            assert_eq!((call.cost_micros, picks), (cost, vec![]), "{call:?}");
            let usage = advice::usage(&store, TENANT, now()).await.unwrap();
            assert_eq!((usage.cost_micros, usage.reserved_micros), (cost, 0), "{call:?}");
        }
    }

    #[tokio::test]
    async fn a_tenant_that_has_a_budget_of_its_own_spends_that_and_others_the_usual_one() {
        let field = |name: &str| FieldAsked { name: name.into(), ..FieldAsked::default() };
        let question = Question { entity: "order".into(), lost: vec![field("A")], added: vec![field("x")] };
        let (store, name) = (MemoryStore::default(), |name: &str| name.parse::<TenantName>().unwrap());
        let (rich, usual) = (name("rich"), name("usual"));
        let model = Arc::new(Ending(Ok(Reply { text: String::new(), input_tokens: 7, output_tokens: 3 })));
        let asking = Asking::new(model, Some(0), false).budgets([(rich.clone(), u64::MAX)].into());
        for (name, budget, outcome) in [(rich, u64::MAX, CallOutcome::Useless), (usual, 0, CallOutcome::OverBudget)] {
            let tenant = definitions::create_tenant(&store, &name).await.unwrap().unwrap();
            assert_eq!(asking.budget_micros(&store, tenant).await.unwrap(), Some(budget));
            let (call, _) = asking.call(&store, tenant, &question).await.unwrap();
            assert_eq!(call.outcome, outcome, "{name}");
        }
        assert_eq!(asking.budget_micros(&store, TENANT).await.unwrap(), Some(0), "one without a name");
    }

    /// A model that ends once it may.
    struct Slow {
        asked: AtomicUsize,
        may_end: Semaphore,
    }

    #[async_trait]
    impl Advisor for Slow {
        fn model(&self) -> &str {
            "slow"
        }

        fn price(&self) -> Price {
            Price::default()
        }

        async fn ask(&self, _: &Prompt) -> Result<Reply, AdvisorError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.may_end.acquire().await.unwrap().forget();
            Ok(Reply::default())
        }
    }

    #[tokio::test]
    async fn a_question_that_is_under_way_is_not_asked_once_more_and_the_next_one_of_the_case_is() {
        let (line, model) = (Line::new(), Arc::new(Slow { asked: AtomicUsize::new(0), may_end: Semaphore::new(0) }));
        let asking = Arc::new(Asking::new(model.clone(), None, true));
        let start = |offset| {
            let field = |name: &str| FieldAsked { name: name.into(), ..FieldAsked::default() };
            let question = Question { entity: "order".into(), lost: vec![field("A")], added: vec![field("x")] };
            let (open, suggested) = (OpenStream { id: stream("orders"), partition: 0 }, Suggested::default());
            let (case, mapping_version, version, tried) = (1, 1, None, None);
            let doubt = Doubt { open, case, mapping_version, version, offset, question, suggested, tried };
            asking.start(line.store.clone(), line.ingest(), doubt);
        };
        start(5);
        start(5);
        let under_way = || asking.waiting.lock().get(&TENANT).map_or(0, BTreeSet::len);
        assert_eq!(under_way(), 1);
        start(6);
        assert_eq!(under_way(), 2);
        model.may_end.add_permits(3);
        while under_way() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(model.asked.load(Ordering::SeqCst), 2);
    }

    fn to(from: &str, to: &str, confidence: u16) -> Move {
        Move {
            from: from.into(),
            to: vec![to.into()],
            kind: DriftKind::Renamed,
            confidence,
            part: None,
            change: None,
            transform: None,
            signals: vec![],
        }
    }

    fn pick(from: &str, to: &str) -> Pick {
        Pick { from: from.into(), to: to.into() }
    }

    fn places(moves: &[Move]) -> Vec<(&str, &str, u16)> {
        moves.iter().map(|m| (&*m.from, &*m.to[0], m.confidence)).collect()
    }

    #[test]
    fn a_model_takes_the_place_of_no_proposal_and_gives_no_confidence() {
        let (moves, alternatives) = (vec![to("A", "x", 700)], vec![to("A", "y", 100), to("B", "y", 150)]);
        let suggested = Suggested { moves, alternatives };
        let picks = [pick("A", "y"), pick("B", "z"), pick("C", "x")];
        let Suggested { moves, alternatives } = preferred(suggested, &picks);
        assert_eq!(places(&moves), [("A", "x", 700), ("B", "z", 0)]);
        assert_eq!(places(&alternatives), [("C", "x", 0), ("A", "y", 100), ("B", "y", 150)]);
        let named = |m: &Move| m.signals.iter().any(|s| s.name == SIGNAL && s.weight == 0);
        assert!(!named(&moves[0]) && named(&moves[1]) && named(&alternatives[1]) && !named(&alternatives[2]));
    }

    #[test]
    fn a_model_that_agrees_with_the_matcher_is_named_and_changes_nothing() {
        let suggested = Suggested { moves: vec![to("A", "x", 700)], alternatives: vec![] };
        let agreed = preferred(suggested, &[pick("A", "x")]);
        assert_eq!(places(&agreed.moves), [("A", "x", 700)]);
        assert_eq!((&*agreed.moves[0].signals[0].name, agreed.alternatives.len()), (SIGNAL, 0));
    }
}
