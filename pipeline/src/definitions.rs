//! Tenants and entity definitions, as `Store` holds them.

use schemas::entity::InvalidEntity;
use schemas::{Entity, EntityName, TenantId, TenantName, ontology};

use crate::step::DEFINITION_BYTES_MAX;
use crate::store::{Expect, Row, Store, StoreError, Table};

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
    /// Two entities cannot fill one table.
    #[error("the table {table} is filled by the entity {owner}: choose another name for the table of {entity}")]
    TableTaken {
        /// The table.
        table: EntityName,
        /// Who has it.
        owner: EntityName,
        /// Who wants it.
        entity: EntityName,
    },
    /// Nobody writes a definition of this size.
    #[error("the definition of entity {0} is longer than {DEFINITION_BYTES_MAX} bytes")]
    TooLong(EntityName),
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

/// The entity's definition in force for a tenant: its own with what the shipped one has more by now, else the shipped one.
pub async fn entity(store: &dyn Store, tenant: TenantId, name: &EntityName) -> Result<Option<Entity>, DefinitionError> {
    let Some(row) = store.get(tenant, Table::Entities, name.as_str()).await? else {
        return Ok(ontology::shipped_entity(name));
    };
    in_force(name, &row).map(Some)
}

/// Every entity that a tenant has: the shipped ones, and its own.
pub async fn entities(store: &dyn Store, tenant: TenantId) -> Result<Vec<Entity>, DefinitionError> {
    let mut all = ontology::shipped_entities();
    let mut after: Option<String> = None;
    loop {
        let rows = store.scan(tenant, Table::Entities, "", after.as_deref(), 1000).await?;
        let Some((last, _)) = rows.last() else { return Ok(all) };
        after = Some(last.clone());
        for (name, row) in &rows {
            let name = EntityName::new(name).map_err(|e| unreadable("entity", e))?;
            let own = in_force(&name, row)?;
            match all.iter_mut().find(|entity| entity.entity == name) {
                Some(shipped) => *shipped = own,
                None => all.push(own),
            }
        }
    }
}

fn in_force(name: &EntityName, row: &Row) -> Result<Entity, DefinitionError> {
    let own: Entity = serde_json::from_slice(&row.value).map_err(|e| unreadable("entity", e))?;
    let Some(shipped) = ontology::shipped_entity(name) else { return Ok(own) };
    // What a tenant made of it that a later release does not fit to stays the tenant's.
    Ok(own.evolve(&shipped).unwrap_or(own))
}

/// Makes the entity's table its own, before its first use.
pub async fn claim_table(store: &dyn Store, tenant: TenantId, entity: &Entity) -> Result<(), DefinitionError> {
    let taken = |owner: EntityName| {
        let (table, entity) = (entity.table.clone(), entity.entity.clone());
        Err(DefinitionError::TableTaken { table, owner, entity })
    };
    let is_same = |other: &Entity| other.table == entity.table && other.entity != entity.entity;
    if let Some(shipped) = ontology::shipped_entities().into_iter().find(is_same) {
        return taken(shipped.entity);
    }
    loop {
        let key = entity.table.as_str();
        if let Some(row) = store.get(tenant, Table::TableNames, key).await? {
            let owner: EntityName = serde_json::from_slice(&row.value).map_err(|e| unreadable("table's owner", e))?;
            return if owner == entity.entity { Ok(()) } else { taken(owner) };
        }
        let value = serde_json::to_vec(&entity.entity).map_err(|e| unreadable("table's owner", e))?;
        match store.put(tenant, Table::TableNames, key, value.into(), Expect::Absent).await {
            Ok(_) => return Ok(()),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Puts a definition in force, merged with the one that is: fields are only ever added. Answers what is in force now.
pub async fn define_entity(store: &dyn Store, tenant: TenantId, newer: &Entity) -> Result<Entity, DefinitionError> {
    newer.validate()?;
    loop {
        let row = store.get(tenant, Table::Entities, newer.entity.as_str()).await?;
        let (merged, expect) = match &row {
            Some(row) => {
                let current = in_force(&newer.entity, row)?;
                let merged = current.evolve(newer)?;
                if merged.text().as_bytes() == row.value {
                    return Ok(merged);
                }
                (merged, Expect::Version(row.version))
            }
            None => match ontology::shipped_entity(&newer.entity) {
                Some(shipped) => (shipped.evolve(newer)?, Expect::Absent),
                None => (newer.clone(), Expect::Absent),
            },
        };
        let text = merged.text();
        if text.len() > DEFINITION_BYTES_MAX {
            return Err(DefinitionError::TooLong(newer.entity.clone()));
        }
        claim_table(store, tenant, &merged).await?;
        match store.put(tenant, Table::Entities, newer.entity.as_str(), text.into(), expect).await {
            Ok(_) => return Ok(merged),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use crate::testing::{ENTITY, TENANT};

    fn entity_of(text: &str) -> Entity {
        serde_json::from_str(text).unwrap()
    }

    #[tokio::test]
    async fn two_entities_never_fill_one_table() {
        let store = MemoryStore::new();
        define_entity(&store, TENANT, &entity_of(ENTITY)).await.unwrap();
        define_entity(&store, TENANT, &entity_of(ENTITY)).await.unwrap();
        let second = entity_of(&ENTITY.replace("\"order\"", "\"bill\""));
        let refused = define_entity(&store, TENANT, &second).await.unwrap_err().to_string();
        assert!(refused.contains("the table orders is filled by the entity order"), "{refused}");
        assert!(entity(&store, TENANT, &second.entity).await.unwrap().is_none(), "nothing of it is in force");
        let other = TenantId::from_bytes([2; 16]);
        define_entity(&store, other, &second).await.unwrap();
    }

    #[tokio::test]
    async fn the_tables_of_shipped_entities_are_theirs_before_they_are_used() {
        let store = MemoryStore::new();
        let shipped = &ontology::shipped_entities()[0];
        let text = ENTITY.replace("\"orders\"", &format!("\"{}\"", shipped.table));
        let refused = define_entity(&store, TENANT, &entity_of(&text)).await;
        assert!(matches!(refused, Err(DefinitionError::TableTaken { .. })));
    }

    #[tokio::test]
    async fn what_a_later_release_ships_reaches_tenants_that_have_a_definition() {
        let store = MemoryStore::new();
        let shipped = ontology::shipped_entities().swap_remove(0);
        let mut older = shipped.clone();
        let added = older.fields.pop().unwrap();
        assert!(!added.required);
        let value = older.text().into();
        store.put(TENANT, Table::Entities, older.entity.as_str(), value, Expect::Any).await.unwrap();
        let found = entity(&store, TENANT, &older.entity).await.unwrap().unwrap();
        assert_eq!(found.fields.last(), Some(&added));
    }

    #[tokio::test]
    async fn a_field_is_added_and_a_change_of_type_is_refused() {
        let store = MemoryStore::new();
        define_entity(&store, TENANT, &entity_of(ENTITY)).await.unwrap();
        let more = ENTITY.replace("]}", r#",{"name":"note","type":"text"}]}"#);
        assert_eq!(define_entity(&store, TENANT, &entity_of(&more)).await.unwrap().fields.len(), 3);
        assert_eq!(define_entity(&store, TENANT, &entity_of(ENTITY)).await.unwrap().fields.len(), 3);
        let changed = ENTITY.replace("decimal", "text");
        assert!(matches!(define_entity(&store, TENANT, &entity_of(&changed)).await, Err(DefinitionError::Invalid(_))));
    }

    #[tokio::test]
    async fn a_tenant_is_made_once() {
        let store = MemoryStore::new();
        let name: TenantName = "acme".parse().unwrap();
        assert_eq!(find_tenant(&store, &name).await.unwrap(), None);
        let id = ensure_tenant(&store, &name).await.unwrap();
        assert_eq!(ensure_tenant(&store, &name).await.unwrap(), id);
        assert_eq!(tenants(&store).await.unwrap(), [(name, id)]);
    }
}
