//! `policy`: by what cases are decided, and what that would have done in the past.

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use pipeline::policies::Policies;
use schemas::mapping::Repairs;
use schemas::policy::DecisionClass;
use schemas::{ConnectionName, Policy, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::line::{COMMAND_LINE, Line, policy_told};
use crate::output::Output;

/// The thresholds that a backtest looks at, unless one is named, in thousandths.
const THRESHOLDS: [u16; 9] = [500, 600, 700, 800, 850, 900, 950, 980, 990];

/// What to do with policies.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
pub enum PolicyCommand {
    /// Show what is in force, and who says so.
    Show(PolicyArgs),
    /// Change what is named, for what comes from now on; the rest stays.
    Set(SetArgs),
    /// Take a policy away: the connection's is as the tenant's, the tenant's as usual.
    Clear(PolicyArgs),
    /// Say what thresholds would have done to the past cases.
    Backtest(BacktestArgs),
}

/// Whose policy.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct PolicyArgs {
    /// Whose cases.
    #[arg(long)]
    pub tenant: String,
    /// Only those of this connection.
    #[arg(long)]
    pub connection: Option<String>,
}

/// Options of `policy set`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct SetArgs {
    /// Whose policy.
    #[command(flatten)]
    pub of: PolicyArgs,
    /// Who decides a repair.
    #[arg(long, value_enum)]
    pub repairs: Option<RepairsWanted>,
    /// With automatic: from this confidence on, from 0 to 1.
    #[arg(long)]
    pub at_least: Option<f64>,
    /// What two people decide: all, key, renamed, retyped, split, merged, removed, reverted; several joined by commas,
    /// `none` for nothing.
    #[arg(long, value_delimiter = ',')]
    pub two_persons: Option<Vec<String>>,
    /// Fields and source paths whose values are masked where people decide; several joined by commas, `*` is all, `none`
    /// for nothing.
    #[arg(long, value_delimiter = ',')]
    pub mask: Option<Vec<String>>,
    /// After so many hours people are reminded of a case that waits.
    #[arg(long)]
    pub remind_hours: Option<u32>,
    /// After so many hours a case that nobody decided is rejected, and holds on.
    #[arg(long)]
    pub expire_hours: Option<u32>,
}

/// Options of `policy backtest`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct BacktestArgs {
    /// Whose cases.
    #[command(flatten)]
    pub of: PolicyArgs,
    /// This threshold; some usual ones when left out.
    #[arg(long)]
    pub at_least: Option<f64>,
}

/// Who decides a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RepairsWanted {
    /// What is likelier than not and breaks nothing is applied by itself.
    Propagate,
    /// What is sure, breaks nothing and fits the last held records is applied by itself.
    Automatic,
    /// A person decides every one.
    Approve,
    /// A person decides every one, and until then everything that comes is held.
    Stop,
}

impl PolicyCommand {
    /// Whether it changes nothing.
    pub fn only_reads(&self) -> bool {
        matches!(self, Self::Show(_) | Self::Backtest(_))
    }
}

/// Carries out a `policy` command.
pub async fn run(command: PolicyCommand, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Show(args) => {
            let (tenant, connection) = whose(&args, line).await?;
            tell(&line.policies(tenant).await?, connection.as_ref(), out)
        }
        PolicyCommand::Set(args) => {
            let (tenant, connection) = whose(&args.of, line).await?;
            let before = line.policies(tenant).await?;
            let own = before.own(connection.as_ref()).cloned().unwrap_or_default();
            let wanted = wanted(&args, own)?;
            change(line, tenant, connection.as_ref(), &before, Some(wanted), out).await
        }
        PolicyCommand::Clear(args) => {
            let (tenant, connection) = whose(&args, line).await?;
            let before = line.policies(tenant).await?;
            change(line, tenant, connection.as_ref(), &before, None, out).await
        }
        PolicyCommand::Backtest(args) => backtest(&args, line, out).await,
    }
}

async fn whose(args: &PolicyArgs, line: &Line) -> anyhow::Result<(TenantId, Option<ConnectionName>)> {
    let tenant = line.tenant(&args.tenant.parse()?).await?;
    Ok((tenant, args.connection.as_deref().map(str::parse).transpose()?))
}

async fn change(
    line: &Line,
    tenant: TenantId,
    connection: Option<&ConnectionName>,
    before: &Policies,
    policy: Option<Policy>,
    out: &mut dyn Output,
) -> anyhow::Result<()> {
    let set = line.set_policy(tenant, connection, policy, COMMAND_LINE, Some(before.number)).await?;
    let detail = policy_told(connection, before.own(connection), set.own(connection));
    line.journal(tenant, "policy", &detail).await?;
    line.catch_up().await?;
    tell(&set, connection, out)
}

/// The policy with what is named changed.
fn wanted(args: &SetArgs, own: Policy) -> anyhow::Result<Policy> {
    let repairs = |wanted| match wanted {
        RepairsWanted::Propagate => Repairs::Propagate,
        RepairsWanted::Automatic => Repairs::Automatic,
        RepairsWanted::Approve => Repairs::Approve,
        RepairsWanted::Stop => Repairs::Stop,
    };
    let list = |names: &[String]| match names {
        [none] if none == "none" => vec![],
        names => names.to_vec(),
    };
    let class = |name: String| {
        let known = DecisionClass::ALL.into_iter().find(|class| class.name() == name);
        known.with_context(|| {
            format!("there is no class {name:?}: use {}", DecisionClass::ALL.map(|c| c.name()).join(", "))
        })
    };
    let two = args.two_persons.as_deref().map(|names| list(names).into_iter().map(class).collect());
    let wanted = Policy {
        repairs: args.repairs.map(repairs),
        at_least: args.at_least.map(thousandths).transpose()?,
        two_persons: two.transpose()?,
        mask: args.mask.as_deref().map(list),
        remind_hours: args.remind_hours,
        expire_hours: args.expire_hours,
    };
    if wanted == Policy::default() {
        bail!("say what to change: --repairs, --at-least, --two-persons, --mask, --remind-hours or --expire-hours");
    }
    let policy = wanted.over(&own);
    policy.validate()?;
    Ok(policy)
}

/// Rounded up: what is asked for is asked for.
fn thousandths(share: f64) -> anyhow::Result<u16> {
    if !(0.0..=1.0).contains(&share) {
        bail!("{share} is no probability: from 0 to 1");
    }
    Ok((share * 1000.0 - 1e-6).ceil().max(0.0) as u16)
}

fn tell(policies: &Policies, connection: Option<&ConnectionName>, out: &mut dyn Output) -> anyhow::Result<()> {
    let in_force = connection.map_or_else(|| policies.tenant.clone(), |name| policies.of(name));
    if out.json() {
        let own = policies.own(connection);
        let others: Vec<String> = policies.connections.keys().map(ToString::to_string).collect();
        return Ok(out.value(&json!({ "connection": connection, "own": own, "in_force": in_force,
            "connections": others, "number": policies.number, "by": policies.by }))?);
    }
    let repairs = in_force.repairs(None);
    let two: Vec<&str> = in_force.two_persons.iter().flatten().map(|class| class.name()).collect();
    let none = |text: String| if text.is_empty() { "nothing".to_owned() } else { text };
    out.line(&format!("repairs       {}", repairs.name()))?;
    out.line(&format!("at least      {:.3}", f64::from(in_force.at_least(repairs)) / 1000.0))?;
    out.line(&format!("two persons   {}", none(two.join(", "))))?;
    out.line(&format!("masked        {}", none(in_force.mask.clone().unwrap_or_default().join(", "))))?;
    let hours = |hours: Option<u32>, usual| format!("{} hours", hours.unwrap_or(usual));
    out.line(&format!("reminded      after {}", hours(in_force.remind_hours, schemas::policy::REMIND_HOURS)))?;
    out.line(&format!("expires       after {}", hours(in_force.expire_hours, schemas::policy::EXPIRE_HOURS)))?;
    if connection.is_none() {
        for (name, own) in &policies.connections {
            out.line(&format!("connection {name} says otherwise: {}", serde_json::to_string(own)?))?;
        }
    }
    if policies.number > 0 {
        let at = schemas::time::format_timestamp(policies.at);
        out.line(&format!("changed last by {} at {at}", policies.by))?;
    }
    Ok(())
}

async fn backtest(args: &BacktestArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let (tenant, connection) = whose(&args.of, line).await?;
    let policies = line.policies(tenant).await?;
    let in_force = connection.as_ref().map_or_else(|| policies.tenant.clone(), |name| policies.of(name));
    let thresholds = match args.at_least {
        Some(least) => vec![thousandths(least)?],
        None => THRESHOLDS.to_vec(),
    };
    let mut rows = Vec::new();
    for least in thresholds {
        let policy = Policy { repairs: Some(Repairs::Automatic), at_least: Some(least), ..in_force.clone() };
        let test = line.backtest(tenant, connection.as_ref(), &policy).await?;
        let named: Vec<String> = test.contradicted_cases.iter().map(ToString::to_string).collect();
        rows.push(vec![
            json!(f64::from(least) / 1000.0),
            json!(test.cases),
            json!(test.applied),
            json!(test.confirmed),
            json!(test.contradicted),
            json!(test.unreviewed),
            json!(test.precision().map(|(low, _)| (low * 1000.0).floor() / 1000.0)),
            json!(named.join(", ")),
        ]);
    }
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
    Ok(out.table(&columns, &rows)?)
}
