//! Why the options of a request cannot be used. All are the caller's fault (400), except
//! `NoBaseUrl`.

use std::fmt;

use crate::value::text::Shown;

/// The text names the key and what was expected. It repeats names that the caller sent, cut and
/// without control characters, but no values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionsError {
    /// The limit in bytes.
    QueryTooLong(usize),
    TooManyParameters(usize),
    /// A key is not percent-encoded UTF-8, or the value of this known key is not.
    Encoding(String),
    /// A key that begins with `optionsOverride.` or `Agent` and is not known.
    UnknownKey {
        /// As sent.
        key: String,
        nearest: String,
    },
    /// An override in `X-Sidecar-Options` that the request itself expresses.
    NotInHeader(String),
    Malformed {
        /// As sent, without the prefix.
        key: String,
        /// Completes "expected …".
        expected: String,
    },
    AgentParameter {
        key: &'static str,
        /// Completes "expected …".
        expected: &'static str,
    },
    /// An agent parameter, or `X-Sidecar-Options`, given twice.
    Repeated(&'static str),
    /// `AgentUsername` or `AgentUserId` without `AgentIdentity`.
    UserWithoutAgent(&'static str),
    UsernameAndUserId,
    UserIdNotGuid,
    /// An override asks for an app token and names a user.
    AppTokenForUser,
    NoScopes(String),
    /// An app token needs a single scope that ends in `/.default`.
    AppScope(String),
    /// An app token needs a single tenant, not `common` or the like.
    AppTenant,
    /// The path would leave the base URL. A configured path can fail too.
    Path(&'static str),
    /// The path of a proxied request could leave the base URL.
    ProxiedPath(&'static str),
    /// An override of `BaseUrl` with an origin that the operator has not listed.
    ForeignBaseUrl(String),
    /// The API has no `BaseUrl`, which is the operator's fault.
    NoBaseUrl(String),
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueryTooLong(limit) => write!(f, "The query is longer than {limit} bytes"),
            Self::TooManyParameters(limit) => write!(f, "The query has more than {limit} parameters"),
            Self::Encoding(key) => write!(f, "The query parameter '{}' is not percent-encoded UTF-8", Shown(key)),
            Self::UnknownKey { key, nearest } => write!(f, "{} is unknown; did you mean {nearest}?", Shown(key)),
            Self::NotInHeader(key) => write!(
                f,
                "optionsOverride.{}: expected nothing in X-Sidecar-Options, since the request itself says it",
                Shown(key)
            ),
            Self::Malformed { key, expected } => write!(f, "optionsOverride.{}: expected {expected}", Shown(key)),
            Self::AgentParameter { key, expected } => write!(f, "{key}: expected {expected}"),
            Self::Repeated(key) => write!(f, "{key} may be given once only"),
            Self::UserWithoutAgent(key) => write!(f, "{key} requires AgentIdentity to be specified"),
            Self::UsernameAndUserId => f.write_str("AgentUsername and AgentUserId are mutually exclusive"),
            Self::UserIdNotGuid => f.write_str("AgentUserId must be a valid GUID"),
            Self::AppTokenForUser => f.write_str(
                "optionsOverride.RequestAppToken: expected false or nothing together with AgentUsername or AgentUserId",
            ),
            Self::NoScopes(api) => write!(f, "No scopes found for the API '{}' or in optionsOverride", Shown(api)),
            Self::AppScope(api) => {
                write!(f, "An app token for the API '{}' needs a single scope that ends in '/.default'", Shown(api))
            }
            Self::AppTenant => f.write_str(
                "AcquireTokenOptions.Tenant: expected a tenant's GUID or domain name, since an app token \
                 is issued by one tenant ('common', 'organizations' and 'consumers' are several)",
            ),
            Self::Path(expected) => write!(f, "RelativePath: expected {expected}"),
            Self::ProxiedPath(expected) => write!(f, "The path behind the service name: expected {expected}"),
            Self::ForeignBaseUrl(api) => write!(
                f,
                "optionsOverride.BaseUrl: expected the origin of the configured BaseUrl or one of \
                 DownstreamApis:{}:AllowedBaseUrls",
                Shown(api)
            ),
            Self::NoBaseUrl(api) => write!(f, "DownstreamApis:{}:BaseUrl is not configured", Shown(api)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_sent_is_cut_and_cleaned() {
        let text = OptionsError::Encoding("a\r\nb".into()).to_string();
        assert_eq!(text, "The query parameter 'a??b' is not percent-encoded UTF-8");
        assert!(OptionsError::Encoding("k".repeat(101)).to_string().contains(&format!("{}…'", "k".repeat(100))));
        assert!(OptionsError::Encoding("k".repeat(100)).to_string().contains(&format!("'{}'", "k".repeat(100))));
    }

    #[test]
    fn the_sentences_that_callers_match_stay_as_they_are() {
        let no_scopes = OptionsError::NoScopes("Graph".into());
        assert_eq!(no_scopes.to_string(), "No scopes found for the API 'Graph' or in optionsOverride");
        let user = OptionsError::UserWithoutAgent("AgentUserId");
        assert_eq!(user.to_string(), "AgentUserId requires AgentIdentity to be specified");
    }
}
