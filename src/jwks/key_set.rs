//! What tokens are verified with: an immutable snapshot, replaced whole.

use std::collections::HashMap;
use std::sync::Arc;

/// Keys, and who may issue tokens that they sign.
#[derive(Debug)]
pub struct KeySet {
    keys: HashMap<String, Arc<Key>>,
    issuers: Vec<String>,
    skipped: usize,
    fetched_at: u64,
}

/// One public key for signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name, compared exactly.
    pub kid: String,
    /// The key itself.
    pub material: Material,
    /// The only algorithm that it is for, where it says so (RFC 7517 §4.4).
    pub alg: Option<String>,
    /// The only issuer whose tokens it signs, where it says so; may hold `{tenantid}`. Entra's own member:
    /// protocol page, section 6.5.
    pub issuer: Option<String>,
}

/// A public key as the crypto library takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
    /// A point on P-256, uncompressed (SEC 1 §2.3.3).
    P256(Vec<u8>),
    /// A point on P-384, uncompressed.
    P384(Vec<u8>),
}

impl KeySet {
    /// A set. Two keys of one `kid` would leave the choice to chance: neither is kept, and both count as skipped.
    pub fn new(list: Vec<Key>, issuers: Vec<String>, skipped: usize, fetched_at: u64) -> Self {
        let mut keys: HashMap<String, Arc<Key>> = HashMap::new();
        let mut ambiguous = Vec::new();
        let mut skipped = skipped;
        for key in list {
            match keys.get(&key.kid) {
                // The same key listed again is the same key.
                Some(own) if **own == key => {}
                Some(_) => ambiguous.push(key.kid),
                None => {
                    keys.insert(key.kid.clone(), Arc::new(key));
                }
            }
        }
        for kid in ambiguous {
            skipped += 1 + usize::from(keys.remove(&kid).is_some());
        }
        Self { keys, issuers, skipped, fetched_at }
    }

    /// The key of exactly this name.
    pub fn get(&self, kid: &str) -> Option<&Arc<Key>> {
        self.keys.get(kid)
    }

    /// Issuers, in the order of their likelihood; may hold `{tenantid}`.
    pub fn issuers(&self) -> &[String] {
        &self.issuers
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many were left out.
    pub const fn skipped(&self) -> usize {
        self.skipped
    }

    /// Unix seconds.
    pub const fn fetched_at(&self) -> u64 {
        self.fetched_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kid: &str, x: u8) -> Key {
        Key { kid: kid.into(), material: Material::P256(vec![x]), alg: None, issuer: None }
    }

    #[test]
    fn a_name_that_two_keys_have_is_no_name() {
        let set = KeySet::new(vec![key("a", 1), key("b", 2), key("a", 3), key("b", 2)], Vec::new(), 1, 0);
        assert!(set.get("a").is_none() && set.get("b").is_some() && set.get("B").is_none());
        assert_eq!((set.len(), set.skipped()), (1, 3));
    }
}
