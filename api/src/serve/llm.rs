//! `llm` in `autonomos.yaml`: the language model that a server asks what stays uncertain of drift. Without it none is asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use advisor::{GenaiAdvisor, Provider};
use anyhow::{Context, bail};
use pipeline::advice::Price;
use pipeline::repair::Asking;
use schemas::TenantName;
use serde::Deserialize;
use url::Url;

/// How long an answer may take, unless said, and at most, in seconds.
const TIMEOUT_SECONDS: u64 = 30;
const TIMEOUT_SECONDS_MAX: u64 = 600;
/// No price and no budget is greater, in dollars.
const DOLLARS_MAX: f64 = 1e6;
const MICROS: f64 = 1e6;

/// A language model, as the operator sets it up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Llm {
    /// Whose protocol it speaks: openai (or what is compatible with it), gemini, ollama or anthropic.
    pub provider: Provider,
    /// Its name.
    pub model: String,
    /// Where it is, unless at the provider's own address.
    pub url: Option<String>,
    /// The environment variable that holds its key.
    pub key_env: Option<String>,
    /// The file that holds its key.
    pub key_file: Option<PathBuf>,
    /// Dollars for a million tokens that it reads.
    #[serde(default)]
    pub input_price: f64,
    /// Dollars for a million tokens that it writes.
    #[serde(default)]
    pub output_price: f64,
    /// Dollars that a tenant's questions may cost until its usage is reset; without it as much as they cost.
    pub budget: Option<f64>,
    /// The same of some tenants, by their names, instead of that.
    #[serde(default)]
    pub budgets: BTreeMap<TenantName, f64>,
    /// Seconds that an answer may take.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u64,
    /// It is asked even where approved mappings cover what is uncertain.
    #[serde(default)]
    pub ask_always: bool,
}

const fn timeout_seconds() -> u64 {
    TIMEOUT_SECONDS
}

impl Llm {
    /// Checks it, and has the file of its key count from `base`.
    pub fn checked(self, base: &Path) -> anyhow::Result<Self> {
        if self.model.trim().is_empty() {
            bail!("llm: name the model");
        }
        if let Some(url) = &self.url {
            let parsed: Url = url.parse().with_context(|| format!("llm: {url:?} is no address"))?;
            if !matches!(parsed.scheme(), "http" | "https")
                || !parsed.username().is_empty()
                || parsed.password().is_some()
            {
                bail!("llm: write the url as https://host/path/, and its key by key_env or key_file");
            }
        }
        if self.key_env.is_some() && self.key_file.is_some() {
            bail!("llm: say key_env or key_file, not both");
        }
        if !(1..=TIMEOUT_SECONDS_MAX).contains(&self.timeout_seconds) {
            bail!("llm: timeout_seconds is from 1 to {TIMEOUT_SECONDS_MAX}");
        }
        for (name, dollars) in [
            ("input_price", self.input_price),
            ("output_price", self.output_price),
            ("budget", self.budget.unwrap_or(0.0)),
        ] {
            check_dollars(name, dollars)?;
        }
        for (tenant, dollars) in &self.budgets {
            check_dollars(&format!("the budget of {tenant}"), *dollars)?;
        }
        let is_bounded = self.budget.is_some() || !self.budgets.is_empty();
        if is_bounded && self.input_price == 0.0 && self.output_price == 0.0 {
            bail!("llm: a budget is kept by what tokens cost: say input_price and output_price, in dollars a million");
        }
        Ok(Self { key_file: self.key_file.map(|file| base.join(file)), ..self })
    }

    /// The model in words, without its key.
    pub fn told(&self) -> String {
        let Self { provider, model, url, key_env, key_file, budget, budgets, .. } = self;
        let place = url.as_deref().map_or_else(String::new, |url| format!(" at {url}"));
        let key = match (key_env, key_file) {
            (Some(name), _) => format!("its key in the variable {name}"),
            (_, Some(file)) => format!("its key in {}", file.display()),
            _ => "without a key".to_owned(),
        };
        let budget = budget.map_or_else(|| "no budget".to_owned(), |dollars| format!("{dollars} dollars a tenant"));
        let own = match budgets.len() {
            0 => String::new(),
            count => format!(", and budgets of {count} tenants' own"),
        };
        format!("{model} of {}{place}, {key}, {budget}{own}", provider.name())
    }

    /// The model, ready to be asked.
    pub fn asking(&self) -> anyhow::Result<Arc<Asking>> {
        let price = Price { input: micros(self.input_price), output: micros(self.output_price) };
        let advisor = GenaiAdvisor::new(advisor::Settings {
            provider: self.provider,
            model: self.model.clone(),
            url: self.url.clone(),
            key: self.key()?,
            price,
            timeout: Duration::from_secs(self.timeout_seconds),
        })?;
        let budgets = self.budgets.iter().map(|(tenant, dollars)| (tenant.clone(), micros(*dollars))).collect();
        Ok(Arc::new(Asking::new(Arc::new(advisor), self.budget.map(micros), self.ask_always).budgets(budgets)))
    }

    /// Its key; errors name where it should be, never what is there.
    fn key(&self) -> anyhow::Result<Option<String>> {
        let text = match (&self.key_env, &self.key_file) {
            (Some(name), _) => match std::env::var(name) {
                Ok(text) => text,
                Err(_) => bail!("llm: the key of the model should be in the environment variable {name}: set it"),
            },
            (_, Some(file)) => std::fs::read_to_string(file)
                .with_context(|| format!("llm: reading the key of the model from {}", file.display()))?,
            _ => return Ok(None),
        };
        let key = text.trim();
        if key.is_empty() || key.bytes().any(|b| !b.is_ascii_graphic()) {
            bail!("llm: the key of the model is empty, or holds what no key has");
        }
        Ok(Some(key.to_owned()))
    }
}

fn check_dollars(what: &str, dollars: f64) -> anyhow::Result<()> {
    if !(0.0..=DOLLARS_MAX).contains(&dollars) {
        bail!("llm: {what} is in dollars, from 0 to {DOLLARS_MAX}");
    }
    Ok(())
}

/// Dollars as millionths; checked to be in range.
fn micros(dollars: f64) -> u64 {
    (dollars * MICROS).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llm(more: &str) -> anyhow::Result<Llm> {
        let text = format!("{{provider: openai, model: small{more}}}");
        serde_saphyr::from_str::<Llm>(&text)?.checked(Path::new("/etc/autonomos"))
    }

    #[test]
    fn a_model_is_read_and_told_without_its_key() {
        let more =
            ", url: 'http://127.0.0.1:9/v1/', key_file: model.key, input_price: 0.15, output_price: 0.6, budget: 5";
        let told = llm(more).unwrap().told();
        assert_eq!(
            told,
            "small of openai at http://127.0.0.1:9/v1/, its key in /etc/autonomos/model.key, 5 dollars a tenant"
        );
        let plain = llm("").unwrap();
        assert_eq!(
            (plain.timeout_seconds, plain.ask_always, plain.told()),
            (30, false, "small of openai, without a key, no budget".into())
        );
        assert!(plain.asking().is_ok());
        let some = llm(", output_price: 0.6, budget: 5, budgets: {acme: 20, zeta: 0}").unwrap();
        assert_eq!(some.told(), "small of openai, without a key, 5 dollars a tenant, and budgets of 2 tenants' own");
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_says_what_to_do() {
        for (more, why) in [
            (", typo: 1", "typo"),
            (", url: 'ftp://host/'", "https://host"),
            (", url: 'https://me:secret@host/'", "key_env"),
            (", url: 'no address'", "no address"),
            (", key_env: A, key_file: b", "not both"),
            (", timeout_seconds: 0", "timeout_seconds"),
            (", input_price: -1", "input_price"),
            (", budget: .nan, input_price: 1", "budget"),
            (", budget: 5", "input_price"),
            (", budgets: {acme: 5}", "input_price"),
            (", budgets: {acme: -1}, input_price: 1", "the budget of acme"),
            (", budgets: {'no name': 1}, input_price: 1", "no name"),
        ] {
            let error = format!("{:#}", llm(more).expect_err(more));
            assert!(error.contains(why) && !error.contains("secret"), "{more}: {error}");
        }
        let absent = llm(", key_env: AUTONOMOS_NO_SUCH_KEY").unwrap().asking().err().unwrap();
        assert!(absent.to_string().contains("AUTONOMOS_NO_SUCH_KEY"), "{absent}");
    }
}
