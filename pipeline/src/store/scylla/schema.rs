//! The tables, and how they came to be.
//!
//! `rows` has one partition for the rows of a tenant and a kind, or several where there may be many rows; in it keys are
//! in the order of their bytes, as a scan wants them. Conditional writes to one partition agree one after the other. `queues` is
//! the same for kinds of rows that come and go: what was removed there is forgotten after hours and not after ten days.
//! `chunks` has the parts of values that are too large for a row, by the mark of the write that they belong to.

use std::sync::Arc;

use scylla::client::session::Session;
use scylla::policies::load_balancing::{LoadBalancingPolicy, NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::statement::Statement;

use super::error::{Failed, OpenError};
use super::pauses::again;
use super::settings::Settings;

/// The schema that this build needs.
pub(super) const NEEDED: i32 = 1;

/// What each version adds to the one before. Every statement may be run again.
const MIGRATIONS: [&[&str]; NEEDED as usize] = [&[
    "CREATE TABLE IF NOT EXISTS {keyspace}.rows (
        tenant blob, kind tinyint, bucket smallint, key text,
        version bigint, marks blob, parts int, value blob,
        PRIMARY KEY ((tenant, kind, bucket), key)
    )",
    "CREATE TABLE IF NOT EXISTS {keyspace}.queues (
        tenant blob, kind tinyint, bucket smallint, key text,
        version bigint, marks blob, parts int, value blob,
        PRIMARY KEY ((tenant, kind, bucket), key)
    ) WITH gc_grace_seconds = 14400",
    "CREATE TABLE IF NOT EXISTS {keyspace}.chunks (mark blob, part int, value blob, PRIMARY KEY (mark, part))",
]];

/// Checks the schema, and brings it to what is needed where that is allowed.
pub(super) async fn prepare(session: &Session, settings: &Settings) -> Result<(), OpenError> {
    let keyspace = settings.keyspace.clone();
    let found = again(settings.retry_for(), || version(session, &keyspace)).await;
    let found = found.map_err(|failed| failed.of_opening(&format!("asking for the schema of keyspace {keyspace}")))?;
    match found {
        Some(found) if found > NEEDED => Err(OpenError::NewerSchema { keyspace, found, known: NEEDED }),
        Some(found) if found == NEEDED => Ok(()),
        _ if settings.migrate => migrate(session, settings, found.unwrap_or(0)).await,
        Some(found) => Err(OpenError::OlderSchema { keyspace, found, needed: NEEDED }),
        None => Err(OpenError::MissingKeyspace { keyspace }),
    }
}

/// The schema of a keyspace, 0 for an empty one; nothing where there is no keyspace.
async fn version(session: &Session, keyspace: &str) -> Result<Option<i32>, Failed> {
    let count = |query: &'static str, table: Option<&'static str>| async move {
        let values: Vec<&str> = [Some(keyspace), table].into_iter().flatten().collect();
        let found = session.query_unpaged(query, values).await.map_err(Failed::from)?;
        found.into_rows_result().map(|rows| rows.rows_num()).map_err(|e| Failed::ForGood(e.to_string()))
    };
    if count("SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?", None).await? == 0 {
        return Ok(None);
    }
    let tables = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
    if count(tables, Some("schema_version")).await? == 0 {
        return Ok(Some(0));
    }
    let query = format!("SELECT version FROM {keyspace}.schema_version WHERE one = 'schema'");
    let found = session.query_unpaged(query, ()).await?;
    let rows = found.into_rows_result().map_err(|e| Failed::ForGood(e.to_string()))?;
    let row = rows.maybe_first_row::<(i32,)>().map_err(|e| Failed::ForGood(e.to_string()))?;
    Ok(Some(row.map_or(0, |(version,)| version)))
}

async fn migrate(session: &Session, settings: &Settings, found: i32) -> Result<(), OpenError> {
    let keyspace = &settings.keyspace;
    let replication = settings.replication;
    let make = format!(
        "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = \
         {{'class': 'NetworkTopologyStrategy', 'replication_factor': {replication}}}"
    );
    let table = format!("CREATE TABLE IF NOT EXISTS {keyspace}.schema_version (one text PRIMARY KEY, version int)");
    run(session, settings, &make).await?;
    run(session, settings, &table).await?;
    for (steps, version) in MIGRATIONS.iter().zip(1..).skip(usize::try_from(found).unwrap_or(0)) {
        tracing::info!(keyspace, version, "migrating the store");
        for step in *steps {
            run(session, settings, &step.replace("{keyspace}", keyspace)).await?;
        }
        let written = format!("INSERT INTO {keyspace}.schema_version (one, version) VALUES ('schema', {version})");
        run(session, settings, &written).await?;
    }
    Ok(())
}

/// Runs a statement, and waits until all nodes have the same schema.
async fn run(session: &Session, settings: &Settings, statement: &str) -> Result<(), OpenError> {
    let done = again(settings.retry_for(), || run_once(session, statement)).await;
    done.map_err(|failed| match failed {
        Failed::InPassing(why) => {
            OpenError::NotReady(format!("making or migrating keyspace {}: {why}", settings.keyspace))
        }
        Failed::ForGood(why) => OpenError::Migrate { keyspace: settings.keyspace.clone(), why },
    })
}

async fn run_once(session: &Session, statement: &str) -> Result<(), Failed> {
    let mut statement = Statement::new(statement);
    statement.set_load_balancing_policy(one_node(session));
    session.query_unpaged(statement, ()).await?;
    session.await_schema_agreement().await.map(drop).map_err(|e| Failed::InPassing(e.to_string()))
}

/// The node that is told to make tables, the same for all processes: two nodes of Cassandra that are told to make one table at
/// once make two of that name and agree no more.
fn one_node(session: &Session) -> Option<Arc<dyn LoadBalancingPolicy>> {
    let cluster = session.get_cluster_state();
    let nodes = cluster.get_nodes_info().iter().filter(|node| node.is_connected());
    let node = nodes.min_by_key(|node| node.host_id)?;
    Some(SingleTargetLoadBalancingPolicy::new(NodeIdentifier::Node(node.clone()), None))
}
