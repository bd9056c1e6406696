//! Who decides a case and until when, told on whole records: policies, versions, two people, times.

mod blanks;

use schemas::advice::{Asked, CallOutcome, ModelCall};
use schemas::decision::Fact;
use schemas::drift::{Decide, DriftKind, Move, Tried, Verdict};
use schemas::event::EventBatchReader;
use schemas::input::Command;
use schemas::mapping::Repairs;
use schemas::policy::{DecisionClass, Policy};
use schemas::record::RecordBatchWriter;
use schemas::{BatchKind, Input, Lane, Op, Record, Value, Version};

use super::Outcome;
use super::drift::Phase;
use super::tests::{Stream, opening};

const ENTITY: &str = r#"{"entity":"order","table":"orders","fields":[
    {"name":"order_id","type":"text","required":true},{"name":"total","type":"decimal"}]}"#;
const MAPPING: &str = r#"{"entity":"order","key":"Id","fields":{"order_id":"Id","total":"Total"}}"#;
const HOUR: i64 = 3_600_000_000;

/// A stream with one case: thirty records whose total is called otherwise.
struct House {
    stream: Stream,
    held: Vec<(u64, String)>,
    commands: u32,
}

impl House {
    fn new(policy: &Policy) -> Self {
        Self::drifted(policy, |id| format!(r#"{{"Id":"{id}","Sum":{id}.5}}"#))
    }

    /// The same, with thirty records that are made so.
    fn drifted(policy: &Policy, made: impl Fn(u32) -> String) -> Self {
        let mut house = Self { stream: Stream::new(), held: vec![], commands: 0 };
        for input in opening(MAPPING, ENTITY) {
            house.stream.control(&input);
        }
        house.set(1, policy);
        house.feed((0..50).map(|id: u32| format!(r#"{{"Id":"{id}","Total":{id}.5}}"#)).collect());
        house.feed((50..80).map(made).collect());
        assert_eq!(house.held.len(), 30);
        house
    }

    fn set(&mut self, number: u64, policy: &Policy) -> Outcome {
        let (policy, by) = (policy.clone(), "root".to_owned());
        self.command(Command::SetPolicy { number, policy, by })
    }

    fn command(&mut self, command: Command) -> Outcome {
        self.commands += 1;
        self.stream.control(&Input::Command { id: format!("c-{}", self.commands), command })
    }

    fn feed(&mut self, payloads: Vec<String>) -> Outcome {
        let first = self.stream.state.next.offset;
        let outcome = self.stream.records(&payloads.iter().map(String::as_str).collect::<Vec<_>>());
        let held = outcome.decisions.iter().filter(|d| matches!(d.fact, Fact::RecordHeld { .. }));
        self.held.extend(held.map(|d| (d.input_offset, payloads[(d.input_offset - first) as usize].clone())));
        outcome
    }

    /// What was held comes again.
    fn redrive(&mut self, case: u64) -> Outcome {
        let mut writer = RecordBatchWriter::new(Lane(77), 0, 0);
        for (origin, payload) in std::mem::take(&mut self.held) {
            let (op, version, payload) = (Op::Upsert, Version::None, payload.as_bytes());
            writer.push_from(
                &Record { ordinal: origin + 1, op, key: None, version, defect: None, payload },
                Some(origin),
            );
        }
        let batch = writer.finish(&case.to_be_bytes());
        self.stream.fold(BatchKind::Redriven, batch.count, &batch.body)
    }

    /// Somebody puts a mapping in force, past the cases.
    fn put(&mut self, by: &str, mapping: &str) -> Outcome {
        let [m, e, Input::StreamOpened { mapping, entity_definition, .. }] = opening(mapping, ENTITY) else {
            unreachable!()
        };
        self.stream.control(&m);
        self.stream.control(&e);
        let (by, force, made_on, why, once_read) = (by.to_owned(), true, None, None, true);
        self.command(Command::ActivateMapping { mapping, entity_definition, by, force, made_on, why, once_read })
    }

    fn case(&self) -> u64 {
        let open = self.stream.state.drift().cases().iter().find(|(_, case)| case.phase == Phase::Open);
        *open.expect("a case is open").0
    }

    fn suggest(&mut self, confidence: u16, tried: Option<Tried>) -> Outcome {
        self.suggest_move(to("Sum", confidence), tried)
    }

    fn suggest_move(&mut self, to: Move, tried: Option<Tried>) -> Outcome {
        self.commands += 1;
        let (id, case) = (format!("s-{}", self.commands), self.case());
        let mapping_version = self.stream.state.mapping().unwrap().1;
        let (moves, alternatives) = (vec![to], vec![]);
        let (asked, version) = (None, None);
        self.stream.control(&Input::Suggestion {
            id,
            case,
            mapping_version,
            moves,
            alternatives,
            tried,
            asked,
            version,
        })
    }

    /// A model's answer, which was asked for on this version of the case.
    fn answer(&mut self, version: u32) -> Outcome {
        self.commands += 1;
        let (id, case, version) = (format!("a-{}", self.commands), self.case(), Some(version));
        let mapping_version = self.stream.state.mapping().unwrap().1;
        let (outcome, input_tokens, output_tokens, cost_micros) = (CallOutcome::Answered, 7, 3, 5);
        let call = ModelCall { model: "small".into(), outcome, input_tokens, output_tokens, cost_micros };
        let asked = Some(Asked { coverage: None, call: Some(call) });
        let (moves, alternatives, tried) = (vec![to("Sum", 0)], vec![], None);
        self.stream.control(&Input::Suggestion {
            id,
            case,
            mapping_version,
            moves,
            alternatives,
            tried,
            asked,
            version,
        })
    }

    fn decide(&mut self, by: &str, version: Option<u32>, verdict: Verdict) -> Outcome {
        let case = self.case();
        self.decide_of(case, by, version, verdict)
    }

    fn decide_of(&mut self, case: u64, by: &str, version: Option<u32>, verdict: Verdict) -> Outcome {
        let mapping_version = self.stream.state.mapping().unwrap().1;
        let (by, why) = (by.to_owned(), "seen".to_owned());
        self.command(Command::Decide(Decide { case, mapping_version, version, once_read: false, verdict, by, why }))
    }

    /// A timer's time has come, at `now`.
    fn pass(&mut self, timer: &str, now: i64) -> Outcome {
        let input = Input::TimePassed { id: format!("{timer}-{}", self.case()) };
        let body = serde_json::to_vec(&input).unwrap();
        let first = self.stream.state.next.offset;
        let input = super::InputBatch { kind: BatchKind::Control, first, count: 1, logged_at: now, body: &body };
        super::fold(&mut self.stream.state, input, &mut super::Scratch::default()).unwrap()
    }
}

fn to(path: &str, confidence: u16) -> Move {
    let (from, to, kind) = ("Total".to_owned(), vec![path.to_owned()], DriftKind::Renamed);
    Move { from, to, kind, confidence, part: None, change: None, transform: None, signals: vec![] }
}

fn names(outcome: &Outcome) -> Vec<&'static str> {
    outcome.decisions.iter().map(|d| d.fact.type_name()).collect()
}

fn waits(outcome: &Outcome) -> Option<String> {
    outcome.decisions.iter().find_map(|d| match &d.fact {
        Fact::RepairProposed { waits, .. } => waits.clone(),
        _ => None,
    })
}

fn refused(outcome: &Outcome) -> String {
    let reason = |d: &schemas::Decision| match &d.fact {
        Fact::CommandRefused { reason, .. } => Some(reason.clone()),
        _ => None,
    };
    outcome.decisions.iter().find_map(reason).unwrap_or_else(|| panic!("{outcome:?}"))
}

fn totals(outcome: &Outcome) -> Vec<i128> {
    let mut all = Vec::new();
    for (body, _) in &outcome.rows {
        let mut reader = EventBatchReader::new(body).unwrap();
        while let Some(mut row) = reader.next_row().unwrap() {
            row.values.next_value().unwrap();
            let Value::Decimal(units) = row.values.next_value().unwrap() else { panic!("{row:?}") };
            all.push(units);
        }
    }
    all
}

fn policy(text: &str) -> Policy {
    serde_json::from_str(text).unwrap()
}

fn tried(accepted: u64) -> Option<Tried> {
    Some(Tried { records: 30, accepted, quarantined: 30 - accepted, held: 0 })
}

const ALL: Verdict = Verdict::Approve { only: vec![] };

#[test]
fn a_policy_says_what_is_applied_by_itself() {
    for (text, confidence, tried, why) in [
        ("{}", 950, tried(30), None),
        ("{}", 950, None, Some("was not tried")),
        ("{}", 899, tried(30), Some("below 0.90")),
        ("{}", 950, tried(29), Some("1 would be set aside")),
        (r#"{"at_least":970}"#, 960, tried(30), Some("below 0.97")),
        (r#"{"at_least":600}"#, 600, tried(30), None),
        (r#"{"repairs":"approve"}"#, 990, tried(30), Some("a person approves")),
        (r#"{"repairs":"stop"}"#, 990, tried(30), Some("stopped")),
        (r#"{"repairs":"propagate"}"#, 510, tried(3), None),
        (r#"{"repairs":"propagate"}"#, 490, tried(30), Some("below 0.50")),
        (r#"{"two_persons":["renamed"]}"#, 990, tried(30), Some("two people decide what is renamed")),
    ] {
        let mut house = House::new(&policy(text));
        let outcome = house.suggest(confidence, tried);
        match why {
            Some(why) => assert!(waits(&outcome).is_some_and(|waits| waits.contains(why)), "{text}: {outcome:?}"),
            None => assert!(names(&outcome).contains(&"RepairApplied"), "{text}: {outcome:?}"),
        }
    }
}

#[test]
fn what_breaks_waits_though_everything_is_propagated() {
    let mut house = House::new(&policy(r#"{"repairs":"propagate"}"#));
    let (case, mapping_version) = (house.case(), 1);
    let split = Move { to: vec!["Sum".into(), "Id".into()], kind: DriftKind::Split, ..to("Sum", 990) };
    let (id, moves, alternatives) = ("s".to_owned(), vec![split], vec![]);
    let (tried, asked, version) = (None, None, None);
    let suggestion = Input::Suggestion { id, case, mapping_version, moves, alternatives, tried, asked, version };
    let outcome = house.stream.control(&suggestion);
    let Some(Fact::RepairProposed { waits, breaks, .. }) = outcome.decisions.first().map(|d| &d.fact) else {
        panic!("{outcome:?}")
    };
    assert!(waits.as_ref().is_some_and(|waits| waits.contains("split")) && waits == breaks, "{waits:?}");
}

#[test]
fn a_later_policy_counts_and_an_earlier_one_is_refused() {
    let mut house = House::new(&policy("{}"));
    assert_eq!(names(&house.set(7, &policy(r#"{"repairs":"approve"}"#))), ["PolicySet", "CommandApplied"]);
    assert!(refused(&house.set(6, &policy("{}"))).contains("7 is in force"));
    assert_eq!(house.stream.state.repairs(), Repairs::Approve);
    assert!(refused(&house.set(8, &policy(r#"{"expire_hours":0}"#))).contains("hours"));
    let bytes = house.stream.state.snapshot();
    let back = super::StreamState::from_snapshot(&bytes).unwrap();
    assert_eq!((back.repairs(), back.policy()), (Repairs::Approve, house.stream.state.policy()));
}

#[test]
fn a_stopped_stream_holds_everything_while_a_case_is_open_and_lets_it_go_by_the_decision() {
    let mut house = House::new(&policy(r#"{"repairs":"stop"}"#));
    house.suggest(990, tried(30));
    let whole = |ids: std::ops::Range<u32>| ids.map(|id| format!(r#"{{"Id":"{id}","Total":{id}.5}}"#)).collect();
    let outcome = house.feed(whole(80..90));
    assert_eq!((outcome.rows.len(), house.held.len()), (0, 40), "what has everything is held, too");
    let mut back = super::StreamState::from_snapshot(&house.stream.state.snapshot()).unwrap();
    std::mem::swap(&mut back, &mut house.stream.state);
    let outcome = house.feed(whole(90..95));
    assert_eq!((outcome.rows.len(), house.held.len()), (0, 45), "a state that was read back stops as well");
    let case = house.case();
    let outcome = house.decide("user:ada", None, ALL);
    assert!(names(&outcome).contains(&"RecordsReleased"), "{outcome:?}");
    assert_eq!(totals(&house.redrive(case)).len(), 45);
    assert_eq!(totals(&house.feed(whole(95..100))).len(), 5, "and flows on");
    let c = house.stream.state.counters;
    assert_eq!((c.taken, c.accepted, c.held), (100, 100, 0));
}

#[test]
fn a_decision_on_another_version_of_the_case_is_refused() {
    let mut house = House::new(&policy("{}"));
    house.suggest(600, tried(30));
    assert!(refused(&house.decide("user:ada", Some(1), ALL)).contains("version 1 of the case, which is at 2"));
    assert_eq!(names(&house.decide("user:ada", Some(2), Verdict::Reject)), ["RepairRejected", "CommandApplied"]);
    assert!(refused(&house.decide("user:bob", Some(2), ALL)).contains("look again"), "ada was faster");
    let edit = Verdict::Edit { moves: vec![to("Sum", 0)] };
    assert!(names(&house.decide("user:bob", Some(3), edit)).contains(&"RepairApplied"));
}

#[test]
fn an_answer_of_a_model_that_is_late_replaces_nothing_and_what_it_cost_is_told() {
    let late = |house: &mut House| {
        let before = house.stream.state.drift().proposed(house.case()).to_vec();
        let outcome = house.answer(2);
        assert_eq!(names(&outcome), ["ModelAsked", "CommandRefused"], "{outcome:?}");
        assert!(refused(&outcome).contains("version 2 of the case"), "{outcome:?}");
        assert_eq!(house.stream.state.drift().proposed(house.case()), before);
    };
    let mut rejected = House::new(&policy("{}"));
    rejected.suggest(600, tried(30));
    assert_eq!(rejected.stream.state.case_version(rejected.case()), Some(2), "opened and proposed");
    rejected.decide("user:ada", None, Verdict::Reject);
    late(&mut rejected);
    let mut approved = House::new(&policy(r#"{"two_persons":["all"]}"#));
    approved.suggest(600, tried(30));
    approved.decide("user:ada", None, ALL);
    late(&mut approved);
    let outcome = approved.decide("user:bob", None, ALL);
    assert!(names(&outcome).contains(&"RepairApplied"), "ada's approval counts still: {outcome:?}");
    let mut in_time = House::new(&policy("{}"));
    in_time.suggest(600, tried(30));
    assert_eq!(names(&in_time.answer(2)), ["ModelAsked", "RepairProposed"]);
}

#[test]
fn what_a_person_has_rejected_is_never_applied_by_itself() {
    let mut house = House::new(&policy("{}"));
    house.suggest(600, tried(30));
    house.decide("user:ada", None, Verdict::Reject);
    let outcome = house.suggest(990, tried(30));
    assert!(waits(&outcome).is_some_and(|waits| waits.contains("rejected")), "{outcome:?}");
}

#[test]
fn two_people_decide_what_is_of_a_chosen_class_and_they_are_two() {
    let mut house = House::new(&policy(r#"{"two_persons":["renamed"]}"#));
    house.suggest(990, tried(30));
    let outcome = house.decide("user:ada", None, ALL);
    assert_eq!(names(&outcome), ["ApprovalGiven", "CommandApplied"]);
    assert!(refused(&house.decide("user:ada", None, ALL)).contains("another one than you"));
    assert!(refused(&house.decide("key:7", None, ALL)).contains("a key is none"));
    let other = Verdict::Edit { moves: vec![to("Id", 0)] };
    assert_eq!(names(&house.decide("user:bob", None, other))[0], "ApprovalGiven", "another repair has one approval");
    assert_eq!(names(&house.decide("user:bob", None, ALL))[0], "ApprovalGiven", "and takes the place of the first");
    let outcome = house.decide("user:ada", None, ALL);
    let by = outcome.decisions.iter().find_map(|d| match &d.fact {
        Fact::RepairApplied { by, .. } => Some(by.as_str()),
        _ => None,
    });
    assert_eq!(by, Some("user:bob and user:ada"), "{outcome:?}");
}

#[test]
fn where_two_people_decide_none_alone_maps_what_a_case_waits_about() {
    let around = MAPPING.replace("\"Total\"", "\"Sum\"");
    let mut house = House::new(&policy(r#"{"two_persons":["renamed"]}"#));
    let case = house.case();
    for _ in ["open", "rejected"] {
        let told = refused(&house.put("user:ada", &around));
        assert!(told.contains(&format!("the case 1:0:{case}")) && told.contains("decide the case instead"), "{told}");
        house.decide("user:ada", None, Verdict::Reject);
    }
    assert_eq!(house.stream.state.counters.held, 30, "nothing was let go");
    let beside = MAPPING.replace(r#""order_id":"Id""#, r#""order_id":{"from":"Id","trim":true}"#);
    assert_eq!(names(&house.put("user:ada", &beside)), ["MappingActivated", "CommandApplied"], "what no case is about");
    let edit = || Verdict::Edit { moves: vec![to("Sum", 0)] };
    house.decide("user:ada", None, edit());
    assert!(names(&house.decide("user:bob", None, edit())).contains(&"MappingActivated"), "two decide it");
    for text in ["{}", r#"{"two_persons":["removed"]}"#] {
        let mut house = House::new(&policy(text));
        assert!(names(&house.put("user:ada", &around)).contains(&"RecordsReleased"), "{text}: one may");
    }
}

#[test]
fn where_two_people_decide_none_alone_maps_what_may_become_a_case_before_it_opens() {
    let around = MAPPING.replace("\"Total\"", "\"Sum\"");
    let other = |ids: std::ops::Range<u32>| ids.map(|id| format!(r#"{{"Id":"{id}","Sum":{id}.5}}"#)).collect();
    let watching = |text: &str| {
        let mut house = House { stream: Stream::new(), held: vec![], commands: 0 };
        for input in opening(MAPPING, ENTITY) {
            house.stream.control(&input);
        }
        house.set(1, &policy(text));
        house.feed((0..50).map(|id: u32| format!(r#"{{"Id":"{id}","Total":{id}.5}}"#)).collect());
        house.feed(other(50..53));
        let cases = house.stream.state.drift().cases();
        assert!(cases.len() == 1 && cases.values().all(|case| case.phase == Phase::Watching), "{cases:?}");
        house
    };
    let mut house = watching(r#"{"two_persons":["renamed"]}"#);
    let told = refused(&house.put("user:ada", &around));
    assert!(told.contains("two people decide what is renamed") && told.contains("a little later"), "{told}");
    assert_eq!(house.stream.state.counters.held, 3, "nothing was let go");
    let beside = MAPPING.replace(r#""order_id":"Id""#, r#""order_id":{"from":"Id","trim":true}"#);
    assert_eq!(names(&house.put("user:ada", &beside)), ["MappingActivated", "CommandApplied"], "what no case is about");
    house.feed(other(53..80));
    let told = refused(&house.put("user:ada", &around));
    assert!(told.contains("decide the case instead"), "it is open by now: {told}");
    for text in ["{}", r#"{"two_persons":["removed"]}"#] {
        let outcome = watching(text).put("user:ada", &around);
        assert!(names(&outcome).contains(&"MappingActivated"), "{text}: one may: {outcome:?}");
    }
}

#[test]
fn two_people_take_a_decision_back_and_one_rejects() {
    let mut house = House::new(&policy(r#"{"two_persons":["reverted"]}"#));
    let case = house.case();
    house.suggest(990, tried(30));
    house.redrive(case);
    let outcome = house.decide_of(case, "user:ada", None, Verdict::Revert);
    assert_eq!(names(&outcome), ["ApprovalGiven", "CommandApplied"], "{outcome:?}");
    let outcome = house.decide_of(case, "user:bob", None, Verdict::Revert);
    assert!(names(&outcome).contains(&"RepairReverted"), "{outcome:?}");
    let reverted = house.case();
    assert_ne!(reverted, case);
    assert_eq!(names(&house.decide("user:ada", None, Verdict::Reject))[0], "RepairRejected");
}

#[test]
fn a_proposal_that_has_changed_takes_both_approvals_anew() {
    let mut house = House::new(&policy(r#"{"two_persons":["all"]}"#));
    house.suggest(600, tried(30));
    house.decide("user:ada", None, ALL);
    house.suggest(700, tried(30));
    assert_eq!(names(&house.decide("user:bob", None, ALL))[0], "ApprovalGiven", "ada approved another proposal");
    let found = house.decide("user:bob", None, Verdict::AcceptAsRemoved { only: vec![] });
    let Fact::ApprovalGiven { class, .. } = &found.decisions[0].fact else { panic!("{found:?}") };
    assert_eq!(*class, DecisionClass::Removed);
}

#[test]
fn an_undecided_case_is_reminded_of_and_expires_and_nothing_that_it_holds_is_lost() {
    let mut house = House::new(&policy(r#"{"remind_hours":5,"expire_hours":20}"#));
    let outcome = house.pass("remind", 5 * HOUR);
    assert_eq!(names(&outcome), ["CaseReminded", "TimerSet"]);
    let Fact::TimerSet { at, .. } = outcome.decisions[1].fact else { panic!("{outcome:?}") };
    assert_eq!(at, 10 * HOUR);
    let early = house.pass("expire", 19 * HOUR);
    assert_eq!(names(&early), ["TimerSet"], "a clock that is early asks again");
    let outcome = house.pass("expire", 21 * HOUR);
    let Fact::RepairRejected { by, why, .. } = &outcome.decisions[0].fact else { panic!("{outcome:?}") };
    assert_eq!((by.as_str(), why.contains("20 hours")), ("rules", true));
    assert_eq!(house.stream.state.counters.held, 30, "it holds on");
    assert_eq!(names(&house.pass("expire", 30 * HOUR)), [""; 0], "once");
    assert_eq!(names(&house.pass("remind", 30 * HOUR)), [""; 0]);
    house.feed(vec![r#"{"Id":"90","Sum":1}"#.into()]);
    let case = house.case();
    let edit = Verdict::Edit { moves: vec![to("Sum", 0)] };
    assert!(names(&house.decide("user:ada", None, edit)).contains(&"RepairApplied"), "a person can decide it still");
    assert_eq!(totals(&house.redrive(case)).len(), 31);
}

#[test]
fn a_case_that_is_put_off_is_reminded_of_then_and_expires_later() {
    let mut house = House::new(&policy(r#"{"remind_hours":5,"expire_hours":20}"#));
    let outcome = house.decide("user:ada", None, Verdict::Snooze { until: 30 * HOUR });
    assert_eq!(names(&outcome), ["CaseSnoozed", "TimerSet", "CommandApplied"]);
    let quiet = house.pass("remind", 5 * HOUR);
    assert_eq!(names(&quiet), ["TimerSet"]);
    let Fact::TimerSet { at, .. } = quiet.decisions[0].fact else { panic!("{quiet:?}") };
    assert_eq!(at, 35 * HOUR, "not before the time that it was put off to");
    let later = house.pass("expire", 21 * HOUR);
    let Fact::TimerSet { at, .. } = later.decisions[0].fact else { panic!("{later:?}") };
    assert_eq!(at, 50 * HOUR);
    assert_eq!(names(&house.pass("snooze", 30 * HOUR)), ["CaseReminded"]);
    assert_eq!(names(&house.pass("snooze", 31 * HOUR)), [""; 0], "once");
    assert_eq!(names(&house.pass("expire", 50 * HOUR)), ["RepairRejected"]);
}

#[test]
fn a_person_says_how_a_value_is_transformed_also_where_it_stands() {
    let mut house = House::new(&policy("{}"));
    let case = house.case();
    let rule = Box::new(serde_json::from_str(r#"{"unit":"cents"}"#).unwrap());
    let cents = Move { transform: Some(rule), ..to("Sum", 0) };
    let outcome = house.decide("user:ada", None, Verdict::Edit { moves: vec![cents.clone()] });
    assert!(names(&outcome).contains(&"MappingActivated"), "{outcome:?}");
    assert_eq!(totals(&house.redrive(case))[0], 5_050, "50.5 cents are 0.5050");
    assert_eq!(
        totals(&house.feed(vec![r#"{"Id":"200","Total":7}"#.into()])),
        [70_000],
        "the old path means what it did"
    );
    house.feed((210..240).map(|id| format!(r#"{{"Id":"{id}","Total":{id}}}"#)).collect());
    let odd = |id: u32| format!(r#"{{"Id":"{id}","Total":{{"v":1}}}}"#);
    house.feed((300..330).map(odd).collect());
    let case = house.case();
    let json = Move { to: vec!["Total".into()], kind: DriftKind::Retyped, ..cents };
    let outcome = house.decide("user:ada", None, Verdict::Edit { moves: vec![json] });
    assert!(names(&outcome).contains(&"RecordsReleased"), "{outcome:?}");
    house.redrive(case);
    assert_eq!(house.stream.state.counters.held, 0, "it is not held again for the type that was accepted");
    assert_eq!(totals(&house.feed(vec![r#"{"Id":"400","Total":7}"#.into()])), [700], "from here on it is cents");
}
