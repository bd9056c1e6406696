//! What an append looks like on Kafka: one message, so that its batches stand together or not at all.
//!
//! The headers are a CloudEvent in binary mode, which any Kafka tool shows; the value is the batches one behind the
//! other, as they lie on disk everywhere.

use bytes::Bytes;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use schemas::batch::BatchError;
use schemas::{Batch, BatchHeader, BatchKind, PackedBatch, Topic};
use serde::{Deserialize, Serialize};

use super::place::Place;

const TYPE: &str = "ce_type";
const LENGTHS: &str = "ce_lengths";
const ANCHOR: &str = "ce_anchor";
/// Of batches that another log had: their times are theirs.
const ADOPTED: &str = "ce_adopted";
const OPENED: &str = "autonomos.TopicOpened.v1";
const BATCHES: &str = "autonomos.Batches.v1";

/// A message to be sent.
pub(super) struct Outgoing {
    pub(super) key: String,
    pub(super) headers: OwnedHeaders,
    pub(super) value: Vec<u8>,
    /// Items of each batch.
    pub(super) counts: Vec<u32>,
    /// The time of the last batch, where another log has set it.
    pub(super) adopted: Option<i64>,
}

/// A message as it was found.
#[derive(Debug)]
pub(super) struct Taken {
    /// Kafka's offset.
    pub(super) message: i64,
    /// When the broker took it, in microseconds since 1970 UTC; of what is adopted, when the other log took its last batch.
    pub(super) time: i64,
    /// Whether its batches have times of another log.
    is_adopted: bool,
    /// What its writer had counted; the message stands there or behind.
    pub(super) anchor: Option<Place>,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    /// An append.
    Batches(Vec<PackedBatch>),
    /// What a topic begins with.
    Opened(Opened),
    /// Whole, but of a newer build: nobody who cannot read it can say how many items it has.
    Newer(BatchError),
    /// Not ours, or not whole: it has no items.
    Foreign(String),
}

/// What a topic begins with: it says which one this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Opened {
    /// The version of this layout.
    pub(super) format: u32,
    pub(super) topic: Topic,
    /// The generation: the second in which it was made, since 1970 UTC.
    pub(super) epoch: u32,
    pub(super) partitions: u32,
}

/// What is read of a batch up to its checksum.
const CHECKED_BYTES: usize = 9;

/// The version of the layout that this build writes.
pub(super) const FORMAT: u32 = 1;

impl Taken {
    /// How many items it has.
    pub(super) fn items(&self) -> u64 {
        match &self.content {
            Content::Batches(batches) => batches.iter().map(|batch| u64::from(batch.header.count)).sum(),
            Content::Opened(_) | Content::Newer(_) | Content::Foreign(_) => 0,
        }
    }

    /// What is behind it, for a reader that stands in front of it.
    pub(super) fn behind(&self, before: Place) -> Place {
        before.behind(self.message, self.items(), self.time)
    }

    /// Reads a message.
    pub(super) fn read(message: &impl Message) -> Self {
        let header = |name: &str| header(message, name);
        let anchor: Option<Place> = header(ANCHOR).and_then(|text| text.parse().ok());
        let anchor = anchor.filter(|place| place.message <= message.offset());
        let payload = message.payload().unwrap_or_default();
        let content = match header(TYPE) {
            Some(OPENED) => read_opened(payload),
            Some(BATCHES) if anchor.is_none() => Content::Foreign("its anchor is missing or no anchor".into()),
            Some(BATCHES) => read_batches(payload, header(LENGTHS).unwrap_or_default()),
            Some(other) => Content::Foreign(format!("it is of type {other:?}")),
            None => Content::Foreign("it has no header ce_type".into()),
        };
        let anchor = anchor.filter(|_| matches!(content, Content::Batches(_)));
        let adopted = match &content {
            Content::Batches(batches) if header(ADOPTED).is_some() => {
                batches.iter().map(|batch| batch.header.logged_at).max()
            }
            _ => None,
        };
        let taken_at = || message.timestamp().to_millis().unwrap_or(0).saturating_mul(1000);
        let (time, is_adopted) = (adopted.unwrap_or_else(taken_at), adopted.is_some());
        Self { message: message.offset(), time, is_adopted, anchor, content }
    }

    /// The time of one of its batches, of which the one before it has `before`: times never go back.
    pub(super) fn time_of(&self, batch: &PackedBatch, before: i64) -> i64 {
        let own = if self.is_adopted { batch.header.logged_at } else { self.time };
        own.max(before)
    }
}

fn header<'a>(message: &'a impl Message, name: &str) -> Option<&'a str> {
    let headers = message.headers()?;
    let found = (0..headers.count()).filter_map(|n| headers.try_get(n)).find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}

fn read_opened(payload: &[u8]) -> Content {
    match serde_json::from_slice(payload) {
        Ok(opened) => Content::Opened(opened),
        Err(e) => Content::Foreign(format!("it should say how the topic was made, and does not: {e}")),
    }
}

fn read_batches(payload: &[u8], lengths: &str) -> Content {
    let parsed: Result<Vec<usize>, _> = lengths.split(',').map(str::parse).collect();
    let Ok(lengths) = parsed else { return Content::Foreign("the lengths of its batches are missing".into()) };
    let total = lengths.iter().try_fold(0usize, |sum, length| sum.checked_add(*length));
    if total != Some(payload.len()) {
        return Content::Foreign("it is not as long as its batches".into());
    }
    let (whole, mut at) = (Bytes::copy_from_slice(payload), 0);
    let mut batches = Vec::with_capacity(lengths.len());
    for length in lengths {
        match PackedBatch::decode(&whole.slice(at..at + length)) {
            Ok(batch) if batch.header.count > 0 => batches.push(batch),
            Ok(_) => return Content::Foreign("it has a batch without items".into()),
            // The checksum is right, so it is what one of us has written.
            Err(newer) if length >= CHECKED_BYTES && newer != BatchError::Checksum => return Content::Newer(newer),
            Err(e) => return Content::Foreign(e.to_string()),
        }
        at += length;
    }
    Content::Batches(batches)
}

impl Outgoing {
    /// An append of batches, of which there is at least one; with the times that they have, where they are `adopted`.
    pub(super) fn batches(topic: Topic, batches: Vec<Batch>, anchor: Place, id: &str, is_adopted: bool) -> Self {
        let mut value = Vec::new();
        let (mut counts, mut lengths) = (Vec::with_capacity(batches.len()), Vec::with_capacity(batches.len()));
        let headers = describe(topic, &batches, id);
        let adopted = batches.iter().filter(|_| is_adopted).map(|batch| batch.header.logged_at).max();
        let key = batches.first().map_or_else(String::new, |batch| key(&batch.header));
        for batch in batches {
            let bytes = batch.encode();
            counts.push(batch.header.count);
            lengths.push(bytes.len().to_string());
            if value.is_empty() { value = bytes } else { value.extend_from_slice(&bytes) }
        }
        let headers = put(headers, LENGTHS, &lengths.join(","));
        let headers = put(headers, ANCHOR, &anchor.to_string());
        let headers = if adopted.is_some() { put(headers, ADOPTED, "true") } else { headers };
        Self { key, headers, value, counts, adopted }
    }

    /// What a topic begins with.
    pub(super) fn opened(opened: &Opened, id: &str) -> Self {
        let value = serde_json::to_vec(opened).expect("numbers and a name are JSON");
        let headers = common(id, OPENED, &format!("/topics/{}", opened.topic));
        let headers = put(headers, "content-type", "application/json");
        Self { key: "topic".into(), headers, value, counts: Vec::new(), adopted: None }
    }
}

/// Messages of one stream or view have one key.
fn key(header: &BatchHeader) -> String {
    format!("{}/{}", header.tenant, header.subject)
}

fn put(headers: OwnedHeaders, key: &str, value: &str) -> OwnedHeaders {
    headers.insert(Header { key, value: Some(value) })
}

fn common(id: &str, type_name: &str, source: &str) -> OwnedHeaders {
    let headers = put(OwnedHeaders::new_with_capacity(15), "ce_specversion", "1.0");
    let headers = put(put(headers, "ce_id", id), "ce_source", source);
    put(headers, TYPE, type_name)
}

/// A CloudEvent's attributes, for whoever looks at the topic; readers of ours need the lengths and the anchor alone.
fn describe(topic: Topic, batches: &[Batch], id: &str) -> OwnedHeaders {
    let Some(first) = batches.first().map(|batch| &batch.header) else { return OwnedHeaders::new() };
    let of_one = batches.iter().all(|batch| key(&batch.header) == key(first));
    let source = match (of_one, topic) {
        (false, _) => format!("/topics/{topic}"),
        (true, Topic::Events) => format!("/tenants/{}/entities/{}", first.tenant, first.subject),
        (true, _) => format!("/tenants/{}/streams/{}", first.tenant, first.subject),
    };
    let mut kinds: Vec<&str> = batches.iter().map(|batch| kind_name(batch.header.kind)).collect();
    kinds.dedup();
    let items: u64 = batches.iter().map(|batch| u64::from(batch.header.count)).sum();
    let headers = common(id, BATCHES, &source);
    let headers = put(headers, "content-type", "application/vnd.autonomos.batches");
    let headers = match of_one {
        true => put(put(headers, "ce_subject", &first.subject), "ce_tenantid", &first.tenant.to_string()),
        false => headers,
    };
    let headers = put(headers, "ce_kinds", &kinds.join(","));
    let headers = put(headers, "ce_items", &items.to_string());
    match batches.iter().find_map(|batch| batch.header.trace) {
        Some(trace) => put(headers, "traceparent", &trace.to_string()),
        None => headers,
    }
}

fn kind_name(kind: BatchKind) -> &'static str {
    match kind {
        BatchKind::Records => "records",
        BatchKind::Control => "control",
        BatchKind::Rows => "rows",
        BatchKind::ViewControl => "viewcontrol",
        BatchKind::Decisions => "decisions",
        BatchKind::Redriven => "redriven",
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::Timestamp;
    use rdkafka::message::OwnedMessage;

    use super::*;
    use crate::log::conformance::batch;

    const ANCHORED: Place = Place { message: 4, items: 9, time: 1 };

    fn outgoing() -> Outgoing {
        Outgoing::batches(Topic::Inputs, vec![batch("a", 2), batch("b", 3)], ANCHORED, "1-1", false)
    }

    fn found(out: Outgoing) -> Taken {
        let time = Timestamp::LogAppendTime(5);
        let key = Some(out.key.into_bytes());
        Taken::read(&OwnedMessage::new(Some(out.value), key, "t".into(), time, 0, 6, Some(out.headers)))
    }

    #[test]
    fn an_append_reads_back_with_its_anchor_time_and_items() {
        let taken = found(outgoing());
        assert_eq!((taken.anchor, taken.time, taken.items()), (Some(ANCHORED), 5000, 5));
        let Content::Batches(batches) = &taken.content else { panic!("{taken:?}") };
        assert_eq!(batches[1].body().unwrap(), "b");
        assert_eq!(taken.behind(Place { message: 6, items: 9, time: 1 }), Place { message: 7, items: 14, time: 5000 });
    }

    #[test]
    fn what_is_adopted_has_the_times_of_its_batches_and_not_the_brokers() {
        let at = |logged_at: i64| {
            let mut batch = batch("a", 1);
            batch.header.logged_at = logged_at;
            batch
        };
        let out = Outgoing::batches(Topic::Inputs, vec![at(70), at(90)], ANCHORED, "1-1", true);
        assert_eq!(out.adopted, Some(90));
        let taken = found(out);
        let Content::Batches(batches) = &taken.content else { panic!("{taken:?}") };
        assert_eq!((taken.time, taken.time_of(&batches[0], 1), taken.time_of(&batches[1], 95)), (90, 70, 95));
        let own = found(outgoing());
        assert_eq!((own.time, own.time_of(&batches[0], 1)), (5000, 5000));
    }

    #[test]
    fn a_changed_or_foreign_message_has_no_items_and_says_why() {
        let mut changed = outgoing();
        *changed.value.last_mut().unwrap() ^= 1;
        let mut cut = outgoing();
        cut.value.pop();
        let mut bare = outgoing();
        bare.headers = OwnedHeaders::new();
        let mut other = outgoing();
        other.headers = put(OwnedHeaders::new(), TYPE, "com.example.other");
        let wrong = [(changed, "checksum"), (cut, "not as long"), (bare, "no header"), (other, "com.example.other")];
        for (out, why) in wrong {
            let taken = found(out);
            assert_eq!((taken.items(), taken.anchor), (0, None));
            let Content::Foreign(said) = &taken.content else { panic!("{taken:?}") };
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_whole_batch_of_a_kind_that_is_not_known_is_of_a_newer_build_and_not_foreign() {
        let mut out = Outgoing::batches(Topic::Inputs, vec![batch("a", 2)], ANCHORED, "1-1", false);
        out.value[9] = 99;
        let checksum = xxhash_rust::xxh3::xxh3_64(&out.value[9..]);
        out.value[1..9].copy_from_slice(&checksum.to_be_bytes());
        assert!(matches!(found(out).content, Content::Newer(BatchError::Wire(_))));
    }

    #[test]
    fn an_anchor_behind_its_own_message_is_not_believed() {
        let mut out = outgoing();
        let headers = put(put(OwnedHeaders::new(), TYPE, BATCHES), LENGTHS, "1");
        out.headers = put(headers, ANCHOR, "7:0:0");
        assert!(matches!(found(out).content, Content::Foreign(_)));
    }

    #[test]
    fn what_a_topic_begins_with_reads_back() {
        let opened = Opened { format: FORMAT, topic: Topic::Events, epoch: 1_764_000_000, partitions: 8 };
        let taken = found(Outgoing::opened(&opened, "1-0"));
        assert!(matches!(taken.content, Content::Opened(found) if found == opened));
    }

    #[test]
    fn headers_name_the_stream_and_carry_the_trace() {
        let mut traced = batch("a", 2);
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        traced.header.trace = Some(trace.parse().unwrap());
        let out = Outgoing::batches(Topic::Inputs, vec![traced], ANCHORED, "1-1", false);
        let message = OwnedMessage::new(None, None, "t".into(), Timestamp::now(), 0, 6, Some(out.headers));
        assert_eq!(header(&message, "traceparent"), Some(trace));
        assert_eq!(header(&message, "ce_specversion"), Some("1.0"));
        assert!(header(&message, "ce_source").unwrap().ends_with("/streams/crm/opportunity"));
        assert_eq!(header(&message, "ce_items"), Some("2"));
    }
}
