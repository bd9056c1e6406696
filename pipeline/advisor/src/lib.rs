//! Language models through `genai`, behind the port [`Advisor`]: OpenAI, Gemini, Ollama and whatever speaks like one of them.

use std::time::Duration;

use async_trait::async_trait;
use genai::adapter::AdapterKind;
use genai::chat::{ChatMessage, ChatOptions, ChatRequest, JsonSpec};
use genai::resolver::{AuthData, Endpoint};
use genai::{Client, ModelIden, ServiceTarget, webc};
use pipeline::advice::{Advisor, AdvisorError, Price, Prompt, Reply};
use reqwest::redirect::Policy;
use serde::Deserialize;

const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Whose protocol a model speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// OpenAI's, or what is compatible with it.
    OpenAi,
    /// Google's.
    Gemini,
    /// Ollama's, on a machine of one's own, by the protocol that it has from OpenAI.
    Ollama,
    /// Anthropic's.
    Anthropic,
}

impl Provider {
    const fn kind(self) -> AdapterKind {
        match self {
            // Ollama's own protocol would not take the schema of the answer here.
            Self::OpenAi | Self::Ollama => AdapterKind::OpenAI,
            Self::Gemini => AdapterKind::Gemini,
            Self::Anthropic => AdapterKind::Anthropic,
        }
    }

    /// Its name, as the configuration has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
            Self::Anthropic => "anthropic",
        }
    }

    const fn address(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1/",
            Self::Gemini => "https://generativelanguage.googleapis.com/v1beta/",
            Self::Ollama => "http://localhost:11434/v1/",
            Self::Anthropic => "https://api.anthropic.com/v1/",
        }
    }
}

/// A model that can be asked, as the operator set it up.
#[derive(Clone)]
pub struct Settings {
    /// Whose protocol it speaks.
    pub provider: Provider,
    /// Its name.
    pub model: String,
    /// Where it is, unless at the provider's own address.
    pub url: Option<String>,
    /// The secret that it takes, if it takes one.
    pub key: Option<String>,
    /// What it costs.
    pub price: Price,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// A model cannot be asked as it is set up.
#[derive(Debug, thiserror::Error)]
#[error("the client of the language model cannot be made: {0}")]
pub struct Unusable(String);

/// The model.
pub struct GenaiAdvisor {
    client: Client,
    target: ServiceTarget,
    price: Price,
    timeout: Duration,
}

impl GenaiAdvisor {
    /// A model.
    pub fn new(settings: Settings) -> Result<Self, Unusable> {
        // Nothing is followed anywhere: a model's address is the operator's to choose.
        let http = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_MAX)
            .build()
            .map_err(|error| Unusable(error.to_string()))?;
        let url = settings.url.unwrap_or_else(|| settings.provider.address().to_owned());
        let url = if url.ends_with('/') { url } else { url + "/" };
        let is_bare = url.split_once("://").is_some_and(|(_, rest)| rest.find('/') == Some(rest.len() - 1));
        let url = if settings.provider == Provider::Ollama && is_bare { url + "v1/" } else { url };
        let target = ServiceTarget {
            endpoint: Endpoint::from_owned(url),
            // Ollama takes none, but the adapter wants one.
            auth: AuthData::from_single(settings.key.unwrap_or_else(|| "none".to_owned())),
            model: ModelIden::new(settings.provider.kind(), settings.model),
        };
        let client = Client::builder().with_reqwest(http).build().map_err(|error| Unusable(error.to_string()))?;
        Ok(Self { client, target, price: settings.price, timeout: settings.timeout })
    }
}

#[async_trait]
impl Advisor for GenaiAdvisor {
    fn model(&self) -> &str {
        &self.target.model.model_name
    }

    fn price(&self) -> Price {
        self.price
    }

    async fn ask(&self, prompt: &Prompt) -> Result<Reply, AdvisorError> {
        let request =
            ChatRequest::from_system(&*prompt.instructions).append_message(ChatMessage::user(&*prompt.question));
        // No temperature: models that think take none, and replay asks nobody.
        let options = ChatOptions::default()
            .with_max_tokens(u32::try_from(prompt.answer_tokens).unwrap_or(u32::MAX))
            .with_response_format(JsonSpec::new("moves", prompt.answer.clone()));
        let asked = self.client.exec_chat(self.target.clone(), request, Some(&options));
        let answer = tokio::time::timeout(self.timeout, asked).await.map_err(|_| AdvisorError::TimedOut)?;
        let answer = answer.map_err(told)?;
        let count = |tokens: Option<i32>| tokens.and_then(|tokens| u64::try_from(tokens).ok()).unwrap_or(0);
        Ok(Reply {
            input_tokens: count(answer.usage.prompt_tokens),
            output_tokens: count(answer.usage.completion_tokens),
            text: answer.into_first_text().unwrap_or_default(),
        })
    }
}

/// What went wrong, without what the other side said: it may say anything.
fn told(error: genai::Error) -> AdvisorError {
    match error.status() {
        Some(status) if status.as_u16() == 429 => AdvisorError::Limited,
        Some(status) => AdvisorError::Failed(format!("it answered {status}")),
        None if is_unreached(&error) => AdvisorError::Failed("it could not be reached".to_owned()),
        None => AdvisorError::Lost("it could not be reached, or answered what is no answer".to_owned()),
    }
}

/// Whether nothing was sent: such a call costs nothing.
fn is_unreached(error: &genai::Error) -> bool {
    use genai::Error::{WebAdapterCall, WebModelCall};
    let (WebModelCall { webc_error, .. } | WebAdapterCall { webc_error, .. }) = error else { return false };
    matches!(webc_error, webc::Error::Reqwest(error) if error.is_connect())
}
