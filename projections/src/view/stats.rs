//! Delta Lake's statistics of a file, from what Parquet counted while writing it.

use parquet::basic::{LogicalType, Type};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use schemas::time::{MAX_TIMESTAMP, format_date, format_timestamp};
use serde_json::{Map, Value, json};

/// Texts longer than this give no bounds; shortened ones would have to be rounded.
const TEXT_BYTES_MAX: usize = 64;

/// Rows, nulls and, where they are cheap and exact, bounds.
pub fn of(metadata: &ParquetMetaData) -> String {
    let mut nulls: Map<String, Value> = Map::new();
    let (mut least, mut greatest) = (Map::new(), Map::new());
    let columns = metadata.file_metadata().schema_descr().num_columns();
    for at in 0..columns {
        let column = metadata.file_metadata().schema_descr().column(at);
        let chunks = || metadata.row_groups().iter().map(move |group| group.column(at).statistics());
        if let Some(count) = chunks().map(|s| s?.null_count_opt()).sum::<Option<u64>>() {
            nulls.insert(column.name().to_owned(), json!(count));
        }
        let Some(bounds) = chunks().map(|s| bounds(s?)).collect::<Option<Vec<_>>>() else { continue };
        let Some(bounds) = bounds.into_iter().reduce(Bounds::merge) else { continue };
        let Some((low, high)) = bounds.to_json(column.physical_type(), column.logical_type_ref()) else { continue };
        least.insert(column.name().to_owned(), low);
        greatest.extend(high.map(|high| (column.name().to_owned(), high)));
    }
    let rows = metadata.file_metadata().num_rows();
    json!({"numRecords": rows, "minValues": least, "maxValues": greatest, "nullCount": nulls}).to_string()
}

enum Bounds {
    Number(i64, i64),
    Text(String, String),
    Mixed,
}

fn bounds(statistics: &Statistics) -> Option<Bounds> {
    match statistics {
        Statistics::Int32(s) => Some(Bounds::Number(i64::from(*s.min_opt()?), i64::from(*s.max_opt()?))),
        Statistics::Int64(s) => Some(Bounds::Number(*s.min_opt()?, *s.max_opt()?)),
        Statistics::ByteArray(s) if s.min_is_exact() && s.max_is_exact() => {
            let read = |b: &[u8]| Some(std::str::from_utf8(b).ok().filter(|t| t.len() <= TEXT_BYTES_MAX)?.to_owned());
            Some(Bounds::Text(read(s.min_opt()?.data())?, read(s.max_opt()?.data())?))
        }
        _ => None,
    }
}

impl Bounds {
    fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Number(a, b), Self::Number(c, d)) => Self::Number(a.min(c), b.max(d)),
            (Self::Text(a, b), Self::Text(c, d)) => Self::Text(a.min(c), b.max(d)),
            _ => Self::Mixed,
        }
    }
    /// The bounds as Delta Lake's readers take them; without an upper one where that would be no time.
    fn to_json(&self, physical: Type, logical: Option<&LogicalType>) -> Option<(Value, Option<Value>)> {
        match (self, physical, logical) {
            (Self::Text(low, high), ..) => Some((json!(low), Some(json!(high)))),
            (Self::Number(low, high), Type::INT64, Some(LogicalType::Timestamp(..))) => {
                // Delta Lake's readers take bounds of timestamps in milliseconds: rounded outwards.
                let low = low.div_euclid(1000) * 1000;
                let high = high.div_euclid(1000).checked_add(1).and_then(|millis| millis.checked_mul(1000));
                let high = high.filter(|high| *high <= MAX_TIMESTAMP).map(format_timestamp);
                Some((json!(format_timestamp(low)), high.map(|high| json!(high))))
            }
            (Self::Number(low, high), Type::INT32, Some(LogicalType::Date)) => {
                let day = |days: i64| i32::try_from(days).map(format_date).ok();
                Some((json!(day(*low)?), Some(json!(day(*high)?))))
            }
            (Self::Number(..), _, Some(LogicalType::Decimal(..))) => None,
            (Self::Number(low, high), ..) => Some((json!(low), Some(json!(high)))),
            (Self::Mixed, ..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Date32Array, RecordBatch, TimestampMicrosecondArray};
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn written(column: ArrayRef) -> Value {
        let batch = RecordBatch::try_from_iter([("at", column)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        serde_json::from_str(&of(&writer.finish().unwrap())).unwrap()
    }

    #[test]
    fn bounds_are_times_to_the_end_of_the_calendar_and_none_beyond_it() {
        let times = |at: Vec<i64>| written(Arc::new(TimestampMicrosecondArray::from(at).with_timezone("UTC")));
        let known = times(vec![-1, 1_500]);
        assert_eq!(known["minValues"]["at"], "1969-12-31T23:59:59.999Z");
        assert_eq!(known["maxValues"]["at"], "1970-01-01T00:00:00.002Z");
        let last = times(vec![0, MAX_TIMESTAMP - 1_000_000]);
        assert_eq!(last["maxValues"]["at"], "9999-12-31T23:59:59Z");
        let beyond = times(vec![0, MAX_TIMESTAMP]);
        assert_eq!(beyond["minValues"]["at"], "1970-01-01T00:00:00Z");
        assert_eq!(beyond["maxValues"], json!({}));
        let days = schemas::time::parse_date("9999-12-31").unwrap();
        assert_eq!(written(Arc::new(Date32Array::from(vec![0, days])))["maxValues"]["at"], "9999-12-31");
    }
}
