//! Functions that make texts and lists, under a bound on what one call may make.
//!
//! The memory pool counts what operators hold, not what expressions make: `replace('aaa…', 'a', '…')` in a batch of rows,
//! or a chain of queries that each join a text to itself, would take memory past every limit. All such calls of a
//! statement share one bound, since a batch of its rows passes through all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::kernels::concat_elements::concat_elements_utf8;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::common::{ScalarValue, exec_err};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::QueryError;
use super::weight::{compact, content_bytes, elements, longest};

/// Bytes that all calls of a statement may make of one batch of rows.
const BATCH_BYTES_MAX: usize = 128 << 20;
/// Bytes that a constant may come to: it is copied into every row of a batch.
const CONSTANT_BYTES_MAX: usize = 16 << 10;
/// What one byte of a time format may print at most.
const FORMAT_BYTES: usize = 20;
/// What a number or a time prints at most.
const NUMBER_BYTES: usize = 80;
/// What one value takes in a list beside its content.
const VALUE_BYTES: usize = 16;
/// What one byte may become in capitals or small letters.
pub(super) const CASE_BYTES: usize = 3;

/// How large a result may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Growth {
    /// Its arguments together.
    Joining,
    /// Its arguments with the first between all others.
    Separating,
    /// A list of its arguments, or of their elements.
    Listing,
    /// A list of the parts of its first argument, down to single characters.
    Splitting,
    /// A list of what each group of the pattern, its second argument, matches in the first.
    Matching,
    /// One argument, at every place of which another may be put.
    Spreading {
        /// The argument with the places.
        into: usize,
        /// The argument that is put there.
        what: usize,
    },
    /// The elements of its first argument, a separator after each, and a text where one is null.
    Printing,
    /// A time in the format that its second argument gives.
    Formatting,
    /// A text in capitals or small letters.
    Recasing,
}

impl Growth {
    fn bytes(self, args: &[ColumnarValue], rows: usize) -> usize {
        let joined = args.iter().map(|a| bytes(a, rows)).fold(0, usize::saturating_add);
        let first = args.first().map_or(0, |a| bytes(a, rows));
        let longest = |i: usize| args.get(i).map_or(0, longest_of);
        let more = match self {
            Self::Joining => 0,
            Self::Separating => longest(0).saturating_mul(rows).saturating_mul(args.len().saturating_sub(2)),
            Self::Listing => args.iter().map(|a| elements_of(a, rows)).sum::<usize>().saturating_mul(VALUE_BYTES),
            Self::Splitting => first.saturating_mul(VALUE_BYTES),
            Self::Matching => (first + rows * VALUE_BYTES).saturating_mul(args.get(1).map_or(1, groups)),
            Self::Spreading { into, what } => {
                let places = args.get(into).map_or(0, |a| bytes(a, rows)) + rows;
                places.saturating_mul(longest(what))
            }
            Self::Printing => {
                let each = longest(1).saturating_add(longest(2)).saturating_add(NUMBER_BYTES);
                args.first().map_or(0, |a| elements_of(a, rows)).saturating_mul(each)
            }
            Self::Formatting => longest(1).saturating_mul(FORMAT_BYTES).saturating_mul(rows),
            Self::Recasing => joined.saturating_mul(CASE_BYTES - 1),
        };
        joined.saturating_add(more)
    }
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

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        check(self.name(), self.growth, &args)?;
        for arg in &mut args.args {
            if let ColumnarValue::Array(array) = arg {
                *array = compact(array)?;
            }
        }
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
        check("||", Growth::Joining, &args)?;
        let constant = constant(&args.args);
        let rows = if constant { 1 } else { args.number_rows };
        let sides = args.args.iter().map(|a| Ok(compact(&a.to_array(rows)?)?)).collect::<Result<Vec<ArrayRef>>>()?;
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

/// How many calls share a statement's bound. Handed to the calls through the options of the session.
#[derive(Debug, Clone, Default)]
pub(super) struct Calls(Arc<AtomicUsize>);

impl Calls {
    /// Sets their number, once the plan is known, and answers the bytes that each may make of a batch.
    pub(super) fn share(&self, calls: usize) -> usize {
        self.0.store(calls, Ordering::Relaxed);
        BATCH_BYTES_MAX / calls.max(1)
    }

    fn bytes_max(options: &ConfigOptions) -> usize {
        let calls = options.extensions.get::<Self>().map_or(1, |calls| calls.0.load(Ordering::Relaxed));
        BATCH_BYTES_MAX / calls.max(1)
    }
}

impl ConfigExtension for Calls {
    const PREFIX: &'static str = "bounded";
}

impl ExtensionOptions for Calls {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, _: &str, _: &str) -> Result<()> {
        exec_err!("no such option")
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![]
    }
}

fn check(name: &str, growth: Growth, args: &ScalarFunctionArgs) -> Result<()> {
    let (max, rows) = match constant(&args.args) {
        true => (CONSTANT_BYTES_MAX, 1),
        false => (Calls::bytes_max(&args.config_options), args.number_rows),
    };
    if growth.bytes(&args.args, rows) > max {
        let text = format!("{name} would make more than {max} bytes at once: give it shorter texts or lists");
        return Err(QueryError::Limit(text).into());
    }
    Ok(())
}

fn constant(args: &[ColumnarValue]) -> bool {
    args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)))
}

/// Bytes of an argument, a constant counted for every row.
fn bytes(arg: &ColumnarValue, rows: usize) -> usize {
    match arg {
        ColumnarValue::Array(array) => content_bytes(array),
        ColumnarValue::Scalar(value) => scalar_bytes(value).saturating_mul(rows),
    }
}

fn longest_of(arg: &ColumnarValue) -> usize {
    match arg {
        ColumnarValue::Array(array) => longest(array),
        ColumnarValue::Scalar(value) => scalar_bytes(value),
    }
}

fn elements_of(arg: &ColumnarValue, rows: usize) -> usize {
    match arg {
        ColumnarValue::Array(array) => elements(array),
        ColumnarValue::Scalar(ScalarValue::List(list)) => elements(list.as_ref()).saturating_mul(rows),
        ColumnarValue::Scalar(ScalarValue::LargeList(list)) => elements(list.as_ref()).saturating_mul(rows),
        ColumnarValue::Scalar(_) => rows,
    }
}

/// Groups of a regular expression, the whole of it one of them.
fn groups(pattern: &ColumnarValue) -> usize {
    match pattern {
        ColumnarValue::Scalar(value) => value.try_as_str().flatten().map_or(1, |p| 1 + p.matches('(').count()),
        ColumnarValue::Array(patterns) => 1 + longest(patterns),
    }
}

fn scalar_bytes(value: &ScalarValue) -> usize {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.as_ref().map_or(0, String::len)
        }
        ScalarValue::List(list) => content_bytes(list.as_ref()),
        ScalarValue::LargeList(list) => content_bytes(list.as_ref()),
        other if other.data_type().is_primitive() => 16,
        other => other.size(),
    }
}
