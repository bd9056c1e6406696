//! Functions that may make much out of little, under a bound on what one call may make.
//!
//! The memory pool counts what operators hold, not what expressions make: `replace('aaa…', 'a', '…')` in a batch of rows,
//! or a chain of queries that each join a text to itself, would take memory past every limit.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::kernels::concat_elements::concat_elements_utf8;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{ScalarValue, exec_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::QueryError;

/// Bytes that one call may make for one batch of rows.
const BATCH_BYTES_MAX: usize = 128 << 20;
/// Bytes that a constant may come to: it is copied into every row of a batch.
const CONSTANT_BYTES_MAX: usize = 16 << 10;
/// What one byte of a time format may print at most.
const FORMAT_BYTES: usize = 16;

/// How large a result may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Growth {
    /// The sum of its arguments.
    Joining,
    /// One argument at every place of another.
    Spreading {
        /// The argument with the places.
        into: usize,
        /// The argument that is put there.
        what: usize,
    },
}

/// A function of the engine that refuses to make too much.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
}

impl Bounded {
    pub(super) fn new(inner: Arc<ScalarUDF>, growth: Growth) -> Self {
        Self { inner, growth }
    }

    fn bytes(&self, args: &ScalarFunctionArgs) -> usize {
        let rows = args.number_rows;
        let joined = joined(&args.args, rows);
        let Growth::Spreading { into, what } = self.growth else { return joined };
        let (Some(into), Some(what)) = (args.args.get(into), args.args.get(what)) else { return joined };
        let (places, one) = match self.inner.name() {
            "to_char" => (rows, longest(what).saturating_mul(FORMAT_BYTES)),
            // A separator for each element; elements have at least the four bytes of an offset.
            "array_to_string" => (bytes(into, rows) / 4 + rows, longest(what)),
            _ => (bytes(into, rows) + rows, longest(what)),
        };
        joined.saturating_add(places.saturating_mul(one))
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        check(self.name(), self.bytes(&args), &args.args)?;
        self.inner.invoke_with_args(args)
    }
}

/// The `||` of texts: null if either side is.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ConcatOperator {
    signature: Signature,
}

impl ConcatOperator {
    pub(super) const NAME: &'static str = "text_concat";

    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ConcatOperator {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types.len() {
            2 => Ok(vec![DataType::Utf8; 2]),
            _ => exec_err!("|| joins two texts"),
        }
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        match args {
            [left, right] => Ok(format!("{} || {}", left.schema_name(), right.schema_name())),
            _ => Ok(Self::NAME.into()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        check("||", joined(&args.args, args.number_rows), &args.args)?;
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let sides = args.args.iter().map(|a| a.to_array(rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let [left, right] = sides.as_slice() else { return exec_err!("|| joins two texts") };
        let (Some(left), Some(right)) = (left.as_string_opt::<i32>(), right.as_string_opt::<i32>()) else {
            return exec_err!("|| joins two texts");
        };
        let joined = concat_elements_utf8(left, right)?;
        Ok(match constant {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&joined, 0)?),
            false => ColumnarValue::Array(Arc::new(joined)),
        })
    }
}

fn check(name: &str, bytes: usize, args: &[ColumnarValue]) -> Result<()> {
    let constant = args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
    let max = if constant { CONSTANT_BYTES_MAX } else { BATCH_BYTES_MAX };
    if bytes > max {
        let text = format!("{name} would make more than {max} bytes at once: give it shorter texts or lists");
        return Err(QueryError::Limit(text).into());
    }
    Ok(())
}

fn joined(args: &[ColumnarValue], rows: usize) -> usize {
    args.iter().map(|a| bytes(a, rows)).fold(0, usize::saturating_add)
}

/// Bytes of an argument, a constant counted for every row.
fn bytes(arg: &ColumnarValue, rows: usize) -> usize {
    match arg {
        ColumnarValue::Array(array) => array_bytes(array),
        ColumnarValue::Scalar(value) => scalar_bytes(value).saturating_mul(rows.max(1)),
    }
}

/// Bytes of the longest value of an argument, or a bound on it.
fn longest(arg: &ColumnarValue) -> usize {
    let ColumnarValue::Array(array) = arg else {
        return bytes(arg, 1);
    };
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().flatten().map(str::len).max().unwrap_or(0),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().flatten().map(str::len).max().unwrap_or(0),
        DataType::Utf8View => array.as_string_view().lengths().max().unwrap_or(0) as usize,
        _ => array_bytes(array),
    }
}

fn array_bytes(array: &ArrayRef) -> usize {
    match array.data_type() {
        DataType::Utf8View => array.as_string_view().lengths().map(|l| l as usize).sum(),
        // Nested views count their whole buffers: more than there is, never less.
        _ => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
    }
}

fn scalar_bytes(value: &ScalarValue) -> usize {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.as_ref().map_or(0, String::len)
        }
        ScalarValue::List(list) => array_bytes(&(Arc::clone(list) as ArrayRef)),
        ScalarValue::LargeList(list) => array_bytes(&(Arc::clone(list) as ArrayRef)),
        other if other.data_type().is_primitive() => 16,
        other => other.size(),
    }
}
