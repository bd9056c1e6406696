//! Reading JSON of a given form, so that a mistake is named with its place.

use std::fmt;
use std::io::Read;

use serde_json::{Map, Value};

use crate::field::{Field, Kind};

/// The file holds no cases that can be read.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    /// It is no JSON.
    #[error("the file is no JSON")]
    NoJson(#[source] serde_json::Error),
    /// It cannot be read, or the answers cannot be written.
    #[error("input or output failed")]
    Io(#[from] std::io::Error),
    /// A case is too large.
    #[error(transparent)]
    TooLarge(#[from] crate::matching::TooLarge),
    /// Something is missing or of another type.
    #[error("{place}: {wanted} is wanted, {found}")]
    Form {
        /// Where.
        place: Where,
        /// What should stand there.
        wanted: &'static str,
        /// What stands there.
        found: &'static str,
    },
    /// A case names an entity that the file gives no canonical fields for.
    #[error("{place}: the file's `canonical` has no entity {entity:?}")]
    UnknownEntity {
        /// Where.
        place: Where,
        /// The entity.
        entity: String,
    },
    /// Two questions with one id.
    #[error("{place}: the id {id:?} stands in the file twice")]
    TakenId {
        /// Where.
        place: Where,
        /// The id.
        id: String,
    },
    /// A question about a field that did not go.
    #[error("{place}: the field {field:?} is not one of `before` that `after` lacks")]
    NotRemoved {
        /// Where.
        place: Where,
        /// The field.
        field: String,
    },
}

/// A place in a file: `cases[3].before[0].name`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Where(String);

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "the file" } else { &self.0 })
    }
}

/// A value with its place.
#[derive(Debug, Clone)]
pub struct At<'a> {
    value: Option<&'a Value>,
    place: Where,
}

/// Reads the whole input as JSON.
pub fn json(mut input: impl Read) -> Result<Value, CasesError> {
    // Read at once: a parser that asks for one byte at a time is many times slower.
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    serde_json::from_slice(&bytes).map_err(CasesError::NoJson)
}

impl<'a> At<'a> {
    /// The whole file.
    pub fn root(value: &'a Value) -> Self {
        Self { value: Some(value), place: Where::default() }
    }

    /// Where this stands.
    pub fn place(&self) -> Where {
        self.place.clone()
    }

    /// The member of this name; what is missing is told when it is used.
    pub fn get(&self, key: &str) -> Self {
        let dot = if self.place.0.is_empty() { "" } else { "." };
        let value = self.value.and_then(|v| v.get(key));
        Self { value, place: Where(format!("{}{dot}{}", self.place.0, shown(key))) }
    }

    /// The elements of a list.
    pub fn list(&self) -> Result<Vec<Self>, CasesError> {
        let list = self.value.and_then(Value::as_array).ok_or_else(|| self.form("a list"))?;
        let element = |(i, value)| Self { value: Some(value), place: Where(format!("{}[{i}]", self.place.0)) };
        Ok(list.iter().enumerate().map(element).collect())
    }

    /// The members of an object.
    pub fn object(&self) -> Result<&'a Map<String, Value>, CasesError> {
        self.value.and_then(Value::as_object).ok_or_else(|| self.form("an object"))
    }

    /// A text.
    pub fn text(&self) -> Result<&'a str, CasesError> {
        self.value.and_then(Value::as_str).ok_or_else(|| self.form("a text"))
    }

    /// A text, or an empty one where there is none or null.
    pub fn text_or_empty(&self) -> Result<&'a str, CasesError> {
        if self.is_absent() { Ok("") } else { self.text() }
    }

    /// Samples: a list, or none.
    pub fn samples(&self) -> Result<Vec<Value>, CasesError> {
        if self.is_absent() {
            return Ok(Vec::new());
        }
        self.value.and_then(Value::as_array).cloned().ok_or_else(|| self.form("a list"))
    }

    /// A share from 0 to 1, or none.
    pub fn share(&self) -> Result<Option<f32>, CasesError> {
        if self.is_absent() {
            return Ok(None);
        }
        let share = self.value.and_then(Value::as_f64).filter(|s| (0.0..=1.0).contains(s));
        share.map(|s| Some(s as f32)).ok_or_else(|| self.form("a number from 0 to 1"))
    }

    /// Nothing or null stands here.
    pub fn is_absent(&self) -> bool {
        self.value.is_none_or(Value::is_null)
    }

    fn form(&self, wanted: &'static str) -> CasesError {
        let found = match self.value {
            None => "and nothing is there",
            Some(Value::Null) => "not null",
            Some(Value::Bool(_)) => "not true or false",
            Some(Value::Number(_)) => "not this number",
            Some(Value::String(_)) => "not a text",
            Some(Value::Array(_)) => "not a list",
            Some(Value::Object(_)) => "not an object",
        };
        CasesError::Form { place: self.place(), wanted, found }
    }

    /// A field whose members have these names.
    pub fn field(&self, name: &str, kind: &str, samples: &str) -> Result<Field, CasesError> {
        Ok(Field {
            name: self.get(name).text()?.to_owned(),
            kind: Kind::named(self.get(kind).text_or_empty()?),
            native_type: self.get("native_type").text_or_empty()?.to_owned(),
            description: self.get("description").text_or_empty()?.to_owned(),
            samples: self.get(samples).samples()?,
            null_rate: self.get("null_rate").share()?,
        })
    }
}

/// A key as it may be shown: hostile ones are cut and escaped.
fn shown(key: &str) -> String {
    key.chars().take(64).flat_map(char::escape_debug).collect()
}
