//! Why there is no token, grouped by whose fault it is. `routes::problem` alone turns this into HTTP.

use std::fmt;
use std::sync::Arc;

use crate::credentials::CredentialFailure;

/// Why a token could not be had. Cheap to clone: every caller who waited for the same request gets it.
#[derive(Clone, Debug)]
pub enum Error {
    /// The token service refused the request for good.
    Refused(Arc<OAuthRefusal>),
    /// The token service, a managed identity endpoint or a vault cannot be reached, fails or throttles.
    Unavailable(Arc<Unavailable>),
    /// None of the registration's credentials can be used, for local reasons.
    Credential(Arc<Vec<CredentialFailure>>),
    /// No turn to call the upstream came in time.
    Busy,
    /// The configuration lacks something that this request needs; which key, and what for.
    Configuration(Arc<str>),
    /// The token service sent a token of another type than was asked for (RFC 6749 §7.1).
    TokenType {
        /// `Bearer` or `PoP`.
        expected: &'static str,
    },
    /// There is no such long-running session, or it has nothing left to renew its token with.
    NoSession,
    /// Whoever was to make a shared request went away before it was made.
    Abandoned,
    /// The leader of a shared request was lost to a defect of this program.
    Defect,
}

/// An OAuth error (RFC 6749 §5.2) with Entra's additions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OAuthRefusal {
    /// `error`, e.g. `invalid_grant`.
    pub code: String,
    /// The first line of `error_description`, with nothing of the request's secrets in it.
    pub description: String,
    /// `error_codes`, e.g. 65001.
    pub error_codes: Vec<u64>,
    /// `suberror`.
    pub suberror: Option<String>,
    /// `claims`: the challenge that the user has to meet, JSON text.
    pub claims: Option<String>,
    /// `correlation_id`.
    pub correlation_id: Option<String>,
    /// `trace_id`.
    pub trace_id: Option<String>,
    /// `timestamp`.
    pub timestamp: Option<String>,
}

/// Who can do something about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The user: consents, proves more, or meets the claims that are asked for.
    User,
    /// Whoever called: brings a newer token of the user.
    Caller,
    /// Who runs the application: mends its registration, credential or configuration.
    Operator,
}

/// The user's token, or what came of it, is expired or revoked.
/// <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>
const TOKEN_SPENT: &[u64] = &[50173, 70008, 500_133, 700_082];

/// Consent (65001, 65004, 90008, 90094) or a further proof (the same page).
const USER_MUST_ACT: &[u64] = &[50072, 50074, 50076, 50078, 50079, 50158, 65001, 65004, 90008, 90094, 500_121];

/// What `suberror` says of the same: MSAL's list of those that interaction resolves.
const USER_MAY_RESOLVE: &[&str] = &["basic_action", "additional_action", "consent_required", "user_password_expired"];

impl OAuthRefusal {
    /// The bytes that it holds.
    pub(super) fn weight(&self) -> usize {
        let further = [&self.suberror, &self.claims, &self.correlation_id, &self.trace_id, &self.timestamp];
        let further: usize = further.into_iter().flatten().map(String::len).sum();
        size_of::<Self>()
            + self.code.len()
            + self.description.len()
            + size_of_val(self.error_codes.as_slice())
            + further
    }

    /// Who can do something about it. A challenge goes first: meeting it brings a new token as well.
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

    /// Whether signing in again may help the user.
    fn wants_interaction(&self) -> bool {
        matches!(self.code.as_str(), "interaction_required" | "invalid_grant")
    }
}

/// An upstream that did not answer as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// What happened, without any part of the request.
    pub cause: String,
    /// Seconds after which a new attempt makes sense, where the upstream said so.
    pub retry_after: Option<u64>,
}

/// More upstream calls are wanted than may be under way.
pub const BUSY: &str =
    "no turn for an upstream call came in time (Sidecar:Limits:UpstreamCalls, Sidecar:Limits:QueueTimeout)";

impl Error {
    /// An upstream failure without advice on when to come back.
    pub fn unavailable(cause: impl Into<String>) -> Self {
        Self::Unavailable(Arc::new(Unavailable { cause: cause.into(), retry_after: None }))
    }

    /// With the challenge that the request was to meet, where the user has to meet it and the token service
    /// named none of its own.
    #[must_use]
    pub fn with_challenge(self, claims: &str) -> Self {
        match self {
            Self::Refused(refusal) if refusal.claims.is_none() && refusal.wants_interaction() => {
                Self::Refused(Arc::new(OAuthRefusal { claims: Some(claims.to_owned()), ..(*refusal).clone() }))
            }
            other => other,
        }
    }

    /// The bytes that it holds, where it is one that is remembered.
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
                    f.write_str("; ClientCredentials has none")?;
                }
                for failure in failures.iter() {
                    write!(f, "; {failure}")?;
                }
                Ok(())
            }
            Self::Busy => f.write_str(BUSY),
            Self::Configuration(text) => f.write_str(text),
            Self::TokenType { expected } => write!(f, "the token service sent another token type than {expected}"),
            Self::NoSession => f.write_str("No long-running session for this key"),
            Self::Abandoned => f.write_str("the request for the token was given up"),
            Self::Defect => f.write_str("the request for the token met a defect"),
        }
    }
}

impl std::error::Error for Error {}
