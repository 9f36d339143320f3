//! Remembers verified tokens, so that the next request with the same token costs a lookup instead
//! of an RSA operation.
//!
//! A token is looked up by a keyed hash and then compared as a whole, which costs less than a
//! cryptographic hash. Of two tokens with the same hash, the later one replaces the other. The key
//! is random, so a caller cannot make such pairs.
//!
//! An entry is valid under one policy, so each memory belongs to one policy. A token is forgotten
//! when it expires, when its key leaves the set, after five minutes, or when it is the least
//! recently used.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::Verified;
use crate::jwks::KeySet;
use crate::lru::Lru;
use crate::secret::equal_in_constant_time;
use crate::sync::Mutex;

/// Seconds for which a token is trusted without verifying it again.
const MAX_AGE: u64 = 300;
/// For all remembered tokens, since long tokens must not multiply the memory used.
const MAX_BYTES: usize = 64 * 1024 * 1024;

pub struct Memory {
    skew: u64,
    hasher: RandomState,
    entries: Mutex<Lru<u64, Entry>>,
}

struct Entry {
    /// The token as received, if it was encrypted.
    encrypted: Option<Zeroizing<String>>,
    token: Arc<Verified>,
    remembered_at: u64,
}

impl Entry {
    fn received(&self) -> &str {
        self.encrypted.as_ref().map_or(self.token.assertion(), |encrypted| encrypted.as_str())
    }
}

impl Memory {
    /// Tokens expire `skew` seconds after their `exp`. A capacity of 0 remembers nothing.
    pub fn new(capacity: usize, skew: u64) -> Self {
        Self { skew, hasher: RandomState::new(), entries: Mutex::new(Lru::new(capacity, MAX_BYTES)) }
    }

    /// Returns the token if it is still valid with these keys.
    pub fn find(&self, token: &str, keys: &KeySet, now: u64) -> Option<Arc<Verified>> {
        let hash = self.hasher.hash_one(token);
        let mut entries = self.entries.lock();
        let entry = entries.get(&hash)?;
        if !equal_in_constant_time(entry.received().as_bytes(), token.as_bytes()) {
            return None;
        }
        let good = now <= entry.token.expires_at().saturating_add(self.skew)
            // Also drops the entry if the clock was set back.
            && now.abs_diff(entry.remembered_at) < MAX_AGE
            && keys.holds(entry.token.key());
        if good {
            return Some(Arc::clone(&entry.token));
        }
        entries.remove(&hash);
        None
    }

    /// Remembers a token, in the form received, that has just been verified.
    pub fn insert(&self, received: &str, token: Arc<Verified>, now: u64) {
        let encrypted = (received != token.assertion()).then(|| Zeroizing::new(received.to_owned()));
        let entry = Entry { encrypted, token, remembered_at: now };
        // The texts make up nearly all of its size.
        let copy = entry.encrypted.as_ref().map_or(0, |encrypted| encrypted.len());
        let size = copy + entry.token.assertion().len() + entry.token.claims_json().len() + size_of::<Verified>();
        self.entries.lock().insert(self.hasher.hash_one(received), entry, size);
    }

    #[cfg(any(feature = "jwe", test))]
    pub fn clear(&self) {
        self.entries.lock().weigh(|_| None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwks::testing::{RSA_A, key_set};
    use crate::jwt::testing::{NOW, payload, policy};
    use crate::jwt::verify;
    use crate::value::jwk::{Algorithm, Key};

    fn verified(name: &str) -> (String, Arc<Verified>) {
        let text = payload(&[("jti", &format!("\"{name}\""))]);
        let token = RSA_A.jws(Algorithm::Rs256, r#"{"alg":"RS256","kid":"rsa-a"}"#, &text);
        let verified = Arc::new(verify(&token, &key_set(), &policy(), NOW).unwrap());
        (token, verified)
    }

    #[test]
    fn the_same_bytes_are_found_until_five_minutes_have_passed() {
        let memory = Memory::new(10, 300);
        let (text, token) = verified("a");
        assert!(memory.find(&text, &key_set(), NOW).is_none());
        memory.insert(&text, Arc::clone(&token), NOW);
        assert!(memory.find("other", &key_set(), NOW).is_none());
        assert!(Arc::ptr_eq(&memory.find(&text, &key_set(), NOW + 299).unwrap(), &token));
        assert!(memory.find(&text, &key_set(), NOW + 300).is_none());
        assert!(memory.entries.lock().len() == 0, "and forgotten");
    }

    #[test]
    fn a_token_is_forgotten_when_it_expires() {
        let memory = Memory::new(10, 300);
        let (text, token) = verified("a");
        let expired = token.expires_at() + 300;
        memory.insert(&text, token, expired - 1);
        assert!(memory.find(&text, &key_set(), expired - 1).is_some());
        assert!(memory.find(&text, &key_set(), expired).is_some());
        assert!(memory.find(&text, &key_set(), expired + 1).is_none());
    }

    #[test]
    fn a_token_is_forgotten_when_its_key_leaves_the_set() {
        let memory = Memory::new(10, 300);
        let (text, token) = verified("a");
        let with = |jwk: &str| KeySet::new(vec![Key::from_jwk(jwk).unwrap()], "i", Vec::new());
        memory.insert(&text, token, NOW);
        assert!(memory.find(&text, &with(&RSA_A.jwk("rsa-a")), NOW).is_some(), "the same key fetched again");
        let of_another = crate::jwks::testing::RSA_B.jwk("rsa-a");
        assert!(memory.find(&text, &with(&of_another), NOW).is_none(), "another key of the same name");
        assert!(memory.find(&text, &key_set(), NOW).is_none(), "forgotten for good");
    }

    #[test]
    fn the_least_recently_used_leaves() {
        let memory = Memory::new(2, 300);
        let [(a, token_a), (b, token_b), (c, token_c)] = ["a", "b", "c"].map(verified);
        memory.insert(&a, token_a, NOW);
        memory.insert(&b, token_b, NOW);
        assert!(memory.find(&a, &key_set(), NOW).is_some());
        memory.insert(&c, token_c, NOW);
        let found = [a, b, c].map(|it| memory.find(&it, &key_set(), NOW).is_some());
        assert_eq!((found, memory.entries.lock().len()), ([true, false, true], 2));
        memory.clear();
        assert!(memory.entries.lock().len() == 0);
    }

    #[test]
    fn a_token_of_the_same_hash_is_another_token() {
        let memory = Memory::new(10, 300);
        let [(a, token), (b, _)] = ["a", "b"].map(verified);
        memory.insert(&a, token, NOW);
        let entry = memory.entries.lock().remove(&memory.hasher.hash_one(&a)).unwrap();
        memory.entries.lock().insert(memory.hasher.hash_one(&b), entry, 1);
        assert!(memory.find(&b, &key_set(), NOW).is_none());
    }

    #[test]
    fn an_encrypted_token_is_found_as_it_was_received() {
        let memory = Memory::new(10, 300);
        let (inner, token) = verified("a");
        memory.insert("a.b.c.d.e", token, NOW);
        assert!(memory.find(&inner, &key_set(), NOW).is_none());
        assert!(memory.find("a.b.c.d.e", &key_set(), NOW).is_some());
    }

    #[test]
    fn a_memory_of_none_remembers_nothing() {
        let memory = Memory::new(0, 300);
        let (text, token) = verified("a");
        memory.insert(&text, token, NOW);
        assert!(memory.entries.lock().len() == 0);
    }
}
