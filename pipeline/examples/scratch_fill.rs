//! scratch
use pipeline::*;
use schemas::*;
use std::io::BufRead;
fn noise(n: u64, len: usize) -> Vec<u8> {
    let mut x = n * 2 + 1;
    (0..len)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect()
}
#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (dir, size) = (args.next().unwrap(), args.next().unwrap().parse::<usize>().unwrap());
    let e = Embedded::open(dir.as_ref(), Partitions::default()).unwrap();
    let log = e.log();
    let mut next = log.end(Topic::Inputs, 0).await.unwrap();
    let check = async |upto: u64| {
        let mut from = 0;
        while from < upto {
            let b = log.read(Topic::Inputs, 0, from, 1 << 20).await.unwrap();
            for s in &b {
                if s.first < upto {
                    assert!(
                        s.body(Topic::Inputs, 0).unwrap()[..]
                            == noise(s.first, s.body(Topic::Inputs, 0).unwrap().len())
                    );
                }
            }
            from = b.last().unwrap().end();
        }
    };
    check(next).await;
    println!("opened at {next}");
    for line in std::io::stdin().lock().lines() {
        let limit: u64 = line.unwrap().parse().unwrap();
        let mut out = Ok(());
        for _ in 0..limit {
            let h = schemas::BatchHeader {
                kind: schemas::BatchKind::Records,
                tenant: TenantId::SYSTEM,
                subject: "a".into(),
                count: 1,
                logged_at: 0,
                key_id: 0,
            };
            match log
                .append(
                    Topic::Inputs,
                    0,
                    vec![Batch { header: h, body: noise(next, size).into() }],
                    Durability::Durable,
                )
                .await
            {
                Ok(o) => {
                    assert_eq!(o, [next]);
                    next += 1;
                    println!("ack {next}");
                }
                Err(e) => {
                    out = Err(e);
                    break;
                }
            }
        }
        println!(
            "acked {next}: {}",
            out.map_or_else(|e| format!("{e} retryable={}", e.is_retryable()), |()| "ok".into())
        );
        check(next).await;
        println!("all acked read");
    }
}
