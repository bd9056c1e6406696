//! `log`: its ends, and its items as CloudEvents.

use poem_openapi::types::Any;
use schemas::Topic;
use serde_json::{Value, json};

use super::CatArgs;
use super::backend::Backend;
use crate::http::routes::log::LogItem;
use crate::line::Line;
use crate::output::Output;

/// Items of the log that are asked for at once.
const PAGE: usize = 1_000;

/// Shows where each partition ends.
pub async fn ends(line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for topic in Topic::ALL {
        for partition in 0..line.log.partitions(topic) {
            let end = line.log.end(topic, partition).await?;
            rows.push(vec![json!(topic.name()), json!(partition), json!(line.log.epoch(topic)), json!(end)]);
        }
    }
    Ok(out.table(&["topic", "partition", "epoch", "end"], &rows)?)
}

/// Shows the streams of each with their counters.
pub async fn stat<B: Backend>(of: &[B], out: &mut dyn Output) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for backend in of {
        for stream in backend.streams().await? {
            let c = stream.counts;
            rows.push(vec![
                json!(backend.tenant()),
                json!(stream.stream),
                json!(stream.entity),
                json!(c.taken),
                json!(c.accepted),
                json!(c.deleted),
                json!(c.quarantined),
                json!(c.discarded),
                json!(c.held),
                json!(c.duplicate),
                json!(stream.mapping_version),
                json!(stream.fingerprint),
                json!(stream.missing),
            ]);
        }
    }
    let columns = [
        "tenant",
        "stream",
        "entity",
        "in",
        "accepted",
        "deleted",
        "quarantined",
        "discarded",
        "held",
        "duplicate",
        "mapping_version",
        "fingerprint",
        "missing",
    ];
    Ok(out.table(&columns, &rows)?)
}

/// Prints items of the log, one a line.
pub async fn cat(args: &CatArgs, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let topic: Topic = args.topic.parse().map_err(anyhow::Error::msg)?;
    let (mut left, mut after) = (args.limit, None::<String>);
    while left > 0 {
        let page = of.log(topic, args.from, after.as_deref(), left.min(PAGE)).await?;
        left = left.saturating_sub(page.items.len());
        for item in page.items {
            out.value(&shown(topic, item))?;
        }
        if page.at_end {
            break;
        }
        after = Some(page.next);
    }
    Ok(())
}

/// An item as it is printed: a CloudEvent says itself where it stands, an input is told.
fn shown(topic: Topic, item: LogItem) -> Value {
    let LogItem { position, stream, item: Any(mut item), .. } = item;
    if let (Topic::Inputs, Some(object)) = (topic, item.as_object_mut()) {
        object.insert("position".into(), json!(position));
        object.insert("stream".into(), json!(stream));
    }
    item
}
