//! Settling: what people have done with records that were set aside.

use serde::{Deserialize, Serialize};

use crate::reason::Reason;

/// More records are not named one by one.
pub const OFFSETS_MAX: usize = 10_000;

/// What is done with a record that was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It comes again, by the rules in force.
    Retry,
    /// It is given up; its bytes stay on the log.
    Discard,
}

impl Action {
    /// Its name, as programs see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Discard => "discard",
        }
    }
}

/// Which records of a stream: those that fit all that is named. Those that are set aside later are not meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// At these input offsets; anywhere when none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offsets: Vec<u64>,
    /// For this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// For this field or path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Which {
    /// Whether a record is meant.
    pub fn includes(&self, offset: u64, reason: Reason, field: Option<&str>) -> bool {
        (self.offsets.is_empty() || self.offsets.contains(&offset))
            && self.reason.is_none_or(|wanted| wanted == reason)
            && self.field.as_deref().is_none_or(|wanted| field == Some(wanted))
    }
}

/// What somebody has done with records of a stream that were set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// What is done.
    pub action: Action,
    /// With which records.
    pub which: Which,
    /// Who wants it.
    pub by: String,
    /// Why.
    pub why: String,
}

/// What became of the records of a settlement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Records.
    pub records: u64,
    /// Those that are rows now.
    pub accepted: u64,
    /// Those that are deletes now.
    pub deleted: u64,
    /// Those that were set aside again.
    pub quarantined: u64,
    /// Those that are held for a case of drift.
    pub held: u64,
    /// Those that were given up.
    pub discarded: u64,
}

impl Settled {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            records: self.records + other.records,
            accepted: self.accepted + other.accepted,
            deleted: self.deleted + other.deleted,
            quarantined: self.quarantined + other.quarantined,
            held: self.held + other.held,
            discarded: self.discarded + other.discarded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_meant_when_it_fits_all_that_is_named() {
        let which = |text: &str| serde_json::from_str::<Which>(text).unwrap();
        let fits = |text: &str| which(text).includes(7, Reason::CastFailed, Some("total"));
        for text in ["{}", r#"{"offsets":[5,7]}"#, r#"{"reason":"cast_failed","field":"total"}"#] {
            assert!(fits(text), "{text}");
        }
        for text in [r#"{"offsets":[8]}"#, r#"{"reason":"key_missing"}"#, r#"{"offsets":[7],"field":"other"}"#] {
            assert!(!fits(text), "{text}");
        }
    }
}
