//! What goes wrong with a cluster, and what to do about it.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use schemas::Topic;

use super::super::LogError;

/// A Kafka cluster cannot be used as the log.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting cannot be.
    #[error("the settings of Kafka cannot be used: {0}")]
    Settings(String),
    /// Nobody answers.
    #[error(
        "no broker answers at {brokers}: {why}; make sure that Kafka runs, that the address is one it advertises, and that \
         both sides use TLS or neither"
    )]
    Unreachable {
        /// The addresses tried.
        brokers: String,
        /// What the last connection said.
        why: String,
    },
    /// The login is refused.
    #[error("the brokers at {brokers} refuse the login: {why}; check mechanism, user name and password of `sasl`")]
    Login {
        /// The addresses tried.
        brokers: String,
        /// What they said.
        why: String,
    },
    /// The user may not do what the log needs.
    #[error(
        "the user may not {what} topic {topic}: allow Read, Write, Describe and DescribeConfigs on it, and Create where \
         `create_topics` is on"
    )]
    Forbidden {
        /// Kafka's name of the topic.
        topic: String,
        /// What was tried.
        what: &'static str,
    },
    /// A topic is not there.
    #[error("topic {topic} is not there: switch `create_topics` on, or make it: {command}")]
    MissingTopic {
        /// Kafka's name of the topic.
        topic: String,
        /// A command that makes it.
        command: String,
    },
    /// A topic is there, and empty.
    #[error(
        "topic {topic} is there and has not begun: it begins when a process of the line starts on it, or records move there"
    )]
    NotBegun {
        /// Kafka's name of the topic.
        topic: String,
    },
    /// A topic cannot be made.
    #[error("topic {topic} cannot be made: {why}")]
    Create {
        /// Kafka's name of the topic.
        topic: String,
        /// What the broker said.
        why: String,
    },
    /// A topic has fewer partitions than wanted, or than it was made with.
    #[error(
        "topic {topic} has {found} partitions and needs {wanted}: give it more while it is empty, or ask for fewer; a topic \
         with records keeps the count it was made with"
    )]
    TooFewPartitions {
        /// Kafka's name of the topic.
        topic: String,
        /// How many it has.
        found: u32,
        /// How many are needed.
        wanted: u32,
    },
    /// Counts that cannot be.
    #[error("a topic has from 1 to 4096 partitions, and `inputs` as many as `decisions`: {0:?}")]
    Partitions(crate::engine::Partitions),
    /// A topic would lose records, or refuse them.
    #[error("topic {topic} would lose or refuse records: {wrong}; set it right: {command}")]
    TopicSettings {
        /// Kafka's name of the topic.
        topic: String,
        /// What is set, and what should be.
        wrong: String,
        /// A command that does it.
        command: String,
    },
    /// A topic has lost its beginning.
    #[error(
        "partition {partition} of topic {topic} begins at message {first}: the ones before it were removed; restore the topic \
         from a backup, or begin with another `topic_prefix`"
    )]
    Shortened {
        /// Kafka's name of the topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// Kafka's offset of the first message there is.
        first: i64,
    },
    /// A topic holds something else.
    #[error("topic {topic} was not made by autonomos: {why}; choose another `topic_prefix`, or empty the topic")]
    NotOurs {
        /// Kafka's name of the topic.
        topic: String,
        /// What is there.
        why: String,
    },
    /// A topic was made by a newer build.
    #[error("topic {topic} has layout {found}, this build knows {known}: use a newer autonomos")]
    NewerFormat {
        /// Kafka's name of the topic.
        topic: String,
        /// Its layout.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// Brokers answer, and one that is needed does not, or not yet.
    #[error("the log on Kafka is not ready: {0}; make sure that every broker runs")]
    NotReady(String),
    /// Anything else.
    #[error("opening the log on Kafka failed: {0}")]
    Failed(String),
}

impl OpenError {
    /// Whether the log may open later, without anything being changed: brokers are away, or not ready yet.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NotReady(_) => true,
            Self::Settings(_)
            | Self::Login { .. }
            | Self::Forbidden { .. }
            | Self::MissingTopic { .. }
            | Self::NotBegun { .. }
            | Self::Create { .. }
            | Self::TooFewPartitions { .. }
            | Self::Partitions(_)
            | Self::TopicSettings { .. }
            | Self::Shortened { .. }
            | Self::NotOurs { .. }
            | Self::NewerFormat { .. }
            | Self::Failed(_) => false,
        }
    }
}

/// An operation on a partition that failed while the log was opened.
impl From<LogError> for OpenError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Unreachable(why) => Self::NotReady(why),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// The error of a question that was asked while the log was opened.
pub(super) fn of_question(error: &KafkaError, asking: &str) -> OpenError {
    let why = format!("{asking}: {error}");
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    };
    if code.is_some_and(is_passing) { OpenError::NotReady(why) } else { OpenError::Failed(why) }
}

/// Whether a call may work later without anything being changed.
pub(super) fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::MessageTimedOut
            | Code::Resolve
            | Code::NetworkException
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::ReplicaNotAvailable
            | Code::BrokerNotAvailable
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::OffsetNotAvailable
            | Code::UnknownLeaderEpoch
            | Code::FencedLeaderEpoch
            | Code::WaitingForCoordinator
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::CoordinatorLoadInProgress
            | Code::NotController
            | Code::QueueFull
    )
}

/// The error of one operation on a partition.
pub(super) fn of_operation(error: &KafkaError, doing: &str, topic: Topic, partition: u32) -> LogError {
    let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
    let place = format!("{doing} topic {topic}, partition {partition}");
    if is_passing(code) {
        return LogError::Unreachable(format!("{place}: {error}"));
    }
    let remedy = match code {
        Code::MessageSizeTooLarge => "the broker finds a message too large: raise the topic's max.message.bytes again",
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            "the topic is gone: restore it from a backup"
        }
        Code::AutoOffsetReset | Code::OffsetOutOfRange => {
            "the topic was made again or has lost messages: start again, and restore it from a backup if that fails"
        }
        Code::Authentication | Code::SaslAuthenticationFailed => "the login is refused: check `sasl`",
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            "the user may not do that: allow Read, Write and Describe on the topic"
        }
        Code::Fatal | Code::OutOfOrderSequenceNumber | Code::UnknownProducerId | Code::InvalidProducerEpoch => {
            "the order of messages can no longer be kept: start again, and compare the broker's log"
        }
        _ => "see the broker's log",
    };
    LogError::Failed(format!("{place}: {error}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_may_open_later_where_brokers_are_away_and_not_where_something_has_to_be_changed() {
        let unreachable = OpenError::Unreachable { brokers: "a:9092".into(), why: "refused".into() };
        assert!(unreachable.is_retryable());
        for code in [Code::OperationTimedOut, Code::LeaderNotAvailable] {
            assert!(of_question(&KafkaError::AdminOp(code), "asking").is_retryable());
            let operation = of_operation(&KafkaError::MetadataFetch(code), "reading", Topic::Inputs, 0);
            assert!(OpenError::from(operation).is_retryable());
        }
        assert!(!of_question(&KafkaError::MetadataFetch(Code::TopicAuthorizationFailed), "asking").is_retryable());
        let login = OpenError::Login { brokers: "a:9092".into(), why: "wrong".into() };
        assert!(!login.is_retryable() && !OpenError::Settings("small messages".into()).is_retryable());
    }

    #[test]
    fn what_passes_may_be_tried_again_and_what_does_not_says_what_to_do() {
        let of = |code| of_operation(&KafkaError::MessageConsumption(code), "reading", Topic::Inputs, 3);
        assert!(of(Code::AllBrokersDown).is_retryable());
        for code in [Code::MessageSizeTooLarge, Code::UnknownTopicOrPartition, Code::AutoOffsetReset] {
            let error = of(code);
            assert!(!error.is_retryable() && error.to_string().contains("topic inputs, partition 3"), "{error}");
        }
    }
}
