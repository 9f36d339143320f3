//! Tokens that passed, so that the next request of the same user costs a hash instead of a signature. A token
//! is remembered for one policy alone; its key must still be in the set, and five minutes end it in any case.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Verified, digest};
use crate::jwks::KeySet;
use crate::lru::Lru;

/// Seconds.
const LIFETIME: u64 = 300;

/// The memory, which belongs to one policy and ends with it.
#[derive(Debug)]
pub struct Memory {
    entries: Mutex<Lru<[u8; 32], Entry>>,
}

#[derive(Debug)]
struct Entry {
    verified: Arc<Verified>,
    until: u64,
}

impl Memory {
    /// For so many tokens.
    pub fn new(limit: usize) -> Self {
        Self { entries: Mutex::new(Lru::new(limit, usize::MAX)) }
    }

    /// The proof of a token that passed before, where it still counts.
    pub fn get(&self, token: &str, keys: &KeySet, now: u64) -> Option<Arc<Verified>> {
        let digest = digest(token);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(&digest)?;
        // The same name may stand for another key after a rotation.
        let key = entry.verified.key();
        let current = keys.get(&key.kid).is_some_and(|own| Arc::ptr_eq(own, key) || own == key);
        if now < entry.until && current {
            return Some(Arc::clone(&entry.verified));
        }
        entries.remove(&digest);
        None
    }

    /// Remembers a token that passed now.
    pub fn put(&self, verified: &Arc<Verified>, now: u64) {
        // Without the skew: near its end a token is judged anew each time.
        let until = verified.expires_at().min(now + LIFETIME);
        if until > now {
            let entry = Entry { verified: Arc::clone(verified), until };
            self.entries.lock().unwrap_or_else(PoisonError::into_inner).insert(*verified.digest(), entry, 0);
        }
    }
}
