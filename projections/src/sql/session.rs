//! The catalogue of one query: the given views and a description of them, and nothing else.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
    SchemaProvider,
};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::object_store::{ObjectStoreRegistry, ObjectStoreUrl};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use object_store::ObjectStore;
use url::Url;

use super::bounded::Calls;
use super::deadline::Deadline;
use super::engine::QueryLimits;
use super::footer::FooterCache;
use super::functions;
use super::information::Information;
use super::memory::QueryPool;
use super::planning::{Wanted, watched};
use super::table::ViewTable;
use crate::{FileSnapshot, ViewSnapshot};

pub(super) const CATALOG: &str = "views";
pub(super) const SCHEMA: &str = "public";
const INFORMATION: &str = "information_schema";
/// Threads that work on a query.
const PARTITIONS: usize = 2;

/// What every query's session starts from: functions, planners and options, without any table.
pub(super) struct Sessions {
    template: SessionState,
    footers: Arc<FooterCache>,
    memory_bytes: usize,
    common_memory: Arc<dyn MemoryPool>,
}

/// A query's session.
pub(super) struct QuerySession {
    pub(super) context: SessionContext,
    /// The names of its tables.
    pub(super) tables: HashSet<String>,
    /// To be set to the number of calls that share what the statement may make of a batch.
    pub(super) calls: Calls,
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
        // Money is decimal: `amount = 8.005` means what it says, which a binary number cannot.
        options.sql_parser.parse_float_as_decimal = true;
        // It sets memory aside for as many groups as LIMIT says, before it has seen one.
        options.optimizer.enable_topk_aggregation = false;
        let template = watched(SessionStateBuilder::new())
            .with_config(config)
            .with_runtime_env(Arc::new(RuntimeEnv::default()))
            .with_scalar_functions(functions::scalar_functions())
            .with_aggregate_functions(functions::aggregate_functions())
            .with_window_functions(functions::window_functions())
            .with_expr_planners(functions::planners())
            .build();
        let common_memory = Arc::new(GreedyMemoryPool::new(limits.common_memory_bytes));
        Self { template, footers, memory_bytes: limits.memory_bytes, common_memory }
    }

    /// A session with just the given views, which plans until the deadline.
    pub(super) fn open(&self, views: &[Arc<ViewSnapshot>], deadline: &Arc<Deadline>) -> Result<QuerySession> {
        let public = MemorySchemaProvider::new();
        let mut stores = HashMap::new();
        for (i, view) in views.iter().enumerate() {
            in_one_folder(view)?;
            let url = ObjectStoreUrl::parse(format!("views://{i}/"))?;
            stores.insert(i.to_string(), Arc::clone(&view.store));
            let table = ViewTable::new(Arc::clone(view), Arc::clone(&self.footers), url);
            if public.register_table(view.table.clone(), Arc::new(table))?.is_some() {
                return exec_err!("a view was given twice");
            }
        }
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(SCHEMA, Arc::new(public))?;
        catalog.register_schema(INFORMATION, Arc::new(Information::of(views)))?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.into(), Arc::new(catalog));
        let calls = Calls::default();
        let mut config = self.template.config().clone();
        config.options_mut().extensions.insert(calls.clone());
        config.options_mut().extensions.insert(Wanted(Arc::clone(deadline)));
        let state = SessionStateBuilder::new_from_existing(self.template.clone())
            .with_config(config)
            .with_catalog_list(Arc::new(catalogs))
            .with_runtime_env(self.runtime(stores)?)
            .build();
        let own = views.iter().map(|v| v.table.clone());
        let tables = own.chain(Information::TABLES.map(String::from)).collect();
        Ok(QuerySession { context: SessionContext::new_with_state(state), tables, calls })
    }

    fn runtime(&self, stores: HashMap<String, Arc<dyn ObjectStore>>) -> Result<Arc<RuntimeEnv>> {
        // A query that does not fit in memory fails: disks are for views.
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(QueryPool::new(self.memory_bytes, Arc::clone(&self.common_memory))))
            .with_disk_manager_builder(disk)
            .with_object_store_registry(Arc::new(GivenStores(stores)))
            .build_arc()
    }
}

/// Refuses a view of which a file lies elsewhere than the others: it would be another view's, or another tenant's.
fn in_one_folder(view: &ViewSnapshot) -> Result<()> {
    let folder = |file: &FileSnapshot| file.path.as_ref().rsplit_once('/').map(|(folder, _)| folder.to_owned());
    let mut folders = view.files.iter().map(folder);
    let first = folders.next();
    match folders.all(|folder| Some(folder) == first) {
        true => Ok(()),
        false => exec_err!("a file of a view lies in another folder"),
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
