//! A requested token: its user, tenant, scopes and bound key. Determines the cache key and, on a
//! miss, the job.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::authority;
use super::cache::Mode;
use super::error::Error;
use super::key::{CacheKey, KeyBuilder, KnownRequests};
use super::leg::{Grant, Job, Leg, Proof};
use super::session::{Owner, SessionId};
use crate::config::InForce;
use crate::credentials::Client;
use crate::credentials::managed_identity::IdentityRequest;
use crate::jwt::Verified;
use crate::options::{AgentUser, Flow};
use crate::secret::Secret;
use crate::value::bound_key::BoundKey;
use crate::value::hash::{Digest, sha256};
use crate::value::resource::of_app_scope;

/// The token of a calling user, for on-behalf-of (RFC 7523 §2.1). Always verified.
#[derive(Clone, Copy)]
pub struct UserAssertion<'a> {
    token: &'a str,
    digest: Digest,
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
    /// For tests that start after verification.
    pub fn unverified(token: &'a str, tenant: &'a str) -> Self {
        Self { token, digest: sha256(token), tenant: Some(tenant), object_id: Some("o1") }
    }
}

pub type Subject<'a> = Flow<'a, UserAssertion<'a>, SessionSubject<'a>>;

#[derive(Clone, Copy)]
pub struct SessionSubject<'a> {
    pub id: &'a SessionId,
    pub owner: &'a Owner,
    pub agent: Option<&'a str>,
    /// The user's token, or what the session keeps.
    pub renewal: Renewal<'a>,
    /// True if there is no session yet: a cached token from an earlier session with this key does
    /// not start one.
    pub starts: bool,
    /// The time in which the shared cache was asked for the session.
    pub spent: Duration,
}

#[derive(Clone, Copy)]
pub enum Renewal<'a> {
    User(UserAssertion<'a>),
    RefreshToken(&'a Secret<String>),
    /// There is no refresh token, so only the cached token is left.
    Nothing,
}

#[derive(Clone, Copy)]
pub struct TokenRequest<'a> {
    pub client: &'a Arc<Client>,
    pub subject: Subject<'a>,
    /// Overrides the tenant that follows from subject and registration.
    pub tenant: Option<&'a str>,
    pub scopes: &'a [String],
    /// A JSON object as text.
    pub claims: Option<&'a str>,
    pub force_refresh: bool,
    /// Sent to Entra.
    pub correlation_id: &'a str,
    /// The key that the token is bound to.
    pub bound_key: Option<&'a BoundKey>,
    pub fmi_path: Option<&'a str>,
    /// Overrides the registration's B2C policy.
    pub user_flow: Option<&'a str>,
    /// Parameters for the endpoint's URL; they override the registration's.
    pub extra_query: &'a BTreeMap<String, String>,
    pub extra_headers: &'a BTreeMap<String, String>,
    /// The hashes of requests like this one, if only the user can differ.
    pub known: Option<&'a KnownRequests>,
}

static NOTHING: BTreeMap<String, String> = BTreeMap::new();

impl<'a> TokenRequest<'a> {
    /// Takes the options of a request. `own_key` is the sidecar's key, for bound tokens without a
    /// key in the options.
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
            // Only client credentials requests have this field.
            fmi_path: options.fmi_path.filter(|_| matches!(subject, Subject::ClientCredentials)),
            user_flow: options.user_flow,
            extra_query: &options.token_query,
            extra_headers: &options.token_headers,
            ..Self::plain(client, subject, scopes, correlation_id)
        }
    }

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
            known: None,
        }
    }

    pub fn tenant(&self) -> &'a str {
        let registration = &self.client.registration;
        match self.subject {
            Subject::ClientCredentials | Subject::AgentAutonomous(_) | Subject::AgentUser(..) => {
                authority::app_tenant(registration, self.tenant)
            }
            // The machine's endpoint knows only one tenant.
            Subject::ManagedIdentity(_) => "",
            Subject::OnBehalfOf(user) | Subject::AgentOnBehalfOf(_, user) => {
                authority::user_tenant(registration, self.tenant, user.tenant)
            }
            Subject::Session(session) => authority::user_tenant(registration, self.tenant, Some(&session.owner.tenant)),
        }
    }

    pub fn mode(&self) -> Mode {
        Mode {
            force: self.force_refresh,
            anew: matches!(self.subject, Subject::Session(SessionSubject { starts: true, .. })),
            claims: self.claims.map(sha256),
        }
    }

    /// The part of the time for the shared cache that is over.
    pub const fn spent(&self) -> Duration {
        if let Subject::Session(session) = &self.subject { session.spent } else { Duration::ZERO }
    }

    pub fn key(&self) -> CacheKey {
        let known = self.known.and_then(|known| match self.subject {
            Subject::ClientCredentials | Subject::ManagedIdentity(_) => Some(&known.app),
            Subject::OnBehalfOf(_) => Some(&known.user),
            _ => None,
        });
        let request = known.map_or_else(|| self.digest(), |known| *known.get_or_init(|| self.digest()));
        debug_assert_eq!(request, self.digest(), "only the user differs");
        let user = match &self.subject {
            Subject::OnBehalfOf(user) | Subject::AgentOnBehalfOf(_, user) => Some(user.digest),
            _ => None,
        };
        CacheKey { request, user }
    }

    /// The hash of everything but the user's token.
    fn digest(&self) -> Digest {
        let registration = &self.client.registration;
        let authority = registration.authority.as_ref().unwrap_or(&registration.instance);
        let key = KeyBuilder::new("token")
            .text(&registration.section)
            .text(authority.origin.host())
            .bytes(&authority.origin.port.to_le_bytes())
            .text(authority.base_path())
            .option(self.user_flow.or(registration.policy.as_deref()))
            .text(&registration.client_id);
        let key = match self.subject {
            // The user's own tenant follows from the user's token.
            Subject::OnBehalfOf(_) | Subject::AgentOnBehalfOf(..) => match self.tenant {
                Some(requested) => key.text("requested").folded(requested),
                None => key.text("own"),
            }
            .folded(&registration.tenant),
            _ => key.folded(self.tenant()),
        };
        let key = key.scopes(self.scopes).option(self.bound_key.map(|key| key.kid.as_str())).option(self.fmi_path);
        let key = key.bytes(&self.extra_query.len().to_le_bytes());
        let key = self.extra_query.iter().fold(key, |key, (name, value)| key.text(name).text(value));
        match self.subject {
            Subject::ClientCredentials => key.text("application"),
            Subject::OnBehalfOf(_) => key.text("user"),
            Subject::AgentAutonomous(agent) => key.text("agent").folded(agent),
            Subject::AgentOnBehalfOf(agent, _) => key.text("agent user").folded(agent),
            Subject::AgentUser(agent, AgentUser::Username(name)) => {
                key.text("agent account by name").folded(agent).folded(name)
            }
            Subject::AgentUser(agent, AgentUser::Id(id)) => key.text("agent account by id").folded(agent).folded(id),
            // Includes the owner, since the session may be forgotten before its token.
            Subject::Session(SessionSubject { id, owner, .. }) => key
                .text("session")
                .bytes(id.key())
                .text(&owner.tenant)
                .text(owner.user.parts().0)
                .text(owner.user.parts().1),
            Subject::ManagedIdentity(client_id) => key.text("managed identity").option(client_id),
        }
        .finish()
    }

    /// The work on a cache miss, independent of the caller's lifetime.
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
                Renewal::Nothing => return Job::Impossible(Error::NoSession),
            },
            // The endpoint cannot bind tokens, and a bearer token must not pass for a bound one.
            Subject::ManagedIdentity(_) if self.bound_key.is_some() => {
                return Job::Impossible(Error::TokenType { expected: "PoP" });
            }
            Subject::ManagedIdentity(client_id) => {
                return Job::ManagedIdentity(IdentityRequest {
                    client_id: client_id.map(str::to_owned),
                    resource: of_app_scope(self.scopes.first().map_or("", String::as_str)).to_owned(),
                    capabilities: self.client.registration.client_capabilities.clone(),
                    correlation_id: self.correlation_id.to_owned(),
                });
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
