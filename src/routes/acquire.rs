//! From a request to a token: the caller's token, the options in force, the flow, the acquisition.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::authenticate;
use super::call::{AllocatedKey, Call, Halt, Parked};
use super::door::Door;
use super::problem::Problem;
use super::route::Route;
use crate::config::Api;
use crate::credentials::Client;
use crate::http::{Cause, Reply, Resumed};
use crate::jwt::Verified;
use crate::options::{Effective, Flow, Inbound, Overrides, SessionKey, Target, downstream_method};
use crate::secret::Secret;
use crate::token::key::KnownRequests;
use crate::token::session::{self, Owner, SessionId, User};
use crate::token::{
    self, AccessToken, FoundSession, Renewal, SessionSubject, Step, Ticket, TokenRequest, UserAssertion,
};
use crate::turns::Lane;
use crate::value::bound_key::BoundKey;
use crate::value::text::Shown;

/// Added to the longest time that the request being waited for may take.
const PARK_GRACE: Duration = Duration::from_secs(10);

/// The field that tells the caller its generated session key.
pub const SESSION_KEY: &str = "X-Long-Running-Session-Key";

/// What a request asks for, before its options are merged.
pub struct Asked<'a> {
    /// The verified caller. `None` on unauthenticated endpoints, and if no token is required.
    pub caller: Option<Arc<Verified>>,
    pub api: &'a Arc<Api>,
    /// For requests that override nothing. `None` if the API itself depends on the request.
    pub known_requests: Option<&'a KnownRequests>,
    /// The options and agent in the query.
    pub overrides: Cow<'static, Overrides>,
    pub door: Door,
}

/// Reads query, token and name, in this order, and checks that overrides are allowed on this
/// endpoint.
pub fn ask<'a>(call: &Call<'a>, route: &Route<'_>, resumed: Option<&Resumed<Parked>>) -> Result<Asked<'a>, Halt> {
    let overrides = if route.endpoint.is_proxy() {
        Cow::Owned(Overrides::parse_header(&mut call.request.headers.all("x-sidecar-options"))?)
    } else {
        Overrides::of_query(call.request.query)?
    };
    let door = Door::of(route.endpoint);
    let caller = if door.is_authenticated() { authenticate::caller(call, resumed)? } else { None };
    let (api, known_requests) = find_api(call, &route.name)?;
    if route.endpoint.is_proxy() && !api.options.passes_through() {
        return Err(Problem::with(404, format!("Pass-through is off for the API '{}'", api.name)).into());
    }
    door.admits(call, &overrides)?;
    Ok(Asked { caller, api, known_requests: Some(known_requests), overrides, door })
}

/// The API of this name, and what is known of its token requests.
pub fn find_api<'a>(call: &Call<'a>, name: &str) -> Result<(&'a Arc<Api>, &'a KnownRequests), Problem> {
    let unknown = || Problem::with(404, format!("Downstream API '{}' not configured", Shown(name)));
    call.service.api_with_requests(name).ok_or_else(unknown)
}

/// One acquisition, with everything that its token depends on.
pub struct Acquisition<'a> {
    client: &'a Arc<Client>,
    known_requests: Option<&'a KnownRequests>,
    effective: &'a Effective<'a>,
    flow: Flow<'a, UserAssertion<'a>>,
    scopes: Cow<'a, [String]>,
    own_key: &'a BoundKey,
    correlation_id: &'a str,
    door: Door,
    session: Option<Session>,
}

/// The long-running session that the request starts or uses.
struct Session {
    id: SessionId,
    owner: Owner,
    /// The session's refresh token, if the caller presents no token.
    refresh_token: Option<Secret<String>>,
    /// The key that the sidecar generated for the caller.
    allocated: Option<String>,
    /// True if the session does not exist yet.
    starts: bool,
    /// The time in which the shared cache was asked for it.
    spent: Duration,
}

pub struct Destination {
    /// Upper case.
    pub method: Cow<'static, str>,
    pub target: Target,
}

impl<'a> Acquisition<'a> {
    /// Selects the flow and checks what depends on it.
    pub fn new(
        call: &'a Call<'_>,
        asked: &'a Asked<'_>,
        effective: &'a Effective<'a>,
        resumed: Option<&Resumed<Parked>>,
    ) -> Result<Self, Halt> {
        let caller = asked.caller.as_deref();
        let inbound = match caller {
            None => Inbound::None,
            Some(caller) if caller.is_app_only() => Inbound::AppOnly(caller.into()),
            Some(caller) => Inbound::User(caller.into()),
        };
        let flow = Flow::select(effective, asked.door.is_authenticated(), inbound);
        let client = call.service.client(asked.api);
        let scopes = flow.scopes(effective, &client.registration)?;
        let session = match &flow {
            Flow::Session(key) => Some(session(call, client, key, caller, resumed)?),
            _ => None,
        };
        Ok(Self {
            client,
            known_requests: asked.known_requests.filter(|_| asked.overrides.is_empty()),
            effective,
            flow,
            scopes,
            own_key: call.service.signer.bound_key(),
            correlation_id: effective.options.correlation_id.unwrap_or(call.correlation_id),
            door: asked.door,
            session,
        })
    }

    /// The id sent to Entra and to the API.
    pub const fn correlation_id(&self) -> &str {
        self.correlation_id
    }

    /// The downstream call to make. A signed request needs it even if the caller makes the call.
    pub fn target(&self, call: &Call<'_>) -> Result<Destination, Halt> {
        let request = call.request;
        // What else is sent with a question says nothing of the call.
        let has_body = self.door.calls_api() && request.body.length() != Some(0);
        let method = downstream_method(self.effective.options.http_method, request.method.as_str(), has_body);
        Ok(Destination { method: Cow::Owned(method.to_owned()), target: Target::new(self.effective)? })
    }

    /// The token, or the reason to handle the request again later.
    pub fn token(&self, call: &Call<'_>, resumed: Option<Resumed<Parked>>) -> Result<Arc<AccessToken>, Halt> {
        let acquirer = &call.shared.acquirer;
        let ticket: Option<Ticket> = match resumed {
            Some(Resumed { on: Parked::Token(..), cause: Cause::Overdue }) => {
                return Err(token::Error::unavailable("the request for this token did not finish").into());
            }
            Some(Resumed { on: Parked::Token(ticket, _), .. }) => Some(ticket),
            Some(Resumed { on: Parked::Lead(lead, _), .. }) => return Ok(acquirer.lead(&self.wanted(None)?, *lead)?),
            Some(Resumed { on: Parked::Api(token, _) | Parked::Stale(token, _), .. }) => return Ok(token),
            Some(Resumed { on: Parked::Answered(answered), .. }) => return Ok(answered.token),
            _ => None,
        };
        match acquirer.acquire(&self.wanted(None)?, ticket, || call.wake())? {
            Step::Done(token) => Ok(token),
            Step::Lead(lead, lane) => Err(Halt::Call(Parked::Lead(Box::new(lead), self.allocated()), lane)),
            Step::Wait(ticket) => {
                let limits = &call.service.config.limits;
                let limit = limits.token_request_timeout * 2 + limits.queue_timeout + PARK_GRACE;
                Err(Halt::Park(Parked::Token(ticket, self.allocated()), call.shared.clock.instant() + limit))
            }
        }
    }

    /// A token that satisfies a claims challenge of the API. Waits in place, because the API has
    /// been called already. If Entra requires interaction, its error carries a challenge: its own,
    /// else the API's.
    pub fn token_with_claims(&self, call: &Call<'_>, claims: &str) -> Result<Arc<AccessToken>, Halt> {
        log::info!("the API '{}' wants further claims; acquiring a token with them", self.effective.api.name);
        let token = call.shared.acquirer.acquire_in_place(&self.wanted(Some(claims))?);
        Ok(token.map_err(|error| error.with_challenge(claims))?)
    }

    /// The value of `Authorization`: the token itself, or a request to this destination signed with the
    /// sidecar's key.
    pub fn authorization<'t>(
        &self,
        call: &Call<'_>,
        token: &'t AccessToken,
        destination: impl FnOnce() -> Result<Destination, Halt>,
    ) -> Result<Cow<'t, str>, Halt> {
        let options = &self.effective.options;
        if !options.signs_requests() {
            return Ok(Cow::Borrowed(token.authorization()));
        }
        let destination = destination()?;
        // The merge has checked that it is an object.
        let claims = options.pop_claims.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let (method, url) = (&destination.method, destination.target.url());
        let signed = call.service.signer.sign(token.token(), method, url, claims, call.shared.clock.unix());
        let signed = signed.map_err(|_| Problem::with(500, "The request cannot be signed"))?;
        Ok(Cow::Owned(format!("PoP {signed}")))
    }

    /// The session key generated for the caller, kept while the request waits.
    pub fn allocated(&self) -> Option<AllocatedKey> {
        self.session.as_ref()?.allocated.clone()
    }

    pub fn announce(&self, reply: Reply) -> Reply {
        announce(reply, self.session.as_ref().and_then(|session| session.allocated.as_deref()))
    }

    fn wanted<'b>(&'b self, claims: Option<&'b str>) -> Result<TokenRequest<'b>, Halt> {
        let subject = self.flow.with_session(|key| {
            let session = self.session.as_ref().ok_or(token::Error::NoSession)?;
            let renewal = match (key.user, &session.refresh_token) {
                (Some(user), _) => Renewal::User(user),
                (None, Some(token)) => Renewal::RefreshToken(token),
                (None, None) => Renewal::Nothing,
            };
            let Session { id, owner, starts, spent, .. } = session;
            Ok::<_, Halt>(SessionSubject { id, owner, agent: key.agent, renewal, starts: *starts, spent: *spent })
        })?;
        let (scopes, options) = (&self.scopes, &self.effective.options);
        let wanted = TokenRequest::new(self.client, subject, scopes, self.correlation_id, Some(self.own_key), options);
        Ok(TokenRequest { claims: claims.or(wanted.claims), known: self.known_requests, ..wanted })
    }
}

/// Adds a generated session key to an answer.
pub fn announce(reply: Reply, allocated: Option<&str>) -> Reply {
    match allocated {
        Some(key) => reply.header(SESSION_KEY, key),
        None => reply,
    }
}

/// Finds the session of that key, and checks that the caller owns it.
fn session(
    call: &Call<'_>,
    client: &Client,
    named: &SessionKey<'_, UserAssertion<'_>>,
    caller: Option<&Verified>,
    resumed: Option<&Resumed<Parked>>,
) -> Result<Session, Halt> {
    let registration = &client.registration;
    let on = resumed.map(|resumed| &resumed.on);
    // Later in the same request nothing is asked twice.
    let asked = !matches!(on, None | Some(Parked::Keys | Parked::Decryption | Parked::Session));
    let find = |id: &SessionId, is_new: bool| match call.shared.acquirer.find_session(id, asked || is_new) {
        FoundSession::Done(found, spent) => Ok((found, spent)),
        FoundSession::NeedsTurn => {
            let authority = registration.authority.as_ref().unwrap_or(&registration.instance);
            // Most likely the lane that it needs next.
            Err(Halt::Call(Parked::Session, Lane::Origin(Arc::clone(authority.origin.text()))))
        }
    };
    let Some(caller) = caller.filter(|_| named.user.is_some()) else {
        let id = SessionId::new(registration, named.agent, named.key);
        let (found, spent) = find(&id, false)?;
        let found = found.ok_or(token::Error::NoSession)?;
        let (owner, refresh_token) = (found.owner, found.refresh_token);
        return Ok(Session { id, owner, refresh_token, allocated: None, starts: false, spent });
    };
    let allocated = match (named.key, on.and_then(Parked::allocated)) {
        (session::ALLOCATE, Some(key)) => Some(key.clone()),
        (session::ALLOCATE, None) => Some(session::allocate().map_err(|_| Problem::new(500))?),
        _ => None,
    };
    let id = SessionId::new(registration, named.agent, allocated.as_deref().unwrap_or(named.key));
    let user = User::of(caller.object_id(), caller.subject())
        .ok_or_else(|| Problem::with(400, "A token with neither oid nor sub starts no long-running session"))?;
    let owner = Owner { tenant: caller.tenant().unwrap_or_default().to_owned(), user };
    let (found, spent) = find(&id, allocated.is_some())?;
    if found.as_ref().is_some_and(|session| session.owner != owner) {
        return Err(Problem::with(403, "This long-running session belongs to another user").into());
    }
    Ok(Session { id, owner, refresh_token: None, allocated, starts: found.is_none(), spent })
}
