//! A mapping made ready: every path is a slot of the walker, every rule knows its field's type.

use schemas::entity::Entity;
use schemas::mapping::{Deleted, Mapping, Path, Rule};
use schemas::shape::ShapeTree;
use schemas::value::FieldType;
use schemas::version::VersionType;

/// Where one path may stand: a slot for each of its alternatives, in order of preference.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) slots: Vec<u16>,
    /// The alternatives' paths as they were written, for `extras` and messages.
    pub(super) paths: Vec<String>,
}

/// How one field is filled.
#[derive(Debug, Clone)]
pub(super) struct FieldRule {
    pub(super) from: Vec<Choice>,
    pub(super) rule: Rule,
    /// Whether the value is cast as it stands.
    pub(super) plain: bool,
    /// Power of ten between the source's unit and the field's.
    pub(super) shift: i8,
}

/// A field of the entity, with its rule if the mapping has one.
#[derive(Debug, Clone)]
pub(super) struct FieldPlan {
    pub(super) name: String,
    pub(super) field_type: FieldType,
    pub(super) required: bool,
    pub(super) rule: Option<FieldRule>,
}

/// The rules of a stream, bound to its shape tree.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) fields: Vec<FieldPlan>,
    pub(super) key: Vec<Choice>,
    pub(super) version: Option<(Choice, VersionType)>,
    pub(super) deleted: Option<(Choice, Deleted)>,
    /// The lowest confidence of the rules, in thousandths.
    pub(super) confidence: u16,
}

impl Rules {
    /// Binds `mapping` to `tree`; whatever was bound to the tree before is forgotten.
    pub(super) fn bind(mapping: &Mapping, entity: &Entity, tree: &mut ShapeTree) -> Self {
        tree.clear_requests();
        let fields = entity
            .fields
            .iter()
            .map(|field| {
                let rule = mapping.fields.get(&field.name).map(|rule| FieldRule {
                    from: rule.from.0.iter().map(|path| bind(path, tree, true)).collect(),
                    plain: is_plain(rule),
                    shift: rule.unit.map_or(0, |unit| unit.exponent() - field.unit.exponent()),
                    rule: rule.clone(),
                });
                let (name, field_type) = (field.name.to_string(), field.field_type());
                FieldPlan { name, field_type, required: field.required, rule }
            })
            .collect();
        Self {
            fields,
            key: mapping.key.0.iter().map(|path| bind(path, tree, false)).collect(),
            version: mapping
                .version
                .as_ref()
                .map(|path| (bind(path, tree, false), mapping.version_type.unwrap_or(VersionType::Time))),
            deleted: mapping.deleted.as_ref().map(|deleted| (bind(&deleted.field, tree, false), deleted.clone())),
            confidence: mapping.fields.values().filter_map(|r| r.confidence).min().unwrap_or(1000),
        }
    }
}

pub(super) fn bind(path: &Path, tree: &mut ShapeTree, consumed: bool) -> Choice {
    Choice {
        slots: path.choices().iter().map(|parts| tree.request(parts, consumed)).collect(),
        paths: path.choices().iter().map(|parts| parts.join(".")).collect(),
    }
}

fn is_plain(rule: &Rule) -> bool {
    let Rule { from, join: _, constant, split, trim, case, values, format, unit: _, confidence: _, method: _ } = rule;
    from.0.len() == 1
        && constant.is_none()
        && split.is_none()
        && !trim
        && case.is_none()
        && values.is_empty()
        && format.is_none()
}
