//! What files say of their rows: headers of CSV and Excel, the schema of Parquet.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use connectors::{FileSettings, FileSource};
use parquet::arrow::ArrowWriter;
use pipeline::source::{LaneCursor, Source};
use schemas::shape::TypeClass;

use crate::formats::{Folder, settings};
use crate::suite::{remember, unpacked};
use crate::workbook::workbook;

/// What each batch declares, and the cursors behind the last.
async fn declared(
    settings: FileSettings,
    cursors: &mut Vec<LaneCursor>,
) -> Vec<Option<Vec<(String, Option<TypeClass>)>>> {
    let mut source = FileSource::open(settings, cursors.clone()).unwrap();
    let mut all = Vec::new();
    while let Some(batch) = source.next(60).await.unwrap() {
        let fields = batch.declared.as_ref();
        all.push(fields.map(|fields| fields.iter().map(|field| (field.path.clone(), field.class)).collect()));
        remember(cursors, unpacked(&batch).1);
    }
    all
}

fn untyped(names: &[&str]) -> Option<Vec<(String, Option<TypeClass>)>> {
    Some(names.iter().map(|name| ((*name).to_owned(), None)).collect())
}

#[tokio::test]
async fn a_csv_file_declares_its_header_with_its_first_batch_and_again_when_it_is_gone_on_with() {
    let folder = Folder::new();
    let path = folder.write("a.csv", "Id,Deal Amount,a.b\n1,2,3\n4,5,6\n7,8,9\n");
    let mut cursors = Vec::new();
    let all = declared(settings(&[&path]), &mut cursors).await;
    assert!(all.len() > 1);
    assert_eq!(all[0], untyped(&["Id", r"Deal\ Amount", r"a\.b"]));
    assert!(all[1..].iter().all(Option::is_none));
    folder.append("a.csv", "10,11,12\n");
    assert_eq!(declared(settings(&[&path]), &mut cursors).await, [untyped(&["Id", r"Deal\ Amount", r"a\.b"])]);
}

#[tokio::test]
async fn each_file_declares_its_own_and_lines_of_json_declare_nothing() {
    let folder = Folder::new();
    let paths =
        [folder.write("a.csv", "Id,A\n1,2\n"), folder.write("b.csv", "Id,B\n1,2\n"), folder.write("c.ndjson", "{}\n")];
    let paths: Vec<_> = paths.iter().map(AsRef::as_ref).collect();
    let all = declared(settings(&paths), &mut Vec::new()).await;
    assert_eq!(all, [untyped(&["Id", "A"]), untyped(&["Id", "B"]), None]);
}

#[tokio::test]
async fn a_header_of_more_columns_than_a_schema_has_declares_nothing() {
    let folder = Folder::new();
    let names: Vec<String> = (0..5_000).map(|n| format!("c{n}")).collect();
    let path = folder.write("a.csv", names.join(",") + "\n1\n");
    assert_eq!(declared(settings(&[&path]), &mut Vec::new()).await, [None]);
}

#[tokio::test]
async fn a_workbook_declares_the_header_of_its_sheet() {
    let folder = Folder::new();
    let text = |at: &str, text: &str| format!("<c r=\"{at}\" t=\"inlineStr\"><is><t>{text}</t></is></c>");
    let rows = format!(
        "<row r=\"1\">{}{}</row><row r=\"2\">{}</row>",
        text("A1", "Id"),
        text("C1", "Amount"),
        text("A2", "x")
    );
    let path = folder.write("a.xlsx", workbook(&[("One", &rows)]));
    assert_eq!(declared(settings(&[&path]), &mut Vec::new()).await, [untyped(&["Id", "column_2", "Amount"])]);
}

#[tokio::test]
async fn a_parquet_file_declares_its_columns_with_their_types_and_what_is_within_them() {
    let folder = Folder::new();
    let name: ArrayRef = Arc::new(StringArray::from(vec!["Ann"]));
    let owner = StructArray::from(vec![(Arc::new(Field::new("Name", DataType::Utf8, true)), name)]);
    let tags = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1)])]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("Id", Arc::new(StringArray::from(vec!["1"]))),
        ("Count", Arc::new(Int64Array::from(vec![1]))),
        ("Owner", Arc::new(owner)),
        ("Tags", Arc::new(tags)),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let path = folder.write("a.parquet", writer.into_inner().unwrap());
    let all = declared(settings(&[&path]), &mut Vec::new()).await;
    let expected = [
        ("Id", TypeClass::Text),
        ("Count", TypeClass::Number),
        ("Owner", TypeClass::Object),
        ("Owner.Name", TypeClass::Text),
        ("Tags", TypeClass::Array),
        ("Tags[]", TypeClass::Number),
    ];
    assert_eq!(all, [Some(expected.map(|(path, class)| (path.to_owned(), Some(class))).to_vec())]);
}
