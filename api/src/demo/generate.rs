//! Writes the demo's files.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use fastrand::Rng;

use super::change::{Change, Changes, Dated, second_drop};
use super::drift::{self, Changed};
use super::layout;
use super::world::{CUSTOMERS, Customer, DAY_SECONDS, Deal, Person, TODAY_SECONDS, World};

/// Which part of the demo to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The files as they are found.
    First,
    /// What happens some time later: rows appended to files, new files beside them.
    Second,
    /// Later still, after some makers have changed their systems: files of other shapes beside the others.
    Drift,
}

/// Records of a stream in the drift drop.
const DRIFTED: usize = 60;

/// A file that was written and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoFile {
    /// Where it stands.
    pub path: PathBuf,
    /// The files of the stream, those of the other drop too, as a glob below the demo's folder.
    pub pattern: &'static str,
    /// The connection that it belongs to.
    pub connection: &'static str,
    /// The system whose layout it has, which names the mapping file.
    pub system: &'static str,
    /// The stream within the mapping file.
    pub stream: &'static str,
    /// Records that this drop wrote.
    pub records: u64,
    /// What the second drop's records are; all of the first are new.
    pub changes: Changes,
}

#[derive(Clone, Copy)]
enum Format {
    Ndjson,
    Csv {
        header: &'static str,
    },
    /// An array cannot be appended to: the second drop is a file of its own.
    JsonArray {
        second: &'static str,
    },
}

/// A stream of the demo; `make` makes its records and `line` writes one.
struct Plan<T> {
    connection: &'static str,
    system: &'static str,
    stream: &'static str,
    file: &'static str,
    pattern: &'static str,
    format: Format,
    /// Whether the layout can tell deletes.
    deletes: bool,
    /// Records of the first drop.
    records: usize,
    customers: Range<usize>,
    make: fn(&World, &mut Rng, u64, Range<usize>) -> T,
    line: fn(&World, &Dated<T>) -> String,
    /// What its maker changes before the drift drop.
    changed: Option<Changed>,
}

/// Writes one drop into `folder` and says which files it touched. The later ones stand on what the first wrote with the
/// same seed.
pub fn generate(folder: &Path, seed: u64, delivery: Delivery) -> io::Result<Vec<DemoFile>> {
    let world = World::new(seed);
    let mut files = Vec::new();
    for plan in customers() {
        files.extend(plan.write(folder, &world, seed, delivery)?);
    }
    for plan in people() {
        files.extend(plan.write(folder, &world, seed, delivery)?);
    }
    for plan in deals() {
        files.extend(plan.write(folder, &world, seed, delivery)?);
    }
    Ok(files)
}

fn customers() -> [Plan<Customer>; 3] {
    fn make(world: &World, _: &mut Rng, number: u64, range: Range<usize>) -> Customer {
        world.customers[(range.start + number as usize).min(range.end - 1)].clone()
    }
    [
        Plan {
            connection: "salesforce",
            system: "salesforce",
            stream: "account",
            file: "salesforce/account.ndjson",
            pattern: "salesforce/account*.ndjson",
            format: Format::Ndjson,
            deletes: true,
            records: 210,
            customers: 0..220,
            make,
            line: layout::salesforce_account,
            changed: None,
        },
        Plan {
            connection: "hubspot",
            system: "hubspot",
            stream: "account",
            file: "hubspot/companies.csv",
            pattern: "hubspot/companies*.csv",
            format: Format::Csv { header: layout::HUBSPOT_COMPANY },
            deletes: true,
            records: 120,
            customers: 140..268,
            make,
            line: layout::hubspot_company,
            changed: None,
        },
        Plan {
            connection: "dynamics",
            system: "dynamics",
            stream: "account",
            file: "dynamics/accounts.json",
            pattern: "dynamics/accounts*.json",
            format: Format::JsonArray { second: "dynamics/accounts-2.json" },
            deletes: false,
            records: 90,
            customers: 30..126,
            make,
            line: layout::dynamics_account,
            changed: Some(drift::DYNAMICS_ACCOUNTS),
        },
    ]
}

fn people() -> [Plan<Person>; 3] {
    [
        Plan {
            connection: "salesforce",
            system: "salesforce",
            stream: "contact",
            file: "salesforce/contact.ndjson",
            pattern: "salesforce/contact*.ndjson",
            format: Format::Ndjson,
            deletes: true,
            records: 420,
            customers: 0..210,
            make: World::person,
            line: layout::salesforce_contact,
            changed: None,
        },
        Plan {
            connection: "hubspot",
            system: "hubspot",
            stream: "contact",
            file: "hubspot/contacts.csv",
            pattern: "hubspot/contacts*.csv",
            format: Format::Csv { header: layout::HUBSPOT_CONTACT },
            deletes: true,
            records: 260,
            customers: 140..260,
            make: World::person,
            line: layout::hubspot_contact,
            changed: None,
        },
        Plan {
            connection: "support",
            system: "zendesk",
            stream: "contact",
            file: "support/users.csv",
            pattern: "support/users*.csv",
            format: Format::Csv { header: layout::ZENDESK_USER },
            deletes: true,
            records: 300,
            customers: 0..CUSTOMERS,
            make: World::person,
            line: layout::zendesk_user,
            changed: None,
        },
    ]
}

fn deals() -> [Plan<Deal>; 3] {
    [
        Plan {
            connection: "salesforce",
            system: "salesforce",
            stream: "opportunity",
            file: "salesforce/opportunity.ndjson",
            pattern: "salesforce/opportunity*.ndjson",
            format: Format::Ndjson,
            deletes: true,
            records: 900,
            customers: 0..210,
            make: World::deal,
            line: layout::salesforce_opportunity,
            changed: Some(drift::SALESFORCE_DEALS),
        },
        Plan {
            connection: "hubspot",
            system: "hubspot",
            stream: "opportunity",
            file: "hubspot/deals.csv",
            pattern: "hubspot/deals*.csv",
            format: Format::Csv { header: layout::HUBSPOT_DEAL },
            deletes: true,
            records: 400,
            customers: 140..260,
            make: World::deal,
            line: layout::hubspot_deal,
            changed: Some(drift::HUBSPOT_DEALS),
        },
        Plan {
            connection: "pipedrive",
            system: "pipedrive",
            stream: "opportunity",
            file: "pipedrive/deals.json",
            pattern: "pipedrive/deals*.json",
            format: Format::JsonArray { second: "pipedrive/deals-2.json" },
            deletes: true,
            records: 350,
            customers: 220..CUSTOMERS,
            make: World::deal,
            line: layout::pipedrive_deal,
            changed: Some(drift::PIPEDRIVE_DEALS),
        },
    ]
}

impl<T: Change> Plan<T> {
    fn write(&self, folder: &Path, world: &World, seed: u64, delivery: Delivery) -> io::Result<Option<DemoFile>> {
        // Each stream has random numbers of its own, so that changing one leaves the others as they were.
        let hash = self.file.bytes().fold(0, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut rng = Rng::with_seed(seed ^ hash);
        let fresh_count = self.records / 30 + 1;
        let mut record = |number: usize| {
            let value = (self.make)(world, &mut rng, number as u64, self.customers.clone());
            Dated::before_today(&mut rng, value)
        };
        let known: Vec<_> = (0..self.records).map(&mut record).collect();
        let mut fresh: Vec<_> = (self.records..self.records + fresh_count).map(&mut record).collect();
        let (records, changes) = match delivery {
            Delivery::First => {
                let changes = Changes { new: known.len() as u64, ..Changes::default() };
                (known, changes)
            }
            Delivery::Second => {
                for (minute, record) in fresh.iter_mut().enumerate() {
                    record.created = TODAY_SECONDS + minute as i64 * 60;
                    record.updated = record.created;
                }
                second_drop(&mut rng, &known, &fresh, self.deletes)
            }
            Delivery::Drift if self.changed.is_none() => return Ok(None),
            Delivery::Drift => {
                let mut records: Vec<_> = known.into_iter().take(DRIFTED).collect();
                for record in &mut records {
                    record.updated = TODAY_SECONDS + DAY_SECONDS + rng.i64(60..6 * 3600);
                }
                let changes = Changes { updated: records.len() as u64, ..Changes::default() };
                (records, changes)
            }
        };
        let lines: Vec<String> = records.iter().map(|record| (self.line)(world, record)).collect();
        let path = match (delivery, self.changed) {
            (Delivery::Drift, Some(changed)) => self.put_changed(folder, changed, &lines)?,
            _ => self.put(folder, delivery, &lines)?,
        };
        Ok(Some(DemoFile {
            path,
            pattern: self.pattern,
            connection: self.connection,
            system: self.system,
            stream: self.stream,
            records: lines.len() as u64,
            changes,
        }))
    }

    fn put_changed(&self, folder: &Path, changed: Changed, lines: &[String]) -> io::Result<PathBuf> {
        let path = folder.join(changed.file);
        let lines: Vec<String> = lines.iter().map(|line| (changed.line)(line)).collect();
        let text = match self.format {
            Format::Ndjson => lines.join("\n") + "\n",
            Format::Csv { header } => format!("{}\n{}\n", (changed.line)(header), lines.join("\n")),
            Format::JsonArray { .. } => format!("[\n{}\n]\n", lines.join(",\n")),
        };
        std::fs::write(&path, text)?;
        Ok(path)
    }

    fn put(&self, folder: &Path, delivery: Delivery, lines: &[String]) -> io::Result<PathBuf> {
        let name = match (self.format, delivery) {
            (Format::JsonArray { second }, Delivery::Second) => second,
            _ => self.file,
        };
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut text = String::new();
        match (self.format, delivery) {
            (Format::JsonArray { .. }, _) => text = format!("[\n{}\n]\n", lines.join(",\n")),
            (Format::Csv { header }, Delivery::First) => text = format!("{header}\n"),
            _ => {}
        }
        if !matches!(self.format, Format::JsonArray { .. }) {
            for line in lines {
                text.push_str(line);
                text.push('\n');
            }
        }
        let appended = delivery == Delivery::Second && !matches!(self.format, Format::JsonArray { .. });
        let mut file = OpenOptions::new().create(true).write(true).append(appended).truncate(!appended).open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_files() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for delivery in [Delivery::First, Delivery::Second, Delivery::Drift] {
            let first = generate(one.path(), 7, delivery).unwrap();
            let second = generate(two.path(), 7, delivery).unwrap();
            for (a, b) in first.iter().zip(&second) {
                assert_eq!(std::fs::read(&a.path).unwrap(), std::fs::read(&b.path).unwrap(), "{}", a.path.display());
            }
        }
    }

    #[test]
    fn the_second_drop_appends_and_brings_every_kind_of_change() {
        let folder = tempfile::tempdir().unwrap();
        let first = generate(folder.path(), 1, Delivery::First).unwrap();
        let before: Vec<_> = first.iter().map(|f| std::fs::read(&f.path).unwrap()).collect();
        let second = generate(folder.path(), 1, Delivery::Second).unwrap();
        for (file, before) in first.iter().zip(&before) {
            assert!(std::fs::read(&file.path).unwrap().starts_with(before), "{}", file.path.display());
        }
        let sum = |count: fn(&Changes) -> u64| second.iter().map(|f| count(&f.changes)).sum::<u64>();
        for count in [sum(|c| c.new), sum(|c| c.updated), sum(|c| c.deleted), sum(|c| c.late), sum(|c| c.repeated)] {
            assert!(count > 10);
        }
        let records = first.iter().map(|f| f.records).sum::<u64>();
        assert!((2_000..5_000).contains(&records), "{records}");
    }

    #[test]
    fn the_drift_drop_lacks_what_its_makers_have_renamed_or_moved() {
        let folder = tempfile::tempdir().unwrap();
        generate(folder.path(), 1, Delivery::First).unwrap();
        let files = generate(folder.path(), 1, Delivery::Drift).unwrap();
        let text = |part: &str| {
            let file = files.iter().find(|f| f.path.to_str().unwrap().contains(part)).unwrap();
            assert_eq!(file.records, 60);
            std::fs::read_to_string(&file.path).unwrap()
        };
        assert!(!text("salesforce").contains("\"Amount\"") && text("salesforce").contains("\"DealAmount\""));
        assert!(text("pipedrive").contains("\"deal\":{\"value\":"));
        assert!(text("dynamics").contains("\"numberofemployees\":\""));
        assert!(text("hubspot").lines().next().unwrap().contains(",tcv_2,"));
        assert_eq!(files.len(), 4);
    }

    #[test]
    fn every_stream_has_a_shipped_mapping_whose_key_and_version_the_files_have() {
        let folder = tempfile::tempdir().unwrap();
        let files = generate(folder.path(), 1, Delivery::First).unwrap();
        assert!(files.iter().map(|f| f.system).collect::<HashSet<_>>().len() >= 4);
        for file in files {
            let mapping = schemas::shipped_mapping(file.system).unwrap();
            let stream = schemas::StreamName::new(file.stream).unwrap();
            let mapping = mapping.stream(&stream).unwrap();
            let text = std::fs::read_to_string(&file.path).unwrap();
            let names = |path: &schemas::mapping::Path| path.choices().iter().any(|c| text.contains(c[0].as_str()));
            assert!(mapping.key.0.iter().all(names) && mapping.version.as_ref().is_some_and(names), "{}", file.pattern);
        }
    }

    #[test]
    fn json_files_are_json_and_csv_rows_have_as_many_cells_as_the_header() {
        let folder = tempfile::tempdir().unwrap();
        generate(folder.path(), 3, Delivery::First).unwrap();
        for file in generate(folder.path(), 3, Delivery::Second).unwrap() {
            let text = std::fs::read_to_string(&file.path).unwrap();
            match file.path.extension().and_then(|e| e.to_str()) {
                Some("json") => {
                    let array: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
                    assert_eq!(array.len() as u64, file.records);
                }
                Some("ndjson") => {
                    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
                }
                _ => {
                    let cells = |line: &str| line.split('"').step_by(2).map(|s| s.matches(',').count()).sum::<usize>();
                    let header = cells(text.lines().next().unwrap());
                    assert!(text.lines().all(|line| cells(line) == header), "{}", file.pattern);
                }
            }
        }
    }
}
