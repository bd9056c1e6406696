//! Writing answers as they are found.

use std::io::Write;

use serde_json::{Value, json};

use super::CasesError;
use crate::field::Field;
use crate::matching::Candidate;
use crate::operations::Operation;

/// The members of a JSON object, one a line.
pub struct Entries<W: Write> {
    output: W,
    is_first: bool,
}

impl<W: Write> Entries<W> {
    /// Begins the object.
    pub fn begin(mut output: W) -> Result<Self, CasesError> {
        output.write_all(b"{")?;
        Ok(Self { output, is_first: true })
    }

    /// One question's candidates, best first; null where there is none.
    pub fn candidates(&mut self, id: &str, found: &[Candidate], targets: &[Field]) -> Result<(), CasesError> {
        let one = |c: &Candidate| {
            let field = targets.get(c.target).map(|t| t.name.as_str());
            json!({"field": field, "confidence": rounded(c.confidence)})
        };
        let mut list: Vec<Value> = found.iter().map(one).collect();
        if list.is_empty() {
            list.push(json!({"field": null, "confidence": 0.0}));
        }
        self.entry(id, &Value::Array(list))
    }

    /// What happened in one change.
    pub fn operations(&mut self, id: &str, found: &[Operation]) -> Result<(), CasesError> {
        let one = |name: &[String]| match name {
            [one] => Some(json!(one)),
            [] => None,
            many => Some(json!(many)),
        };
        let list = found.iter().map(|operation| {
            let mut entry = json!({"op": operation.kind.name(), "confidence": rounded(operation.confidence)});
            // A split names a list of one on its one side, as a merge does.
            let lists = operation.kind.is_between_lists();
            for (key, names) in [("from", &operation.from), ("to", &operation.to)] {
                if let Some(value) = if lists { Some(json!(names)) } else { one(names) } {
                    entry[key] = value;
                }
            }
            entry
        });
        self.entry(id, &Value::Array(list.collect()))
    }

    /// Ends the object.
    pub fn end(mut self) -> Result<(), CasesError> {
        self.output.write_all(b"\n}\n")?;
        Ok(self.output.flush()?)
    }

    fn entry(&mut self, id: &str, value: &Value) -> Result<(), CasesError> {
        let comma = if std::mem::take(&mut self.is_first) { "" } else { "," };
        let key = Value::from(id);
        Ok(write!(self.output, "{comma}\n{key}: {value}")?)
    }
}

/// Six decimals, downwards: nothing becomes surer by being printed.
fn rounded(confidence: f32) -> f64 {
    (f64::from(confidence) * 1e6).floor() / 1e6
}
