//! The fields of a row: each filled by the rule whose source is there.

use schemas::event::put_value;
use schemas::reason::Reason;
use schemas::shape::SlotKind;
use schemas::value::{FieldType, Value};

use super::cast::{Token, as_json, cast, cast_transformed, transform};
use super::record::{ROW_BYTES_MAX, Refused, row_too_large};
use super::rules::{Choice, FieldPlan};
use super::view::View;

/// Appends a value for each field up to the last that is not null; answers how many. `absent` are the mapped fields that
/// are null, `taken` the slots that fields were made of.
pub(super) fn map_fields(
    view: &View<'_>,
    fields: &[FieldPlan],
    absent: &mut Vec<usize>,
    taken: &mut [bool],
    values: &mut Vec<u8>,
) -> Result<usize, Refused> {
    let (mut count, mut end) = (0, 0);
    for (at, field) in fields.iter().enumerate() {
        let filled = map_field(view, field, taken, values)?;
        if filled {
            (count, end) = (at + 1, values.len());
            if end > ROW_BYTES_MAX {
                return Err(row_too_large(Some(&field.name)));
            }
            continue;
        }
        if field.required {
            let detail = "the field is required and absent, null or empty";
            return Err(Refused::new(Reason::RequiredMissing, Some(&field.name), detail));
        }
        if !field.rules.is_empty() {
            absent.push(at);
        }
    }
    values.truncate(end);
    Ok(count)
}

/// Appends one field's value; false when it is null. Notes the slots that it was made of.
#[inline]
fn map_field(view: &View<'_>, field: &FieldPlan, taken: &mut [bool], values: &mut Vec<u8>) -> Result<bool, Refused> {
    let refuse = |detail| Refused::new(Reason::CastFailed, Some(&field.name), detail);
    let mut put = |value: Value<'_>| {
        let value = if field.required && value == Value::Text("") { Value::Null } else { value };
        put_value(values, value);
        value != Value::Null
    };
    let mut take = |choice: &Choice| {
        let slot = view.chosen(choice)?;
        if let Some(taken) = taken.get_mut(slot as usize) {
            *taken = true;
        }
        view.token(slot)
    };
    let Some(rule) = view.rule(&field.rules) else { return Ok(put(Value::Null)) };
    let is_json = field.field_type == FieldType::Json;
    if rule.plain {
        let Some(token) = take(&rule.from[0]) else { return Ok(put(Value::Null)) };
        let token = if is_json { as_json(token) } else { token };
        return cast(&token, field.field_type, rule.scaling).map(put).map_err(refuse);
    }
    let parts: Vec<Token<'_>> = rule.from.iter().filter_map(take).collect();
    if parts.iter().any(|p| p.kind == SlotKind::Nested) {
        return Err(refuse("an object or array cannot be transformed".to_owned()));
    }
    if parts.iter().map(|p| p.text.len()).sum::<usize>() > ROW_BYTES_MAX {
        return Err(row_too_large(Some(&field.name)));
    }
    let Some(text) = transform(&parts, &rule.rule) else { return Ok(put(Value::Null)) };
    let token = Token { kind: SlotKind::Text, text: text.into() };
    let token = if is_json { as_json(token) } else { token };
    cast_transformed(&token, field.field_type, rule).map(put).map_err(refuse)
}
