//! What each door gives, to whom, and what the operator may say of it: one place for all of them. A door is a way to
//! something of the sidecar's; several endpoints, and several grants of one, may lead through the same.

use super::call::Call;
use super::problem::Problem;
use super::route::Endpoint;
use crate::config::Config;
use crate::options::Overrides;

/// A way to a token, or to an API's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A token for the user who proves itself by one.
    UserToken,
    /// A token for the application or an agent.
    AppToken,
    /// An API's answer for the user.
    UserCall,
    /// An API's answer for the application or an agent.
    AppCall,
}

impl Door {
    /// The door of an endpoint that has one name for it.
    pub const fn of(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::AuthorizationHeader => Self::UserToken,
            Endpoint::DownstreamApi => Self::UserCall,
            Endpoint::DownstreamApiUnauthenticated => Self::AppCall,
            _ => Self::AppToken,
        }
    }

    /// Whether who comes has to bring a user's token, or an application's own.
    pub const fn is_authenticated(self) -> bool {
        matches!(self, Self::UserToken | Self::UserCall)
    }

    /// Whether what the request is, beside what it asks for, goes on to the API.
    pub const fn calls_api(self) -> bool {
        matches!(self, Self::UserCall | Self::AppCall)
    }

    /// Whether callers may ask for anything but what is configured, agents included.
    ///
    /// # Errors
    /// Which setting says no.
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

    /// Whether callers may have this.
    ///
    /// # Errors
    /// Which setting says no.
    pub fn admits(self, call: &Call<'_>, overrides: &Overrides) -> Result<(), Problem> {
        if overrides.is_empty() { Ok(()) } else { self.opens_further(call) }
    }
}

/// Whether the operator keeps an endpoint shut. It is then not there, whatever the method.
pub fn is_shut(endpoint: Endpoint, config: &Config) -> bool {
    match endpoint {
        Endpoint::Metrics => !config.sidecar.metrics,
        Endpoint::OpenApi => !config.is_development(),
        Endpoint::OAuthToken | Endpoint::OAuthIntrospect => !config.sidecar.oauth,
        _ => false,
    }
}
