//! What a credential yields, what it may use for that, and why it may fail.

use std::fmt;
use std::sync::Arc;

use super::certificate::Certificate;
use crate::clock::Clock;
use crate::config::Registration;
use crate::outbound::Exchange;
use crate::secret::Secret;

/// How a token request authenticates the client (RFC 6749 §2.3.1, RFC 7523 §2.2).
#[derive(Debug)]
pub enum ClientAuth {
    /// `client_secret`.
    Secret(Secret<String>),
    /// `client_assertion`, a compact JWS (RFC 7523 §2.2).
    Assertion(Secret<String>),
}

/// Why one credential yields nothing now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A local reason that the operator can mend: file, format, date.
    Unusable(String),
    /// An upstream that the credential depends on does not answer.
    Unavailable(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(reason) | Self::Unavailable(reason) => f.write_str(reason),
        }
    }
}

/// A failure and the credential that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialFailure {
    /// Its place in `ClientCredentials`.
    pub index: usize,
    /// Its `SourceType`.
    pub source_type: &'static str,
    /// What is wrong.
    pub failure: Failure,
}

impl fmt::Display for CredentialFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "credential {} ({}): {}", self.index, self.source_type, self.failure)
    }
}

/// What a credential needs to know of the token request that it is for, and what it may use.
pub struct Context<'a> {
    /// The token endpoint that the request goes to: the assertion's audience.
    pub audience: &'a str,
    /// The registration that authenticates.
    pub registration: &'a Registration,
    /// The time.
    pub clock: &'a dyn Clock,
    /// The way out, for credentials that live elsewhere.
    pub exchange: &'a dyn Exchange,
    /// Tokens of the machine's own identity.
    pub identities: &'a dyn Identities,
    /// Sent along, so that one id follows the whole request.
    pub correlation_id: &'a str,
}

/// Tokens that stand for the machine or workload, for credentials that need one.
pub trait Identities {
    /// A managed identity's token for a resource.
    fn managed_identity(&self, client_id: Option<&str>, resource: &str) -> Result<Secret<String>, Failure>;
}

/// One way to authenticate.
pub trait Source: Send + Sync {
    /// What goes into the request at hand.
    fn authenticate(&self, context: &Context<'_>) -> Result<ClientAuth, Failure>;

    /// Judges what can be judged without the network.
    fn inspect(&self, now: u64) -> Result<(), String>;

    /// Unix seconds at which its certificate expires or expired, where it has one that has been read.
    fn expires_at(&self, _: u64) -> Option<u64> {
        None
    }

    /// The certificate with its key, as far as it is known without the network: what encrypted tokens are decrypted with.
    fn certificate(&self, _: u64) -> Option<Result<Arc<Certificate>, String>> {
        None
    }

    /// Has a certificate that is elsewhere read from there.
    fn fetch(&self, _: &Context<'_>) -> Result<(), Failure> {
        Ok(())
    }

    /// Forgets what it has read, since the token service did not like it.
    fn reload(&self) {}
}
