//! The evidence of a case, and what a decision would do, for people.

use poem_openapi::types::ToJSON;
use schemas::drift::Verdict;

use super::{read_moves, told};
use crate::cli::DryRunArgs;
use crate::cli::backend::Backend;
use crate::http::routes::cases::evidence::{DryRunInfo, EvidenceInfo, MappedInfo, SeenInfo, SpreadInfo, Values};
use crate::output::Output;

/// Tells the evidence of a case.
pub(super) fn tell(seen: &EvidenceInfo, out: &mut dyn Output) -> anyhow::Result<()> {
    for view in &seen.impact.views {
        let rows = view.rows.map_or_else(String::new, |rows| format!("; {rows} rows of the stream in it"));
        out.tell(&format!("  concerns  {} of the view {}{rows}", view.columns.join(", "), view.view))?;
        for consumer in &view.consumers {
            let statement = consumer.statement.as_deref().unwrap_or("a statement of their own");
            out.tell(&format!("            asked by {}: {statement}", consumer.by))?;
        }
    }
    for diff in &seen.schema_diff {
        let (what, before, held) = (&diff.change, share(&diff.before), share(&diff.held));
        out.tell(&format!("  {what:<9} {}: {before} before, {held} held", diff.path))?;
        let spreads = [(&diff.numbers_before, "before"), (&diff.numbers_held, "held"), (&diff.numbers_ever, "of all")];
        for (SpreadInfo { p05, p50, p95 }, when) in
            spreads.into_iter().filter_map(|(s, when)| Some((s.as_ref()?, when)))
        {
            out.tell(&format!("            numbers {when:<6} 5 % below {p05}, half below {p50}, 95 % below {p95}"))?;
        }
    }
    for row in &seen.before {
        out.tell(&format!("  before    {} {} → {}", row.position, values(&row.source), values(&row.fields)))?;
    }
    for record in &seen.held {
        out.tell(&format!("  held      {} {}", record.position, values(&record.source)))?;
        for (alternative, mapped) in seen.alternatives.iter().zip(&record.mapped) {
            out.tell(&format!("              by {}: {}", told(&alternative.to), fate(mapped)))?;
        }
    }
    Ok(())
}

fn share(seen: &SeenInfo) -> String {
    let types = if seen.types.is_empty() { String::new() } else { format!(" ({})", seen.types.join(", ")) };
    format!("in {} of {}{types}", seen.present, seen.records)
}

fn values(values: &Values) -> String {
    values.iter().map(|(name, value)| format!("{name} = {}", value.0)).collect::<Vec<_>>().join(", ")
}

fn fate(mapped: &MappedInfo) -> String {
    match (&*mapped.outcome, &mapped.fields, &mapped.reason) {
        (_, Some(fields), _) => values(fields),
        ("deleted", ..) => "a delete".to_owned(),
        (_, None, Some(reason)) => {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            format!("{reason} {}: {}", text(&mapped.field), text(&mapped.detail))
        }
        (outcome, ..) => outcome.to_owned(),
    }
}

/// Says what a decision would do.
pub(super) async fn dry_run(args: &DryRunArgs, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let only = args.only.clone();
    let verdict = match (&args.moves[..], args.removed) {
        ([], false) => Verdict::Approve { only },
        ([], true) => Verdict::AcceptAsRemoved { only },
        (moves, _) => Verdict::Edit { moves: read_moves(moves, &args.transforms)? },
    };
    let run = of.dry_run(&args.of.case, verdict, args.records).await?;
    if out.json() {
        return Ok(out.value(&run.to_json().unwrap_or_default())?);
    }
    let DryRunInfo { records, accepted, blank, deleted, held, quarantined, samples, .. } = &run;
    let aside: u64 = quarantined.iter().map(|aside| aside.count).sum();
    out.tell(&format!(
        "of the last {records} held records {accepted} would be rows, {deleted} deletes, {held} held on, {aside} set aside"
    ))?;
    if *blank > 0 {
        out.tell(&format!("  {blank} of the rows would be blank where there was a value before"))?;
    }
    for aside in quarantined {
        out.tell(&format!("  {} × {} {}", aside.count, aside.reason, aside.field.as_deref().unwrap_or_default()))?;
    }
    for sample in samples {
        out.tell(&format!("  {}: {}", sample.position, fate(&sample.mapped)))?;
    }
    Ok(())
}
