//! Repairs: a mapping whose fields have moved.

use super::{FieldRules, Mapping, Method, Path, Paths, Rule, Split};
use crate::drift::{Lost, Move};

/// A move that no mapping can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImpossibleMove {
    /// It leads nowhere.
    #[error("the move from {0} names no path to go to")]
    Nowhere(String),
    /// A path cannot be written.
    #[error("{0:?} is not a path of a record")]
    Path(String),
    /// A transform says how, not from where.
    #[error("the transform of {0} names a source or a constant: say where it has gone by the move itself")]
    Transform(String),
    /// What tells one row from another is not put together from parts by a move.
    #[error("{0} feeds a key, a version or a sign of deletion: edit the mapping file for a split or merge of it")]
    NotAField(String),
}

impl Mapping {
    /// The mapping with each new path before the old one, which stays: late records of the old shape still map.
    pub fn moved(&self, lost: &Lost, to: &Move, method: Method) -> Result<Self, ImpossibleMove> {
        let mut mapping = self.clone();
        let paths: Vec<Path> = to
            .to
            .iter()
            .map(|text| Path::new(text).map_err(|_| ImpossibleMove::Path(text.clone())))
            .collect::<Result<_, _>>()?;
        let [first, rest @ ..] = &paths[..] else { return Err(ImpossibleMove::Nowhere(to.from.clone())) };
        let transform = to.transform.as_deref();
        if transform.is_some_and(|rule| !rule.from.is_empty() || rule.constant.is_some()) {
            return Err(ImpossibleMove::Transform(to.from.clone()));
        }
        let is_whole = rest.is_empty() && to.part.is_none() && transform.is_none();
        if !is_whole && lost.feeds.iter().any(|feed| feed.starts_with('$')) {
            return Err(ImpossibleMove::NotAField(to.from.clone()));
        }
        for rules in mapping.fields.values_mut() {
            if is_whole {
                let Some((rule, at)) = find(rules, lost) else { continue };
                let rule = &mut rules.0[rule];
                rule.from.0[at] = prefer(&rule.from.0[at], first)?;
                stamp(rule, to, method);
            } else if let Some((rule, _)) = find(rules, lost) {
                let mut made = Rule { from: Paths(paths.clone()), ..transform.unwrap_or(&rules.0[rule]).clone() };
                made.join = transform.and_then(|rule| rule.join.clone()).or((!rest.is_empty()).then(|| " ".to_owned()));
                made.split = match to.part {
                    Some(part) => Some(Split { by: " ".to_owned(), part }),
                    None => transform.and_then(|rule| rule.split.clone()),
                };
                stamp(&mut made, to, method);
                rules.0.insert(rule, made);
            }
        }
        if is_whole {
            for path in mapping.key.0.iter_mut().chain(&mut mapping.version) {
                if is_lost(path, lost) {
                    *path = prefer(path, first)?;
                }
            }
            for sign in &mut mapping.deleted {
                if is_lost(&sign.field, lost) {
                    sign.field = prefer(&sign.field, first)?;
                }
            }
        }
        Ok(mapping)
    }
}

/// The rule and the path of it that was lost; the first, as the first that is there counts.
fn find(rules: &FieldRules, lost: &Lost) -> Option<(usize, usize)> {
    let place = |rule: &Rule| rule.from.0.iter().position(|path| is_lost(path, lost));
    rules.0.iter().enumerate().find_map(|(at, rule)| place(rule).map(|path| (at, path)))
}

fn is_lost(path: &Path, lost: &Lost) -> bool {
    path.texts().all(|text| lost.paths.contains(&text))
}

fn prefer(path: &Path, first: &Path) -> Result<Path, ImpossibleMove> {
    path.after(first).map_err(|e| ImpossibleMove::Path(e.0))
}

fn stamp(rule: &mut Rule, to: &Move, method: Method) {
    rule.confidence = Some(rule.confidence.unwrap_or(1000).min(to.confidence));
    rule.method = Some(method);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::DriftKind;

    fn mapping() -> Mapping {
        serde_json::from_str(
            r#"{"entity":"order","key":"Id","version":"Changed","deleted":{"field":"Gone"},"fields":{"order_id":"Id",
            "total":{"from":"Total | Sum","unit":"cents"},"buyer":{"from":["First","Last"],"join":" "},"name":"Name"}}"#,
        )
        .unwrap()
    }

    fn lost(paths: &[&str], feeds: &[&str]) -> Lost {
        let all = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
        Lost { path: paths[0].to_owned(), paths: all(paths), feeds: all(feeds), retyped: false }
    }

    fn to(paths: &[&str], part: Option<usize>) -> Move {
        let to = paths.iter().map(|p| (*p).to_owned()).collect();
        Move { from: "x".into(), to, kind: DriftKind::Renamed, confidence: 950, part, transform: None, signals: vec![] }
    }

    fn text(mapping: &Mapping, field: &str) -> String {
        let rules = &mapping.fields[&field.parse::<crate::EntityName>().unwrap()];
        serde_json::to_string(rules).unwrap()
    }

    #[test]
    fn the_new_path_stands_before_the_old_one_and_transforms_stay() {
        let moved =
            mapping().moved(&lost(&["Total", "Sum"], &["total"]), &to(&["amount.cents"], None), Method::Heuristic);
        let expected =
            r#"{"from":["amount.cents | Total | Sum"],"unit":"cents","confidence":950,"method":"heuristic"}"#;
        assert_eq!(text(&moved.unwrap(), "total"), expected);
    }

    #[test]
    fn a_path_that_feeds_several_things_moves_for_all_of_them() {
        let moved =
            mapping().moved(&lost(&["Id"], &["$key", "order_id"]), &to(&["Number"], None), Method::Human).unwrap();
        assert_eq!(moved.key.0[0].as_str(), "Number | Id");
        assert!(text(&moved, "order_id").contains("Number | Id"));
        let moved = mapping().moved(&lost(&["Gone"], &["$deleted"]), &to(&["Deleted"], None), Method::Human).unwrap();
        assert_eq!(moved.deleted[0].field.as_str(), "Deleted | Gone");
    }

    #[test]
    fn a_person_says_how_a_value_is_to_be_transformed() {
        let rule = |text: &str| Some(Box::new(serde_json::from_str::<Rule>(text).unwrap()));
        let with = |text: &str| Move { transform: rule(text), ..to(&["Sum3"], None) };
        let total = lost(&["Total", "Sum"], &["total"]);
        let moved = mapping().moved(&total, &with(r#"{"unit":"thousands","round":true}"#), Method::Human).unwrap();
        let expected = r#"[{"from":["Sum3"],"unit":"thousands","round":true,"confidence":950,"method":"human"},{"from":["Total | Sum"],"unit":"cents"}]"#;
        assert_eq!(text(&moved, "total"), expected);
        for odd in [r#"{"from":"Other"}"#, r#"{"constant":"5"}"#] {
            assert!(matches!(mapping().moved(&total, &with(odd), Method::Human), Err(ImpossibleMove::Transform(_))));
        }
        let key = lost(&["Id"], &["$key"]);
        assert!(mapping().moved(&key, &with(r#"{"trim":true}"#), Method::Human).is_err());
    }

    #[test]
    fn a_split_is_joined_and_a_merge_is_parted_by_a_rule_of_their_own() {
        let moved = mapping().moved(&lost(&["Name"], &["name"]), &to(&["First", "Last"], None), Method::Human).unwrap();
        let expected = r#"[{"from":["First","Last"],"join":" ","confidence":950,"method":"human"},{"from":["Name"]}]"#;
        assert_eq!(text(&moved, "name"), expected);
        let moved = mapping().moved(&lost(&["Name"], &["name"]), &to(&["Full"], Some(1)), Method::Human).unwrap();
        assert!(text(&moved, "name").starts_with(r#"[{"from":["Full"],"split":{"by":" ","part":1}"#));
        let key = lost(&["Id"], &["$key"]);
        assert!(mapping().moved(&key, &to(&["A", "B"], None), Method::Human).is_err());
        assert!(mapping().moved(&key, &to(&[], None), Method::Human).is_err());
        assert!(mapping().moved(&key, &to(&["a..b"], None), Method::Human).is_err());
    }
}
