//! Why the options of a request cannot be used. All are the caller's fault (400), except
//! `NoBaseUrl`.

use crate::errors::errors;
use crate::value::text::Shown;

errors! {
    /// The text names the key and what was expected. It repeats names that the caller sent, cut and
    /// without control characters, but no values.
    OptionsError {
        QueryTooLong(limit: usize) => "The query is longer than {limit} bytes";
        TooManyParameters(limit: usize) => "The query has more than {limit} parameters";
        /// A key is not percent-encoded UTF-8, or the value of this known key is not.
        Encoding(key: String) => "The query parameter '{}' is not percent-encoded UTF-8", Shown(key);
        /// A key that begins with `optionsOverride.` or `Agent` and is not known: as sent, and the
        /// most similar known one.
        UnknownKey(key: String, nearest: String) => "{} is unknown; did you mean {nearest}?", Shown(key);
        /// An override in `X-Sidecar-Options` that the request itself expresses.
        NotInHeader(key: String) =>
            "optionsOverride.{}: expected nothing in X-Sidecar-Options, since the request itself says it", Shown(key);
        /// An override as sent, without the prefix.
        Malformed(key: String, expected: String) => "optionsOverride.{}: expected {expected}", Shown(key);
        AgentParameter(key: &'static str, expected: &'static str) => "{key}: expected {expected}";
        /// An agent parameter, or `X-Sidecar-Options`, given twice.
        Repeated(key: &'static str) => "{key} may be given once only";
        UserWithoutAgent(key: &'static str) => "{key} requires AgentIdentity to be specified";
        UsernameAndUserId => "AgentUsername and AgentUserId are mutually exclusive";
        UserIdNotGuid => "AgentUserId must be a valid GUID";
        AppTokenForUser =>
            "optionsOverride.RequestAppToken: expected false or nothing together with AgentUsername or AgentUserId";
        NoScopes(api: String) => "No scopes found for the API '{}' or in optionsOverride", Shown(api);
        AppScope(api: String) =>
            "An app token for the API '{}' needs a single scope that ends in '/.default'", Shown(api);
        AppTenant =>
            "AcquireTokenOptions.Tenant: expected a tenant's GUID or domain name, since an app token \
             is issued by one tenant ('common', 'organizations' and 'consumers' are several)";
        /// The path would leave the base URL. A configured path can fail too.
        Path(expected: &'static str) => "RelativePath: expected {expected}";
        /// The path of a proxied request could leave the base URL.
        ProxiedPath(expected: &'static str) => "The path behind the service name: expected {expected}";
        ForeignBaseUrl(api: String) =>
            "optionsOverride.BaseUrl: expected the origin of the configured BaseUrl or one of \
             DownstreamApis:{}:AllowedBaseUrls", Shown(api);
        NoBaseUrl(api: String) => "DownstreamApis:{}:BaseUrl is not configured", Shown(api);
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
