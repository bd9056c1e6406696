//! Guesses: what may be the key and the version of a stream that has no mapping. A person confirms them.

use schemas::{Entity, Version, VersionType};

use super::{Suggested, Suggestions};
use crate::step::StreamState;
use crate::step::drift::Profile;

/// A claim that is likelier than not, in thousandths.
const LIKELIER_MIN: u16 = 500;
/// How names of keys end.
const KEY_NAMES: [&str; 7] = ["id", "key", "code", "number", "no", "uuid", "guid"];

/// A path that may be the key or the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guess<'a> {
    /// The path, as mappings write it.
    pub path: &'a str,
    /// How likely it fills the field that usually is it, in thousandths; none when its name and values alone say so.
    pub confidence: Option<u16>,
}

/// What may be the key: what fills the entity's id, else the first path whose name ends as keys do and whose values differ.
pub fn key<'a>(state: &StreamState, entity: &Entity, suggestions: &'a Suggestions) -> Option<Guess<'a>> {
    let (own, records) = (format!("{}_id", entity.entity), records(state));
    let field = entity.fields.iter().find(|field| field.name.as_str() == own)?;
    if let Some((path, to)) = suggestions.of(&field.name)
        && to.confidence >= LIKELIER_MIN
        && is_always_there(state, path, records)
    {
        return Some(Guess { path: &path.from, confidence: Some(to.confidence) });
    }
    let is_key =
        |path: &&Suggested| is_key_name(&path.from) && is_always_there(state, path, records) && differs(state, path);
    suggestions.paths.iter().find(is_key).map(|path| Guess { path: &path.from, confidence: None })
}

/// What may be the version: what likely fills `updated_at`, is always there, and is a moment.
pub fn version<'a>(state: &StreamState, entity: &Entity, suggestions: &'a Suggestions) -> Option<Guess<'a>> {
    let field = entity.fields.iter().find(|field| field.name.as_str() == "updated_at")?;
    let (path, to) = suggestions.of(&field.name).filter(|(_, to)| to.confidence >= LIKELIER_MIN)?;
    let samples = &profile(state, path)?.samples;
    let is_time = samples.iter().all(|sample| Version::parse(sample.value(), VersionType::Time).is_some());
    (is_time && !samples.is_empty() && is_always_there(state, path, records(state)))
        .then_some(Guess { path: &path.from, confidence: Some(to.confidence) })
}

fn profile<'a>(state: &'a StreamState, path: &Suggested) -> Option<&'a Profile> {
    state.drift().profiles().of(path.node)
}

/// Records that were looked at: as many as the path has values that was there most often.
fn records(state: &StreamState) -> u64 {
    let profiles = state.drift().profiles();
    state.shape().nodes().filter_map(|node| profiles.of(node)).map(|profile| profile.values).max().unwrap_or(0)
}

/// Whether each of so many records that were looked at has it, not null.
fn is_always_there(state: &StreamState, path: &Suggested, records: u64) -> bool {
    profile(state, path).is_some_and(|profile| profile.nulls == 0 && profile.values >= records)
}

/// Whether no value comes twice, as far as a sketch tells.
fn differs(state: &StreamState, path: &Suggested) -> bool {
    profile(state, path).is_some_and(|profile| profile.distinct() * 4 >= profile.values * 3)
}

/// Whether a name's last word is one of a key: `deal_id`, `DealID`, `Order No`.
fn is_key_name(name: &str) -> bool {
    let last = name.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let ends = |word: &str| {
        let start = last.len().checked_sub(word.len()).filter(|start| last.is_char_boundary(*start));
        let Some((front, end)) = start.map(|start| last.split_at(start)) else { return false };
        let is_word = front.is_empty() || end.starts_with(|c: char| c.is_ascii_uppercase());
        is_word && end.eq_ignore_ascii_case(word)
    };
    KEY_NAMES.iter().any(|word| ends(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_keys_by_its_last_word() {
        assert!(["id", "deal_id", "DealID", "dealId", r"Order\ No", "a.uuid"].into_iter().all(is_key_name));
        assert!(!["paid", "monkey", "Casino", "id_count", "", "é"].into_iter().any(is_key_name));
    }
}
