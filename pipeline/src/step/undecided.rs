//! Mappings that would decide a case past its people: where two decide, one alone leaves the rules as they are that a case
//! waits about, or will wait about if what it lacks does not come back; and while records are looked at again for a case, so
//! does everybody.

use std::collections::BTreeSet;

use schemas::drift::{DriftKind, Lost, Move, feeds};
use schemas::mapping::{Path, Paths, Rule};
use schemas::policy::DecisionClass;
use schemas::{Mapping, Position};

use super::drift::Phase;
use super::{MappingChange, StreamState};

impl StreamState {
    /// Refuses a mapping that changes what a case waits about, where two people decide such a change.
    pub(crate) fn check_undecided(&self, wanted: &Mapping) -> Result<(), MappingChange> {
        match self.drift.waiting().find_map(|case| self.for_two_by(case, wanted)) {
            Some((case, what, class)) => Err(MappingChange::Undecided { case, what, class }),
            None => Ok(()),
        }
    }

    /// The same of a case for which it is not told yet whether what it lacks is back: one person does not end it, or decide it
    /// before it opens.
    pub(crate) fn check_watched(&self, wanted: &Mapping) -> Result<(), MappingChange> {
        let watching = self.drift.cases().iter().filter(|(_, case)| case.phase == Phase::Watching);
        match watching.map(|(case, _)| *case).find_map(|case| self.for_two_by(case, wanted)) {
            Some((case, what, class)) => Err(MappingChange::Watched { case, what, class }),
            None => Ok(()),
        }
    }

    /// Of what a case lacks, what a mapping makes by other rules, and the class for which two people decide that.
    fn for_two_by(&self, case: u64, wanted: &Mapping) -> Option<(Position, String, DecisionClass)> {
        let opened = self.opened.as_ref()?;
        let lost = self.drift.lost(case, &self.shape);
        for (lost, what) in lost.iter().flat_map(|lost| lost.feeds.iter().map(move |what| (lost, what))) {
            let (before, after) = (rules_of(&opened.mapping, what), rules_of(wanted, what));
            let mut all = classes(&before, &after);
            if self.policy.wants_two(DecisionClass::Removed) && self.is_blanked(lost, &before, &after) {
                all.insert(DecisionClass::Removed);
            }
            if opened.mapping.dialect != wanted.dialect {
                all.insert(DecisionClass::Retyped);
            }
            if !all.is_empty() && what.starts_with('$') {
                all.insert(DecisionClass::Key);
            }
            if let Some(class) = all.into_iter().find(|class| self.policy.wants_two(*class)) {
                return Some((Position { offset: case, ..self.next }, what.clone(), class));
            }
        }
        None
    }

    /// Whether rules read something new that is blank more often than what was lost.
    fn is_blanked(&self, lost: &Lost, before: &[Rule], after: &[Rule]) -> bool {
        let known = reads(before);
        let is_new = |text: &String| !known.iter().any(|(known, _)| known == text);
        after.iter().filter(|rule| rule.constant.is_none()).any(|rule| {
            let to: Vec<String> = rule.from.0.iter().flat_map(|path| path.texts()).filter(is_new).collect();
            let (from, kind, transform) = (lost.path.clone(), DriftKind::Renamed, Some(Box::new(rule.clone())));
            let (confidence, part, change, signals) = (0, None, None, vec![]);
            !to.is_empty()
                && self.ends_blank(lost, &Move { from, to, kind, confidence, part, change, transform, signals })
        })
    }

    /// Refuses a mapping that changes what a case is about for which records are looked at again: it may end the case, and
    /// what was not read by then would stay as it is.
    pub(crate) fn check_read(&self, wanted: &Mapping) -> Result<(), MappingChange> {
        let Some(opened) = &self.opened else { return Ok(()) };
        for case in self.drift.waiting().filter(|case| self.drift.is_reading(*case)) {
            let lost = self.drift.lost(case, &self.shape);
            let is_changed = |what: &String| rules_of(&opened.mapping, what) != rules_of(wanted, what);
            if let Some(what) = lost.into_iter().flat_map(|lost| lost.feeds).find(is_changed) {
                return Err(MappingChange::StillRead { case: Position { offset: case, ..self.next }, what });
            }
        }
        Ok(())
    }
}

/// Whether a command was refused because records are still being looked at again for a case.
pub(crate) fn is_still_read(reason: &str) -> bool {
    reason.contains("still being looked at again")
}

/// What a field, or the key, the version or the signs of deletion are made by; how sure it is makes no difference.
fn rules_of(mapping: &Mapping, what: &str) -> Vec<Rule> {
    let read = |path: &Path| Rule { from: Paths(vec![path.clone()]), ..Rule::default() };
    match what {
        feeds::KEY => mapping.key.0.iter().map(read).collect(),
        feeds::VERSION => mapping.version.iter().map(read).collect(),
        feeds::DELETED => {
            mapping.deleted.iter().map(|sign| Rule { constant: sign.equals.clone(), ..read(&sign.field) }).collect()
        }
        name => {
            let rules = mapping.fields.iter().filter(|(known, _)| known.as_str() == name);
            let rules = rules.flat_map(|(_, rules)| &rules.0);
            rules.map(|rule| Rule { confidence: None, method: None, ..rule.clone() }).collect()
        }
    }
}

/// The paths that rules read, each with how its value is transformed.
fn reads(rules: &[Rule]) -> Vec<(String, Rule)> {
    let mut all = Vec::new();
    for rule in rules {
        let how = Rule { from: Paths::default(), join: None, split: None, ..rule.clone() };
        all.extend(rule.from.0.iter().flat_map(|path| path.texts()).map(|text| (text, how.clone())));
    }
    all
}

/// The classes of decisions that would make the one of the other; none where they are the same.
fn classes(before: &[Rule], after: &[Rule]) -> BTreeSet<DecisionClass> {
    let mut all = BTreeSet::new();
    if before == after {
        return all;
    }
    let (was, is) = (reads(before), reads(after));
    let is_new = |text: &str| !was.iter().any(|(known, _)| known == text);
    let has_new = |rule: &&Rule| rule.from.0.iter().any(|path| path.texts().any(|text| is_new(&text)));
    for rule in after.iter().filter(has_new) {
        all.insert(DecisionClass::Renamed);
        if rule.from.0.len() > 1 {
            all.insert(DecisionClass::Split);
        }
        if rule.split.is_some() {
            all.insert(DecisionClass::Merged);
        }
    }
    if all.is_empty() && was.iter().any(|(text, _)| !is.iter().any(|(known, _)| known == text)) {
        all.insert(DecisionClass::Removed);
    }
    let is_as_before = |(text, how): &(String, Rule)| {
        was.iter().any(|(known, before)| before == how && (known == text || is_new(text)))
    };
    if !is.iter().all(is_as_before) {
        all.insert(DecisionClass::Retyped);
    }
    // The same paths in another order, or joined otherwise.
    if all.is_empty() {
        all.extend([DecisionClass::Renamed, DecisionClass::Retyped]);
    }
    all
}

#[cfg(test)]
mod tests {
    use schemas::policy::DecisionClass::{Merged, Removed, Renamed, Retyped, Split};

    use super::*;

    #[test]
    fn a_change_of_rules_is_of_the_classes_that_its_decision_would_be_of() {
        let rules = |total: &str| {
            let text = format!(r#"{{"entity":"order","key":"Id","fields":{{"order_id":"Id"{total}}}}}"#);
            rules_of(&serde_json::from_str(&text).unwrap(), "total")
        };
        let before = rules(r#","total":"Total | Amount""#);
        let cases: [(&str, &[DecisionClass]); 11] = [
            (r#","total":"Total | Amount""#, &[]),
            (r#","total":{"from":"Total | Amount","confidence":900,"method":"human"}"#, &[]),
            (r#","total":"Sum | Total | Amount""#, &[Renamed]),
            (r#","total":"Sum""#, &[Renamed]),
            (r#","total":"Amount | Total""#, &[Renamed, Retyped]),
            (r#","total":"Amount""#, &[Removed]),
            ("", &[Removed]),
            (r#","total":{"from":"Total | Amount","unit":"cents"}"#, &[Retyped]),
            (r#","total":[{"from":"Sum","unit":"cents"},"Total | Amount"]"#, &[Renamed, Retyped]),
            (r#","total":[{"from":["A","B"],"join":" "},"Total | Amount"]"#, &[Renamed, Split]),
            (r#","total":{"from":"Full","split":{"by":" ","part":1}}"#, &[Renamed, Merged]),
        ];
        for (after, expected) in cases {
            assert_eq!(classes(&before, &rules(after)).into_iter().collect::<Vec<_>>(), expected, "{after}");
        }
    }

    #[test]
    fn a_refusal_until_everything_is_read_is_told_from_others() {
        let case = Position { epoch: 1, partition: 0, offset: 7 };
        assert!(is_still_read(&MappingChange::StillRead { case, what: "total".into() }.to_string()));
        assert!(!is_still_read(&MappingChange::Key.to_string()));
    }

    #[test]
    fn a_key_a_version_and_a_sign_of_deletion_have_rules_too() {
        let mapping = |text: &str| serde_json::from_str::<Mapping>(text).unwrap();
        let before = mapping(r#"{"entity":"order","key":"Id","version":"At","deleted":{"field":"Gone"},"fields":{}}"#);
        let after = mapping(
            r#"{"entity":"order","key":"No | Id","version":"At","deleted":{"field":"Gone","equals":"Y"},"fields":{}}"#,
        );
        let of = |what| classes(&rules_of(&before, what), &rules_of(&after, what)).into_iter().collect::<Vec<_>>();
        assert_eq!((of(feeds::KEY), of(feeds::VERSION), of(feeds::DELETED)), (vec![Renamed], vec![], vec![Retyped]));
    }
}
