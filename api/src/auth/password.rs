//! Passwords: argon2id, few at a time, never with costs that a stored hash dictates.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::AuthError;

/// OWASP's choice for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// A stored hash that asks for more is refused unread: somebody planted it to stop the server.
const MEMORY_KIB_MAX: u32 = 64 * 1024;
const PASSES_MAX: u32 = 10;
const LANES_MAX: u32 = 4;

/// The shortest password.
pub const PASSWORD_CHARS_MIN: usize = 10;
/// The longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Passwords that are hashed at once, at most.
const AT_ONCE_MAX: usize = 4;
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Hashes and checks passwords, on half of the cores at most, so that a flood of sign-ins leaves the rest to everybody else;
/// who waits too long is told so.
#[derive(Clone)]
pub struct Passwords {
    permits: Arc<Semaphore>,
    /// Checked for users who do not exist, so that they take as long as those who do.
    dummy: Arc<str>,
}

impl Passwords {
    /// Ready to hash.
    pub fn new() -> Result<Self, AuthError> {
        let dummy = hash_now("a password that nobody has")?.into();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { permits: Arc::new(Semaphore::new((cores / 2).clamp(1, AT_ONCE_MAX))), dummy })
    }

    /// Refuses a password that is too short, too long or a single repeated character.
    pub fn check_rules(password: &str) -> Result<(), AuthError> {
        let refuse = |why: String| Err(AuthError::Invalid(why));
        if password.len() > PASSWORD_BYTES_MAX {
            return refuse(format!("a password has at most {PASSWORD_BYTES_MAX} bytes"));
        }
        if password.chars().count() < PASSWORD_CHARS_MIN {
            return refuse(format!("a password has at least {PASSWORD_CHARS_MIN} characters"));
        }
        let first = password.chars().next();
        if password.chars().all(|c| Some(c) == first) {
            return refuse("a password has more than one character of a kind".into());
        }
        Ok(())
    }

    /// The hash to store.
    pub async fn hash(&self, password: &str) -> Result<String, AuthError> {
        Self::check_rules(password)?;
        let password = password.to_owned();
        self.run(move || hash_now(&password)).await?
    }

    /// Whether the password is the one of `stored`; without one it takes as long and is wrong.
    pub async fn verify(&self, password: &str, stored: Option<&str>) -> Result<bool, AuthError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(AuthError::Invalid(format!("a password has at most {PASSWORD_BYTES_MAX} bytes")));
        }
        let exists = stored.is_some();
        let (password, stored) = (password.to_owned(), stored.unwrap_or(&self.dummy).to_owned());
        Ok(self.run(move || verify_now(&password, &stored)).await? && exists)
    }

    /// The permit moves into the work: a client that goes away does not make room for the next while the work goes on.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, AuthError> {
        let waited = tokio::time::timeout(WAIT_MAX, self.permits.clone().acquire_owned()).await;
        let permit: OwnedSemaphorePermit = waited.map_err(|_| AuthError::Busy)?.map_err(|_| AuthError::Busy)?;
        let work = move || {
            let done = work();
            drop(permit);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| AuthError::Internal(format!("hashing a password: {e}")))
    }
}

fn hasher() -> Result<Argon2<'static>, AuthError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|e| AuthError::Internal(format!("the costs of password hashes: {e}")))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_now(password: &str) -> Result<String, AuthError> {
    let hash = hasher()?.hash_password(password.as_bytes());
    Ok(hash.map_err(|e| AuthError::Internal(format!("hashing a password: {e}")))?.to_string())
}

fn verify_now(password: &str, stored: &str) -> bool {
    let Ok(hash) = PasswordHash::new(stored) else { return false };
    let Ok(params) = Params::try_from(&hash) else { return false };
    let is_modest = params.m_cost() <= MEMORY_KIB_MAX && params.t_cost() <= PASSES_MAX && params.p_cost() <= LANES_MAX;
    if !is_modest {
        tracing::error!("a stored password hash asks for more memory or time than any of ours; it is refused");
        return false;
    }
    hasher().is_ok_and(|hasher| hasher.verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_known_again_and_no_other_is() {
        let passwords = Passwords::new().unwrap();
        let hash = passwords.hash("correct horse battery").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(passwords.verify("correct horse battery", Some(&hash)).await.unwrap());
        assert!(!passwords.verify("correct horse batterz", Some(&hash)).await.unwrap());
        assert!(!passwords.verify("a password that nobody has", None).await.unwrap());
    }

    #[tokio::test]
    async fn a_hash_with_great_costs_is_refused_unread_even_if_it_is_right() {
        let passwords = Passwords::new().unwrap();
        let password = "correct horse battery";
        for (memory, passes, lanes, is_read) in [
            (1024, PASSES_MAX, 1, true),
            (1024, PASSES_MAX + 1, 1, false),
            (1024, 1, LANES_MAX + 1, false),
            (MEMORY_KIB_MAX + 1, 1, 1, false),
        ] {
            let params = Params::new(memory, passes, lanes, None).unwrap();
            let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            let planted = hasher.hash_password(password.as_bytes()).unwrap().to_string();
            assert_eq!(passwords.verify(password, Some(&planted)).await.unwrap(), is_read, "{planted}");
        }
    }

    #[tokio::test]
    async fn weak_and_endless_passwords_are_refused_before_hashing() {
        let passwords = Passwords::new().unwrap();
        for bad in ["", "short", "aaaaaaaaaaaaaaaa", &"long ".repeat(1000)] {
            assert!(matches!(passwords.hash(bad).await, Err(AuthError::Invalid(_))), "{bad:.20}");
        }
    }
}
