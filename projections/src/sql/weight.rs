//! How many bytes values take, whoever's buffers they lie in.
//!
//! What Arrow tells of an array's memory counts buffers: too much for a slice of a large one, and far too little for a
//! million views of one text, which become a million texts as soon as somebody copies them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// What a text or a list takes beside its content: a view, or offsets.
const SLOT_BYTES: usize = 16;
/// A slice of a buffer below this size is not worth a copy.
const SLICE_BYTES_MIN: usize = 64 << 10;

/// Bytes of the values themselves.
pub(super) fn content_bytes(array: &dyn Array) -> usize {
    sized(array, 0)
}

/// Bytes of a batch whose columns share nothing.
pub(super) fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|c| sized(c, SLOT_BYTES)).fold(0, usize::saturating_add)
}

/// Bytes of the longest value, or a bound on it.
pub(super) fn longest(array: &dyn Array) -> usize {
    match array.data_type() {
        DataType::Utf8 => longest_span(array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => longest_span(array.as_string::<i64>().value_offsets()),
        DataType::Utf8View => array.as_string_view().lengths().max().unwrap_or(0) as usize,
        _ => content_bytes(array),
    }
}

/// Elements of lists, those of inner lists one by one; anything else is one element.
pub(super) fn elements(array: &dyn Array) -> usize {
    let inner = match array.data_type() {
        DataType::List(_) => elements(&listed::<i32>(array)),
        DataType::LargeList(_) => elements(&listed::<i64>(array)),
        DataType::FixedSizeList(..) => elements(array.as_fixed_size_list().values()),
        _ => 0,
    };
    inner.max(array.len())
}

/// The array in buffers of its own, if it is a small part of large ones: functions reserve room for whole buffers.
pub(super) fn compact(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let (whole, own) = match array.data_type() {
        DataType::Utf8 => (array.as_string::<i32>().value_data().len(), content_bytes(array)),
        DataType::LargeUtf8 => (array.as_string::<i64>().value_data().len(), content_bytes(array)),
        DataType::List(_) => (array.as_list::<i32>().values().len(), listed::<i32>(array).len()),
        _ => return Ok(Arc::clone(array)),
    };
    if whole / 2 <= own || whole < SLICE_BYTES_MIN {
        return Ok(Arc::clone(array));
    }
    take(array, &UInt32Array::from_iter_values(0..array.len() as u32), None)
}

fn sized(array: &dyn Array, slot: usize) -> usize {
    let content = match array.data_type() {
        DataType::Utf8 => span(array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => span(array.as_string::<i64>().value_offsets()),
        DataType::Binary => span(array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => span(array.as_binary::<i64>().value_offsets()),
        DataType::Utf8View => array.as_string_view().lengths().map(|l| l as usize).sum(),
        DataType::BinaryView => array.as_binary_view().lengths().map(|l| l as usize).sum(),
        DataType::List(_) => sized(&listed::<i32>(array), slot),
        DataType::LargeList(_) => sized(&listed::<i64>(array), slot),
        DataType::FixedSizeList(..) => sized(array.as_fixed_size_list().values(), slot),
        DataType::Struct(_) => return array.as_struct().columns().iter().map(|c| sized(c, slot)).sum(),
        _ => return array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
    };
    content.saturating_add(slot.saturating_mul(array.len()))
}

/// The elements of all lists of a list array.
fn listed<O: OffsetSizeTrait>(lists: &dyn Array) -> ArrayRef {
    let lists = lists.as_list::<O>();
    let offsets = lists.value_offsets();
    lists.values().slice(offsets.first().map_or(0, |o| o.as_usize()), span(offsets))
}

fn span<O: OffsetSizeTrait>(offsets: &[O]) -> usize {
    match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => last.as_usize() - first.as_usize(),
        _ => 0,
    }
}

fn longest_span<O: OffsetSizeTrait>(offsets: &[O]) -> usize {
    offsets.windows(2).map(span).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ListBuilder, StringArray, StringViewArray, StringViewBuilder};

    use super::*;

    #[test]
    fn views_of_one_text_count_as_often_as_they_stand_there_also_in_lists() {
        let text = "x".repeat(1_000);
        assert_eq!(content_bytes(&StringViewArray::from_iter_values(["x"])), 1);
        let mut lists = ListBuilder::new(StringViewBuilder::new().with_deduplicate_strings());
        for _ in 0..50 {
            lists.values().append_value(&text);
            lists.values().append_value(&text);
            lists.append(true);
        }
        let lists = lists.finish();
        assert!(lists.get_array_memory_size() < 90_000);
        assert_eq!(content_bytes(&lists), 100_000);
        assert_eq!(content_bytes(&lists.slice(10, 5)), 10_000);
        assert_eq!((elements(&lists), elements(&lists.slice(10, 5))), (100, 10));
    }

    #[test]
    fn a_slice_counts_what_is_in_it_and_gets_its_own_buffers_when_it_is_small() {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..1_000).map(|_| "x".repeat(1_000))));
        assert_eq!((content_bytes(&texts), longest(&texts)), (1_000_000, 1_000));
        let slice = texts.slice(500, 3);
        assert_eq!(content_bytes(&slice), 3_000);
        let own = compact(&slice).unwrap();
        assert_eq!(&own, &slice);
        assert_eq!(own.as_string::<i32>().value_data().len(), 3_000);
    }
}
