//! One request to a token endpoint, with the fields of its grant (RFC 6749 §4.4, RFC 7523 §2.1;
//! Microsoft Learn, "OAuth 2.0 On-Behalf-Of flow" and "Agent OAuth protocols").

use std::collections::BTreeMap;
use std::sync::Arc;

use super::claims;
use super::error::Error;
use super::form::Form;
use super::session::{Owner, SessionId};
use crate::credentials::{Client, ClientAuth};
use crate::options::AgentUser;
use crate::secret::Secret;
use crate::value::bound_key::BoundKey;
use crate::value::syntax;

/// How the request proves who asks.
#[derive(Clone, Debug)]
pub enum Proof {
    /// With the registration's own credentials.
    Credentials,
    /// As this agent identity, with a token that the registration obtains for it.
    Agent(String),
}

/// What is asked for.
#[derive(Debug)]
pub enum Grant {
    /// RFC 6749 §4.4.
    ClientCredentials,
    /// RFC 7523 §2.1 with Entra's `requested_token_use`.
    OnBehalfOf {
        /// The user's token.
        assertion: Secret<String>,
        /// `x-anchormailbox`: routing advice.
        mailbox: Option<String>,
    },
    /// `user_fic` (Microsoft Learn, "Agent OAuth protocols").
    AgentUser(AgentUser),
    /// RFC 6749 §6.
    RefreshToken(Secret<String>),
}

/// What has to be done for a token.
#[derive(Debug)]
pub enum Job {
    /// Ask a token endpoint.
    Leg(Box<Leg>),
    /// Ask the machine's managed identity endpoint.
    ManagedIdentity {
        /// `None` is the system-assigned one.
        client_id: Option<String>,
        /// What the token is for.
        resource: String,
        /// `ClientCapabilities` of the registration.
        capabilities: Vec<String>,
        /// Sent along.
        correlation_id: String,
    },
    /// Nothing: there is nobody who could be asked for it.
    Hopeless(Error),
}

impl Job {
    /// Whom a log line about it names.
    pub fn name(&self) -> &str {
        match self {
            Self::Leg(leg) => &leg.client.registration.section,
            Self::ManagedIdentity { .. } => "managed identity",
            Self::Hopeless(_) => "cache",
        }
    }
}

/// One request.
#[derive(Debug)]
pub struct Leg {
    /// Whose registration acquires.
    pub client: Arc<Client>,
    /// Of the endpoint.
    pub tenant: String,
    /// How it proves itself.
    pub proof: Proof,
    /// What it asks for.
    pub grant: Grant,
    /// The long-running session that keeps the refresh token.
    pub session: Option<(SessionId, Owner)>,
    /// For what.
    pub scopes: Vec<String>,
    /// JSON text.
    pub claims: Option<String>,
    /// `client-request-id`.
    pub correlation_id: String,
    /// Binds the token.
    pub bound_key: Option<BoundKey>,
    /// Of an application's token.
    pub fmi_path: Option<String>,
    /// The B2C policy, instead of the registration's.
    pub user_flow: Option<String>,
    /// Of this request.
    pub extra_query: BTreeMap<String, String>,
    /// Of this request.
    pub extra_headers: BTreeMap<String, String>,
}

impl Leg {
    /// Whether the token is an application's, for which alone a regional endpoint answers.
    pub const fn is_app(&self) -> bool {
        matches!(self.grant, Grant::ClientCredentials)
    }

    /// Who asks: the registration, or the agent.
    pub fn client_id(&self) -> &str {
        match &self.proof {
            Proof::Credentials => &self.client.registration.client_id,
            Proof::Agent(agent) => agent,
        }
    }

    /// The fields. `exchange` is the agent's own exchange token, which the `user_fic` grant needs.
    pub fn form(&self, auth: &ClientAuth, exchange: Option<&Secret<String>>) -> Form {
        let form = Form::default().field("client_id", self.client_id());
        let form = match auth {
            ClientAuth::Secret(secret) => form.field("client_secret", secret.expose()),
            ClientAuth::Assertion(assertion) => form
                .field("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
                .field("client_assertion", assertion.expose()),
        };
        // An agent does not have the capabilities of its blueprint.
        let capabilities = match self.proof {
            Proof::Credentials => &self.client.registration.client_capabilities[..],
            Proof::Agent(_) => &[],
        };
        let form = form
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

    /// Users' tokens are asked for together with the `OpenID` scopes, each once, sorted; an application's
    /// token never is.
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

    /// Headers beside the usual ones.
    pub fn headers(&self) -> Vec<(String, String)> {
        let mailbox = match &self.grant {
            Grant::ClientCredentials | Grant::RefreshToken(_) => None,
            Grant::OnBehalfOf { mailbox, .. } => mailbox.clone(),
            Grant::AgentUser(AgentUser::Username(name)) => Some(format!("upn:{name}")),
            Grant::AgentUser(AgentUser::Id(id)) => Some(format!("oid:{id}@{}", self.tenant)),
        };
        // A name that is no visible ASCII cannot stand in a header, and routing works without it.
        let mailbox = mailbox.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
        let extra = self.extra_headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
        mailbox.map(|mailbox| ("x-anchormailbox".to_owned(), mailbox)).into_iter().chain(extra).collect()
    }
}
