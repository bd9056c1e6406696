//! Places on the log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A place on a topic: (epoch, partition, offset). Offsets count items (records, commands, events) from 0.
///
/// The epoch is raised by a migration, a restore or a recreated topic; a reader that meets one it does not expect stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Generation of the topic.
    pub epoch: u32,
    /// Partition of the topic.
    pub partition: u32,
    /// Items before this one in the partition.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.epoch, self.partition, self.offset)
    }
}

/// A text that is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a position: write EPOCH:PARTITION:OFFSET, for example 1:0:42")]
pub struct InvalidPosition(pub String);

impl FromStr for Position {
    type Err = InvalidPosition;
    fn from_str(s: &str) -> Result<Self, InvalidPosition> {
        let mut parts = s.split(':');
        let mut next = || parts.next().and_then(|p| p.parse::<u64>().ok());
        let read = (next(), next(), next());
        match (read, parts.next()) {
            ((Some(epoch), Some(partition), Some(offset)), None) => match (epoch.try_into(), partition.try_into()) {
                (Ok(epoch), Ok(partition)) => Ok(Self { epoch, partition, offset }),
                _ => Err(InvalidPosition(s.to_owned())),
            },
            _ => Err(InvalidPosition(s.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_from_its_text() {
        let position = Position { epoch: 1, partition: 3, offset: u64::MAX };
        assert_eq!(position.to_string().parse(), Ok(position));
        assert!("1:2".parse::<Position>().is_err());
        assert!("1:2:3:4".parse::<Position>().is_err());
        assert!("4294967296:0:0".parse::<Position>().is_err());
    }
}
