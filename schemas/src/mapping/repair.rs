//! Repairs: a mapping whose fields have moved.

use super::{FieldRules, Mapping, Method, Path, Paths, Rule, Split};
use crate::drift::{Change, Lost, Move};
use crate::entity::{Entity, Unit};
use crate::ids::EntityName;

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
    /// No unit says how large the numbers are.
    #[error(
        "no unit of a mapping reads the numbers of {0} as they are now: edit the mapping file, or have the source changed back"
    )]
    Unit(String),
    /// No format says how the values are written.
    #[error(
        "no format of a mapping reads {path} as it is written now ({format}): have the source changed back, or edit the mapping file"
    )]
    Format {
        /// The path.
        path: String,
        /// How it is written, in words.
        format: String,
    },
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

    /// The mapping that reads what was lost as its values are now: in another unit, or written otherwise. Where they stand
    /// at another path, that has a rule of its own, and the old path is read as before.
    pub fn reread(&self, entity: &Entity, lost: &Lost, to: &Move, method: Method) -> Result<Self, ImpossibleMove> {
        let (Some(change), [new]) = (&to.change, &to.to[..]) else { return self.moved(lost, to, method) };
        if to.part.is_some() || lost.feeds.iter().any(|feed| feed.starts_with('$')) {
            return Err(ImpossibleMove::NotAField(to.from.clone()));
        }
        let new = Path::new(new).map_err(|_| ImpossibleMove::Path(new.clone()))?;
        let stays = new.texts().all(|text| lost.paths.contains(&text));
        let mut mapping = self.clone();
        for (name, rules) in &mut mapping.fields {
            let Some((at, _)) = find(rules, lost) else { continue };
            let mut rule = changed(&rules.0[at], change, unit_of(entity, name), &to.from)?;
            stamp(&mut rule, to, method);
            if stays {
                rules.0[at] = rule;
            } else {
                rule.from = Paths(vec![new.clone()]);
                rules.0.insert(at, rule);
            }
        }
        Ok(mapping)
    }
}

fn unit_of(entity: &Entity, name: &EntityName) -> Unit {
    entity.fields.iter().find(|field| field.name == *name).map_or(Unit::One, |field| field.unit)
}

/// The rule for values that have changed so.
fn changed(rule: &Rule, change: &Change, field: Unit, path: &str) -> Result<Rule, ImpossibleMove> {
    let mut rule = rule.clone();
    match change {
        Change::Unit { shift } => {
            let before = rule.unit.unwrap_or(field);
            let is_share = Unit::Percent == before || Unit::Percent == field;
            let exponent = before.exponent().checked_sub(*shift);
            rule.unit = Some(match exponent {
                Some(0) => Unit::One,
                Some(-2) if is_share => Unit::Percent,
                Some(-2) => Unit::Cents,
                Some(-3) => Unit::Thousandths,
                Some(-4) => Unit::BasisPoints,
                Some(3) => Unit::Thousands,
                Some(6) => Unit::Millions,
                _ => return Err(ImpossibleMove::Unit(path.to_owned())),
            });
        }
        Change::Format { to, .. } if to == "iso" => rule.format = None,
        Change::Format { to, .. } if to.starts_with("epoch_") || crate::time::is_pattern(to) => {
            rule.format = Some(to.clone());
        }
        Change::Format { to, .. } => {
            return Err(ImpossibleMove::Format { path: path.to_owned(), format: to.clone() });
        }
        Change::Swapped { .. } | Change::Nulls { .. } => {}
    }
    Ok(rule)
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
        Lost { path: paths[0].to_owned(), paths: all(paths), feeds: all(feeds), retyped: false, change: None }
    }

    fn to(paths: &[&str], part: Option<usize>) -> Move {
        let to = paths.iter().map(|p| (*p).to_owned()).collect();
        let (from, kind, confidence) = ("x".into(), DriftKind::Renamed, 950);
        Move { from, to, kind, confidence, part, change: None, transform: None, signals: vec![] }
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

    fn entity() -> Entity {
        serde_json::from_str(
            r#"{"entity":"order","table":"orders","fields":[{"name":"order_id","type":"text"},
            {"name":"total","type":"decimal"},{"name":"buyer","type":"text"},{"name":"name","type":"text"},
            {"name":"chance","type":"decimal","unit":"percent"},{"name":"day","type":"date"}]}"#,
        )
        .unwrap()
    }

    fn reread(fields: &str, path: &str, change: Change) -> Result<String, ImpossibleMove> {
        let text = format!(r#"{{"entity":"order","key":"Id","fields":{{{fields}}}}}"#);
        let mapping: Mapping = serde_json::from_str(&text).unwrap();
        let to = Move { from: "V".into(), change: Some(change), ..to(&[path], None) };
        let mapping = mapping.reread(&entity(), &lost(&["V"], &["x"]), &to, Method::Human)?;
        mapping.validate(&entity()).unwrap();
        Ok(serde_json::to_string(mapping.fields.values().next().unwrap()).unwrap())
    }

    #[test]
    fn numbers_that_are_so_many_times_as_large_are_read_in_another_unit() {
        let cases = [
            (r#""total":"V""#, 2, r#""unit":"cents""#),
            (r#""total":{"from":"V","unit":"cents"}"#, -2, r#""unit":"one""#),
            (r#""total":"V""#, -3, r#""unit":"thousands""#),
            (r#""chance":"V""#, -2, r#""unit":"one""#),
            (r#""chance":{"from":"V","unit":"fraction"}"#, 2, r#""unit":"percent""#),
        ];
        for (fields, shift, expected) in cases {
            let rule = reread(fields, "V", Change::Unit { shift }).unwrap();
            assert!(rule.contains(expected), "{fields}: {rule}");
        }
        assert_eq!(reread(r#""total":"V""#, "V", Change::Unit { shift: 5 }), Err(ImpossibleMove::Unit("V".into())));
    }

    #[test]
    fn times_that_are_written_otherwise_are_read_by_another_format() {
        let change = |to: &str| Change::Format { from: "iso".into(), to: to.into() };
        let rule = reread(r#""day":"V""#, "V", change("%d/%m/%Y")).unwrap();
        assert!(rule.contains(r#""format":"%d/%m/%Y""#), "{rule}");
        let rule = reread(r#""day":{"from":"V","format":"epoch_millis"}"#, "V", change("iso")).unwrap();
        assert!(!rule.contains("format"), "{rule}");
        assert!(reread(r#""day":"V""#, "V", change("something else")).is_err());
    }

    #[test]
    fn what_changed_on_its_way_to_another_path_has_a_rule_of_its_own() {
        let rule = reread(r#""total":{"from":"V","trim":true}"#, "Cents", Change::Unit { shift: 2 }).unwrap();
        assert!(rule.starts_with(r#"[{"from":["Cents"],"trim":true,"unit":"cents""#), "{rule}");
        assert!(rule.ends_with(r#"{"from":["V"],"trim":true}]"#), "{rule}");
    }
}
