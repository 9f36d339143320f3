//! One request to a token endpoint, with the fields of its grant.
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-on-behalf-of-flow>,
//! <https://learn.microsoft.com/entra/agent-id/identity-platform/agent-oauth-protocols>

use std::collections::BTreeMap;
use std::sync::Arc;

use super::claims;
use super::error::Error;
use super::session::{Owner, SessionId};
use crate::credentials::form::Form;
use crate::credentials::managed_identity::IdentityRequest;
use crate::credentials::{Client, ClientAuth};
use crate::options::AgentUser;
use crate::secret::Secret;
use crate::value::bound_key::BoundKey;
use crate::value::syntax;

#[derive(Clone, Debug)]
pub enum Proof {
    /// With the registration's own credentials.
    Credentials,
    /// As this agent identity, with a token that the registration obtains for it.
    Agent(String),
}

#[derive(Debug)]
pub enum Grant {
    /// RFC 6749 §4.4.
    ClientCredentials,
    /// RFC 7523 §2.1 with Entra's `requested_token_use`.
    OnBehalfOf {
        assertion: Secret<String>,
        /// `x-anchormailbox`, a routing hint.
        mailbox: Option<String>,
    },
    /// Entra's grant `user_fic`.
    AgentUser(AgentUser),
    /// RFC 6749 §6.
    RefreshToken(Secret<String>),
}

#[derive(Debug)]
pub enum Job {
    Leg(Box<Leg>),
    ManagedIdentity(IdentityRequest),
    /// No request could yield the token.
    Impossible(Error),
}

impl Job {
    /// For log lines.
    pub fn name(&self) -> &str {
        match self {
            Self::Leg(leg) => &leg.client.registration.section,
            Self::ManagedIdentity(_) => "managed identity",
            Self::Impossible(_) => "cache",
        }
    }
}

#[derive(Debug)]
pub struct Leg {
    pub client: Arc<Client>,
    pub tenant: String,
    pub proof: Proof,
    pub grant: Grant,
    /// The long-running session that keeps the refresh token.
    pub session: Option<(SessionId, Owner)>,
    pub scopes: Vec<String>,
    /// JSON text.
    pub claims: Option<String>,
    /// `client-request-id`.
    pub correlation_id: String,
    /// The key that the token is bound to.
    pub bound_key: Option<BoundKey>,
    /// Only for an application's token.
    pub fmi_path: Option<String>,
    pub user_flow: Option<String>,
    pub extra_query: BTreeMap<String, String>,
    pub extra_headers: BTreeMap<String, String>,
}

impl Leg {
    /// True for an application's token; only those have regional endpoints.
    pub const fn is_app(&self) -> bool {
        matches!(self.grant, Grant::ClientCredentials)
    }

    /// The registration or the agent.
    pub fn client_id(&self) -> &str {
        match &self.proof {
            Proof::Credentials => &self.client.registration.client_id,
            Proof::Agent(agent) => agent,
        }
    }

    /// The form fields. `exchange` is the agent's own exchange token, which the `user_fic` grant
    /// needs.
    pub fn form(&self, auth: &ClientAuth, exchange: Option<&Secret<String>>) -> Form {
        // An agent does not have the capabilities of its blueprint.
        let capabilities = match self.proof {
            Proof::Credentials => &self.client.registration.client_capabilities[..],
            Proof::Agent(_) => &[],
        };
        let form = Form::default()
            .field("client_id", self.client_id())
            .authenticated(auth)
            .field("scope", &self.scope())
            .option("claims", claims::merged(capabilities, self.claims.as_deref()).as_deref());
        let form = match &self.grant {
            Grant::ClientCredentials => form
                .field("client_info", "2")
                .field("grant_type", "client_credentials")
                .option("fmi_path", self.fmi_path.as_deref()),
            Grant::OnBehalfOf { assertion, .. } => form
                .field("client_info", "1")
                .field("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
                .field("assertion", assertion.expose())
                .field("requested_token_use", "on_behalf_of"),
            Grant::RefreshToken(token) => form
                .field("client_info", "1")
                .field("grant_type", "refresh_token")
                .field("refresh_token", token.expose()),
            Grant::AgentUser(account) => {
                let form = form
                    .field("client_info", "1")
                    .field("grant_type", "user_fic")
                    .option("user_federated_identity_credential", exchange.map(|token| token.expose().as_str()));
                match account {
                    AgentUser::Username(name) => form.field("username", name),
                    AgentUser::Id(id) => form.field("user_id", id),
                }
            }
        };
        match &self.bound_key {
            Some(key) => form.field("token_type", "pop").field("req_cnf", &key.req_cnf),
            None => form,
        }
    }

    /// Users' tokens are always requested with the `OpenID` scopes, each once and sorted; an
    /// application's token never is.
    fn scope(&self) -> String {
        let own = self.scopes.iter().filter(|scope| !syntax::is_openid_scope(scope));
        let mut scopes: Vec<&str> = own.map(String::as_str).collect();
        if !self.is_app() {
            scopes.extend(syntax::OPENID_SCOPES);
            scopes.sort_by_key(|scope| scope.to_ascii_lowercase());
            scopes.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
        }
        scopes.join(" ")
    }

    pub fn headers(&self) -> Vec<(String, String)> {
        let mailbox = match &self.grant {
            Grant::ClientCredentials | Grant::RefreshToken(_) => None,
            Grant::OnBehalfOf { mailbox, .. } => mailbox.clone(),
            Grant::AgentUser(AgentUser::Username(name)) => Some(format!("upn:{name}")),
            Grant::AgentUser(AgentUser::Id(id)) => Some(format!("oid:{id}@{}", self.tenant)),
        };
        // A name beyond visible ASCII does not fit in a header, and routing works without it.
        let mailbox = mailbox.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
        let extra = self.extra_headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
        mailbox.map(|mailbox| ("x-anchormailbox".to_owned(), mailbox)).into_iter().chain(extra).collect()
    }
}
