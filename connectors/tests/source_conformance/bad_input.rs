//! Input that is broken: a clear error or a record with its defect, and everything else goes on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use connectors::{FileFormat, FileSettings, FileSource};
use pipeline::source::Source;
use proptest::prelude::*;
use schemas::reason::Reason;
use schemas::record::RECORD_BYTES_MAX;

use crate::formats::{Folder, read_all, settings};
use crate::suite::{read, remember};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[tokio::test]
async fn one_broken_file_does_not_stop_the_others_and_every_one_is_told() {
    let folder = Folder::new();
    let good = folder.write("good.ndjson", "{\"x\":1}\n");
    let twice = folder.write("twice.csv", "a,a\n1,2\n");
    let silent = folder.write("silent.bin", "x");
    let missing = folder.path("missing.csv");
    let last = folder.write("last.csv", "a\n1\n");
    let run = read_all(settings(&[&missing, &twice, &good, &silent, &last])).await;
    assert_eq!(run.payloads(), ["{\"x\":1}", "{\"a\":\"1\"}"]);
    let error = run.error.unwrap().to_string();
    for part in ["missing.csv", "twice.csv", "\"a\" twice", "silent.bin", "--format"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert!(!error.contains("good") && !error.contains("last"));
}

#[tokio::test]
async fn what_is_no_readable_file_is_told_at_once() {
    let folder = Folder::new();
    let refused = |settings: FileSettings| FileSource::open(settings, Vec::new()).err().unwrap();
    assert!(refused(settings(&[&folder.path("none.csv")])).to_string().contains("none.csv"));
    assert!(!refused(settings(&[&folder.path("none.csv")])).is_retryable());
    assert!(refused(settings(&[&folder.path("*.csv")])).to_string().contains("no file matches"));
    assert!(refused(settings(&[&folder.path("")])).to_string().contains("has no csv"));
    let encoding = FileSettings { encoding: Some("klingon".into()), ..settings(&[&folder.path("")]) };
    assert!(refused(encoding).to_string().contains("klingon"));
    let device =
        read_all(FileSettings { format: Some(FileFormat::Csv), ..settings(&[std::path::Path::new("/dev/null")]) });
    assert!(device.await.error.unwrap().to_string().contains("not a regular file"));
}

#[tokio::test]
async fn an_unreadable_file_is_told() {
    let folder = Folder::new();
    let mut path = folder.write("secret.csv", "a\n1\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let mut settings = settings(&[&path]);
    if fs::read(&path).is_ok() {
        // The superuser may read everything; but nobody can read the speed of a device that has none.
        path = Path::new("/sys/class/net/lo/speed").to_path_buf();
        settings = FileSettings { format: Some(FileFormat::Csv), ..crate::formats::settings(&[&path]) };
    }
    assert!(fs::read(&path).is_err(), "{} is not readable", path.display());
    let error = read_all(settings).await.error.unwrap().to_string();
    assert!(error.contains(path.file_name().unwrap().to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn one_unreadable_file_of_a_directory_or_glob_does_not_hide_the_others() {
    let folder = Folder::new();
    folder.write("a.csv", "a\n1\n");
    std::os::unix::fs::symlink(folder.path("b.csv"), folder.path("b.csv")).unwrap();
    folder.write("c.csv", "a\n2\n");
    for named in [folder.path(""), folder.path("*.csv")] {
        let run = read_all(settings(&[&named])).await;
        assert_eq!(run.payloads(), ["{\"a\":\"1\"}", "{\"a\":\"2\"}"]);
        assert!(run.error.unwrap().to_string().contains("b.csv"));
    }
}

#[tokio::test]
async fn pipes_sockets_and_directories_are_told_and_never_waited_for() {
    let folder = Folder::new();
    let pipe = folder.path("pipe.csv");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path("socket.csv")).unwrap();
    fs::create_dir(folder.path("folder.csv")).unwrap();
    folder.write("a.csv", "a\n1\n");
    let run = read_all(settings(&[&folder.path("")])).await;
    assert_eq!(run.payloads(), ["{\"a\":\"1\"}"]);
    let error = run.error.unwrap().to_string();
    assert_eq!(error.matches("is not a regular file").count(), 2, "{error}");
    assert!(error.contains("pipe.csv") && error.contains("socket.csv"), "{error}");
}

#[tokio::test]
async fn a_truncated_gzip_gives_what_came_before_and_where_it_ends() {
    let folder = Folder::new();
    let text: String = (0..100_000).map(|row| format!("{{\"x\":{row}}}\n")).collect();
    let mut bytes = gzip(text.as_bytes());
    bytes.truncate(bytes.len() / 2);
    let path = folder.write("a.ndjson.gz", &bytes);
    let run = read_all(settings(&[&path])).await;
    let rows = run.payloads();
    assert!(rows.len() > 30_000, "{}", rows.len());
    assert!(text.starts_with(&(rows.join("\n") + "\n")));
    let error = run.error.unwrap().to_string();
    assert!(error.contains("gzip") && error.contains("a.ndjson.gz") && error.contains(&bytes.len().to_string()));
    let again = read(&mut FileSource::open(settings(&[&path]), run.cursors).unwrap(), 1 << 20).await;
    assert!(again.batches.is_empty());
    assert!(again.error.is_some(), "the damage is still there");
}

#[tokio::test]
async fn a_truncated_zstd_gives_what_came_before_and_where_it_ends() {
    let folder = Folder::new();
    let text: String = (0..200_000).map(|row| format!("{{\"x\":{row}}}\n")).collect();
    let mut bytes = zstd::encode_all(text.as_bytes(), 1).unwrap();
    bytes.truncate(bytes.len() * 3 / 4);
    let run = read_all(settings(&[&folder.write("a.ndjson.zst", &bytes)])).await;
    let rows = run.payloads();
    assert!(rows.len() > 1000 && text.starts_with(&(rows.join("\n") + "\n")), "{}", rows.len());
    let error = run.error.unwrap().to_string();
    assert!(error.contains("zstd") && error.contains("a.ndjson.zst"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_cut_off_while_it_is_read_ends_and_is_read_anew() {
    let folder = Folder::new();
    let text = "{\"x\":1}\n".repeat(400_000);
    for (name, bytes) in [("a.ndjson", text.clone().into_bytes()), ("b.ndjson.gz", gzip(text.as_bytes()))] {
        let path = folder.write(name, &bytes);
        let mut source = FileSource::open(settings(&[&path]), Vec::new()).unwrap();
        let (rows, cursor) = crate::suite::unpacked(&source.next(100).await.unwrap().unwrap());
        assert!(!rows.is_empty());
        fs::File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
        let run = read(&mut source, 1 << 20).await;
        assert!(run.rows().len() < 400_000);
        if name == "b.ndjson.gz" {
            assert!(run.error.is_some());
        }
        folder.write(name, &bytes);
        let again = read(&mut FileSource::open(settings(&[&path]), vec![cursor]).unwrap(), 1 << 20).await;
        assert_eq!(rows.len() + again.without_error().rows().len(), 400_000);
    }
}

#[tokio::test]
async fn a_record_that_is_too_large_is_a_small_record_with_its_place() {
    let folder = Folder::new();
    let huge = "y".repeat(3 * RECORD_BYTES_MAX);
    let exact = format!("{{\"z\":\"{}\"}}", "z".repeat(RECORD_BYTES_MAX - 8));
    let lines = folder.write("a.ndjson", format!("{{\"x\":1}}\n{{\"x\":\"{huge}\"}}\n{exact}\n{{\"x\":3}}\n"));
    let rows = read_all(settings(&[&lines])).await.without_error().rows();
    assert_eq!(rows.len(), 4);
    assert_eq!((rows[1].defect, rows[1].ordinal), (Some(Reason::RecordTooLarge), 2));
    let kept: serde_json::Value = serde_json::from_str(&rows[1].payload).unwrap();
    assert_eq!(kept["byte_offset"], 8);
    assert_eq!(kept["byte_length"], huge.len() + 8);
    assert_eq!(kept["beginning"].as_str().unwrap().len(), 1024);
    assert_eq!((rows[2].defect, rows[2].payload.len()), (None, RECORD_BYTES_MAX));
    assert_eq!(rows[3].payload, "{\"x\":3}");

    let array = folder.write("a.json", format!("[{{\"x\":1}},\n{{\"x\":\"{huge}\"}},{{\"x\":3}}]"));
    let rows = read_all(settings(&[&array])).await.without_error().rows();
    assert_eq!(rows.iter().map(|row| row.defect).collect::<Vec<_>>(), [None, Some(Reason::RecordTooLarge), None]);

    let csv = folder.write("a.csv", format!("a,b\n1,{huge}\n2,\"open\n3,\"{huge}\"\n4,5\n"));
    let rows = read_all(settings(&[&csv])).await.without_error().rows();
    assert_eq!(rows.last().unwrap().payload, "{\"a\":\"4\",\"b\":\"5\"}");
    assert!(rows[..rows.len() - 1].iter().all(|row| row.defect.is_some() && row.payload.len() < 8192));
}

#[tokio::test]
async fn rows_that_are_no_rows_are_given_with_their_defect() {
    let folder = Folder::new();
    let path = folder.write("a.csv", b"a,b\n1,2,3\n\"x\"y,2\n\xc3\xa9,1\n\xff,1\n7,\"open\n8,9\n");
    let settings = FileSettings { encoding: Some("utf-8".into()), ..settings(&[&path]) };
    let rows = read_all(settings).await.without_error().rows();
    let defects: Vec<_> = rows.iter().map(|row| row.defect).collect();
    let expected = [
        Some(Reason::RowTooLong),
        Some(Reason::MalformedRow),
        None,
        Some(Reason::InvalidEncoding),
        Some(Reason::MalformedRow),
        None,
    ];
    assert_eq!(defects, expected);
    assert_eq!(rows[0].payload, "1,2,3");
    assert_eq!(rows[4].payload, "7,\"open");
    assert_eq!(rows[5].payload, "{\"a\":\"8\",\"b\":\"9\"}");
}

#[tokio::test]
async fn quotes_that_never_close_cost_one_line_each_and_no_quadratic_time() {
    let folder = Folder::new();
    let path = folder.write("a.csv", "a,b\n".to_string() + &"x\",\"y\n".repeat(400_000) + "1,2\n");
    let rows = read_all(settings(&[&path])).await.without_error().rows();
    assert_eq!(rows.len(), 400_001);
    assert!(rows[..400_000].iter().all(|row| row.defect == Some(Reason::MalformedRow) && row.payload == "x\",\"y"));
    assert_eq!(rows[400_000].payload, r#"{"a":"1","b":"2"}"#);
}

#[tokio::test]
async fn a_million_columns_are_refused() {
    let folder = Folder::new();
    let header: String = (0..1_000_000).map(|column| format!("c{column},")).collect();
    let path = folder.write("a.csv", header + "\n1,2\n");
    let run = read_all(settings(&[&path])).await;
    assert!(run.batches.is_empty());
    assert!(run.error.unwrap().to_string().contains("100000 columns"));
}

#[tokio::test]
async fn an_array_that_is_cut_off_gives_its_elements_and_an_error() {
    let folder = Folder::new();
    let path = folder.write("a.json", "[{\"x\":1}, {\"x\":2}, {\"x\":");
    let run = read_all(settings(&[&path])).await;
    assert_eq!(run.payloads(), ["{\"x\":1}", "{\"x\":2}", "{\"x\":"]);
    assert!(run.error.unwrap().to_string().contains("byte 19 is not closed"));
}

#[tokio::test]
async fn a_bracket_that_is_not_closed_is_told_with_its_place_and_swallows_no_more_than_its_beginning() {
    let folder = Folder::new();
    let rest = ",{\"x\":3}".repeat(20_000);
    let path = folder.write("a.json", format!("[{{\"x\":1}},{{\"x\":2{rest}]"));
    let run = read_all(settings(&[&path])).await;
    let rows = run.rows();
    assert_eq!(rows.iter().map(|row| row.defect).collect::<Vec<_>>(), [None, Some(Reason::MalformedJson)]);
    assert!(rows[1].payload.len() < 8192);
    let kept: serde_json::Value = serde_json::from_str(&rows[1].payload).unwrap();
    assert_eq!(kept["byte_offset"], 9);
    assert!(kept["beginning"].as_str().unwrap().starts_with("{\"x\":2,"));
    let error = run.error.unwrap().to_string();
    assert!(error.contains("byte 9 is not closed") && error.contains("a.json"), "{error}");
}

#[tokio::test]
async fn deep_nesting_and_empty_files_are_no_obstacle() {
    let folder = Folder::new();
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    folder.write("a.json", format!("[{{\"x\":{deep}}},1]"));
    folder.write("c.csv", "");
    folder.write("d.ndjson", "\n\n");
    folder.write("e.csv", "only,header\n");
    let rows = read_all(settings(&[&folder.path("")])).await.without_error().payloads();
    assert_eq!(rows.len(), 2);
}

#[tokio::test]
async fn a_row_with_a_nul_byte_is_told_and_a_header_with_one_refused() {
    let folder = Folder::new();
    let path = folder.write("a.csv", "a,b\n1,x\0y\n2,\"\0\"\n3,z\n");
    let rows = read_all(settings(&[&path])).await.without_error().rows();
    let defects: Vec<_> = rows.iter().map(|row| row.defect).collect();
    assert_eq!(defects, [Some(Reason::NulByte), Some(Reason::NulByte), None]);
    assert_eq!(rows[0].payload, "1,x\0y");
    let error = read_all(settings(&[&folder.write("b.csv", "a,b\0\n1,2\n")])).await.error.unwrap().to_string();
    assert!(error.contains("NUL") && error.contains("--encoding"), "{error}");
}

#[tokio::test]
async fn text_of_an_encoding_that_is_not_told_is_refused_until_it_is_named() {
    let folder = Folder::new();
    let (bytes, _, _) = encoding_rs::SHIFT_JIS.encode("番号,名前\n1,日本語\n2,テスト\n");
    let path = folder.write("a.csv", bytes);
    let error = read_all(settings(&[&path])).await.error.unwrap().to_string();
    assert!(error.contains("a.csv") && error.contains("--encoding"), "{error}");
    let named = FileSettings { encoding: Some("shift_jis".into()), ..settings(&[&path]) };
    let rows = read_all(named).await.without_error().payloads();
    assert_eq!(rows, [r#"{"番号":"1","名前":"日本語"}"#, r#"{"番号":"2","名前":"テスト"}"#]);
}

#[tokio::test]
async fn a_row_with_a_byte_that_windows_1252_does_not_have_is_told_and_the_others_are_read() {
    let folder = Folder::new();
    let path = folder.write("a.csv", b"name\ncaf\xe9\nna\x9dve\nfa\xe7ade\n");
    let rows = read_all(settings(&[&path])).await.without_error().rows();
    let defects: Vec<_> = rows.iter().map(|row| row.defect).collect();
    assert_eq!(defects, [None, Some(Reason::InvalidEncoding), None]);
    assert_eq!(rows[2].payload, r#"{"name":"façade"}"#);
}

#[tokio::test]
async fn a_cursor_that_cannot_be_read_means_to_read_anew_in_a_lane_that_the_line_does_not_have() {
    let folder = Folder::new();
    let path = folder.write("a.csv", "a\n1\n");
    let first = read_all(settings(&[&path])).await;
    for damage in [vec![99], vec![2, 255, 255], vec![2], b"{}".to_vec()] {
        let mut cursors = first.cursors.clone();
        cursors[0].cursor = damage;
        let again = read(&mut FileSource::open(settings(&[&path]), cursors).unwrap(), 100).await.without_error();
        assert_eq!(again.payloads(), first.payloads());
        assert_ne!(again.cursors[0].lane, first.cursors[0].lane);
    }
}

fn read_bytes(name: &str, bytes: &[u8], format: FileFormat, content_keys: bool) {
    let folder = Folder::new();
    let path = folder.write(name, bytes);
    let settings = FileSettings { format: Some(format), content_keys, ..settings(&[&path]) };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let whole = read_all(settings.clone()).await;
        let mut cursors = Vec::new();
        let small = read(&mut FileSource::open(settings.clone(), Vec::new()).unwrap(), 40).await;
        assert_eq!(small.rows(), whole.rows());
        let mut taken = 0;
        for (batch, cursor) in small.batches.iter().zip(small.cursors) {
            remember(&mut cursors, cursor);
            taken += batch.len();
            let rest = read(&mut FileSource::open(settings.clone(), cursors.clone()).unwrap(), 40).await;
            assert_eq!(rest.rows(), whole.rows()[taken..]);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_csv_is_read_without_panic_and_resumes(text in "a,b\n[a\",;\r\n\"é]{0,60}", keys: bool) {
        read_bytes("x", text.as_bytes(), FileFormat::Csv, keys);
    }

    #[test]
    fn any_bytes_are_read_without_panic_and_resume(
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'"'), Just(b',')], 0..80),
        keys: bool,
    ) {
        for format in [FileFormat::Csv, FileFormat::Ndjson, FileFormat::Json] {
            read_bytes("x", &bytes, format, keys);
        }
    }

    #[test]
    fn any_bytes_are_no_workbook_and_no_parquet(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
        for (magic, format) in [(&b"PK\x03\x04"[..], FileFormat::Excel), (&b"PAR1"[..], FileFormat::Parquet)] {
            read_bytes("x", &[magic, &bytes, magic].concat(), format, false);
        }
    }

    #[test]
    fn a_damaged_parquet_file_is_an_error_and_no_panic(at in 0usize..900, byte: u8) {
        let mut bytes = crate::formats::parquet_file(20);
        let at = at % bytes.len();
        bytes[at] = byte;
        read_bytes("x", &bytes, FileFormat::Parquet, false);
    }
}
