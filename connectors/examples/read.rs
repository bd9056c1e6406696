//! measure
use connectors::*;
use pipeline::Source;
#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let keys = args.next().unwrap() == "keys";
    let files: Vec<String> = args.collect();
    let t = std::time::Instant::now();
    let mut s = FileSource::open(FileSettings { files, content_keys: keys, ..Default::default() }, vec![]).unwrap();
    let (mut n, mut b, mut body, mut defects) = (0u64, 0u64, 0u64, 0u64);
    loop {
        match s.next(4 << 20).await {
            Ok(Some(batch)) => {
                n += u64::from(batch.records.count);
                b += batch.source_bytes;
                body += batch.records.body.len() as u64;
                if std::env::var("SHOW").is_ok() {
                    let mut r = schemas::record::RecordBatchReader::new(&batch.records.body).unwrap();
                    while let Some(rec) = r.next_record().unwrap() {
                        if rec.defect.is_some() {
                            defects += 1;
                        }
                        println!("{} {:?} {}", rec.ordinal, rec.defect, String::from_utf8_lossy(rec.payload));
                    }
                }
            }
            Ok(None) => break,
            Err(e) => println!("ERROR {e}"),
        }
    }
    let d = t.elapsed().as_secs_f64();
    println!(
        "{n} records, {defects} defects, {b} of {} source bytes, {body} body bytes, {d:.3} s, {:.0} MB/s, {:.0} records/s",
        s.total_bytes(),
        b as f64 / 1e6 / d,
        n as f64 / d
    );
}
