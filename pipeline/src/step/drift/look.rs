//! Whether what was missed is back, or gone.

use super::since::Since;
use super::sparse;
use super::usual::{ENOUGH, Usual};
use super::watch::Watch;

/// Within so many records since something was first missed it is told whether it is back.
const WINDOW: u64 = 1_000;
/// Values of what only some records have, that must have come before a new type that most of them have is judged for want of
/// more.
const TELLING: u64 = 5;

/// Whether the records since then must say something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Not yet.
    No,
    /// Their time is over; where too few came to tell, it may go on.
    Yes,
    /// It went on often enough.
    Last,
}

/// What the records since then say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It is back at its usual rate.
    Back,
    /// It is gone, or rarer than it was.
    Gone,
    /// Too early to say.
    Unclear,
}

impl Watch {
    /// What the records since it was first missed say; at the end of the time they must say something. Of `held` records
    /// `with_new` had a path that was new.
    pub(super) fn look(&self, held: u64, with_new: u64, due: Due) -> Look {
        let Since { mut lacking, mut having, strange, .. } = self.since;
        if self.is_widened() {
            // What is of another type is there.
            (lacking, having) = (lacking - strange, having + strange);
        }
        let (records, with_new) = (lacking + having, with_new * 2 >= held);
        if self.is_due && lacking > 0 {
            return Look::Gone;
        }
        let due = if records + self.since.passed >= WINDOW { Due::Last } else { due };
        if self.is_sparse {
            let since = Since { lacking, having, ..self.since };
            return sparse::look(&self.usual, &since, held, due);
        }
        // Of its type only what had it tells.
        let before = self.usual.present.saturating_sub(records);
        let usual = if self.is_typed { Usual { records: before, present: before, run: 0 } } else { self.usual };
        let is_rarer = lacking > usual.tolerated(records, with_new);
        let told = |is_rarer: bool| if is_rarer { Look::Gone } else { Look::Back };
        let is_few = records < ENOUGH && having > lacking;
        match due {
            // Of too few one that lacks it is one too many, unless most say the same: they are waited on …
            Due::Yes if (is_few && is_rarer) || (self.is_typed && records < TELLING) => Look::Unclear,
            // … and where no others come, one says nothing.
            Due::Last if is_few => told(lacking > usual.tolerated(ENOUGH, with_new)),
            Due::Yes | Due::Last => told(is_rarer),
            Due::No if !is_rarer && having >= ENOUGH => Look::Back,
            Due::No if is_rarer && lacking >= ENOUGH && lacking * 2 > records => Look::Gone,
            Due::No => Look::Unclear,
        }
    }

    /// The same, of all that a case is about: what is missed beside its type has an end of its own.
    pub(super) fn look_at_case(&self, held: u64, with_new: u64, due: Due) -> Look {
        match self.look(held, with_new, due) {
            Look::Back if self.is_widened() && due != Due::Last => Look::Unclear,
            look => look,
        }
    }

    /// What the records say since it was missed beside its type. Back, it is in the case for its type alone again.
    pub(super) fn look_widened(&mut self) -> Look {
        let look = self.look(self.beside.max(1), 0, Due::No);
        if look == Look::Unclear {
            return look;
        }
        let mut of_type = self.of_type.take().unwrap_or_default();
        if look == Look::Gone {
            self.since.types |= of_type.types;
            return look;
        }
        let case = self.case;
        of_type.types |= std::mem::take(&mut self.since.types);
        self.settle();
        (self.case, self.since, self.is_typed) = (case, *of_type, true);
        look
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual(present: u64, absent: u64, run: u64) -> Usual {
        Usual { records: present + absent, present, run }
    }

    fn look(usual: Usual, lacking: u64, having: u64, is_due: bool) -> Look {
        let since = Since { lacking, having, ..Since::default() };
        let due = if is_due { Due::Yes } else { Due::No };
        Watch { usual, since, case: Some(1), ..Watch::default() }.look(1, 0, due)
    }

    #[test]
    fn a_field_that_is_gone_is_told_from_one_that_is_rare() {
        let always = usual(10_000, 0, 10_000);
        assert_eq!(look(always, 19, 0, false), Look::Unclear);
        assert_eq!(look(always, 20, 0, false), Look::Gone);
        assert_eq!(look(always, 1, 20, false), Look::Back);
        assert_eq!(look(always, 3, 20, false), Look::Unclear);
        assert_eq!(look(always, 500, 500, false), Look::Gone);
        assert_eq!(look(always, 1, 0, true), Look::Gone, "nothing says that it is back");
        let often = usual(9_500, 500, 20);
        assert_eq!(look(often, 2, 0, true), Look::Back, "one in twenty was always missing");
        assert_eq!(look(often, 60, 940, false), Look::Back);
        assert_eq!(look(often, 20, 0, false), Look::Gone);
        assert_eq!(look(always, 1, 1, true), Look::Gone, "half of them lack it");
        assert_eq!(look(always, 1, 10, true), Look::Unclear, "it is waited on");
        assert_eq!(look(usual(20, 0, 20), 40, 960, false), Look::Back, "twenty records know little of what is rare");
    }
}
