//! Every format of the file source is held to the contract.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Decimal128Array, Int64Array, RecordBatch, StringArray};
use connectors::{FileFormat, FileSettings, FileSource};
use parquet::arrow::ArrowWriter;
use schemas::reason::Reason;
use tempfile::TempDir;

use crate::suite::{Run, conforms, read};
use crate::workbook::workbook;

pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }
    pub fn append(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::OpenOptions::new().append(true).open(self.path(name)).unwrap().write_all(bytes.as_ref()).unwrap();
    }
}

pub fn settings(paths: &[&Path]) -> FileSettings {
    FileSettings { files: paths.iter().map(|path| path.to_str().unwrap().to_string()).collect(), ..Default::default() }
}

pub async fn read_all(settings: FileSettings) -> Run {
    read(&mut FileSource::open(settings, Vec::new()).unwrap(), 1 << 20).await
}

async fn conform(settings: FileSettings) {
    for content_keys in [false, true] {
        let settings = FileSettings { content_keys, ..settings.clone() };
        conforms(|cursors| FileSource::open(settings.clone(), cursors).unwrap()).await;
    }
}

fn ndjson(rows: usize) -> String {
    (0..rows).map(|row| format!("{{\"Id\":\"{:05}\",\"Name\":\"größe {}\"}}\n", row, row % 7)).collect()
}

fn csv(rows: usize) -> String {
    let lines = (0..rows).map(|row| match row % 5 {
        0 => format!("{row:05},\"a, \"\"b\"\"\nc\",\n"),
        1 => format!("{row:05},plain,1,too,long\n"),
        2 => format!("{row:05},\"broken\"x,1\n"),
        3 => "\n".to_string(),
        _ => format!("{row:05},größe\r\n"),
    });
    format!("Id, Name ,\n{}", lines.collect::<String>())
}

fn json(rows: usize) -> String {
    format!("[{}]", ndjson(rows).trim_end().replace('\n', " ,\n "))
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[tokio::test]
async fn ndjson_conforms_plain_and_compressed() {
    let folder = Folder::new();
    let text = ndjson(200).replace("00007", "\n  \n00007");
    let (front, back) = text.as_bytes().split_at(1234);
    let two_members = [gzip(front), gzip(back)].concat();
    let two_frames = [zstd::encode_all(front, 1).unwrap(), zstd::encode_all(back, 1).unwrap()].concat();
    conform(settings(&[&folder.write("a.ndjson", &text)])).await;
    conform(settings(&[&folder.write("b.ndjson.gz", two_members)])).await;
    // The name may lie: the first bytes tell the compression.
    conform(settings(&[&folder.write("c.ndjson", two_frames)])).await;
    let plain = read_all(settings(&[&folder.path("a.ndjson")])).await.payloads();
    for other in ["b.ndjson.gz", "c.ndjson"] {
        assert_eq!(read_all(settings(&[&folder.path(other)])).await.payloads(), plain);
    }
}

#[tokio::test]
async fn csv_conforms_in_every_encoding() {
    let folder = Folder::new();
    let text = csv(60);
    let (latin, _, _) = encoding_rs::WINDOWS_1252.encode(&text);
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    conform(settings(&[&folder.write("a.csv", &text)])).await;
    conform(settings(&[&folder.write("b.csv", latin)])).await;
    conform(settings(&[&folder.write("c.csv", utf16)])).await;
    conform(settings(&[&folder.write("d.csv.gz", gzip(text.as_bytes()))])).await;
    conform(settings(&[&folder.write("e.csv", text.trim_end())])).await;
    let plain = read_all(settings(&[&folder.path("a.csv")])).await.payloads();
    assert_eq!(plain[0], r#"{"Id":"00000","Name":"a, \"b\"\nc","column_3":null}"#);
    assert_eq!(plain[3], r#"{"Id":"00004","Name":"größe"}"#);
    for other in ["c.csv", "d.csv.gz", "e.csv"] {
        assert_eq!(read_all(settings(&[&folder.path(other)])).await.payloads(), plain, "{other}");
    }
    let latin = read_all(settings(&[&folder.path("b.csv")])).await.payloads();
    assert_eq!(latin[3], plain[3]);
}

#[tokio::test]
async fn json_arrays_and_objects_conform() {
    let folder = Folder::new();
    conform(settings(&[&folder.write("a.json", json(150))])).await;
    conform(settings(&[&folder.write("b.json", "{\n \"Id\": \"1\",\n \"x\": [1, 2]\n}\n")])).await;
    // Lines under the name of an array are lines.
    conform(settings(&[&folder.write("c.json", ndjson(40))])).await;
    let array = read_all(settings(&[&folder.path("a.json")])).await.payloads();
    assert_eq!(array.len(), 150);
    assert_eq!(array[..40], read_all(settings(&[&folder.path("c.json")])).await.payloads());
}

pub fn parquet_file(rows: i64) -> Vec<u8> {
    let amount = Decimal128Array::from_iter_values((0..rows).map(|row| i128::from(row) * 1001));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("Id", Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("{row:04}"))))),
        ("Count", Arc::new(Int64Array::from_iter((0..rows).map(|row| (row % 3 > 0).then_some(i64::MAX - row))))),
        ("Amount", Arc::new(amount.with_precision_and_scale(38, 2).unwrap())),
        ("Day", Arc::new(Date32Array::from_iter_values((0..rows).map(|row| row as i32)))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[tokio::test]
async fn parquet_conforms() {
    let folder = Folder::new();
    let path = folder.write("a.parquet", parquet_file(120));
    conform(settings(&[&path])).await;
    let rows = read_all(settings(&[&path])).await.without_error().payloads();
    assert_eq!(rows[0], r#"{"Id":"0000","Count":null,"Amount":0.00,"Day":"1970-01-01"}"#);
    assert_eq!(rows[2], r#"{"Id":"0002","Count":9223372036854775805,"Amount":20.02,"Day":"1970-01-03"}"#);
}

fn sheet(rows: usize) -> String {
    let text = |at: String, text: &str| format!("<c r=\"{at}\" t=\"inlineStr\"><is><t>{text}</t></is></c>");
    let header = text("A3".into(), " Id ") + &text("B3".into(), "Amount") + &text("D3".into(), "Day");
    let mut xml = format!("<row r=\"3\">{header}</row>");
    for row in 4..4 + rows {
        let id = text(format!("A{row}"), &format!("{row:05}"));
        let numbers = format!("<c r=\"B{row}\"><v>{row}.25</v></c><c r=\"C{row}\"><v>7</v></c>");
        let day = format!("<c r=\"D{row}\" s=\"1\"><v>{}</v></c>", 45_000 + row);
        let open = match row % 4 {
            0 => format!("<c r=\"E{row}\" t=\"b\"><v>1</v></c>"),
            _ => String::new(),
        };
        // A row may be left out altogether.
        if row % 5 != 4 || row == 4 {
            xml += &format!("<row r=\"{row}\">{id}{numbers}{day}{open}</row>");
        }
    }
    xml
}

#[tokio::test]
async fn excel_conforms() {
    let folder = Folder::new();
    let other = "<row r=\"1\"><c r=\"A1\" t=\"inlineStr\"><is><t>x</t></is></c></row>\
        <row r=\"2\"><c r=\"A2\" t=\"b\"><v>1</v></c></row>";
    let path = folder.write("a.xlsx", workbook(&[("First", &sheet(60)), ("Second", other)]));
    conform(settings(&[&path])).await;
    let rows = read_all(settings(&[&path])).await.without_error().rows();
    assert_eq!((rows[0].ordinal, rows[0].defect), (1, Some(Reason::RowTooLong)));
    assert_eq!(rows[0].payload, r#"["00004",4.25,7,"2023-03-19",true]"#);
    assert_eq!(rows[1].payload, r#"{"Id":"00005","Amount":5.25,"column_3":7,"Day":"2023-03-20"}"#);
    let second = FileSettings { sheet: Some("Second".into()), ..settings(&[&path]) };
    assert_eq!(read_all(second).await.without_error().payloads(), [r#"{"x":true}"#]);
    let none = FileSettings { sheet: Some("Third".into()), ..settings(&[&path]) };
    assert!(read_all(none).await.error.unwrap().to_string().contains("it has First, Second"));
}

#[tokio::test]
async fn a_sheet_with_one_far_cell_is_small() {
    let folder = Folder::new();
    let far = "<row r=\"1\"><c r=\"A1\"><v>1</v></c></row><row r=\"1048576\"><c r=\"A1048576\"><v>2</v></c></row>";
    let path = folder.write("a.xlsx", workbook(&[("S", far)]));
    let rows = read_all(settings(&[&path])).await.without_error().rows();
    assert_eq!((rows.len(), rows[0].ordinal, rows[0].payload.as_str()), (1, 1_048_575, r#"{"1":2}"#));
}

#[tokio::test]
async fn ndjson_in_utf_16_is_read_as_text() {
    let folder = Folder::new();
    let bytes: Vec<u8> = [0xff, 0xfe].into_iter().chain(ndjson(30).encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let path = folder.write("a.ndjson", bytes);
    conform(settings(&[&path])).await;
    let rows = read_all(settings(&[&path])).await.payloads();
    assert_eq!(rows.join("\n") + "\n", ndjson(30));
}

#[tokio::test]
async fn several_files_conform_as_one_source() {
    let folder = Folder::new();
    folder.write("1.ndjson", ndjson(20));
    folder.write("2.csv", csv(20));
    folder.write("3.json.gz", gzip(json(20).as_bytes()));
    folder.write("4.parquet", parquet_file(20));
    conform(settings(&[folder.path("1.ndjson").parent().unwrap()])).await;
}

#[tokio::test]
async fn the_format_can_be_given_where_the_name_is_silent() {
    let folder = Folder::new();
    let path = folder.write("export.txt", "a;b\n1;2\n");
    let silent = FileSource::open(settings(&[&path]), Vec::new());
    let run = read(&mut silent.unwrap(), 100).await;
    assert!(run.error.unwrap().to_string().contains("--format"));
    let given = FileSettings { format: Some(FileFormat::Csv), ..settings(&[&path]) };
    assert_eq!(read_all(given).await.without_error().payloads(), [r#"{"a":"1","b":"2"}"#]);
}

#[tokio::test]
async fn equal_rows_get_keys_by_their_occurrence() {
    let folder = Folder::new();
    let path = folder.write("a.csv", "a\nx\ny\nx\n");
    let settings = FileSettings { content_keys: true, ..settings(&[&path]) };
    let rows = read_all(settings).await.rows();
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_deref().unwrap()).collect();
    assert!(keys[0].ends_with("#1") && keys[1].ends_with("#1") && keys[2].ends_with("#2"));
    assert_eq!(keys[0].split_once('#').unwrap().0, keys[2].split_once('#').unwrap().0);
    assert_eq!(keys[0].split_once('#').unwrap().0.len(), 32);
}

#[tokio::test]
async fn equal_rows_of_two_files_stay_two_rows_and_a_file_read_again_adds_none() {
    let folder = Folder::new();
    let paths = [folder.write("a.csv", "a\nx\nx\n"), folder.write("b.csv", "a\nx\n")];
    let settings = FileSettings { content_keys: true, ..settings(&[&paths[0], &paths[1]]) };
    let keys = |run: Run| run.rows().into_iter().map(|row| row.key.unwrap()).collect::<Vec<_>>();
    let first = keys(read_all(settings.clone()).await);
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), 3);
    folder.write("a.csv", "a\ny\nx\nx\n");
    let again = keys(read_all(settings).await);
    assert_eq!(again.len(), 4);
    assert!(first.iter().all(|key| again.contains(key)));
}

#[tokio::test]
async fn utf_16_is_read_as_text_without_a_byte_order_mark_too() {
    let folder = Folder::new();
    let encoded = |text: &str, big: bool| -> Vec<u8> {
        text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    };
    let plain = [("a.ndjson", ndjson(30)), ("a.json", json(30)), ("a.csv", csv(30))];
    for (name, text) in plain {
        let expected = read_all(settings(&[&folder.write(name, &text)])).await.without_error().payloads();
        for big in [false, true] {
            let path = folder.write(&format!("{big}-{name}"), encoded(&text, big));
            let rows = read_all(settings(&[&path])).await.without_error().payloads();
            // What is broken in a row is given as it stands, which is text by now.
            assert_eq!(rows, expected, "{name} {big}");
        }
    }
}

#[tokio::test]
async fn a_byte_order_mark_is_no_part_of_the_text() {
    let folder = Folder::new();
    for (name, text) in [("a.csv", "a\n1\n"), ("a.ndjson", "{\"a\":\"1\"}\n"), ("a.json", "[{\"a\":\"1\"}]")] {
        for packed in [false, true] {
            let marked = [b"\xef\xbb\xbf", text.as_bytes()].concat();
            let path = folder.write(name, if packed { gzip(&marked) } else { marked });
            let rows = read_all(settings(&[&path])).await.without_error().payloads();
            assert_eq!(rows, ["{\"a\":\"1\"}"], "{name} {packed}");
        }
    }
}

#[tokio::test]
async fn quoted_line_ends_are_kept_wherever_the_window_ends() {
    let folder = Folder::new();
    // The window has a megabyte; rows of 41 bytes come to lie over its end in every way.
    let row = |row: usize| format!("{row:09},\"one, \"\"two\"\"\r\nthree\nfour\"\r\n");
    let text = "a,b\r\n".to_string() + &(0..80_000).map(row).collect::<String>();
    let rows = read_all(settings(&[&folder.write("a.csv", &text)])).await.without_error().rows();
    assert_eq!(rows.len(), 80_000);
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row.payload, format!(r#"{{"a":"{index:09}","b":"one, \"two\"\r\nthree\nfour"}}"#));
    }
}
