//! Results written out, batch by batch: a table for people, CSV, JSON, an Arrow stream or a Parquet file.

mod column;
mod csv;
mod json;
mod table;

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;

use table::Table;

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Aligned columns, long values cut.
    #[default]
    Table,
    /// RFC 4180 with a header row; null is empty.
    Csv,
    /// One array of objects. Decimals and binary values are texts, times RFC 3339, whole numbers plain.
    Json,
    /// An Arrow IPC stream.
    Arrow,
    /// One Parquet file.
    Parquet,
}

impl Format {
    /// The media type of what is written.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Table => "text/plain; charset=utf-8",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Json => "application/json",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// Why a format is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format: use table, csv, json, arrow or parquet")]
pub struct UnknownFormat;

impl std::str::FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "table" => Ok(Self::Table),
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            "arrow" => Ok(Self::Arrow),
            "parquet" => Ok(Self::Parquet),
            _ => Err(UnknownFormat),
        }
    }
}

/// Why a result could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The writer failed.
    #[error("result cannot be written")]
    Io(#[from] io::Error),
    /// A value has a type that the format cannot hold.
    #[error("result cannot be encoded")]
    Arrow(#[from] ArrowError),
    /// The same, for Parquet.
    #[error("result cannot be encoded")]
    Parquet(#[from] ParquetError),
}

/// Writes the batches of one result; [`finish`](Self::finish) completes it.
pub struct ResultWriter<W: Write + Send> {
    schema: SchemaRef,
    form: Form<W>,
}

/// The writers of Arrow and Parquet have to own their output.
enum Form<W: Write + Send> {
    Table { out: W, table: Table },
    Csv { out: W, escape_formulas: bool },
    Json { out: W, keys: Vec<String>, rows: usize },
    Arrow(Box<StreamWriter<W>>),
    Parquet(Box<ArrowWriter<W>>),
}

impl<W: Write + Send> ResultWriter<W> {
    /// Begins a result with the given columns.
    pub fn new(format: Format, schema: SchemaRef, mut out: W) -> Result<Self, FormatError> {
        let form = match format {
            Format::Table => Form::Table { out, table: Table::new(&schema) },
            Format::Csv => {
                csv::header(&schema, &mut out)?;
                Form::Csv { out, escape_formulas: false }
            }
            Format::Json => {
                out.write_all(b"[")?;
                Form::Json { out, keys: json::keys(&schema), rows: 0 }
            }
            Format::Arrow => Form::Arrow(Box::new(StreamWriter::try_new(out, &schema)?)),
            Format::Parquet => Form::Parquet(Box::new(ArrowWriter::try_new(out, schema.clone(), None)?)),
        };
        Ok(Self { schema, form })
    }

    /// Makes CSV texts that a spreadsheet would take for a formula begin with `'`. Numbers stay as they are.
    pub fn escape_formulas(mut self, escape: bool) -> Self {
        if let Form::Csv { escape_formulas, .. } = &mut self.form {
            *escape_formulas = escape;
        }
        self
    }

    /// The columns of the result.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Writes a batch.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), FormatError> {
        match &mut self.form {
            Form::Table { out, table } => table.write(batch, out),
            Form::Csv { out, escape_formulas } => csv::rows(batch, *escape_formulas, out),
            Form::Json { out, keys, rows } => json::rows(batch, keys, rows, out),
            Form::Arrow(writer) => Ok(writer.write(batch)?),
            Form::Parquet(writer) => Ok(writer.write(batch)?),
        }
    }

    /// Ends the result and gives the writer back.
    pub fn finish(self) -> Result<W, FormatError> {
        let mut out = match self.form {
            Form::Table { mut out, mut table } => {
                table.finish(&mut out)?;
                out
            }
            Form::Csv { out, .. } => out,
            Form::Json { mut out, .. } => {
                out.write_all(b"]\n")?;
                out
            }
            Form::Arrow(writer) => writer.into_inner()?,
            Form::Parquet(writer) => writer.into_inner()?,
        };
        out.flush()?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float32Array, Float64Array,
        Int64Array, ListArray, NullArray, StringArray, TimestampMicrosecondArray,
    };
    use arrow::datatypes::{Field, Int32Type, Schema};
    use arrow::ipc::reader::StreamReader;

    use super::*;

    fn batch() -> RecordBatch {
        let decimals = Decimal128Array::from(vec![Some(1_234_500), None, Some(-5)]);
        let times = TimestampMicrosecondArray::from(vec![Some(1_767_225_600_000_000), None, Some(1_500_000)]);
        let lists = vec![Some(vec![Some(1), None]), None, Some(vec![])];
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int64Array::from(vec![Some(i64::MAX), None, Some(-1)]))),
            ("text", Arc::new(StringArray::from(vec![Some("a,\"b\"\n"), None, Some("")]))),
            ("price", Arc::new(decimals.with_precision_and_scale(20, 2).unwrap())),
            ("day", Arc::new(Date32Array::from(vec![Some(20_454), None, Some(0)]))),
            ("at", Arc::new(times.with_timezone("Europe/Berlin"))),
            ("share", Arc::new(Float64Array::from(vec![Some(0.1), None, Some(f64::NAN)]))),
            ("ok", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
            ("raw", Arc::new(BinaryArray::from_opt_vec(vec![Some(&[1, 255]), None, Some(&[])]))),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap()
    }

    fn written(format: Format, batches: &[RecordBatch]) -> String {
        let mut writer = ResultWriter::new(format, batches[0].schema(), vec![]).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
        }
        String::from_utf8(writer.finish().unwrap()).unwrap()
    }

    #[test]
    fn csv_quotes_what_it_must_and_leaves_null_empty() {
        let expected = "n,text,price,day,at,share,ok,raw,list\r\n\
            9223372036854775807,\"a,\"\"b\"\"\n\",12345.00,2026-01-01,2026-01-01T00:00:00Z,0.1,true,01ff,\"[1, ]\"\r\n\
            ,,,,,,,,\r\n\
            -1,\"\",-0.05,1970-01-01,1970-01-01T00:00:01.500Z,NaN,false,\"\",[]\r\n";
        assert_eq!(written(Format::Csv, &[batch()]), expected);
    }

    #[test]
    fn json_is_one_array_that_parses_with_decimals_as_text() {
        let json: serde_json::Value = serde_json::from_str(&written(Format::Json, &[batch(), batch()])).unwrap();
        assert_eq!(json.as_array().unwrap().len(), 6);
        assert_eq!(
            json[0],
            serde_json::json!({"n": i64::MAX, "text": "a,\"b\"\n", "price": "12345.00", "day": "2026-01-01",
                "at": "2026-01-01T00:00:00Z", "share": 0.1, "ok": true, "raw": "01ff", "list": [1, null]})
        );
        assert!(json[1].as_object().unwrap().values().all(|v| v.is_null()));
        assert_eq!(json[2]["share"], "NaN");
        let none = written(Format::Json, &[batch().slice(0, 0)]);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&none).unwrap(), serde_json::json!([]));
    }

    #[test]
    fn json_tells_what_is_no_number_and_what_is_null() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("a", Arc::new(Float64Array::from(vec![Some(f64::INFINITY), Some(f64::NEG_INFINITY), None]))),
            ("b", Arc::new(Float32Array::from(vec![f32::NAN, f32::NEG_INFINITY, 0.1]))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
        let expected = "[\n{\"a\":\"Infinity\",\"b\":\"NaN\"},\n{\"a\":\"-Infinity\",\"b\":\"-Infinity\"},\n\
            {\"a\":null,\"b\":0.1}]\n";
        assert_eq!(written(Format::Json, &[batch]), expected);
    }

    #[test]
    fn a_column_of_nulls_without_a_type_is_empty_in_csv_and_null_in_json() {
        let columns: Vec<(&str, ArrayRef)> =
            vec![("n", Arc::new(Int64Array::from(vec![1]))), ("none", Arc::new(NullArray::new(1)))];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
        assert_eq!(written(Format::Csv, std::slice::from_ref(&batch)), "n,none\r\n1,\r\n");
        assert_eq!(written(Format::Json, &[batch]), "[\n{\"n\":1,\"none\":null}]\n");
    }

    #[test]
    fn numbers_are_never_cut_in_a_table() {
        let values = (0..1_200).map(|i| if i < 1_100 { 7 } else { 1_234_567_890 });
        let (long, many) = ("9".repeat(60), Int64Array::from_iter_values(values));
        let column: ArrayRef = Arc::new(many);
        let text = written(Format::Table, &[RecordBatch::try_from_iter([("n", column)]).unwrap()]);
        assert!(text.ends_with("\n1234567890\n"), "{text}");
        let wide = arrow::datatypes::i256::from_string(&long).unwrap();
        let column: ArrayRef = Arc::new(Decimal256Array::from(vec![wide]).with_precision_and_scale(76, 0).unwrap());
        let text = written(Format::Table, &[RecordBatch::try_from_iter([("n", column)]).unwrap()]);
        assert!(text.ends_with(&format!("{long}\n")), "{text}");
    }

    #[test]
    fn json_keeps_both_columns_of_one_name() {
        let schema = Schema::new(vec![
            Field::new("id", arrow::datatypes::DataType::Int64, true),
            Field::new("id", arrow::datatypes::DataType::Int64, true),
        ]);
        let column = |n| Arc::new(Int64Array::from(vec![n])) as ArrayRef;
        let batch = RecordBatch::try_new(Arc::new(schema), vec![column(1), column(2)]).unwrap();
        assert_eq!(written(Format::Json, &[batch]), "[\n{\"id\":1,\"id_2\":2}]\n");
    }

    #[test]
    fn formulas_are_escaped_only_on_request_and_numbers_never() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int64Array::from(vec![-1, -2]))),
            ("t", Arc::new(StringArray::from(vec!["=cmd()", "plain"]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        assert_eq!(written(Format::Csv, std::slice::from_ref(&batch)), "n,t\r\n-1,=cmd()\r\n-2,plain\r\n");
        let mut writer = ResultWriter::new(Format::Csv, batch.schema(), vec![]).unwrap().escape_formulas(true);
        writer.write(&batch).unwrap();
        assert_eq!(String::from_utf8(writer.finish().unwrap()).unwrap(), "n,t\r\n-1,'=cmd()\r\n-2,plain\r\n");
    }

    #[test]
    fn tables_are_aligned_cut_and_free_of_control_characters() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("amount", Arc::new(Int64Array::from(vec![5, -1000]))),
            ("name", Arc::new(StringArray::from(vec!["日本\u{1b}[2J\n", &"x".repeat(500)]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let cut = format!("{}…", "x".repeat(47));
        let rule = "-".repeat(48);
        let expected = format!("amount  name\n------  {rule}\n     5  日本\u{fffd}[2J\\n\n -1000  {cut}\n");
        assert_eq!(written(Format::Table, &[batch]), expected);
    }

    #[test]
    fn tables_of_many_rows_keep_the_widths_of_the_first() {
        let values = (0..2_500).map(|i| if i < 1_200 { "ab".to_owned() } else { "abcdef".to_owned() });
        let column: ArrayRef = Arc::new(StringArray::from_iter_values(values));
        let text = written(Format::Table, &[RecordBatch::try_from_iter([("c", column)]).unwrap()]);
        assert_eq!(text.lines().count(), 2_502);
        assert!(text.lines().last().unwrap().starts_with("a…"));
    }

    #[test]
    fn parquet_files_read_back_as_they_were() {
        let mut writer = ResultWriter::new(Format::Parquet, batch().schema(), vec![]).unwrap();
        writer.write(&batch()).unwrap();
        let bytes = bytes::Bytes::from(writer.finish().unwrap());
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
        let read: Vec<_> = reader.build().unwrap().map(|b| b.unwrap()).collect();
        assert_eq!(read, [batch()]);
    }

    #[test]
    fn arrow_streams_read_back_as_they_were() {
        let mut writer = ResultWriter::new(Format::Arrow, batch().schema(), vec![]).unwrap();
        writer.write(&batch()).unwrap();
        let bytes = writer.finish().unwrap();
        let read: Vec<_> = StreamReader::try_new(bytes.as_slice(), None).unwrap().map(|b| b.unwrap()).collect();
        assert_eq!(read, [batch()]);
    }
}
