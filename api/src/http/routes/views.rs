//! `/api/v1/dcl/views`: what a tenant's views are and the rows in them.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use poem::Request;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Enum, Object, OpenApi};
use projections::ViewSnapshot;
use projections::sql::RowsPage;
use projections::sql::rows::ROW_KEY;
use projections::view::TableInfo;
use serde::{Deserialize, Serialize};

use super::{Signed, Tag};
use crate::auth::{Caller, Who};
use crate::http::Doors;
use crate::http::answer::{Rows, accepted};
use crate::http::manners::trace;
use crate::http::problem::Problem;
use crate::line::{Asking, ViewStatus};

const LIMIT: u32 = 100;

/// A view.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct ViewInfo {
    /// The table that SQL asks.
    pub name: String,
    /// What its rows are.
    pub entity: String,
    /// Rows in it; absent, like every figure, when the view cannot be opened, and for a key that is bound to connections.
    pub rows: Option<u64>,
    /// Rows that are not yet in its files.
    pub tail_rows: Option<u64>,
    /// Its files.
    pub files: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
    /// Bytes that it holds in memory.
    pub memory_bytes: Option<u64>,
    /// How far on its partition of `events` it is.
    pub position: Option<String>,
    /// Why it takes no more events, if it does not.
    pub stopped: Option<String>,
}

/// A tenant's views.
#[derive(Debug, Object)]
pub struct ViewList {
    /// The views.
    pub views: Vec<ViewInfo>,
}

/// A column.
#[derive(Debug, Object)]
pub struct ColumnInfo {
    /// Its name. System columns begin with `_`.
    pub name: String,
    /// Its type as Arrow names it.
    #[oai(rename = "type")]
    pub data_type: String,
}

/// A view's columns.
#[derive(Debug, Object)]
pub struct ViewColumns {
    /// The table that SQL asks.
    pub name: String,
    /// The columns.
    pub columns: Vec<ColumnInfo>,
    /// How far on its partition of `events` it is.
    pub position: String,
}

/// Which rows come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
enum Direction {
    /// The least.
    Asc,
    /// The greatest.
    Desc,
}

/// What a cursor holds: what was asked, and the last row given.
#[derive(Debug, Serialize, Deserialize)]
struct Cursor {
    asked: String,
    value: Option<String>,
    key: [String; 3],
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/dcl/views", tag = "Tag::Views")]
impl Routes {
    /// List the views.
    #[oai(path = "/", method = "get", operation_id = "list_views")]
    async fn list(&self, doors: Data<&Arc<Doors>>, Signed(caller): Signed) -> Result<Json<ViewList>, Problem> {
        let views = doors.line.views(caller.tenant).await.map_err(Problem::internal)?;
        let views = views.into_iter().map(info);
        let views = match caller.is_bound() {
            true => views.map(without_figures).collect(),
            false => views.collect(),
        };
        Ok(Json(ViewList { views }))
    }

    /// Describe a view: its columns and their types.
    #[oai(path = "/:view", method = "get", operation_id = "describe_view")]
    async fn describe(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        view: Path<String>,
    ) -> Result<Json<ViewColumns>, Problem> {
        let snapshot = pinned(&doors, &caller, &view).await?;
        Ok(Json(columns(&snapshot)))
    }

    /// Read a view's rows, page by page, in JSON, CSV, Arrow or Parquet by Accept. A page begins behind the last row of
    /// the one before, whatever has changed meanwhile.
    #[oai(path = "/:view/rows", method = "get", operation_id = "read_rows")]
    #[allow(clippy::too_many_arguments)]
    async fn rows(
        &self,
        doors: Data<&Arc<Doors>>,
        request: &Request,
        Signed(caller): Signed,
        view: Path<String>,
        /// Rows at most.
        #[oai(validator(minimum(value = "1"), maximum(value = "10000")))]
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        #[oai(validator(max_length = 8192))]
        cursor: Query<Option<String>>,
        /// The column to order by.
        #[oai(validator(max_length = 128))]
        order_by: Query<Option<String>>,
        /// Which rows come first.
        direction: Query<Option<Direction>>,
        /// `column:operator:value`, several times; operators: eq, ne, lt, lte, gt, gte, in, starts_with, contains, is_null, not_null.
        filter: Query<Vec<String>>,
        /// Only these columns, divided by commas.
        #[oai(validator(max_length = 4096))]
        columns: Query<Option<String>>,
        /// A position that a write answered: wait until the rows show it.
        #[oai(validator(max_length = 64))]
        min_position: Query<Option<String>>,
    ) -> Result<Rows, Problem> {
        let format = accepted(request.header("accept"))?;
        super::wait_for(&doors, min_position.0.as_deref()).await?;
        let snapshot = pinned(&doors, &caller, &view).await?;
        let mut page = RowsPage {
            columns: columns.0.map(|c| c.split(',').map(str::to_owned).collect()).unwrap_or_default(),
            filters: filter.0,
            order: order_by.0,
            descending: direction.0 == Some(Direction::Desc),
            after: None,
            limit: limit.0.unwrap_or(LIMIT) as usize,
        };
        if let Who::Key { connections, .. } = &caller.who
            && !connections.is_empty()
        {
            page.filters.push(format!("_connection:in:{}", connections.join(",")));
        }
        let asked = asked(&page);
        let purpose = format!("{}/rows/{}", caller.tenant, snapshot.table);
        page.after = match &cursor.0 {
            Some(text) => Some(open_cursor(&doors, &purpose, &asked, text)?),
            None => None,
        };
        let sql = page.to_sql(&snapshot.table, &snapshot.schema).map_err(|e| Problem::invalid(e.to_string()))?;
        let asking = Asking { id: None, by: caller.label(), sql: sql.clone(), trace: trace::on_log() };
        let turn = doors.line.turn_to_ask(caller.tenant, asking).await?;
        let result = turn.ask(&doors.line.queries, vec![snapshot], &sql).await?;
        let schema = result.schema;
        let batches: Vec<RecordBatch> = result.batches.try_collect().await?;
        let next = next_cursor(&doors, &purpose, asked, &page, &batches);
        Rows::page(&batches, schema, format, next.as_deref())
    }
}

/// A view as it is shown.
pub fn info(view: ViewStatus) -> ViewInfo {
    let stopped = view.stopped();
    let known = view.info.as_ref().ok();
    let figure = |of: fn(&TableInfo) -> u64| known.map(of);
    ViewInfo {
        rows: figure(|i| i.rows as u64),
        tail_rows: figure(|i| i.tail_rows as u64),
        files: figure(|i| i.files as u64),
        bytes: figure(|i| i.bytes),
        memory_bytes: figure(|i| i.memory_bytes as u64),
        position: known.map(|i| i.position.to_string()),
        name: view.table,
        entity: view.entity.to_string(),
        stopped,
    }
}

/// A view without what would tell of connections that a key is not for.
fn without_figures(view: ViewInfo) -> ViewInfo {
    ViewInfo { rows: None, tail_rows: None, files: None, bytes: None, memory_bytes: None, ..view }
}

/// A view's columns as they are shown.
pub fn columns(view: &ViewSnapshot) -> ViewColumns {
    let column = |field: &Arc<arrow::datatypes::Field>| ColumnInfo {
        name: field.name().clone(),
        data_type: field.data_type().to_string(),
    };
    let columns = view.schema.fields().iter().map(column).collect();
    ViewColumns { name: view.table.clone(), columns, position: view.position.to_string() }
}

/// The view of that name, pinned now. Another tenant's is not found, as one that does not exist.
async fn pinned(doors: &Doors, caller: &Caller, view: &str) -> Result<Arc<ViewSnapshot>, Problem> {
    let snapshots = doors.line.snapshots(caller.tenant, view).await.map_err(Problem::of_views)?;
    snapshots.into_iter().find(|s| s.table == view).ok_or_else(|| Problem::not_found("view"))
}

/// What a cursor is good for: the same question.
fn asked(page: &RowsPage) -> String {
    let parts = (&page.columns, &page.filters, &page.order, page.descending);
    crate::auth::secret::hash(&serde_json::to_string(&parts).unwrap_or_default())
}

fn open_cursor(
    doors: &Doors,
    purpose: &str,
    asked: &str,
    text: &str,
) -> Result<(Option<String>, [String; 3]), Problem> {
    let opened = doors.seal.open(purpose, text).and_then(|bytes| serde_json::from_slice::<Cursor>(&bytes).ok());
    let cursor = opened.ok_or_else(|| Problem::invalid("this cursor is none of ours: begin without one"))?;
    if cursor.asked != asked {
        return Err(Problem::invalid("this cursor belongs to another question: keep filters, order and columns"));
    }
    Ok((cursor.value, cursor.key))
}

fn next_cursor(
    doors: &Doors,
    purpose: &str,
    asked: String,
    page: &RowsPage,
    batches: &[RecordBatch],
) -> Option<String> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let last = batches.iter().rev().find(|b| b.num_rows() > 0).filter(|_| rows == page.limit)?;
    let row = last.num_rows() - 1;
    let key = ROW_KEY.map(|name| value(last, name, row).unwrap_or_default());
    let value = page.order.as_ref().and_then(|name| value(last, name, row));
    let cursor = serde_json::to_vec(&Cursor { asked, value, key }).ok()?;
    Some(doors.seal.close(purpose, &cursor))
}

/// A value as `RowsPage` reads it again.
fn value(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    let column = batch.column_by_name(name).filter(|column| column.is_valid(row))?;
    match column.data_type() {
        DataType::Utf8View => Some(column.as_string_view().value(row).to_owned()),
        DataType::Timestamp(..) => {
            let micros = arrow::compute::cast(column, &DataType::Int64).ok()?;
            let micros = micros.as_primitive::<arrow::datatypes::Int64Type>().value(row);
            Some(schemas::time::format_timestamp(micros))
        }
        _ => Some(ArrayFormatter::try_new(column, &FormatOptions::default()).ok()?.value(row).to_string()),
    }
}
