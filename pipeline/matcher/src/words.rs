//! Field names as words: `BillingAddr2`, `billing_address2` and `billingaddress2` are three spellings of one name.

use crate::embedding::Embeddings;
use crate::lexicon::Lexicon;

/// Characters of a name that are read; the rest does not tell names apart.
pub const NAME_CHARS_MAX: usize = 256;
/// Words of a name that are kept.
const WORDS_MAX: usize = 16;
/// Letters of the longest word that is looked for in a run of letters.
const WORD_LETTERS_MAX: usize = 16;
/// What it costs to see one more word in a run of letters: two words must be twice as likely as one.
const WORD_COST: f32 = 1.5;
/// What a run of letters costs that is no known word.
const UNKNOWN_COST: f32 = 9.0;
const UNKNOWN_LETTER_COST: f32 = 1.5;

/// The segments of a path, each as words: `properties.firstname` gives `[[properties], [first, name]]`.
pub fn segments(path: &str) -> Vec<Vec<String>> {
    let path: String = path.chars().take(NAME_CHARS_MAX).collect();
    let parts = path.split(['.', '[', ']', '/', '$', '>']).map(words).filter(|words| !words.is_empty());
    parts.collect()
}

/// The words of one segment, in lower case, short forms written out.
pub fn words(segment: &str) -> Vec<String> {
    // `__c` is how Salesforce marks a field that a customer has added.
    let segment = segment.strip_suffix("__c").unwrap_or(segment);
    let mut out = Vec::new();
    for run in runs(segment) {
        push_run(&run, &mut out);
        if out.len() >= WORDS_MAX {
            break;
        }
    }
    out.truncate(WORDS_MAX);
    out
}

/// Runs of letters or of digits, cut where lower case turns to upper.
fn runs(segment: &str) -> Vec<String> {
    let chars: Vec<char> = segment.chars().collect();
    let mut out: Vec<String> = Vec::new();
    let mut run = String::new();
    for (at, &c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).map(|i| chars[i]);
        let after = chars.get(at + 1);
        let hump = before.is_some_and(|b| b.is_lowercase() && c.is_uppercase())
            || (before.is_some_and(char::is_uppercase) && c.is_uppercase() && after.is_some_and(|a| a.is_lowercase()));
        let kind = before.is_some_and(|b| b.is_ascii_digit() != c.is_ascii_digit());
        if (hump || kind || !c.is_alphanumeric()) && !run.is_empty() {
            out.push(std::mem::take(&mut run));
        }
        if c.is_alphanumeric() {
            run.extend(c.to_lowercase());
        }
    }
    if !run.is_empty() {
        out.push(run);
    }
    out
}

fn push_run(run: &str, out: &mut Vec<String>) {
    let lexicon = Lexicon::shipped();
    if let Some(long) = lexicon.expand(run) {
        out.extend(long.iter().map(|word| (*word).to_owned()));
    } else if lexicon.knows(run) || run.len() < 5 || !run.bytes().all(|b| b.is_ascii_lowercase()) {
        out.push(run.to_owned());
    } else {
        for word in divide(run) {
            match lexicon.expand(word) {
                Some(long) => out.extend(long.iter().map(|word| (*word).to_owned())),
                None => out.push(word.to_owned()),
            }
        }
    }
}

/// The likeliest words in a run of letters: `numberofemployees` is `number of employees`.
fn divide(run: &str) -> Vec<&str> {
    let end = run.len();
    // The least cost of each beginning, and where its last word starts.
    let mut best: Vec<(f32, usize)> = vec![(f32::INFINITY, 0); end + 1];
    best[0] = (0.0, 0);
    for to in 1..=end {
        for from in to.saturating_sub(WORD_LETTERS_MAX)..to {
            let cost = best[from].0 + cost(&run[from..to]);
            if cost < best[to].0 {
                best[to] = (cost, from);
            }
        }
    }
    let whole = word_cost(run).unwrap_or(UNKNOWN_COST + UNKNOWN_LETTER_COST * end as f32 / 2.0);
    if whole <= best[end].0 {
        return vec![run];
    }
    let (mut out, mut to) = (Vec::new(), end);
    while to > 0 {
        out.push(&run[best[to].1..to]);
        to = best[to].1;
    }
    out.reverse();
    out
}

fn cost(word: &str) -> f32 {
    word_cost(word).unwrap_or(UNKNOWN_COST + UNKNOWN_LETTER_COST * word.len() as f32)
}

fn word_cost(word: &str) -> Option<f32> {
    const SHORT: [&str; 12] = ["id", "at", "is", "to", "of", "in", "on", "by", "no", "my", "hs", "up"];
    if word.len() < 3 && !SHORT.contains(&word) {
        return None;
    }
    let known = Lexicon::shipped().knows(word) || (word.len() > 3 && Lexicon::shipped().expand(word).is_some());
    // A word of the trade is likelier in a field name than in a newspaper.
    let zipf = Embeddings::shipped().zipf(word).unwrap_or(3.0) + if known { 1.0 } else { 0.0 };
    (known || Embeddings::shipped().zipf(word).is_some()).then_some(8.0 - zipf.min(7.0) + WORD_COST)
}

/// The word without the ending that makes it plural.
pub fn stem(word: &str) -> &str {
    let is_plural = word.len() > 3 && !word.ends_with("ss") && !word.ends_with("us") && !word.ends_with("is");
    if is_plural { word.strip_suffix('s').unwrap_or(word) } else { word }
}

/// Both are forms of one word: `company` and `companies`, `close` and `closed`.
pub fn is_form_of(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    if short.len() < 3 || !short.is_ascii() || !long.is_ascii() {
        return false;
    }
    if let Some(rest) = long.strip_prefix(short) {
        return matches!(rest, "" | "s" | "es" | "d" | "ed" | "ing");
    }
    let root = &short[..short.len() - 1];
    let Some(rest) = long.strip_prefix(root) else { return false };
    (short.ends_with('y') && matches!(rest, "ies" | "ied")) || (short.ends_with('e') && rest == "ing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_spellings_of_one_name_give_the_same_words() {
        for spelling in ["BillingAddressCity", "billing_address_city", "billingaddresscity", "BILLING-ADDRESS-CITY"] {
            assert_eq!(words(spelling), ["billing", "address", "city"], "{spelling}");
        }
        assert_eq!(words("numberofemployees"), ["number", "of", "employees"]);
        assert_eq!(words("createdate"), ["create", "date"]);
        assert_eq!(words("firstname"), ["first", "name"]);
        assert_eq!(words("HTTPStatus2"), ["http", "status", "2"]);
        assert_eq!(words("total_amt"), ["total", "amount"]);
        assert_eq!(words("Score__c"), ["score"]);
    }

    #[test]
    fn a_path_gives_its_segments() {
        assert_eq!(segments("emails[].value"), [vec!["emails"], vec!["value"]]);
        assert_eq!(segments("properties.jobtitle"), [vec!["properties"], vec!["job", "title"]]);
        assert!(segments("..[]").is_empty() && segments("").is_empty());
    }

    #[test]
    fn names_of_any_length_and_script_are_read() {
        assert!(segments(&"a".repeat(5000)).len() == 1);
        assert_eq!(words("größe_м\u{0}"), ["größe", "м"]);
    }

    #[test]
    fn forms_of_a_word_are_told() {
        assert!(is_form_of("company", "companies") && is_form_of("close", "closing") && is_form_of("label", "labels"));
        assert!(!is_form_of("order", "border") && !is_form_of("id", "ids") && !is_form_of("state", "status"));
    }
}
