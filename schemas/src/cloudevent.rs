//! Facts as CloudEvents 1.0 (JSON format), for people and programs outside.

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use crate::decision::Decision;
use crate::event::{EventBatch, EventRow, RowKind};
use crate::ids::{EntityName, StreamId, TenantId};
use crate::position::Position;
use crate::topic::Topic;
use crate::trace::Trace;
use crate::value::{FieldType, Value};
use crate::wire::WireError;

/// A CloudEvents 1.0 envelope. `id` is unique within `source`: the same fact has the same id however often it is sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CloudEvent {
    /// Always `1.0`.
    pub specversion: &'static str,
    /// The input's position and the event's place among the events of that input.
    pub id: String,
    /// The stream: `/tenants/…/connections/…/streams/…`.
    pub source: String,
    /// The fact, for example `autonomos.RecordAccepted.v1`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// The row's key, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When the log took the input, RFC 3339 in UTC.
    pub time: String,
    /// Always `application/json`.
    pub datacontenttype: &'static str,
    /// Extension: the tenant's id.
    pub tenantid: String,
    /// Extension: where the event itself lies.
    pub logposition: String,
    /// Extension: the trace of the request that the input came with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The fact's members.
    pub data: Json,
}

/// Where and when an event was found on the log.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// The owner.
    pub tenant: TenantId,
    /// The topic.
    pub topic: Topic,
    /// The event's own position.
    pub at: Position,
    /// When the log took the input, in microseconds since 1970 UTC.
    pub logged_at: i64,
}

impl CloudEvent {
    fn new(found: Found, stream: &StreamId, id: String, name: &str, subject: Option<String>, data: Json) -> Self {
        Self {
            specversion: "1.0",
            id,
            source: format!("/tenants/{}/connections/{}/streams/{}", found.tenant, stream.connection, stream.stream),
            type_name: format!("autonomos.{name}.v1"),
            subject,
            time: crate::time::format_timestamp(found.logged_at),
            datacontenttype: "application/json",
            tenantid: found.tenant.to_string(),
            logposition: format!("{}/{}", found.topic, found.at),
            traceparent: None,
            data,
        }
    }

    /// The event with the trace of its input.
    pub fn traced(mut self, trace: Option<Trace>) -> Self {
        self.traceparent = trace.map(|trace| trace.to_string());
        self
    }

    /// A decision as a CloudEvent.
    pub fn of_decision(found: Found, stream: &StreamId, decision: &Decision) -> Self {
        let mut data = serde_json::to_value(&decision.fact).expect("a fact is plain JSON");
        if let Some(members) = data.as_object_mut() {
            members.shift_remove("event");
        }
        let id = format!("{}:{}:{}.d{}", found.at.epoch, found.at.partition, decision.input_offset, decision.ordinal);
        Self::new(found, stream, id, decision.fact.type_name(), None, data)
    }

    /// A row as a CloudEvent; `fields` are the entity's fields in their order.
    pub fn of_row(
        found: Found,
        entity: &EntityName,
        shared: &EventBatch,
        row: &EventRow<'_>,
        fields: &[(String, FieldType)],
    ) -> Result<Self, WireError> {
        let stream =
            StreamId { tenant: found.tenant, connection: shared.connection.clone(), stream: shared.stream.clone() };
        let mut canonical = Map::new();
        let mut values = row.values.clone();
        if row.kind == RowKind::Accepted {
            for (name, field_type) in fields {
                canonical.insert(name.clone(), json_value(values.next_value()?, *field_type));
            }
        }
        let extras = serde_json::from_str(row.extras).unwrap_or(Json::Null);
        let data = json!({
            "entity": entity,
            "key": row.key,
            "version": row.version.to_string(),
            "origin": row.origin,
            "mapping_version": shared.mapping_version,
            "confidence": f64::from(shared.confidence) / 1000.0,
            "row": canonical,
            "extras": extras,
        });
        let id = format!("{}:{}:{}.{}", shared.input_epoch, shared.input_partition, row.input_offset, row.ordinal);
        let name = match row.kind {
            RowKind::Accepted => "RecordAccepted",
            RowKind::Deleted => "RecordDeleted",
        };
        let found = Found { logged_at: shared.logged_at, ..found };
        Ok(Self::new(found, &stream, id, name, Some(row.key.to_owned()), data))
    }
}

/// A canonical value as JSON: decimals and times as text, so that nothing is lost.
pub fn json_value(value: Value<'_>, field_type: FieldType) -> Json {
    match (value, field_type) {
        (Value::Null, _) => Json::Null,
        (Value::Text(text), FieldType::Json) => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        (Value::Text(text), _) => text.into(),
        (Value::Integer(number), _) => number.into(),
        (Value::Decimal(units), FieldType::Decimal { scale, .. }) => crate::decimal::format(units, scale).into(),
        (Value::Decimal(units), _) => units.to_string().into(),
        (Value::Boolean(truth), _) => truth.into(),
        (Value::Date(days), _) => crate::time::format_date(days).into(),
        (Value::Timestamp(at), _) => crate::time::format_timestamp(at).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Fact;
    use crate::event::{EventBatchReader, EventBatchWriter, put_value};
    use crate::reason::Reason;
    use crate::version::Version;

    fn found(topic: Topic) -> Found {
        let at = Position { epoch: 1, partition: 2, offset: 7 };
        Found { tenant: TenantId::from_bytes([7; 16]), topic, at, logged_at: 1_700_000_000_000_000 }
    }

    #[test]
    fn a_row_has_the_envelope_that_it_always_had() {
        let shared = EventBatch {
            connection: "crm".parse().unwrap(),
            stream: "opportunity".parse().unwrap(),
            input_epoch: 1,
            input_partition: 3,
            logged_at: 1_700_000_000_000_000,
            mapping_version: 2,
            confidence: 950,
        };
        let mut values = Vec::new();
        put_value(&mut values, Value::Text("006"));
        put_value(&mut values, Value::Decimal(1_234_500));
        let mut writer = EventBatchWriter::new(&shared, 0);
        writer.push(RowKind::Accepted, 41, 0, 41, "006", &Version::Time(0), 2, &values, br#"{"Foo":[1]}"#);
        let body = writer.finish();
        let mut reader = EventBatchReader::new(&body).unwrap();
        let row = reader.next_row().unwrap().unwrap();
        let fields = [
            ("opportunity_id".into(), FieldType::Text),
            ("amount".into(), FieldType::Decimal { precision: 24, scale: 4 }),
            ("note".into(), FieldType::Text),
        ];
        let entity = "opportunity".parse().unwrap();
        let event = CloudEvent::of_row(found(Topic::Events), &entity, &shared, &row, &fields).unwrap();
        let json = serde_json::to_string_pretty(&event).unwrap();
        assert_eq!(json, include_str!("../golden/record_accepted_v1.json").trim());
    }

    #[test]
    fn a_decision_has_the_envelope_that_it_always_had() {
        let fact = Fact::RecordQuarantined {
            reason: Reason::CastFailed,
            stage: Reason::CastFailed.stage(),
            field: Some("amount".into()),
            detail: "\"lots\" is not a decimal number".into(),
            lane: crate::Lane(5),
            lane_ordinal: 9,
        };
        let stream = StreamId {
            tenant: TenantId::from_bytes([7; 16]),
            connection: "crm".parse().unwrap(),
            stream: "opportunity".parse().unwrap(),
        };
        let decision = Decision { input_offset: 41, ordinal: 0, fact };
        let event = CloudEvent::of_decision(found(Topic::Decisions), &stream, &decision);
        let json = serde_json::to_string_pretty(&event).unwrap();
        assert_eq!(json, include_str!("../golden/record_quarantined_v1.json").trim());
    }
}
