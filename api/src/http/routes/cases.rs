//! `/api/v1/aam/cases`: drift, and what people decide of it.

pub mod evidence;
pub mod listing;
pub mod shape;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pipeline::repair::Case;
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use schemas::drift::Verdict;
use schemas::ids::InvalidName;
use schemas::{ConnectionName, Position, StreamName};

use super::{Signed, Tag};
use crate::auth::{Caller, Role};
use crate::http::Doors;
use crate::http::problem::Problem;
use crate::http::text::Text;
use crate::http::time;
use crate::line::{DecideError, MadeOn, Outcome};
use evidence::DryRunInfo;
use listing::CasesWanted;
use shape::{CaseInfo, CasePage, MoveWanted};

const LIMIT: u32 = 100;
/// Held records that a decision is tried on, unless said.
const DRY_RUN_RECORDS: u32 = 100;
/// How long a decision's outcome is waited for before the answer is 202.
const OUTCOME_WAIT: Duration = Duration::from_secs(10);

/// How long the answer then waits for what the decision has let go.
const LET_GO_WAIT: Duration = Duration::from_secs(5);

/// A decision's reason, and what it was made on.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct Decision {
    /// Why, for the record.
    #[oai(default, validator(max_length = 1000))]
    pub why: Text,
    /// Only of these lost paths; of all when left out. A reject and a revert are of the whole case and refuse it.
    #[oai(default, validator(max_items = 1000))]
    pub only: Vec<Text>,
    /// The mapping version that the case showed; when another is in force the decision is refused. By default the latest.
    pub mapping_version: Option<u32>,
    /// The version that the case showed; when it is at another by now the decision is refused. By default the latest.
    pub version: Option<u32>,
}

/// Another repair.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct Edit {
    /// Where the lost paths have gone, once for each.
    #[oai(validator(min_items = 1, max_items = 1000))]
    pub moves: Vec<MoveWanted>,
    /// Why, for the record.
    #[oai(default, validator(max_length = 1000))]
    pub why: Text,
    /// As of other decisions.
    pub mapping_version: Option<u32>,
    /// As of other decisions.
    pub version: Option<u32>,
}

/// When to ask again.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct Snooze {
    /// A time with its zone, to come, before 9999-12-30T22:00:00Z.
    #[oai(validator(max_length = 40))]
    pub until: Text,
    /// Why, for the record.
    #[oai(default, validator(max_length = 1000))]
    pub why: Text,
    /// As of other decisions.
    pub mapping_version: Option<u32>,
    /// As of other decisions.
    pub version: Option<u32>,
}

/// A decision to try.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct Attempt {
    /// approve, edit or accept_removed.
    pub decision: TriedDecision,
    /// Only of these lost paths; of all when left out. Not with edit, whose moves say it.
    #[oai(default, validator(max_items = 1000))]
    pub only: Vec<Text>,
    /// With edit, and only there: where the lost paths have gone, once for each.
    #[oai(default, validator(max_items = 1000))]
    pub moves: Vec<MoveWanted>,
    /// The last so many of the records that it holds.
    #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
    pub records: Option<u32>,
}

/// A decision that can be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum TriedDecision {
    /// The proposed moves.
    Approve,
    /// Other moves.
    Edit,
    /// The lost paths are gone for good.
    AcceptRemoved,
}

/// Where to see how it goes.
#[derive(Debug, Object)]
pub struct Later {
    /// The case.
    pub link: String,
}

#[derive(ApiResponse)]
#[expect(clippy::large_enum_variant, reason = "it lives for one answer")]
enum Decided {
    /// It was carried out; this is the case now. What it held and is not counted as `redriven` is on its way to the views.
    #[oai(status = 200)]
    Done(Json<CaseInfo>),
    /// It is on the log and will have its outcome.
    #[oai(status = 202)]
    Accepted(Json<Later>),
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/aam/cases", tag = "Tag::Cases")]
impl Routes {
    /// List cases, by their streams and the order in which they began.
    #[oai(path = "/", method = "get", operation_id = "list_cases")]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        /// Only of this status: watching, open, rejected, repaired, removed, released, reverted or noted; `waiting` is open and rejected.
        #[oai(validator(max_length = 20))]
        status: Query<Option<String>>,
        /// Only of this connection. A key that is bound to connections must name one.
        #[oai(validator(max_length = 127))]
        connection: Query<Option<String>>,
        /// Only of this stream of the connection; with `connection`.
        #[oai(validator(max_length = 127))]
        stream: Query<Option<String>>,
        /// Only of this severity: info, warning or breaking.
        #[oai(validator(max_length = 20))]
        severity: Query<Option<String>>,
        /// Only those with this among their `kinds`: renamed, nested, unnested, split, merged, retyped, removed, added or nulls.
        #[oai(validator(max_length = 20))]
        kind: Query<Option<String>>,
        /// Cases at most. Of a status, severity or kind a page may show fewer and still have a `next`: 1,000 cases, or `limit`
        /// if that is more, are looked at for it.
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<Option<u32>>,
        /// The `next` of the page before.
        #[oai(validator(max_length = 1024))]
        cursor: Query<Option<String>>,
    ) -> Result<Json<CasePage>, Problem> {
        let wanted = CasesWanted {
            of: scope(&caller, connection.0.as_deref(), stream.0.as_deref())?,
            status: status.0.as_deref().map(listing::status).transpose()?,
            severity: severity.0.as_deref().map(listing::severity).transpose()?,
            kind: kind.0.as_deref().map(listing::kind).transpose()?,
        };
        let purpose = format!("{}/cases", caller.tenant);
        let after = super::open_key(&doors, &purpose, cursor.0.as_deref())?;
        let limit = limit.0.unwrap_or(LIMIT) as usize;
        super::wait_cases(&doors).await?;
        let (found, next) = wanted.page(&*doors.line.store, caller.tenant, after.as_deref(), limit).await?;
        let next = next.map(|key| doors.seal.close(&purpose, key.as_bytes()));
        let cases = found.into_iter().map(shape::case).collect();
        Ok(Json(CasePage { cases, next }))
    }

    /// Show one with its evidence: what is lost, real rows from before and held records, where it may have gone and what
    /// that would make of them, whom it concerns, what was decided.
    #[oai(path = "/:case", method = "get", operation_id = "show_case")]
    async fn show(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        case: Path<String>,
    ) -> Result<Json<CaseInfo>, Problem> {
        super::wait_cases(&doors).await?;
        let case = find(&doors, &caller, &case).await?;
        let failed = |error: anyhow::Error| Problem::internal(format!("{error:#}"));
        let seen = doors.line.evidence(caller.tenant, &case).await.map_err(failed)?;
        let impact = doors.line.impact(caller.tenant, &case).await.map_err(failed)?;
        let seen = evidence::evidence(seen, impact, case.position, Some(&caller));
        let names = names(&doors, &caller, &case).await?;
        Ok(Json(shape::case(case).with(seen, &names)))
    }

    /// Say what approving the proposed repair would do to the last held records. Nothing is changed.
    #[oai(path = "/:case/dry_run", method = "get", operation_id = "dry_run_case")]
    async fn dry_run(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        case: Path<String>,
        /// The last so many of the records that it holds.
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
        records: Query<Option<u32>>,
    ) -> Result<Json<DryRunInfo>, Problem> {
        attempt(&doors, &caller, &case, Verdict::Approve { only: vec![] }, records.0).await
    }

    /// Say what a decision would do to the last held records. Nothing is changed.
    #[oai(path = "/:case/dry_run", method = "post", operation_id = "try_case")]
    async fn attempt(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        case: Path<String>,
        body: Json<Attempt>,
    ) -> Result<Json<DryRunInfo>, Problem> {
        let Json(Attempt { decision, only, moves, records }) = body;
        let verdict = match decision {
            TriedDecision::Edit if !only.is_empty() => {
                return Err(Problem::invalid("an edit is of the paths that its moves name: leave `only` out"));
            }
            TriedDecision::Edit => Verdict::Edit { moves: shape::all_wanted(moves)? },
            _ if !moves.is_empty() => {
                return Err(Problem::invalid(
                    "moves are of an edit: leave `moves` out, or say `\"decision\": \"edit\"`",
                ));
            }
            TriedDecision::Approve => Verdict::Approve { only: texts(only) },
            TriedDecision::AcceptRemoved => Verdict::AcceptAsRemoved { only: texts(only) },
        };
        attempt(&doors, &caller, &case, verdict, records).await
    }

    /// The proposed repair is right: the new paths are read before the old ones, and what is held comes through them. Of
    /// values that changed, the rule reads them as they are now. A case of new fields has been seen, and is noted. Where
    /// two people decide, the first approval is noted, and the case waits for the same one of another person.
    #[oai(path = "/:case/approve", method = "post", operation_id = "approve_case")]
    async fn approve(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        case: Path<String>,
        body: Json<Decision>,
    ) -> Result<Decided, Problem> {
        let Json(Decision { why, only, mapping_version, version }) = body;
        let made_on = MadeOn { mapping_version, version };
        decide(&doors, &caller, &case, made_on, Verdict::Approve { only: texts(only) }, &why).await
    }

    /// Another repair is right.
    #[oai(path = "/:case/edit", method = "post", operation_id = "edit_case")]
    async fn edit(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        case: Path<String>,
        body: Json<Edit>,
    ) -> Result<Decided, Problem> {
        let Json(Edit { moves, why, mapping_version, version }) = body;
        let made_on = MadeOn { mapping_version, version };
        let moves = shape::all_wanted(moves)?;
        decide(&doors, &caller, &case, made_on, Verdict::Edit { moves }, &why).await
    }

    /// The proposal is wrong. What is held stays held until there is another decision.
    #[oai(path = "/:case/reject", method = "post", operation_id = "reject_case")]
    async fn reject(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        case: Path<String>,
        body: Json<Decision>,
    ) -> Result<Decided, Problem> {
        let Json(Decision { why, only, mapping_version, version }) = body;
        of_all("reject", &only)?;
        let made_on = MadeOn { mapping_version, version };
        decide(&doors, &caller, &case, made_on, Verdict::Reject, &why).await
    }

    /// The lost paths are gone for good: their fields are null from here on, and what is held comes without them.
    #[oai(path = "/:case/accept-removed", method = "post", operation_id = "accept_case_as_removed")]
    async fn accept_removed(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        case: Path<String>,
        body: Json<Decision>,
    ) -> Result<Decided, Problem> {
        let Json(Decision { why, only, mapping_version, version }) = body;
        let made_on = MadeOn { mapping_version, version };
        decide(&doors, &caller, &case, made_on, Verdict::AcceptAsRemoved { only: texts(only) }, &why).await
    }

    /// The decision was wrong: the former rules are in force again, what was accepted since is looked at again by them, and
    /// what lacks what they read is held and withdrawn from its view. Another case waits for a decision in its place.
    #[oai(path = "/:case/revert", method = "post", operation_id = "revert_case")]
    async fn revert(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        case: Path<String>,
        body: Json<Decision>,
    ) -> Result<Decided, Problem> {
        let Json(Decision { why, only, mapping_version, version }) = body;
        of_all("revert", &only)?;
        let made_on = MadeOn { mapping_version, version };
        decide(&doors, &caller, &case, made_on, Verdict::Revert, &why).await
    }

    /// Ask again later. What is held stays held.
    #[oai(path = "/:case/snooze", method = "post", operation_id = "snooze_case")]
    async fn snooze(
        &self,
        doors: Data<&Arc<Doors>>,
        Signed(caller): Signed,
        case: Path<String>,
        body: Json<Snooze>,
    ) -> Result<Decided, Problem> {
        let Json(Snooze { until, why, mapping_version, version }) = body;
        let made_on = MadeOn { mapping_version, version };
        let until = time::seconds_of(&until).and_then(|seconds| seconds.checked_mul(1_000_000));
        let wrong = "until is a time with its zone, as 2026-01-31T10:00:00Z, and before 9999-12-30T22:00:00Z";
        let until = until.ok_or_else(|| Problem::invalid(wrong))?;
        decide(&doors, &caller, &case, made_on, Verdict::Snooze { until }, &why).await
    }
}

fn texts(texts: Vec<Text>) -> Vec<String> {
    texts.into_iter().map(String::from).collect()
}

/// The connection that a list is confined to, or the stream of it; who is bound to connections must name one of them.
fn scope(
    caller: &Caller,
    connection: Option<&str>,
    stream: Option<&str>,
) -> Result<Option<(ConnectionName, Option<StreamName>)>, Problem> {
    let Some(connection) = connection else {
        return match stream {
            Some(_) => Err(Problem::invalid("name the connection of the stream, too")),
            None if caller.is_bound() => Err(Problem::invalid("name a connection: this key is bound to some")),
            None => Ok(None),
        };
    };
    caller.require_connection(connection)?;
    let wrong = |error: InvalidName| Problem::invalid(error.to_string());
    let stream = stream.map(str::parse::<StreamName>).transpose().map_err(wrong)?;
    Ok(Some((connection.parse().map_err(wrong)?, stream)))
}

/// Refuses a decision that is of the whole case and names some of its paths.
fn of_all(what: &str, only: &[Text]) -> Result<(), Problem> {
    if only.is_empty() {
        return Ok(());
    }
    Err(Problem::invalid(format!(
        "a {what} is of the whole case: leave `only` out, or approve the paths that are right"
    )))
}

/// A case that the caller may see.
async fn find(doors: &Doors, caller: &Caller, id: &str) -> Result<Case, Problem> {
    let missing = || Problem::not_found("case");
    let position: Position = id.parse().map_err(|_| missing())?;
    let case = doors.line.case(caller.tenant, position).await?.ok_or_else(missing)?;
    let connection = case.stream.split('/').next().unwrap_or_default();
    caller.require_connection(connection).map_err(|_| missing())?;
    Ok(case)
}

/// The addresses of the people who decided something of a case, by how the log names them.
async fn names(doors: &Doors, caller: &Caller, case: &Case) -> Result<BTreeMap<String, String>, Problem> {
    let mut names = BTreeMap::new();
    for label in case.decided.iter().flat_map(|decided| decided.by.split(" and ")) {
        let Some(id) = label.strip_prefix("user:").filter(|_| !names.contains_key(label)) else { continue };
        if let Some(user) = doors.accounts.user(caller.tenant, id).await? {
            names.insert(label.to_owned(), user.email);
        }
    }
    Ok(names)
}

async fn attempt(
    doors: &Doors,
    caller: &Caller,
    id: &str,
    verdict: Verdict,
    records: Option<u32>,
) -> Result<Json<DryRunInfo>, Problem> {
    super::wait_cases(doors).await?;
    let case = find(doors, caller, id).await?;
    if !case.status.is_waiting() {
        let (position, status) = (case.position, case.status.name());
        return Err(of_decide(DecideError::NotOpen { position, status }));
    }
    let count = records.unwrap_or(DRY_RUN_RECORDS) as usize;
    let tried = doors.line.dry_run(caller.tenant, &case, verdict, count).await;
    let run = tried.map_err(|error| Problem::internal(format!("{error:#}")))?.map_err(Problem::conflict)?;
    Ok(Json(evidence::dry_run(run, case.position)))
}

/// Gives a decision. It has its outcome even when nobody waits for it.
async fn decide(
    doors: &Arc<Doors>,
    caller: &Caller,
    id: &str,
    made_on: MadeOn,
    verdict: Verdict,
    why: &str,
) -> Result<Decided, Problem> {
    caller.require(Role::Editor)?;
    super::wait_cases(doors).await?;
    let position = find(doors, caller, id).await?.position;
    let (line, tenant, by, why) = (doors.line.clone(), caller.tenant, caller.label(), why.to_owned());
    let decided = tokio::spawn(async move { line.decide(tenant, position, made_on, verdict, (&by, &why)).await });
    match tokio::time::timeout(OUTCOME_WAIT, decided).await {
        Err(_) => Ok(Decided::Accepted(Json(Later { link: format!("/api/v1/aam/cases/{position}") }))),
        Ok(Err(error)) => Err(Problem::internal(error)),
        Ok(Ok(Err(error))) => Err(of_decide(error)),
        Ok(Ok(Ok(Outcome::Refused(reason)))) => Err(Problem::conflict(reason)),
        Ok(Ok(Ok(Outcome::Applied))) => {
            let case = find(doors, caller, id).await?;
            // What it let go is back in a moment, mostly; nobody waits longer for it.
            _ = tokio::time::timeout(LET_GO_WAIT, doors.line.wait_let_go(tenant, &case)).await;
            Ok(Decided::Done(Json(shape::case(find(doors, caller, id).await?))))
        }
    }
}

fn of_decide(error: DecideError) -> Problem {
    match error {
        DecideError::Unknown(_) => Problem::not_found("case"),
        DecideError::NotOpen { .. } | DecideError::Stays { .. } => {
            Problem::new(StatusCode::CONFLICT, "case_not_open", error.to_string())
        }
        DecideError::SecondPerson(_) => Problem::new(StatusCode::FORBIDDEN, "second_person_needed", error.to_string()),
        DecideError::Failed(error) => Problem::internal(format!("{error:#}")),
    }
}
