//! Drift: what a stream's records lost, where it may have gone, and what was decided.

use serde::{Deserialize, Serialize};

use crate::mapping::{Path, Rule};
use crate::shape::ELEMENTS;

/// What kind of change it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriftKind {
    /// A field has another name, or stands elsewhere.
    Renamed,
    /// A field stands deeper than before.
    Nested,
    /// A field stands less deep than before.
    Unnested,
    /// Several fields hold what one held.
    Split,
    /// One field holds what several held.
    Merged,
    /// A field is gone and nothing took its place.
    Removed,
    /// A field has another type.
    Retyped,
    /// A field is new.
    Added,
    /// More of a field's values are null, or it is absent more often, than usual.
    Nulls,
}

impl DriftKind {
    /// Its name, as programs see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Renamed => "renamed",
            Self::Nested => "nested",
            Self::Unnested => "unnested",
            Self::Split => "split",
            Self::Merged => "merged",
            Self::Removed => "removed",
            Self::Retyped => "retyped",
            Self::Added => "added",
            Self::Nulls => "nulls",
        }
    }
}

/// How much hangs on a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No view shows anything of it.
    Info,
    /// A view shows a field that is mapped on it.
    #[default]
    Warning,
    /// Rows would be lost or wrong: it feeds a key, a version, a sign of deletion or a required field, its values mean
    /// something else, or nothing took its place.
    Breaking,
}

impl Severity {
    /// Its name, as programs see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Breaking => "breaking",
        }
    }
}

/// What changed in values, while their type stayed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Numbers are so many powers of ten larger than they were: 2 where euros became cents, -2 where cents became euros.
    Unit {
        /// The power of ten.
        shift: i8,
    },
    /// They are written otherwise.
    Format {
        /// How they were written: as a mapping's `format`, `iso` for ISO 8601, or in words.
        from: String,
        /// How they are written now.
        to: String,
    },
    /// They are what another path had, whose values are what these were.
    Swapped {
        /// The other path.
        with: String,
    },
    /// More of them are null or absent.
    Nulls {
        /// The usual share, in thousandths.
        before: u16,
        /// The share now, in thousandths.
        now: u16,
    },
}

impl Change {
    /// The kind of drift that it is.
    pub const fn kind(&self) -> DriftKind {
        match self {
            Self::Unit { .. } | Self::Format { .. } => DriftKind::Retyped,
            Self::Swapped { .. } => DriftKind::Renamed,
            Self::Nulls { .. } => DriftKind::Nulls,
        }
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |thousandths: u16| format!("{}.{} %", thousandths / 10, thousandths % 10);
        match self {
            Self::Unit { shift } => {
                let times = 10u64.saturating_pow(u32::from(shift.unsigned_abs()));
                let what = if *shift < 0 { "small" } else { "large" };
                write!(f, "its numbers are {times} times as {what} as before")
            }
            Self::Format { from, to } => write!(f, "it is written as {to}, no longer as {from}"),
            Self::Swapped { with } => write!(f, "it has the values that {with} had, and {with} has its own"),
            Self::Nulls { before, now } => {
                write!(f, "{} of its values are null or absent, no longer {}", percent(*now), percent(*before))
            }
        }
    }
}

/// What stands for the key, the version and the sign of deletion among the things that a path feeds. Fields of entities
/// have no such names.
pub mod feeds {
    /// The row's key.
    pub const KEY: &str = "$key";
    /// The source version.
    pub const VERSION: &str = "$version";
    /// The sign that tells a delete.
    pub const DELETED: &str = "$deleted";
}

/// Something that records of the stream (almost) always had, and lack now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Its source path; of several that it may stand at, the one that was seen.
    pub path: String,
    /// Every path that it may stand at by the mapping in force.
    pub paths: Vec<String>,
    /// What it fills: canonical fields, or `$key`, `$version`, `$deleted`.
    pub feeds: Vec<String>,
    /// It is there, but of a type that it never had.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retyped: bool,
    /// What changed in its values, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}

impl Lost {
    /// The kind of drift that it is, as long as nobody knows where it has gone.
    pub fn kind(&self) -> DriftKind {
        let by_type = if self.retyped { DriftKind::Retyped } else { DriftKind::Removed };
        self.change.as_ref().map_or(by_type, Change::kind)
    }
}

/// Where something lost may have gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// What was lost, as [`Lost::path`].
    pub from: String,
    /// Where it is now: one path; several when it was split, in the order in which they are joined.
    pub to: Vec<String>,
    /// The kind of change.
    pub kind: DriftKind,
    /// The probability, in thousandths.
    #[serde(default)]
    pub confidence: u16,
    /// When several became one: which part of it, parted by blanks, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<usize>,
    /// How its values changed on the way: the mapping is made to read them so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// How the value is to be transformed, where a person says so: a rule without a source. Else as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<Box<Rule>>,
    /// The signals that spoke for it most, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<Signal>,
}

impl Move {
    /// Whether the path stays where it is.
    pub fn is_in_place(&self) -> bool {
        self.kind == DriftKind::Retyped || self.to == [self.from.as_str()]
    }

    /// Whether it leads into an array where none was before: of its elements the first one counts, the others are lost.
    pub fn is_into_array(&self) -> bool {
        let depth = |parts: &Vec<String>| parts.iter().filter(|part| part.as_str() == ELEMENTS).count();
        let arrays =
            |text: &String| Path::new(text).map_or(0, |path| path.choices().iter().map(depth).max().unwrap_or(0));
        self.to.iter().any(|to| arrays(to) > arrays(&self.from))
    }

    /// Whether the value is read otherwise than before, wherever it stands.
    pub fn is_reread(&self) -> bool {
        self.transform.is_some() || self.change.as_ref().is_some_and(|change| change.kind() == DriftKind::Retyped)
    }
}

/// A signal behind a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// Its name.
    pub name: String,
    /// Its strength, in thousandths.
    pub strength: i32,
    /// Its weight: what the log-odds of the pair would lose without it, in thousandths.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub weight: i32,
}

fn is_nothing(number: &i32) -> bool {
    *number == 0
}

/// What became of the last held records when a repair was tried on them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tried {
    /// Records that were tried.
    pub records: u64,
    /// Those that would be rows or deletes, and not blank where there was a value before.
    pub accepted: u64,
    /// Those that would be set aside.
    pub quarantined: u64,
    /// Those that would be held on.
    pub held: u64,
}

impl Tried {
    /// Whether every one would be a row or a delete, with its values.
    pub fn is_clean(&self) -> bool {
        self.records > 0 && self.accepted == self.records
    }

    /// Those that would be rows and are not counted as `accepted`: blank where there was a value before.
    pub fn blank(&self) -> u64 {
        self.records.saturating_sub(self.accepted).saturating_sub(self.quarantined).saturating_sub(self.held)
    }
}

/// A decision of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decide {
    /// The case: the offset of the input at which it began.
    pub case: u64,
    /// The mapping version that it was made on; the step refuses any other.
    pub mapping_version: u32,
    /// The version of the case that it was made on, if it matters; the step refuses any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The step refuses it while records are looked at again for the case: those that were not read yet would stay as they
    /// are. Earlier releases did not say so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once_read: bool,
    /// What is decided.
    pub verdict: Verdict,
    /// Who decided.
    pub by: String,
    /// Why.
    #[serde(default)]
    pub why: String,
}

/// What is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The likeliest moves are right; of all lost paths, or of these only.
    Approve {
        /// Lost paths; all when empty.
        #[serde(default)]
        only: Vec<String>,
    },
    /// These moves are right.
    Edit {
        /// The moves.
        moves: Vec<Move>,
    },
    /// The proposal is wrong; what is held stays held.
    Reject,
    /// The lost paths are gone for good: null from here on. All, or these only.
    AcceptAsRemoved {
        /// Lost paths; all when empty.
        #[serde(default)]
        only: Vec<String>,
    },
    /// The repair was wrong: the former rules again, and what was accepted since is held and withdrawn where it lacks
    /// what they read.
    Revert,
    /// Ask again later.
    Snooze {
        /// When, in microseconds since 1970 UTC.
        until: i64,
    },
}
