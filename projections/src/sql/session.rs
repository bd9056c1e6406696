//! The catalogue of one query: the given views and a description of them, and nothing else.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemTable, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider, SchemaProvider,
};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::object_store::{ObjectStoreRegistry, ObjectStoreUrl};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use object_store::ObjectStore;
use url::Url;

use super::engine::QueryLimits;
use super::footer::FooterCache;
use super::functions;
use super::table::ViewTable;
use crate::ViewSnapshot;

const CATALOG: &str = "views";
const SCHEMA: &str = "public";
const INFORMATION: &str = "information_schema";
/// Threads that work on a query.
const PARTITIONS: usize = 2;

/// What every query's session starts from: functions, planners and options, without any table.
pub(super) struct Sessions {
    template: SessionState,
    footers: Arc<FooterCache>,
    memory_bytes: usize,
}

/// A query's session and the names of its tables.
pub(super) struct QuerySession {
    pub(super) context: SessionContext,
    pub(super) tables: HashSet<String>,
}

impl Sessions {
    pub(super) fn new(limits: &QueryLimits, footers: Arc<FooterCache>) -> Self {
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(false)
            .with_target_partitions(PARTITIONS);
        let options = config.options_mut();
        options.execution.enable_recursive_ctes = false;
        // Results of a text column keep the view's own type.
        options.execution.parquet.schema_force_view_types = false;
        let template = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::new(RuntimeEnv::default()))
            .with_scalar_functions(functions::scalar_functions())
            .with_aggregate_functions(functions::aggregate_functions())
            .with_window_functions(functions::window_functions())
            .with_expr_planners(functions::planners())
            .build();
        Self { template, footers, memory_bytes: limits.memory_bytes }
    }

    /// A session with just the given views.
    pub(super) fn open(&self, views: &[Arc<ViewSnapshot>]) -> Result<QuerySession> {
        let public = MemorySchemaProvider::new();
        let mut stores = HashMap::new();
        for (i, view) in views.iter().enumerate() {
            let url = ObjectStoreUrl::parse(format!("views://{i}/"))?;
            stores.insert(i.to_string(), Arc::clone(&view.store));
            let table = ViewTable::new(Arc::clone(view), Arc::clone(&self.footers), url);
            if public.register_table(view.table.clone(), Arc::new(table))?.is_some() {
                return exec_err!("a view was given twice");
            }
        }
        let information = MemorySchemaProvider::new();
        for (name, batch) in [("tables", tables(views)?), ("columns", columns(views)?)] {
            let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
            information.register_table(name.into(), Arc::new(table))?;
        }
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(SCHEMA, Arc::new(public))?;
        catalog.register_schema(INFORMATION, Arc::new(information))?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.into(), Arc::new(catalog));
        let state = SessionStateBuilder::new_from_existing(self.template.clone())
            .with_catalog_list(Arc::new(catalogs))
            .with_runtime_env(self.runtime(stores)?)
            .build();
        let own = views.iter().map(|v| v.table.clone());
        let tables = own.chain(["tables".into(), "columns".into()]).collect();
        Ok(QuerySession { context: SessionContext::new_with_state(state), tables })
    }

    fn runtime(&self, stores: HashMap<String, Arc<dyn ObjectStore>>) -> Result<Arc<RuntimeEnv>> {
        // A query that does not fit in memory fails: disks are for views.
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(self.memory_bytes)))
            .with_disk_manager_builder(disk)
            .with_object_store_registry(Arc::new(GivenStores(stores)))
            .build_arc()
    }
}

/// The stores of the given views; there are no others, and none can be added.
#[derive(Debug)]
struct GivenStores(HashMap<String, Arc<dyn ObjectStore>>);

impl ObjectStoreRegistry for GivenStores {
    fn register_store(&self, _: &Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        match url.host_str().and_then(|host| self.0.get(host)) {
            Some(store) if url.scheme() == "views" => Ok(Arc::clone(store)),
            _ => exec_err!("no such store"),
        }
    }
}

fn tables(views: &[Arc<ViewSnapshot>]) -> Result<RecordBatch> {
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(views.iter().map(|v| &v.table)));
    let same = |text: &str| Arc::new(StringArray::from_iter_values(views.iter().map(|_| text))) as ArrayRef;
    Ok(RecordBatch::try_from_iter([
        ("table_catalog", same(CATALOG)),
        ("table_schema", same(SCHEMA)),
        ("table_name", names),
        ("table_type", same("VIEW")),
    ])?)
}

fn columns(views: &[Arc<ViewSnapshot>]) -> Result<RecordBatch> {
    let all: Vec<_> = views
        .iter()
        .flat_map(|v| v.schema.fields().iter().enumerate().map(move |(i, field)| (&v.table, i as u64 + 1, field)))
        .collect();
    let text = |values: Vec<String>| Arc::new(StringArray::from(values)) as ArrayRef;
    let same = |value: &str| Arc::new(StringArray::from_iter_values(all.iter().map(|_| value))) as ArrayRef;
    let nullable = |null: bool| if null { "YES" } else { "NO" };
    Ok(RecordBatch::try_from_iter([
        ("table_catalog", same(CATALOG)),
        ("table_schema", same(SCHEMA)),
        ("table_name", text(all.iter().map(|(table, _, _)| table.to_string()).collect())),
        ("column_name", text(all.iter().map(|(_, _, f)| f.name().clone()).collect())),
        ("ordinal_position", Arc::new(UInt64Array::from_iter_values(all.iter().map(|(_, i, _)| *i))) as ArrayRef),
        ("data_type", text(all.iter().map(|(_, _, f)| f.data_type().to_string()).collect())),
        ("is_nullable", text(all.iter().map(|(_, _, f)| nullable(f.is_nullable()).into()).collect())),
    ])?)
}
