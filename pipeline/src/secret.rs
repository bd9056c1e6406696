//! Passwords among settings.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A text that is not shown, nor is what stands in its place.
#[derive(Clone)]
pub struct Secret(String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            _ => Err(D::Error::custom("a password or secret that is no text: put it in quotes")),
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_and_never_shown() {
        let secret: Secret = serde_json::from_str(r#""canary""#).unwrap();
        assert_eq!((secret.expose(), format!("{secret:?}").as_str()), ("canary", "***"));
    }

    #[test]
    fn what_stands_in_the_place_of_a_secret_and_is_no_text_is_refused_and_not_shown() {
        for wrong in ["12345678", "-1234.5678", "true", r#"["canary"]"#, r#"{"canary":"canary"}"#, "null"] {
            let refused = serde_json::from_str::<Secret>(wrong).unwrap_err().to_string();
            assert!(refused.contains("put it in quotes"), "{refused}");
            assert!(["1234", "5678", "canary"].iter().all(|part| !refused.contains(part)), "{refused}");
        }
    }
}
