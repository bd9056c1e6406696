//! `policy`: by what cases are decided, and what that would have done in the past.

use anyhow::{Context, bail};
use poem_openapi::types::ToJSON;
use schemas::ConnectionName;
use schemas::policy::{AT_LEAST, EXPIRE_HOURS, LIKELIER, REMIND_HOURS};
use serde_json::json;

use super::backend::Backend;
use super::{BacktestArgs, ModelWanted, PolicyArgs, PolicyCommand, RepairsWanted, SetPolicyArgs};
use crate::http::routes::policy::{self, ClassWanted, PolicyBody, PolicyInfo, ThresholdInfo};
use crate::http::text::Text;
use crate::output::Output;

/// Carries out a `policy` command.
pub async fn run(command: &PolicyCommand, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Show(args) => tell(of.policy(connection(args)?.as_ref()).await?, out),
        PolicyCommand::Set(args) => {
            let connection = connection(&args.of)?;
            let PolicyInfo { own, number, .. } = of.policy(connection.as_ref()).await?;
            let wanted = wanted(args, own.unwrap_or_default())?;
            tell(of.set_policy(connection.as_ref(), Some(wanted), number).await?, out)?;
            tell_unknown(connection.as_ref(), of, out).await
        }
        PolicyCommand::Clear(args) => {
            let connection = connection(args)?;
            let number = of.policy(connection.as_ref()).await?.number;
            tell(of.set_policy(connection.as_ref(), None, number).await?, out)
        }
        PolicyCommand::Backtest(args) => backtest(args, of, out).await,
    }
}

fn connection(args: &PolicyArgs) -> anyhow::Result<Option<ConnectionName>> {
    Ok(args.connection.as_deref().map(str::parse).transpose()?)
}

/// The policy with what is named changed.
fn wanted(args: &SetPolicyArgs, own: PolicyBody) -> anyhow::Result<PolicyBody> {
    let SetPolicyArgs { repairs, at_least, model, two_persons, mask, remind_hours, expire_hours, .. } = args;
    let is_nothing = repairs.is_none() && at_least.is_none() && two_persons.is_none() && mask.is_none();
    if is_nothing && model.is_none() && remind_hours.is_none() && expire_hours.is_none() {
        bail!(
            "say what to change: --repairs, --at-least, --model, --two-persons, --mask, --remind-hours or --expire-hours"
        );
    }
    let classes = |names: &Vec<String>| -> anyhow::Result<Vec<ClassWanted>> {
        listed(names)?.iter().map(|name| class(name)).collect()
    };
    let texts = |names: &Vec<String>| -> anyhow::Result<Vec<Text>> {
        Ok(listed(names)?.iter().map(|name| Text::from(name.as_str())).collect())
    };
    let two = two_persons.as_ref().map(classes).transpose()?;
    let mask = mask.as_ref().map(texts).transpose()?;
    Ok(PolicyBody {
        repairs: repairs.map(repairs_of).or(own.repairs),
        at_least: at_least.map(policy::probability).transpose()?.or(own.at_least),
        model: model.map(model_of).or(own.model),
        two_persons: two.or(own.two_persons),
        mask: mask.or(own.mask),
        remind_hours: remind_hours.or(own.remind_hours),
        expire_hours: expire_hours.or(own.expire_hours),
    })
}

/// What is listed; `none`, alone, is nothing.
fn listed(names: &[String]) -> anyhow::Result<&[String]> {
    match names {
        [none] if none == "none" => Ok(&[]),
        names if names.iter().any(|name| name == "none") => bail!("`none` stands alone: it is nothing at all"),
        names => Ok(names),
    }
}

fn repairs_of(wanted: RepairsWanted) -> policy::RepairsWanted {
    match wanted {
        RepairsWanted::Propagate => policy::RepairsWanted::Propagate,
        RepairsWanted::Automatic => policy::RepairsWanted::Automatic,
        RepairsWanted::Approve => policy::RepairsWanted::Approve,
        RepairsWanted::Stop => policy::RepairsWanted::Stop,
    }
}

fn model_of(wanted: ModelWanted) -> policy::ModelWanted {
    match wanted {
        ModelWanted::Never => policy::ModelWanted::Never,
        ModelWanted::Names => policy::ModelWanted::Names,
        ModelWanted::Values => policy::ModelWanted::Values,
    }
}

fn class(name: &str) -> anyhow::Result<ClassWanted> {
    let known = ClassWanted::ALL.into_iter().find(|class| class.name() == name);
    let names = || ClassWanted::ALL.map(ClassWanted::name).join(", ");
    known.with_context(|| format!("there is no class {name:?}: use {}", names()))
}

/// Says where nothing is known of a connection that is named: it may be to come, or meant otherwise.
async fn tell_unknown(name: Option<&ConnectionName>, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let Some(name) = name.filter(|_| !out.json()) else { return Ok(()) };
    let streams = of.streams().await?;
    if streams.iter().any(|known| known.stream.split('/').next() == Some(name.as_str())) {
        return Ok(());
    }
    Ok(out.line(&format!("no stream of a connection {name} is known so far: see autonomos log stat"))?)
}

fn tell(policy: PolicyInfo, out: &mut dyn Output) -> anyhow::Result<()> {
    if out.json() {
        return Ok(out.value(&policy.to_json().unwrap_or_default())?);
    }
    let PolicyInfo { connection, in_force, connections, by, at, .. } = policy;
    let repairs = in_force.repairs.unwrap_or(policy::RepairsWanted::Automatic);
    let at_least = match repairs {
        policy::RepairsWanted::Propagate => f64::from(LIKELIER) / 1000.0,
        _ => in_force.at_least.unwrap_or(f64::from(AT_LEAST) / 1000.0),
    };
    let two: Vec<&str> = in_force.two_persons.into_iter().flatten().map(ClassWanted::name).collect();
    let masked: Vec<String> = in_force.mask.into_iter().flatten().map(String::from).collect();
    let none = |text: String| if text.is_empty() { "nothing".to_owned() } else { text };
    let hours = |hours: Option<u32>, usual| format!("{} hours", hours.unwrap_or(usual));
    out.line(&format!("repairs       {}", repairs.name()))?;
    out.line(&format!("at least      {at_least:.3}"))?;
    out.line(&format!("model told    {}", in_force.model.unwrap_or(policy::ModelWanted::Names).name()))?;
    out.line(&format!("two persons   {}", none(two.join(", "))))?;
    out.tell(&format!("masked        {}", none(masked.join(", "))))?;
    out.line(&format!("reminded      after {}", hours(in_force.remind_hours, REMIND_HOURS)))?;
    out.line(&format!("expires       after {}", hours(in_force.expire_hours, EXPIRE_HOURS)))?;
    for name in connections.iter().filter(|_| connection.is_none()) {
        out.line(&format!("the connection {name} says otherwise: policy show --connection {name}"))?;
    }
    if let (Some(by), Some(at)) = (by, at) {
        out.line(&format!("changed last by {by} at {at}"))?;
    }
    Ok(())
}

async fn backtest(args: &BacktestArgs, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let at_least = args.at_least.map(policy::probability).transpose()?;
    let connection = connection(&args.of)?;
    let thresholds = of.backtest(connection.as_ref(), at_least).await?;
    let row = |test: ThresholdInfo| {
        vec![
            json!(test.at_least),
            json!(test.cases),
            json!(test.applied),
            json!(test.confirmed),
            json!(test.contradicted),
            json!(test.unreviewed),
            json!(test.precision_low.map(|low| (low * 1000.0).floor() / 1000.0)),
            json!(test.contradicted_cases.join(", ")),
        ]
    };
    let columns = [
        "at_least",
        "cases",
        "applied",
        "confirmed",
        "contradicted",
        "unreviewed",
        "precision_low",
        "contradicted_cases",
    ];
    out.table(&columns, &thresholds.into_iter().map(row).collect::<Vec<_>>())?;
    tell_unknown(connection.as_ref(), of, out).await
}
