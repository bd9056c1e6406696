//! The evidence of a case, and what a decision would do, for people.

use pipeline::repair::{Case, Change, Evidence, Mapped, Seen};
use schemas::Position;
use schemas::drift::Verdict;
use serde_json::{Map, Value, json};

use super::{find, read_moves, told};
use crate::cli::DryRunArgs;
use crate::line::{Impact, Line};
use crate::output::Output;

/// Tells the evidence of a case.
pub(super) fn tell(case: &Case, seen: &Evidence, impact: &Impact, out: &mut dyn Output) -> anyhow::Result<()> {
    for view in &impact.views {
        let rows = view.rows.map_or_else(String::new, |rows| format!("; {rows} rows of the stream in it"));
        out.line(&format!("  concerns  {} of the view {}{rows}", view.columns.join(", "), view.view))?;
        for consumer in &view.consumers {
            out.line(&format!("            asked by {}: {}", consumer.by, consumer.statement))?;
        }
    }
    for diff in &seen.diff {
        let what = match diff.change {
            Change::Lost => "lost",
            Change::Retyped => "retyped",
            Change::Added => "added",
        };
        out.line(&format!("  {what:<9} {}: {} before, {} held", diff.path, share(&diff.before), share(&diff.held)))?;
    }
    for row in &seen.before {
        let at = Position { offset: row.offset, ..case.position };
        out.line(&format!("  before    {at} {} → {}", values(&row.source), values(&row.fields)))?;
    }
    for record in &seen.held {
        let at = Position { offset: record.offset, ..case.position };
        out.line(&format!("  held      {at} {}", values(&record.source)))?;
        for (alternative, mapped) in seen.alternatives.iter().zip(&record.mapped) {
            out.line(&format!("              by {}: {}", told(&alternative.to), fate(mapped)))?;
        }
    }
    Ok(())
}

fn share(seen: &Seen) -> String {
    let types: Vec<String> = seen.types.iter().map(|class| format!("{class:?}").to_lowercase()).collect();
    let types = if types.is_empty() { String::new() } else { format!(" ({})", types.join(", ")) };
    format!("in {} of {}{types}", seen.present, seen.records)
}

fn values(values: &Map<String, Value>) -> String {
    let one = |(name, value): (&String, &Value)| format!("{name} = {value}");
    values.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn fate(mapped: &Mapped) -> String {
    match mapped {
        Mapped::Accepted { fields } => values(fields),
        Mapped::Deleted => "a delete".to_owned(),
        Mapped::Held => "held".to_owned(),
        Mapped::Quarantined { reason, field, detail } => {
            format!("{reason} {}: {detail}", field.as_deref().unwrap_or_default())
        }
    }
}

/// Says what a decision would do.
pub(super) async fn dry_run(args: &DryRunArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let (tenant, case) = find(&args.of, line).await?;
    let only = args.only.clone();
    let verdict = match (&args.moves[..], args.removed) {
        ([], false) => Verdict::Approve { only },
        ([], true) => Verdict::AcceptAsRemoved { only },
        (moves, _) => Verdict::Edit { moves: read_moves(moves, &args.transforms)? },
    };
    let run = line.dry_run(tenant, &case, verdict, args.records as usize).await?;
    let run = run.map_err(|reason| anyhow::anyhow!("case {}: {reason}", case.position))?;
    if out.json() {
        let mut value = serde_json::to_value(&run)?;
        value["clean"] = json!(run.is_clean());
        return Ok(out.value(&value)?);
    }
    let aside: usize = run.quarantined.iter().map(|aside| aside.count).sum();
    out.line(&format!(
        "of the last {} held records {} would be rows, {} deletes, {} held on, {aside} set aside",
        run.records, run.accepted, run.deleted, run.held
    ))?;
    for aside in &run.quarantined {
        out.line(&format!("  {} × {} {}", aside.count, aside.reason, aside.field.as_deref().unwrap_or_default()))?;
    }
    for sample in &run.samples {
        let at = Position { offset: sample.offset, ..case.position };
        out.line(&format!("  {at}: {}", fate(&sample.mapped)))?;
    }
    Ok(())
}
