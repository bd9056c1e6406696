//! Agreement: whether several independent signals say the same. Only then may a match be called as good as certain;
//! whatever a model has learned, it has seen few of the ways in which one signal alone misleads.

use crate::gap::Gap;
use crate::model::Task;
use crate::rivals::{RIVAL_SIGNALS, rival};
use crate::signals::{Signals, at};

/// No word speaks against it; most of both names are the same words, not only synonyms; types and formats fit; and no
/// rival comes near, on either side.
pub fn agrees(task: Task, pair: &Signals, rivals: &[f32; RIVAL_SIGNALS.len()]) -> bool {
    // A field that moved keeps its type; systems of different makers write one thing in different types.
    let type_min = if task == Task::Drift { 0.9 } else { 0.5 };
    let names = pair[at::AGAINST] == 0.0
        && pair[at::SIDE_SOURCE] == 0.0
        && pair[at::SIDE_TARGET] == 0.0
        && pair[at::LEFT_SOURCE] <= 0.7
        && pair[at::WORDS_F] >= 0.6
        && pair[at::WORDS_EQUAL] >= 0.5;
    let values = pair[at::COMPATIBLE_TYPE] >= type_min && pair[at::FORMATS] >= 0.3;
    let alone = rivals[rival::ASSIGNED] > 0.0
        && rivals[rival::LOG_ODDS] > 0.0
        && rivals[rival::LEAD_IN_ROW] >= 0.5
        && rivals[rival::LEAD_IN_COLUMN] >= 0.5;
    names && values && alone
}

/// What agrees is applied unseen at drift only where the names leave nothing open, or what they leave is carried by the
/// values. A word that means something more never is: fields of opposite meaning often look alike.
pub fn waits(task: Task, pair: &Signals, gap: Gap) -> bool {
    task == Task::Drift
        && match gap {
            Gap::None => false,
            Gap::Form => !carried(pair),
            Gap::Meaning => true,
        }
}

/// The values look as they would had only the name changed: one format, like sizes, as many blanks; and what repeats itself
/// repeats the same.
fn carried(pair: &Signals) -> bool {
    let is_enumeration = pair[at::SOURCE_DISTINCT] > 0.0 && pair[at::SOURCE_DISTINCT] <= 0.5;
    pair[at::FORMATS] >= 0.9
        && pair[at::LENGTHS] >= 0.6
        && pair[at::SIGNS] >= 0.75
        && pair[at::MIDDLES] >= 0.4
        && pair[at::NULLS] >= 0.8
        && (!is_enumeration || pair[at::EQUAL_VALUES] >= 0.3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn perfect() -> (Signals, [f32; RIVAL_SIGNALS.len()]) {
        let (mut pair, mut rivals) = ([1.0; crate::signals::SIGNALS.len()], [3.0; RIVAL_SIGNALS.len()]);
        for against in [at::AGAINST, at::SIDE_SOURCE, at::SIDE_TARGET, at::LEFT_SOURCE] {
            pair[against] = 0.0;
        }
        rivals[rival::ASSIGNED] = 1.0;
        (pair, rivals)
    }

    #[test]
    fn one_dissenting_signal_is_enough_to_doubt() {
        let (pair, rivals) = perfect();
        assert!(agrees(Task::Drift, &pair, &rivals));
        for (signal, value) in [(at::AGAINST, 1.0), (at::SIDE_SOURCE, 1.0), (at::WORDS_EQUAL, 0.2), (at::FORMATS, 0.1)]
        {
            let mut doubtful = pair;
            doubtful[signal] = value;
            assert!(!agrees(Task::Drift, &doubtful, &rivals), "{}", crate::signals::SIGNALS[signal].0);
        }
        let mut close = rivals;
        close[rival::LEAD_IN_COLUMN] = 0.1;
        assert!(!agrees(Task::Drift, &pair, &close));
    }

    #[test]
    fn what_names_leave_open_is_carried_by_values_or_by_nothing() {
        let (pair, _) = perfect();
        assert!(!waits(Task::Drift, &pair, Gap::Form) && waits(Task::Drift, &pair, Gap::Meaning));
        for signal in [at::FORMATS, at::MIDDLES, at::NULLS] {
            let mut doubtful = pair;
            doubtful[signal] = 0.35;
            assert!(waits(Task::Drift, &doubtful, Gap::Form), "{}", crate::signals::SIGNALS[signal].0);
            assert!(!waits(Task::Drift, &doubtful, Gap::None), "the name is the same");
            assert!(!waits(Task::Onboard, &doubtful, Gap::Meaning), "a person reads what is suggested");
        }
        let mut enumeration = pair;
        (enumeration[at::SOURCE_DISTINCT], enumeration[at::EQUAL_VALUES]) = (0.2, 0.0);
        assert!(waits(Task::Drift, &enumeration, Gap::Form), "other words altogether");
    }
}
