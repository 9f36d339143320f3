//! Selects the flow that acquires the token, and its scopes (docs/endpoints.md).

use std::borrow::Cow;

use super::{AgentUser, Effective, OptionsError};
use crate::value::resource::{is_bare, is_default_scope};
use crate::value::syntax;

/// The subject of the inbound token. `U` is the credential to act on the user's behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound<U> {
    /// No token was sent, or the endpoint expects none.
    None,
    /// An app token, which has no user.
    AppOnly(U),
    User(U),
}

/// How a token is acquired, and for whom. `U` is the credential to act on the user's behalf. `S` is
/// the session: its key at first, the session itself once found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow<'a, U, S = SessionKey<'a, U>> {
    /// From the platform's managed identity endpoint: for this client id, or system-assigned. Takes
    /// a single scope.
    ManagedIdentity(Option<&'a str>),
    /// The agent's own token, by the agent's client id.
    AgentAutonomous(&'a str),
    AgentUser(&'a str, &'a AgentUser),
    /// A token for the inbound user, through the agent.
    AgentOnBehalfOf(&'a str, U),
    /// The application's own token (RFC 6749 §4.4).
    ClientCredentials,
    /// A token for the inbound user (RFC 7523 §2.1).
    OnBehalfOf(U),
    /// A long-running session, started or used by its user, or used by a caller that knows its key.
    Session(S),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKey<'a, U> {
    pub key: &'a str,
    pub agent: Option<&'a str>,
    /// The calling user. `None`: the caller presents the key alone.
    pub user: Option<U>,
}

impl<'a, U> Flow<'a, U> {
    /// The flow for these options. Unauthenticated endpoints ignore the inbound token.
    pub fn select(effective: &Effective<'a>, authenticated: bool, inbound: Inbound<U>) -> Self {
        let inbound = if authenticated { inbound } else { Inbound::None };
        let options = &effective.options;
        let app = options.request_app_token;
        let agent = effective.agent.map(|agent| agent.identity.as_str());
        let account = effective.agent.and_then(|agent| agent.user.as_ref());
        // A session belongs to a user, so a request for an app token ignores it.
        let session = options.session_key.filter(|_| !app);
        if let Some(identity) = options.managed_identity {
            return Self::ManagedIdentity(identity.client_id.as_deref());
        }
        match (agent, account, inbound, session) {
            (Some(agent), Some(account), ..) => Self::AgentUser(agent, account),
            (agent, _, Inbound::User(user), Some(key)) => Self::Session(SessionKey { key, agent, user: Some(user) }),
            // The caller presents the key alone, so the answer must be the session's token and
            // nothing else.
            (agent, _, Inbound::None, Some(key)) => Self::Session(SessionKey { key, agent, user: None }),
            (Some(agent), None, Inbound::User(user), None) if !app => Self::AgentOnBehalfOf(agent, user),
            (Some(agent), None, ..) => Self::AgentAutonomous(agent),
            (None, _, Inbound::None, None) => Self::ClientCredentials,
            (None, _, Inbound::AppOnly(_) | Inbound::User(_), _) if app => Self::ClientCredentials,
            // An app-only token cannot act on behalf of a user. Entra refuses it, and its error is
            // passed on.
            (None, _, Inbound::AppOnly(user) | Inbound::User(user), _) => Self::OnBehalfOf(user),
        }
    }
}

impl<'a, U, S> Flow<'a, U, S> {
    /// Replaces the session's key by the session that `find` returns.
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

    /// True if the token is an application's, not a user's.
    pub const fn is_app_token(&self) -> bool {
        matches!(self, Self::ManagedIdentity(_) | Self::AgentAutonomous(_) | Self::ClientCredentials)
    }

    /// The scopes to request. An app token needs a single resource and a single tenant, which is
    /// checked.
    pub fn scopes(&self, effective: &Effective<'a>) -> Result<Cow<'a, [String]>, OptionsError> {
        let options = &effective.options;
        if !self.is_app_token() {
            return Ok(Cow::Borrowed(options.scopes));
        }
        if !matches!(self, Self::ManagedIdentity(_)) && options.tenant.is_some_and(syntax::is_meta_tenant) {
            return Err(OptionsError::AppTenant);
        }
        match options.scopes {
            [scope] if is_default_scope(scope) => Ok(Cow::Borrowed(options.scopes)),
            [resource] if is_bare(resource) => Ok(Cow::Owned(vec![format!("{resource}/.default")])),
            _ => Err(OptionsError::AppScope(effective.api.name.clone())),
        }
    }
}

#[cfg(test)]
mod tests;
