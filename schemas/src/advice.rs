//! Advice: what was asked of a language model about a case of drift, why or why not, and what it cost. It travels with a
//! suggestion, so that replay asks nobody.

use serde::{Deserialize, Serialize};

/// From this share of known fields on, in thousandths, a check of what is known is reported.
pub const COVERED_REPORTED: u16 = 750;
/// From this share on a model would add little: it is not asked, unless the operator wants it to be.
pub const COVERED_ENOUGH: u16 = 800;
/// Fields without a match that a check names.
pub const MISSING_MAX: usize = 5;

/// How much of what is uncertain is known from mappings that were approved before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    /// Fields that are uncertain.
    pub fields: u32,
    /// Those with an approved mapping that is like it.
    pub matched: u32,
    /// Some of the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Whether no model was asked, since enough is known.
    pub skipped: bool,
    /// What the call would have cost at most, in millionths of a dollar.
    #[serde(default)]
    pub saved_micros: u64,
}

impl Coverage {
    /// The share that is known, in thousandths; all of nothing.
    pub fn share(&self) -> u16 {
        match self.fields {
            0 => 1000,
            fields => (u64::from(self.matched) * 1000 / u64::from(fields)).min(1000) as u16,
        }
    }

    /// What the share recommends.
    pub fn recommendation(&self) -> Recommendation {
        match self.share() {
            COVERED_ENOUGH.. => Recommendation::Skip,
            COVERED_REPORTED.. => Recommendation::Proceed,
            _ => Recommendation::Ask,
        }
    }
}

/// What a check of coverage recommends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recommendation {
    /// Too little is known: a model may know more.
    Ask,
    /// Much is known; a model may add to it.
    Proceed,
    /// Enough is known.
    Skip,
}

impl Recommendation {
    /// Its name, as programs see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Proceed => "proceed",
            Self::Skip => "skip",
        }
    }
}

/// A call of a language model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCall {
    /// The model, as the operator named it.
    pub model: String,
    /// How it ended.
    pub outcome: CallOutcome,
    /// Tokens that were read.
    #[serde(default)]
    pub input_tokens: u64,
    /// Tokens that were written.
    #[serde(default)]
    pub output_tokens: u64,
    /// What it cost, in millionths of a dollar; at most, where the model did not say how much it read and wrote.
    #[serde(default)]
    pub cost_micros: u64,
}

/// How a call of a model ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    /// It named fields that there are.
    Answered,
    /// It named nothing, or what there is not.
    Useless,
    /// It did not answer in time.
    TimedOut,
    /// It was asked too often.
    Limited,
    /// It failed otherwise.
    Failed,
    /// It was not asked: that could have cost more than was left of the budget.
    OverBudget,
}

impl CallOutcome {
    /// Its name, as programs see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Useless => "useless",
            Self::TimedOut => "timed_out",
            Self::Limited => "limited",
            Self::Failed => "failed",
            Self::OverBudget => "over_budget",
        }
    }
}

/// What was looked up and asked for a suggestion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// What was known already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// The call. What a model had a part in is never applied by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<ModelCall>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_three_quarters_on_a_share_is_reported_and_from_four_fifths_on_nobody_is_asked() {
        let of = |matched, fields| {
            Coverage { fields, matched, missing: vec![], skipped: false, saved_micros: 0 }.recommendation()
        };
        assert_eq!((of(0, 1), of(74, 100)), (Recommendation::Ask, Recommendation::Ask));
        assert_eq!((of(3, 4), of(79, 100)), (Recommendation::Proceed, Recommendation::Proceed));
        assert_eq!((of(4, 5), of(0, 0)), (Recommendation::Skip, Recommendation::Skip));
    }
}
