//! `/api/v1/log`: a range of one's own log.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{Enum, Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::{Signed, Tag};
use crate::auth::AuthError;
use crate::http::Doors;
use crate::http::problem::Problem;
use crate::http::time;
use crate::line::{EntityFields, Item};

const LIMIT: u32 = 100;
const READ_BYTES: usize = 256 << 10;
/// Bytes of packed batches, others' too, that one request goes through at most.
const SCAN_BYTES_MAX: usize = 16 << 20;

/// A topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
enum Topic {
    /// What came in: records, commands, definitions.
    Inputs,
    /// What changes views.
    Events,
    /// Everything else that was decided.
    Decisions,
}

/// An item of the log.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct LogItem {
    /// Where it stands.
    position: String,
    /// When the log took it.
    logged_at: String,
    /// Its stream: `connection/stream`.
    stream: Option<String>,
    /// Its entity.
    entity: Option<String>,
    /// What it says: a CloudEvent, or the input.
    item: Any<serde_json::Value>,
}

/// A page of the log.
#[derive(Debug, Object)]
struct LogPage {
    /// The items.
    items: Vec<LogItem>,
    /// Goes on behind them, also when there is nothing more yet.
    next: String,
    /// Whether the end was reached.
    at_end: bool,
}

/// Where a reader is.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    topic: String,
    epoch: u32,
    partition: u32,
    offset: u64,
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
        /// The `next` of the page before.
        #[oai(validator(max_length = 1024))]
        cursor: Query<Option<String>>,
    ) -> Result<Json<LogPage>, Problem> {
        if caller.is_bound() {
            return Err(AuthError::OtherConnection("all of them".into()).into());
        }
        let topic = match topic.0.unwrap_or(Topic::Events) {
            Topic::Inputs => schemas::Topic::Inputs,
            Topic::Events => schemas::Topic::Events,
            Topic::Decisions => schemas::Topic::Decisions,
        };
        let purpose = format!("{}/log", caller.tenant);
        let log = &*doors.line.log;
        let start = Place { topic: topic.name().into(), epoch: log.epoch(topic), partition: 0, offset: 0 };
        let mut place = match super::open_key(&doors, &purpose, cursor.0.as_deref())? {
            Some(text) => serde_json::from_str(&text).map_err(Problem::internal)?,
            None => start,
        };
        if place.topic != topic.name() || place.epoch != log.epoch(topic) {
            return Err(Problem::invalid("this cursor belongs to another topic: begin without one"));
        }
        let limit = limit.0.unwrap_or(LIMIT) as usize;
        let (mut items, mut fields, mut scanned, mut at_end) = (Vec::new(), EntityFields::default(), 0, false);
        while items.len() < limit && scanned < SCAN_BYTES_MAX {
            let batches = log.read(topic, place.partition, place.offset, READ_BYTES).await?;
            if batches.is_empty() {
                if place.partition + 1 >= log.partitions(topic) {
                    at_end = true;
                    break;
                }
                (place.partition, place.offset) = (place.partition + 1, 0);
                continue;
            }
            for stored in batches {
                scanned += stored.packed.packed_bytes();
                if stored.header().tenant == caller.tenant {
                    let found = doors.line.items(topic, place.partition, &stored, place.offset, &mut fields).await;
                    let found = found.map_err(|e| Problem::internal(format!("{e:#}")))?;
                    let left = limit - items.len();
                    if found.len() > left {
                        place.offset = found[left].position.offset;
                        items.extend(found.into_iter().take(left).map(shape));
                        break;
                    }
                    items.extend(found.into_iter().map(shape));
                }
                place.offset = stored.end();
            }
        }
        let next = doors.seal.close(&purpose, &serde_json::to_vec(&place).map_err(Problem::internal)?);
        Ok(Json(LogPage { items, next, at_end }))
    }
}

fn shape(item: Item) -> LogItem {
    let Item { position, logged_at, stream, entity, body, .. } = item;
    LogItem { position: position.to_string(), logged_at: time::of_micros(logged_at), stream, entity, item: Any(body) }
}
