//! Why a request's options cannot be used. All of it is the caller's to mend: 400 (`NoBaseUrl` aside).

use std::fmt;

/// What is wrong with the options of a request. The text names the key and what was expected, and repeats no
/// value of the caller's but names, cut and without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The query has more bytes than this.
    QueryTooLong(usize),
    /// The query has more parameters than this.
    TooManyParameters(usize),
    /// A key, or the value of this known one, is not percent-encoded UTF-8.
    Encoding(String),
    /// A key that begins with `optionsOverride.` or `Agent` and does not exist.
    UnknownKey {
        /// As sent.
        key: String,
        /// The known key that was most likely meant.
        nearest: String,
    },
    /// An override in `X-Sidecar-Options` that the request itself expresses.
    NotInHeader {
        /// As sent, after the prefix.
        key: String,
    },
    /// `X-Sidecar-Options` was sent twice.
    TwoHeaders,
    /// An override with a value or name that cannot be.
    Malformed {
        /// As sent, after the prefix.
        key: String,
        /// In words that follow "expected".
        expected: String,
    },
    /// An agent parameter that names nothing.
    AgentParameter {
        /// Which.
        key: &'static str,
        /// In words that follow "expected".
        expected: &'static str,
    },
    /// An agent parameter given twice.
    Repeated(&'static str),
    /// `AgentUsername` or `AgentUserId` without `AgentIdentity`.
    UserWithoutAgent {
        /// Which of them.
        key: &'static str,
    },
    /// Both of them.
    UsernameAndUserId,
    /// `AgentUserId` is no GUID.
    UserIdNotGuid,
    /// An override asks for the application's own token and names a user.
    AppTokenForUser,
    /// Neither the configuration nor the request names a scope.
    NoScopes {
        /// The API's name.
        api: String,
    },
    /// An app token is for one scope that ends in `/.default`.
    AppScope {
        /// The API's name.
        api: String,
    },
    /// An app token of a tenant that is several.
    AppTenant,
    /// The path would leave the base URL. Where it was configured so, the caller cannot mend it but by an override.
    Path(&'static str),
    /// The path of a proxied request could leave the base URL.
    ProxiedPath(&'static str),
    /// An override of `BaseUrl` with an origin that the operator did not name.
    ForeignBaseUrl {
        /// The API's name.
        api: String,
    },
    /// The API has no `BaseUrl` configured: the operator's to mend.
    NoBaseUrl {
        /// The API's name.
        api: String,
    },
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueryTooLong(limit) => write!(f, "The query is longer than {limit} bytes"),
            Self::TooManyParameters(limit) => write!(f, "The query has more than {limit} parameters"),
            Self::Encoding(key) => write!(f, "The query parameter '{}' is not percent-encoded UTF-8", Shown(key)),
            Self::UnknownKey { key, nearest } => {
                write!(f, "{} is unknown; did you mean {nearest}?", Shown(key))
            }
            Self::NotInHeader { key } => write!(
                f,
                "optionsOverride.{}: expected nothing in X-Sidecar-Options, since the request itself says it",
                Shown(key)
            ),
            Self::TwoHeaders => f.write_str("X-Sidecar-Options may be given once only"),
            Self::Malformed { key, expected } => write!(f, "optionsOverride.{}: expected {expected}", Shown(key)),
            Self::AgentParameter { key, expected } => write!(f, "{key}: expected {expected}"),
            Self::Repeated(key) => write!(f, "{key} may be given once only"),
            Self::UserWithoutAgent { key } => write!(f, "{key} requires AgentIdentity to be specified"),
            Self::UsernameAndUserId => f.write_str("AgentUsername and AgentUserId are mutually exclusive"),
            Self::UserIdNotGuid => f.write_str("AgentUserId must be a valid GUID"),
            Self::AppTokenForUser => f.write_str(
                "optionsOverride.RequestAppToken: expected false or nothing together with AgentUsername or AgentUserId",
            ),
            Self::NoScopes { api } => {
                write!(f, "No scopes found for the API '{}' or in optionsOverride", Shown(api))
            }
            Self::AppScope { api } => {
                write!(f, "An app token for the API '{}' needs a single scope that ends in '/.default'", Shown(api))
            }
            Self::AppTenant => f.write_str(
                "AcquireTokenOptions.Tenant: expected a tenant's GUID or domain name, since an app token \
                 is issued by one tenant ('common', 'organizations' and 'consumers' are several)",
            ),
            Self::Path(expected) => write!(f, "RelativePath: expected {expected}"),
            Self::ProxiedPath(expected) => write!(f, "The path behind the service name: expected {expected}"),
            Self::ForeignBaseUrl { api } => write!(
                f,
                "optionsOverride.BaseUrl: expected the origin of the configured BaseUrl or one of \
                 DownstreamApis:{}:AllowedBaseUrls",
                Shown(api)
            ),
            Self::NoBaseUrl { api } => write!(f, "DownstreamApis:{}:BaseUrl is not configured", Shown(api)),
        }
    }
}

impl std::error::Error for Invalid {}

/// A name out of a request, short and harmless enough for a message.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX_SHOWN: usize = 100;
        let clean = |c: char| if c.is_control() { '?' } else { c };
        let mut chars = self.0.chars();
        chars.by_ref().take(MAX_SHOWN).try_for_each(|c| write!(f, "{}", clean(c)))?;
        if chars.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_sent_is_cut_and_cleaned() {
        let text = Invalid::Encoding("a\r\nb".into()).to_string();
        assert_eq!(text, "The query parameter 'a??b' is not percent-encoded UTF-8");
        assert!(Invalid::Encoding("k".repeat(101)).to_string().contains(&format!("{}…'", "k".repeat(100))));
        assert!(Invalid::Encoding("k".repeat(100)).to_string().contains(&format!("'{}'", "k".repeat(100))));
    }

    #[test]
    fn the_sentences_that_callers_match_stay_as_they_are() {
        let no_scopes = Invalid::NoScopes { api: "Graph".into() };
        assert_eq!(no_scopes.to_string(), "No scopes found for the API 'Graph' or in optionsOverride");
        let user = Invalid::UserWithoutAgent { key: "AgentUserId" };
        assert_eq!(user.to_string(), "AgentUserId requires AgentIdentity to be specified");
    }
}
