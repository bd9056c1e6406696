//! The example that teaches mapping files.

use schemas::ontology;
use serde_json::json;

use super::row_of;

const README: &str = include_str!("../../../README.md");

#[test]
fn the_mapping_in_the_readme_does_what_the_readme_says() {
    let (_, example) = README.split_once("This is `erp.yaml`").unwrap();
    let (before, rest) = example.split_once("```yaml\n").unwrap();
    let (yaml, _) = rest.split_once("```").unwrap();
    let record = before.split('`').find(|text| text.starts_with('{')).unwrap();

    let file = ontology::read_mapping("erp.yaml", yaml).unwrap();
    let mapping = file.stream(&"orders".parse().unwrap()).unwrap();
    let entity = file.entities.iter().find(|e| e.entity == mapping.entity).unwrap();
    mapping.validate(entity).unwrap();
    // The example's record tells its own delete; the row is looked at as if it did not.
    let standing = schemas::Mapping { deleted: Vec::new(), ..mapping.clone() };
    let row = row_of(&standing, entity, record);
    assert_eq!(row.key, "007-A");
    let expected = json!({
        "order_id": "007-A", "customer": "Ada Lovelace", "total": "1299.00", "currency": "EUR", "margin": "35.0000",
        "placed_on": "2026-10-31", "status": "cancelled", "updated_at": "2026-10-31T12:30:00Z",
    });
    assert_eq!(serde_json::Value::Object(row.fields), expected);
    assert_eq!(row.extras["memo"], "call first");
    assert_eq!(row_of(mapping, entity, record).kind, schemas::event::RowKind::Deleted);
}
