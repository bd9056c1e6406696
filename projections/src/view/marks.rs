//! How far a view has come: its event position and, per input partition, the last event applied.

use std::collections::BTreeMap;

use schemas::{Position, Topic};

use super::error::ViewError;

/// All application ids of ours start with it.
pub const APP_PREFIX: &str = "autonomos/";

/// The last event of an input partition that a view has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Offset of the input.
    pub offset: u64,
    /// The event's place among those of the input.
    pub ordinal: u32,
}

/// A view's standing, as a table's transactions carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The next event to apply.
    pub position: Position,
    /// The generation of `inputs` that the rows came from.
    pub input_epoch: u32,
    /// The last event applied of each input partition.
    pub marks: BTreeMap<u32, Mark>,
    /// The version of the table of deleted keys that belongs to it.
    pub deleted: Option<u64>,
}

impl Standing {
    /// At the start of a partition of `events`.
    pub fn start(position: Position, input_epoch: u32) -> Self {
        Self { position, input_epoch, marks: BTreeMap::new(), deleted: None }
    }
    /// The standing as application ids and numbers.
    pub fn to_transactions(&self) -> BTreeMap<String, u64> {
        let Position { epoch, partition, offset } = self.position;
        let mut out = BTreeMap::from([(format!("{APP_PREFIX}events/{epoch}/{partition}"), offset)]);
        for (partition, mark) in &self.marks {
            let place = format!("{}/{partition}", self.input_epoch);
            out.insert(format!("{APP_PREFIX}inputs/{place}"), mark.offset);
            out.insert(format!("{APP_PREFIX}ordinals/{place}"), u64::from(mark.ordinal));
        }
        let partitions = self.marks.last_key_value().map(|(last, _)| u64::from(*last) + 1);
        out.extend(partitions.map(|partitions| (self.partitions_id(), partitions)));
        out.extend(self.deleted.map(|version| (format!("{APP_PREFIX}deleted"), version)));
        out
    }
    /// Under which id stands how many partitions of inputs there may be marks of.
    pub fn partitions_id(&self) -> String {
        format!("{APP_PREFIX}partitions/{}", self.input_epoch)
    }
    /// All ids that a standing of these epochs may have with marks of the first `partitions` partitions.
    pub fn ids(&self, partitions: u64) -> impl Iterator<Item = String> + use<> {
        let Position { epoch, partition, .. } = self.position;
        let inputs = self.input_epoch;
        let marks = (0..partitions).flat_map(move |partition| {
            ["inputs", "ordinals"].map(|kind| format!("{APP_PREFIX}{kind}/{inputs}/{partition}"))
        });
        [format!("{APP_PREFIX}events/{epoch}/{partition}"), format!("{APP_PREFIX}deleted")].into_iter().chain(marks)
    }
    /// Reads what [`Standing::to_transactions`] wrote into a standing at the start; other epochs are refused.
    pub fn read(mut self, transactions: &BTreeMap<String, u64>) -> Result<Self, ViewError> {
        for (id, &number) in transactions {
            let mut parts = id.strip_prefix(APP_PREFIX).unwrap_or_default().split('/');
            let kind = parts.next().unwrap_or_default();
            let mut part = || parts.next().and_then(|p| p.parse::<u32>().ok());
            let (epoch, partition) = (part(), part());
            match (kind, epoch, partition) {
                ("deleted", ..) => self.deleted = Some(number),
                ("events", Some(epoch), Some(partition)) => {
                    self.expect(Topic::Events, epoch, self.position.epoch)?;
                    if partition == self.position.partition {
                        self.position.offset = number;
                    }
                }
                ("inputs", Some(epoch), Some(partition)) => {
                    self.expect(Topic::Inputs, epoch, self.input_epoch)?;
                    self.marks.entry(partition).or_insert(Mark { offset: 0, ordinal: 0 }).offset = number;
                }
                ("ordinals", Some(_), Some(partition)) => {
                    let mark = self.marks.entry(partition).or_insert(Mark { offset: 0, ordinal: 0 });
                    mark.ordinal = u32::try_from(number).unwrap_or(u32::MAX);
                }
                _ => {}
            }
        }
        Ok(self)
    }
    fn expect(&self, topic: Topic, table: u32, log: u32) -> Result<(), ViewError> {
        if table == log { Ok(()) } else { Err(ViewError::Epoch { topic, expected: table, found: log }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_reads_back_and_another_epoch_is_refused() {
        let start = Standing::start(Position { epoch: 2, partition: 3, offset: 0 }, 5);
        let mut standing = start.clone();
        standing.position.offset = 77;
        standing.marks.insert(4, Mark { offset: 9, ordinal: 2 });
        standing.deleted = Some(6);
        assert_eq!(start.clone().read(&standing.to_transactions()).unwrap(), standing);
        let all = standing.to_transactions();
        let known: Vec<_> = start.ids(all[&start.partitions_id()]).filter(|id| all.contains_key(id)).collect();
        assert_eq!(known.len() + 1, all.len(), "all but the count itself are looked for");
        let raised = Standing::start(Position { epoch: 3, partition: 3, offset: 0 }, 5);
        assert!(matches!(raised.read(&standing.to_transactions()), Err(ViewError::Epoch { .. })));
    }
}
