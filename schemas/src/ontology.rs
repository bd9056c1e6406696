//! The ontology: the entities that ship with the product, as data files; and how a file that defines an entity or mappings
//! is read.

use crate::entity::Entity;
use crate::ids::{EntityName, StreamName};
use crate::mapping::MappingFile;

/// A definition file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// Not the YAML that is expected.
    #[error("{file}: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// Where and what.
        message: String,
    },
    /// An entity that cannot hold.
    #[error("{file}: {source}")]
    Entity {
        /// The file.
        file: String,
        /// What is wrong.
        source: crate::entity::InvalidEntity,
    },
    /// A mapping that cannot hold.
    #[error("{file}, stream {stream}: {source}")]
    Mapping {
        /// The file.
        file: String,
        /// The stream.
        stream: StreamName,
        /// What is wrong.
        source: crate::mapping::InvalidMapping,
    },
}

/// Pairs of a file's name and its text.
macro_rules! files {
    ($dir:literal: $($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("../", $dir, "/", $name, ".yaml")))),*] };
}
pub(crate) use files;

const ENTITIES: &[(&str, &str)] = files!("ontology":
    "account", "contact", "opportunity", "aws_resource", "cost_report", "account_health", "account_usage");

/// Reads an entity definition.
pub fn read_entity(file: &str, text: &str) -> Result<Entity, DefinitionError> {
    let entity: Entity = read_yaml(file, text)?;
    entity.validate().map_err(|source| DefinitionError::Entity { file: file.to_owned(), source })?;
    Ok(entity)
}

/// Reads a mapping file; its streams are checked against their entities once those are at hand.
pub fn read_mapping(file: &str, text: &str) -> Result<MappingFile, DefinitionError> {
    let mapping: MappingFile = read_yaml(file, text)?;
    for entity in &mapping.entities {
        entity.validate().map_err(|source| DefinitionError::Entity { file: file.to_owned(), source })?;
    }
    for (stream, rules) in &mapping.streams {
        let refused = |source| DefinitionError::Mapping { file: file.to_owned(), stream: stream.clone(), source };
        rules.check().map_err(refused)?;
    }
    Ok(mapping)
}

fn read_yaml<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<T, DefinitionError> {
    serde_saphyr::from_str(text).map_err(|e| DefinitionError::Syntax { file: file.to_owned(), message: e.to_string() })
}

/// The shipped entity of this name.
pub fn shipped_entity(name: &EntityName) -> Option<Entity> {
    ENTITIES.iter().find(|(n, _)| *n == name.as_str()).and_then(|(n, text)| read_entity(n, text).ok())
}

/// All shipped entities.
pub fn shipped_entities() -> Vec<Entity> {
    ENTITIES.iter().filter_map(|(n, text)| read_entity(n, text).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_entity_is_valid_and_named_as_its_file() {
        for (name, text) in ENTITIES {
            let entity = read_entity(name, text).unwrap();
            assert_eq!(entity.entity.as_str(), *name);
        }
    }
}
