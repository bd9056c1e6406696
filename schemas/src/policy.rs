//! Policies: who decides repairs of drift, and how long people have. A tenant has one, and each of its connections may
//! say otherwise, member by member.

use serde::{Deserialize, Serialize};

use crate::drift::{DriftKind, Lost, Move};
use crate::mapping::Repairs;

/// From this confidence on, in thousandths, a repair that breaks nothing is applied by itself, unless said.
pub const AT_LEAST: u16 = 900;
/// From this confidence on, in thousandths, one that breaks nothing is applied where everything is propagated: what is
/// likelier wrong than right is nobody's wish.
pub const LIKELIER: u16 = 500;
/// After so many hours a case that nobody decided is rejected and holds on, unless said.
pub const EXPIRE_HOURS: u32 = 7 * 24;
/// After so many hours, and again and again, people are reminded of a case that waits, unless said.
pub const REMIND_HOURS: u32 = 24;
/// No time of a policy is longer, in hours: a year.
pub const HOURS_MAX: u32 = 366 * 24;
/// Names that a policy may mask.
pub const MASK_MAX: usize = 1_000;

/// What a tenant or a connection wants; what it leaves out is as usual, or as the tenant wants it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Who decides a repair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repairs: Option<Repairs>,
    /// With `automatic`: from this confidence on, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<u16>,
    /// What a language model may be told of what stays uncertain; names alone, unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelUse>,
    /// What two people decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub two_persons: Option<Vec<DecisionClass>>,
    /// Fields and source paths whose values are masked where people decide; `*` is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Vec<String>>,
    /// After so many hours people are reminded of a case that waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remind_hours: Option<u32>,
    /// After so many hours a case that nobody decided is rejected, and holds on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_hours: Option<u32>,
}

/// What a language model may be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelUse {
    /// Nothing: none is asked.
    Never,
    /// Names, types and formats.
    #[default]
    Names,
    /// Some values, too.
    Values,
}

/// What a decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecisionClass {
    /// Every decision that changes rules.
    All,
    /// A key, a version or a sign of deletion.
    Key,
    /// Another name or place.
    Renamed,
    /// Another type, unit or format.
    Retyped,
    /// One that became several.
    Split,
    /// Several that became one.
    Merged,
    /// Accepted as removed, or said to be where it is blank.
    Removed,
    /// Taken back.
    Reverted,
}

impl DecisionClass {
    /// Every class.
    pub const ALL: [Self; 8] =
        [Self::All, Self::Key, Self::Renamed, Self::Retyped, Self::Split, Self::Merged, Self::Removed, Self::Reverted];

    /// Its name, as programs see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Key => "key",
            Self::Renamed => "renamed",
            Self::Retyped => "retyped",
            Self::Split => "split",
            Self::Merged => "merged",
            Self::Removed => "removed",
            Self::Reverted => "reverted",
        }
    }

    /// The class of a kind of change.
    pub const fn of(kind: DriftKind) -> Self {
        match kind {
            DriftKind::Renamed | DriftKind::Nested | DriftKind::Unnested | DriftKind::Added => Self::Renamed,
            DriftKind::Split => Self::Split,
            DriftKind::Merged => Self::Merged,
            DriftKind::Retyped => Self::Retyped,
            DriftKind::Removed | DriftKind::Nulls => Self::Removed,
        }
    }
}

/// A policy that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// A probability above one.
    #[error("at_least is a probability from 0 to 1")]
    AtLeast,
    /// A time that nobody means.
    #[error("{0} is a number of hours from 1 to {HOURS_MAX}")]
    Hours(&'static str),
    /// More names than anybody lists.
    #[error("at most {MASK_MAX} names of at most 8,192 bytes can be masked")]
    Mask,
}

impl Policy {
    /// Checks what types cannot.
    pub fn validate(&self) -> Result<(), InvalidPolicy> {
        if self.at_least.is_some_and(|least| least > 1000) {
            return Err(InvalidPolicy::AtLeast);
        }
        for (name, hours) in [("remind_hours", self.remind_hours), ("expire_hours", self.expire_hours)] {
            if hours.is_some_and(|hours| !(1..=HOURS_MAX).contains(&hours)) {
                return Err(InvalidPolicy::Hours(name));
            }
        }
        let names = self.mask.as_deref().unwrap_or_default();
        if names.len() > MASK_MAX || names.iter().any(|name| name.len() > 8_192) {
            return Err(InvalidPolicy::Mask);
        }
        Ok(())
    }

    /// This policy where it says something, else the other.
    pub fn over(&self, other: &Self) -> Self {
        Self {
            repairs: self.repairs.or(other.repairs),
            at_least: self.at_least.or(other.at_least),
            model: self.model.or(other.model),
            two_persons: self.two_persons.clone().or_else(|| other.two_persons.clone()),
            mask: self.mask.clone().or_else(|| other.mask.clone()),
            remind_hours: self.remind_hours.or(other.remind_hours),
            expire_hours: self.expire_hours.or(other.expire_hours),
        }
    }

    /// Who decides a repair of a stream whose mapping says so: the stricter of the two.
    pub fn repairs(&self, mapping: Option<Repairs>) -> Repairs {
        self.repairs.max(mapping).unwrap_or(Repairs::Automatic)
    }

    /// From which confidence on, in thousandths, a repair is applied by itself.
    pub fn at_least(&self, repairs: Repairs) -> u16 {
        match repairs {
            Repairs::Propagate => LIKELIER,
            Repairs::Automatic | Repairs::Approve | Repairs::Stop => self.at_least.unwrap_or(AT_LEAST),
        }
    }

    /// The class for which two people decide these moves and removals, if there is one.
    pub fn two_persons<'a>(
        &self,
        moves: impl Iterator<Item = (&'a Lost, &'a Move)>,
        removed: impl Iterator<Item = &'a Lost>,
    ) -> Option<DecisionClass> {
        let is_key = |lost: &Lost| lost.feeds.iter().any(|feed| feed.starts_with('$'));
        let classes = |lost: &Lost, class| [is_key(lost).then_some(DecisionClass::Key), Some(class)];
        let moved = moves.flat_map(|(lost, to)| {
            let retyped = to.is_reread().then_some(DecisionClass::Retyped);
            classes(lost, DecisionClass::of(to.kind)).into_iter().chain([retyped])
        });
        let gone = removed.flat_map(|lost| classes(lost, DecisionClass::Removed));
        moved.chain(gone).flatten().find(|class| self.wants_two(*class))
    }

    /// Whether two people decide what is of a class.
    pub fn wants_two(&self, class: DecisionClass) -> bool {
        let wanted = self.two_persons.as_deref().unwrap_or_default();
        wanted.contains(&class) || wanted.contains(&DecisionClass::All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::Change;

    fn policy(text: &str) -> Policy {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_connection_says_otherwise_member_by_member() {
        let tenant = policy(r#"{"repairs":"approve","at_least":950,"mask":["total"]}"#);
        let connection = policy(r#"{"repairs":"propagate","expire_hours":1}"#);
        let both = connection.over(&tenant);
        assert_eq!(both, policy(r#"{"repairs":"propagate","at_least":950,"mask":["total"],"expire_hours":1}"#));
    }

    #[test]
    fn the_stricter_of_policy_and_mapping_counts() {
        let none = Policy::default();
        assert_eq!((none.repairs(None), none.at_least(Repairs::Automatic)), (Repairs::Automatic, 900));
        let stop = policy(r#"{"repairs":"stop"}"#);
        assert_eq!(stop.repairs(Some(Repairs::Propagate)), Repairs::Stop);
        let propagate = policy(r#"{"repairs":"propagate","at_least":990}"#);
        assert_eq!(propagate.repairs(None), Repairs::Propagate);
        assert_eq!(propagate.repairs(Some(Repairs::Approve)), Repairs::Approve);
        assert_eq!((propagate.at_least(Repairs::Propagate), propagate.at_least(Repairs::Automatic)), (LIKELIER, 990));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [r#"{"at_least":1001}"#, r#"{"expire_hours":0}"#, r#"{"remind_hours":100000}"#] {
            assert!(policy(text).validate().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Policy>(r#"{"repair":"stop"}"#).is_err());
        let many = Policy { mask: Some(vec!["a".into(); MASK_MAX + 1]), ..Policy::default() };
        assert_eq!(many.validate(), Err(InvalidPolicy::Mask));
    }

    #[test]
    fn two_people_decide_what_is_of_a_chosen_class() {
        let lost = |feed: &str| Lost {
            path: "a".into(),
            paths: vec![],
            feeds: vec![feed.into()],
            retyped: false,
            change: None,
        };
        let to = |kind| Move {
            from: "a".into(),
            to: vec![],
            kind,
            confidence: 0,
            part: None,
            change: None,
            transform: None,
            signals: vec![],
        };
        let wants = |text: &str, lost: &Lost, kind| {
            policy(text).two_persons([(lost, &to(kind))].into_iter(), std::iter::empty())
        };
        let (key, total) = (lost("$key"), lost("total"));
        assert_eq!(wants(r#"{"two_persons":["key"]}"#, &key, DriftKind::Renamed), Some(DecisionClass::Key));
        assert_eq!(wants(r#"{"two_persons":["key"]}"#, &total, DriftKind::Renamed), None);
        assert_eq!(wants(r#"{"two_persons":["all"]}"#, &total, DriftKind::Nested), Some(DecisionClass::Renamed));
        let removed = policy(r#"{"two_persons":["removed"]}"#);
        assert_eq!(removed.two_persons(std::iter::empty(), [&total].into_iter()), Some(DecisionClass::Removed));
        let retyped = policy(r#"{"two_persons":["retyped"]}"#);
        let of = |to: Move| retyped.two_persons([(&total, &to)].into_iter(), std::iter::empty());
        assert_eq!(of(to(DriftKind::Renamed)), None);
        let (transform, change) = (Some(Box::default()), Some(Change::Unit { shift: 2 }));
        assert_eq!(
            of(Move { transform, ..to(DriftKind::Renamed) }),
            Some(DecisionClass::Retyped),
            "renamed and retyped"
        );
        assert_eq!(of(Move { change, ..to(DriftKind::Renamed) }), Some(DecisionClass::Retyped));
        assert_eq!(Policy::default().two_persons([(&key, &to(DriftKind::Split))].into_iter(), [].into_iter()), None);
    }
}
