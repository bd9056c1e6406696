//! Binary bodies.

use schemas::reason::Reason;
use schemas::record::{RecordBatchReader, RecordBatchWriter};
use schemas::{Batch, BatchHeader, BatchKind, Lane, Op, Record, Version};

use super::{assert_golden, golden_bytes, hex, tenant};

fn records() -> Vec<Record<'static>> {
    let plain = Record {
        ordinal: 11,
        op: Op::Upsert,
        key: None,
        version: Version::None,
        defect: None,
        payload: b"{\"Id\":\"006\"}",
    };
    vec![
        plain.clone(),
        Record { ordinal: 12, key: Some("007"), version: Version::Time(1_700_000_000_000_000), ..plain.clone() },
        Record { ordinal: 14, op: Op::Delete, key: Some("é"), version: Version::Integer(-5), ..plain.clone() },
        Record { ordinal: 200, version: Version::Text("b".into()), ..plain.clone() },
        Record { ordinal: 201, defect: Some(Reason::RowTooLong), payload: b"1,2,3", ..plain },
    ]
}

#[test]
fn records_lie_on_disk_as_they_always_did() {
    let mut writer = RecordBatchWriter::new(Lane(0x0102), 10, 0);
    records().iter().for_each(|record| writer.push(record));
    assert_golden("record_batch_v1.hex", &hex(&writer.finish(b"{\"row\":201}").body));
    let body = golden_bytes("record_batch_v1.hex");
    let mut reader = RecordBatchReader::new(&body).unwrap();
    assert_eq!((reader.lane, reader.cursor), (Lane(0x0102), &b"{\"row\":201}"[..]));
    for record in records() {
        assert_eq!(reader.next_record().unwrap(), Some(record));
    }
    assert_eq!(reader.next_record().unwrap(), None);
}

/// What the packer writes may change with its version; what it wrote must stay readable.
#[test]
fn a_packed_batch_reads_as_it_always_did() {
    let header = BatchHeader {
        kind: BatchKind::Rows,
        tenant: tenant(),
        subject: "opportunity".into(),
        count: 300,
        logged_at: 1_700_000_000_000_000,
        key_id: 0,
        trace: None,
    };
    let body: Vec<u8> = (0..300).flat_map(|i| format!("{{\"Id\":\"{:03}\"}}\n", i % 50).into_bytes()).collect();
    let batch = Batch { header, body: body.into() };
    let packed = batch.encode();
    assert!(packed.len() < batch.body.len() / 2, "it is packed");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/batch_lz4_v1.hex");
    if !path.exists() {
        assert_golden("batch_lz4_v1.hex", &hex(&packed));
    }
    assert_eq!(Batch::decode(&golden_bytes("batch_lz4_v1.hex").into()), Ok(batch));
}
