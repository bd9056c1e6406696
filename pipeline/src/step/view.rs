//! A walked payload: the value that a rule's source has in it.

use std::borrow::Cow;

use schemas::mapping::Dialect;
use schemas::shape::{Slot, SlotKind, unescape};

use super::cast::Token;
use super::extended_json;
use super::rules::{Choice, FieldRule};

/// A walked payload.
pub(super) struct View<'a> {
    pub(super) payload: &'a str,
    pub(super) slots: &'a [Slot],
    pub(super) dialect: Option<Dialect>,
}

impl<'a> View<'a> {
    /// The first alternative that has a value; else the first that is blank or is an object or array where none is due.
    #[inline]
    pub(super) fn find(&self, choice: &Choice) -> Option<Token<'a>> {
        self.token(self.chosen(choice)?)
    }

    /// The slot of the alternative that [`View::find`] finds.
    #[inline]
    pub(super) fn chosen(&self, choice: &Choice) -> Option<u32> {
        let mut stand_in = None;
        for slot in &choice.slots {
            match self.presence(*slot, choice) {
                Presence::Value => return Some(*slot),
                Presence::StandIn => stand_in = stand_in.or(Some(*slot)),
                Presence::Nothing => {}
            }
        }
        stand_in
    }

    #[inline(always)]
    fn presence(&self, slot: u32, choice: &Choice) -> Presence {
        let Some(Slot { kind, start, end }) = self.slots.get(slot as usize) else { return Presence::Nothing };
        let raw = || self.payload.as_bytes().get(*start..*end).unwrap_or_default();
        match kind {
            SlotKind::Absent | SlotKind::Null => Presence::Nothing,
            SlotKind::Text if is_blank(raw()) => Presence::StandIn,
            SlotKind::Nested if !choice.takes_nested => match raw() {
                [b'[', inside @ .., b']'] if is_blank(inside) => Presence::Nothing,
                _ => Presence::StandIn,
            },
            _ => Presence::Value,
        }
    }

    /// The rule that fills a field: the first whose source has a value; else the last, which may have a constant.
    #[inline]
    pub(super) fn rule<'r>(&self, rules: &'r [FieldRule]) -> Option<&'r FieldRule> {
        let ([] | [_]) = rules else {
            let has_value = |c: &Choice| c.slots.iter().any(|s| matches!(self.presence(*s, c), Presence::Value));
            return rules.iter().find(|rule| rule.from.iter().any(has_value)).or(rules.last());
        };
        rules.first()
    }

    #[inline]
    pub(super) fn token(&self, slot: u32) -> Option<Token<'a>> {
        let slot = self.slots.get(slot as usize)?;
        let raw = self.payload.get(slot.start..slot.end)?;
        let text = match slot.kind {
            SlotKind::Absent | SlotKind::Null => return None,
            SlotKind::EscapedText => {
                let mut text = String::with_capacity(raw.len());
                unescape(raw, &mut text);
                Cow::Owned(text)
            }
            SlotKind::Nested if self.dialect == Some(Dialect::ExtendedJson) => {
                return Some(extended_json::unwrap(raw).unwrap_or(Token { kind: slot.kind, text: raw.into() }));
            }
            _ => Cow::Borrowed(raw),
        };
        Some(Token { kind: slot.kind, text })
    }

    pub(super) fn wraps_one_value(&self, slot: u32) -> bool {
        self.dialect == Some(Dialect::ExtendedJson) && self.token(slot).is_some_and(|t| t.kind != SlotKind::Nested)
    }
}

/// What an alternative has to give.
enum Presence {
    Nothing,
    /// Blank, or an object or array where none is due: counts when no other alternative has a value.
    StandIn,
    Value,
}

#[inline]
fn is_blank(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_whitespace)
}
