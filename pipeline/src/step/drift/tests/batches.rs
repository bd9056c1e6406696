//! Where batches end, and where a processor starts again, changes no event.

use proptest::prelude::*;
use schemas::{BatchKind, Input, Lane};

use super::{clean, feed, held, names, only_case, redrive, renamed, steady, stream, totals, with};
use crate::step::drift::watch::Watch;
use crate::step::tests::batch;
use crate::step::{InputBatch, Scratch, fold};

/// What a run of inputs gives, cut into batches of so many records, with a snapshot read back between any two.
pub(super) fn told(
    runs: &[(BatchKind, Vec<String>)],
    size: usize,
) -> (Vec<schemas::Decision>, Vec<Option<i128>>, String) {
    let mut stream = stream();
    let (mut decisions, mut values, mut ordinal) = (Vec::new(), Vec::new(), 0);
    for (kind, payloads) in runs {
        let pieces: Vec<&[String]> =
            if *kind == BatchKind::Records { payloads.chunks(size).collect() } else { vec![payloads] };
        for piece in pieces {
            let outcome = match kind {
                BatchKind::Records => {
                    let texts: Vec<&str> = piece.iter().map(String::as_str).collect();
                    let batch = batch(Lane(1), ordinal, &texts);
                    ordinal += piece.len() as u64;
                    stream.fold(*kind, batch.count, &batch.body)
                }
                _ => stream.fold(*kind, 1, piece[0].as_bytes()),
            };
            decisions.extend(outcome.decisions.clone());
            values.extend(totals(&outcome));
            let snapshot = stream.state.snapshot();
            stream.state = crate::step::StreamState::from_snapshot(&snapshot).unwrap();
        }
    }
    let snapshot = String::from_utf8(stream.state.snapshot()).unwrap();
    (decisions, values, snapshot)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn batches_and_restarts_change_no_event(
        shapes in proptest::collection::vec((0usize..4, 1usize..60), 1..8), size in 1usize..50,
    ) {
        let name = ["Total", "Amount", "Other", "Total"];
        let mut runs = vec![(BatchKind::Records, (0..40).map(|id| with(id, "Total")).collect::<Vec<_>>())];
        for (shape, count) in shapes {
            runs.push((BatchKind::Records, (0..count).map(|id| with(id, name[shape])).collect()));
            let time = Input::TimePassed { id: "hold-43".into() };
            runs.push((BatchKind::Control, vec![serde_json::to_string(&time).unwrap()]));
            let moves = vec![renamed("Total", "Amount", 950)];
            let suggestion = Input::Suggestion { id: format!("{shape}{count}"), case: 43, mapping_version: 1, moves, alternatives: vec![], tried: clean(), asked: None, version: None };
            runs.push((BatchKind::Control, vec![serde_json::to_string(&suggestion).unwrap()]));
        }
        let whole = told(&runs, usize::MAX);
        prop_assert_eq!(told(&runs, size), whole);
    }
}

#[test]
fn where_batches_end_makes_no_difference_once_a_false_alarm_is_over_about_a_thousand_records_in() {
    let text = |id: usize| with(id, "Total").replace(&format!("{id}.5"), &format!("\"{id}.5\""));
    let without = |id: usize| format!(r#"{{"Id":"{id}","Note":"n{id}","Buyer":{{"Name":"b"}}}}"#);
    let told = |before: usize, size: usize| {
        let mut stream = steady(before);
        let odd = feed(&mut stream, &[text(before)]);
        feed(&mut stream, &(0..19).map(|id| with(id, "Total")).collect::<Vec<_>>());
        let case = only_case(&stream);
        let past = stream.control(&Input::TimePassed { id: format!("hold-{case}") });
        assert_eq!(names(&past), ["RecordsReleased"]);
        redrive(&mut stream, case, &held(&odd), &[text(before)]);
        let payloads: Vec<String> = (0..4).map(without).collect();
        let decisions: Vec<schemas::Decision> =
            payloads.chunks(size).flat_map(|part| feed(&mut stream, part).decisions).collect();
        (decisions, String::from_utf8(stream.state.snapshot()).unwrap())
    };
    for before in 970..990 {
        assert_eq!(told(before, 1), told(before, 4), "{before} records before it");
    }
}

#[test]
fn a_re_driven_batch_that_names_no_case_stops_the_partition() {
    let mut stream = steady(1);
    let batch = batch(Lane(5), 0, &["{}"]);
    let (kind, first) = (BatchKind::Redriven, stream.state.next.offset);
    let input = InputBatch { kind, first, count: 1, logged_at: 0, body: &batch.body };
    assert!(fold(&mut stream.state, input, &mut Scratch::default()).is_err());
}

#[test]
fn a_case_that_nothing_waits_for_any_more_is_over_with_the_next_record_wherever_a_processor_starts() {
    for restarts in [false, true] {
        let mut stream = steady(40);
        let lacking = r#"{"Id":"40","Note":"n","Buyer":{"Name":"b"}}"#.to_owned();
        assert_eq!(held(&feed(&mut stream, &[lacking])).len(), 1);
        // So a decision of another case leaves it that binds a mapping without what it is about.
        stream.state.drift.watches.iter_mut().for_each(Watch::leave);
        stream.state.bind();
        if restarts {
            let snapshot = stream.state.snapshot();
            stream.state = crate::step::StreamState::from_snapshot(&snapshot).unwrap();
        }
        let outcome = feed(&mut stream, &[with(41, "Total"), with(42, "Total")]);
        assert_eq!(names(&outcome), ["RecordsReleased"], "restarted: {restarts}");
        assert_eq!(outcome.decisions[0].input_offset + 1, stream.state.next.offset - 1, "with the first of them");
    }
}
