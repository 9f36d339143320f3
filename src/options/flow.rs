//! Which flow acquires the token, and for which scopes: contract 6 as one function.

use std::borrow::Cow;

use super::{AgentUser, Effective, Invalid};
use crate::config::ManagedIdentity;
use crate::value::url::is_scheme;
use crate::value::{guid, syntax};

/// The user behind an inbound token that was validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// No token came, or the endpoint expects none.
    None,
    /// An application's own token: there is nobody to act for.
    AppOnly,
    /// A user's token.
    User,
}

/// How the token is acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow<'a> {
    /// From the platform, without Entra's token endpoint.
    ManagedIdentity(&'a ManagedIdentity),
    /// The agent's own token.
    AgentAutonomous {
        /// The agent's client id.
        agent: &'a str,
    },
    /// The token of the agent's user account.
    AgentUser {
        /// The agent's client id.
        agent: &'a str,
        /// Its user.
        user: &'a AgentUser,
    },
    /// The inbound token's user, through the agent.
    AgentOnBehalfOf {
        /// The agent's client id.
        agent: &'a str,
    },
    /// The application's own token (RFC 6749 §4.4).
    ClientCredentials,
    /// The inbound token's user (RFC 7523 §2.1).
    OnBehalfOf,
    /// A long-running session, started or used by its user.
    SessionOnBehalfOf {
        /// Starts or names it.
        key: &'a str,
        /// The agent it goes through.
        agent: Option<&'a str>,
    },
    /// A long-running session, used by whoever knows its key.
    Session {
        /// Names it.
        key: &'a str,
        /// The agent it was started with.
        agent: Option<&'a str>,
    },
}

impl<'a> Flow<'a> {
    /// The flow for these options. An endpoint that authenticates nobody has no inbound user, whatever was sent.
    pub fn select(options: &Effective<'a>, authenticated: bool, inbound: Inbound) -> Self {
        let inbound = if authenticated { inbound } else { Inbound::None };
        let agent = options.agent.map(|agent| agent.identity.as_str());
        let user = options.agent.and_then(|agent| agent.user.as_ref());
        // A session's token is a user's; whoever asks for the application's own has no use for one.
        let session = options.session_key.filter(|_| !options.request_app_token);
        match (options.managed_identity, agent, user, inbound, session) {
            (Some(identity), ..) => Self::ManagedIdentity(identity),
            (None, Some(agent), Some(user), ..) => Self::AgentUser { agent, user },
            (None, agent, _, Inbound::User, Some(key)) => Self::SessionOnBehalfOf { key, agent },
            // A key that is presented alone is never answered with another identity's token.
            (None, agent, _, Inbound::None, Some(key)) => Self::Session { key, agent },
            (None, Some(agent), None, Inbound::User, None) if !options.request_app_token => {
                Self::AgentOnBehalfOf { agent }
            }
            (None, Some(agent), None, ..) => Self::AgentAutonomous { agent },
            (None, None, _, Inbound::None, None) => Self::ClientCredentials,
            (None, None, _, Inbound::AppOnly | Inbound::User, _) if options.request_app_token => {
                Self::ClientCredentials
            }
            // Nobody can be acted for with an app-only token; that is for Entra to say.
            (None, None, _, Inbound::AppOnly | Inbound::User, _) => Self::OnBehalfOf,
        }
    }

    /// Whether the token is an application's, not a user's.
    pub const fn is_app_token(self) -> bool {
        matches!(self, Self::ManagedIdentity(_) | Self::AgentAutonomous { .. } | Self::ClientCredentials)
    }

    /// The scopes to ask for. An app token is for one resource in one tenant, which is checked here.
    pub fn scopes(self, options: &Effective<'a>) -> Result<Cow<'a, [String]>, Invalid> {
        if !self.is_app_token() {
            return Ok(Cow::Borrowed(options.scopes));
        }
        if !matches!(self, Self::ManagedIdentity(_)) && options.tenant.is_some_and(syntax::is_meta_tenant) {
            return Err(Invalid::AppTenant);
        }
        match options.scopes {
            [scope] if is_default_scope(scope) => Ok(Cow::Borrowed(options.scopes)),
            [resource] if is_bare_resource(resource) => Ok(Cow::Owned(vec![format!("{resource}/.default")])),
            _ => Err(Invalid::AppScope { api: options.api.name.clone() }),
        }
    }
}

/// Whether a scope ends in `/.default`, in any case, after the name of a resource.
fn is_default_scope(scope: &str) -> bool {
    const SUFFIX: &str = "/.default";
    scope
        .len()
        .checked_sub(SUFFIX.len())
        .and_then(|at| scope.split_at_checked(at))
        .is_some_and(|(resource, suffix)| !resource.is_empty() && suffix.eq_ignore_ascii_case(SUFFIX))
}

/// Whether a scope is the name of a resource alone: an absolute URI whose path is empty or `/`, or a GUID. The slash
/// stays: the audience of a v1 resource such as Azure Resource Manager ends in it.
fn is_bare_resource(scope: &str) -> bool {
    let uri = scope.split_once("://").is_some_and(|(scheme, rest)| {
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        is_scheme(scheme) && !authority.is_empty() && !authority.contains(['/', '?', '#'])
    });
    uri || (scope.len() == 36 && guid::parse(scope).is_ok())
}

#[cfg(test)]
mod tests;
