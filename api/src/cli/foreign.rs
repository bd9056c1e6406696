//! `quarantine foreign`: messages on the log's servers that are none of the line's.

use pipeline::quarantine::{list_foreign, see_foreign};
use serde_json::{Value, json};

use super::ForeignArgs;
use crate::http::time;
use crate::line::Line;
use crate::output::Output;

/// Lists their notes, or notes of all that they were seen to.
pub async fn run(args: &ForeignArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    if args.seen {
        let seen = see_foreign(&*line.store).await?;
        match out.json() {
            true => out.value(&json!({ "seen": seen }))?,
            false => out.line(&format!("{seen} messages are noted as seen to"))?,
        }
        return Ok(());
    }
    // One more than asked for tells whether there are more.
    let mut notes = list_foreign(&*line.store, args.after.as_deref(), args.limit + 1).await?;
    let is_more = notes.len() > args.limit;
    notes.truncate(args.limit);
    let next = notes.last().filter(|_| is_more).map(|(key, _)| key.clone());
    let row = |(_, note): (String, pipeline::quarantine::ForeignNote)| -> Vec<Value> {
        vec![
            json!(note.topic.name()),
            json!(note.epoch),
            json!(note.partition),
            json!(note.message),
            json!(note.next),
            json!(note.why),
            json!(time::of_micros(note.logged_at)),
            json!(note.is_seen),
        ]
    };
    let rows: Vec<_> = notes.into_iter().map(row).collect();
    let columns = ["topic", "epoch", "partition", "message", "before_item", "detail", "logged_at", "seen"];
    out.table(&columns, &rows)?;
    match next {
        Some(next) if out.json() => out.value(&json!({ "more": true, "after": next }))?,
        Some(next) => out.line(&format!("there are more: go on with --after {next}"))?,
        None => {}
    }
    Ok(())
}
