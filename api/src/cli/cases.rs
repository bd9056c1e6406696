//! `cases`: drift, and what people decide of it.

mod evidence;

use anyhow::{Context, bail};
use pipeline::repair::{self, Case, Status};
use schemas::drift::{DriftKind, Lost, Move, Tried, Verdict};
use schemas::mapping::Rule;
use schemas::time::format_timestamp;
use schemas::{Position, StreamId, TenantId};
use serde_json::json;

use super::{CaseArgs, CasesArgs, CasesCommand, DecideArgs, EditArgs, SnoozeArgs};
use crate::line::{COMMAND_LINE, Line, MadeOn, Outcome};
use crate::output::Output;

const PAGE: usize = 1_000;

/// Carries out a `cases` command.
pub async fn run(command: CasesCommand, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        CasesCommand::List(args) => list(&args, line, out).await,
        CasesCommand::Show(args) => show(&args, line, out).await,
        CasesCommand::DryRun(args) => evidence::dry_run(&args, line, out).await,
        CasesCommand::Approve(args) => {
            let verdict = Verdict::Approve { only: args.only.clone() };
            decide(&args, verdict, line, out).await
        }
        CasesCommand::Edit(EditArgs { decision, moves, transforms }) => {
            let moves = read_moves(&moves, &transforms)?;
            decide(&decision, Verdict::Edit { moves }, line, out).await
        }
        CasesCommand::Reject(args) => decide(&args, Verdict::Reject, line, out).await,
        CasesCommand::AcceptRemoved(args) => {
            let verdict = Verdict::AcceptAsRemoved { only: args.only.clone() };
            decide(&args, verdict, line, out).await
        }
        CasesCommand::Revert(args) => decide(&args, Verdict::Revert, line, out).await,
        CasesCommand::Snooze(SnoozeArgs { decision, hours }) => {
            let until = jiff::Timestamp::now().as_microsecond() + i64::from(hours) * 3_600_000_000;
            decide(&decision, Verdict::Snooze { until }, line, out).await
        }
    }
}

/// Reads moves, each FROM=TO, or FROM=A+B for what was split, and the transforms of some of them, each FROM=RULE.
fn read_moves(moves: &[String], transforms: &[String]) -> anyhow::Result<Vec<Move>> {
    let mut moves: Vec<Move> = moves.iter().map(|text| read_move(text)).collect::<Result<_, _>>()?;
    for text in transforms {
        let (from, rule) =
            text.split_once('=').with_context(|| format!("{text:?} is no transform: write FROM=RULE"))?;
        let rule: Rule = serde_saphyr::from_str(rule).with_context(|| format!("the transform of {from}"))?;
        let to = moves.iter_mut().find(|to| to.from == from.trim());
        let to = to.with_context(|| format!("--transform names {from}, and no --move does"))?;
        to.transform = Some(Box::new(rule));
    }
    Ok(moves)
}

fn read_move(text: &str) -> anyhow::Result<Move> {
    let (from, to) = text.split_once('=').with_context(|| format!("{text:?} is no move: write FROM=TO"))?;
    let (from, to) = (from.trim().to_owned(), to.split('+').map(|path| path.trim().to_owned()).collect::<Vec<_>>());
    let kind = match &to[..] {
        [same] if *same == from => DriftKind::Retyped,
        [_] => DriftKind::Renamed,
        _ => DriftKind::Split,
    };
    Ok(Move { from, to, kind, confidence: 1000, part: None, transform: None, signals: vec![] })
}

async fn list(args: &CasesArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let tenant = line.tenant(&args.tenant.parse()?).await?;
    let stream = args.stream.as_deref().map(|text| read_stream(tenant, text)).transpose()?;
    line.wait_cases().await?;
    let mut rows = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = repair::list(&*line.store, tenant, stream.as_ref(), after.as_deref(), PAGE).await?;
        let Some((last, _)) = page.last().filter(|_| rows.len() < args.limit) else { break };
        after = Some(last.clone());
        rows.extend(
            page.into_iter().filter(|(_, case)| args.all || case.status.is_waiting()).map(|(_, case)| row(&case)),
        );
    }
    rows.truncate(args.limit);
    Ok(out.table(&["case", "stream", "status", "lost", "proposed", "confidence", "held", "began_at"], &rows)?)
}

fn read_stream(tenant: TenantId, text: &str) -> anyhow::Result<StreamId> {
    let Some((connection, stream)) = text.split_once('/') else {
        bail!("{text:?} names no stream: write CONNECTION/STREAM")
    };
    Ok(StreamId { tenant, connection: connection.parse()?, stream: stream.parse()? })
}

fn row(case: &Case) -> Vec<serde_json::Value> {
    let lost: Vec<&str> = case.lost.iter().map(|lost| lost.path.as_str()).collect();
    let proposed: Vec<String> = case.moves.iter().map(told).collect();
    vec![
        json!(case.position.to_string()),
        json!(case.stream),
        json!(case.status.name()),
        json!(lost.join(", ")),
        json!(proposed.join(", ")),
        json!(case.moves.iter().map(|m| f64::from(m.confidence) / 1000.0).reduce(f64::min)),
        json!(case.held.saturating_sub(case.redriven)),
        json!(format_timestamp(case.began_at)),
    ]
}

fn told(to: &Move) -> String {
    if to.is_in_place() && to.transform.is_none() {
        return format!("{} as it is now", to.from);
    }
    let part = to.part.map_or_else(String::new, |part| format!(" (part {part})"));
    let rule = to.transform.as_deref().and_then(|rule| serde_json::to_string(rule).ok());
    let how = rule.map_or_else(String::new, |rule| format!(" by {rule}"));
    format!("{} → {}{part}{how}", to.from, to.to.join(" + "))
}

/// The case that a command names.
async fn find(args: &CaseArgs, line: &Line) -> anyhow::Result<(TenantId, Case)> {
    let tenant = line.tenant(&args.tenant.parse()?).await?;
    line.wait_cases().await?;
    let case = line.case(tenant, args.case.parse()?).await?;
    Ok((tenant, case.with_context(|| format!("tenant {} has no case {}", args.tenant, args.case))?))
}

async fn show(args: &CaseArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let (tenant, case) = find(args, line).await?;
    let (seen, impact) = (line.evidence(tenant, &case).await?, line.impact(tenant, &case).await?);
    if out.json() {
        let mut value = serde_json::to_value(&case)?;
        value["evidence"] = serde_json::to_value(&seen)?;
        value["evidence"]["impact"] = serde_json::to_value(&impact)?;
        return Ok(out.value(&value)?);
    }
    out.line(&format!("case {} of {}: {}", case.position, case.stream, case.status.name()))?;
    for Lost { path, feeds, retyped, .. } in &case.lost {
        let what = if *retyped { "retyped" } else { "lost" };
        out.line(&format!("  {what:<9} {path}, which fills {}", feeds.join(", ")))?;
    }
    if !case.added.is_empty() {
        out.line(&format!("  came      {}", case.added.join(", ")))?;
    }
    let moves = case.moves.iter().map(|m| ("proposed", m));
    for (what, to) in moves.chain(case.alternatives.iter().map(|m| ("or", m))) {
        let signals: Vec<String> =
            to.signals.iter().map(|s| format!("{} {:+.2}", s.name, f64::from(s.weight) / 1000.0)).collect();
        let confidence = f64::from(to.confidence) / 1000.0;
        out.line(&format!("  {what:<9} {} at {confidence:.3} ({})", told(to), signals.join(", ")))?;
    }
    if let Some(waits) = &case.waits {
        out.line(&format!("  waits     {waits}"))?;
    }
    if let Some(Tried { records, accepted, quarantined, held }) = case.tried {
        let fates = format!("{accepted} would be rows, {quarantined} set aside, {held} held on");
        out.line(&format!("  tried     on the last {records} held records: {fates}"))?;
    }
    if let Some(first) = &case.approval {
        let class = first.class.name();
        out.line(&format!("  approved  by {}; two people decide what is {class}: another one must, too", first.by))?;
    }
    let times = [("put off", case.snoozed_until), ("expires", case.expires_at.filter(|_| case.status.is_waiting()))];
    for (what, at) in times.into_iter().filter_map(|(what, at)| Some((what, at?))) {
        out.line(&format!("  {what:<9} {}", format_timestamp(at)))?;
    }
    let Case { lacking, having, held, redriven, .. } = &case;
    out.line(&format!(
        "  records   {lacking} lacked it and {having} had it when it opened; {held} held, {redriven} came again"
    ))?;
    evidence::tell(&case, &seen, &impact, out)?;
    for decided in &case.decided {
        let moves: Vec<String> = decided.moves.iter().map(told).chain(decided.removed.iter().cloned()).collect();
        let (status, at) = (decided.status.name(), format_timestamp(decided.at));
        out.line(&format!("  {status:<9} {} by {} at {at}: {}", moves.join(", "), decided.by, decided.why))?;
    }
    if case.status.is_waiting() {
        out.line("decide with: autonomos cases approve | edit | reject | accept-removed")?;
    }
    Ok(())
}

async fn decide(args: &DecideArgs, verdict: Verdict, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let tenant = line.tenant(&args.of.tenant.parse()?).await?;
    let position: Position = args.of.case.parse()?;
    line.wait_cases().await?;
    let made_on = MadeOn { mapping_version: args.mapping_version, version: args.case_version };
    let outcome = line.decide(tenant, position, made_on, verdict, (COMMAND_LINE, &args.why)).await?;
    if let Outcome::Refused(reason) = outcome {
        bail!("case {position}: {reason}");
    }
    line.catch_up().await?;
    let case = line.case(tenant, position).await?.context("the case is gone")?;
    if out.json() {
        return Ok(out.value(&case)?);
    }
    if let Some(first) = &case.approval {
        let class = first.class.name();
        return Ok(
            out.line(&format!("noted: two people decide what is {class}, and another one must approve it, too"))?
        );
    }
    let Case { status, held, redriven, .. } = &case;
    let what = match status {
        Status::Rejected | Status::Open => format!("{} held records wait on", held - redriven),
        _ => format!("{redriven} of {held} held records came again"),
    };
    Ok(out.line(&format!("case {position} is {}: {what}", status.name()))?)
}
