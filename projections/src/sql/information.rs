//! What a query can ask about its own tables: their names and columns, in `information_schema`.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use async_trait::async_trait;
use datafusion::catalog::{MemTable, SchemaProvider, TableProvider};
use datafusion::error::Result;

use super::session::{CATALOG, SCHEMA};
use crate::ViewSnapshot;

/// The two tables, made when a statement names them.
#[derive(Debug)]
pub(super) struct Information(Vec<Arc<ViewSnapshot>>);

impl Information {
    pub(super) const TABLES: [&str; 2] = ["tables", "columns"];

    pub(super) fn of(views: &[Arc<ViewSnapshot>]) -> Self {
        Self(views.to_vec())
    }
}

#[async_trait]
impl SchemaProvider for Information {
    fn table_names(&self) -> Vec<String> {
        Self::TABLES.map(String::from).to_vec()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let batch = match name {
            "tables" => tables(&self.0)?,
            "columns" => columns(&self.0)?,
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        Self::TABLES.contains(&name)
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
