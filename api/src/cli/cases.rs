//! `cases`: drift, and what people decide of it.

mod evidence;

use anyhow::{Context, bail};
use poem_openapi::types::ToJSON;
use schemas::ConnectionName;
use schemas::drift::{DriftKind, Move, Verdict};
use schemas::mapping::Rule;
use serde_json::json;

use super::backend::{Backend, Decision, StreamPath};
use super::{CaseArgs, CasesArgs, CasesCommand, DecideArgs, EditArgs, PartArgs, SnoozeArgs};
use crate::http::routes::cases::listing::{self, CasesWanted, StatusWanted};
use crate::http::routes::cases::shape::{
    ApprovalInfo, CallInfo, CaseInfo, CoverageInfo, LostInfo, MoveInfo, SignalInfo, TriedInfo, twice,
};
use crate::line::MadeOn;
use crate::output::Output;

/// Paths that came and are named in a list.
const CAME_NAMED: usize = 3;

/// Carries out a `cases` command.
pub async fn run(command: &CasesCommand, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        CasesCommand::List(args) => list(args, of, out).await,
        CasesCommand::Show(args) => show(args, of, out).await,
        CasesCommand::DryRun(args) => evidence::dry_run(args, of, out).await,
        CasesCommand::Approve(PartArgs { decision, only }) => {
            decide(decision, Verdict::Approve { only: only.clone() }, of, out).await
        }
        CasesCommand::Edit(EditArgs { decision, moves, transforms }) => {
            let moves = read_moves(moves, transforms)?;
            decide(decision, Verdict::Edit { moves }, of, out).await
        }
        CasesCommand::Reject(args) => decide(args, Verdict::Reject, of, out).await,
        CasesCommand::AcceptRemoved(PartArgs { decision, only }) => {
            decide(decision, Verdict::AcceptAsRemoved { only: only.clone() }, of, out).await
        }
        CasesCommand::Revert(args) => decide(args, Verdict::Revert, of, out).await,
        CasesCommand::Snooze(SnoozeArgs { decision, hours }) => {
            let until = jiff::Timestamp::now().as_microsecond() + i64::from(*hours) * 3_600_000_000;
            decide(decision, Verdict::Snooze { until }, of, out).await
        }
    }
}

/// Reads moves, each FROM=TO, or FROM=A+B for what was split, and the transforms of some of them, each FROM=RULE.
fn read_moves(moves: &[String], transforms: &[String]) -> anyhow::Result<Vec<Move>> {
    let mut moves: Vec<Move> = moves.iter().map(|text| read_move(text)).collect::<Result<_, _>>()?;
    if let Some(from) = twice(&moves) {
        bail!("--move names {from} twice: say where it has gone once, FROM=A+B when it was split");
    }
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
    Ok(Move { from, to, kind, confidence: 1000, part: None, change: None, transform: None, signals: vec![] })
}

async fn list(args: &CasesArgs, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let cases = of.cases(&wanted(args)?, args.limit).await?;
    let rows: Vec<_> = cases.iter().map(row).collect();
    let columns =
        ["case", "stream", "status", "severity", "kind", "lost", "came", "proposed", "confidence", "held", "began_at"];
    Ok(out.table(&columns, &rows)?)
}

/// Which cases are listed: those that wait, unless others are named.
fn wanted(args: &CasesArgs) -> anyhow::Result<CasesWanted> {
    let CasesArgs { connection, stream, all, status, severity, kind, .. } = args;
    let of = match stream {
        Some(path) => {
            let StreamPath { connection, stream } = path.parse()?;
            Some((connection, Some(stream)))
        }
        None => connection.as_deref().map(str::parse::<ConnectionName>).transpose()?.map(|name| (name, None)),
    };
    let status = match status {
        Some(name) => Some(listing::status(name)?),
        None => (!all).then_some(StatusWanted::Waiting),
    };
    let severity = severity.as_deref().map(listing::severity).transpose()?;
    Ok(CasesWanted { of, status, severity, kind: kind.as_deref().map(listing::kind).transpose()? })
}

fn row(case: &CaseInfo) -> Vec<serde_json::Value> {
    let lost: Vec<&str> = case.lost.iter().map(|lost| lost.path.as_str()).collect();
    let proposed: Vec<String> = case.moves.iter().map(told).collect();
    vec![
        json!(case.case),
        json!(case.stream),
        json!(case.status),
        json!(case.severity),
        json!(case.kinds.join(", ")),
        json!(lost.join(", ")),
        json!(came(case)),
        json!(proposed.join(", ")),
        json!(case.moves.iter().map(|m| m.confidence).reduce(f64::min)),
        json!(case.held.saturating_sub(case.redriven)),
        json!(case.began_at),
    ]
}

/// The first paths that came, and how many more did.
fn came(case: &CaseInfo) -> String {
    let named: Vec<&str> = case.added.iter().take(CAME_NAMED).map(String::as_str).collect();
    match (case.added.len() - named.len()) as u64 + case.added_more {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn told(to: &MoveInfo) -> String {
    let change = told_change(to.change.as_deref());
    let is_in_place = to.kind == "retyped" || to.to == [to.from.as_str()];
    if is_in_place && to.transform.is_none() {
        return format!("{} as it is now{change}", to.from);
    }
    let part = to.part.map_or_else(String::new, |part| format!(" (part {part})"));
    let how = to.transform.as_ref().map_or_else(String::new, |rule| format!(" by {}", rule.0));
    format!("{} → {}{part}{how}{change}", to.from, to.to.join(" + "))
}

/// A signal with its weight; one that weighs nothing, which is what people and others have said, with its strength.
fn told_signal(signal: &SignalInfo) -> String {
    match signal.weight == 0.0 {
        true => format!("{} {:.2}", signal.name, signal.strength),
        false => format!("{} {:+.2}", signal.name, signal.weight),
    }
}

fn told_change(change: Option<&str>) -> String {
    change.map_or_else(String::new, |change| format!(": {change}"))
}

fn is_waiting(case: &CaseInfo) -> bool {
    matches!(case.status.as_str(), "open" | "rejected")
}

async fn show(args: &CaseArgs, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let case = of.case(&args.case).await?;
    if out.json() {
        return Ok(out.value(&case.to_json().unwrap_or_default())?);
    }
    let (status, severity, kinds) = (&case.status, &case.severity, case.kinds.join(", "));
    out.tell(&format!("case {} of {}: {status}, {severity}: {kinds}", case.case, case.stream))?;
    for LostInfo { path, feeds, retyped, change } in &case.lost {
        let what = if *retyped { "retyped" } else { "lost" };
        let change = told_change(change.as_deref());
        let fills = if feeds.is_empty() { "no rule reads".to_owned() } else { format!("fills {}", feeds.join(", ")) };
        out.tell(&format!("  {what:<9} {path}, which {fills}{change}"))?;
    }
    if !case.added.is_empty() {
        let more = if case.added_more > 0 { format!(", and {} more", case.added_more) } else { String::new() };
        out.tell(&format!("  came      {}{more}", case.added.join(", ")))?;
    }
    let moves = case.moves.iter().map(|m| ("proposed", m));
    for (what, to) in moves.chain(case.alternatives.iter().map(|m| ("or", m))) {
        let signals: Vec<String> = to.signals.iter().map(told_signal).collect();
        out.tell(&format!("  {what:<9} {} at {:.3} ({})", told(to), to.confidence, signals.join(", ")))?;
    }
    if let Some(waits) = &case.waits {
        out.tell(&format!("  waits     {waits}"))?;
    }
    if let Some(TriedInfo { records, accepted, quarantined, held }) = &case.tried {
        let fates = format!("{accepted} would be rows, {quarantined} set aside, {held} held on");
        out.tell(&format!("  tried     on the last {records} held records: {fates}"))?;
    }
    if let Some(coverage) = &case.coverage {
        tell_coverage(coverage, out)?;
    }
    if let Some(CallInfo { model, outcome, input_tokens, output_tokens, cost }) = &case.call {
        let tokens = format!("{input_tokens} tokens read, {output_tokens} written");
        out.tell(&format!("  asked     {model}: {outcome}; {tokens}, {cost:.6} dollars"))?;
    }
    if let Some(ApprovalInfo { class, by, .. }) = &case.approval {
        out.tell(&format!("  approved  by {by}; two people decide what is {class}: another one must, too"))?;
    }
    let expires_at = case.expires_at.as_ref().filter(|_| is_waiting(&case));
    for (what, at) in [("put off", case.snoozed_until.as_ref()), ("expires", expires_at)] {
        if let Some(at) = at {
            out.tell(&format!("  {what:<9} {at}"))?;
        }
    }
    let CaseInfo { lacking, having, held, redriven, .. } = &case;
    out.tell(&format!(
        "  records   {lacking} lacked it and {having} had it when it opened; {held} held, {redriven} came again"
    ))?;
    if let Some(seen) = &case.evidence {
        evidence::tell(seen, out)?;
    }
    for decided in &case.decided {
        let moves: Vec<String> = decided.moves.iter().map(told).chain(decided.removed.iter().cloned()).collect();
        let (status, by, at, why) = (&decided.status, &decided.by, &decided.at, &decided.why);
        out.tell(&format!("  {status:<9} {} by {by} at {at}: {why}", moves.join(", ")))?;
    }
    if is_waiting(&case) {
        out.line("decide with: autonomos cases approve | edit | reject | accept-removed")?;
    }
    Ok(())
}

fn tell_coverage(coverage: &CoverageInfo, out: &mut dyn Output) -> anyhow::Result<()> {
    let CoverageInfo { fields, matched, share, recommendation, missing, skipped, saved_cost } = coverage;
    let missing = if missing.is_empty() { String::new() } else { format!(", not {}", missing.join(", ")) };
    let saved = match skipped {
        true => format!("; no model was asked, which saved {saved_cost:.6} dollars at most"),
        false => String::new(),
    };
    let share = share * 100.0;
    out.tell(&format!(
        "  known     {matched} of {fields} uncertain fields ({share:.0} %){missing}, by approved mappings: {recommendation}{saved}"
    ))?;
    Ok(())
}

async fn decide(args: &DecideArgs, verdict: Verdict, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let (why, mapping_version, version) = (args.why.clone(), args.mapping_version, args.case_version);
    let decision = Decision { verdict, why, made_on: MadeOn { mapping_version, version } };
    let case = of.decide(&args.of.case, decision).await?;
    if out.json() {
        return Ok(out.value(&case.to_json().unwrap_or_default())?);
    }
    if let Some(ApprovalInfo { class, .. }) = &case.approval {
        return Ok(
            out.line(&format!("noted: two people decide what is {class}, and another one must approve it, too"))?
        );
    }
    let CaseInfo { case: id, status, held, redriven, .. } = &case;
    let what = match is_waiting(&case) {
        true => format!("{} held records wait on", held.saturating_sub(*redriven)),
        false => format!("{redriven} of {held} held records came again"),
    };
    Ok(out.line(&format!("case {id} is {status}: {what}"))?)
}
