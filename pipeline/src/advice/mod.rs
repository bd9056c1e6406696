//! Advice: the port `Advisor`, behind which a language model is asked what stays uncertain of a case. Whatever it answers,
//! only names that were in the question count, the confidence is the matcher's own, and a person decides.

mod answer;
mod question;
mod usage;

use async_trait::async_trait;
use schemas::advice::CallOutcome;

pub use answer::{Pick, picks};
pub use question::{FieldAsked, Prompt, Question};
pub use usage::{ModelUsage, Reservation, reserve, reset, saved, settle, usage};

/// A language model that can be asked.
#[async_trait]
pub trait Advisor: Send + Sync {
    /// The model's name, as the operator wrote it.
    fn model(&self) -> &str;

    /// What it costs.
    fn price(&self) -> Price;

    /// Asks; ends within the time that the operator gave.
    async fn ask(&self, prompt: &Prompt) -> Result<Reply, AdvisorError>;
}

/// What a model costs: millionths of a dollar for a million tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Price {
    /// Of tokens that it reads.
    pub input: u64,
    /// Of tokens that it writes.
    pub output: u64,
}

impl Price {
    /// What so many tokens cost, in millionths of a dollar, rounded up.
    pub fn of(self, input_tokens: u64, output_tokens: u64) -> u64 {
        let part = |price: u64, tokens: u64| u128::from(price) * u128::from(tokens);
        let cost = part(self.input, input_tokens).saturating_add(part(self.output, output_tokens));
        u64::try_from(cost.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// What a model said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// Its text; nothing of it is believed.
    pub text: String,
    /// Tokens that it read.
    pub input_tokens: u64,
    /// Tokens that it wrote.
    pub output_tokens: u64,
}

/// A model did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdvisorError {
    /// Not in time.
    #[error("the model did not answer in time")]
    TimedOut,
    /// It is asked too often.
    #[error("the model turned the question away: it is asked too often")]
    Limited,
    /// It turned the question away otherwise.
    #[error("the model could not be asked: {0}")]
    Failed(String),
    /// Nobody knows whether it was asked: what came, if anything did, is no answer.
    #[error("the model may have been asked in vain: {0}")]
    Lost(String),
}

impl AdvisorError {
    /// As a call's outcome.
    pub const fn outcome(&self) -> CallOutcome {
        match self {
            Self::TimedOut => CallOutcome::TimedOut,
            Self::Limited => CallOutcome::Limited,
            Self::Failed(_) | Self::Lost(_) => CallOutcome::Failed,
        }
    }

    /// Whether the model may have worked on the question, which is paid for then.
    pub const fn may_be_paid(&self) -> bool {
        matches!(self, Self::TimedOut | Self::Lost(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_costs_what_its_tokens_cost_rounded_up() {
        let price = Price { input: 150_000, output: 600_000 };
        assert_eq!(price.of(1_000_000, 1_000_000), 750_000);
        assert_eq!((price.of(1, 0), price.of(0, 0)), (1, 0));
        let dear = Price { input: u64::MAX, output: u64::MAX };
        assert_eq!(dear.of(u64::MAX, u64::MAX), u64::MAX);
    }
}
