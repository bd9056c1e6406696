//! What happens to records between the two drops.

use fastrand::Rng;

use super::world::{Customer, DAY_SECONDS, Deal, Person, SELLERS, STAGE_PERCENT, TODAY_SECONDS, WON};

/// A record as its system has it at some time.
#[derive(Debug, Clone)]
pub struct Dated<T> {
    /// The record.
    pub value: T,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// When it was last changed, in seconds since 1970.
    pub updated: i64,
    /// Whether it is in the bin.
    pub deleted: bool,
}

impl<T> Dated<T> {
    /// A record that was made and changed some time before the first drop.
    pub fn before_today(rng: &mut Rng, value: T) -> Self {
        let created = TODAY_SECONDS - rng.i64(30 * DAY_SECONDS..700 * DAY_SECONDS);
        let updated = rng.i64(created..TODAY_SECONDS - DAY_SECONDS);
        Self { value, created, updated, deleted: false }
    }
}

/// What people do to a record.
pub trait Change: Clone {
    /// One more step of its life.
    fn advance(&mut self, rng: &mut Rng);
}

impl Change for Customer {
    fn advance(&mut self, rng: &mut Rng) {
        self.employees += rng.u32(1..40);
        self.seller = rng.usize(..SELLERS.len());
        self.active = true;
    }
}

impl Change for Person {
    fn advance(&mut self, rng: &mut Rng) {
        self.title = ["Director", "Vice President", "Team Lead"][rng.usize(..3)];
    }
}

impl Change for Deal {
    fn advance(&mut self, rng: &mut Rng) {
        if self.stage < WON {
            self.stage += 1;
        }
        if self.stage == WON {
            self.close_day = (TODAY_SECONDS / DAY_SECONDS) as i32;
        }
        self.stage = self.stage.min(STAGE_PERCENT.len() - 1);
        self.amount_cents = self.amount_cents.map(|cents| cents / 100 * rng.u64(90..115));
    }
}

/// How many records of a second drop are what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Records of keys that were not there before.
    pub new: u64,
    /// Newer records of known keys.
    pub updated: u64,
    /// Deletes.
    pub deleted: u64,
    /// Records older than what the first drop had of their key.
    pub late: u64,
    /// Records of the first drop once more.
    pub repeated: u64,
}

/// The records of the second drop: `fresh` ones and changes of `known` ones, in a mixed order.
pub fn second_drop<T: Change>(
    rng: &mut Rng,
    known: &[Dated<T>],
    fresh: &[Dated<T>],
    deletes: bool,
) -> (Vec<Dated<T>>, Changes) {
    let mut records = fresh.to_vec();
    let mut changes = Changes { new: fresh.len() as u64, ..Changes::default() };
    for record in known {
        let mut record = record.clone();
        let later = TODAY_SECONDS + rng.i64(60..6 * 3600);
        match rng.u32(..100) {
            0..10 => {
                record.value.advance(rng);
                record.updated = later;
                changes.updated += 1;
            }
            10..12 if deletes => {
                record.deleted = true;
                record.updated = later;
                changes.deleted += 1;
            }
            12..14 => {
                record.value.advance(rng);
                record.updated = record.updated.min(record.created + DAY_SECONDS) - rng.i64(1..DAY_SECONDS);
                changes.late += 1;
            }
            14..16 => changes.repeated += 1,
            _ => continue,
        }
        records.push(record);
    }
    rng.shuffle(&mut records);
    (records, changes)
}
