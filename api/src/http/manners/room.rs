//! Room for bodies: the bytes of requests that are held at once are bounded for all, for each tenant, and for all of those
//! who are not signed in.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use schemas::TenantId;

/// Bytes of bodies that may be held at once.
const BYTES_MAX: usize = 192 << 20;
/// A tenant's part of them.
const TENANT_BYTES_MAX: usize = BYTES_MAX / 2;
/// The part of everybody who is not signed in.
const ANYBODY_BYTES_MAX: usize = 16 << 20;

/// Room that is being used.
#[derive(Default)]
pub struct Room(Mutex<State>);

#[derive(Default)]
struct State {
    held: usize,
    by_tenant: HashMap<Option<TenantId>, usize>,
}

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// For nobody.
    Altogether,
    /// For this tenant.
    Own,
}

/// Bytes that are held for one request; given back when this is dropped.
pub struct Held {
    room: Arc<Room>,
    whose: Option<TenantId>,
    bytes: usize,
}

impl Held {
    /// Nothing yet.
    pub fn nothing(room: &Arc<Room>, whose: Option<TenantId>) -> Self {
        Self { room: room.clone(), whose, bytes: 0 }
    }

    /// Takes room for so many bytes more.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let mut state = self.room.0.lock();
        if state.held + bytes > BYTES_MAX {
            return Err(Full::Altogether);
        }
        let most = if self.whose.is_some() { TENANT_BYTES_MAX } else { ANYBODY_BYTES_MAX };
        let own = state.by_tenant.entry(self.whose).or_default();
        if *own + bytes > most {
            return Err(Full::Own);
        }
        *own += bytes;
        state.held += bytes;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.room.0.lock();
        state.held -= self.bytes;
        if let Some(own) = state.by_tenant.get_mut(&self.whose) {
            *own -= self.bytes;
            if *own == 0 {
                state.by_tenant.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenants_bodies_take_half_at_most_and_give_it_back() {
        let room = Arc::new(Room::default());
        let held = |n: u8| Held::nothing(&room, Some(TenantId::from_bytes([n; 16])));
        let (mut a, mut b, mut c) = (held(1), held(2), held(3));
        assert_eq!(a.grow(TENANT_BYTES_MAX), Ok(()));
        assert_eq!(a.grow(1), Err(Full::Own));
        assert_eq!(b.grow(TENANT_BYTES_MAX), Ok(()));
        assert_eq!(c.grow(1), Err(Full::Altogether));
        drop(a);
        assert_eq!(c.grow(1), Ok(()));
        let mut anybody = Held::nothing(&room, None);
        assert_eq!(anybody.grow(ANYBODY_BYTES_MAX + 1), Err(Full::Own));
        drop((b, c, anybody));
        let state = room.0.lock();
        assert_eq!((state.held, state.by_tenant.len()), (0, 0));
    }
}
