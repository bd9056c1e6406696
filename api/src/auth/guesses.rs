//! Wrong passwords, counted for each account wherever they come from: many addresses guess no more than one does. The
//! addresses that somebody has signed in from before are counted apart, so that no stranger locks the account's owner out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{AuthError, secret};

/// Wrong passwords in a row before the next has to wait.
const BURST: f64 = 20.0;
/// After how long one more may be tried.
const REFILL: Duration = Duration::from_secs(30);
/// Accounts that are counted at once; beyond, those are forgotten that may be guessed at freely again.
const COUNTED_MAX: usize = 100_000;
/// Addresses that are known at once; beyond, those that signed in longest ago are forgotten.
const KNOWN_MAX: usize = 100_000;

/// What is counted together: an account, from one address that it is known to sign in from, or from all the others.
type Counted = (String, Option<IpAddr>);

/// Wrong passwords, and from where right ones came.
#[derive(Default)]
pub struct Guesses(Mutex<State>);

#[derive(Default)]
struct State {
    left: HashMap<Counted, (f64, Instant)>,
    known: HashMap<(String, IpAddr), Instant>,
}

/// A password that is being tried. It counts as wrong unless it is said to be right.
pub struct Guess<'a> {
    guesses: &'a Guesses,
    counted: Counted,
    from: IpAddr,
}

impl Guesses {
    /// Lets a password be tried for an account, named by what the caller calls it: whether there is such a one is not
    /// told. Refused when too many were wrong lately.
    pub fn begin(&self, account: &str, from: IpAddr, now: Instant) -> Result<Guess<'_>, AuthError> {
        let account = secret::hash(&account.trim().to_ascii_lowercase());
        let mut state = self.0.lock();
        let known = state.known.contains_key(&(account.clone(), from));
        let counted = (account, known.then_some(from));
        if state.left.len() >= COUNTED_MAX {
            state.left.retain(|_, (left, at)| refilled(*left, *at, now) < BURST);
        }
        let (left, at) = state.left.entry(counted.clone()).or_insert((BURST, now));
        *left = refilled(*left, *at, now);
        *at = now;
        if *left < 1.0 {
            let after = REFILL.mul_f64(1.0 - *left).as_secs() + 1;
            return Err(AuthError::Guessed { after });
        }
        *left -= 1.0;
        Ok(Guess { guesses: self, counted, from })
    }
}

fn refilled(left: f64, at: Instant, now: Instant) -> f64 {
    (left + now.duration_since(at).as_secs_f64() / REFILL.as_secs_f64()).min(BURST)
}

impl Guess<'_> {
    /// It was right: it does not count, and the address is known from now on.
    pub fn was_right(self) {
        let mut state = self.guesses.0.lock();
        if let Some((left, _)) = state.left.get_mut(&self.counted) {
            *left = (*left + 1.0).min(BURST);
        }
        if state.known.len() >= KNOWN_MAX {
            let mut since: Vec<_> = state.known.values().copied().collect();
            since.sort_unstable();
            if let Some(middle) = since.get(since.len() / 2) {
                state.known.retain(|_, at| *at > *middle);
            }
        }
        state.known.insert((self.counted.0, self.from), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    #[test]
    fn many_addresses_guess_no_more_than_one_and_the_owners_own_is_counted_apart() {
        let (guesses, start) = (Guesses::default(), Instant::now());
        guesses.begin("ada@acme.example", address(200), start).unwrap().was_right();
        for n in 0..20 {
            assert!(guesses.begin("ada@acme.example", address(n), start).is_ok(), "{n}");
        }
        let refused = guesses.begin(" ADA@acme.example", address(99), start).err();
        assert!(matches!(refused, Some(AuthError::Guessed { after: 1..=31 })));
        assert!(guesses.begin("ada@acme.example", address(200), start).is_ok(), "the owner's address");
        assert!(guesses.begin("bob@acme.example", address(99), start).is_ok(), "another account");
        let later = start + REFILL + Duration::from_secs(1);
        assert!(guesses.begin("ada@acme.example", address(99), later).is_ok(), "nobody is locked out for good");
        assert!(guesses.begin("ada@acme.example", address(99), later).is_err());
    }

    #[test]
    fn a_right_password_does_not_count() {
        let (guesses, start) = (Guesses::default(), Instant::now());
        for _ in 0..100 {
            guesses.begin("ada@acme.example", address(1), start).unwrap().was_right();
        }
    }
}
