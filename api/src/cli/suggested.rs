//! How suggestions are shown to people: path by path, and as a mapping file to save.

use pipeline::onboarding::scalar;
use serde_json::json;

use crate::http::routes::mappings::suggestions::{FieldAlternative, SuggestionsInfo};
use crate::output::Output;

/// Other fields that are named of a path.
const ALTERNATIVES_MAX: usize = 2;

/// The paths that no rule reads, and what each could fill.
pub fn paths(info: &SuggestionsInfo, out: &mut dyn Output) -> anyhow::Result<()> {
    if info.fields.is_empty() {
        return Ok(out.line(&format!("every path of {} is mapped: there is nothing to suggest", info.stream))?);
    }
    let told = |other: &FieldAlternative| format!("{} {}", other.field, chance(other.confidence));
    let rows = info.fields.iter().map(|field| {
        let others: Vec<String> = field.alternatives.iter().take(ALTERNATIVES_MAX).map(told).collect();
        let chance = field.confidence.map(chance);
        // A name of anybody's making says nothing to the terminal.
        vec![json!(scalar(&field.from)), json!(field.kind), json!(field.to), json!(chance), json!(others.join(", "))]
    });
    let rows: Vec<_> = rows.collect();
    out.table(&["unmapped path", "type", "could fill", "probability", "else"], &rows)?;
    if info.left_out > 0 {
        out.line(&format!("{} more paths were not looked at: map some of these first", info.left_out))?;
    }
    Ok(())
}

/// Rounded down, as in the mapping file: what shows 0.90 is sure.
fn chance(share: f64) -> String {
    format!("{:.2}", (share * 100.0 + 1e-6).floor() / 100.0)
}

/// The mapping file, where it says more than the mapping in force.
pub fn file(info: &SuggestionsInfo, out: &mut dyn Output) -> anyhow::Result<()> {
    if info.fields.iter().any(|field| field.to.is_some()) {
        out.line("")?;
        out.line(info.mapping.trim_end())?;
    }
    Ok(())
}
