//! Tenants and entity definitions, as `Store` holds them.

use schemas::entity::InvalidEntity;
use schemas::{Entity, EntityName, TenantId, TenantName, ontology};

use crate::store::{Expect, Store, StoreError, Table};

/// A definition cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The change is none that is allowed.
    #[error(transparent)]
    Invalid(#[from] InvalidEntity),
    /// Nobody defined it.
    #[error("there is no entity {0}: define it in the mapping file under entities, or use one of {1}")]
    Unknown(EntityName, String),
    /// A stored row that this build cannot read.
    #[error("the stored {what} cannot be read: {message}")]
    Unreadable {
        /// Which row.
        what: String,
        /// What is wrong.
        message: String,
    },
}

fn unreadable(what: &str, error: impl std::fmt::Display) -> DefinitionError {
    DefinitionError::Unreadable { what: what.to_owned(), message: error.to_string() }
}

/// The tenant's id, or nothing when nobody has that name.
pub async fn find_tenant(store: &dyn Store, name: &TenantName) -> Result<Option<TenantId>, DefinitionError> {
    let row = store.get(TenantId::SYSTEM, Table::Tenants, name.as_str()).await?;
    row.map(|row| serde_json::from_slice(&row.value).map_err(|e| unreadable("tenant", e))).transpose()
}

/// The tenant's id; made when the name is new.
pub async fn ensure_tenant(store: &dyn Store, name: &TenantName) -> Result<TenantId, DefinitionError> {
    loop {
        if let Some(id) = find_tenant(store, name).await? {
            return Ok(id);
        }
        if let Some(id) = create_tenant(store, name).await? {
            return Ok(id);
        }
    }
}

/// Makes a tenant; nothing when the name is taken.
pub async fn create_tenant(store: &dyn Store, name: &TenantName) -> Result<Option<TenantId>, DefinitionError> {
    let id = TenantId::generate();
    let value = serde_json::to_vec(&id).map_err(|e| unreadable("tenant", e))?;
    match store.put(TenantId::SYSTEM, Table::Tenants, name.as_str(), value.into(), Expect::Absent).await {
        Ok(_) => {
            note_name(store, id, name).await?;
            Ok(Some(id))
        }
        Err(StoreError::Conflict { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The key under which a tenant keeps its own name.
const OWN_NAME: &str = "";

async fn note_name(store: &dyn Store, id: TenantId, name: &TenantName) -> Result<(), DefinitionError> {
    let value = serde_json::to_vec(name).map_err(|e| unreadable("tenant's name", e))?;
    store.put(id, Table::Tenants, OWN_NAME, value.into(), Expect::Any).await?;
    Ok(())
}

/// The name of a tenant, or nothing when there is none.
pub async fn tenant_name(store: &dyn Store, id: TenantId) -> Result<Option<TenantName>, DefinitionError> {
    if let Some(row) = store.get(id, Table::Tenants, OWN_NAME).await? {
        return serde_json::from_slice(&row.value).map(Some).map_err(|e| unreadable("tenant's name", e));
    }
    // A crash between the two rows leaves the register without the tenant's own.
    let name = tenants(store).await?.into_iter().find(|(_, known)| *known == id).map(|(name, _)| name);
    if let Some(name) = &name {
        note_name(store, id, name).await?;
    }
    Ok(name)
}

/// All tenants, by name.
pub async fn tenants(store: &dyn Store) -> Result<Vec<(TenantName, TenantId)>, DefinitionError> {
    let mut all: Vec<(TenantName, TenantId)> = Vec::new();
    loop {
        let after = all.last().map(|(name, _)| name.to_string());
        let rows = store.scan(TenantId::SYSTEM, Table::Tenants, "", after.as_deref(), 1000).await?;
        if rows.is_empty() {
            return Ok(all);
        }
        for (name, row) in rows {
            let name = TenantName::new(&name).map_err(|e| unreadable("tenant", e))?;
            all.push((name, serde_json::from_slice(&row.value).map_err(|e| unreadable("tenant", e))?));
        }
    }
}

/// The entity's definition in force for a tenant: its own, else the shipped one.
pub async fn entity(store: &dyn Store, tenant: TenantId, name: &EntityName) -> Result<Option<Entity>, DefinitionError> {
    match store.get(tenant, Table::Entities, name.as_str()).await? {
        Some(row) => serde_json::from_slice(&row.value).map(Some).map_err(|e| unreadable("entity", e)),
        None => Ok(ontology::shipped_entity(name)),
    }
}

/// Puts a definition in force, merged with the one that is: fields are only ever added. Answers what is in force now.
pub async fn define_entity(store: &dyn Store, tenant: TenantId, newer: &Entity) -> Result<Entity, DefinitionError> {
    newer.validate()?;
    loop {
        let row = store.get(tenant, Table::Entities, newer.entity.as_str()).await?;
        let (merged, expect) = match &row {
            Some(row) => {
                let current: Entity = serde_json::from_slice(&row.value).map_err(|e| unreadable("entity", e))?;
                let merged = current.evolve(newer)?;
                if merged == current {
                    return Ok(current);
                }
                (merged, Expect::Version(row.version))
            }
            None => match ontology::shipped_entity(&newer.entity) {
                Some(shipped) => (shipped.evolve(newer)?, Expect::Absent),
                None => (newer.clone(), Expect::Absent),
            },
        };
        match store.put(tenant, Table::Entities, newer.entity.as_str(), merged.text().into(), expect).await {
            Ok(_) => return Ok(merged),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
