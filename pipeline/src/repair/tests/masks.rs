//! What is told to nobody outside: masked fields, and names that few records have.

use super::{cases, feed, payload, renamed, settle};
use crate::process::read_state;
use crate::repair::{MASKED, Mask};
use crate::testing::{ENTITY, Line, MAPPING, stream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_state_knows_to_be_lost_is_masked_though_the_case_is_not_kept_so_far() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    feed(&line, &open, 2, 100..150, "zq").await;
    settle(&line).await;
    let (mut case, names) = (cases(&line).await.remove(0), ["total".to_owned()]);
    case.lost.clear();
    let state = read_state(&*line.store, &stream("orders")).await.unwrap().unwrap();
    let mask = Mask::of_case(&state, &case, &names).unwrap();
    assert!(mask.hides_path("zq"), "it may be the masked one");
    assert!(!mask.hides_path("Id"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_told_no_name_that_few_records_have() {
    let line = Line::new();
    let open = line.open("orders", MAPPING, ENTITY).await;
    feed(&line, &open, 1, 0..100, "Total").await;
    let with_people = |id: usize| payload(id, "zq").replace('}', &format!(r#","people":{{"p{id}@x.com":true}}}}"#));
    let payloads: Vec<String> = (100..150).map(with_people).collect();
    line.append(&open, 2, 0, &payloads.iter().map(String::as_str).collect::<Vec<_>>()).await;
    settle(&line).await;
    let mut case = cases(&line).await.remove(0);
    let person = case.added.iter().find(|path| path.contains("p100@x")).cloned().unwrap();
    case.moves = vec![renamed("Total", &person), renamed("Total", "zq")];
    (case.waits, case.breaks) = (Some(format!("Total → {person} is unsure")), Some("Total was split".into()));
    let state = read_state(&*line.store, &stream("orders")).await.unwrap().unwrap();
    let told = case.told_outside(Some(&state), &[]);
    assert_eq!((told.added, told.added_more), (vec!["zq".to_owned(), "people".into()], case.added.len() as u64 - 2));
    let to: Vec<&str> = told.moves.iter().map(|to| to.to[0].as_str()).collect();
    assert_eq!((to, told.breaks.as_deref()), (vec![MASKED, "zq"], Some("Total was split")));
    assert!(!told.waits.unwrap().contains('@'));
    assert_eq!(case.told_outside(None, &[]).added, [""; 0], "nobody knows what it is");
}
