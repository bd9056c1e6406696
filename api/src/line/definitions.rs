//! What plans are made from: the operator's files in the folder, and what the store knows.

use std::path::Path;

use anyhow::{Context, bail};
use pipeline::process::read_state;
use pipeline::step::StreamState;
use pipeline::{Store, definitions};
use schemas::mapping::MappingFile;
use schemas::{Entity, EntityName, StreamId, TenantId, TenantName, ontology};

use super::Line;

/// Reads definitions; writes none.
#[derive(Clone, Copy)]
pub struct Definitions<'a> {
    folder: &'a Path,
    store: &'a dyn Store,
}

impl Line {
    /// What plans are made from.
    pub fn definitions(&self) -> Definitions<'_> {
        Definitions::new(&self.folder, &*self.store)
    }
}

impl<'a> Definitions<'a> {
    /// The definitions of a folder, with or without a line on it.
    pub fn new(folder: &'a Path, store: &'a dyn Store) -> Self {
        Self { folder, store }
    }

    /// The id of a tenant, if there is one of that name.
    pub async fn find_tenant(&self, name: &TenantName) -> anyhow::Result<Option<TenantId>> {
        Ok(definitions::find_tenant(self.store, name).await?)
    }

    /// An entity's definition in force for a tenant.
    pub async fn entity(&self, tenant: TenantId, name: &EntityName) -> anyhow::Result<Option<Entity>> {
        Ok(definitions::entity(self.store, tenant, name).await?)
    }

    /// An entity's definition as it will be in force once `newer`, if a file brings one, is merged into it.
    pub async fn evolved(
        &self,
        tenant: Option<TenantId>,
        name: &EntityName,
        newer: Option<&Entity>,
    ) -> anyhow::Result<Entity> {
        let current = match tenant {
            Some(tenant) => self.entity(tenant, name).await?,
            None => ontology::shipped_entity(name),
        };
        newer.map(Entity::validate).transpose()?;
        match (current, newer) {
            (Some(current), Some(newer)) => Ok(current.evolve(newer)?),
            (None, Some(newer)) => Ok(newer.clone()),
            (Some(current), None) => Ok(current),
            (None, None) => {
                let shipped = ontology::shipped_entities();
                let known = shipped.iter().map(|e| e.entity.as_str()).collect::<Vec<_>>().join(", ");
                Err(definitions::DefinitionError::Unknown(name.clone(), known).into())
            }
        }
    }

    /// A stream's state as it was last written.
    pub async fn stream_state(&self, stream: &StreamId) -> anyhow::Result<Option<StreamState>> {
        Ok(read_state(self.store, stream).await?)
    }

    /// The definition of an entity that the operator put into the folder `ontology`.
    pub fn folder_entity(&self, name: &EntityName) -> anyhow::Result<Option<Entity>> {
        self.folder_text("ontology", name.as_str())?
            .map(|(file, text)| Ok(ontology::read_entity(&file, &text)?))
            .transpose()
    }

    /// The mapping file of a system that the operator put into the folder `mappings`.
    pub fn folder_mapping(&self, system: &str) -> anyhow::Result<Option<MappingFile>> {
        let named_safely = system.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !named_safely {
            bail!("a system's name has letters, digits, - and _ only; {system:?} has others");
        }
        self.folder_text("mappings", system)?.map(|(file, text)| Ok(ontology::read_mapping(&file, &text)?)).transpose()
    }

    fn folder_text(&self, kind: &str, name: &str) -> anyhow::Result<Option<(String, String)>> {
        let path = self.folder.join(kind).join(format!("{name}.yaml"));
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some((path.display().to_string(), text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }
}
