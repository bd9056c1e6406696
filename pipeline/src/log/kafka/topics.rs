//! The topics of a cluster: made, checked, and told from others of the same name.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use schemas::Topic;

use super::client::Clients;
use super::cursor::Cursor;
use super::error::{OpenError, is_passing, of_question};
use super::message::{Content, FORMAT, Opened, Outgoing};
use super::place::Place;
use super::producer::Producer;
use super::{Facts, Replication};
use crate::engine::Partitions;

/// How often what another does is looked for.
const PAUSE: Duration = Duration::from_millis(50);
/// What an epoch is counted in.
const SECOND: Duration = Duration::from_secs(1);
/// A topic's first words are looked for among so many messages of its first partition.
const BEGINNING: i64 = 1000;

/// Finds, makes and checks all topics, then begins those that have not begun. Blocks.
pub(super) fn open(clients: &Arc<Clients>, producer: &Producer) -> Result<Facts, OpenError> {
    clients.settings.check()?;
    reach(clients)?;
    let mut found = Vec::with_capacity(Topic::ALL.len());
    for topic in Topic::ALL {
        found.push(find_or_make(clients, topic)?);
    }
    let begun = found.iter().filter_map(|found| found.opened.as_ref()).map(|opened| opened.epoch).max();
    let mut opened = Vec::with_capacity(Topic::ALL.len());
    for (topic, found) in Topic::ALL.into_iter().zip(found) {
        let replication = Replication { replicas: found.replicas, min_insync: found.min_insync };
        let words = first_words_of(clients, producer, topic, found, (opened.as_slice(), begun))?;
        opened.push((words, replication));
    }
    let [inputs, events, decisions] = [0, 1, 2].map(|n: usize| &opened[n].0);
    let partitions =
        Partitions { inputs: inputs.partitions, events: events.partitions, decisions: decisions.partitions };
    if !partitions.are_valid() {
        return Err(OpenError::Partitions(partitions));
    }
    let epochs = [inputs.epoch, events.epoch, decisions.epoch];
    let replication = [0, 1, 2].map(|n: usize| opened[n].1);
    Ok(Facts { partitions, epochs, replication })
}

/// Fails early and clearly when nobody answers or the login is refused.
fn reach(clients: &Clients) -> Result<(), OpenError> {
    let until = Instant::now() + clients.settings.request_timeout();
    loop {
        let name = clients.name(Topic::Inputs);
        let asked = clients.control.fetch_metadata(Some(&name), Duration::from_secs(2));
        // Only a poll hands over what connections say.
        drop(clients.control.poll(Duration::ZERO));
        let Err(error) = asked else { return Ok(()) };
        let last = clients.control.context().last_error();
        let brokers = clients.settings.brokers.clone();
        match last {
            Some((Code::Authentication | Code::SaslAuthenticationFailed, why)) => {
                return Err(OpenError::Login { brokers, why });
            }
            Some((Code::SSL, why)) if why.contains("certificate verify failed") => {
                return Err(OpenError::Settings(format!("the certificate of {brokers} is not trusted: {why}")));
            }
            Some((_, why)) if Instant::now() >= until => return Err(OpenError::Unreachable { brokers, why }),
            None if Instant::now() >= until => {
                return Err(OpenError::Unreachable { brokers, why: error.to_string() });
            }
            _ => {}
        }
    }
}

fn this_second() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

/// Finds, makes and checks a topic.
fn find_or_make(clients: &Clients, topic: Topic) -> Result<Found, OpenError> {
    let name = clients.name(topic);
    let mut found = match find(clients, topic)? {
        Some(found) => found,
        None if clients.settings.create_topics => create(clients, topic)?,
        None => {
            let command = format!("kafka-topics.sh --create --topic {name} {}", create_options(clients, topic));
            return Err(OpenError::MissingTopic { topic: name, command });
        }
    };
    found.min_insync = check_settings(clients, &name)?;
    for partition in 0..found.partitions {
        let (low, _) = clients.watermarks(topic, partition)?;
        if low > 0 {
            return Err(OpenError::Shortened { topic: name, partition, first: low });
        }
    }
    found.opened = first_words(clients, topic)?;
    let wanted = found.opened.as_ref().map_or(clients.settings.partitions.of(topic), |opened| opened.partitions);
    if found.partitions < wanted {
        return Err(OpenError::TooFewPartitions { topic: name, found: found.partitions, wanted });
    }
    Ok(found)
}

/// What a topic has begun with; one that has not begun is begun, behind those before it. `begun` is the greatest epoch of all that
/// had begun.
fn first_words_of(
    clients: &Clients,
    producer: &Producer,
    topic: Topic,
    found: Found,
    (before, begun): (&[(Opened, Replication)], Option<u32>),
) -> Result<Opened, OpenError> {
    let name = clients.name(topic);
    let opened = match found.opened {
        Some(opened) => opened,
        None if clients.settings.begin_topics => {
            let epoch = generation(clients, before, begun)?;
            begin(clients, producer, topic, &name, (found.partitions, epoch))?
        }
        None => return Err(OpenError::NotBegun { topic: name }),
    };
    if found.partitions < opened.partitions {
        return Err(OpenError::TooFewPartitions { topic: name, found: found.partitions, wanted: opened.partitions });
    }
    if found.partitions > opened.partitions {
        let (has, made_with) = (found.partitions, opened.partitions);
        tracing::warn!(topic = name, has, made_with, "partitions that were added later are not used");
    }
    Ok(opened)
}

struct Found {
    partitions: u32,
    /// Of the partition with the fewest.
    replicas: u32,
    /// `min.insync.replicas`, where we may ask for it.
    min_insync: Option<u32>,
    /// What it begins with, if it has begun.
    opened: Option<Opened>,
}

fn find(clients: &Clients, topic: Topic) -> Result<Option<Found>, OpenError> {
    let name = clients.name(topic);
    let until = Instant::now() + clients.settings.request_timeout();
    loop {
        let metadata = clients.control.fetch_metadata(Some(&name), clients.settings.request_timeout());
        let metadata = metadata.map_err(|e| of_question(&e, &format!("asking for topic {name}")))?;
        let found = metadata.topics().iter().find(|topic| topic.name() == name);
        let Some(found) = found else { return Ok(None) };
        match found.error().map(Code::from) {
            None => {}
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => return Ok(None),
            Some(Code::TopicAuthorizationFailed) => {
                return Err(OpenError::Forbidden { topic: name, what: "describe" });
            }
            Some(code) if Instant::now() >= until => {
                return Err(OpenError::NotReady(format!("asking for topic {name}: {code}")));
            }
            Some(_) => {
                std::thread::sleep(PAUSE);
                continue;
            }
        }
        let led = found.partitions().iter().all(|partition| partition.leader() >= 0);
        if led && !found.partitions().is_empty() {
            let replicas = found.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or(0);
            let partitions = u32::try_from(found.partitions().len()).unwrap_or(u32::MAX);
            let replicas = u32::try_from(replicas).unwrap_or(u32::MAX);
            return Ok(Some(Found { partitions, replicas, min_insync: None, opened: None }));
        }
        if Instant::now() >= until {
            return Err(OpenError::NotReady(format!("topic {name} has partitions without a leader")));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Where it is on, a replica that lacks acknowledged messages may become the one that all follow.
const UNCLEAN: &str = "unclean.leader.election.enable";

/// What a topic is made with, and what it must have.
fn needed(clients: &Clients) -> [(&'static str, String); 6] {
    [
        ("cleanup.policy", "delete".into()),
        ("retention.ms", "-1".into()),
        ("retention.bytes", "-1".into()),
        ("message.timestamp.type", "LogAppendTime".into()),
        ("max.message.bytes", clients.settings.message_bytes_max.to_string()),
        (UNCLEAN, "false".into()),
    ]
}

fn create_options(clients: &Clients, topic: Topic) -> String {
    let configs: Vec<String> = needed(clients).iter().map(|(key, value)| format!("--config {key}={value}")).collect();
    format!("--partitions {} {}", clients.settings.partitions.of(topic), configs.join(" "))
}

fn admin(clients: &Clients) -> Result<AdminClient<DefaultClientContext>, OpenError> {
    clients.settings.client().create().map_err(|e| OpenError::Settings(e.to_string()))
}

fn options(clients: &Clients) -> AdminOptions {
    let timeout = clients.settings.request_timeout();
    AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout))
}

fn create(clients: &Clients, topic: Topic) -> Result<Found, OpenError> {
    let name = clients.name(topic);
    let failed = |why: String| OpenError::Create { topic: clients.name(topic), why };
    let settings = &clients.settings;
    let partitions = i32::try_from(settings.partitions.of(topic)).unwrap_or(i32::MAX);
    let replication = if settings.replication == 0 { -1 } else { i32::from(settings.replication) };
    let min_insync = settings.min_insync_replicas.to_string();
    let configs = needed(clients);
    let mut new = NewTopic::new(&name, partitions, TopicReplication::Fixed(replication));
    for (key, value) in &configs {
        new = new.set(key, value);
    }
    if settings.min_insync_replicas > 0 {
        new = new.set("min.insync.replicas", &min_insync);
    }
    let admin = admin(clients)?;
    let outcome = block_on(admin.create_topics([&new], &options(clients)));
    let outcome = outcome.map_err(|e| of_question(&e, &format!("making topic {name}")))?;
    for result in outcome {
        match result {
            Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
            Err((_, Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed)) => {
                return Err(OpenError::Forbidden { topic: name, what: "make" });
            }
            // Brokers that have not come yet are not counted.
            Err((_, code)) if is_passing(code) || code == Code::InvalidReplicationFactor => {
                return Err(OpenError::NotReady(format!("making topic {name}: {code}")));
            }
            Err((_, code)) => return Err(failed(code.to_string())),
        }
    }
    let until = Instant::now() + settings.request_timeout();
    loop {
        match find(clients, topic)? {
            Some(found) => return Ok(found),
            None if Instant::now() >= until => return Err(failed("it was made, and is not there".into())),
            None => std::thread::sleep(PAUSE),
        }
    }
}

/// Refuses a topic that forgets, compacts, takes our clock's time or small messages only, or may be led by who lacks messages.
/// Answers `min.insync.replicas`.
fn check_settings(clients: &Clients, name: &str) -> Result<Option<u32>, OpenError> {
    let admin = admin(clients)?;
    let asked = [ResourceSpecifier::Topic(name)];
    let answer = block_on(admin.describe_configs(asked.iter(), &options(clients)));
    let asking = format!("asking for the settings of topic {name}");
    let resource = answer.map_err(|e| of_question(&e, &asking))?.into_iter().next();
    let resource = match resource {
        Some(Ok(resource)) => resource,
        Some(Err(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed)) => {
            tracing::warn!(topic = name, "the user may not see the topic's settings: they are not checked");
            return Ok(None);
        }
        Some(Err(code)) => return Err(of_question(&KafkaError::AdminOp(code), &asking)),
        None => return Err(OpenError::Failed(format!("{asking}: there is no answer"))),
    };
    let entries = resource.entries.iter().filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?)));
    let set: HashMap<&str, &str> = entries.collect();
    let (mut wrong, mut remedy) = (Vec::new(), Vec::new());
    for (key, value) in needed(clients) {
        let found = set.get(key).copied().unwrap_or_default();
        if !is_enough(key, found, &value) {
            wrong.push(format!("{key} is {found} and must be {value}"));
            remedy.push(format!("{key}={value}"));
        }
    }
    if wrong.is_empty() {
        return Ok(set.get("min.insync.replicas").and_then(|text| text.parse().ok()));
    }
    let add = remedy.join(",");
    let command = format!("kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {add}");
    Err(OpenError::TopicSettings { topic: name.to_owned(), wrong: wrong.join(", "), command })
}

fn is_enough(key: &str, found: &str, needed: &str) -> bool {
    match (key, found.parse::<u64>(), needed.parse::<u64>()) {
        ("max.message.bytes", Ok(found), Ok(needed)) => found >= needed,
        // A server that does not know it does not do it.
        (UNCLEAN, ..) => found.is_empty() || found == needed,
        _ => found == needed,
    }
}

/// What a topic begins with, if it has begun.
fn first_words(clients: &Clients, topic: Topic) -> Result<Option<Opened>, OpenError> {
    let name = clients.name(topic);
    let not_ours = |why: String| Err(OpenError::NotOurs { topic: clients.name(topic), why });
    let look = |content: Content| match content {
        Content::Opened(opened) if opened.format > FORMAT => {
            Err(OpenError::NewerFormat { topic: clients.name(topic), found: opened.format, known: FORMAT })
        }
        Content::Opened(opened) if opened.topic == topic => Ok(Some(opened)),
        Content::Opened(opened) => not_ours(format!("it says that it is the topic of {}", opened.topic)),
        Content::Foreign(why) => {
            tracing::debug!(topic = name, why, "a foreign message at the topic's beginning");
            Ok(None)
        }
        Content::Batches(_) | Content::Newer(_) => not_ours("records stand in front of its first words".into()),
    };
    match look_through(clients, topic, look)? {
        (None, messages) if messages > 0 => not_ours(format!("{messages} messages of others are on it")),
        (opened, _) => Ok(opened),
    }
}

/// Whether there are records on a topic.
fn has_records(clients: &Clients, topic: Topic, partitions: u32) -> Result<bool, OpenError> {
    for partition in 1..partitions {
        let (_, high) = clients.watermarks(topic, partition)?;
        if high > 0 {
            return Ok(true);
        }
    }
    let look = |content: Content| Ok(matches!(content, Content::Batches(_) | Content::Newer(_)).then_some(()));
    let (found, messages) = look_through(clients, topic, look)?;
    Ok(found.is_some() || messages > BEGINNING)
}

/// Shows the first messages of a topic's first partition, one after the other, until something is found. Answers also how many
/// messages there are.
fn look_through<T>(
    clients: &Clients,
    topic: Topic,
    mut look: impl FnMut(Content) -> Result<Option<T>, OpenError>,
) -> Result<(Option<T>, i64), OpenError> {
    let (_, high) = clients.watermarks(topic, 0)?;
    if high == 0 {
        return Ok((None, 0));
    }
    let until = Instant::now() + clients.settings.request_timeout();
    let mut cursor = Cursor::new(clients, topic, 0, Place::START)?;
    while cursor.at.message < high.min(BEGINNING) {
        if cursor.peek(clients, PAUSE)?.is_none() {
            if !cursor.pass(clients)? && Instant::now() >= until {
                let name = clients.name(topic);
                return Err(OpenError::NotReady(format!("the first messages of topic {name} do not come")));
            }
            continue;
        }
        let Some((_, taken)) = cursor.take() else { continue };
        if let Some(found) = look(taken.content)? {
            return Ok((Some(found), high));
        }
    }
    Ok((None, high))
}

/// The epoch of a topic that is begun, behind those before it. Several processes may start at once, or one may have ended between
/// two topics: while no topic has records, all take that of the first. Later it is a topic that was made again, and so is the
/// first one where another has begun.
fn generation(clients: &Clients, before: &[(Opened, Replication)], begun: Option<u32>) -> Result<u32, OpenError> {
    if let Some(epoch) = clients.settings.epoch {
        return Ok(epoch);
    }
    let Some((first, _)) = before.first() else {
        return Ok(begun.map_or_else(this_second, epoch_made_again));
    };
    for (opened, _) in before {
        if has_records(clients, opened.topic, opened.partitions)? {
            let others = before.iter().map(|(opened, _)| opened.epoch).chain(begun);
            return Ok(epoch_made_again(others.max().unwrap_or(first.epoch)));
        }
    }
    Ok(first.epoch)
}

/// The epoch of a topic that was made again: a second that comes after the one in which the former topic, which nobody remembers,
/// may have been made, and above the epochs of the others, where the clock has gone back since they were made.
fn epoch_made_again(others: u32) -> u32 {
    std::thread::sleep(SECOND);
    this_second().max(others.saturating_add(1))
}

/// Writes a topic's first words. Of several who do so at once, the first is believed by all.
fn begin(
    clients: &Clients,
    producer: &Producer,
    topic: Topic,
    name: &str,
    (partitions, epoch): (u32, u32),
) -> Result<Opened, OpenError> {
    let opened = Opened { format: FORMAT, topic, epoch, partitions };
    let out = Outgoing::opened(&opened, &producer.next_id());
    block_on(producer.send(topic, 0, out, None))?;
    let found = first_words(clients, topic)?;
    found.ok_or_else(|| OpenError::Failed(format!("what topic {name} begins with was written and is not there")))
}
