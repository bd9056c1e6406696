//! Sealing bytes with a key: AES-256-GCM under a key of this process.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;

const KEY_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
const COUNT_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
/// What stands before the ciphertext.
const FRONT_BYTES: usize = SALT_BYTES + COUNT_BYTES;

/// A key that seals.
///
/// No nonce can come twice: whoever opens a key draws a salt, from key and salt comes the key that is used, and under
/// that the nonces count up. Sealed bytes are: salt, count, ciphertext, tag. Randomness is the system's own: aws-lc's
/// generator gathers entropy for 15 ms in every process first.
pub struct SealingKey {
    secret: hmac::Key,
    salt: [u8; SALT_BYTES],
    own: LessSafeKey,
    count: AtomicU64,
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey")
    }
}

impl SealingKey {
    /// Bytes that sealing adds.
    pub const ADDED_BYTES: usize = FRONT_BYTES + TAG_BYTES;

    /// The key with that secret. Nothing when the random generator fails.
    pub fn new(secret: &[u8; KEY_BYTES]) -> Option<Self> {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).ok()?;
        let own = under(&secret, &salt);
        Some(Self { secret, salt, own, count: AtomicU64::new(0) })
    }

    /// A new random secret. Nothing when the random generator fails.
    pub(super) fn random_secret() -> Option<[u8; KEY_BYTES]> {
        let mut secret = [0; KEY_BYTES];
        getrandom::fill(&mut secret).ok().map(|()| secret)
    }

    /// Seals what `write` appends, behind `front`. It opens only with the same `bound`.
    pub fn seal(&self, bound: &[u8], front: &[u8], write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let count = self.count.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut out = [front, &self.salt, &count].concat();
        let start = out.len();
        write(&mut out);
        let tag = self.own.seal_in_place_separate_tag(nonce(count), Aad::from(bound), &mut out[start..]);
        out.extend_from_slice(tag.expect("fewer bytes than GCM takes are sealed at once").as_ref());
        out
    }

    /// What was sealed, or nothing when the bytes, their key or what they are bound to are not what they were.
    pub fn open(&self, bound: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (salt, rest) = sealed.split_first_chunk::<SALT_BYTES>()?;
        let (count, rest) = rest.split_first_chunk::<COUNT_BYTES>()?;
        let mut bytes = rest.to_vec();
        let (nonce, bound) = (nonce(*count), Aad::from(bound));
        let opened = if *salt == self.salt {
            self.own.open_in_place(nonce, bound, &mut bytes)
        } else {
            under(&self.secret, salt).open_in_place(nonce, bound, &mut bytes)
        };
        let length = opened.ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

fn under(secret: &hmac::Key, salt: &[u8; SALT_BYTES]) -> LessSafeKey {
    let derived = hmac::sign(secret, salt);
    let key =
        UnboundKey::new(&AES_256_GCM, derived.as_ref()).expect("HMAC-SHA256 gives as many bytes as AES-256 takes");
    LessSafeKey::new(key)
}

fn nonce(count: [u8; COUNT_BYTES]) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - COUNT_BYTES..].copy_from_slice(&count);
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey::new(&[byte; KEY_BYTES]).unwrap()
    }

    fn sealed(key: &SealingKey, bound: &[u8], text: &[u8]) -> Vec<u8> {
        key.seal(bound, b"", |out| out.extend_from_slice(text))
    }

    #[test]
    fn the_same_text_is_never_sealed_to_the_same_bytes() {
        let (one, again) = (key(1), key(1));
        let all = [sealed(&one, b"", b"text"), sealed(&one, b"", b"text"), sealed(&again, b"", b"text")];
        assert!(all[0] != all[1] && all[0][..SALT_BYTES] == all[1][..SALT_BYTES]);
        assert_ne!(all[0][..SALT_BYTES], all[2][..SALT_BYTES]);
        for sealed in all {
            assert_eq!(sealed.len(), 4 + SealingKey::ADDED_BYTES);
            assert_eq!(again.open(b"", &sealed).as_deref(), Some(&b"text"[..]));
        }
    }

    #[test]
    fn it_opens_only_with_its_key_and_for_what_it_is_bound_to() {
        let bytes = sealed(&key(1), b"here", b"text");
        assert_eq!(key(2).open(b"here", &bytes), None);
        assert_eq!(key(1).open(b"there", &bytes), None);
    }

    proptest! {
        #[test]
        fn one_changed_bit_never_opens(text: Vec<u8>, place: prop::sample::Index, bit in 0u8..8) {
            let key = key(1);
            let mut bytes = sealed(&key, b"here", &text);
            prop_assert_eq!(key.open(b"here", &bytes), Some(text));
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(key.open(b"here", &bytes), None);
            prop_assert_eq!(key.open(b"here", &bytes[..at]), None);
        }
    }
}
