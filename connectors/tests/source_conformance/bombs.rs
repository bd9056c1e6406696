//! Small files that unfold into much: refused, or read within a bound.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, ListArray, RecordBatch, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use connectors::FileSettings;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use schemas::reason::Reason;

use crate::formats::{Folder, read_all, settings};
use crate::suite::Run;
use crate::workbook::{workbook, workbook_with, zip};

const MAIN: &str = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";

async fn read_workbook(name: &str, bytes: Vec<u8>) -> Run {
    let folder = Folder::new();
    read_all(settings(&[&folder.write(name, bytes)])).await
}

fn texts(attributes: &str, texts: &str) -> String {
    format!("<sst xmlns=\"{MAIN}\" {attributes}>{texts}</sst>")
}

#[tokio::test]
async fn shared_texts_are_read_and_a_workbook_that_lies_about_their_number_is_refused() {
    let rows = "<row r=\"1\"><c r=\"A1\" t=\"s\"><v>0</v></c></row><row r=\"2\"><c r=\"A2\" t=\"s\"><v>1</v></c></row>";
    let two = "<si><t>a</t></si><si><t>x</t></si>";
    let book = |attributes: &str| workbook_with(&[("S", rows)], &[("xl/sharedStrings.xml", &texts(attributes, two))]);
    for honest in ["", "uniqueCount=\"2\"", "count=\"90000000000\" uniqueCount=\"1000\""] {
        assert_eq!(read_workbook("a.xlsx", book(honest)).await.without_error().payloads(), [r#"{"a":"x"}"#]);
    }
    for lie in
        ["uniqueCount=\"90000000000\"", "broken uniqueCount = '90000000000'", "uniqueCount=\"99999999999999999999999\""]
    {
        let error = read_workbook("a.xlsx", book(lie)).await.error.unwrap().to_string();
        assert!(error.contains("more than a workbook can have") || error.contains("not readable"), "{error}");
    }
}

#[tokio::test]
async fn shared_texts_beyond_memory_are_refused_wherever_the_package_says_they_are() {
    let many = texts("", &"<si/>".repeat(2_200_000));
    let sheet = [("S", "<row r=\"1\"><c r=\"A1\"><v>1</v></c></row>")];
    let book = workbook_with(&sheet, &[("xl/SHAREDstrings.xml", &many)]);
    assert!(read_workbook("a.xlsx", book).await.error.unwrap().to_string().contains("more than fits into memory"));
    let relations = "<Relationships><Relationship Id=\"r1\" Type=\"x/relationships/officeDocument\" \
        Target=\"/o&#116;her/book.xml\"/></Relationships>";
    let parts = [("_rels/.rels", relations), ("other/sharedStrings.xml", &many), ("other/book.xml", "<workbook/>")];
    let parts = parts.map(|(name, text)| (name.to_string(), text.to_string()));
    assert!(
        read_workbook("b.xlsx", zip(&parts)).await.error.unwrap().to_string().contains("more than fits into memory")
    );
}

#[tokio::test]
async fn a_large_text_in_every_cell_of_a_row_is_one_record_that_is_too_large() {
    let names = ["A", "B", "C"].map(|first| (b'A'..=b'Z').map(move |last| format!("{first}{}", last as char)));
    let names: Vec<String> = names.into_iter().flatten().collect();
    let row = |row: usize, text: usize| {
        let cell = |name: &String| format!("<c r=\"{name}{row}\" t=\"s\"><v>{text}</v></c>");
        format!("<row r=\"{row}\">{}</row>", names.iter().map(cell).collect::<String>())
    };
    let header = format!(
        "<row r=\"1\">{}</row>",
        names
            .iter()
            .map(|name| format!("<c r=\"{name}1\" t=\"inlineStr\"><is><t>{name}</t></is></c>"))
            .collect::<String>()
    );
    let rows = header + &(2..52).map(|number| row(number, 0)).collect::<String>() + &row(52, 1);
    let strings = texts("", &format!("<si><t>{}</t></si><si><t>y</t></si>", "x".repeat(1 << 20)));
    let run = read_workbook("a.xlsx", workbook_with(&[("S", &rows)], &[("xl/sharedStrings.xml", &strings)])).await;
    let rows = run.without_error().rows();
    assert_eq!(rows.len(), 51);
    assert!(rows[..50].iter().all(|row| row.defect == Some(Reason::RecordTooLarge) && row.payload.len() < 8192));
    let kept: serde_json::Value = serde_json::from_str(&rows[0].payload).unwrap();
    assert!(kept["byte_length"].as_u64().unwrap() >= 78 << 20);
    assert_eq!((rows[50].defect, rows[50].ordinal), (None, 51));
}

#[tokio::test]
async fn one_cell_without_end_is_refused() {
    let cell = format!(
        "<row r=\"1\"><c r=\"A1\" t=\"inlineStr\"><is>{}</is></c></row>",
        "<r><t>xxxxxxxxxxxxxx</t></r>".repeat(700_000)
    );
    let error = read_workbook("a.xlsx", workbook(&[("S", &cell)])).await.error.unwrap().to_string();
    assert!(error.contains("more than a workbook can have"), "{error}");
    let tag = format!("<row r=\"1\"><c r=\"A1\" x=\"{}\"/></row>", ">".repeat(17 << 20));
    let error = read_workbook("b.xlsx", workbook(&[("S", &tag)])).await.error.unwrap().to_string();
    assert!(error.contains("more than a workbook can have"), "{error}");
}

#[tokio::test]
async fn a_binary_workbook_with_a_record_without_end_is_refused() {
    // A small record, and one that claims a quarter of a gigabyte.
    let claims = vec![0x01, 0x02, 0, 0, 0x01, 0xff, 0xff, 0xff, 0x7f, 0];
    let parts = [("xl/workbook.bin".to_string(), claims)];
    let error = read_workbook("a.xlsb", zip(&parts)).await.error.unwrap().to_string();
    assert!(error.contains("more than a workbook can have"), "{error}");
}

#[tokio::test]
async fn old_and_other_workbooks_are_told_what_to_be_saved_as() {
    let old = [&[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1][..], &[0; 600]].concat();
    for name in ["a.xls", "a.xlsx"] {
        assert!(read_workbook(name, old.clone()).await.error.unwrap().to_string().contains("save it as .xlsx"));
    }
    let open = zip(&[("mimetype".to_string(), "application/vnd.oasis.opendocument.spreadsheet".to_string())]);
    assert!(read_workbook("a.xlsx", open).await.error.unwrap().to_string().contains("OpenDocument"));
}

fn parquet(column: ArrayRef) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter([("x", column)]).unwrap();
    // By default a dictionary this large would be given up.
    let properties = WriterProperties::builder().set_dictionary_page_size_limit(1 << 30).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[tokio::test]
async fn a_dictionary_that_repeats_a_large_text_unfolds_row_by_row() {
    let dictionary = |bytes: usize, rows: usize| -> ArrayRef {
        let values = StringArray::from(vec!["y".to_string(), "x".repeat(bytes)]);
        let keys = Int32Array::from_iter_values((0..rows).map(|row| i32::from(row > 0)));
        Arc::new(DictionaryArray::new(keys, Arc::new(values)))
    };
    let folder = Folder::new();
    // Gigabytes, were all of it unfolded.
    let path = folder.write("a.parquet", parquet(dictionary(17 << 20, 512)));
    let rows = read_all(settings(&[&path])).await.without_error().rows();
    assert_eq!((rows.len(), rows[0].payload.as_str()), (512, "{\"x\":\"y\"}"));
    assert!(rows[1..].iter().all(|row| row.defect == Some(Reason::RecordTooLarge) && row.payload.len() < 8192));
    assert_eq!(rows.iter().map(|row| row.ordinal).collect::<Vec<_>>(), (1..=512).collect::<Vec<_>>());
    let path = folder.write("b.parquet", parquet(dictionary(1 << 20, 40)));
    let rows = read_all(settings(&[&path])).await.without_error().rows();
    assert_eq!(rows.len(), 40);
    assert!(rows[1..].iter().all(|row| row.defect.is_none() && row.payload.len() == (1 << 20) + 8));
}

#[tokio::test]
async fn a_list_that_repeats_a_large_text_is_one_record_that_is_too_large() {
    let texts = StringArray::from_iter_values((0..64).map(|_| "x".repeat(1 << 20)));
    let offsets = OffsetBuffer::new(vec![0, 0, 32, 34, 64].into());
    let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
    let folder = Folder::new();
    let lists = ListArray::new(item, offsets, Arc::new(texts), None);
    let path = folder.write("a.parquet", parquet(Arc::new(lists)));
    let rows = read_all(settings(&[&path])).await.without_error().rows();
    let large = Some(Reason::RecordTooLarge);
    assert_eq!(rows.iter().map(|row| row.defect).collect::<Vec<_>>(), [None, large, None, large]);
    assert_eq!((rows[0].payload.as_str(), rows[2].payload.len()), ("{\"x\":[]}", (2 << 20) + 13));
}

#[tokio::test]
async fn a_line_that_unpacks_to_a_quarter_of_a_gigabyte_is_one_record_that_is_too_large() {
    let folder = Folder::new();
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(b"{\"x\":1}\n").unwrap();
    let megabyte = vec![b'x'; 1 << 20];
    (0..256).for_each(|_| out.write_all(&megabyte).unwrap());
    out.write_all(b"\n{\"x\":2}\n").unwrap();
    let bytes = out.finish().unwrap();
    for name in ["a.ndjson.gz", "a.csv.gz"] {
        let settings = FileSettings { delimiter: Some(b'|'), ..settings(&[&folder.write(name, &bytes)]) };
        let rows = read_all(settings).await.without_error().rows();
        let large: Vec<_> = rows.iter().filter(|row| row.defect == Some(Reason::RecordTooLarge)).collect();
        assert_eq!((large.len(), rows.last().unwrap().defect), (1, None));
        let kept: serde_json::Value = serde_json::from_str(&large[0].payload).unwrap();
        assert_eq!(kept["byte_length"], 256 << 20);
    }
}
