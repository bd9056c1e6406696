//! The mappings that ship with the product, one file for each system.

use crate::mapping::MappingFile;
use crate::ontology::{files, read_mapping};

const MAPPINGS: &[(&str, &str)] = files!("mappings":
    "salesforce", "hubspot", "dynamics", "pipedrive", "zendesk", "supabase", "mongodb", "filesource");

/// The shipped mapping file of a system.
pub fn shipped_mapping(system: &str) -> Option<MappingFile> {
    MAPPINGS.iter().find(|(n, _)| *n == system).and_then(|(n, text)| read_mapping(n, text).ok())
}

/// The systems that ship a mapping file.
pub fn shipped_systems() -> impl Iterator<Item = &'static str> {
    MAPPINGS.iter().map(|(n, _)| *n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ontology::shipped_entity;

    #[test]
    fn every_shipped_mapping_is_valid_and_fits_its_entity() {
        for (name, text) in MAPPINGS {
            let file = read_mapping(name, text).unwrap();
            assert_eq!(file.system, *name);
            for (stream, mapping) in &file.streams {
                let entity =
                    shipped_entity(&mapping.entity).unwrap_or_else(|| panic!("{name}/{stream}: no such entity"));
                mapping.validate(&entity).unwrap_or_else(|e| panic!("{name}/{stream}: {e}"));
                assert!(!mapping.key.is_empty() || *name == "filesource", "{name}/{stream} has no key");
            }
        }
    }
}
