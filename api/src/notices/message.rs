//! What a notice says: a CloudEvent for programs, a text for people. It names fields, views and proposals, and no value:
//! the case is told without the paths that may be one.

use pipeline::notices::{Notice, Topic};
use pipeline::repair::{Case, Status};
use schemas::drift::{DriftKind, Lost, Move};
use serde_json::{Value, json};

use crate::line::Impact;

/// Characters of a text, escaped as Slack wants them: a longer one it may not show as a whole. The other bounds leave room in
/// it for lost fields.
const TEXT_MAX: usize = 3_000;
/// Characters of all proposals.
const PROPOSED_MAX: usize = 600;
/// Characters of all paths that came.
const CAME_MAX: usize = 400;
/// Characters of a name.
const NAME_MAX: usize = 120;
/// Characters of what somebody wrote, and of the fields that one path fills.
const SAID_MAX: usize = 240;
/// Characters in which it is said how many more there are.
const MORE: usize = 32;

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
    /// The case; nothing in a test.
    pub case: Option<Told<'a>>,
    /// Where people reach the server, without a slash at its end, if its operator has said so.
    pub public_url: Option<&'a str>,
}

/// A case that is told.
#[derive(Clone, Copy)]
pub struct Told<'a> {
    /// The case as it is now, without the paths that may be values.
    pub case: &'a Case,
    /// Its kinds of change, those of paths that are not named among them.
    pub kinds: &'a [DriftKind],
    /// Whom it concerns.
    pub impact: &'a Impact,
}

impl About<'_> {
    /// The notice as a CloudEvent in JSON.
    pub fn event(&self) -> Value {
        let Self { tenant, webhook, id, notice, case, .. } = self;
        let mut data = json!({ "tenant": tenant, "text": self.text() });
        if let Some(Told { case, kinds, impact }) = case {
            data["case"] = case_of(case, kinds);
            data["views"] = impact.views.iter().map(|v| json!({ "view": v.view, "columns": v.columns })).collect();
            data["link"] = json!(self.link(case));
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

    /// The notice as a message of Slack, with a link where people can follow one.
    pub fn slack(&self) -> Value {
        let mut text = escaped(&self.text());
        if let Some(told) = self.case.filter(|_| self.public_url.is_some()) {
            // What is behind a bar would be shown in the link's stead.
            let link = escaped(&self.link(told.case)).replace('|', "%7C");
            text = format!("{text}\n<{link}>");
        }
        json!({ "text": text })
    }

    /// Where the case is shown: on the server, unless it is known where that is.
    fn link(&self, case: &Case) -> String {
        format!("{}/api/v1/aam/cases/{}", self.public_url.unwrap_or_default(), case.position)
    }

    /// The notice in words: as many fields as there is room for, then how many more there are.
    pub fn text(&self) -> String {
        let Some(Told { case, kinds, impact }) = self.case else {
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
        let kinds: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        let mut lines = vec![
            format!("{what} in {} of {}, case {}", case.stream, self.tenant, case.position),
            format!("Severity: {}; {}.", case.severity.name(), kinds.join(", ")),
        ];
        let mut last: Vec<String> = came(case).into_iter().collect();
        last.push(format!("{} records are held.", impact.rows_held));
        last.push(state(case));
        let views: Vec<&str> = impact.views.iter().map(|view| view.view.as_str()).collect();
        let room = TEXT_MAX.saturating_sub(lines.iter().chain(&last).map(|line| size(line)).sum());
        let (named, more) = fitting(case.lost.iter().map(|lost| missed(lost, &views)), room);
        match (named.is_empty(), more) {
            (_, 0) => {}
            (true, more) => lines.push(format!("• {more} fields")),
            (false, more) => last.insert(0, format!("• and {more} more")),
        }
        lines.extend(named);
        lines.extend(last);
        lines.join("\n")
    }
}

/// What is lost, and what that fills.
fn missed(lost: &Lost, views: &[&str]) -> String {
    let what = match (&lost.change, lost.retyped) {
        (Some(change), _) => format!(": {}", clipped(&change.to_string(), SAID_MAX)),
        (None, true) => " has another type".to_owned(),
        (None, false) => " is missing".to_owned(),
    };
    let fields = clipped(&lost.feeds.join(", "), SAID_MAX);
    let fills = match (lost.feeds.is_empty(), views) {
        (true, _) => "no rule reads it".to_owned(),
        (false, []) => format!("it fills {fields}"),
        (false, views) => format!("it fills {fields} of the view {}", clipped(&views.join(", "), SAID_MAX)),
    };
    format!("• {}{what}; {fills}", quoted(&lost.path))
}

/// What came, where nothing else is to be told.
fn came(case: &Case) -> Option<String> {
    let is_all = case.lost.iter().all(|lost| lost.feeds.is_empty());
    if !is_all || (case.added.is_empty() && case.added_more == 0) {
        return None;
    }
    let (named, more) = fitting(case.added.iter().map(|path| quoted(path)), CAME_MAX);
    let came = listed(&named, more as u64 + case.added_more, "paths");
    Some(format!("• {came} came, and no rule names it; nothing is held for it."))
}

fn state(case: &Case) -> String {
    let last = case.decided.last();
    let by = last.map_or_else(String::new, |d| format!(" by {}: {}", d.by, clipped(&d.why, SAID_MAX)));
    match (case.status, &case.approval) {
        (Status::Open, Some(first)) => {
            format!("{} has approved a decision; another one must approve it, too.", first.by)
        }
        (Status::Open | Status::Watching, None) => {
            let (named, more) = fitting(case.moves.iter().map(moved), PROPOSED_MAX);
            let proposed =
                if case.moves.is_empty() { "nothing".to_owned() } else { listed(&named, more as u64, "moves") };
            let waits = clipped(case.waits.as_deref().unwrap_or("nobody has decided"), SAID_MAX);
            format!("Proposed: {proposed}. It waits for a person: {waits}.")
        }
        (status, _) => format!("It is {}{by}.", status.name()),
    }
}

fn moved(to: &Move) -> String {
    format!("{} → {} at {:.2}", quoted(&to.from), quoted(&to.to.join(" + ")), f64::from(to.confidence) / 1000.0)
}

/// As many of the parts of a list as there is room for, and how many more there are.
fn fitting(parts: impl ExactSizeIterator<Item = String>, room: usize) -> (Vec<String>, usize) {
    let (mut named, count) = (Vec::new(), parts.len());
    let mut left = room.saturating_sub(MORE);
    for part in parts {
        match left.checked_sub(size(&part)) {
            Some(less) => left = less,
            None => break,
        }
        named.push(part);
    }
    let more = count - named.len();
    (named, more)
}

/// What is named, and how many more there are of what.
fn listed(named: &[String], more: u64, what: &str) -> String {
    match (named, more) {
        ([], more) => format!("{more} {what}"),
        (named, 0) => named.join(", "),
        (named, more) => format!("{} and {more} more", named.join(", ")),
    }
}

/// Characters that a part of a text takes in Slack, with what parts it from the next one.
fn size(part: &str) -> usize {
    escaped(part).chars().count() + 2
}

/// A name in a text. None ends its own quotes.
fn quoted(name: &str) -> String {
    format!("`{}`", clipped(name, NAME_MAX).replace('`', "'"))
}

/// What somebody else has written, in one line and not longer than it may be.
fn clipped(text: &str, most: usize) -> String {
    let mut short: String = text.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(most).is_some() {
        short.push('…');
    }
    short
}

fn case_of(case: &Case, kinds: &[DriftKind]) -> Value {
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
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    json!({
        "case": case.position.to_string(),
        "stream": case.stream,
        "status": case.status.name(),
        "severity": case.severity.name(),
        "kind": kinds.first(),
        "kinds": kinds,
        "version": case.version,
        "lost": lost,
        "added": case.added,
        "added_more": case.added_more,
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

    use super::*;
    use crate::line::ViewImpact;

    fn case() -> Case {
        let text = json!({
            "position": {"epoch": 1, "partition": 2, "offset": 41}, "stream": "crm/opportunity", "status": "open",
            "mapping_version": 1, "lost": [], "added": [], "moves": [], "waits": "no counterpart", "lacking": 0,
            "having": 0, "held": 50, "redriven": 8, "began_at": 0, "opened_at": 0, "decided": [], "first": 0, "mark": null,
        });
        let mut case: Case = serde_json::from_value(text).unwrap();
        case.lost = vec![lost("<!channel>")];
        let (from, to, kind) = ("<!channel>".to_owned(), vec!["Sum".to_owned()], DriftKind::Renamed);
        case.moves =
            vec![Move { from, to, kind, confidence: 623, part: None, change: None, transform: None, signals: vec![] }];
        case
    }

    fn about(test: impl FnOnce(About<'_>)) {
        told(&case(), None, test);
    }

    fn told(case: &Case, public_url: Option<&str>, test: impl FnOnce(About<'_>)) {
        let (view, entity, columns) = ("opportunities".into(), "opportunity".into(), vec!["amount".to_owned()]);
        let impact =
            Impact { views: vec![ViewImpact { view, entity, columns, rows: None, consumers: vec![] }], rows_held: 42 };
        let position = Position { epoch: 1, partition: 2, offset: 41 };
        let stream = case.stream.clone();
        let notice = Notice { topic: Topic::Opened, stream, case: Some(position), at: 0, tries: 0, due: 0 };
        let kinds = case.kinds();
        let told = Some(Told { case, kinds: &kinds, impact: &impact });
        test(About { tenant: "acme", webhook: "w1", id: "n1", notice: &notice, case: told, public_url });
    }

    fn lost(path: &str) -> Lost {
        let (path, paths, feeds) = (path.to_owned(), vec![path.to_owned()], vec!["amount".to_owned()]);
        Lost { path, paths, feeds, retyped: false, change: None }
    }

    #[test]
    fn a_notice_names_fields_views_proposals_and_why_it_waits() {
        about(|about| {
            let event = about.event();
            assert_eq!((&event["type"], &event["id"]), (&json!("autonomos.case.opened.v1"), &json!("n1")));
            assert_eq!(event["data"]["views"], json!([{"view": "opportunities", "columns": ["amount"]}]));
            assert_eq!(event["data"]["case"]["moves"][0]["confidence"], 0.623);
            assert_eq!(event["data"]["case"]["held"], 42);
            assert_eq!(event["data"]["case"]["severity"], "warning");
            assert_eq!(event["data"]["case"]["kinds"], json!(["renamed"]));
            assert_eq!(event["data"]["link"], "/api/v1/aam/cases/1:2:41");
            let text = event["data"]["text"].as_str().unwrap();
            for part in [
                "crm/opportunity of acme, case 1:2:41",
                "Severity: warning; renamed.",
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

    #[test]
    fn links_are_absolute_where_the_server_is_known_and_slack_has_one_only_there() {
        about(|about| assert!(!about.slack()["text"].as_str().unwrap().contains("/api/v1")));
        told(&case(), Some("https://a.example/x|y&z"), |about| {
            assert_eq!(about.event()["data"]["link"], "https://a.example/x|y&z/api/v1/aam/cases/1:2:41");
            let text = about.slack()["text"].as_str().unwrap().to_owned();
            assert!(text.ends_with("\n<https://a.example/x%7Cy&amp;z/api/v1/aam/cases/1:2:41>"), "{text}");
        });
    }

    #[test]
    fn as_many_fields_are_named_as_slack_bears_and_the_others_are_counted() {
        let mut case = case();
        case.lost = (0..30).map(|number| lost(&format!("Field{number}"))).collect();
        told(&case, None, |about| {
            let text = about.text();
            assert!((0..30).all(|number| text.contains(&format!("`Field{number}`"))), "{text}");
            assert!(!text.contains("more"), "{text}");
        });
        // Signs that grow when they are escaped, names and reasons without end.
        case.lost = (0..500).map(|number| lost(&format!("{number}{}", "<&>".repeat(40)))).collect();
        case.moves = case.moves.iter().cycle().take(200).cloned().collect();
        case.waits = Some("&".repeat(5_000));
        told(&case, None, |about| {
            let text = about.slack()["text"].as_str().unwrap().to_owned();
            assert!(text.chars().count() <= TEXT_MAX, "{}", text.chars().count());
            let named = text.matches("is missing").count();
            assert!(text.contains(&format!("• and {} more\n", 500 - named)), "{text}");
        });
    }

    #[test]
    fn what_came_is_told_with_its_kind_and_counted_where_it_may_not_be_named() {
        let mut case = case();
        (case.lost, case.moves) = (vec![], vec![]);
        (case.added, case.added_more) = (vec!["Region".into()], 3);
        told(&case, None, |about| {
            let text = about.text();
            assert!(text.contains("• `Region` and 3 more came"), "{text}");
            assert!(text.contains("added."), "{text}");
        });
        case.added = vec![];
        told(&case, None, |about| assert!(about.text().contains("• 3 paths came"), "{}", about.text()));
    }

    #[test]
    fn a_name_stays_in_its_quotes_and_in_its_line() {
        let mut case = case();
        case.lost = vec![lost("a` https://evil.example\nDecided: nothing `b")];
        told(&case, None, |about| {
            let text = about.text();
            assert!(text.contains("`a' https://evil.example Decided: nothing 'b` is missing"), "{text}");
        });
    }
}
