//! Where a row lies: in which partition, and in which table.

use schemas::TenantId;
use xxhash_rust::xxh3::xxh3_64;

use crate::store::Table;

/// Where a row lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) tenant: [u8; 16],
    pub(super) table: Table,
    pub(super) kind: i8,
    pub(super) bucket: i16,
    key: &'a str,
}

impl<'a> Place<'a> {
    pub(super) fn of(tenant: TenantId, table: Table, key: &'a str) -> Self {
        let bucket = xxh3_64(key.as_bytes()) % u64::from(buckets(table).unsigned_abs());
        let bucket = i16::try_from(bucket).unwrap_or(0);
        Self { tenant: tenant.to_bytes(), table, kind: kind(table), bucket, key }
    }

    pub(super) fn values(&self) -> (&[u8], i8, i16, &str) {
        (&self.tenant, self.kind, self.bucket, self.key)
    }
}

/// The number of a table, which stays below 128.
pub(super) fn kind(table: Table) -> i8 {
    i8::try_from(table as u8).unwrap_or(i8::MAX)
}

/// How many partitions the rows of a tenant and a kind have. Part of the schema: it never changes for a kind.
pub(super) const fn buckets(table: Table) -> i16 {
    match table {
        Table::StreamStates
        | Table::Quarantine
        | Table::Lanes
        | Table::Cases
        | Table::Timers
        | Table::Checkpoints
        | Table::Answers
        | Table::Sessions
        | Table::Syncs
        | Table::Journal
        | Table::Settled
        | Table::Shapes
        | Table::Notices => 16,
        Table::Tenants
        | Table::Streams
        | Table::Entities
        | Table::Views
        | Table::TableNames
        | Table::Users
        | Table::Addresses
        | Table::ApiKeys
        | Table::Invitations
        | Table::Connections
        | Table::PayloadKeys
        | Table::Deletions
        | Table::Usage
        | Table::Policies
        | Table::Mappings
        | Table::Webhooks
        | Table::ModelUsage
        | Table::Leases
        | Table::Places => 1,
    }
}

/// Whether the rows of a kind come and go in great numbers. What is removed is read over until `gc_grace_seconds` are over, and
/// Cassandra refuses to read over too much; so they lie in a table where that is soon. A removed row that comes back, because a
/// replica was away for longer than that, does no harm: these are told or listed again, and a place is as true as it was. Part of
/// the schema.
pub(super) const fn is_queue(table: Table) -> bool {
    matches!(table, Table::Quarantine | Table::Timers | Table::Notices | Table::Places)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_of_row_has_a_number_of_its_own_and_its_keys_fall_into_its_buckets() {
        let kinds: BTreeSet<i8> = Table::ALL.into_iter().map(kind).collect();
        assert!(kinds.len() == Table::ALL.len() && kinds.iter().all(|kind| *kind > 0));
        for table in Table::ALL {
            let bucket = |n: u8| Place::of(TenantId::SYSTEM, table, &n.to_string()).bucket;
            let used: BTreeSet<i16> = (0..=255).map(bucket).collect();
            assert_eq!(used, (0..buckets(table)).collect::<BTreeSet<i16>>(), "{table:?}");
        }
    }
}
