//! `advice`: what questions to a language model have cost. A server asks; a folder alone asks nobody.

use poem_openapi::types::ToJSON;

use super::AdviceCommand;
use super::backend::Backend;
use crate::http::routes::advice::AdviceUsage;
use crate::output::Output;

/// Carries out an `advice` command.
pub async fn run(command: &AdviceCommand, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        AdviceCommand::Usage(_) => tell(of.advice().await?, out),
        AdviceCommand::Reset(_) => {
            let before = of.reset_advice().await?;
            if !out.json() {
                out.line("counted from nothing again; before:")?;
            }
            tell(before, out)
        }
    }
}

fn tell(usage: AdviceUsage, out: &mut dyn Output) -> anyhow::Result<()> {
    if out.json() {
        return Ok(out.value(&usage.to_json().unwrap_or_default())?);
    }
    let AdviceUsage { calls, useless_calls, saved_calls, refused_calls, input_tokens, output_tokens, .. } = &usage;
    let budget = usage.budget.map_or_else(|| "no budget".to_owned(), |budget| format!("a budget of {budget}"));
    out.line(&format!("model         {}", usage.model.as_deref().unwrap_or("none: nobody is asked")))?;
    out.line(&format!("calls         {calls}, {useless_calls} of no use"))?;
    out.line(&format!("tokens        {input_tokens} read, {output_tokens} written"))?;
    out.line(&format!("cost          {:.6} dollars, {:.6} reserved, {budget}", usage.cost, usage.reserved))?;
    out.line(&format!("saved         {saved_calls} calls, {:.6} dollars at most", usage.saved_cost))?;
    out.line(&format!("refused       {refused_calls} calls beyond the budget"))?;
    Ok(out.line(&format!("since         {}", usage.since.as_deref().unwrap_or("the beginning")))?)
}
