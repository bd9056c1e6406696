use matcher::{Field, Matcher, Operation, OperationKind, operations};
use serde_json::json;

use crate::field;

fn told(before: &[Field], after: &[Field]) -> Vec<(OperationKind, String)> {
    let name = |o: &Operation| (o.kind, format!("{}>{}", o.from.join("+"), o.to.join("+")));
    let mut all: Vec<_> = operations(&Matcher::default(), "contacts", before, after, &[])
        .expect("a small case")
        .iter()
        .map(name)
        .collect();
    all.sort();
    all
}

fn text(name: &str) -> Field {
    field(name, "string", &[json!("Ann"), json!("Bob"), json!("Eve")])
}

#[test]
fn nothing_happened_where_nothing_changed() {
    let fields = [text("name"), text("city")];
    assert!(told(&fields, &fields).is_empty() && told(&[], &[]).is_empty());
}

#[test]
fn renames_nests_and_unnests_are_told_apart() {
    let before = [text("job_title"), text("address_city"), text("properties.email.value")];
    let after = [text("jobTitle"), text("address.city"), text("properties.email")];
    let expected = [
        (OperationKind::Rename, "job_title>jobTitle".to_owned()),
        (OperationKind::Nest, "address_city>address.city".to_owned()),
        (OperationKind::Unnest, "properties.email.value>properties.email".to_owned()),
    ];
    assert_eq!(told(&before, &after), expected);
}

#[test]
fn a_name_that_was_split_and_one_that_was_merged_are_told() {
    let parts = [text("first_name"), text("last_name")];
    let whole = [text("name")];
    assert_eq!(told(&whole, &parts), [(OperationKind::Split, "name>first_name+last_name".to_owned())]);
    assert_eq!(told(&parts, &whole), [(OperationKind::Merge, "first_name+last_name>name".to_owned())]);
}

#[test]
fn parts_of_another_thing_and_more_parts_than_a_whole_has_are_no_split() {
    let apart =
        told(&[text("billing_address")], &[text("billing_city"), text("shipping_city"), text("shipping_street")]);
    assert!(apart.iter().all(|(kind, _)| *kind != OperationKind::Split), "{apart:?}");
    let mine = told(&[text("billing_address")], &[text("billing_city"), text("billing_street"), text("shipping_city")]);
    assert!(
        mine.contains(&(OperationKind::Split, "billing_address>billing_city+billing_street".to_owned())),
        "{mine:?}"
    );
    let many: Vec<Field> = (0..180).map(|i| text(&format!("first_thing_{i}"))).collect();
    let numbered: Vec<Field> = (0..180).map(|i| text(&format!("first_{i}"))).collect();
    for fields in [many, numbered] {
        let all = told(&[text("name")], &fields);
        assert!(all.iter().all(|(kind, _)| *kind != OperationKind::Split), "{all:?}");
    }
}

#[test]
fn additions_removals_and_type_changes_are_told() {
    let before = [text("fax"), field("price", "integer", &[json!(1)])];
    let after = [field("price", "number", &[json!(1.5)]), field("is_vip", "boolean", &[json!(true)])];
    let expected = [
        (OperationKind::Remove, "fax>".to_owned()),
        (OperationKind::Add, ">is_vip".to_owned()),
        (OperationKind::TypeChange, "price>price".to_owned()),
    ];
    assert_eq!(told(&before, &after), expected);
}

#[test]
fn two_fields_that_take_each_others_names_are_told() {
    let emails = [json!("ann@example.com"), json!("bob@example.org"), json!("eve@example.net")];
    let phones = [json!("+49 30 258434"), json!("+49 30 258435"), json!("+49 40 99123")];
    let before = [field("home", "string", &emails), field("work", "string", &phones), text("name")];
    let after = [field("home", "string", &phones), field("work", "string", &emails), text("name")];
    let expected = [(OperationKind::Rename, "home>work".to_owned()), (OperationKind::Rename, "work>home".to_owned())];
    assert_eq!(told(&before, &after), expected);
    let unsure = operations(&Matcher::default(), "contacts", &before, &after, &[]).expect("a small case");
    assert!(unsure.iter().all(|o| o.confidence < 0.9), "a swap always needs a person");
}
