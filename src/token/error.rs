//! Errors of token acquisition, grouped by whose fault they are. Only `routes::problem` turns them
//! into HTTP.

use std::fmt;
use std::sync::Arc;

use crate::credentials::CredentialFailure;

/// Cheap to clone: all callers that waited for the same request receive it.
#[derive(Clone, Debug)]
pub enum Error {
    Refused(Arc<TokenError>),
    /// The token service, a managed identity endpoint or a vault is unreachable, fails or
    /// throttles.
    Unavailable(Arc<Unavailable>),
    /// All of the registration's credentials are unusable, for local reasons.
    Credential(Arc<Vec<CredentialFailure>>),
    /// There was no turn to call the upstream in time.
    Busy,
    /// The configuration lacks a setting for this request: which one, and why.
    Configuration(Arc<str>),
    /// The token service sent another token type than requested (RFC 6749 §7.1).
    TokenType {
        expected: &'static str,
    },
    /// There is no such long-running session, or nothing to renew its token with.
    NoSession,
    /// The leader of a shared request left before making it.
    Abandoned,
    /// The leader of a shared request hit a bug in this program.
    Defect,
}

/// An OAuth error (RFC 6749 §5.2) with Entra's additional members.
/// <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenError {
    /// `error`, e.g. `invalid_grant`.
    pub code: String,
    /// The first line of `error_description`, without the request's secrets.
    pub description: String,
    /// For example 65001.
    pub error_codes: Vec<u64>,
    pub suberror: Option<String>,
    /// The challenge that the user must meet, as JSON text.
    pub claims: Option<String>,
    pub correlation_id: Option<String>,
    pub trace_id: Option<String>,
    pub timestamp: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The user: consents, passes another factor, or meets the requested claims.
    User,
    /// The caller: brings a newer token of the user.
    Caller,
    /// The operator: fixes the registration, credential or configuration.
    Operator,
}

/// The user's token, or one derived from it, is expired or revoked.
/// <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>
const TOKEN_SPENT: &[u64] = &[50173, 70008, 500_133, 700_082];

/// Consent (65001, 65004, 90008, 90094) or another factor (same page).
const USER_MUST_ACT: &[u64] = &[50072, 50074, 50076, 50078, 50079, 50158, 65001, 65004, 90008, 90094, 500_121];

/// Values of `suberror` that interaction resolves, from MSAL's list.
const USER_MAY_RESOLVE: &[&str] = &["basic_action", "additional_action", "consent_required", "user_password_expired"];

impl TokenError {
    pub(super) fn weight(&self) -> usize {
        let further = [&self.suberror, &self.claims, &self.correlation_id, &self.trace_id, &self.timestamp];
        let further: usize = further.into_iter().flatten().map(String::len).sum();
        size_of::<Self>()
            + self.code.len()
            + self.description.len()
            + size_of_val(self.error_codes.as_slice())
            + further
    }

    /// A challenge takes precedence: meeting it also yields a new token.
    pub fn remedy(&self) -> Remedy {
        let says = |codes: &[u64]| self.error_codes.iter().any(|code| codes.contains(code));
        let may_resolve =
            || says(USER_MUST_ACT) || self.suberror.as_deref().is_some_and(|sub| USER_MAY_RESOLVE.contains(&sub));
        match self.code.as_str() {
            "interaction_required" | "invalid_grant" if self.claims.is_some() => Remedy::User,
            _ if says(TOKEN_SPENT) => Remedy::Caller,
            "interaction_required" => Remedy::User,
            "invalid_grant" if may_resolve() => Remedy::User,
            _ => Remedy::Operator,
        }
    }

    /// True if signing in again may help the user.
    fn wants_interaction(&self) -> bool {
        matches!(self.code.as_str(), "interaction_required" | "invalid_grant")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// Contains nothing of the request.
    pub cause: String,
    /// Seconds until a retry makes sense, if the upstream said so.
    pub retry_after: Option<u64>,
}

impl From<Unavailable> for Error {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(Arc::new(unavailable))
    }
}

pub const BUSY: &str =
    "waited too long for a turn to call an upstream (Sidecar:Limits:UpstreamCalls, Sidecar:Limits:QueueTimeout)";

impl Error {
    pub fn unavailable(cause: impl Into<String>) -> Self {
        Unavailable { cause: cause.into(), retry_after: None }.into()
    }

    /// Adds the challenge that the request was to meet, if the user must meet one and the token
    /// service named none.
    #[must_use]
    pub fn with_challenge(self, claims: &str) -> Self {
        match self {
            Self::Refused(refusal) if refusal.claims.is_none() && refusal.wants_interaction() => {
                Self::Refused(Arc::new(TokenError { claims: Some(claims.to_owned()), ..(*refusal).clone() }))
            }
            other => other,
        }
    }

    /// Bytes held by an error that is remembered.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Refused(refusal) => refusal.weight(),
            Self::Unavailable(unavailable) => size_of::<Unavailable>() + unavailable.cause.len(),
            _ => 0,
        }
    }

    /// A stable name for logs and metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Unavailable(_) => "unavailable",
            Self::Credential(_) => "invalid_client_credential",
            Self::Busy => "busy",
            Self::Configuration(_) => "configuration",
            Self::TokenType { .. } => "token_type_mismatch",
            Self::NoSession => "no_session",
            Self::Abandoned => "abandoned",
            Self::Defect => "defect",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "the token service refused: {}: {}", refusal.code, refusal.description),
            Self::Unavailable(unavailable) => f.write_str(&unavailable.cause),
            Self::Credential(failures) => {
                f.write_str("no usable client credential")?;
                if failures.is_empty() {
                    f.write_str("; ClientCredentials is empty")?;
                }
                for failure in failures.iter() {
                    write!(f, "; {failure}")?;
                }
                Ok(())
            }
            Self::Busy => f.write_str(BUSY),
            Self::Configuration(text) => f.write_str(text),
            Self::TokenType { expected } => write!(f, "the token service sent a token of another type than {expected}"),
            Self::NoSession => f.write_str("No long-running session for this key"),
            Self::Abandoned => f.write_str("the token request was abandoned"),
            Self::Defect => f.write_str("a bug interrupted the token request"),
        }
    }
}

impl std::error::Error for Error {}
