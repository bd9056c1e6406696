//! Values as text: decimals plain, dates YYYY-MM-DD, times RFC 3339 in UTC.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// How the values of every column print. A time without a zone is taken as UTC, as all times here are.
const OPTIONS: FormatOptions<'static> = FormatOptions::new()
    .with_null("")
    .with_display_error(true)
    .with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.fZ"))
    .with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.fZ"))
    .with_datetime_format(Some("%Y-%m-%dT%H:%M:%S%.fZ"));

/// A column and what prints it.
pub(super) struct Column<'a> {
    pub(super) array: &'a dyn Array,
    printer: ArrayFormatter<'a>,
}

impl<'a> Column<'a> {
    /// A printer for an array that [`in_utc`] gave.
    pub(super) fn new(array: &'a dyn Array) -> Result<Self, ArrowError> {
        Ok(Self { array, printer: ArrayFormatter::try_new(array, &OPTIONS)? })
    }

    pub(super) fn text(&self, row: usize) -> impl std::fmt::Display + '_ {
        self.printer.value(row)
    }

    /// Also in a column of no type, which has nothing but nulls and no bits for them.
    pub(super) fn is_null(&self, row: usize) -> bool {
        *self.array.data_type() == DataType::Null || self.array.is_null(row)
    }
}

/// The columns of a batch with every time zone taken off: the stored number is UTC already.
pub(super) fn in_utc(batch: &RecordBatch) -> Vec<ArrayRef> {
    batch.columns().iter().map(zoneless).collect()
}

/// An array without a time zone.
pub(super) fn zoneless(array: &ArrayRef) -> ArrayRef {
    use std::sync::Arc;
    match array.data_type() {
        DataType::Timestamp(unit, Some(_)) => match unit {
            TimeUnit::Second => {
                Arc::new(array.as_primitive::<TimestampSecondType>().clone().with_timezone_opt::<&str>(None))
            }
            TimeUnit::Millisecond => {
                Arc::new(array.as_primitive::<TimestampMillisecondType>().clone().with_timezone_opt::<&str>(None))
            }
            TimeUnit::Microsecond => {
                Arc::new(array.as_primitive::<TimestampMicrosecondType>().clone().with_timezone_opt::<&str>(None))
            }
            TimeUnit::Nanosecond => {
                Arc::new(array.as_primitive::<TimestampNanosecondType>().clone().with_timezone_opt::<&str>(None))
            }
        },
        _ => array.clone(),
    }
}

/// Whether values of a type are right-aligned in a table.
pub(super) fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}
