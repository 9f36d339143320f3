//! A certificate in a vault by its name, and what a credential keeps of it.

use std::sync::Arc;

use serde_json::Value;

use super::Vault;
use super::cached::Cached;
use super::call::VaultCall;
use super::token::Environment;
use crate::config;
use crate::credentials::Failure;
use crate::credentials::certificate::{Notice, Validity};
use crate::value::percent::encode_component;

pub struct Entry<T> {
    pub(super) vault: Vault,
    name: String,
    pub(super) kept: Cached<T>,
    notice: Notice,
}

impl<T> Entry<T> {
    /// Contacts nothing yet.
    pub fn new(described: &config::VaultCertificate, environment: Environment) -> Self {
        let vault = Vault::new(described.vault.clone(), described.managed_identity_client_id.clone(), environment);
        Self { vault, name: described.name.clone(), kept: Cached::default(), notice: Notice::default() }
    }

    /// What is kept, after a read if it is due, and if its dates are valid.
    pub(super) fn current(
        &self,
        now: u64,
        read: impl FnOnce() -> Result<(T, Validity), Failure>,
    ) -> Result<Arc<T>, Failure> {
        let (content, validity) = self.kept.get(now, read)?;
        self.check(validity, now).map_err(Failure::Unusable)?;
        Ok(content)
    }

    pub(super) fn check(&self, validity: Validity, now: u64) -> Result<(), String> {
        self.notice.check(&self.name, validity, now)
    }

    /// Asks for the certificate's public part, whose dates are checked.
    pub(super) fn ask(&self, call: &VaultCall<'_, '_>, now: u64) -> Result<(Value, Validity), Failure> {
        let answer = self.vault.get(call, &format!("/certificates/{}", encode_component(&self.name)))?;
        let validity = dates(&answer).and_then(|dates| dates.check(now).map(|()| dates));
        let validity = validity.map_err(|reason| self.unusable(&reason))?;
        Ok((answer, validity))
    }

    pub(super) fn unusable(&self, reason: &str) -> Failure {
        Failure::Unusable(format!("{}: {}: {reason}", self.vault.name(), self.name))
    }
}

/// Reads `attributes`: whether and when the vault allows its use.
fn dates(answer: &Value) -> Result<Validity, String> {
    let attributes = &answer["attributes"];
    if attributes["enabled"] == false {
        return Err("disabled in the vault".into());
    }
    match (attributes["nbf"].as_u64(), attributes["exp"].as_u64()) {
        (Some(not_before), Some(not_after)) => Ok(Validity { not_before, not_after }),
        _ => Err("the vault sent no dates for it".into()),
    }
}

/// The path of an item's id, `https://{vault}/{kind}/{name}/{version}`. Ignores the host: the token
/// goes only to the configured vault.
pub(super) fn item(id: &Value, kind: &str) -> Option<String> {
    let (_, rest) = id.as_str()?.split_once("://")?;
    let (_, path) = rest.split_once('/')?;
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        [own, name, version] if own == kind && plain(name) && plain(version) => Some(format!("/{path}")),
        _ => None,
    }
}
