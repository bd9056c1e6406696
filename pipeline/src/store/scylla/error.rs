//! What goes wrong with a cluster, and what to do about it.

use scylla::errors::{
    DbError, ExecutionError, NewSessionError, PagerExecutionError, PrepareError, RequestAttemptError, RequestError,
};

use super::super::StoreError;

/// A cluster cannot be used as the store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting cannot be.
    #[error("the settings of the store cannot be used: {0}")]
    Settings(String),
    /// A certificate or a key cannot be used, or a node's is not trusted.
    #[error(
        "the certificates of the store cannot be used: {0}; mend `tls`: its files are PEM, and a node's certificate names the \
         IP address at which it is asked unless `check_addresses` is off"
    )]
    Tls(String),
    /// Nobody answers.
    #[error(
        "no node answers at {nodes}: {why}; make sure that ScyllaDB or Cassandra runs there, takes CQL clients, and that both \
         sides use TLS or neither"
    )]
    Unreachable {
        /// The addresses tried.
        nodes: String,
        /// What the driver says.
        why: String,
    },
    /// The login is refused.
    #[error("the nodes at {nodes} refuse the login: {why}; check user name and password of `login`")]
    Login {
        /// The addresses tried.
        nodes: String,
        /// What they said.
        why: String,
    },
    /// The keyspace is not there.
    #[error("keyspace {keyspace} is not there: switch `migrate` on once, with a user who may make it")]
    MissingKeyspace {
        /// Its name.
        keyspace: String,
    },
    /// The tables are those of an older build.
    #[error("keyspace {keyspace} has schema {found}, this build needs {needed}: switch `migrate` on once")]
    OlderSchema {
        /// The keyspace.
        keyspace: String,
        /// Its schema; 0 is none.
        found: i32,
        /// What this build needs.
        needed: i32,
    },
    /// The tables are those of a newer build.
    #[error("keyspace {keyspace} has schema {found}, this build knows {known}: use a newer autonomos")]
    NewerSchema {
        /// The keyspace.
        keyspace: String,
        /// Its schema.
        found: i32,
        /// The newest that is known.
        known: i32,
    },
    /// The tables cannot be brought to what is needed.
    #[error("keyspace {keyspace} cannot be made or migrated: {why}")]
    Migrate {
        /// The keyspace.
        keyspace: String,
        /// What the cluster said.
        why: String,
    },
    /// Nodes answer, and not as many as are needed, or not yet.
    #[error("the store is not ready: {0}; make sure that every node runs")]
    NotReady(String),
    /// Anything else.
    #[error("opening the store failed: {0}")]
    Failed(String),
}

impl OpenError {
    /// Whether the store may open later, without anything being changed: nodes are away, or not ready yet.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NotReady(_) => true,
            Self::Settings(_)
            | Self::Tls(_)
            | Self::Login { .. }
            | Self::MissingKeyspace { .. }
            | Self::OlderSchema { .. }
            | Self::NewerSchema { .. }
            | Self::Migrate { .. }
            | Self::Failed(_) => false,
        }
    }
}

/// Whether a login was refused, from what the driver says of a session that was not made.
pub(super) fn of_session(error: &NewSessionError, nodes: String) -> OpenError {
    let why = chain(error);
    // The login is looked up in replicas that may be away.
    if why.contains("Unable to perform authentication") || why.contains("Cannot achieve consistency") {
        return OpenError::NotReady(format!("logging in at {nodes}: {why}"));
    }
    if why.contains("uthentication") || why.contains("credentials") || why.contains("username") {
        return OpenError::Login { nodes, why };
    }
    if why.contains("peer certificate") {
        return OpenError::Tls(format!("{nodes}: {why}"));
    }
    match error {
        NewSessionError::EmptyKnownNodesList | NewSessionError::IllegalConfig(_) => OpenError::Settings(why),
        _ => OpenError::Unreachable { nodes, why },
    }
}

/// An error with its causes, as far as they say more.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    text
}

/// How a statement failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// It may work later; whether it was done is not known.
    InPassing(String),
    /// It will not work.
    ForGood(String),
}

impl Failed {
    /// What it is for a store that is being opened.
    pub(super) fn of_opening(self, doing: &str) -> OpenError {
        match self {
            Self::InPassing(why) => OpenError::NotReady(format!("{doing}: {why}")),
            Self::ForGood(why) => OpenError::Failed(format!("{doing}: {why}")),
        }
    }
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::InPassing(why) => Self::Unreachable(why),
            Failed::ForGood(why) => Self::Failed(why),
        }
    }
}

impl From<ExecutionError> for Failed {
    fn from(error: ExecutionError) -> Self {
        let why = error.to_string();
        match &error {
            ExecutionError::LastAttemptError(attempt) => of_attempt(attempt, why),
            ExecutionError::ConnectionPoolError(_)
            | ExecutionError::RequestTimeout(_)
            | ExecutionError::EmptyPlan
            | ExecutionError::SchemaAgreementError(_)
            | ExecutionError::MetadataError(_) => Self::InPassing(why),
            _ => Self::ForGood(why),
        }
    }
}

impl From<PagerExecutionError> for Failed {
    fn from(error: PagerExecutionError) -> Self {
        let why = chain(&error);
        match &error {
            PagerExecutionError::NextPageError(_) => of_page(why),
            _ => Self::ForGood(why),
        }
    }
}

/// Pages are only read: they may always be asked for again, for as long as that is tried.
pub(super) fn of_page(why: String) -> Failed {
    Failed::InPassing(of_read(why))
}

/// Says what to do where a node gave up reading over rows that were removed.
fn of_read(why: String) -> String {
    if !why.contains("TOO_MANY_TOMBSTONES") {
        return why;
    }
    format!(
        "{why}; very many rows were removed lately: raise tombstone_failure_threshold in cassandra.yaml for now, or wait until the \
         table's gc_grace_seconds are over and run nodetool compact on the keyspace"
    )
}

impl From<PrepareError> for Failed {
    fn from(error: PrepareError) -> Self {
        let why = error.to_string();
        match &error {
            PrepareError::AllAttemptsFailed { first_attempt } => of_attempt(first_attempt, why),
            PrepareError::ConnectionPoolError(_) => Self::InPassing(why),
            _ => Self::ForGood(why),
        }
    }
}

impl From<RequestError> for Failed {
    fn from(error: RequestError) -> Self {
        error.into_execution_error().into()
    }
}

fn of_attempt(error: &RequestAttemptError, why: String) -> Failed {
    match error {
        RequestAttemptError::UnableToAllocStreamId | RequestAttemptError::BrokenConnectionError(_) => {
            Failed::InPassing(why)
        }
        RequestAttemptError::DbError(error, _) => of_cluster(error, why),
        _ => Failed::ForGood(why),
    }
}

fn of_cluster(error: &DbError, why: String) -> Failed {
    match error {
        DbError::Unavailable { required, alive, .. } => Failed::InPassing(format!(
            "{why}; {required} replicas have to answer and {alive} are up: start them, or lower the keyspace's replication"
        )),
        DbError::Overloaded
        | DbError::IsBootstrapping
        | DbError::TruncateError
        | DbError::ReadTimeout { .. }
        | DbError::WriteTimeout { .. }
        | DbError::WriteFailure { .. }
        | DbError::RateLimitReached { .. }
        | DbError::ServerError => Failed::InPassing(why),
        DbError::ReadFailure { .. } => Failed::InPassing(of_read(why)),
        DbError::Unauthorized => {
            Failed::ForGood(format!("{why}; allow SELECT and MODIFY on the keyspace, and CREATE where it is migrated"))
        }
        // What Cassandra 4.1 and later say of a conditional write whose outcome they do not know.
        DbError::Other(0x1700) => Failed::InPassing(why),
        _ => Failed::ForGood(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_may_open_later_where_nodes_are_away_and_not_where_something_has_to_be_changed() {
        let unreachable = OpenError::Unreachable { nodes: "a:9042".into(), why: "refused".into() };
        assert!(
            unreachable.is_retryable() && Failed::InPassing("one of two".into()).of_opening("asking").is_retryable()
        );
        let login = OpenError::Login { nodes: "a:9042".into(), why: "wrong".into() };
        assert!(!login.is_retryable() && !Failed::ForGood("no such table".into()).of_opening("asking").is_retryable());
    }

    #[test]
    fn a_read_that_met_too_many_removed_rows_says_what_to_do_and_another_only_what_happened() {
        let said = "Operation failed - received 0 responses and 1 failures: READ_TOO_MANY_TOMBSTONES from /127.0.0.1";
        let Failed::InPassing(why) = of_page(said.into()) else { panic!("it passes") };
        assert!(why.starts_with(said) && why.contains("tombstone_failure_threshold"), "{why}");
        let Failed::InPassing(why) = of_page("a node is away".into()) else { panic!("it passes") };
        assert_eq!(why, "a node is away");
    }
}
