//! What a route asks: is this token good now?

use std::sync::Arc;

use super::memory::{Fingerprint, Memory};
use super::{Policy, Rejection, Verified, verify};
use crate::jwks::KeySet;

/// One policy and the tokens that passed it.
pub struct Validator {
    policy: Policy,
    memory: Memory,
}

impl Validator {
    /// Remembers up to this many tokens that passed.
    pub fn new(policy: Policy, remembered: usize) -> Self {
        let memory = Memory::new(remembered, policy.skew);
        Self { policy, memory }
    }

    /// Validates what stands after `Bearer` at the moment `now`, in seconds since 1970.
    pub fn validate(&self, token: &str, keys: &KeySet, now: u64) -> Result<Arc<Verified>, Rejection> {
        if token.len() > self.policy.max_bytes {
            return Err(Rejection::TooLarge(self.policy.max_bytes));
        }
        let fingerprint = Fingerprint::of(token);
        if let Some(known) = self.memory.find(&fingerprint, keys, now) {
            return Ok(known);
        }
        let verified = Arc::new(verify(token, keys, &self.policy, now)?);
        self.memory.insert(fingerprint, Arc::clone(&verified), now);
        Ok(verified)
    }
}
