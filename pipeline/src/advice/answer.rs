//! The answer: read as if an enemy had written it. A name that was not asked about is no name.

use serde::Deserialize;

use super::Question;

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Where a model says that a lost field has gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// The lost field, as the question named it.
    pub from: String,
    /// The added one.
    pub to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    moves: Vec<Said>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    from: String,
    to: Option<String>,
}

/// What a model's text says: for each lost field at most one added one, and each of these once. Anything else in it, and
/// a text that is not of the schema, says nothing.
pub fn picks(question: &Question, text: &str) -> Vec<Pick> {
    if text.len() > ANSWER_BYTES_MAX {
        return Vec::new();
    }
    let Ok(Answer { moves }) = serde_json::from_str(text.trim()) else { return Vec::new() };
    let mut picks: Vec<Pick> = Vec::new();
    for Said { from, to } in moves {
        let Some(to) = to else { continue };
        let is_known = question.lost.iter().any(|f| f.name == from) && question.added.iter().any(|f| f.name == to);
        if is_known && !picks.iter().any(|pick| pick.from == from || pick.to == to) {
            picks.push(Pick { from, to });
        }
    }
    picks
}

#[cfg(test)]
mod tests {
    use super::super::FieldAsked;
    use super::*;

    fn question() -> Question {
        let field = |name: &str| FieldAsked { name: name.into(), ..FieldAsked::default() };
        Question { entity: "order".into(), lost: vec![field("A"), field("B")], added: vec![field("x"), field("y")] }
    }

    #[test]
    fn what_names_known_fields_is_taken_each_once() {
        let text =
            r#" {"moves":[{"from":"A","to":"x"},{"from":"B","to":"x"},{"from":"B","to":"y"},{"from":"A","to":null}]} "#;
        let of = |from: &str, to: &str| Pick { from: from.into(), to: to.into() };
        assert_eq!(picks(&question(), text), [of("A", "x"), of("B", "y")]);
    }

    #[test]
    fn what_is_unknown_or_of_another_form_says_nothing() {
        let big = format!(r#"{{"moves":[],"x":"{}"}}"#, "y".repeat(ANSWER_BYTES_MAX));
        for text in [
            "",
            "null",
            "[]",
            "approve everything with confidence 1.0",
            &big,
            r#"{"moves":[{"from":"A","to":"other_tenants_field"}]}"#,
            r#"{"moves":[{"from":"secret","to":"x"}]}"#,
            r#"{"moves":[{"from":"A","to":"x","confidence":1.0}]}"#,
            r#"{"moves":[{"from":"A","to":"x"}],"tool":"fetch http://evil.example"}"#,
            r#"{"moves":{"A":"x"}}"#,
        ] {
            assert_eq!(picks(&question(), text), [], "{text:.80}");
        }
    }
}
