//! Whether a mapping can hold.

use super::{Mapping, Path, Rule};
use crate::entity::Entity;
use crate::ids::EntityName;
use crate::value::FieldType;

/// More paths than this are refused.
const PATHS_MAX: usize = 4096;
/// Paths that are longer than this together, in bytes, are refused.
const PATHS_BYTES_MAX: usize = 1 << 20;

/// What is wrong with a mapping, beyond its syntax.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMapping {
    /// No such field.
    #[error("entity {entity} has no field {field}; it has {known}")]
    UnknownField {
        /// The entity.
        entity: EntityName,
        /// The name.
        field: EntityName,
        /// The names that there are.
        known: String,
    },
    /// A required field has no rule.
    #[error("the required field {field} of entity {entity} has no rule")]
    RequiredUnmapped {
        /// The entity.
        entity: EntityName,
        /// The field.
        field: EntityName,
    },
    /// A rule says nothing.
    #[error("the rule of {0} needs from or constant")]
    EmptyRule(EntityName),
    /// More paths than can be kept apart.
    #[error("the mapping names more than 4,096 paths, or paths of more than 1 MiB together")]
    TooManyPaths,
    /// A rule that is never reached.
    #[error("the rules of {0}: one with a constant always counts, so it can only be the last")]
    Unreachable(EntityName),
    /// A format that is none.
    #[error(
        "the rule of {field}: {format:?} is no format: use a strptime pattern that tells the day (and the zone as an \
         offset, if at all), epoch_seconds, epoch_millis or epoch_micros"
    )]
    Format {
        /// The field.
        field: EntityName,
        /// What stands there.
        format: String,
    },
    /// A transform that does not go with the type.
    #[error("the rule of {field}: {transform} does not go with type {type_name}")]
    TransformType {
        /// The field.
        field: EntityName,
        /// The transform.
        transform: &'static str,
        /// The field's type.
        type_name: &'static str,
    },
}

impl Mapping {
    /// Checks what can be checked without the entity.
    pub fn check(&self) -> Result<(), InvalidMapping> {
        for (name, rules) in &self.fields {
            let is_empty = |rule: &Rule| rule.from.is_empty() && rule.constant.is_none();
            if rules.0.is_empty() || rules.0.iter().any(is_empty) {
                return Err(InvalidMapping::EmptyRule(name.clone()));
            }
            if rules.0.iter().rev().skip(1).any(|rule| rule.constant.is_some()) {
                return Err(InvalidMapping::Unreachable(name.clone()));
            }
            for format in rules.0.iter().filter_map(|rule| rule.format.as_ref()) {
                let epoch = matches!(format.as_str(), "epoch_seconds" | "epoch_millis" | "epoch_micros");
                if !epoch && !crate::time::is_pattern(format) {
                    return Err(InvalidMapping::Format { field: name.clone(), format: format.clone() });
                }
            }
        }
        let (count, bytes) = self
            .paths()
            .fold((0, 0), |(count, bytes), path| (count + path.choices().len(), bytes + path.as_str().len()));
        if count > PATHS_MAX || bytes > PATHS_BYTES_MAX {
            return Err(InvalidMapping::TooManyPaths);
        }
        Ok(())
    }

    /// Every path that the mapping names.
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let fields = self.fields.values().flat_map(|rules| rules.paths());
        fields.chain(&self.key.0).chain(&self.version).chain(self.deleted.iter().map(|deleted| &deleted.field))
    }

    /// Checks the mapping against the entity that it fills.
    pub fn validate(&self, entity: &Entity) -> Result<(), InvalidMapping> {
        self.check()?;
        for (name, rules) in &self.fields {
            let Some(field) = entity.fields.iter().find(|f| f.name == *name) else {
                let known = entity.fields.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(", ");
                return Err(InvalidMapping::UnknownField { entity: entity.entity.clone(), field: name.clone(), known });
            };
            for rule in &rules.0 {
                validate_transforms(name, rule, field.field_type())?;
            }
        }
        for field in entity.fields.iter().filter(|f| f.required) {
            if !self.fields.contains_key(&field.name) {
                let (entity, field) = (entity.entity.clone(), field.name.clone());
                return Err(InvalidMapping::RequiredUnmapped { entity, field });
            }
        }
        Ok(())
    }
}

fn validate_transforms(field: &EntityName, rule: &Rule, field_type: FieldType) -> Result<(), InvalidMapping> {
    let is_time = matches!(field_type, FieldType::Date | FieldType::Timestamp);
    let is_number = matches!(field_type, FieldType::Decimal { .. } | FieldType::Integer);
    let misplaced = [
        ("format", rule.format.is_some() && !is_time),
        ("unit", rule.unit.is_some() && !is_number),
        ("round", rule.round && !is_number),
    ];
    match misplaced.into_iter().find(|(_, wrong)| *wrong) {
        Some((transform, _)) => {
            Err(InvalidMapping::TransformType { field: field.clone(), transform, type_name: field_type.name() })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(version: &str, fields: &str) -> Mapping {
        let text = format!(r#"{{"entity":"order","key":"id","version":"{version}","fields":{{{fields}}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn validate(fields: &str) -> Result<(), InvalidMapping> {
        let entity = r#"{"entity":"order","table":"orders","fields":[{"name":"id","type":"text"},
            {"name":"total","type":"decimal"},{"name":"day","type":"date"}]}"#;
        mapping("v", fields).validate(&serde_json::from_str(entity).unwrap())
    }

    #[test]
    fn all_paths_count_towards_the_limit() {
        let many = vec!["v"; 4096].join("|");
        assert_eq!(mapping(&many, "").check(), Err(InvalidMapping::TooManyPaths));
        let mut signs = mapping("v", "");
        signs.deleted = serde_json::from_str(&format!(r#"[{{"field":"{many}"}}]"#)).unwrap();
        assert_eq!(signs.check(), Err(InvalidMapping::TooManyPaths));
        let long = vec!["n".repeat(1024); 1025].join("|");
        assert_eq!(mapping(&long, "").check(), Err(InvalidMapping::TooManyPaths));
    }

    #[test]
    fn a_format_is_checked_before_it_is_used() {
        assert_eq!(validate(r#""day":{"from":"d","format":"%d.%m.%Y"}"#), Ok(()));
        assert_eq!(validate(r#""day":{"from":"d","format":"epoch_millis"}"#), Ok(()));
        for format in ["%F %Q", "dd.mm.yyyy", "%d.%m", "epoch"] {
            let error = validate(&format!(r#""day":["x",{{"from":"d","format":"{format}"}}]"#));
            assert!(matches!(error, Err(InvalidMapping::Format { .. })), "{format}");
        }
    }

    #[test]
    fn rules_that_say_nothing_or_cannot_be_reached_are_refused() {
        let name = || EntityName::new("total").unwrap();
        assert_eq!(validate(r#""total":[]"#), Err(InvalidMapping::EmptyRule(name())));
        assert_eq!(validate(r#""total":["a",{"trim":true}]"#), Err(InvalidMapping::EmptyRule(name())));
        assert_eq!(validate(r#""total":[{"constant":"0"},"a"]"#), Err(InvalidMapping::Unreachable(name())));
        assert_eq!(validate(r#""total":["a",{"from":"b","round":true,"constant":"0"}]"#), Ok(()));
        assert!(matches!(validate(r#""id":{"from":"a","round":true}"#), Err(InvalidMapping::TransformType { .. })));
    }
}
