//! `/api/v1/aam/policy`: by what cases are decided, and what that would have done in the past.

use std::sync::Arc;

use pipeline::policies::{Policies, PolicyError};
use pipeline::repair::Backtest;
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::param::{Header, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use schemas::mapping::Repairs;
use schemas::policy::{DecisionClass, ModelUse};
use schemas::{ConnectionName, Policy, TenantId};

use super::{Signed, Tag};
use crate::auth::{Caller, Role};
use crate::http::Doors;
use crate::http::manners::etag;
use crate::http::manners::journal::Noted;
use crate::http::problem::Problem;
use crate::http::text::Text;
use crate::http::time;
use crate::line::{Line, policy_told};

/// The thresholds that a backtest looks at, unless one is named, in thousandths.
const THRESHOLDS: [u16; 9] = [500, 600, 700, 800, 850, 900, 950, 980, 990];

/// Who decides a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub enum RepairsWanted {
    /// What is likelier than not and breaks nothing is applied by itself; a person decides the rest.
    Propagate,
    /// What is sure (`at_least`), breaks nothing and fits the last held records is applied by itself; a person decides
    /// the rest.
    Automatic,
    /// A person decides every one.
    Approve,
    /// A person decides every one, and until then everything that comes is held.
    Stop,
}

/// What a language model may be told of what stays uncertain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub enum ModelWanted {
    /// Nothing: none is asked.
    Never,
    /// Names and types of fields.
    Names,
    /// Some values, too, except those that are masked.
    Values,
}

impl ModelWanted {
    /// Its name, as programs see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Names => "names",
            Self::Values => "values",
        }
    }
}

/// What a decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub enum ClassWanted {
    /// Every decision that changes rules.
    All,
    /// A key, a version or a sign of deletion.
    Key,
    /// Another name or place.
    Renamed,
    /// Another type, unit or format.
    Retyped,
    /// One that became several.
    Split,
    /// Several that became one.
    Merged,
    /// Accepted as removed, or said to be where it is blank.
    Removed,
    /// Taken back.
    Reverted,
}

impl RepairsWanted {
    /// Its name, as programs see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Propagate => "propagate",
            Self::Automatic => "automatic",
            Self::Approve => "approve",
            Self::Stop => "stop",
        }
    }
}

impl ClassWanted {
    /// Every class.
    pub const ALL: [Self; 8] =
        [Self::All, Self::Key, Self::Renamed, Self::Retyped, Self::Split, Self::Merged, Self::Removed, Self::Reverted];

    /// Its name, as programs see it.
    pub const fn name(self) -> &'static str {
        class(self).name()
    }
}

const fn class(wanted: ClassWanted) -> DecisionClass {
    match wanted {
        ClassWanted::All => DecisionClass::All,
        ClassWanted::Key => DecisionClass::Key,
        ClassWanted::Renamed => DecisionClass::Renamed,
        ClassWanted::Retyped => DecisionClass::Retyped,
        ClassWanted::Split => DecisionClass::Split,
        ClassWanted::Merged => DecisionClass::Merged,
        ClassWanted::Removed => DecisionClass::Removed,
        ClassWanted::Reverted => DecisionClass::Reverted,
    }
}

/// By what cases are decided. What is left out is as usual; for a connection, as the tenant wants it.
#[derive(Debug, Clone, Default, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
pub struct PolicyBody {
    /// Who decides a repair; automatic, unless said.
    pub repairs: Option<RepairsWanted>,
    /// With automatic: from this confidence on; 0.9, unless said.
    #[oai(validator(minimum(value = "0"), maximum(value = "1")))]
    pub at_least: Option<f64>,
    /// What a language model may be told of what stays uncertain, where the operator has set one up; names, unless said.
    pub model: Option<ModelWanted>,
    /// What two people decide, the second of whom is another than the first; nothing, unless said.
    #[oai(validator(max_items = 8))]
    pub two_persons: Option<Vec<ClassWanted>>,
    /// Fields and source paths whose values are masked where people decide, and told no model; `*` is all.
    #[oai(validator(max_items = 1000))]
    pub mask: Option<Vec<Text>>,
    /// After so many hours, and again and again, people are reminded of a case that waits; 24, unless said.
    #[oai(validator(minimum(value = "1"), maximum(value = "8784")))]
    pub remind_hours: Option<u32>,
    /// After so many hours a case that nobody decided is rejected, and holds on; 168, unless said.
    #[oai(validator(minimum(value = "1"), maximum(value = "8784")))]
    pub expire_hours: Option<u32>,
}

/// A policy, and what follows from it.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct PolicyInfo {
    /// Whose it is: a connection's; null for the tenant's.
    pub connection: Option<String>,
    /// What it says itself; null where the connection says nothing.
    pub own: Option<PolicyBody>,
    /// What is in force.
    pub in_force: PolicyBody,
    /// The connections that say otherwise than the tenant; of a key that is bound to connections, those of its own.
    pub connections: Vec<String>,
    /// Raised at every change of the tenant's policies.
    pub number: u64,
    /// Who changed something last; not told to a key that is bound to connections.
    pub by: Option<String>,
    /// When.
    pub at: Option<String>,
}

#[derive(ApiResponse)]
enum Found {
    /// The policy; its ETag goes back as If-Match.
    #[oai(status = 200)]
    Found(Json<PolicyInfo>, #[oai(header = "ETag")] String),
}

/// What policies would have done to the past cases.
#[derive(Debug, Object)]
pub struct BacktestInfo {
    /// One for each threshold.
    pub thresholds: Vec<ThresholdInfo>,
}

/// What a threshold would have done.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct ThresholdInfo {
    /// The confidence from which on repairs would have been applied by themselves.
    pub at_least: f64,
    /// Past cases that had a proposal and were decided.
    pub cases: u64,
    /// Those that would have been applied by themselves.
    pub applied: u64,
    /// Of these: a person decided the same.
    pub confirmed: u64,
    /// Of these: a person decided otherwise, or took it back.
    pub contradicted: u64,
    /// Of these: rules had applied it, and nobody took it back.
    pub unreviewed: u64,
    /// The share of what people looked at that they decided the same, at least; at 95 % after Wilson. Null when nobody
    /// looked at anything.
    pub precision_low: Option<f64>,
    /// The same, at most.
    pub precision_high: Option<f64>,
    /// Some of the cases that a person decided otherwise.
    pub contradicted_cases: Vec<String>,
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/aam/policy", tag = "Tag::Cases")]
impl Routes {
    /// Show by what cases are decided: of the tenant, or of a connection.
    #[oai(path = "/", method = "get", operation_id = "show_policy")]
    async fn show(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        /// Of this connection. A key that is bound to connections must name one.
        #[oai(validator(max_length = 127))]
        connection: Query<Option<String>>,
    ) -> Result<Found, Problem> {
        let connection = named(&caller, connection.0.as_deref())?;
        Ok(found(&caller, doors.line.policies(caller.tenant).await?, connection.as_ref()))
    }

    /// Set the policy of the tenant or of a connection, as a whole, for what comes from now on. If-Match says which it
    /// replaces.
    #[oai(path = "/", method = "put", operation_id = "set_policy")]
    async fn set(
        &self,
        doors: Data<&Arc<Doors>>,
        noted: Data<&Noted>,
        Signed(caller): Signed,
        /// Of this connection.
        #[oai(validator(max_length = 127))]
        connection: Query<Option<String>>,
        /// The ETag of the policy as it was read, or * for any.
        #[oai(name = "If-Match", validator(max_length = 200))]
        if_match: Header<Option<String>>,
        body: Json<PolicyBody>,
    ) -> Result<Found, Problem> {
        let connection = named(&caller, connection.0.as_deref())?;
        change(&doors, &noted, &caller, connection, if_match.0, Some(policy(body.0)?)).await
    }

    /// Take a policy away: the connection's is as the tenant's, the tenant's as usual.
    #[oai(path = "/", method = "delete", operation_id = "clear_policy")]
    async fn clear(
        &self,
        doors: Data<&Arc<Doors>>,
        noted: Data<&Noted>,
        Signed(caller): Signed,
        /// Of this connection.
        #[oai(validator(max_length = 127))]
        connection: Query<Option<String>>,
        /// The ETag of the policy as it was read, or * for any.
        #[oai(name = "If-Match", validator(max_length = 200))]
        if_match: Header<Option<String>>,
    ) -> Result<Found, Problem> {
        let connection = named(&caller, connection.0.as_deref())?;
        change(&doors, &noted, &caller, connection, if_match.0, None).await
    }

    /// Say what thresholds would have done to the past cases: how many would have been applied by themselves, and how many
    /// of those a person decided otherwise.
    #[oai(path = "/backtest", method = "get", operation_id = "backtest_policy")]
    async fn backtest(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        /// Only of this connection. A key that is bound to connections must name one.
        #[oai(validator(max_length = 127))]
        connection: Query<Option<String>>,
        /// This threshold; some usual ones when left out.
        #[oai(validator(minimum(value = "0"), maximum(value = "1")))]
        at_least: Query<Option<f64>>,
    ) -> Result<Json<BacktestInfo>, Problem> {
        let connection = named(&caller, connection.0.as_deref())?;
        let at_least = at_least.0.map(probability).transpose()?;
        super::wait_cases(&doors).await?;
        let tested = backtested(&doors.line, caller.tenant, connection.as_ref(), at_least).await;
        let thresholds = tested.map_err(|error| Problem::internal(format!("{error:#}")))?;
        Ok(Json(BacktestInfo { thresholds }))
    }
}

/// What a threshold, or some usual ones, would have done to the past cases that are kept by now.
pub async fn backtested(
    line: &Line,
    tenant: TenantId,
    connection: Option<&ConnectionName>,
    at_least: Option<f64>,
) -> anyhow::Result<Vec<ThresholdInfo>> {
    let policies = line.policies(tenant).await?;
    let in_force = connection.map_or_else(|| policies.tenant.clone(), |name| policies.of(name));
    let thresholds = at_least.map_or_else(|| THRESHOLDS.to_vec(), |least| vec![thousandths(least)]);
    let policy = |least: &u16| Policy { repairs: Some(Repairs::Automatic), at_least: Some(*least), ..in_force.clone() };
    let tests = line.backtest(tenant, connection, thresholds.iter().map(policy).collect()).await?;
    Ok(tests.into_iter().zip(thresholds).map(|(test, least)| threshold(test, least)).collect())
}

async fn change(
    doors: &Doors,
    noted: &Noted,
    caller: &Caller,
    connection: Option<ConnectionName>,
    if_match: Option<String>,
    policy: Option<Policy>,
) -> Result<Found, Problem> {
    caller.require(Role::Admin)?;
    let missing = "send the policy's ETag as If-Match, or * to replace whatever is there";
    let missing = || Problem::new(StatusCode::PRECONDITION_REQUIRED, "if_match_missing", missing);
    let known = if_match.ok_or_else(missing)?;
    let before = doors.line.policies(caller.tenant).await?;
    if !etag::matches(&known, &tag(caller.tenant, &before)) {
        return Err(PolicyError::Changed.into());
    }
    let made_on = (known.trim() != "*").then_some(before.number);
    let by = caller.label();
    let set = doors.line.set_policy(caller.tenant, connection.as_ref(), policy, &by, made_on).await?;
    noted.say(policy_told(connection.as_ref(), before.own(connection.as_ref()), set.own(connection.as_ref())));
    Ok(found(caller, set, connection.as_ref()))
}

/// The connection that is meant. A key that is bound to others sees none of them, and nothing of the tenant's as a whole.
fn named(caller: &Caller, connection: Option<&str>) -> Result<Option<ConnectionName>, Problem> {
    let Some(name) = connection else {
        super::require_all(caller, "name one of its own with `connection`")?;
        return Ok(None);
    };
    caller.require_connection(name)?;
    name.parse().map(Some).map_err(|e: schemas::ids::InvalidName| Problem::invalid(e.to_string()))
}

/// With the tenant, since another one's policies of the same number are others.
fn tag(tenant: TenantId, policies: &Policies) -> String {
    format!("\"policy-{tenant}-{}\"", policies.number)
}

fn found(caller: &Caller, policies: Policies, connection: Option<&ConnectionName>) -> Found {
    let tag = tag(caller.tenant, &policies);
    let mut shown = info(policies, connection);
    if caller.is_bound() {
        shown.connections.retain(|name| caller.require_connection(name).is_ok());
        // What was changed last may be another connection's.
        (shown.by, shown.at) = (None, None);
    }
    Found::Found(Json(shown), tag)
}

/// The policy of a tenant, or of a connection.
pub fn info(policies: Policies, connection: Option<&ConnectionName>) -> PolicyInfo {
    let in_force = connection.map_or_else(|| policies.tenant.clone(), |name| policies.of(name));
    let is_set = policies.number > 0;
    PolicyInfo {
        connection: connection.map(ToString::to_string),
        own: policies.own(connection).map(body),
        in_force: body(&in_force),
        connections: policies.connections.keys().map(ToString::to_string).collect(),
        number: policies.number,
        by: is_set.then_some(policies.by),
        at: is_set.then(|| time::of_micros(policies.at)),
    }
}

/// A policy that cannot be meant.
#[derive(Debug, thiserror::Error)]
pub enum Unmeant {
    /// A number that is no probability.
    #[error("{0} is no probability: from 0 to 1")]
    Probability(f64),
    /// A name that no field and no path has.
    #[error("{0:?} names nothing that could be masked: name fields and source paths, or * for all")]
    Mask(String),
}

/// A probability as somebody wants it.
pub fn probability(share: f64) -> Result<f64, Unmeant> {
    // What is no number lies in no range.
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(Unmeant::Probability(share)) }
}

/// A name to be masked, as somebody wants it.
fn maskable(name: String) -> Result<String, Unmeant> {
    let says_nothing = name.chars().all(|c| c.is_whitespace() || c.is_control());
    if says_nothing { Err(Unmeant::Mask(name)) } else { Ok(name) }
}

/// A policy as somebody wants it.
pub fn policy(body: PolicyBody) -> Result<Policy, Unmeant> {
    let model = |wanted| match wanted {
        ModelWanted::Never => ModelUse::Never,
        ModelWanted::Names => ModelUse::Names,
        ModelWanted::Values => ModelUse::Values,
    };
    let repairs = |wanted| match wanted {
        RepairsWanted::Propagate => Repairs::Propagate,
        RepairsWanted::Automatic => Repairs::Automatic,
        RepairsWanted::Approve => Repairs::Approve,
        RepairsWanted::Stop => Repairs::Stop,
    };
    let names = |names: Vec<Text>| {
        let names = names.into_iter().map(|name| maskable(name.into()));
        names.collect::<Result<Vec<String>, Unmeant>>()
    };
    Ok(Policy {
        repairs: body.repairs.map(repairs),
        at_least: body.at_least.map(probability).transpose()?.map(thousandths),
        model: body.model.map(model),
        two_persons: body.two_persons.map(|classes| classes.into_iter().map(class).collect()),
        mask: body.mask.map(names).transpose()?,
        remind_hours: body.remind_hours,
        expire_hours: body.expire_hours,
    })
}

fn body(policy: &Policy) -> PolicyBody {
    let repairs = |repairs| match repairs {
        Repairs::Propagate => RepairsWanted::Propagate,
        Repairs::Automatic => RepairsWanted::Automatic,
        Repairs::Approve => RepairsWanted::Approve,
        Repairs::Stop => RepairsWanted::Stop,
    };
    let model = |told| match told {
        ModelUse::Never => ModelWanted::Never,
        ModelUse::Names => ModelWanted::Names,
        ModelUse::Values => ModelWanted::Values,
    };
    let class = |class: &DecisionClass| match class {
        DecisionClass::All => ClassWanted::All,
        DecisionClass::Key => ClassWanted::Key,
        DecisionClass::Renamed => ClassWanted::Renamed,
        DecisionClass::Retyped => ClassWanted::Retyped,
        DecisionClass::Split => ClassWanted::Split,
        DecisionClass::Merged => ClassWanted::Merged,
        DecisionClass::Removed => ClassWanted::Removed,
        DecisionClass::Reverted => ClassWanted::Reverted,
    };
    PolicyBody {
        repairs: policy.repairs.map(repairs),
        at_least: policy.at_least.map(|least| f64::from(least) / 1000.0),
        model: policy.model.map(model),
        two_persons: policy.two_persons.as_ref().map(|classes| classes.iter().map(class).collect()),
        mask: policy.mask.as_ref().map(|names| names.iter().cloned().map(Text::from).collect()),
        remind_hours: policy.remind_hours,
        expire_hours: policy.expire_hours,
    }
}

/// Rounded up: what is asked for is asked for.
fn thousandths(share: f64) -> u16 {
    (share.clamp(0.0, 1.0) * 1000.0 - 1e-6).ceil().max(0.0) as u16
}

fn threshold(test: Backtest, at_least: u16) -> ThresholdInfo {
    let precision = test.precision();
    ThresholdInfo {
        at_least: f64::from(at_least) / 1000.0,
        cases: test.cases,
        applied: test.applied,
        confirmed: test.confirmed,
        contradicted: test.contradicted,
        unreviewed: test.unreviewed,
        precision_low: precision.map(|(low, _)| low),
        precision_high: precision.map(|(_, high)| high),
        contradicted_cases: test.contradicted_cases.iter().map(ToString::to_string).collect(),
    }
}

impl From<Unmeant> for Problem {
    fn from(error: Unmeant) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<PolicyError> for Problem {
    fn from(error: PolicyError) -> Self {
        let detail = error.to_string();
        match error {
            PolicyError::Invalid(_) => Self::invalid(detail),
            PolicyError::Changed => Self::new(StatusCode::PRECONDITION_FAILED, "changed_meanwhile", detail),
            PolicyError::Store(error) => error.into(),
            PolicyError::Ingest(error) => error.into(),
        }
    }
}
