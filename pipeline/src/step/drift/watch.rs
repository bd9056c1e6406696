//! Watches: what the mapping reads out of a record, and how often that is there.

use schemas::drift::{Lost, feeds};
use serde::{Deserialize, Serialize};

use super::since::{Away, Since};
use super::usual::{RUN, Usual};
use super::waning::Waning;
use crate::step::rules::{Choice, Rules};

/// Something that the mapping reads: one path, or several of which any will do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Watch {
    pub(super) paths: Vec<String>,
    pub(super) feeds: Vec<String>,
    #[serde(skip)]
    pub(super) slots: Vec<u32>,
    /// The objects around its paths: where one of them is null, it is null and not absent.
    #[serde(skip)]
    pub(super) around: Vec<u32>,
    pub(super) usual: Usual,
    /// The case that its absence belongs to.
    pub(super) case: Option<u64>,
    pub(super) since: Since,
    /// Held records that lack it, while it is in no case.
    pub(super) beside: u64,
    /// The types that it has, as bits, and how many values told so.
    pub(super) types: u8,
    pub(super) learnt: u64,
    /// In a case though only some records had it: those that have a new path are held for it, the others flow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_sparse: bool,
    /// In a case for a type that it never had, though only some records had it: its values tell, and what lacks it flows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_typed: bool,
    /// In such a case, and missed besides: what was seen of its type, until it is told whether it is back, or gone as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) of_type: Option<Box<Since>>,
    /// The source declares it no more, or of another type: it is missed from the first record on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_due: bool,
    /// A person accepted that it is gone: that a schema or a record lacks it is nothing new, until it has come to stay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) may_lack: bool,
    /// How long it was away, while it is in a case or may be missing.
    #[serde(default, skip_serializing_if = "Away::is_none")]
    pub(super) away: Away,
    /// Whether it is there less often for good.
    #[serde(default)]
    pub(super) waning: Waning,
    /// The type in the record at hand, as a bit; 0 where there is no value.
    #[serde(skip)]
    pub(super) now: u8,
    /// Whether the record at hand lacks it; one that has it as null does not.
    #[serde(skip)]
    pub(super) is_absent: bool,
    /// Whether the records that are not counted yet lack it; and how many records were counted, of those in a row that
    /// bring nothing new.
    #[serde(skip)]
    pub(super) lacks: bool,
    #[serde(skip)]
    pub(super) counted: u64,
}

impl Watch {
    /// What the record at hand lacks of it begins a case.
    pub(super) fn begin(&mut self, case: u64) {
        self.case = Some(case);
        if !self.may_lack {
            self.away = Away::default();
        }
        self.is_typed = self.is_strange() && !self.is_missed();
        self.is_sparse = !self.is_typed && !self.is_missed();
    }

    /// In a case for its type alone: the record at hand lacks it, which would begin a case by itself, and is missed from here
    /// on. One of what only some records have does where it came `with_new` paths. True when it is so.
    pub(super) fn widen(&mut self, with_new: bool) -> bool {
        let is_missed = self.is_missed();
        let is_wider = self.is_typed && self.is_absent && (is_missed || (with_new && self.is_sometimes()));
        if is_wider {
            self.of_type = Some(Box::new(std::mem::take(&mut self.since)));
            (self.is_typed, self.is_sparse, self.beside) = (false, !is_missed, 0);
        }
        is_wider
    }

    /// Whether it is missed beside its type, and not told yet whether it is back.
    pub(super) fn is_widened(&self) -> bool {
        self.of_type.is_some()
    }

    /// The types that it has are all that it may have.
    pub(super) fn know_types(&mut self) {
        self.learnt = self.learnt.max(RUN);
    }

    /// Whether a record that lacks it is suspect.
    pub(super) fn is_missed(&self) -> bool {
        self.is_due || (!self.may_lack && self.usual.is_steady())
    }

    /// Whether it is known how often it comes, though no single absence tells anything.
    pub(super) fn is_sometimes(&self) -> bool {
        self.usual.is_known() && !self.is_missed()
    }

    /// A person accepted that it is gone, or decided otherwise of it.
    pub(super) fn decided(&mut self, may_lack: bool) {
        self.may_lack = may_lack;
        if !may_lack {
            self.away = Away::default();
        }
    }

    /// What it has been so far counts no more.
    pub(super) fn forget_types(&mut self) {
        (self.types, self.learnt) = (0, 0);
    }

    /// Whether a record that brings its key or version itself can do without it.
    pub(super) fn is_needless(&self, has_key: bool, has_version: bool) -> bool {
        self.feeds.iter().all(|feed| (has_key && feed == feeds::KEY) || (has_version && feed == feeds::VERSION))
    }

    /// It belongs to no case any more; what was seen meanwhile counts.
    pub(super) fn settle(&mut self) {
        let Since { lacking, having, strange, types, run, .. } = std::mem::take(&mut self.since);
        self.types |= types | self.of_type.take().map_or(0, |of_type| of_type.types);
        // Of what is in a case for its type every record has counted already.
        if !self.is_typed {
            self.usual.records += lacking + having;
            self.usual.present += having + strange;
            // What had it since then says as much as it would have said before: the next without it is suspect again.
            self.usual.run = run;
        }
        self.leave();
    }

    /// It belongs to no case any more.
    pub(super) fn leave(&mut self) {
        (self.case, self.since, self.beside) = (None, Since::default(), 0);
        (self.is_sparse, self.is_typed, self.is_due, self.of_type) = (false, false, false, None);
    }

    pub(super) fn lost(&self, seen: Option<String>) -> Lost {
        let last = || self.paths.last().cloned().unwrap_or_default();
        let since = self.of_type.as_deref().unwrap_or(&self.since);
        let retyped = since.strange * 2 > since.lacking;
        let (paths, feeds) = (self.paths.clone(), self.feeds.clone());
        Lost { path: seen.unwrap_or_else(last), paths, feeds, retyped, change: None }
    }
}

/// What a mapping reads. A field of several rules is there when the source of any of them is.
pub(super) fn watches(rules: &Rules) -> Vec<Watch> {
    let mut all = Vec::new();
    for part in &rules.key {
        add(&mut all, &[part], feeds::KEY);
    }
    if let Some((version, _)) = &rules.version {
        add(&mut all, &[version], feeds::VERSION);
    }
    for (sign, _) in &rules.deleted {
        add(&mut all, &[sign], feeds::DELETED);
    }
    for field in &rules.fields {
        match &field.rules[..] {
            [rule] => rule.from.iter().for_each(|part| add(&mut all, &[part], &field.name)),
            rules => add(&mut all, &rules.iter().flat_map(|rule| &rule.from).collect::<Vec<_>>(), &field.name),
        }
    }
    all
}

fn add(all: &mut Vec<Watch>, choices: &[&Choice], feed: &str) {
    let (mut slots, mut paths, mut around) = (Vec::new(), Vec::new(), Vec::new());
    for choice in choices {
        around.extend_from_slice(&choice.around);
        for (slot, path) in choice.slots.iter().zip(&choice.paths) {
            if !slots.contains(slot) {
                slots.push(*slot);
                paths.push(path.clone());
            }
        }
    }
    if slots.is_empty() {
        return;
    }
    match all.iter_mut().find(|watch| watch.slots == slots) {
        Some(watch) if watch.feeds.iter().any(|known| known == feed) => {}
        Some(watch) => watch.feeds.push(feed.to_owned()),
        None => all.push(Watch { paths, feeds: vec![feed.to_owned()], slots, around, ..Watch::default() }),
    }
}
