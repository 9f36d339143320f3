//! The interface of a credential: its result, its context, and its failures.

use std::fmt;
use std::sync::Arc;

use super::certificate::Certificate;
use crate::clock::Clock;
use crate::config::Registration;
use crate::outbound::Exchange;
use crate::secret::Secret;

/// How a token request authenticates the client.
/// <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>
#[derive(Debug)]
pub enum ClientAuth {
    Secret(Secret<String>),
    /// `client_assertion`, a compact JWS (RFC 7523 §2.2).
    Assertion(Secret<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A local cause that the operator can fix: file, format, dates.
    Unusable(String),
    /// An upstream of the credential does not answer.
    Unavailable(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(reason) | Self::Unavailable(reason) => f.write_str(reason),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialFailure {
    /// Position in `ClientCredentials`.
    pub index: usize,
    pub source_type: &'static str,
    pub failure: Failure,
}

impl fmt::Display for CredentialFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "credential {} ({}): {}", self.index, self.source_type, self.failure)
    }
}

pub struct Context<'a> {
    /// The token endpoint of the request: the assertion's audience.
    pub audience: &'a str,
    pub registration: &'a Registration,
    pub clock: &'a dyn Clock,
    /// For credentials that are fetched.
    pub exchange: &'a dyn Exchange,
    pub identities: &'a dyn Identities,
    /// Sent to every upstream of the request.
    pub correlation_id: &'a str,
}

/// Tokens of the machine or workload, for credentials that need one.
pub trait Identities {
    fn managed_identity(&self, client_id: Option<&str>, resource: &str) -> Result<Secret<String>, Failure>;
}

pub trait Source: Send + Sync {
    fn authenticate(&self, context: &Context<'_>) -> Result<ClientAuth, Failure>;

    /// Whether only a request shows that it can be used.
    fn needs_network(&self) -> bool {
        false
    }

    /// Checks everything that needs no network. A fetched certificate is not judged by its age: it
    /// may have been renewed in the vault, and the next use finds out.
    fn inspect(&self, _: u64) -> Result<(), String> {
        Ok(())
    }

    /// Unix seconds at which its certificate expires or expired, if one has been read.
    fn expires_at(&self, _: u64) -> Option<u64> {
        None
    }

    /// The certificate with its key, as far as known without the network, for decrypting tokens.
    fn certificate(&self, _: u64) -> Option<Result<Arc<Certificate>, String>> {
        None
    }

    fn fetch(&self, _: &Context<'_>) -> Result<(), Failure> {
        Ok(())
    }

    /// Drops cached content, since the token service rejected it.
    fn reload(&self) {}
}
