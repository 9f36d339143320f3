//! The keys that the tenant signs with and those that its JWKS shows, which are not always the same.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::keys::{SigningKey, embedded};

/// One entry of the JWKS, or a key held back from it.
#[derive(Clone)]
pub struct Entry {
    /// The key.
    pub key: Arc<SigningKey>,
    /// Whether the JWKS shows it.
    pub published: bool,
    /// Members that replace or extend the usual ones; a null removes one.
    pub members: Map<String, Value>,
}

/// All keys of the tenant.
pub struct KeyRing {
    entries: Vec<Entry>,
    current: Arc<SigningKey>,
    next_number: usize,
}

impl Default for KeyRing {
    fn default() -> Self {
        let current = Arc::new(SigningKey::numbered(1));
        let mut ring = Self { entries: Vec::new(), current: Arc::clone(&current), next_number: 3 };
        for key in [
            current,
            Arc::new(SigningKey::numbered(2)),
            Arc::new(SigningKey::p256("local-p256")),
            Arc::new(SigningKey::p384("local-p384")),
        ] {
            ring.add(key, true, Map::new());
        }
        ring
    }
}

impl KeyRing {
    /// Adds a key.
    pub fn add(&mut self, key: Arc<SigningKey>, published: bool, members: Map<String, Value>) {
        self.remove(key.kid());
        self.entries.push(Entry { key, published, members });
    }

    /// Adds keys that no verifier may use: one for encryption, one of 1024 bits, one of another algorithm family.
    pub fn add_unusable(&mut self) {
        let encryption = Arc::new(SigningKey::rsa("local-encryption", embedded!("encryption.pem")));
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        self.add(encryption, true, object(json!({"use": "enc"})));
        self.add(Arc::new(SigningKey::weak("local-weak")), true, Map::new());
        let octets = Arc::new(SigningKey::rsa("local-octets", embedded!("encryption.pem")));
        let symmetric = json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "n": null, "e": null});
        self.add(octets, true, object(symmetric));
    }

    /// Starts to sign with a key that was never published before; returns its id. The old keys stay.
    pub fn rotate(&mut self) -> String {
        let key = Arc::new(SigningKey::numbered(self.next_number));
        self.next_number += 1;
        self.add(Arc::clone(&key), true, Map::new());
        self.current = key;
        self.current.kid().to_owned()
    }

    /// Forgets a key.
    pub fn remove(&mut self, kid: &str) {
        self.entries.retain(|entry| entry.key.kid() != kid);
    }

    /// Shows or hides a key in the JWKS.
    pub fn publish(&mut self, kid: &str, published: bool) {
        for entry in self.entries.iter_mut().filter(|entry| entry.key.kid() == kid) {
            entry.published = published;
        }
    }

    /// Sets members of a key's JWK; a null removes one.
    pub fn set_members(&mut self, kid: &str, members: &Value) {
        for entry in self.entries.iter_mut().filter(|entry| entry.key.kid() == kid) {
            entry.members.extend(members.as_object().cloned().unwrap_or_default());
        }
    }

    /// The key that signs now.
    pub fn current(&self) -> Arc<SigningKey> {
        Arc::clone(&self.current)
    }

    /// A key by its id, published or not.
    pub fn find(&self, kid: &str) -> Option<Arc<SigningKey>> {
        self.entries.iter().find(|entry| entry.key.kid() == kid).map(|entry| Arc::clone(&entry.key))
    }

    /// Every key's id.
    pub fn ids(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.key.kid().to_owned()).collect()
    }

    /// The JWKS with this `issuer` in each key.
    pub fn document(&self, issuer: &str) -> Value {
        let keys: Vec<Value> = self
            .entries
            .iter()
            .filter(|entry| entry.published)
            .map(|entry| {
                let mut jwk = entry.key.public().jwk().as_object().cloned().unwrap_or_default();
                jwk.insert("use".into(), "sig".into());
                jwk.insert("kid".into(), entry.key.kid().into());
                jwk.insert("issuer".into(), issuer.into());
                jwk.extend(entry.members.clone());
                jwk.retain(|_, value| !value.is_null());
                Value::Object(jwk)
            })
            .collect();
        json!({ "keys": keys })
    }
}
