//! The drift drop: the same systems after their makers have changed them.

use serde_json::{Map, Value};

/// What a system's maker changed, and how its files look since: one record's line, or the header, from before to after.
#[derive(Clone, Copy)]
pub(super) struct Changed {
    /// The file beside the others of the stream.
    pub(super) file: &'static str,
    /// One line of it.
    pub(super) line: fn(&str) -> String,
}

/// Salesforce: two fields were renamed.
pub(super) const SALESFORCE_DEALS: Changed = Changed {
    file: "salesforce/opportunity-3.ndjson",
    line: |line| renamed(line, &[("Amount", "DealAmount"), ("CloseDate", "ClosingDate")]),
};

/// Dynamics: the number of employees is a text now.
pub(super) const DYNAMICS_ACCOUNTS: Changed = Changed { file: "dynamics/accounts-3.json", line: texted };

/// Pipedrive: value and currency moved into an object.
pub(super) const PIPEDRIVE_DEALS: Changed = Changed { file: "pipedrive/deals-3.json", line: nested };

/// HubSpot: a column has a name that says nothing.
pub(super) const HUBSPOT_DEALS: Changed =
    Changed { file: "hubspot/deals-3.csv", line: |line| line.replacen(",amount,", ",tcv_2,", 1) };

fn change(line: &str, change: impl FnOnce(&mut Map<String, Value>)) -> String {
    let mut record: Map<String, Value> = serde_json::from_str(line).unwrap_or_default();
    change(&mut record);
    Value::Object(record).to_string()
}

fn renamed(line: &str, names: &[(&str, &str)]) -> String {
    change(line, |record| {
        for (old, new) in names {
            if let Some(value) = record.shift_remove(*old) {
                record.insert((*new).to_owned(), value);
            }
        }
    })
}

fn texted(line: &str) -> String {
    change(line, |record| {
        if let Some(number) = record.get("numberofemployees").filter(|n| n.is_number()).map(Value::to_string) {
            record.insert("numberofemployees".to_owned(), number.into());
        }
    })
}

fn nested(line: &str) -> String {
    change(line, |record| {
        let inside: Map<String, Value> = ["value", "currency"]
            .into_iter()
            .filter_map(|name| record.shift_remove(name).map(|value| (name.to_owned(), value)))
            .collect();
        record.insert("deal".to_owned(), inside.into());
    })
}
