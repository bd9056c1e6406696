//! A mapping made ready: every path is a slot of the walker, every rule knows its field's type.

use schemas::entity::Entity;
use schemas::mapping::{Deleted, Dialect, FieldRules, Mapping, Path, Rule};
use schemas::shape::{ELEMENTS, ShapeTree};
use schemas::value::FieldType;
use schemas::version::VersionType;

/// Where one path may stand: a slot for each of its alternatives, in order of preference.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) slots: Vec<u32>,
    /// The alternatives' paths, for messages.
    pub(super) paths: Vec<String>,
    /// The slots of the objects around them.
    pub(super) around: Vec<u32>,
    /// Whether an object or array may be what is looked for.
    pub(super) takes_nested: bool,
}

/// How a number is brought to its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Scaling {
    /// Power of ten between the source's unit and the field's.
    pub(super) shift: i8,
    /// Whether digits behind the field's last are rounded.
    pub(super) round: bool,
}

/// One way in which a field is filled.
#[derive(Debug, Clone)]
pub(super) struct FieldRule {
    pub(super) from: Vec<Choice>,
    pub(super) rule: Rule,
    /// Whether the value is cast as it stands.
    pub(super) plain: bool,
    pub(super) scaling: Scaling,
}

/// A field of the entity, with its rules if the mapping has some.
#[derive(Debug, Clone)]
pub(super) struct FieldPlan {
    pub(super) name: String,
    pub(super) field_type: FieldType,
    pub(super) required: bool,
    pub(super) rules: Vec<FieldRule>,
}

/// A slot that a field may take but, having alternatives, need not: what nobody took goes to `extras`.
#[derive(Debug, Clone)]
pub(super) struct Spare {
    pub(super) slot: u32,
    /// Its path, from the outside in.
    pub(super) parts: Vec<String>,
}

/// The rules of a stream, bound to its shape tree.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) fields: Vec<FieldPlan>,
    pub(super) spares: Vec<Spare>,
    pub(super) key: Vec<Choice>,
    pub(super) version: Option<(Choice, VersionType)>,
    pub(super) deleted: Vec<(Choice, Deleted)>,
    pub(super) dialect: Option<Dialect>,
    /// The lowest confidence of the rules, in thousandths.
    pub(super) confidence: u16,
}

impl Rules {
    /// Binds `mapping` to `tree`; whatever was bound to the tree before is forgotten.
    pub(super) fn bind(mapping: &Mapping, entity: &Entity, tree: &mut ShapeTree) -> Self {
        tree.clear_requests();
        let wrapped = mapping.dialect.is_some();
        let mut fields = Vec::with_capacity(entity.fields.len());
        for field in &entity.fields {
            let takes_nested = wrapped || field.field_type() == FieldType::Json;
            let bind_rule = |rule: &Rule| FieldRule {
                from: rule.from.0.iter().map(|path| bind(path, tree, true, takes_nested)).collect(),
                plain: is_plain(rule),
                scaling: Scaling {
                    shift: rule.unit.map_or(0, |unit| unit.exponent() - field.unit.exponent()),
                    round: rule.round,
                },
                rule: rule.clone(),
            };
            let rules = mapping.fields.get(&field.name).map_or(&[][..], |FieldRules(rules)| rules);
            let rules = rules.iter().map(bind_rule).collect();
            let (name, field_type) = (field.name.to_string(), field.field_type());
            fields.push(FieldPlan { name, field_type, required: field.required, rules });
        }
        Self {
            spares: spares(mapping, entity, &fields),
            fields,
            key: mapping.key.0.iter().map(|path| bind(path, tree, false, wrapped)).collect(),
            version: mapping
                .version
                .as_ref()
                .map(|path| (bind(path, tree, false, wrapped), mapping.version_type.unwrap_or(VersionType::Time))),
            deleted: mapping
                .deleted
                .iter()
                .map(|sign| (bind(&sign.field, tree, false, wrapped), sign.clone()))
                .collect(),
            dialect: mapping.dialect,
            confidence: mapping.fields.values().flat_map(|f| &f.0).filter_map(|r| r.confidence).min().unwrap_or(1000),
        }
    }
}

/// Binds a path. Elements of arrays are never consumed: the array stays whole in `extras`.
pub(super) fn bind(path: &Path, tree: &mut ShapeTree, consumed: bool, takes_nested: bool) -> Choice {
    let request = |parts: &Vec<String>| tree.request(parts, consumed && !in_array(parts));
    let slots = path.choices().iter().map(request).collect();
    let mut around = Vec::new();
    for parts in path.choices().iter().filter(|parts| !in_array(parts)) {
        around.extend((1..parts.len()).map(|depth| tree.request(&parts[..depth], false)));
    }
    Choice { slots, paths: path.texts().collect(), around, takes_nested }
}

fn in_array(parts: &[String]) -> bool {
    parts.iter().any(|part| part == ELEMENTS)
}

/// The slots that stand beside an alternative in every field that may take them, each once.
fn spares(mapping: &Mapping, entity: &Entity, fields: &[FieldPlan]) -> Vec<Spare> {
    let mut spares: Vec<Spare> = Vec::new();
    let mut sole = Vec::new();
    for (field, plan) in entity.fields.iter().zip(fields) {
        let Some(FieldRules(rules)) = mapping.fields.get(&field.name) else { continue };
        for (rule, bound) in rules.iter().zip(&plan.rules) {
            for (path, choice) in rule.from.0.iter().zip(&bound.from) {
                for (parts, slot) in path.choices().iter().zip(&choice.slots).filter(|(parts, _)| !in_array(parts)) {
                    if rules.len() == 1 && choice.slots.len() == 1 {
                        sole.push(*slot);
                    }
                    if spares.iter().all(|spare| spare.slot != *slot) {
                        spares.push(Spare { slot: *slot, parts: parts.clone() });
                    }
                }
            }
        }
    }
    spares.retain(|spare| !sole.contains(&spare.slot));
    spares
}

fn is_plain(rule: &Rule) -> bool {
    let Rule {
        from,
        join: _,
        constant,
        split,
        trim,
        case,
        values,
        format,
        unit: _,
        round: _,
        confidence: _,
        method: _,
    } = rule;
    from.0.len() == 1
        && constant.is_none()
        && split.is_none()
        && !trim
        && case.is_none()
        && values.is_empty()
        && format.is_none()
}
