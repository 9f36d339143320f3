//! A tenant's signing keys and issuers: fetched, checked and kept up to date.

pub mod authority;
pub mod document;
mod fetch;
mod issuer;
mod refresh;
mod schedule;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::HashMap;
use std::sync::Arc;

pub use fetch::{KeySettings, token_endpoint};
pub use issuer::{Issuer, V1, accepted as accepted_issuers};
pub use refresh::{Keys, RefreshAnswer};

use crate::value::jwk::Key;

/// The result of one fetch. Immutable; a refresh builds a new one.
#[derive(Debug, Default)]
pub struct KeySet {
    by_kid: HashMap<String, Vec<Arc<Key>>>,
    issuers: Vec<Issuer>,
    metadata_issuer: Option<Issuer>,
    skipped: usize,
}

impl KeySet {
    /// `metadata_issuer` is the `issuer` in the metadata, and `issuers` are [all that it
    /// implies](accepted_issuers).
    ///
    /// A `kid` may refer to one RSA key and one key per curve (RFC 7517 §4.5). The first key of
    /// each `kid` and type is used, as by a verifier that tries keys in order; others count as
    /// skipped.
    pub fn new(keys: Vec<Key>, metadata_issuer: &str, issuers: Vec<Issuer>) -> Self {
        let metadata_issuer = Some(Issuer::new(metadata_issuer));
        let mut set = Self { issuers, metadata_issuer, ..Self::default() };
        for key in keys {
            let own = set.by_kid.entry(key.kid().to_owned()).or_default();
            let kind = std::mem::discriminant(key.public_key());
            if own.iter().any(|other| std::mem::discriminant(other.public_key()) == kind) {
                set.skipped += 1;
            } else {
                own.push(Arc::new(key));
            }
        }
        set
    }

    /// Adds keys that were already skipped in the document.
    #[must_use]
    pub const fn skipping(mut self, more: usize) -> Self {
        self.skipped += more;
        self
    }

    /// The keys with exactly this `kid`, at most one per type.
    pub fn find(&self, kid: &str) -> &[Arc<Key>] {
        self.by_kid.get(kid).map_or(&[], Vec::as_slice)
    }

    /// Every `kid`, sorted.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        let mut ids: Vec<&str> = self.by_kid.keys().map(String::as_str).collect();
        ids.sort_unstable();
        ids.into_iter()
    }

    pub fn holds(&self, key: &Arc<Key>) -> bool {
        self.find(key.kid()).iter().any(|own| Arc::ptr_eq(own, key) || own == key)
    }

    /// Accepted issuers, unless the configuration names others.
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// The `issuer` of the v2 document.
    pub const fn metadata_issuer(&self) -> Option<&Issuer> {
        self.metadata_issuer.as_ref()
    }

    pub fn len(&self) -> usize {
        self.by_kid.values().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.by_kid.is_empty()
    }

    /// The number of unusable keys in the document.
    pub const fn skipped(&self) -> usize {
        self.skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwks::testing::{P256, RSA_A, RSA_B};

    #[test]
    fn of_one_kid_the_first_key_of_each_type_counts() {
        let keys = [RSA_A.jwk("k"), RSA_B.jwk("k"), P256.jwk("k")].map(|jwk| Key::from_jwk(&jwk).unwrap());
        let set = KeySet::new(keys.to_vec(), "https://issuer.example/", Vec::new());
        assert_eq!((set.len(), set.skipped()), (2, 1));
        assert!(set.holds(&Arc::new(keys[0].clone())) && set.holds(&Arc::new(keys[2].clone())));
        assert!(!set.holds(&Arc::new(keys[1].clone())));
        assert!(set.find("K").is_empty(), "exact");
    }
}
