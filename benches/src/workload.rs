//! Records of Salesforce's Opportunity object as NDJSON, with a nested Owner, about 450 bytes each.
//!
//! Every tenant has a file of its own with the same ids, so that a record in the wrong view cannot hide. The same
//! parameters give the same bytes on every machine.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use fastrand::Rng;

/// 2025-01-01T00:00:00Z; the clock of the workload starts here and never reads the machine's.
const EPOCH_MILLIS: i64 = 1_735_689_600_000;
const DAY_MILLIS: i64 = 86_400_000;
/// Repeated lines are drawn from this many recent ones, so that memory stays small.
const RECENT_LINES: usize = 2048;
/// Part, in thousandths, of the updates that bear the version already there: the later arrival counts.
const TIED_PER_MILLE: u32 = 5;

const STAGES: [(&str, u32); 8] = [
    ("Prospecting", 10),
    ("Qualification", 10),
    ("Needs Analysis", 20),
    ("Value Proposition", 50),
    ("Proposal/Price Quote", 75),
    ("Negotiation/Review", 90),
    ("Closed Won", 100),
    ("Closed Lost", 0),
];
const TYPES: [&str; 3] = ["New Customer", "Existing Customer - Upgrade", "Existing Customer - Replacement"];
const LEAD_SOURCES: [&str; 5] = ["Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other"];
const FIRST_NAMES: [&str; 8] = ["Ada", "Björn", "Chidi", "Dolores", "Émile", "Fatima", "Grace", "Hiroshi"];
const LAST_NAMES: [&str; 8] = ["Okafor", "Lindqvist", "O'Brien", "Nakamura", "Müller", "Garcia", "Haddad", "Novák"];
const ACCOUNTS: [&str; 6] = ["Acme", "Globex", "Initech", "Umbrella", "Stark", "Wayne"];
const PRODUCTS: [&str; 6] = ["Platform", "Analytics", "Support", "Migration", "Licences", "Training"];

/// What the files hold. Percentages are of all records; what is left over makes new keys and updates known ones.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Workload {
    /// Records over all tenants.
    #[arg(long, default_value_t = Self::default().records)]
    pub records: u64,
    /// Distinct keys over all tenants.
    #[arg(long, default_value_t = Self::default().keys)]
    pub keys: u64,
    /// Tenants, each with a file.
    #[arg(long, default_value_t = Self::default().tenants, value_parser = clap::value_parser!(u32).range(1..))]
    pub tenants: u32,
    /// Percentage of records that delete their key.
    #[arg(long = "deletes", default_value_t = Self::default().deletes_percent)]
    pub deletes_percent: u32,
    /// Percentage of records that are older than what their key already has; some of their keys are deleted by then.
    #[arg(long = "late", default_value_t = Self::default().late_percent)]
    pub late_percent: u32,
    /// Percentage of lines that stand in the file once more, byte for byte.
    #[arg(long = "repeated", default_value_t = Self::default().repeated_percent)]
    pub repeated_percent: u32,
    /// Decides everything else.
    #[arg(long, default_value_t = Self::default().seed)]
    pub seed: u64,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            records: 1_000_000,
            keys: 100_000,
            tenants: 4,
            deletes_percent: 2,
            late_percent: 5,
            repeated_percent: 5,
            seed: 1,
        }
    }
}

/// What a file came to hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines.
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
    /// Distinct keys.
    pub keys: u64,
    /// Lines that delete.
    pub deletes: u64,
    /// Lines that are older than what their key had.
    pub late: u64,
    /// Late lines whose key was deleted: they must not bring it back.
    pub late_after_delete: u64,
    /// Lines that repeat an earlier one.
    pub repeated: u64,
    /// Lines of a version that their key had already.
    pub tied: u64,
}

/// What the generator remembers of a key.
#[derive(Debug, Clone, Copy)]
struct Key {
    version_millis: i64,
    deleted: bool,
}

enum Kind {
    New,
    Update,
    Delete,
    Late,
    Repeated,
}

impl Workload {
    /// The records of one tenant; the first tenants take what does not divide.
    pub fn tenant_records(&self, tenant: u32) -> u64 {
        share(self.records, self.tenants, tenant)
    }

    /// The keys of one tenant.
    pub fn tenant_keys(&self, tenant: u32) -> u64 {
        share(self.keys, self.tenants, tenant).min(self.tenant_records(tenant))
    }

    /// The lines of one tenant.
    pub fn lines(&self, tenant: u32) -> Lines<'_> {
        Lines::new(self, tenant)
    }

    /// Writes the lines of one tenant.
    pub fn write(&self, tenant: u32, out: &mut impl Write) -> io::Result<Counts> {
        let mut lines = self.lines(tenant);
        lines.try_for_each(|line| out.write_all(&line))?;
        Ok(lines.counts())
    }

    /// Writes a file for each tenant into `folder`, which is made if it is not there.
    pub fn write_files(&self, folder: &Path) -> io::Result<Vec<(PathBuf, Counts)>> {
        std::fs::create_dir_all(folder)?;
        let file = |tenant| {
            let path = folder.join(format!("tenant-{tenant}.ndjson"));
            let mut out = BufWriter::with_capacity(1 << 20, File::create(&path)?);
            let counts = self.write(tenant, &mut out)?;
            out.flush()?;
            Ok((path, counts))
        };
        (0..self.tenants).map(file).collect()
    }
}

fn share(all: u64, tenants: u32, tenant: u32) -> u64 {
    let tenants = u64::from(tenants.max(1));
    all / tenants + u64::from(u64::from(tenant) < all % tenants)
}

/// A tenant's lines, each with its line feed, made one by one.
pub struct Lines<'a> {
    workload: &'a Workload,
    tenant: u32,
    rng: Rng,
    keys: Vec<Key>,
    recent: VecDeque<Vec<u8>>,
    now_millis: i64,
    counts: Counts,
}

impl<'a> Lines<'a> {
    fn new(workload: &'a Workload, tenant: u32) -> Self {
        Self {
            workload,
            tenant,
            rng: Rng::with_seed(workload.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(u64::from(tenant))),
            keys: Vec::new(),
            recent: VecDeque::with_capacity(RECENT_LINES),
            now_millis: EPOCH_MILLIS,
            counts: Counts::default(),
        }
    }

    /// What the lines so far hold.
    pub fn counts(&self) -> Counts {
        Counts { keys: self.keys.len() as u64, ..self.counts }
    }
}

impl Iterator for Lines<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let records_left = self.workload.tenant_records(self.tenant) - self.counts.records;
        if records_left == 0 {
            return None;
        }
        self.now_millis += self.rng.i64(1..2_000);
        let line = match self.kind(records_left) {
            Kind::Repeated => {
                self.counts.repeated += 1;
                self.recent[self.rng.usize(..self.recent.len())].clone()
            }
            kind => self.fresh(&kind),
        };
        self.counts.records += 1;
        self.counts.bytes += line.len() as u64;
        if self.recent.len() == RECENT_LINES {
            self.recent.pop_front();
        }
        self.recent.push_back(line.clone());
        Some(line)
    }
}

impl Lines<'_> {
    fn kind(&mut self, records_left: u64) -> Kind {
        let keys_left = self.workload.tenant_keys(self.tenant) - self.keys.len() as u64;
        if self.keys.is_empty() || keys_left == records_left {
            return Kind::New;
        }
        let mut draw = self.rng.u32(..100);
        for (percent, kind) in [
            (self.workload.deletes_percent, Kind::Delete),
            (self.workload.late_percent, Kind::Late),
            (self.workload.repeated_percent, Kind::Repeated),
        ] {
            if draw < percent {
                return kind;
            }
            draw -= percent;
        }
        if self.rng.u64(..records_left) < keys_left { Kind::New } else { Kind::Update }
    }

    fn fresh(&mut self, kind: &Kind) -> Vec<u8> {
        let now_millis = self.now_millis;
        let key = match kind {
            Kind::New => {
                self.keys.push(Key { version_millis: 0, deleted: false });
                self.keys.len() - 1
            }
            _ => self.rng.usize(..self.keys.len()),
        };
        let known = self.keys[key];
        let version_millis = match kind {
            Kind::Late => {
                self.counts.late += 1;
                self.counts.late_after_delete += u64::from(known.deleted);
                known.version_millis - self.rng.i64(1..DAY_MILLIS)
            }
            Kind::Update if self.rng.u32(..1000) < TIED_PER_MILLE => {
                self.counts.tied += 1;
                known.version_millis
            }
            _ => now_millis,
        };
        let deleted = matches!(kind, Kind::Delete);
        self.counts.deletes += u64::from(deleted);
        if !matches!(kind, Kind::Late) {
            self.keys[key] = Key { version_millis, deleted };
        }
        self.line(key as u64, version_millis, deleted)
    }

    fn line(&mut self, key: u64, version_millis: i64, deleted: bool) -> Vec<u8> {
        let rng = &mut self.rng;
        let id = record_id("006", key);
        let (account, owner) = (key % 9_973, rng.u64(..64));
        let (first, last) = (FIRST_NAMES[owner as usize % 8], LAST_NAMES[owner as usize / 8]);
        let (stage, probability) = STAGES[rng.usize(..STAGES.len())];
        let amount = match rng.u32(..100) {
            0 => "null".to_owned(),
            1 => "0".to_owned(),
            _ => format!("{}.{:02}", rng.u32(100..2_000_000), rng.u32(..100)),
        };
        let close = timestamp(version_millis + rng.i64(0..180) * DAY_MILLIS);
        let mut line = Vec::with_capacity(512);
        let written = writeln!(
            line,
            concat!(
                r#"{{"Id":"{}","Name":"{} {} {}","AccountId":"{}","#,
                r#""StageName":"{}","Amount":{},"CurrencyIsoCode":"USD","Probability":{},"CloseDate":"{}","#,
                r#""CreatedDate":"{}","LastModifiedDate":"{}","OwnerId":"{}","#,
                r#""Owner":{{"Name":"{} {}","Email":"owner{}@example.com"}},"#,
                r#""Type":"{}","LeadSource":"{}","IsDeleted":{}}}"#
            ),
            id,
            ACCOUNTS[account as usize % ACCOUNTS.len()],
            PRODUCTS[key as usize % PRODUCTS.len()],
            key,
            record_id("001", account),
            stage,
            amount,
            probability,
            &close[..10],
            timestamp(EPOCH_MILLIS + key as i64 * 1000),
            timestamp(version_millis),
            record_id("005", owner),
            first,
            last,
            owner,
            TYPES[rng.usize(..TYPES.len())],
            LEAD_SOURCES[rng.usize(..LEAD_SOURCES.len())],
            deleted,
        );
        written.expect("writing to memory does not fail");
        line
    }
}

/// An id in Salesforce's form: three characters of the object, then fifteen.
fn record_id(object: &str, number: u64) -> String {
    format!("{object}5g{number:010}AAQ")
}

/// Milliseconds since 1970 as Salesforce writes them.
fn timestamp(millis: i64) -> String {
    let at = schemas::time::format_timestamp(millis.div_euclid(1000) * 1_000_000);
    format!("{}.{:03}+0000", at.trim_end_matches('Z'), millis.rem_euclid(1000))
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn small() -> Workload {
        Workload { records: 20_003, keys: 2_001, ..Workload::default() }
    }

    fn file(workload: &Workload, tenant: u32) -> (String, Counts) {
        let mut out = Vec::new();
        let counts = workload.write(tenant, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), counts)
    }

    #[test]
    fn the_same_parameters_give_the_same_bytes() {
        assert_eq!(file(&small(), 1), file(&small(), 1));
        assert_ne!(file(&small(), 1).0, file(&small(), 2).0, "tenants differ");
        assert_ne!(file(&small(), 1).0, file(&Workload { seed: 2, ..small() }, 1).0);
    }

    #[test]
    fn the_tenants_share_out_all_records_and_keys() {
        let workload = small();
        let all: Vec<_> = (0..4).map(|tenant| file(&workload, tenant).1).collect();
        assert_eq!(all.iter().map(|c| c.records).sum::<u64>(), workload.records);
        assert_eq!(all.iter().map(|c| c.keys).sum::<u64>(), workload.keys);
    }

    #[test]
    fn every_line_is_json_and_counted_as_what_it_is() {
        let (text, counts) = file(&small(), 0);
        let mut newest: HashMap<String, (String, bool)> = HashMap::new();
        let mut lines = HashSet::new();
        let (mut deletes, mut late_after_delete) = (0, 0);
        for line in text.lines() {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            let id = record["Id"].as_str().unwrap().to_owned();
            assert_eq!(id.len(), 18);
            let version = record["LastModifiedDate"].as_str().unwrap().to_owned();
            let deleted = record["IsDeleted"].as_bool().unwrap();
            if !lines.insert(line) {
                continue;
            }
            deletes += u64::from(deleted);
            if let Some((known, gone)) = newest.get(&id) {
                late_after_delete += u64::from(version < *known && *gone);
            }
            if newest.get(&id).is_none_or(|(known, _)| *known <= version) {
                newest.insert(id, (version, deleted));
            }
        }
        assert_eq!(counts.keys, newest.len() as u64);
        assert_eq!(counts.deletes, deletes);
        assert_eq!(counts.late_after_delete, late_after_delete);
        assert!(counts.late_after_delete > 0 && counts.tied > 0);
        let mean = counts.bytes / counts.records;
        assert!((420..=480).contains(&mean), "{mean} bytes a record");
    }
}
