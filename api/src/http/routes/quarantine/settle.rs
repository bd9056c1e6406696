//! Retrying and discarding what was set aside.

use std::sync::Arc;
use std::time::Duration;

use poem::http::StatusCode;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object};
use schemas::reason::Reason;
use schemas::settle::{Action, Settled, Which};
use schemas::{Position, StreamId};

use crate::auth::{Caller, Role};
use crate::http::Doors;
use crate::http::manners::journal::Noted;
use crate::http::problem::Problem;
use crate::http::text::Text;
use crate::line::{Reasoned, SettleError};

/// How long a settlement is waited for before the answer is 202.
const WAIT: Duration = Duration::from_secs(20);

/// Why a record is settled.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct Why {
    /// Why, for the record.
    #[oai(validator(min_length = 1, max_length = 1000))]
    pub why: Text,
}

/// Which records are settled, and why. What is named must all fit; at least one thing is named.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none)]
pub struct Several {
    /// Only of this connection; with `stream`.
    #[oai(validator(max_length = 127))]
    pub connection: Option<Text>,
    /// Only of this stream of the connection.
    #[oai(validator(max_length = 127))]
    pub stream: Option<Text>,
    /// Only what was set aside for this reason.
    #[oai(validator(max_length = 80))]
    pub reason: Option<Text>,
    /// Only what was set aside for this field or path.
    #[oai(validator(max_length = 8192))]
    pub field: Option<Text>,
    /// Why, for the record.
    #[oai(validator(min_length = 1, max_length = 1000))]
    pub why: Text,
}

/// What became of the records.
#[derive(Debug, Default, Object)]
pub struct SettledInfo {
    /// Records that were settled.
    pub records: u64,
    /// Those that are rows now.
    pub accepted: u64,
    /// Those that are deletes now.
    pub deleted: u64,
    /// Those that were set aside again.
    pub quarantined: u64,
    /// Those that are held for a case of drift.
    pub held: u64,
    /// Those that were given up.
    pub discarded: u64,
}

/// Where to see how it goes.
#[derive(Debug, Object)]
pub struct SettledLater {
    /// The records that are settled.
    pub link: String,
}

/// How a settlement ended, or that it goes on.
#[derive(ApiResponse)]
pub enum Done {
    /// What became of the records.
    #[oai(status = 200)]
    Done(Json<SettledInfo>),
    /// It is on the log and goes on.
    #[oai(status = 202)]
    Accepted(Json<SettledLater>),
}

/// Settles one record.
pub async fn one(
    doors: &Arc<Doors>,
    noted: &Noted,
    caller: &Caller,
    position: &str,
    action: Action,
    body: Why,
) -> Result<Done, Problem> {
    caller.require(Role::Editor)?;
    is_reason(&body.why)?;
    let missing = || Problem::not_found("quarantined record");
    let position: Position = position.parse().map_err(|_| missing())?;
    doors.line.wait_quarantined().await.map_err(Problem::internal)?;
    let note = pipeline::quarantine::find(&*doors.line.store, caller.tenant, position).await?.ok_or_else(missing)?;
    let connection = note.stream.split('/').next().unwrap_or_default();
    caller.require_connection(connection).map_err(|_| missing())?;
    noted.say(format!("{} of {position}: {}", action.name(), &*body.why));
    let (line, tenant, by) = (doors.line.clone(), caller.tenant, caller.label());
    let settling =
        tokio::spawn(
            async move { line.settle_one(tenant, position, Reasoned { action, by: &by, why: &body.why }).await },
        );
    done(settling).await
}

/// Settles every record that fits.
pub async fn several(
    doors: &Arc<Doors>,
    noted: &Noted,
    caller: &Caller,
    action: Action,
    body: Several,
) -> Result<Done, Problem> {
    caller.require(Role::Editor)?;
    let Several { connection, stream, reason, field, why } = body;
    is_reason(&why)?;
    let of = super::super::stream_wanted(caller, connection.map(String::from), stream.map(String::from))?;
    let reason = reason.map(|code| {
        let known = Reason::ALL.iter().copied().find(|reason| reason.code() == &*code);
        known.ok_or_else(|| {
            let code = &*code;
            Problem::invalid(format!("there is no reason {code:.40?}: the quarantine's records name theirs"))
        })
    });
    let which = Which { offsets: vec![], reason: reason.transpose()?, field: field.map(String::from) };
    if of.is_none() && which == Which::default() {
        return Err(Problem::invalid("name a stream with its connection, a reason or a field"));
    }
    let whose = of.as_ref().map_or_else(|| "all streams".to_owned(), StreamId::to_string);
    let what = serde_json::to_string(&which).unwrap_or_default();
    noted.say(format!("{} of {what} of {whose}: {}", action.name(), &*why));
    let (line, tenant, by) = (doors.line.clone(), caller.tenant, caller.label());
    let settling = tokio::spawn(async move {
        let why = Reasoned { action, by: &by, why: &why };
        match of {
            Some(stream) => line.settle_stream(&stream, which, why).await,
            None => {
                let all = line.settle_all(tenant, &which, why).await?;
                Ok(all.into_values().reduce(Settled::plus).unwrap_or_default())
            }
        }
    });
    done(settling).await
}

/// Blanks are no reason.
fn is_reason(why: &str) -> Result<(), Problem> {
    match why.trim() {
        "" => Err(Problem::invalid("say why: the reason is kept with the records")),
        _ => Ok(()),
    }
}

/// It goes on even when nobody waits for it.
async fn done(settling: tokio::task::JoinHandle<Result<Settled, SettleError>>) -> Result<Done, Problem> {
    match tokio::time::timeout(WAIT, settling).await {
        Err(_) => Ok(Done::Accepted(Json(SettledLater { link: "/api/v1/quarantine?settled=true".into() }))),
        Ok(Err(error)) => Err(Problem::internal(error)),
        Ok(Ok(settled)) => Ok(Done::Done(Json(settled?.into()))),
    }
}

impl SettledInfo {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            records: self.records + other.records,
            accepted: self.accepted + other.accepted,
            deleted: self.deleted + other.deleted,
            quarantined: self.quarantined + other.quarantined,
            held: self.held + other.held,
            discarded: self.discarded + other.discarded,
        }
    }
}

impl From<Settled> for SettledInfo {
    fn from(settled: Settled) -> Self {
        let Settled { records, accepted, deleted, quarantined, held, discarded } = settled;
        Self { records, accepted, deleted, quarantined, held, discarded }
    }
}

impl From<SettleError> for Problem {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Unknown(_) => Self::not_found("quarantined record"),
            SettleError::NoStream(_) => Self::not_found("stream"),
            SettleError::Settled { .. } => Self::new(StatusCode::CONFLICT, "settled_already", error.to_string()),
            SettleError::Refused(reason) => Self::conflict(reason),
            SettleError::Failed(error) => Self::internal(format!("{error:#}")),
        }
    }
}
