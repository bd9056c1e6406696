//! How a view's Parquet files encode their columns: by what the first batch of a file looks like.

use std::collections::HashSet;

use arrow::array::{Array, AsArray as _, RecordBatch};
use arrow::datatypes::DataType;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::columns::{EXTRAS, VERSION};

/// The properties of a file that starts with `batch`.
pub fn of(batch: &RecordBatch) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(super::files::ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by(format!("autonomos {}", env!("CARGO_PKG_VERSION")));
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let path = ColumnPath::from(field.name().as_str());
        let statistics = statistics(field.name(), field.data_type());
        properties = properties
            .set_column_dictionary_enabled(path.clone(), repeats(column))
            .set_column_statistics_enabled(path, statistics);
    }
    properties.build()
}

/// Bounds by page are worth their cost where values follow the order of arrival: times and numbers.
fn statistics(name: &str, data_type: &DataType) -> EnabledStatistics {
    match data_type {
        // Nobody looks for a range of these.
        _ if [EXTRAS, VERSION].contains(&name) => EnabledStatistics::None,
        DataType::Timestamp(..) | DataType::Date32 | DataType::Int64 => EnabledStatistics::Page,
        _ => EnabledStatistics::Chunk,
    }
}

/// Whether fewer than half of the values are different ones: else a dictionary costs time and saves nothing.
fn repeats(column: &dyn Array) -> bool {
    let most = column.len() / 2;
    if column.data_type() == &DataType::Utf8 {
        return is_few(column.as_string::<i32>().iter().map(Option::unwrap_or_default), most);
    }
    let Some(width) = column.data_type().primitive_width() else { return false };
    let data = column.to_data();
    let values = data.buffers().first().map_or(&[][..], |values| values.as_slice());
    is_few(values.chunks_exact(width).skip(data.offset()).take(data.len()), most)
}

fn is_few<T: std::hash::Hash + Eq>(values: impl Iterator<Item = T>, most: usize) -> bool {
    let mut seen = HashSet::new();
    for value in values {
        if seen.insert(value) && seen.len() > most {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_column_that_repeats_itself_gets_a_dictionary() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
        let few: ArrayRef = Arc::new(Int64Array::from_iter_values((0..100).map(|n| n % 10)));
        let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..100).map(|n| n.to_string())));
        let stages: ArrayRef = Arc::new(StringArray::from_iter_values((0..100).map(|n| (n % 3).to_string())));
        assert!(!repeats(&numbers) && repeats(&few) && !repeats(&names) && repeats(&stages));
        assert!(!repeats(&few.slice(0, 10)) && repeats(&few.slice(20, 40)));
    }
}
