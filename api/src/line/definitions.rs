//! What plans are made from: the operator's files in the folder, and what the store knows.

use std::path::Path;

use anyhow::{Context, bail};
use pipeline::process::read_state;
use pipeline::repair::Knowledge;
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

    /// Every entity that a stream of a tenant may fill: the shipped ones, the folder's, the tenant's own.
    pub async fn entities(&self, tenant: Option<TenantId>) -> anyhow::Result<Vec<Entity>> {
        let mut all = match tenant {
            Some(tenant) => definitions::entities(self.store, tenant).await?,
            None => ontology::shipped_entities(),
        };
        for entity in self.folder_entities()? {
            match all.iter_mut().find(|known| known.entity == entity.entity) {
                Some(known) => *known = known.evolve(&entity)?,
                None => all.push(entity),
            }
        }
        Ok(all)
    }

    /// What is known of which paths fill which fields: to a tenant, or to everybody.
    pub async fn knowledge(&self, tenant: Option<TenantId>) -> anyhow::Result<Knowledge> {
        Ok(match tenant {
            Some(tenant) => Knowledge::read(self.store, tenant).await?,
            None => Knowledge::shipped(),
        })
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

    /// Every definition in the folder `ontology`, by the files' names.
    fn folder_entities(&self) -> anyhow::Result<Vec<Entity>> {
        let folder = self.folder.join("ontology");
        let files = match std::fs::read_dir(&folder) {
            Ok(files) => files,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", folder.display())),
        };
        let mut names = Vec::new();
        for file in files {
            let path = file.with_context(|| format!("reading {}", folder.display()))?.path();
            let is_yaml = path.extension().is_some_and(|extension| extension == "yaml");
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).filter(|_| is_yaml).map(str::to_owned));
        }
        names.sort();
        let read = |name: &String| self.folder_entity(&name.parse().ok()?).transpose();
        names.iter().filter_map(read).collect()
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
