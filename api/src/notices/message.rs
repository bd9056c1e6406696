//! What a notice says: a CloudEvent for programs, a text for people. It names fields, views and proposals, and no value:
//! the case is told without the paths that may be one.

use pipeline::notices::{Notice, Topic};
use pipeline::repair::{Case, Status};
use schemas::drift::Move;
use serde_json::{Value, json};

use crate::line::Impact;

/// Moves and fields that a text names.
const NAMED_MAX: usize = 10;

/// What a notice is about.
pub struct About<'a> {
    /// The tenant's name.
    pub tenant: &'a str,
    /// The webhook's id.
    pub webhook: &'a str,
    /// The id of the notice, the same however often it is sent.
    pub id: &'a str,
    /// The notice.
    pub notice: &'a Notice,
    /// The case as it is now, and whom it concerns; nothing in a test.
    pub case: Option<(&'a Case, &'a Impact)>,
}

impl About<'_> {
    /// The notice as a CloudEvent in JSON.
    pub fn event(&self) -> Value {
        let Self { tenant, webhook, id, notice, case } = self;
        let mut data = json!({ "tenant": tenant, "text": self.text() });
        if let Some((case, impact)) = case {
            data["case"] = case_of(case);
            data["views"] = impact.views.iter().map(|v| json!({ "view": v.view, "columns": v.columns })).collect();
            data["link"] = json!(format!("/api/v1/aam/cases/{}", case.position));
        }
        json!({
            "specversion": "1.0",
            "id": id,
            "source": format!("/webhooks/{webhook}"),
            "type": format!("autonomos.{}.v1", notice.topic.name()),
            "time": schemas::time::format_timestamp(notice.at),
            "subject": notice.case.map(|case| case.to_string()),
            "datacontenttype": "application/json",
            "data": data,
        })
    }

    /// The notice as a message of Slack.
    pub fn slack(&self) -> Value {
        json!({ "text": escaped(&self.text()) })
    }

    /// The notice in words.
    pub fn text(&self) -> String {
        let Some((case, impact)) = self.case else {
            return format!("AutonomOS: the webhook {} of {} works", self.webhook, self.tenant);
        };
        let what = match self.notice.topic {
            Topic::Opened => "Drift",
            Topic::Reminded => "Still waiting: drift",
            Topic::Expired => "Not decided in time: drift",
            Topic::Approved => "A second person is needed: drift",
            Topic::Decided => "Decided: drift",
            Topic::Rejected => "Rejected: the repair of drift",
            Topic::Reverted => "Taken back: the repair of drift",
            Topic::Tested => "Test",
        };
        let mut lines = vec![format!("{what} in {} of {}, case {}", case.stream, self.tenant, case.position)];
        let view = impact.views.first().map_or_else(String::new, |view| format!(" of the view {}", view.view));
        for lost in case.lost.iter().take(NAMED_MAX) {
            let what = match (&lost.change, lost.retyped) {
                (Some(change), _) => format!(": {change}"),
                (None, true) => " has another type".to_owned(),
                (None, false) => " is missing".to_owned(),
            };
            let fills = match &lost.feeds[..] {
                [] => "no rule reads it".to_owned(),
                feeds => format!("it fills {}{view}", feeds.join(", ")),
            };
            lines.push(format!("• `{}`{what}; {fills}", lost.path));
        }
        if case.lost.len() > NAMED_MAX {
            lines.push(format!("• and {} more", case.lost.len() - NAMED_MAX));
        }
        if case.lost.iter().all(|lost| lost.feeds.is_empty()) && !case.added.is_empty() {
            let added: Vec<String> = case.added.iter().take(NAMED_MAX).map(|path| format!("`{path}`")).collect();
            let more = (case.added.len() - added.len()) as u64 + case.added_more;
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            lines.push(format!("• {}{more} came, and no rule names it; nothing is held for it.", added.join(", ")));
        }
        lines.push(format!("{} records are held.", impact.rows_held));
        lines.push(self.state(case));
        lines.join("\n")
    }

    fn state(&self, case: &Case) -> String {
        let last = case.decided.last();
        let by = last.map_or_else(String::new, |d| format!(" by {}: {}", d.by, d.why));
        match (case.status, &case.approval) {
            (Status::Open, Some(first)) => {
                format!("{} has approved a decision; another one must approve it, too.", first.by)
            }
            (Status::Open | Status::Watching, None) => {
                let proposed: Vec<String> = case.moves.iter().take(NAMED_MAX).map(told).collect();
                let proposed = if proposed.is_empty() { "nothing".to_owned() } else { proposed.join(", ") };
                let waits = case.waits.as_deref().unwrap_or("nobody has decided");
                format!("Proposed: {proposed}. It waits for a person: {waits}.")
            }
            (status, _) => format!("It is {}{by}.", status.name()),
        }
    }
}

fn told(to: &Move) -> String {
    format!("`{}` → `{}` at {:.2}", to.from, to.to.join(" + "), f64::from(to.confidence) / 1000.0)
}

fn case_of(case: &Case) -> Value {
    let lost: Vec<Value> = case
        .lost
        .iter()
        .map(|lost| json!({ "path": lost.path, "feeds": lost.feeds, "retyped": lost.retyped }))
        .collect();
    let moves: Vec<Value> = case
        .moves
        .iter()
        .map(|to| json!({ "from": to.from, "to": to.to, "confidence": f64::from(to.confidence) / 1000.0 }))
        .collect();
    let decided: Vec<Value> =
        case.decided.iter().map(|d| json!({ "status": d.status.name(), "by": d.by, "why": d.why })).collect();
    json!({
        "case": case.position.to_string(),
        "stream": case.stream,
        "status": case.status.name(),
        "kind": case.kind().name(),
        "version": case.version,
        "lost": lost,
        "added": case.added,
        "moves": moves,
        "waits": case.waits,
        "held": case.held.saturating_sub(case.redriven),
        "decided": decided,
        "expires_at": case.expires_at.map(schemas::time::format_timestamp),
    })
}

/// Names of fields come from sources: none of them mentions anybody or links anywhere.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use schemas::Position;
    use schemas::drift::{DriftKind, Lost};

    use super::*;
    use crate::line::ViewImpact;

    fn case() -> Case {
        let text = json!({
            "position": {"epoch": 1, "partition": 2, "offset": 41}, "stream": "crm/opportunity", "status": "open",
            "mapping_version": 1, "lost": [], "added": [], "moves": [], "waits": "no counterpart", "lacking": 0,
            "having": 0, "held": 50, "redriven": 8, "began_at": 0, "opened_at": 0, "decided": [], "first": 0, "mark": null,
        });
        let mut case: Case = serde_json::from_value(text).unwrap();
        let (paths, feeds) = (vec!["<!channel>".to_owned()], vec!["amount".to_owned()]);
        case.lost = vec![Lost { path: "<!channel>".into(), paths, feeds, retyped: false, change: None }];
        let (from, to, kind) = ("<!channel>".to_owned(), vec!["Sum".to_owned()], DriftKind::Renamed);
        case.moves =
            vec![Move { from, to, kind, confidence: 623, part: None, change: None, transform: None, signals: vec![] }];
        case
    }

    fn about(test: impl FnOnce(About<'_>)) {
        let case = case();
        let (view, entity, columns) = ("opportunities".into(), "opportunity".into(), vec!["amount".to_owned()]);
        let impact =
            Impact { views: vec![ViewImpact { view, entity, columns, rows: None, consumers: vec![] }], rows_held: 42 };
        let position = Position { epoch: 1, partition: 2, offset: 41 };
        let stream = case.stream.clone();
        let notice = Notice { topic: Topic::Opened, stream, case: Some(position), at: 0, tries: 0, due: 0 };
        test(About { tenant: "acme", webhook: "w1", id: "n1", notice: &notice, case: Some((&case, &impact)) });
    }

    #[test]
    fn a_notice_names_fields_views_proposals_and_why_it_waits() {
        about(|about| {
            let event = about.event();
            assert_eq!((&event["type"], &event["id"]), (&json!("autonomos.case.opened.v1"), &json!("n1")));
            assert_eq!(event["data"]["views"], json!([{"view": "opportunities", "columns": ["amount"]}]));
            assert_eq!(event["data"]["case"]["moves"][0]["confidence"], 0.623);
            assert_eq!(event["data"]["case"]["held"], 42);
            let text = event["data"]["text"].as_str().unwrap();
            for part in [
                "crm/opportunity of acme, case 1:2:41",
                "fills amount of the view opportunities",
                "42 records are held",
                "at 0.62",
                "no counterpart",
            ] {
                assert!(text.contains(part), "{part}: {text}");
            }
        });
    }

    #[test]
    fn no_name_of_a_field_mentions_a_channel() {
        about(|about| {
            let text = about.slack()["text"].as_str().unwrap().to_owned();
            assert!(text.contains("&lt;!channel&gt;") && !text.contains("<!channel>"), "{text}");
        });
    }
}
