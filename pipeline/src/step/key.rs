//! What a record says of itself: its key, its version, and whether it tells a delete.

use schemas::mapping::{Deleted, Dialect};
use schemas::reason::Reason;
use schemas::shape::{ShapeTree, SlotKind, Walker};
use schemas::version::Version;
use schemas::{Mapping, Op, Record};

use super::cast::{Token, boolean, shorten};
use super::record::Refused;
use super::rules::{Choice, Rules};
use super::view::View;

const VERSION_MISSING: &str =
    "the version is absent, null or empty (a source without versions is opened with version none)";
/// A longer key is refused, in bytes.
const KEY_BYTES_MAX: usize = 4096;
const KEY_UNREADABLE: &str = "a key is a text, number or boolean of at most 4,096 bytes";
/// A longer version is refused, in bytes.
const VERSION_BYTES_MAX: usize = 4096;
const VERSION_TOO_LONG: &str = "a version has at most 4,096 bytes";

/// The key and the version: what the source itself gives, else what the mapping reads.
pub(super) fn key_and_version<'k>(
    record: &Record<'k>,
    view: &View<'_>,
    rules: &Rules,
    read: &'k mut String,
) -> Result<(&'k str, Version), Refused> {
    let key = match record.key {
        Some(key) if key.len() <= KEY_BYTES_MAX => key,
        Some(_) => return Err(Refused::new(Reason::KeyUnreadable, None, KEY_UNREADABLE)),
        None => {
            read_key(view, &rules.key, read)?;
            read
        }
    };
    let version = match (&record.version, &rules.version) {
        (Version::None, Some((choice, version_type))) if record.op == Op::Upsert => {
            read_version(view, choice, *version_type)?
        }
        (Version::Text(text), _) if text.len() > VERSION_BYTES_MAX => {
            return Err(Refused::new(Reason::VersionUnreadable, None, VERSION_TOO_LONG));
        }
        (version, _) => version.clone(),
    };
    Ok((key, version))
}

fn read_key(view: &View<'_>, parts: &[Choice], key: &mut String) -> Result<(), Refused> {
    key.clear();
    let mut texts = Vec::new();
    for part in parts {
        let path = part.paths.first().map(String::as_str);
        let token = view.find(part).filter(|t| !t.text.is_empty());
        let Some(token) = token else {
            return Err(Refused::new(Reason::KeyMissing, path, "the key is absent, null or empty"));
        };
        if token.kind == SlotKind::Nested || token.text.len() > KEY_BYTES_MAX {
            return Err(Refused::new(Reason::KeyUnreadable, path, KEY_UNREADABLE));
        }
        if parts.len() == 1 {
            key.push_str(&token.text);
            return Ok(());
        }
        texts.push(token.text);
    }
    if texts.is_empty() {
        return Err(Refused::new(Reason::KeyMissing, None, "neither the source nor the mapping gives a key"));
    }
    // Several parts are written as a JSON array, so that no two keys look alike.
    *key = serde_json::to_string(&texts).unwrap_or_default();
    let path = parts.first().and_then(|part| part.paths.first()).map(String::as_str);
    if key.len() > KEY_BYTES_MAX { Err(Refused::new(Reason::KeyUnreadable, path, KEY_UNREADABLE)) } else { Ok(()) }
}

fn read_version(view: &View<'_>, choice: &Choice, version_type: schemas::VersionType) -> Result<Version, Refused> {
    let path = choice.paths.first().map(String::as_str);
    let token = view.find(choice).filter(|t| !t.text.is_empty());
    let Some(token) = token else {
        return Err(Refused::new(Reason::VersionMissing, path, VERSION_MISSING));
    };
    Version::parse(&token.text, version_type).filter(|_| token.kind != SlotKind::Nested).ok_or_else(|| {
        let detail = format!("{:?} is no version of type {version_type:?}", shorten(&token.text));
        Refused::new(Reason::VersionUnreadable, path, detail)
    })
}

pub(super) fn is_deleted(view: &View<'_>, rules: &Rules) -> Result<bool, Refused> {
    for (choice, sign) in &rules.deleted {
        let Some(token) = view.find(choice) else { continue };
        if says_deleted(&token, sign).map_err(|detail| {
            Refused::new(Reason::DeletedUnreadable, choice.paths.first().map(String::as_str), detail)
        })? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn says_deleted(token: &Token<'_>, sign: &Deleted) -> Result<bool, String> {
    if let Some(expected) = &sign.equals {
        return Ok(token.text.trim_ascii().eq_ignore_ascii_case(expected));
    }
    if token.text.trim_ascii().is_empty() {
        return Ok(false);
    }
    // A time of deletion says yes as well.
    let time = || schemas::time::parse_timestamp(&token.text).map(|_| true);
    boolean(&token.text)
        .or_else(time)
        .ok_or_else(|| format!("{:?} is neither yes nor no, nor a time", shorten(&token.text)))
}

/// Reads keys out of payloads as the step does, without folding them.
pub struct KeyReader {
    shape: ShapeTree,
    parts: Vec<Choice>,
    dialect: Option<Dialect>,
    walker: Walker,
    key: String,
}

impl KeyReader {
    /// A reader of the keys that a stream's mapping gives.
    pub fn of(mapping: &Mapping) -> Self {
        Self::reading(&mapping.key.0, mapping.dialect)
    }

    /// A reader of the keys that these paths give.
    pub fn new(paths: &[schemas::mapping::Path]) -> Self {
        Self::reading(paths, None)
    }

    fn reading(paths: &[schemas::mapping::Path], dialect: Option<Dialect>) -> Self {
        let mut shape = ShapeTree::default();
        let bind = |path| super::rules::bind(path, &mut shape, false, dialect.is_some());
        let parts = paths.iter().map(bind).collect();
        Self { shape, parts, dialect, walker: Walker::default(), key: String::new() }
    }

    /// The key of a payload; nothing when it has none that can be read.
    pub fn read(&mut self, payload: &[u8]) -> Option<&str> {
        let payload = std::str::from_utf8(payload).ok()?;
        self.walker.walk(&mut self.shape, payload).ok()?;
        let view = View { payload, slots: &self.walker.slots, dialect: self.dialect };
        read_key(&view, &self.parts, &mut self.key).ok()?;
        Some(&self.key)
    }
}
