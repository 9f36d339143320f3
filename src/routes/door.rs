//! What each way of getting something from the sidecar returns, to whom, and which settings
//! restrict it. Several endpoints, and several grants of one, can share a way.

use super::call::Call;
use super::problem::Problem;
use super::route::Endpoint;
use crate::config::Config;
use crate::options::Overrides;

/// A way to get a token, or an API's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A token for the user whose token is presented.
    UserToken,
    AppToken,
    /// An API's answer, on behalf of the user.
    UserCall,
    /// An API's answer, for the application or an agent.
    AppCall,
}

impl Door {
    /// The way of an endpoint that has only one.
    pub const fn of(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::AuthorizationHeader => Self::UserToken,
            Endpoint::DownstreamApi | Endpoint::Proxy => Self::UserCall,
            Endpoint::DownstreamApiUnauthenticated | Endpoint::ProxyUnauthenticated => Self::AppCall,
            _ => Self::AppToken,
        }
    }

    /// True if the caller has to present a user's token or an app token.
    pub const fn is_authenticated(self) -> bool {
        matches!(self, Self::UserToken | Self::UserCall)
    }

    /// True if the request itself, beyond its options, is passed on to the API.
    pub const fn calls_api(self) -> bool {
        matches!(self, Self::UserCall | Self::AppCall)
    }

    /// Checks that callers may override settings or name an agent.
    ///
    /// # Errors
    /// Names the setting that forbids it.
    pub fn opens_further(self, call: &Call<'_>) -> Result<(), Problem> {
        let rules = &call.service.config.sidecar.allow_overrides;
        let (allowed, setting) = match self {
            Self::UserToken => (rules.authorization_header, "GetAuthorizationHeader"),
            Self::AppToken => (rules.authorization_header_unauthenticated, "GetAuthorizationHeaderUnauthenticated"),
            Self::UserCall => (rules.downstream_api, "CallDownstreamApi"),
            Self::AppCall => (rules.downstream_api_unauthenticated, "CallDownstreamApiUnauthenticated"),
        };
        if allowed {
            return Ok(());
        }
        let detail =
            format!("Overrides and agent parameters are not allowed here: Sidecar:AllowOverrides:{setting} is false");
        Err(Problem::with(403, detail))
    }

    /// Checks that callers may use these overrides.
    ///
    /// # Errors
    /// Names the setting that forbids it.
    pub fn admits(self, call: &Call<'_>, overrides: &Overrides) -> Result<(), Problem> {
        if overrides.is_empty() { Ok(()) } else { self.opens_further(call) }
    }
}

/// True if the operator has switched the endpoint off. It then answers 404 to any method.
pub fn is_shut(endpoint: Endpoint, config: &Config) -> bool {
    match endpoint {
        Endpoint::Metrics => !config.sidecar.metrics,
        Endpoint::OpenApi | Endpoint::Page => !config.is_development(),
        Endpoint::OAuthToken | Endpoint::OAuthIntrospect => !config.sidecar.oauth,
        Endpoint::ForwardAuth => !config.sidecar.forward_auth.enabled,
        Endpoint::Identity => !config.sidecar.identity_endpoint.enabled,
        Endpoint::Proxy | Endpoint::ProxyUnauthenticated => !config.sidecar.proxy,
        _ => false,
    }
}
