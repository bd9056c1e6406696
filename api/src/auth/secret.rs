//! Random ids and tokens, their hashes, and message authentication.

use aws_lc_rs::{constant_time, digest, hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::AuthError;

/// Random bytes of the operating system.
pub fn random<const N: usize>() -> Result<[u8; N], AuthError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| AuthError::Internal("the random generator failed".into()))?;
    Ok(bytes)
}

/// A token of 256 random bits, as URL-safe text.
pub fn token() -> Result<String, AuthError> {
    Ok(URL_SAFE_NO_PAD.encode(random::<32>()?))
}

/// An id of 96 random bits, in hex.
pub fn id() -> Result<String, AuthError> {
    Ok(hex(&random::<12>()?))
}

/// The SHA-256 of a token, in hex. Tokens are random, so no slow hash is needed.
pub fn hash(token: &str) -> String {
    hash_bytes(token.as_bytes())
}

/// The SHA-256 of bytes, in hex.
pub fn hash_bytes(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Whether two texts are equal, in a time that does not tell where they differ.
pub fn equal(a: &str, b: &str) -> bool {
    constant_time::verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
}

/// Bytes in hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Seals texts that travel through a client and come back: cursors and stream positions.
#[derive(Clone)]
pub struct Seal {
    key: hmac::Key,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

const TAG_BYTES: usize = 16;

impl Seal {
    /// A seal with that key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// `content` as text that only opens for the same `purpose`, which names tenant and use.
    pub fn close(&self, purpose: &str, content: &[u8]) -> String {
        let mut sealed = self.tag(purpose, content)[..TAG_BYTES].to_vec();
        sealed.extend_from_slice(content);
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// What was sealed; nothing when the text was made by hand or for another purpose.
    pub fn open(&self, purpose: &str, text: &str) -> Option<Vec<u8>> {
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (tag, content) = sealed.split_at_checked(TAG_BYTES)?;
        let expected = self.tag(purpose, content);
        constant_time::verify_slices_are_equal(tag, &expected[..TAG_BYTES]).ok()?;
        Some(content.to_vec())
    }

    fn tag(&self, purpose: &str, content: &[u8]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&(purpose.len() as u64).to_be_bytes());
        context.update(purpose.as_bytes());
        context.update(content);
        context.sign().as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_only_as_it_was_and_for_its_purpose() {
        let seal = Seal::new(&[7; 32]);
        let text = seal.close("acme/rows", b"content");
        assert_eq!(seal.open("acme/rows", &text).as_deref(), Some(&b"content"[..]));
        assert_eq!(seal.open("zeta/rows", &text), None);
        assert_eq!(Seal::new(&[8; 32]).open("acme/rows", &text), None);
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let opened = seal.open("acme/rows", std::str::from_utf8(&other).unwrap());
            assert!(opened.is_none_or(|o| o == b"content"), "byte {at}");
        }
        assert_eq!(seal.open("acme/rows", ""), None);
    }
}
