//! Which flow acquires the token, and for which scopes: contract 6 as one function.

use std::borrow::Cow;

use super::{AgentUser, Effective, Invalid};
use crate::value::resource::{is_bare, is_default_scope};
use crate::value::syntax;

/// Whom an inbound token that was validated speaks for; `U` is what acts for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound<U> {
    /// No token came, or the endpoint expects none.
    None,
    /// An application's own token: there is nobody to act for.
    AppOnly(U),
    /// A user's token.
    User(U),
}

/// How a token is acquired, and whose it is. `U` is what acts for a user, `S` what is known of a session: its key at
/// first, and the session itself once it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow<'a, U, S = SessionKey<'a, U>> {
    /// From the platform, without Entra's token endpoint: the identity of this client id or the system-assigned one. For
    /// a single scope.
    ManagedIdentity(Option<&'a str>),
    /// The agent's own token, by the agent's client id.
    AgentAutonomous(&'a str),
    /// The token of the agent's user account.
    AgentUser(&'a str, &'a AgentUser),
    /// The inbound token's user, through the agent.
    AgentOnBehalfOf(&'a str, U),
    /// The application's own token (RFC 6749 §4.4).
    ClientCredentials,
    /// The inbound token's user (RFC 7523 §2.1).
    OnBehalfOf(U),
    /// A long-running session, started or used by its user, or used by whoever knows its key.
    Session(S),
}

/// What a request says of a long-running session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKey<'a, U> {
    /// Starts or names it.
    pub key: &'a str,
    /// The agent it goes through.
    pub agent: Option<&'a str>,
    /// Its user, where one calls.
    pub user: Option<U>,
}

impl<'a, U> Flow<'a, U> {
    /// The flow for these options. An endpoint that authenticates nobody has no inbound user, whatever was sent.
    pub fn select(effective: &Effective<'a>, authenticated: bool, inbound: Inbound<U>) -> Self {
        let inbound = if authenticated { inbound } else { Inbound::None };
        let options = &effective.options;
        let app = options.request_app_token;
        let agent = effective.agent.map(|agent| agent.identity.as_str());
        let account = effective.agent.and_then(|agent| agent.user.as_ref());
        // A session's token is a user's; whoever asks for the application's own has no use for one.
        let session = options.session_key.filter(|_| !app);
        if let Some(identity) = options.managed_identity {
            return Self::ManagedIdentity(identity.client_id.as_deref());
        }
        match (agent, account, inbound, session) {
            (Some(agent), Some(account), ..) => Self::AgentUser(agent, account),
            (agent, _, Inbound::User(user), Some(key)) => Self::Session(SessionKey { key, agent, user: Some(user) }),
            // A key that is presented alone is never answered with another identity's token.
            (agent, _, Inbound::None, Some(key)) => Self::Session(SessionKey { key, agent, user: None }),
            (Some(agent), None, Inbound::User(user), None) if !app => Self::AgentOnBehalfOf(agent, user),
            (Some(agent), None, ..) => Self::AgentAutonomous(agent),
            (None, _, Inbound::None, None) => Self::ClientCredentials,
            (None, _, Inbound::AppOnly(_) | Inbound::User(_), _) if app => Self::ClientCredentials,
            // Nobody can be acted for with an app-only token; that is for Entra to say.
            (None, _, Inbound::AppOnly(user) | Inbound::User(user), _) => Self::OnBehalfOf(user),
        }
    }
}

impl<'a, U, S> Flow<'a, U, S> {
    /// The same flow, with its session in the place of the session's key.
    pub fn with_session<T, E>(self, find: impl FnOnce(S) -> Result<T, E>) -> Result<Flow<'a, U, T>, E> {
        Ok(match self {
            Self::ManagedIdentity(client_id) => Flow::ManagedIdentity(client_id),
            Self::AgentAutonomous(agent) => Flow::AgentAutonomous(agent),
            Self::AgentUser(agent, account) => Flow::AgentUser(agent, account),
            Self::AgentOnBehalfOf(agent, user) => Flow::AgentOnBehalfOf(agent, user),
            Self::ClientCredentials => Flow::ClientCredentials,
            Self::OnBehalfOf(user) => Flow::OnBehalfOf(user),
            Self::Session(session) => Flow::Session(find(session)?),
        })
    }

    /// Whether the token is an application's, not a user's.
    pub const fn is_app_token(&self) -> bool {
        matches!(self, Self::ManagedIdentity(_) | Self::AgentAutonomous(_) | Self::ClientCredentials)
    }

    /// The scopes to ask for. An app token is for one resource in one tenant, which is checked here.
    pub fn scopes(&self, effective: &Effective<'a>) -> Result<Cow<'a, [String]>, Invalid> {
        let options = &effective.options;
        if !self.is_app_token() {
            return Ok(Cow::Borrowed(options.scopes));
        }
        if !matches!(self, Self::ManagedIdentity(_)) && options.tenant.is_some_and(syntax::is_meta_tenant) {
            return Err(Invalid::AppTenant);
        }
        match options.scopes {
            [scope] if is_default_scope(scope) => Ok(Cow::Borrowed(options.scopes)),
            [resource] if is_bare(resource) => Ok(Cow::Owned(vec![format!("{resource}/.default")])),
            _ => Err(Invalid::AppScope { api: effective.api.name.clone() }),
        }
    }
}

#[cfg(test)]
mod tests;
