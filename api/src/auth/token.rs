//! Session tokens: JWTs of one algorithm, one issuer and one audience. They name a session; what the session may do is
//! read from the store at every request, so that ending it, or lowering a role, counts at once.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use schemas::TenantId;
use serde::{Deserialize, Serialize};

use super::AuthError;

/// How long a session lasts, in seconds.
pub const SESSION_SECONDS: i64 = 7 * 24 * 3600;
/// Clocks may differ by so many seconds.
const LEEWAY_SECONDS: u64 = 5;
/// No token of ours is longer, in bytes.
const TOKEN_BYTES_MAX: usize = 1024;
const ISSUER: &str = "autonomos";
const AUDIENCE: &str = "autonomos-api";

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Always `autonomos`.
    pub iss: String,
    /// Always `autonomos-api`.
    pub aud: String,
    /// The user.
    pub sub: String,
    /// The tenant's id.
    pub tenant: TenantId,
    /// The session.
    pub session: String,
    /// Since when, in seconds since 1970 UTC.
    pub iat: i64,
    /// Not before, the same.
    pub nbf: i64,
    /// Until when.
    pub exp: i64,
}

/// Signs and checks tokens.
pub struct Tokens {
    signing: EncodingKey,
    checking: DecodingKey,
    validation: Validation,
}

impl Tokens {
    /// Tokens under that key. Signs and checks one to see that the cryptography is there.
    pub fn new(key: &[u8; 32]) -> Result<Self, AuthError> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        let tokens =
            Self { signing: EncodingKey::from_secret(key), checking: DecodingKey::from_secret(key), validation };
        let now = jiff::Timestamp::now().as_second();
        let token = tokens.issue(TenantId::SYSTEM, "self-test", "self-test", now, now + 60)?;
        tokens.read(&token)?;
        Ok(tokens)
    }

    /// A token for a session from `now` until `until`, in seconds since 1970 UTC.
    pub fn issue(
        &self,
        tenant: TenantId,
        user: &str,
        session: &str,
        now: i64,
        until: i64,
    ) -> Result<String, AuthError> {
        let claims = Claims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: user.into(),
            tenant,
            session: session.into(),
            iat: now,
            nbf: now,
            exp: until,
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .map_err(|e| AuthError::Internal(format!("signing a token: {e}")))
    }

    /// What a valid token says.
    pub fn read(&self, token: &str) -> Result<Claims, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::Unauthenticated);
        }
        let decoded = decode::<Claims>(token, &self.checking, &self.validation);
        let read = decoded.map_err(|_| AuthError::Unauthenticated)?;
        // Only the header that we write is ours: no key, key id or certificate travels in it.
        let is_ours =
            serde_json::to_value(&read.header).ok() == serde_json::to_value(Header::new(Algorithm::HS256)).ok();
        let claims = read.claims;
        let lasts = claims.exp.saturating_sub(claims.iat);
        if !is_ours || !(0..=SESSION_SECONDS).contains(&lasts) {
            return Err(AuthError::Unauthenticated);
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    const KEY: [u8; 32] = *b"0123456789abcdef0123456789ABCDEF";

    fn now() -> i64 {
        jiff::Timestamp::now().as_second()
    }

    fn claims() -> Value {
        json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "u", "tenant": TenantId::SYSTEM.to_string(), "session": "s",
            "iat": now(), "nbf": now(), "exp": now() + 60})
    }

    fn signed(header: &Value, claims: &str, key: &[u8]) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let message = format!("{}.{}", part(&header.to_string()), part(claims));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
        let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    fn header() -> Value {
        json!({"typ": "JWT", "alg": "HS256"})
    }

    #[test]
    fn a_token_of_ours_reads_back() {
        let tokens = Tokens::new(&KEY).unwrap();
        assert_eq!(tokens.read(&signed(&header(), &claims().to_string(), &KEY)).unwrap().sub, "u");
        let issued = tokens.issue(TenantId::SYSTEM, "u", "s", now(), now() + SESSION_SECONDS).unwrap();
        assert_eq!(tokens.read(&issued).unwrap().session, "s");
    }

    #[test]
    fn other_algorithms_and_keys_in_the_header_are_refused() {
        let tokens = Tokens::new(&KEY).unwrap();
        let text = claims().to_string();
        for alg in ["none", "None", "nOnE", "HS512", "RS256", "ES256"] {
            let header = json!({"typ": "JWT", "alg": alg});
            let token = signed(&header, &text, &KEY);
            assert!(tokens.read(&token).is_err(), "{alg}");
            let bare = token.rsplit_once('.').unwrap().0;
            assert!(tokens.read(&format!("{bare}.")).is_err(), "{alg} without a signature");
        }
        for (name, value) in [
            ("kid", json!("../../dev/null")),
            ("kid", json!("x".repeat(500))),
            ("kid", json!(["a"])),
            ("jku", json!("http://127.0.0.1:1/keys")),
            ("x5u", json!("http://127.0.0.1:1/cert")),
            ("jwk", json!({"kty": "oct", "k": "AAAA"})),
            ("x5c", json!(["AAAA"])),
        ] {
            let mut header = header();
            header[name] = value;
            assert!(tokens.read(&signed(&header, &text, &KEY)).is_err(), "{name}");
        }
        assert!(tokens.read(&signed(&header(), &text, b"another key of thirty-two bytes.")).is_err());
        assert!(tokens.read(&signed(&header(), &text, b"")).is_err());
    }

    #[test]
    fn claims_that_are_wrong_in_type_time_or_place_are_refused() {
        let tokens = Tokens::new(&KEY).unwrap();
        let refused = |name: &str, value: Value| {
            let mut claims = claims();
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
            assert!(tokens.read(&signed(&header(), &claims.to_string(), &KEY)).is_err(), "{name} {value}");
        };
        for exp in
            [json!("9999999999"), json!(1.5), json!(-1), Value::Null, json!(1e30), json!(now() - 61), json!(now() - 6)]
        {
            refused("exp", exp);
        }
        refused("exp", json!(now() + SESSION_SECONDS + 60));
        for nbf in [json!("0"), json!(now() + 60), Value::Null] {
            refused("nbf", nbf);
        }
        for aud in [json!("autonomos-mcp"), json!(["other"]), Value::Null] {
            refused("aud", aud);
        }
        for iss in [json!("staging"), Value::Null] {
            refused("iss", iss);
        }
        refused("sub", Value::Null);
        refused("tenant", json!("nobody"));
        refused("role", json!("admin"));
        let twice = claims().to_string().replace("\"sub\"", "\"tenant\":\"00000000000000000000000000000001\",\"sub\"");
        assert!(tokens.read(&signed(&header(), &twice, &KEY)).is_err(), "two tenants in one token");
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(tokens.read(&signed(&header(), &deep, &KEY)).is_err());
        for junk in ["", ".", "..", "a.b.c", "a.b.c.d", &"x".repeat(1 << 20)] {
            assert!(tokens.read(junk).is_err());
        }
    }
}
