//! Remembers verified tokens by the SHA-256 of their exact bytes, so that the next request with the
//! same token costs a hash and a lookup instead of an RSA operation.
//!
//! An entry is valid under one policy, so each memory belongs to one policy. A token is forgotten
//! when it expires, when its key leaves the set, after five minutes, or when it is the least
//! recently used.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Verified;
use super::fingerprint::Fingerprint;
use crate::jwks::KeySet;
use crate::lru::Lru;

/// Seconds for which a token is trusted without verifying it again.
const MAX_AGE: u64 = 300;
/// For all remembered tokens, since long tokens must not multiply the memory used.
const MAX_BYTES: usize = 64 * 1024 * 1024;

pub struct Memory {
    skew: u64,
    entries: Mutex<Lru<Fingerprint, Entry>>,
}

struct Entry {
    token: Arc<Verified>,
    remembered_at: u64,
}

impl Memory {
    /// Tokens expire `skew` seconds after their `exp`. A capacity of 0 remembers nothing.
    pub fn new(capacity: usize, skew: u64) -> Self {
        Self { skew, entries: Mutex::new(Lru::new(capacity, MAX_BYTES)) }
    }

    /// Returns the token if it is still valid with these keys.
    pub fn find(&self, fingerprint: &Fingerprint, keys: &KeySet, now: u64) -> Option<Arc<Verified>> {
        let mut entries = self.lock();
        let entry = entries.get(fingerprint)?;
        let good = now <= entry.token.expires_at().saturating_add(self.skew)
            // Also drops the entry if the clock was set back.
            && now.abs_diff(entry.remembered_at) < MAX_AGE
            && keys.holds(entry.token.key());
        if good {
            return Some(Arc::clone(&entry.token));
        }
        entries.remove(fingerprint);
        None
    }

    /// Remembers a token that has just been verified.
    pub fn insert(&self, fingerprint: Fingerprint, token: Arc<Verified>, now: u64) {
        let size = size(&token);
        self.lock().insert(fingerprint, Entry { token, remembered_at: now }, size);
    }

    #[cfg(any(feature = "jwe", test))]
    pub fn clear(&self) {
        self.lock().weigh(|_| None);
    }

    fn lock(&self) -> MutexGuard<'_, Lru<Fingerprint, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The texts make up nearly all of a token's size.
fn size(token: &Verified) -> usize {
    token.assertion().len() + token.claims_json().len() + size_of::<Verified>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwks::testing::{RSA_A, key_set};
    use crate::jwt::testing::{NOW, payload, policy};
    use crate::jwt::verify;
    use crate::value::jwk::{Algorithm, Key};

    fn verified(name: &str) -> (Fingerprint, Arc<Verified>) {
        let text = payload(&[("jti", &format!("\"{name}\""))]);
        let token = RSA_A.jws(Algorithm::Rs256, r#"{"alg":"RS256","kid":"rsa-a"}"#, &text);
        (Fingerprint::of(&token), Arc::new(verify(&token, &key_set(), &policy(), NOW).unwrap()))
    }

    #[test]
    fn the_same_bytes_are_found_until_five_minutes_have_passed() {
        let memory = Memory::new(10, 300);
        let (fingerprint, token) = verified("a");
        assert!(memory.find(&fingerprint, &key_set(), NOW).is_none());
        memory.insert(fingerprint, Arc::clone(&token), NOW);
        assert!(memory.find(&Fingerprint::of("other"), &key_set(), NOW).is_none());
        assert!(Arc::ptr_eq(&memory.find(&fingerprint, &key_set(), NOW + 299).unwrap(), &token));
        assert!(memory.find(&fingerprint, &key_set(), NOW + 300).is_none());
        assert!(memory.lock().len() == 0, "and forgotten");
    }

    #[test]
    fn a_token_is_forgotten_when_it_expires() {
        let memory = Memory::new(10, 300);
        let (fingerprint, token) = verified("a");
        let expired = token.expires_at() + 300;
        memory.insert(fingerprint, token, expired - 1);
        assert!(memory.find(&fingerprint, &key_set(), expired - 1).is_some());
        assert!(memory.find(&fingerprint, &key_set(), expired).is_some());
        assert!(memory.find(&fingerprint, &key_set(), expired + 1).is_none());
    }

    #[test]
    fn a_token_is_forgotten_when_its_key_leaves_the_set() {
        let memory = Memory::new(10, 300);
        let (fingerprint, token) = verified("a");
        let with = |jwk: &str| KeySet::new(vec![Key::from_jwk(jwk).unwrap()], "i", Vec::new());
        memory.insert(fingerprint, token, NOW);
        assert!(memory.find(&fingerprint, &with(&RSA_A.jwk("rsa-a")), NOW).is_some(), "the same key fetched again");
        let of_another = crate::jwks::testing::RSA_B.jwk("rsa-a");
        assert!(memory.find(&fingerprint, &with(&of_another), NOW).is_none(), "another key of the same name");
        assert!(memory.find(&fingerprint, &key_set(), NOW).is_none(), "forgotten for good");
    }

    #[test]
    fn the_least_recently_used_leaves() {
        let memory = Memory::new(2, 300);
        let [(a, token_a), (b, token_b), (c, token_c)] = ["a", "b", "c"].map(verified);
        memory.insert(a, token_a, NOW);
        memory.insert(b, token_b, NOW);
        assert!(memory.find(&a, &key_set(), NOW).is_some());
        memory.insert(c, token_c, NOW);
        let found = [a, b, c].map(|it| memory.find(&it, &key_set(), NOW).is_some());
        assert_eq!((found, memory.lock().len()), ([true, false, true], 2));
        memory.clear();
        assert!(memory.lock().len() == 0);
    }

    #[test]
    fn a_memory_of_none_remembers_nothing() {
        let memory = Memory::new(0, 300);
        let (fingerprint, token) = verified("a");
        memory.insert(fingerprint, token, NOW);
        assert!(memory.lock().len() == 0);
    }
}
