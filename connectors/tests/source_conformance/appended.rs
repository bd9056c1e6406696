//! Files that grow, shrink and are written anew.

use connectors::{FileSettings, FileSource};
use pipeline::source::{LaneCursor, Source};
use proptest::prelude::*;

use crate::formats::{Folder, gzip, read_all, settings};
use crate::suite::{Run, read, remember};

/// A line that keeps the cursors of what it took.
struct Line {
    settings: FileSettings,
    cursors: Vec<LaneCursor>,
}

impl Line {
    fn new(settings: FileSettings) -> Self {
        Self { settings, cursors: Vec::new() }
    }
    async fn run(&mut self) -> Run {
        let mut source = FileSource::open(self.settings.clone(), self.cursors.clone()).unwrap();
        let run = read(&mut source, 4096).await;
        run.cursors.iter().for_each(|cursor| remember(&mut self.cursors, cursor.clone()));
        run
    }
    async fn payloads(&mut self) -> Vec<String> {
        self.run().await.without_error().payloads()
    }
}

#[tokio::test]
async fn appended_rows_are_picked_up_in_the_same_lane() {
    let folder = Folder::new();
    let path = folder.write("a.csv", "a,b\n1,2\n");
    let other = folder.write("b.ndjson", "{\"x\":1}\n");
    let mut line = Line::new(settings(&[&path, &other]));
    let first = line.run().await.without_error().rows();
    assert_eq!(first.len(), 2);
    folder.append("a.csv", "3,4\n5,é\n");
    let second = line.run().await.without_error().rows();
    assert_eq!(second.iter().map(|row| row.ordinal).collect::<Vec<_>>(), [2, 3]);
    assert!(second.iter().all(|row| row.lane == first[0].lane));
    assert_eq!(second[1].payload, r#"{"a":"5","b":"é"}"#);
    assert!(line.payloads().await.is_empty());
    folder.append("b.ndjson", "\n{\"x\":2}\n");
    let third = line.run().await.without_error().rows();
    assert_eq!((third[0].ordinal, third[0].lane), (3, first[1].lane));
}

#[tokio::test]
async fn a_dialect_once_found_is_kept_when_the_file_grows() {
    let folder = Folder::new();
    let path = folder.write("a.csv", "a;b,c\n1;2\n");
    let mut line = Line::new(settings(&[&path]));
    assert_eq!(line.payloads().await, [r#"{"a":"1","b,c":"2"}"#]);
    folder.append("a.csv", "x,y,z;q\n".repeat(60));
    assert_eq!(line.payloads().await[0], r#"{"a":"x,y,z","b,c":"q"}"#);
}

#[tokio::test]
async fn a_rewritten_or_truncated_file_is_read_anew_in_a_new_lane() {
    let folder = Folder::new();
    let path = folder.write("a.ndjson", "{\"x\":1}\n{\"x\":2}\n");
    let mut line = Line::new(settings(&[&path]));
    let first = line.run().await.rows();
    folder.write("a.ndjson", "{\"x\":9}\n{\"x\":2}\n{\"x\":3}\n");
    let second = line.run().await.rows();
    assert_eq!(second.len(), 3);
    assert_ne!(second[0].lane, first[0].lane);
    folder.write("a.ndjson", "{\"x\":9}\n");
    let third = line.run().await.rows();
    assert_eq!(third.len(), 1);
    // Back to a former content is a rewrite too: the last writing counts.
    folder.write("a.ndjson", "{\"x\":1}\n{\"x\":2}\n");
    let fourth = line.run().await.rows();
    assert_eq!(fourth.len(), 2);
    assert_ne!(fourth[0].lane, first[0].lane);
    assert!(line.payloads().await.is_empty());
}

#[tokio::test]
async fn a_rewritten_whole_file_is_read_anew_also_when_it_goes_back() {
    let folder = Folder::new();
    let path = folder.write("a.json", "[{\"x\":1}]");
    let mut line = Line::new(settings(&[&path]));
    for content in ["[{\"x\":1}]", "[{\"x\":2}]", "[{\"x\":1}]"] {
        folder.write("a.json", content);
        assert_eq!(line.payloads().await.len(), 1);
        assert!(line.payloads().await.is_empty());
    }
}

#[tokio::test]
async fn a_last_line_without_an_end_is_taken_and_noticed_when_it_grows() {
    let folder = Folder::new();
    let path = folder.write("a.ndjson", "{\"x\":1}\n{\"x\":2}");
    let mut line = Line::new(settings(&[&path]));
    let first = line.run().await.rows();
    assert_eq!(first.len(), 2);
    assert!(line.payloads().await.is_empty());
    folder.append("a.ndjson", "\n{\"x\":3}\n");
    let second = line.run().await.rows();
    assert_eq!((second.len(), second[0].ordinal, second[0].lane), (1, 3, first[0].lane));
    folder.append("a.ndjson", "{\"x\":4");
    assert_eq!(line.payloads().await, ["{\"x\":4"]);
    folder.append("a.ndjson", "0}\n");
    let anew = line.run().await.rows();
    assert_eq!(anew.len(), 4);
    assert_ne!(anew[0].lane, first[0].lane);
    assert_eq!(anew[3].payload, "{\"x\":40}");
}

#[tokio::test]
async fn a_quoted_cell_that_was_cut_off_at_its_line_end_is_read_anew_when_it_goes_on() {
    for follow in [false, true] {
        let folder = Folder::new();
        let path = folder.write("a.csv", "a,b\n1,\"x\n2,3\n");
        rest(&path);
        let mut line = Line::new(FileSettings { follow, ..settings(&[&path]) });
        let first = line.run().await.without_error().rows();
        assert_eq!(first[0].payload, "1,\"x");
        assert!(line.payloads().await.is_empty());
        folder.append("a.csv", "y\"\n3,4\n");
        rest(&path);
        let second = line.run().await.without_error().rows();
        assert_ne!(second[0].lane, first[0].lane);
        assert_eq!(second[0].payload, r#"{"a":"1","b":"x\n2,3\ny"}"#);
        assert_eq!(second, read_anew(&line, &second).await);
    }
}

/// What one reading of everything gives, in the lane of `rows`.
async fn read_anew(line: &Line, rows: &[crate::suite::Row]) -> Vec<crate::suite::Row> {
    let settings = FileSettings { follow: false, ..line.settings.clone() };
    let mut anew = read_all(settings).await.without_error().rows();
    anew.iter_mut().for_each(|row| row.lane = rows[0].lane);
    anew
}

fn rest(path: &std::path::Path) {
    let minutes_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(minutes_ago).unwrap();
}

#[tokio::test]
async fn an_appended_member_frame_or_utf_16_text_continues_its_lane() {
    let rows = |from: usize| (from..from + 50).map(|row| format!("{{\"x\":{row}}}\n")).collect::<String>();
    let csv = |from: usize| (from..from + 50).map(|row| format!("{row};é\n")).collect::<String>();
    let utf_16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let zstd = |text: &str| zstd::encode_all(text.as_bytes(), 1).unwrap();
    let cases = [
        ("a.ndjson.gz", gzip(rows(0).as_bytes()), gzip(rows(50).as_bytes())),
        ("b.ndjson.zst", zstd(&rows(0)), zstd(&rows(50))),
        ("c.csv.gz", gzip(("a;b\n".to_string() + &csv(0)).as_bytes()), gzip(csv(50).as_bytes())),
        ("d.ndjson", utf_16(&("\u{feff}".to_string() + &rows(0))), utf_16(&rows(50))),
        ("e.json.gz", gzip(rows(0).replace('\n', "\n\n").as_bytes()), gzip(rows(50).as_bytes())),
    ];
    for (name, front, back) in cases {
        for content_keys in [false, true] {
            let folder = Folder::new();
            let path = folder.write(name, &front);
            let mut line = Line::new(FileSettings { content_keys, ..settings(&[&path]) });
            let first = line.run().await.without_error().rows();
            folder.append(name, &back);
            let second = line.run().await.without_error().rows();
            assert_eq!((first.len(), second.len()), (50, 50), "{name}");
            assert_eq!([first.clone(), second.clone()].concat(), read_anew(&line, &first).await, "{name}");
            assert!(line.payloads().await.is_empty());
            // One that is not only longer is another.
            folder.write(name, [&back[..], &front[..], &back[..]].concat());
            let third = line.run().await.rows();
            assert!(third.first().is_none_or(|row| row.lane != first[0].lane), "{name}");
        }
    }
}

#[tokio::test]
async fn a_gzip_file_that_is_still_written_gives_its_rows_once() {
    let folder = Folder::new();
    let text: String = (0..50_000).map(|row| format!("{{\"x\":{row}}}\n")).collect();
    let bytes = gzip(text.as_bytes());
    let path = folder.write("a.ndjson.gz", &bytes[..bytes.len() / 2]);
    let mut line = Line::new(settings(&[&path]));
    let first = line.run().await;
    assert!(first.error.is_some() && !first.batches.is_empty());
    folder.append("a.ndjson.gz", &bytes[bytes.len() / 2..]);
    let second = line.run().await.without_error();
    assert_eq!([first.payloads(), second.payloads()].concat().join("\n") + "\n", text);
    assert_eq!(first.rows()[0].lane, second.rows()[0].lane);
}

#[tokio::test]
async fn a_compressed_last_line_without_an_end_is_read_anew_when_the_file_grows() {
    let folder = Folder::new();
    let path = folder.write("a.ndjson.gz", gzip(b"{\"x\":1}\n{\"x\":2"));
    let mut line = Line::new(settings(&[&path]));
    assert_eq!(line.payloads().await.len(), 2);
    folder.append("a.ndjson.gz", gzip(b"0}\n"));
    assert_eq!(line.payloads().await, ["{\"x\":1}", "{\"x\":20}"]);
}

#[tokio::test]
async fn a_source_tells_whether_its_files_changed_since_it_was_opened() {
    let folder = Folder::new();
    let (first, _) = (folder.write("a.csv", "a\n1\n"), folder.write("b.csv", "a\n1\n"));
    let open = || FileSource::open(settings(&[&folder.path("")]), Vec::new()).unwrap();
    let source = open();
    assert!(source.is_as_opened());
    folder.append("a.csv", "2\n");
    assert!(!source.is_as_opened() && open().is_as_opened());
    let source = open();
    std::fs::remove_file(first).unwrap();
    assert!(!source.is_as_opened(), "one is gone");
}

#[tokio::test]
async fn a_carriage_return_of_the_row_itself_is_no_half_of_a_line_end() {
    for (cut_off, rest, continues) in
        [("x", "\r\n", true), ("x\r", "\n", true), ("x\r", "\r\n", false), ("\r", "\r\n", false)]
    {
        for name in ["a.csv", "a.ndjson"] {
            let folder = Folder::new();
            let path = folder.write(name, format!("a\n1\n{cut_off}"));
            let mut line = Line::new(settings(&[&path]));
            let first = line.run().await.without_error().rows();
            folder.append(name, format!("{rest}2\n"));
            let second = line.run().await.without_error().rows();
            assert_eq!(second[0].lane == first[0].lane, continues, "{name} {cut_off:?} {rest:?}");
            let all = if continues { [first.clone(), second].concat() } else { second };
            assert_eq!(all, read_anew(&line, &all).await, "{name} {cut_off:?} {rest:?}");
        }
    }
}

#[tokio::test]
async fn a_followed_file_keeps_its_unfinished_line_for_later() {
    let folder = Folder::new();
    let path = folder.write("a.csv", "a,b\n1,2\n3,\"x");
    let mut line = Line::new(FileSettings { follow: true, ..settings(&[&path]) });
    let first = line.run().await.rows();
    assert_eq!(first.len(), 1);
    assert!(line.payloads().await.is_empty());
    folder.append("a.csv", "\ny\"\n");
    let second = line.run().await.rows();
    assert_eq!((second.len(), second[0].lane, second[0].ordinal), (1, first[0].lane, 2));
    assert_eq!(second[0].payload, r#"{"a":"3","b":"x\ny"}"#);
}

#[tokio::test]
async fn a_followed_file_that_rests_is_taken_to_its_end() {
    let folder = Folder::new();
    let path = folder.write("a.csv", "a,b\n1,2\n3,4");
    rest(&path);
    let mut line = Line::new(FileSettings { follow: true, ..settings(&[&path]) });
    assert_eq!(line.payloads().await.len(), 2);
    assert!(line.payloads().await.is_empty());
}

#[tokio::test]
async fn a_followed_directory_may_be_empty() {
    let folder = Folder::new();
    let root = folder.path("");
    let mut line = Line::new(FileSettings { follow: true, ..settings(&[&root]) });
    assert!(line.payloads().await.is_empty());
    folder.write("a.csv", "a\n1\n");
    assert_eq!(line.payloads().await.len(), 1);
}

#[tokio::test]
async fn a_reading_that_is_given_up_loses_no_batch() {
    let folder = Folder::new();
    let path = folder.write("a.ndjson", "{\"x\":1}\n".repeat(50));
    let mut source = FileSource::open(settings(&[&path]), Vec::new()).unwrap();
    let mut rows = 0;
    loop {
        // Polled once and dropped.
        let given_up = tokio::time::timeout(std::time::Duration::ZERO, source.next(100)).await;
        let batch = match given_up {
            Ok(result) => result.unwrap(),
            Err(_) => source.next(100).await.unwrap(),
        };
        match batch {
            Some(batch) => rows += batch.records.count,
            None => break,
        }
    }
    assert_eq!(rows, 50);
}

#[tokio::test]
async fn another_reading_of_the_same_file_is_another_lane() {
    let folder = Folder::new();
    let path = folder.write("a.csv", "a;b,c\n1;2\n");
    let mut line = Line::new(settings(&[&path]));
    assert_eq!(line.payloads().await.len(), 1);
    line.settings.delimiter = Some(b',');
    assert_eq!(line.payloads().await, [r#"{"a;b":"1;2"}"#]);
    assert!(line.payloads().await.is_empty());
}

/// Writes `text` in pieces that end anywhere, reading after each; together they must be what one reading gives.
fn grows_as_it_would_be_read_at_once(name: &str, text: &str, cuts: &[usize], content_keys: bool) {
    let folder = Folder::new();
    let path = folder.write(name, "");
    let settings = FileSettings { delimiter: Some(b','), quote: Some(b'"'), content_keys, ..settings(&[&path]) };
    let mut line = Line::new(FileSettings { follow: true, ..settings.clone() });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut rows, mut written) = (Vec::new(), 0);
        for cut in cuts.iter().copied().chain([text.len()]) {
            let end = written.max(cut.min(text.len()));
            folder.append(name, &text.as_bytes()[written..end]);
            written = end;
            rows.extend(line.run().await.without_error().rows());
        }
        line.settings.follow = false;
        rows.extend(line.run().await.without_error().rows());
        assert_eq!(rows, read_all(settings).await.without_error().rows());
    });
}

/// The same without waiting for whole lines: what was read of a cut off row is read anew, and the last lane has it all.
fn grows_to_what_it_would_be_read_at_once(name: &str, text: &str, cuts: &[usize], follow: bool) {
    let folder = Folder::new();
    let path = folder.write(name, "");
    let settings = FileSettings { delimiter: Some(b','), quote: Some(b'"'), ..settings(&[&path]) };
    let mut line = Line::new(FileSettings { follow, ..settings.clone() });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut rows, mut written) = (Vec::new(), 0);
        for cut in cuts.iter().copied().chain([text.len()]) {
            let end = written.max(cut.min(text.len()));
            folder.append(name, &text.as_bytes()[written..end]);
            rest(&path);
            written = end;
            rows.extend(line.run().await.without_error().rows());
        }
        let mut expected = read_all(settings).await.without_error().rows();
        let Some(lane) = rows.last().map(|row| row.lane) else {
            return assert!(expected.is_empty());
        };
        rows.retain(|row| row.lane == lane);
        expected.iter_mut().for_each(|row| row.lane = lane);
        assert_eq!(rows, expected);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_csv_file_that_grows_anyhow_gives_what_it_would_give_at_once(
        rows in "[a\",\r\n]{0,40}", follow: bool,
        mut cuts in proptest::collection::vec(4usize..50, 0..6),
    ) {
        cuts.sort_unstable();
        let text = format!("x,y,z\n{rows}");
        cuts.iter_mut().for_each(|cut| *cut += 2);
        grows_to_what_it_would_be_read_at_once("a.csv", &text, &cuts, follow);
    }

    #[test]
    fn a_csv_file_that_grows_gives_what_it_would_give_at_once(
        rows in proptest::collection::vec(proptest::collection::vec("[aé\",\r\n]{0,3}", 1..4), 1..8),
        crlf: bool, last_end: bool, keys: bool,
        mut cuts in proptest::collection::vec(0usize..150, 0..6),
    ) {
        cuts.sort_unstable();
        let end = if crlf { "\r\n" } else { "\n" };
        let quoted = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
        let lines = rows.iter().map(|row| row.iter().map(quoted).collect::<Vec<_>>().join(","));
        let mut text = ["x,y,z".to_string()].into_iter().chain(lines).collect::<Vec<_>>().join(end);
        if last_end {
            text += end;
        }
        grows_as_it_would_be_read_at_once("a.csv", &text, &cuts, keys);
    }

    #[test]
    fn an_ndjson_file_that_grows_gives_what_it_would_give_at_once(
        lines in proptest::collection::vec("[{}a1\"é \r]{0,6}", 0..10),
        keys: bool,
        mut cuts in proptest::collection::vec(0usize..80, 0..6),
    ) {
        cuts.sort_unstable();
        grows_as_it_would_be_read_at_once("a.ndjson", &lines.join("\n"), &cuts, keys);
    }
}
