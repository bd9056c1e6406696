//! `/api/v1/log`: a range of one's own log.

use std::sync::Arc;

use pipeline::LogError;
use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{Enum, Object, OpenApi};

use super::{Signed, Tag};
use crate::auth::AuthError;
use crate::http::Doors;
use crate::http::problem::Problem;
use crate::http::time;
use crate::line::Item;

const LIMIT: u32 = 100;
/// Bytes of packed batches, others' too, that one request goes through at most.
const SCAN_BYTES_MAX: usize = 16 << 20;

/// A topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub enum Topic {
    /// What came in: records, commands, definitions.
    Inputs,
    /// What changes views.
    Events,
    /// Everything else that was decided.
    Decisions,
}

impl Topic {
    fn of_log(self) -> schemas::Topic {
        match self {
            Self::Inputs => schemas::Topic::Inputs,
            Self::Events => schemas::Topic::Events,
            Self::Decisions => schemas::Topic::Decisions,
        }
    }
}

/// An item of the log.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct LogItem {
    /// Where it stands.
    pub position: String,
    /// When the log took it.
    pub logged_at: String,
    /// Its stream: `connection/stream`.
    pub stream: Option<String>,
    /// Its entity.
    pub entity: Option<String>,
    /// What it says: a CloudEvent, or the input.
    pub item: Any<serde_json::Value>,
}

/// A page of the log.
#[derive(Debug, Object)]
pub struct LogPage {
    /// The items.
    pub items: Vec<LogItem>,
    /// Goes on behind them, also when there is nothing more yet.
    pub next: String,
    /// Whether the end was reached.
    pub at_end: bool,
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/log", tag = "Tag::Log")]
impl Routes {
    /// Read one's own log, a topic at a time, partition by partition, each in its order.
    #[oai(path = "/", method = "get", operation_id = "read_log")]
    async fn read(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        /// The topic.
        topic: Query<Option<Topic>>,
        /// Items at most.
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<Option<u32>>,
        /// From this offset of each partition on.
        from: Query<Option<u64>>,
        /// The `next` of the page before.
        #[oai(validator(max_length = 1024))]
        cursor: Query<Option<String>>,
    ) -> Result<Json<LogPage>, Problem> {
        if caller.is_bound() {
            return Err(AuthError::OtherConnection("all of them".into()).into());
        }
        let topic = topic.0.unwrap_or(Topic::Events).of_log();
        let purpose = format!("{}/log", caller.tenant);
        let mut place = match super::open_key(&doors, &purpose, cursor.0.as_deref())? {
            Some(text) => serde_json::from_str(&text).map_err(Problem::internal)?,
            None => doors.line.begin_reading(topic, from.0.unwrap_or(0)),
        };
        let limit = limit.0.unwrap_or(LIMIT) as usize;
        let read = doors.line.read_items(caller.tenant, topic, &mut place, limit, SCAN_BYTES_MAX).await;
        let (items, at_end) = read
            .map_err(unread)?
            .ok_or_else(|| Problem::invalid("this cursor belongs to another topic: begin without one"))?;
        let next = doors.seal.close(&purpose, &serde_json::to_vec(&place).map_err(Problem::internal)?);
        Ok(Json(LogPage { items: items.into_iter().map(shape).collect(), next, at_end }))
    }
}

fn unread(error: anyhow::Error) -> Problem {
    match error.downcast::<LogError>() {
        Ok(error) => error.into(),
        Err(error) => Problem::internal(format!("{error:#}")),
    }
}

/// An item as it is shown.
pub fn shape(item: Item) -> LogItem {
    let Item { position, logged_at, stream, entity, body, .. } = item;
    LogItem { position: position.to_string(), logged_at: time::of_micros(logged_at), stream, entity, item: Any(body) }
}
