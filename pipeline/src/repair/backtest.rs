//! Backtests: what a policy would have applied by itself of the cases that are over, and what people decided of those.

use schemas::Position;
use schemas::drift::Move;
use schemas::mapping::Repairs;
use schemas::policy::{DecisionClass, Policy};

use super::asking::is_by_model;
use super::case::{Case, RULES};
use super::deed::{Decided, Deed};

/// Cases of each kind that are named.
const NAMED_MAX: usize = 20;

/// What a policy would have done.
#[derive(Debug, Clone, PartialEq)]
pub struct Backtest {
    /// The policy.
    pub policy: Policy,
    /// Cases that were opened, had a proposal, and were decided.
    pub cases: u64,
    /// Those that the policy would have applied by itself.
    pub applied: u64,
    /// Of these: a person decided the same.
    pub confirmed: u64,
    /// Of these: a person decided otherwise, or took it back.
    pub contradicted: u64,
    /// Of these: rules had applied it, and nobody took it back.
    pub unreviewed: u64,
    /// Some of those that a person decided otherwise.
    pub contradicted_cases: Vec<Position>,
}

/// What became of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    Confirmed,
    Contradicted,
    Unreviewed,
}

impl Backtest {
    /// A test of a policy that has seen no case.
    pub fn new(policy: Policy) -> Self {
        let (cases, applied, confirmed, contradicted, unreviewed) = Default::default();
        Self { policy, cases, applied, confirmed, contradicted, unreviewed, contradicted_cases: vec![] }
    }

    /// Takes a case in, with who decides by the mapping that it was about.
    pub fn take(&mut self, case: &Case, mapping: Option<Repairs>) {
        let Some(judged) = judged(case) else { return };
        self.cases += 1;
        if !self.would_apply(case, mapping) {
            return;
        }
        self.applied += 1;
        match judged {
            Judged::Confirmed => self.confirmed += 1,
            Judged::Unreviewed => self.unreviewed += 1,
            Judged::Contradicted => {
                self.contradicted += 1;
                if self.contradicted_cases.len() < NAMED_MAX {
                    self.contradicted_cases.push(case.position);
                }
            }
        }
    }

    /// Of what a person looked at, the share that was decided the same: between these bounds at 95 %, after Wilson.
    /// Nothing when nobody looked at anything.
    pub fn precision(&self) -> Option<(f64, f64)> {
        let (right, all) = (self.confirmed as f64, (self.confirmed + self.contradicted) as f64);
        if all == 0.0 {
            return None;
        }
        let (z, share) = (1.96, right / all);
        let (middle, scale) = (share + z * z / (2.0 * all), 1.0 + z * z / all);
        let spread = z * (share * (1.0 - share) / all + z * z / (4.0 * all * all)).sqrt();
        Some((((middle - spread) / scale).max(0.0), ((middle + spread) / scale).min(1.0)))
    }

    /// What the step asks before it applies a suggestion by itself, as far as the case tells. What ends blank breaks something.
    fn would_apply(&self, case: &Case, mapping: Option<Repairs>) -> bool {
        let repairs = self.policy.repairs(mapping);
        let is_by_itself = matches!(repairs, Repairs::Automatic | Repairs::Propagate);
        let best = case.lost.iter().filter_map(|lost| Some((lost, proposed(case, &lost.path)?)));
        let is_whole = best.clone().count() == case.lost.len() && !case.lost.is_empty();
        let is_sure = best.clone().all(|(_, to)| to.confidence >= self.policy.at_least(repairs));
        // What was not tried is as good as clean only where nothing was held to try it on.
        let is_clean = repairs == Repairs::Propagate || case.tried.map_or(case.held == 0, |tried| tried.is_clean());
        let has_values = case.tried.is_none_or(|tried| tried.blank() == 0);
        let is_for_two = self.policy.two_persons(best.clone(), std::iter::empty()).is_some()
            || (self.policy.wants_two(DecisionClass::Retyped) && best.clone().any(|(_, to)| to.is_into_array()));
        let is_breaking = case.breaks.is_some() || case.settled_breaks;
        let is_for_people = is_breaking || is_for_two || case.is_reverted || has_model(case);
        is_by_itself && is_whole && is_sure && is_clean && has_values && !is_for_people
    }
}

/// Whether a language model had a part in the last proposal; a call that named nothing, or came too late, had none.
fn has_model(case: &Case) -> bool {
    case.moves.iter().chain(&case.alternatives).chain(&case.settled).any(is_by_model)
}

fn proposed<'a>(case: &'a Case, path: &str) -> Option<&'a Move> {
    case.moves.iter().chain(&case.settled).find(|to| to.from == path)
}

/// What became of a case's proposal; nothing while nothing is decided of it, or a part only that bears the proposal out.
fn judged(case: &Case) -> Option<Judged> {
    if !case.is_proposed {
        return None;
    }
    let is_other = |decided: &Decided| match decided.status {
        Deed::Repaired => decided.moves.iter().any(|to| {
            let same = proposed(case, &to.from);
            same.is_none_or(|same| (&same.to, same.part) != (&to.to, to.part))
        }),
        Deed::Removed | Deed::Rejected | Deed::Reverted => true,
        Deed::Approved | Deed::Expired | Deed::Snoozed | Deed::Noted => false,
    };
    let by_people = case.decided.iter().filter(|decided| decided.by != RULES);
    if by_people.clone().any(is_other) {
        return Some(Judged::Contradicted);
    }
    if case.status.is_waiting() {
        return None;
    }
    let is_repaired = |decided: &Decided| decided.status == Deed::Repaired;
    match by_people.clone().any(is_repaired) {
        true => Some(Judged::Confirmed),
        false => case.decided.iter().any(is_repaired).then_some(Judged::Unreviewed),
    }
}

#[cfg(test)]
mod tests {
    use schemas::drift::{DriftKind, Lost, Signal, Tried};

    use super::*;
    use crate::repair::Status;

    fn to(path: &str, confidence: u16) -> Move {
        let (from, to, kind) = ("Total".to_owned(), vec![path.to_owned()], DriftKind::Renamed);
        Move { from, to, kind, confidence, part: None, change: None, transform: None, signals: vec![] }
    }

    fn case(offset: u64, proposed: Move, decided: &[(Deed, &str, Option<&str>)]) -> Case {
        let mut case = Case::new(Position { epoch: 1, partition: 0, offset }, "crm/orders".into(), 0, 0);
        let (path, paths, feeds) = ("Total".to_owned(), vec!["Total".to_owned()], vec!["total".to_owned()]);
        case.lost = vec![Lost { path, paths, feeds, retyped: false, change: None }];
        (case.moves, case.is_proposed) = (vec![proposed], true);
        case.decided = decided
            .iter()
            .map(|(status, by, path)| Decided {
                status: *status,
                moves: path.iter().map(|path| to(path, 1000)).collect(),
                removed: vec![],
                by: (*by).to_owned(),
                why: String::new(),
                at: 0,
            })
            .collect();
        case
    }

    fn past() -> Vec<Case> {
        use Deed::{Rejected, Repaired, Reverted};
        let mut unclean = case(7, to("Sum", 990), &[(Repaired, "ada", Some("Sum"))]);
        unclean.tried = Some(Tried { records: 10, accepted: 9, quarantined: 1, held: 0 });
        let mut breaking = case(8, to("Sum", 990), &[(Repaired, "ada", Some("Sum"))]);
        breaking.breaks = Some("Total feeds the key of the rows".into());
        vec![
            case(1, to("Sum", 800), &[(Repaired, "ada", Some("Sum"))]),
            case(2, to("Sum", 800), &[(Repaired, "ada", Some("Amount"))]),
            case(3, to("Sum", 950), &[(Repaired, "rules", Some("Sum"))]),
            case(4, to("Sum", 950), &[(Repaired, "rules", Some("Sum")), (Reverted, "ada", None)]),
            case(5, to("Sum", 600), &[(Rejected, "ada", None)]),
            case(6, to("Sum", 950), &[]),
            unclean,
            breaking,
        ]
    }

    fn tested(text: &str) -> Backtest {
        let mut test = Backtest::new(serde_json::from_str(text).unwrap());
        past().iter().for_each(|case| test.take(case, None));
        test
    }

    fn counts(test: &Backtest) -> [u64; 5] {
        [test.cases, test.applied, test.confirmed, test.contradicted, test.unreviewed]
    }

    #[test]
    fn a_threshold_is_judged_by_what_people_decided() {
        assert_eq!(counts(&tested(r#"{"at_least":900}"#)), [7, 2, 0, 1, 1]);
        let lower = tested(r#"{"at_least":700}"#);
        assert_eq!(counts(&lower), [7, 4, 1, 2, 1]);
        assert_eq!(lower.contradicted_cases.iter().map(|p| p.offset).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(counts(&tested(r#"{"repairs":"propagate"}"#)), [7, 6, 2, 3, 1], "unclean ones, too");
        assert_eq!(counts(&tested(r#"{"repairs":"approve"}"#)), [7, 0, 0, 0, 0]);
        assert_eq!(counts(&tested(r#"{"at_least":700,"two_persons":["renamed"]}"#)), [7, 0, 0, 0, 0]);
    }

    #[test]
    fn a_case_that_was_approved_part_by_part_counts_as_one_once_all_of_it_is_decided() {
        use Deed::Repaired;
        let mut part = case(9, to("Sum", 950), &[(Repaired, "ada", Some("Sum"))]);
        let note = |path: &str| Move { from: "Note".into(), ..to(path, 950) };
        part.lost.push(Lost { path: "Note".into(), ..part.lost[0].clone() });
        part.settled = std::mem::replace(&mut part.moves, vec![note("Remark")]);
        part.status = Status::Open;
        let counted = |case: &Case| {
            let mut test = Backtest::new(Policy::default());
            test.take(case, None);
            counts(&test)
        };
        assert_eq!(counted(&part), [0; 5], "nobody has judged the rest yet");
        let rest = Decided { moves: vec![note("Remark")], ..part.decided[0].clone() };
        part.decided.push(rest);
        part.status = Status::Repaired;
        assert_eq!(counted(&part), [1, 1, 1, 0, 0]);
        part.decided[1].moves = vec![note("Else")];
        assert_eq!(counted(&part), [1, 1, 0, 1, 0]);
    }

    /// How many of the cases a policy would have applied by itself, where the mapping says who decides.
    fn applied_of(case: &Case, policy: &str, mapping: Option<Repairs>) -> u64 {
        let mut test = Backtest::new(serde_json::from_str(policy).unwrap());
        test.take(case, mapping);
        assert_eq!(test.cases, 1, "it counts");
        test.applied
    }

    #[test]
    fn what_the_line_never_applies_by_itself_no_threshold_would_have_applied() {
        let plain = || case(1, to("Sum", 990), &[(Deed::Repaired, "ada", Some("Sum"))]);
        let (low, all) = (r#"{"at_least":0}"#, r#"{"repairs":"propagate"}"#);
        let both = |case: &Case| [applied_of(case, low, None), applied_of(case, all, None)];
        assert_eq!(both(&plain()), [1, 1]);

        let signal = Signal { name: "language_model".into(), strength: 1000, weight: 0 };
        let mut asked = plain();
        asked.alternatives = vec![Move { signals: vec![signal], ..to("Else", 0) }];
        assert_eq!(both(&asked), [0, 0], "a model had a part in it");
        let mut reverted = plain();
        reverted.is_reverted = true;
        assert_eq!(both(&reverted), [0, 0], "it took the place of a decision that was taken back");
        let mut settled = plain();
        settled.settled_breaks = true;
        assert_eq!(both(&settled), [0, 0], "a part of it broke something");
        let mut untried = plain();
        untried.held = 3;
        assert_eq!(both(&untried), [0, 1], "records are held that it was not tried on");
        untried.tried = Some(Tried { records: 3, accepted: 3, quarantined: 0, held: 0 });
        assert_eq!(both(&untried), [1, 1]);
    }

    #[test]
    fn where_the_mapping_has_people_decide_no_threshold_would_have_applied_anything() {
        let case = case(1, to("Sum", 990), &[(Deed::Repaired, "ada", Some("Sum"))]);
        for (mapping, applied) in [
            (None, 1),
            (Some(Repairs::Propagate), 1),
            (Some(Repairs::Automatic), 1),
            (Some(Repairs::Approve), 0),
            (Some(Repairs::Stop), 0),
        ] {
            assert_eq!(applied_of(&case, r#"{"repairs":"automatic"}"#, mapping), applied, "{mapping:?}");
        }
    }

    #[test]
    fn what_leads_into_an_array_is_for_two_where_they_decide_another_type() {
        let case = case(1, to("Sum[]", 990), &[(Deed::Repaired, "ada", Some("Sum[]"))]);
        assert_eq!(applied_of(&case, "{}", None), 1, "as an earlier release kept it, which did not say that it breaks");
        assert_eq!(applied_of(&case, r#"{"two_persons":["retyped"]}"#, None), 0);
    }

    #[test]
    fn few_cases_say_little() {
        assert_eq!(tested(r#"{"repairs":"stop"}"#).precision(), None);
        let (low, high) = tested(r#"{"at_least":700}"#).precision().unwrap();
        assert!(low < 0.1 && high > 0.7, "one of three: {low} to {high}");
        let mut sure = Backtest::new(Policy::default());
        sure.confirmed = 100;
        assert!(sure.precision().is_some_and(|(low, high)| low > 0.96 && high > 0.999_9));
    }
}
