//! From a request to a token: the caller's proof, the options in force, the flow, the acquisition.

use std::sync::Arc;
use std::time::Duration;

use super::authenticate;
use super::problem::Problem;
use super::route::{Endpoint, Route};
use super::{Call, Halt, Parked};
use crate::config::Api;
use crate::credentials::Client;
use crate::http::Resumed;
use crate::jwt::Verified;
use crate::options::{Effective, Flow, Inbound, Overrides};
use crate::token::{self, AccessToken, BoundKey, Step, Subject, Ticket, UserAssertion, Wanted};

/// Beyond what the request that is waited for may take at most.
const PARK_GRACE: Duration = Duration::from_secs(10);

/// What a request asks for, before options are merged.
pub struct Asked<'a> {
    /// The verified caller, where there is one.
    pub caller: Option<Arc<Verified>>,
    /// The API.
    pub api: &'a Arc<Api>,
    /// What the query says.
    pub overrides: Overrides,
}

/// Reads query, token and name, in this order, and checks that overrides are allowed here.
pub fn ask<'a>(call: &Call<'a>, route: &Route<'_>, resumed: Option<&Resumed<Parked>>) -> Result<Asked<'a>, Halt> {
    let overrides = Overrides::parse(call.request.query)?;
    let caller =
        if route.endpoint.is_authenticated() { authenticate::caller(call, resumed)? } else { None };
    let api = call.service.api(&route.name).ok_or_else(|| unknown_api(&route.name))?;
    if !overrides.is_empty() {
        let (allowed, setting) = override_rule(call, route.endpoint);
        if !allowed {
            let detail = format!("Overrides and agent parameters are not allowed here: Sidecar:AllowOverrides:{setting} is false");
            return Err(Problem::with(403, detail).into());
        }
    }
    Ok(Asked { caller, api, overrides })
}

fn unknown_api(name: &str) -> Problem {
    const SHOWN: usize = 100;
    let name: String = name.chars().take(SHOWN).map(|c| if c.is_control() { '?' } else { c }).collect();
    Problem::with(404, format!("Downstream API '{name}' not configured"))
}

const fn override_rule(call: &Call<'_>, endpoint: Endpoint) -> (bool, &'static str) {
    let rules = &call.service.config.sidecar.allow_overrides;
    match endpoint {
        Endpoint::AuthorizationHeader => (rules.authorization_header, "GetAuthorizationHeader"),
        Endpoint::AuthorizationHeaderUnauthenticated => {
            (rules.authorization_header_unauthenticated, "GetAuthorizationHeaderUnauthenticated")
        }
        Endpoint::DownstreamApi => (rules.downstream_api, "CallDownstreamApi"),
        _ => (rules.downstream_api_unauthenticated, "CallDownstreamApiUnauthenticated"),
    }
}

/// One acquisition, with everything that its token depends on.
pub struct Acquisition<'a> {
    client: &'a Arc<Client>,
    effective: &'a Effective<'a>,
    flow: Flow<'a>,
    scopes: std::borrow::Cow<'a, [String]>,
    bound_key: Option<BoundKey>,
    caller: Option<&'a Verified>,
    correlation_id: &'a str,
}

impl<'a> Acquisition<'a> {
    /// Chooses the flow and checks what only the flow can tell.
    pub fn new(call: &'a Call<'_>, asked: &'a Asked<'_>, effective: &'a Effective<'a>, authenticated: bool) -> Result<Self, Halt> {
        let inbound = match &asked.caller {
            None => Inbound::None,
            Some(caller) if caller.is_app_only() => Inbound::AppOnly,
            Some(_) => Inbound::User,
        };
        let flow = Flow::select(effective, authenticated, inbound);
        let bound_key = match effective.pop_public_key {
            Some(text) => Some(BoundKey::parse(text).map_err(|expected| {
                Problem::with(400, format!("optionsOverride.AcquireTokenOptions.PopPublicKey: expected {expected}"))
            })?),
            None => None,
        };
        Ok(Self {
            client: call.service.client(asked.api),
            effective,
            flow,
            scopes: flow.scopes(effective)?,
            bound_key,
            caller: asked.caller.as_deref(),
            correlation_id: effective.correlation_id.unwrap_or(call.correlation_id),
        })
    }

    /// The id that goes to Entra and to the API.
    pub const fn correlation_id(&self) -> &str {
        self.correlation_id
    }

    /// The token, or the reason to come back later.
    pub fn token(&self, call: &Call<'_>, resumed: Option<Resumed<Parked>>) -> Result<Arc<AccessToken>, Halt> {
        let ticket: Option<Ticket> = match resumed {
            Some(Resumed { on: Parked::Token(_), overdue: true }) => {
                return Err(token::Error::unavailable("the request that was waited for did not end").into());
            }
            Some(Resumed { on: Parked::Token(ticket), .. }) => Some(ticket),
            _ => None,
        };
        match call.shared.acquirer.acquire(&self.wanted(None)?, ticket, || call.wake())? {
            Step::Done(token) => Ok(token),
            Step::Wait(ticket) => {
                let limit = call.service.config.limits.token_request_timeout * 2 + PARK_GRACE;
                Err(Halt::Park(Parked::Token(ticket), call.shared.clock.instant() + limit))
            }
        }
    }

    /// A token that meets a challenge of the API. Waits in place, since the API was called already.
    pub fn token_with_claims(&self, call: &Call<'_>, claims: &str) -> Result<Arc<AccessToken>, Halt> {
        Ok(call.shared.acquirer.acquire_in_place(&self.wanted(Some(claims))?)?)
    }

    fn wanted<'b>(&'b self, claims: Option<&'b str>) -> Result<Wanted<'b>, Halt> {
        Ok(Wanted {
            client: self.client,
            subject: self.subject()?,
            tenant: self.effective.tenant,
            scopes: &self.scopes,
            claims: claims.or(self.effective.claims),
            force_refresh: self.effective.force_refresh,
            correlation_id: self.correlation_id,
            bound_key: self.bound_key.as_ref(),
            fmi_path: self.effective.fmi_path.filter(|_| matches!(self.flow, Flow::ClientCredentials)),
            extra_query: &self.effective.token_query,
            extra_headers: self.effective.token_headers,
        })
    }

    fn subject(&self) -> Result<Subject<'_>, Halt> {
        let user = || self.caller.map(UserAssertion::from).ok_or_else(|| Halt::from(Problem::new(500)));
        Ok(match self.flow {
            Flow::ClientCredentials => Subject::Application,
            Flow::OnBehalfOf => Subject::User(user()?),
            Flow::AgentAutonomous { agent } => Subject::Agent(agent),
            Flow::AgentOnBehalfOf { agent } => Subject::AgentOnBehalfOf(agent, user()?),
            Flow::AgentUser { agent, user } => Subject::AgentUser(agent, user),
            Flow::ManagedIdentity(_) | Flow::SessionOnBehalfOf { .. } | Flow::Session { .. } => {
                return Err(Problem::with(501, "This flow is not supported yet").into());
            }
        })
    }
}
