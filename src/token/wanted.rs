//! What token is wanted: for whom, of which tenant, for what, bound to which key. From it follow the
//! cache's key and, where the cache has nothing, the leg that asks the token service.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::authority;
use super::cache::Mode;
use super::error::Error;
use super::key::{CacheKey, KeyBuilder, sha256};
use super::leg::{Grant, Job, Leg, Proof};
use super::session::{Owner, SessionId};
use crate::config::InForce;
use crate::credentials::{Client, managed_identity};
use crate::jwt::Verified;
use crate::options::{AgentUser, Flow};
use crate::secret::Secret;
use crate::value::bound_key::BoundKey;

/// The token of a user who called us: what on-behalf-of presents (RFC 7523 §2.1). Only a verified one can be it.
#[derive(Clone, Copy)]
pub struct UserAssertion<'a> {
    token: &'a str,
    digest: [u8; 32],
    tenant: Option<&'a str>,
    object_id: Option<&'a str>,
}

impl<'a> From<&'a Verified> for UserAssertion<'a> {
    fn from(verified: &'a Verified) -> Self {
        Self {
            token: verified.assertion(),
            digest: *verified.digest(),
            tenant: verified.tenant(),
            object_id: verified.object_id(),
        }
    }
}

#[cfg(test)]
impl<'a> UserAssertion<'a> {
    /// For tests of what comes after the verification.
    pub fn unverified(token: &'a str, tenant: &'a str) -> Self {
        Self { token, digest: super::key::sha256(token.as_bytes()), tenant: Some(tenant), object_id: Some("o1") }
    }
}

/// Whose token is wanted, and how it is acquired.
pub type Subject<'a> = Flow<'a, UserAssertion<'a>, SessionSubject<'a>>;

/// A long-running session and what can renew its token.
#[derive(Clone, Copy)]
pub struct SessionSubject<'a> {
    /// Which.
    pub id: &'a SessionId,
    /// Whose.
    pub owner: &'a Owner,
    /// The agent that it goes through.
    pub agent: Option<&'a str>,
    /// What the user presents, or else what the session has kept.
    pub renewal: Renewal<'a>,
    /// Whether there is no session yet: a token that an earlier one of this key has left in the cache does not make one.
    pub starts: bool,
}

/// What a session's token is had with.
#[derive(Clone, Copy)]
pub enum Renewal<'a> {
    /// The user's own token.
    User(UserAssertion<'a>),
    /// The session's refresh token.
    RefreshToken(&'a Secret<String>),
    /// Nothing: the token service sent no refresh token. What is cached is all there is.
    Nothing,
}

/// One token that is wanted.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Whose registration acquires.
    pub client: &'a Arc<Client>,
    /// For whom.
    pub subject: Subject<'a>,
    /// Asked for by name; `None` follows from the subject and the registration.
    pub tenant: Option<&'a str>,
    /// For what.
    pub scopes: &'a [String],
    /// JSON text of an object.
    pub claims: Option<&'a str>,
    /// Skips what is cached.
    pub force_refresh: bool,
    /// Follows the request to Entra.
    pub correlation_id: &'a str,
    /// Binds the token.
    pub bound_key: Option<&'a BoundKey>,
    /// `fmi_path` of an application's token.
    pub fmi_path: Option<&'a str>,
    /// The B2C policy whose endpoint is asked, instead of the registration's.
    pub user_flow: Option<&'a str>,
    /// Added to the endpoint's URL, over those of the registration.
    pub extra_query: &'a BTreeMap<String, String>,
    /// Headers of the token request.
    pub extra_headers: &'a BTreeMap<String, String>,
}

static NOTHING: BTreeMap<String, String> = BTreeMap::new();

impl<'a> Wanted<'a> {
    /// What the options of a request say. `own_key` is the sidecar's, for tokens that are bound and name no key.
    pub fn new(
        client: &'a Arc<Client>,
        subject: Subject<'a>,
        scopes: &'a [String],
        correlation_id: &'a str,
        own_key: Option<&'a BoundKey>,
        options: &'a InForce<'a>,
    ) -> Self {
        Self {
            tenant: options.tenant,
            claims: options.claims,
            force_refresh: options.force_refresh,
            bound_key: options.pop_public_key.or(own_key.filter(|_| options.pop)),
            // Only a client credentials request has the field.
            fmi_path: options.fmi_path.filter(|_| matches!(subject, Subject::ClientCredentials)),
            user_flow: options.user_flow,
            extra_query: &options.token_query,
            extra_headers: &options.token_headers,
            ..Self::plain(client, subject, scopes, correlation_id)
        }
    }

    /// A token for which nothing is said beyond what every token needs.
    pub fn plain(client: &'a Arc<Client>, subject: Subject<'a>, scopes: &'a [String], correlation_id: &'a str) -> Self {
        Self {
            client,
            subject,
            tenant: None,
            scopes,
            claims: None,
            force_refresh: false,
            correlation_id,
            bound_key: None,
            fmi_path: None,
            user_flow: None,
            extra_query: &NOTHING,
            extra_headers: &NOTHING,
        }
    }

    /// The tenant whose endpoint is asked.
    pub fn tenant(&self) -> &'a str {
        let registration = &self.client.registration;
        match self.subject {
            Subject::ClientCredentials | Subject::AgentAutonomous(_) | Subject::AgentUser(..) => {
                authority::app_tenant(registration, self.tenant)
            }
            // The endpoint on the machine knows one tenant only.
            Subject::ManagedIdentity(_) => "",
            Subject::OnBehalfOf(user) | Subject::AgentOnBehalfOf(_, user) => {
                authority::user_tenant(registration, self.tenant, user.tenant)
            }
            Subject::Session(session) => authority::user_tenant(registration, self.tenant, Some(&session.owner.tenant)),
        }
    }

    /// How the cache is to be used.
    pub fn mode(&self) -> Mode {
        Mode {
            force: self.force_refresh,
            anew: matches!(self.subject, Subject::Session(SessionSubject { starts: true, .. })),
            claims: self.claims.map(|claims| sha256(claims.as_bytes())),
        }
    }

    /// Everything that distinguishes this token from others.
    pub fn key(&self) -> CacheKey {
        let registration = &self.client.registration;
        let authority = registration.authority.as_ref().unwrap_or(&registration.instance);
        let key = KeyBuilder::new("token")
            .text(&registration.section)
            .text(&authority.origin.host)
            .bytes(&authority.origin.port.to_le_bytes())
            .text(authority.base_path())
            .option(self.user_flow.or(registration.policy.as_deref()))
            .text(&registration.client_id)
            .folded(self.tenant())
            .scopes(self.scopes)
            .option(self.bound_key.map(|key| key.kid.as_str()))
            .option(self.fmi_path);
        let key = key.bytes(&self.extra_query.len().to_le_bytes());
        let key = self.extra_query.iter().fold(key, |key, (name, value)| key.text(name).text(value));
        match self.subject {
            Subject::ClientCredentials => key.text("application"),
            Subject::OnBehalfOf(user) => key.text("user").bytes(&user.digest),
            Subject::AgentAutonomous(agent) => key.text("agent").folded(agent),
            Subject::AgentOnBehalfOf(agent, user) => key.text("agent user").folded(agent).bytes(&user.digest),
            Subject::AgentUser(agent, AgentUser::Username(name)) => {
                key.text("agent account by name").folded(agent).folded(name)
            }
            Subject::AgentUser(agent, AgentUser::Id(id)) => key.text("agent account by id").folded(agent).folded(id),
            // With its owner, since the session may be forgotten before its token is.
            Subject::Session(SessionSubject { id, owner, .. }) => key
                .text("session")
                .bytes(id.key().as_bytes())
                .text(&owner.tenant)
                .text(owner.user.parts().0)
                .text(owner.user.parts().1),
            Subject::ManagedIdentity(client_id) => key.text("managed identity").option(client_id),
        }
        .finish()
    }

    /// What asks for it, with everything that it needs to outlive the caller.
    pub fn job(&self) -> Job {
        let on_behalf_of = |user: UserAssertion<'_>| Grant::OnBehalfOf {
            assertion: Secret::new(user.token.to_owned()),
            mailbox: Option::zip(user.object_id, user.tenant).map(|(oid, tid)| format!("oid:{oid}@{tid}")),
        };
        let (agent, grant) = match self.subject {
            Subject::ClientCredentials => (None, Grant::ClientCredentials),
            Subject::OnBehalfOf(user) => (None, on_behalf_of(user)),
            Subject::AgentAutonomous(agent) => (Some(agent), Grant::ClientCredentials),
            Subject::AgentOnBehalfOf(agent, user) => (Some(agent), on_behalf_of(user)),
            Subject::AgentUser(agent, account) => (Some(agent), Grant::AgentUser(account.clone())),
            Subject::Session(SessionSubject { agent, renewal, .. }) => match renewal {
                Renewal::User(user) => (agent, on_behalf_of(user)),
                Renewal::RefreshToken(token) => (agent, Grant::RefreshToken(token.clone())),
                Renewal::Nothing => return Job::Hopeless(Error::NoSession),
            },
            // The machine's endpoint binds no tokens, and a bearer token must not pass for a bound one.
            Subject::ManagedIdentity(_) if self.bound_key.is_some() => {
                return Job::Hopeless(Error::TokenType { expected: "PoP" });
            }
            Subject::ManagedIdentity(client_id) => {
                return Job::ManagedIdentity {
                    client_id: client_id.map(str::to_owned),
                    resource: managed_identity::resource(self.scopes.first().map_or("", String::as_str)).to_owned(),
                    capabilities: self.client.registration.client_capabilities.clone(),
                    correlation_id: self.correlation_id.to_owned(),
                };
            }
        };
        Job::Leg(Box::new(self.leg(agent, grant)))
    }

    fn leg(&self, agent: Option<&str>, grant: Grant) -> Leg {
        let session = match self.subject {
            Subject::Session(session) => Some((*session.id, session.owner.clone())),
            _ => None,
        };
        Leg {
            client: Arc::clone(self.client),
            tenant: self.tenant().to_owned(),
            proof: agent.map_or(Proof::Credentials, |agent| Proof::Agent(agent.to_owned())),
            grant,
            session,
            scopes: self.scopes.to_vec(),
            claims: self.claims.map(str::to_owned),
            correlation_id: self.correlation_id.to_owned(),
            bound_key: self.bound_key.cloned(),
            fmi_path: self.fmi_path.map(str::to_owned),
            user_flow: self.user_flow.map(str::to_owned),
            extra_query: self.extra_query.clone(),
            extra_headers: self.extra_headers.clone(),
        }
    }
}
