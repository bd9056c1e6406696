//! `/api/v1/aam/advice`: what questions to a language model have cost, and what they may.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use super::{Signed, Tag};
use crate::auth::Role;
use crate::http::Doors;
use crate::http::manners::journal::Noted;
use crate::http::problem::Problem;
use crate::http::time;
use crate::line::{Advice, advice_told};

/// What a tenant's questions to a language model have cost since they were counted anew.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct AdviceUsage {
    /// The model that is asked; null when none is.
    pub model: Option<String>,
    /// Questions that were sent.
    pub calls: u64,
    /// Those without an answer that was of use.
    pub useless_calls: u64,
    /// Questions that were not sent, since approved mappings covered them.
    pub saved_calls: u64,
    /// Questions that were not sent, since the budget was spent.
    pub refused_calls: u64,
    /// Tokens that were read.
    pub input_tokens: u64,
    /// Tokens that were written.
    pub output_tokens: u64,
    /// What the calls have cost, in dollars; at most, where the model did not say how much it read and wrote.
    pub cost: f64,
    /// What the saved calls would have cost at most, in dollars.
    pub saved_cost: f64,
    /// What calls that are under way may cost at most, in dollars.
    pub reserved: f64,
    /// What the calls may cost, in dollars; null without a budget.
    pub budget: Option<f64>,
    /// When it was counted anew; null when it never was.
    pub since: Option<String>,
}

/// The routes.
pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/aam/advice", tag = "Tag::Cases")]
impl Routes {
    /// Show what questions to a language model have cost: calls, tokens, dollars, what was saved, and the budget. Of the
    /// whole tenant, so no key sees it that is bound to connections.
    #[oai(path = "/usage", method = "get", operation_id = "show_advice_usage")]
    async fn show(&self, doors: Data<&Arc<Doors>>, Signed(caller): Signed) -> Result<Json<AdviceUsage>, Problem> {
        super::require_all(&caller, "what questions cost is counted for the organisation")?;
        Ok(Json(usage(doors.line.advice(caller.tenant).await?)))
    }

    /// Count from nothing again, and free the budget. Answers what there was.
    #[oai(path = "/usage/reset", method = "post", operation_id = "reset_advice_usage")]
    async fn reset(
        &self,
        doors: Data<&Arc<Doors>>,
        noted: Data<&Noted>,
        Signed(caller): Signed,
    ) -> Result<Json<AdviceUsage>, Problem> {
        caller.require(Role::Admin)?;
        let before = doors.line.reset_advice(caller.tenant).await?;
        noted.say(advice_told(&before.usage));
        Ok(Json(usage(before)))
    }
}

/// The usage as it is shown.
pub fn usage(advice: Advice) -> AdviceUsage {
    let Advice { model, budget_micros, usage } = advice;
    AdviceUsage {
        model,
        calls: usage.calls,
        useless_calls: usage.useless,
        saved_calls: usage.saved_calls,
        refused_calls: usage.refused_calls,
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cost: dollars(usage.cost_micros),
        saved_cost: dollars(usage.saved_micros),
        reserved: dollars(usage.reserved_micros),
        budget: budget_micros.map(dollars),
        since: (usage.since > 0).then(|| time::of_micros(usage.since)),
    }
}

/// Millionths of a dollar as dollars.
pub fn dollars(micros: u64) -> f64 {
    micros as f64 / 1e6
}
