//! What must not work, and must say why.

use std::io::Write;

use super::folder::{Folder, fates, opportunity};

fn ingest(file: &str) -> Vec<&str> {
    vec!["ingest", "--tenant", "acme", "--connection", "crm", "--system", "salesforce", "--stream", "opportunity", file]
}

#[test]
fn records_that_cannot_be_rows_are_quarantined_with_their_bytes_and_the_rest_goes_on() {
    let folder = Folder::new();
    let deep = format!("{{\"Id\":\"d\",\"x\":{}1{}}}\n", "[".repeat(10_000), "]".repeat(10_000));
    let long_name = format!("{{\"Id\":\"n\",\"{}\":1}}\n", "f".repeat(5_000));
    let wide = format!("{{\"Id\":\"w\",{}\"z\":1}}\n", (0..20_000).map(|n| format!("\"k{n}\":1,")).collect::<String>());
    let bad = [
        "{\"Id\":\"1\",\n".to_owned(),
        "nonsense\n".to_owned(),
        "{\"Id\":\"a\",\"Amount\":NaN}\n".to_owned(),
        opportunity("x", "\"lots\"", 1),
        opportunity("y", "1e400", 1),
        deep,
        long_name,
        wide,
        "{\"Name\":\"no id\",\"LastModifiedDate\":\"2026-01-01\"}\n".to_owned(),
        opportunity("", "1", 1),
        opportunity("t", "1", 1).replace("2026-01-01T", "soon-"),
        "{\"Id\":\"1\",\"Id\":\"2\"}\n".to_owned(),
    ];
    let mut content = bad.concat().into_bytes();
    content.extend_from_slice(b"{\"Id\":\"\xff\"}\n{\"Id\":\"nul\0\"}\n");
    content.extend_from_slice(opportunity("good", "9223372036854775808", 1).as_bytes());
    let file = folder.write("bad.ndjson", content);
    assert_eq!(fates(&folder.opportunities("acme", &file, &[])), [15, 1, 0, 14, 0]);
    assert_eq!(
        folder.query("acme", "select amount from opportunities").lines().last(),
        Some("9223372036854775808.0000")
    );
    let notes = folder.json_lines(&["quarantine", "list", "--tenant", "acme"]);
    let reasons: Vec<_> = notes.iter().map(|n| n["reason"].as_str().unwrap()).collect();
    let expected = [
        "malformed_json",
        "malformed_json",
        "malformed_json",
        "cast_failed",
        "cast_failed",
        "too_deep",
        "field_name_too_long",
        "too_many_fields",
        "key_missing",
        "key_missing",
        "version_unreadable",
        "duplicate_field",
        "invalid_encoding",
        "malformed_json",
    ];
    assert_eq!(reasons, expected);
    let position = notes[1]["position"].as_str().unwrap();
    let shown = folder.json(&["quarantine", "show", "--tenant", "acme", position]);
    assert_eq!(shown["payload"], "nonsense");
    let broken = notes[12]["position"].as_str().unwrap();
    let shown = folder.json(&["quarantine", "show", "--tenant", "acme", broken]);
    assert_eq!((&shown["payload"], &shown["payload_base64"]), (&serde_json::Value::Null, &"eyJJZCI6Iv8ifQ==".into()));
    let raw = folder.run(&["quarantine", "show", "--raw", "--tenant", "acme", broken]);
    assert_eq!(raw.stdout, b"{\"Id\":\"\xff\"}");
    let page = |after: &[&str]| {
        folder.json_lines(&[&["quarantine", "list", "--tenant", "acme", "--limit", "10"], after].concat())
    };
    let first = page(&[]);
    assert_eq!((first.len(), &first[10]["more"]), (11, &true.into()));
    let second = page(&["--after", first[10]["after"].as_str().unwrap()]);
    assert_eq!((second.len(), &second[0]["position"]), (4, &notes[10]["position"]));
    assert_eq!(fates(&folder.opportunities("acme", &file, &[])), [0, 0, 0, 0, 0], "nothing is taken twice");
}

#[test]
fn a_line_of_a_gigabyte_is_set_aside_without_a_gigabyte_of_memory() {
    let folder = Folder::new();
    let path = folder.path("huge.ndjson");
    let mut file = std::fs::File::create(&path).unwrap();
    let block = vec![b'x'; 1 << 20];
    // A quarter of it, so that the suite stays quick: every byte beyond 16 MiB is treated alike.
    (0..256).for_each(|_| file.write_all(&block).unwrap());
    file.write_all(b"\n").unwrap();
    file.write_all(opportunity("1", "1", 1).as_bytes()).unwrap();
    drop(file);
    assert_eq!(fates(&folder.opportunities("acme", &path, &[])), [2, 1, 0, 1, 0]);
    let notes = folder.json_lines(&["quarantine", "list", "--tenant", "acme"]);
    assert_eq!(notes[0]["reason"], "record_too_large");
}

#[test]
fn what_is_no_readable_file_is_a_clear_error_and_the_other_files_are_read() {
    let folder = Folder::new();
    let good = folder.write("good.ndjson", opportunity("1", "1", 1));
    assert!(folder.err(&ingest("missing.ndjson")).contains("missing.ndjson"));
    std::fs::create_dir_all(folder.path("empty.ndjson")).unwrap();
    folder.err(&ingest(folder.path("empty.ndjson").to_str().unwrap()));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    (0..5_000).for_each(|n| gzip.write_all(opportunity(&n.to_string(), "1", 1).as_bytes()).unwrap());
    let whole = gzip.finish().unwrap();
    let cut = folder.write("cut.ndjson.gz", &whole[..whole.len() / 2]);
    let error = folder.err(&[&ingest(cut.to_str().unwrap())[..], &[good.to_str().unwrap()]].concat());
    assert!(error.contains("cut.ndjson.gz"), "{error}");
    let rows: u64 = folder.query("acme", "select count(*) from opportunities").lines().last().unwrap().parse().unwrap();
    assert!(rows > 1000, "what stands before the damage is kept: {rows}");
    let columns = (0..1_000_000).map(|n| format!("c{n}")).collect::<Vec<_>>().join(",");
    let wide = folder.write("wide.csv", format!("{columns}\n1\n"));
    assert!(folder.err(&ingest(wide.to_str().unwrap())).contains("columns"));
}

#[test]
fn names_and_settings_that_cannot_be_are_refused() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1", 1));
    let name = file.to_str().unwrap();
    let with = |tenant: &'static str, system: &'static str, stream: &'static str| {
        ["ingest", "--tenant", tenant, "--connection", "crm", "--system", system, "--stream", stream]
    };
    assert!(folder.err(&[&with("../x", "salesforce", "opportunity")[..], &[name]].concat()).contains("tenant name"));
    assert!(folder.err(&[&with("acme", "nowhere", "opportunity")[..], &[name]].concat()).contains("nowhere"));
    assert!(folder.err(&[&with("acme", "salesforce", "invoices")[..], &[name]].concat()).contains("invoices"));
    assert!(folder.err(&["query", "--tenant", "nobody", "select 1"]).contains("nobody"));
    let mapping = "system: a\nstreams:\n  s:\n    entity: unheard_of\n    fields: {a: b}\n";
    let mapping = folder.write("m.yaml", mapping);
    let args = [
        "ingest",
        "--tenant",
        "acme",
        "--connection",
        "c",
        "--stream",
        "s",
        "--mapping",
        mapping.to_str().unwrap(),
        name,
    ];
    assert!(folder.err(&args).contains("unheard_of"));
    assert!(
        !folder.data().join("engine").exists() || folder.err(&["log", "stat", "--tenant", "acme"]).contains("acme")
    );
    folder.opportunities("acme", &file, &[]);
    for sql in [
        "drop table opportunities",
        "select * from '/etc/passwd'",
        "copy opportunities to '/tmp/x.csv'",
        "select 1; select 2",
    ] {
        folder.err(&["query", "--tenant", "acme", sql]);
    }
}

#[test]
fn a_missing_key_column_is_told_for_every_row() {
    let folder = Folder::new();
    let file = folder.write("a.csv", "Name,LastModifiedDate\nx,2026-01-01\ny,2026-01-02\n");
    assert_eq!(fates(&folder.opportunities("acme", &file, &[])), [2, 0, 0, 2, 0]);
    let notes = folder.json_lines(&["quarantine", "list", "--tenant", "acme", "--stream", "crm/opportunity"]);
    assert!(notes.iter().all(|n| n["reason"] == "key_missing" && n["field"] == "Id"));
}

#[test]
fn a_data_folder_of_a_newer_format_is_refused() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1", 1));
    folder.opportunities("acme", &file, &[]);
    let format = folder.data().join("format");
    let text = std::fs::read_to_string(&format).unwrap();
    std::fs::write(&format, text.replacen('1', "99", 1)).unwrap();
    let error = folder.err(&["doctor"]);
    assert!(error.contains("newer") || error.contains("restore"), "{error}");
}

#[test]
fn only_an_empty_folder_becomes_a_data_folder_and_only_by_what_writes() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1", 1));
    folder.write("data/letters.txt", "dear all");
    for args in [&["query", "--tenant", "acme", "select 1"][..], &["doctor"], &["views", "list"], &["log", "stat"]] {
        assert!(folder.err(args).contains("no data folder"), "{args:?}");
    }
    assert!(folder.err(&ingest(file.to_str().unwrap())).contains("letters.txt"));
    assert!(folder.err(&["serve", "--listen", "127.0.0.1:0"]).contains("letters.txt"));
    assert_eq!(std::fs::read_dir(folder.data()).unwrap().count(), 1, "nothing was made");
    std::fs::remove_file(folder.path("data/letters.txt")).unwrap();
    folder.opportunities("acme", &file, &[]);
}

#[test]
fn a_mistyped_ingest_leaves_no_tenant_behind() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1", 1));
    folder.opportunities("acme", &file, &[]);
    let typed = |system, stream, file| {
        ["ingest", "--tenant", "acne", "--connection", "crm", "--system", system, "--stream", stream, file]
    };
    let name = file.to_str().unwrap();
    for args in [
        typed("nowhere", "opportunity", name),
        typed("salesforce", "oportunity", name),
        typed("salesforce", "opportunity", "none.ndjson"),
    ] {
        folder.err(&args);
    }
    assert!(folder.err(&["log", "stat", "--tenant", "acne"]).contains("no tenant acne"));
}

#[test]
fn a_path_that_is_no_text_is_refused_by_name() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    let name = std::ffi::OsStr::from_bytes(b"x\xff.ndjson");
    let output = folder.command(&ingest("--json")).arg(name).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("UTF-8"));
}

#[test]
fn a_configuration_that_cannot_be_read_is_a_finding_beside_the_others_and_fails_what_depends_on_it() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1", 1));
    folder.opportunities("acme", &file, &[]);
    for wrong in ["views: {location\n", "views: {bucket: lake}\n", "watch: {nothing: [\n"] {
        folder.write("data/autonomos.yaml", wrong);
        let doctor = folder.run(&["--json", "doctor"]);
        assert_eq!(doctor.status.code(), Some(1), "{wrong}");
        let told = String::from_utf8_lossy(&doctor.stdout);
        let failed: Vec<_> = told.lines().filter(|row| row.contains("\"failed\"")).collect();
        assert!(failed.len() == 1 && failed[0].contains("mend autonomos.yaml"), "{wrong}: {told}");
        assert!(told.contains("view opportunities of acme"), "{wrong}: {told}");
        assert!(folder.err(&["views", "flush"]).contains("autonomos.yaml"), "{wrong}");
    }
}
