//! Fields that some records begin to lack for good, so few that each time it is soon back at its usual rate.

use std::collections::BTreeMap;

use schemas::drift::{Change, Severity};

use super::*;

/// True so many times in a thousand, by chance, and the same each time.
fn chance(seed: u64) -> impl FnMut(u64) -> bool {
    let mut seed = seed;
    move |per_thousand| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % 1_000 < per_thousand
    }
}

fn without(id: usize) -> String {
    format!(r#"{{"Id":"{id}","Note":"n{id}","Buyer":{{"Name":"b"}}}}"#)
}

/// Of so many records those behind the first lack it, so many in a thousand.
fn waning(first: usize, count: usize, per_thousand: u64) -> Vec<String> {
    let mut lacks = chance(per_thousand + 11);
    (0..count).map(|id| if id >= first && lacks(per_thousand) { without(id) } else { with(id, "Total") }).collect()
}

/// Feeds records, and sends what is released again as the repairer does; the cases that were told.
fn feed_all(stream: &mut Stream, payloads: &[String]) -> Vec<Fact> {
    let mut kept: BTreeMap<u64, (Vec<u64>, Vec<String>)> = BTreeMap::new();
    let mut told = Vec::new();
    for part in payloads.chunks(500) {
        let at = stream.state.next.offset;
        let outcome = feed(stream, part);
        for decision in &outcome.decisions {
            match decision.fact {
                Fact::RecordHeld { case, .. } => {
                    let (offsets, held) = kept.entry(case).or_default();
                    offsets.push(decision.input_offset);
                    held.push(part[(decision.input_offset - at) as usize].clone());
                }
                Fact::DriftDetected { .. } => told.push(decision.fact.clone()),
                _ => {}
            }
        }
        for (case, _) in released(&outcome) {
            let (offsets, held) = kept.remove(&case).unwrap_or_default();
            if !offsets.is_empty() {
                redrive(stream, case, &offsets, &held);
            }
        }
    }
    told
}

#[test]
fn what_four_or_one_in_a_hundred_begin_to_lack_for_good_is_told_once_and_nothing_waits_for_it() {
    for (per_thousand, records) in [(40, 5_000), (10, 20_000)] {
        let mut stream = stream();
        let told = feed_all(&mut stream, &waning(5_000, 5_000 + records, per_thousand));
        let [Fact::DriftDetected { lost, severity, lacking: 0, .. }] = &told[..] else { panic!("{told:?}") };
        assert_eq!((lost.len(), &*lost[0].path, *severity), (1, "Total", Some(Severity::Warning)));
        let Some(Change::Nulls { before: 0, now }) = lost[0].change else { panic!("{lost:?}") };
        assert!(u64::from(now) * 2 >= per_thousand && u64::from(now) <= per_thousand * 2, "{now}");
        assert!(stream.state.counters.held <= 5, "what was held is released: {:?}", stream.state.counters);
        reconciles(&stream);
    }
}

#[test]
fn a_share_of_absences_that_was_always_there_makes_no_case_whatever_it_is() {
    for per_thousand in [1, 10, 20, 40, 100, 300] {
        let mut stream = stream();
        let told = feed_all(&mut stream, &waning(0, 25_000, per_thousand));
        assert!(told.is_empty(), "{per_thousand} in a thousand: {told:?}");
    }
}

#[test]
fn a_few_absences_now_and_then_are_no_loss() {
    let mut stream = stream();
    assert!(feed_all(&mut stream, &waning(5_000, 40_000, 1)).is_empty());
}

#[test]
fn what_a_person_accepted_is_usual_and_what_is_more_than_that_is_told_again() {
    let mut stream = stream();
    let told = feed_all(&mut stream, &waning(5_000, 10_000, 40));
    let [Fact::DriftDetected { case, .. }] = &told[..] else { panic!("{told:?}") };
    let case = *case;
    let (version, verdict, by) = (None, Verdict::AcceptAsRemoved { only: vec![] }, "ada".to_owned());
    let accept = Decide { case, mapping_version: 1, version, once_read: false, verdict, by, why: "known".into() };
    let outcome = stream.control(&Input::Command { id: "c".into(), command: Command::Decide(accept) });
    assert_eq!(names(&outcome), ["RepairApplied", "RecordsReleased", "CommandApplied"]);
    assert!(feed_all(&mut stream, &waning(0, 10_000, 40)).is_empty());
    assert_eq!(feed_all(&mut stream, &waning(0, 3_000, 400)).len(), 1);
}

#[test]
fn it_is_told_at_the_same_record_however_the_records_are_cut() {
    let runs = vec![(BatchKind::Records, waning(3_000, 4_600, 40))];
    let whole = super::batches::told(&runs, usize::MAX);
    assert!(whole.0.iter().any(|decision| matches!(decision.fact, Fact::DriftDetected { .. })));
    assert_eq!(super::batches::told(&runs, 97), whole);
}
