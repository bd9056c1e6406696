//! Entities: what canonical rows consist of. Definitions are data; users add entities and fields without a rebuild.

use serde::{Deserialize, Serialize};

use crate::ids::EntityName;
use crate::input::DefinitionHash;
use crate::value::{FieldType, TypeName};

/// An entity of the ontology.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entity {
    /// Its name, in the singular.
    pub entity: EntityName,
    /// The table that its view is queried as.
    pub table: EntityName,
    /// What it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// Its fields, in column order. New fields go to the end.
    pub fields: Vec<Field>,
}

/// A field of an entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Its name and the column's.
    pub name: EntityName,
    /// Its type.
    #[serde(rename = "type")]
    pub type_name: TypeName,
    /// Digits of a decimal, 24 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<u8>,
    /// Digits of a decimal behind the point, 4 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<u8>,
    /// What one means; a mapping that declares another unit is converted exactly.
    #[serde(default, skip_serializing_if = "Unit::is_one")]
    pub unit: Unit,
    /// Whether a record without it is quarantined.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Whether its values are masked where people decide cases. Once it is, it stays so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sensitive: bool,
    /// What it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
}

/// What one of a number stands for, as a power of ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// The number itself; a fraction of 1; major units of a currency.
    #[default]
    #[serde(alias = "fraction", alias = "major")]
    One,
    /// Hundredths, as in 75 for 0.75.
    Percent,
    /// Hundredths of a major currency unit.
    #[serde(alias = "minor")]
    Cents,
    /// Ten-thousandths.
    BasisPoints,
    /// Thousandths.
    Thousandths,
    /// Thousands.
    Thousands,
    /// Millions.
    Millions,
}

impl Unit {
    fn is_one(&self) -> bool {
        *self == Self::One
    }
    /// The power of ten that one of it is worth.
    pub const fn exponent(self) -> i8 {
        match self {
            Self::One => 0,
            Self::Percent | Self::Cents => -2,
            Self::Thousandths => -3,
            Self::BasisPoints => -4,
            Self::Thousands => 3,
            Self::Millions => 6,
        }
    }
}

impl Field {
    /// The type with its digits.
    pub fn field_type(&self) -> FieldType {
        match self.type_name {
            TypeName::Text => FieldType::Text,
            TypeName::Integer => FieldType::Integer,
            TypeName::Decimal => {
                FieldType::Decimal { precision: self.precision.unwrap_or(24), scale: self.scale.unwrap_or(4) }
            }
            TypeName::Boolean => FieldType::Boolean,
            TypeName::Date => FieldType::Date,
            TypeName::Timestamp => FieldType::Timestamp,
            TypeName::Json => FieldType::Json,
        }
    }
}

/// What is wrong with an entity's definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntity {
    /// Nothing to hold.
    #[error("entity {0} has no fields")]
    NoFields(EntityName),
    /// A name stands twice.
    #[error("entity {entity} has the field {field} twice")]
    RepeatedField {
        /// The entity.
        entity: EntityName,
        /// The field.
        field: EntityName,
    },
    /// `extras` is ours.
    #[error("entity {entity} may not have a field called {field}: the name is taken by a system column")]
    ReservedField {
        /// The entity.
        entity: EntityName,
        /// The field.
        field: EntityName,
    },
    /// Tables whose names have `__` in them are ours.
    #[error("entity {entity} may not fill the table {table}: two underscores in a row are kept for companion tables")]
    ReservedTable {
        /// The entity.
        entity: EntityName,
        /// The table.
        table: EntityName,
    },
    /// Digits that no decimal has.
    #[error("field {field} of entity {entity}: a decimal has 1 to 38 digits, and no more of them behind the point")]
    Digits {
        /// The entity.
        entity: EntityName,
        /// The field.
        field: EntityName,
    },
    /// A change that is no addition.
    #[error("field {field} of entity {entity} cannot {change}: fields may only be added, at the end")]
    NotAnAddition {
        /// The entity.
        entity: EntityName,
        /// The field.
        field: EntityName,
        /// What was tried.
        change: &'static str,
    },
    /// Another table.
    #[error("entity {entity} fills the table {before}; that cannot become {after}")]
    TableChanged {
        /// The entity.
        entity: EntityName,
        /// The table in force.
        before: EntityName,
        /// The table asked for.
        after: EntityName,
    },
}

impl Entity {
    /// Checks what types cannot.
    pub fn validate(&self) -> Result<(), InvalidEntity> {
        let entity = || self.entity.clone();
        if self.fields.is_empty() {
            return Err(InvalidEntity::NoFields(entity()));
        }
        if self.table.as_str().contains("__") {
            return Err(InvalidEntity::ReservedTable { entity: entity(), table: self.table.clone() });
        }
        for (at, field) in self.fields.iter().enumerate() {
            let name = || field.name.clone();
            if field.name.as_str() == "extras" {
                return Err(InvalidEntity::ReservedField { entity: entity(), field: name() });
            }
            if self.fields[..at].iter().any(|f| f.name == field.name) {
                return Err(InvalidEntity::RepeatedField { entity: entity(), field: name() });
            }
            if let FieldType::Decimal { precision, scale } = field.field_type()
                && (precision == 0 || precision > 38 || scale > precision)
            {
                return Err(InvalidEntity::Digits { entity: entity(), field: name() });
            }
        }
        Ok(())
    }

    /// The definition after `newer` took its place: fields may be added at the end, nothing else may change type or go.
    /// A `newer` that lacks the latest fields (an older file) changes nothing. A field once optional stays it, whoever
    /// says otherwise: rows without it are there, and definitions of several streams come in any order.
    pub fn evolve(&self, newer: &Self) -> Result<Self, InvalidEntity> {
        newer.validate()?;
        if self.table != newer.table {
            let (before, after) = (self.table.clone(), newer.table.clone());
            return Err(InvalidEntity::TableChanged { entity: self.entity.clone(), before, after });
        }
        let mut merged = self.clone();
        let refuse = |field: &Field, change| {
            let (entity, field) = (self.entity.clone(), field.name.clone());
            Err(InvalidEntity::NotAnAddition { entity, field, change })
        };
        for field in &newer.fields {
            match merged.fields.iter_mut().find(|f| f.name == field.name) {
                Some(known) if known.field_type() != field.field_type() => return refuse(field, "change its type"),
                Some(known) if known.unit != field.unit => return refuse(field, "change its unit"),
                Some(known) => {
                    let (required, sensitive) = (known.required && field.required, known.sensitive || field.sensitive);
                    *known = Field { required, sensitive, ..field.clone() };
                }
                None if field.required => return refuse(field, "be added as required"),
                None => merged.fields.push(field.clone()),
            }
        }
        Ok(merged)
    }

    /// The canonical text of the definition.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("an entity has no map keys that are not text")
    }

    /// The name of [`Entity::text`].
    pub fn hash(&self) -> DefinitionHash {
        DefinitionHash::of(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(fields: &str) -> Entity {
        serde_json::from_str(&format!(r#"{{"entity":"order","table":"orders","fields":[{fields}]}}"#)).unwrap()
    }

    #[test]
    fn fields_can_be_added_and_nothing_else() {
        let old = entity(r#"{"name":"id","type":"text","required":true},{"name":"total","type":"decimal"}"#);
        let added = entity(
            r#"{"name":"id","type":"text","required":true},{"name":"total","type":"decimal"},{"name":"note","type":"text"}"#,
        );
        let merged = old.evolve(&added).unwrap();
        assert_eq!(merged.fields.len(), 3);
        assert_eq!(merged.evolve(&old).unwrap().fields.len(), 3, "an older file takes nothing away");
        let retyped = entity(r#"{"name":"id","type":"integer"}"#);
        assert!(matches!(old.evolve(&retyped), Err(InvalidEntity::NotAnAddition { .. })));
        let required = entity(r#"{"name":"new","type":"text","required":true}"#);
        assert!(matches!(old.evolve(&required), Err(InvalidEntity::NotAnAddition { .. })));
    }

    #[test]
    fn a_field_once_optional_stays_optional_in_whatever_order_definitions_come() {
        let required = entity(r#"{"name":"id","type":"text","required":true}"#);
        let optional = entity(r#"{"name":"id","type":"text"}"#);
        assert!(!required.evolve(&optional).unwrap().fields[0].required);
        assert!(!optional.evolve(&required).unwrap().fields[0].required);
        assert!(required.evolve(&required).unwrap().fields[0].required);
    }

    #[test]
    fn a_sensitive_field_stays_sensitive_though_an_older_file_does_not_say_so() {
        let old = entity(r#"{"name":"id","type":"text"}"#);
        let sensitive = entity(r#"{"name":"id","type":"text","sensitive":true}"#);
        assert!(old.evolve(&sensitive).unwrap().fields[0].sensitive);
        assert!(sensitive.evolve(&old).unwrap().fields[0].sensitive);
    }

    #[test]
    fn a_definition_that_cannot_hold_is_refused() {
        assert!(entity("").validate().is_err());
        assert!(entity(r#"{"name":"extras","type":"json"}"#).validate().is_err());
        assert!(entity(r#"{"name":"a","type":"text"},{"name":"a","type":"text"}"#).validate().is_err());
        assert!(entity(r#"{"name":"a","type":"decimal","precision":4,"scale":5}"#).validate().is_err());
        assert!(serde_json::from_str::<Entity>(r#"{"entity":"a","table":"b","fields":[],"typo":1}"#).is_err());
        let mut companion = entity(r#"{"name":"a","type":"text"}"#);
        companion.table = EntityName::new("orders__deleted").unwrap();
        assert!(matches!(companion.validate(), Err(InvalidEntity::ReservedTable { .. })));
    }
}
