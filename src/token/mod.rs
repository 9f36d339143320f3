//! Token acquisition: from the cache, from another caller's request in flight, or from the token
//! service.
//!
//! [`Acquirer::acquire`] never blocks on another caller's request: it returns a [`Ticket`], with
//! which the caller resumes after it is woken. Only the nested legs of an acquisition block.

mod access_token;
pub mod authority;
pub mod cache;
pub mod claims;
mod discovery;
mod endpoint;
mod error;
mod flight;
pub mod key;
mod leg;
mod refresh;
mod region;
mod request;
pub mod session;
#[cfg(feature = "shared-cache")]
mod shared;
#[cfg(not(feature = "shared-cache"))]
#[path = "unshared.rs"]
mod shared;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

pub use crate::credentials::identity::exchange_audience;
pub use access_token::AccessToken;
pub use error::{Error, Remedy, TokenError};
pub use flight::Wake;
pub use request::{Renewal, SessionSubject, Subject, TokenRequest, UserAssertion};
pub use shared::Shared;
#[cfg(feature = "shared-cache")]
pub use shared::SharedFigures;

use crate::clock::Clock;
use crate::config::Limits;
use crate::credentials::form::Form;
use crate::credentials::managed_identity::{IdentityRequest, ManagedIdentities};
use crate::credentials::{Client, ClientAuth, Context, Failure, Identities};
use crate::outbound::Exchange;
use crate::secret::Secret;
use crate::turns::{self, Lane};
use crate::value::percent::encode_query;
use crate::value::url::Url;
pub use cache::Lead;
use cache::{Cache, CacheFigures, Lookup, Mode};
use endpoint::{Post, TokenAnswer, request_token};
use flight::{Flight, Outcome};
use key::CacheKey;
use leg::{Grant, Job, Leg, Proof};
use session::{Session, SessionId, Sessions};
use shared::Answer;

/// Handle for resuming a parked request.
#[derive(Debug)]
pub struct Ticket {
    flight: Arc<Flight>,
    shared: bool,
}

impl Ticket {
    /// The outcome of the awaited request. `None` if it does not apply to this caller, who must
    /// look up again.
    fn outcome(&self) -> Option<Outcome> {
        // A token for other claims does not meet this caller's.
        let outcome = self.flight.outcome().filter(|_| self.shared);
        // The leader left without making the request; the next caller leads.
        outcome.filter(|outcome| !matches!(outcome, Err(Error::Abandoned)))
    }
}

#[derive(Debug)]
pub enum Step {
    Done(Arc<AccessToken>),
    /// Another caller is requesting the same token: resume with the ticket after `wake` was called.
    Wait(Ticket),
    /// The caller leads: it calls [`Acquirer::lead`] once it has a turn on this lane. Others follow
    /// meanwhile.
    Lead(Lead, Lane),
}

#[derive(Debug)]
pub enum FoundSession {
    /// With the time in which the shared cache was asked.
    Done(Option<Session>, Duration),
    /// The request must be handled again once it has a turn.
    NeedsTurn,
}

/// Counts of lookups by outcome, since the start.
#[derive(Debug, Default)]
pub struct Results {
    pub hit: AtomicU64,
    /// Requested from the shared cache or the token service.
    pub miss: AtomicU64,
    /// Answered from another caller's request.
    pub shared: AtomicU64,
    pub refreshed: AtomicU64,
}

/// AADSTS codes that blame the certificate or assertion rather than the application, so that
/// reading it again may help.
/// <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>
const STALE_CREDENTIAL: &[u64] = &[700_027, 700_024, 7_000_214, 1_000_502, 7_000_274, 7_000_277];

/// The longest block on another caller's request for the same token: two attempts and the longest
/// pause between them.
const NESTED_WAIT: Duration = Duration::from_secs(40);

pub struct Acquirer {
    /// Per token request.
    timeout: Duration,
    cache: Arc<Cache>,
    sessions: Sessions,
    /// What other replicas know.
    shared: Option<Shared>,
    exchange: Arc<dyn Exchange>,
    clock: Arc<dyn Clock>,
    machine: ManagedIdentities,
    region: region::Region,
    discovery: discovery::Discovery,
    refresher: refresh::Refresher,
    pub results: Results,
}

/// Renews a token; returns false once the acquirer is gone.
fn renewer(acquirer: &Weak<Acquirer>) -> impl Fn(Job, Lead) -> bool + Send + Sync + 'static {
    let acquirer = Weak::clone(acquirer);
    move |job, lead| {
        let Some(acquirer) = acquirer.upgrade() else { return false };
        if acquirer.run_job(job, lead).is_ok() {
            count(&acquirer.results.refreshed);
        }
        true
    }
}

impl Acquirer {
    /// `environment` reads the variables that locate the managed identity endpoint. `shared` is what
    /// other replicas know.
    pub fn new(
        limits: &Limits,
        exchange: Arc<dyn Exchange>,
        clock: Arc<dyn Clock>,
        environment: impl Fn(&str) -> Option<String>,
        shared: Option<Shared>,
    ) -> Arc<Self> {
        let lifetime = shared.as_ref().map_or(session::LIFETIME, |shared| shared.session_lifetime().as_secs());
        Arc::new_cyclic(|own| Self {
            region: region::Region::new(&environment),
            discovery: discovery::Discovery::default(),
            machine: ManagedIdentities::new(environment, Arc::clone(&exchange), Arc::clone(&clock)),
            timeout: limits.token_request_timeout,
            cache: Cache::new(limits.token_cache_entries, limits.token_cache_bytes),
            sessions: Sessions::new(limits.sessions, limits.token_cache_bytes, lifetime),
            shared,
            exchange,
            clock,
            refresher: refresh::Refresher::start(renewer(own)),
            results: Results::default(),
        })
    }

    /// Returns the token or the next step. `ticket` comes from an earlier call; `wake` is called
    /// only if the caller must wait.
    pub fn acquire(
        &self,
        wanted: &TokenRequest<'_>,
        ticket: Option<Ticket>,
        wake: impl FnOnce() -> Wake,
    ) -> Result<Step, Error> {
        if let Some(outcome) = ticket.and_then(|ticket| ticket.outcome()) {
            count(&self.results.shared);
            return outcome.map(Step::Done);
        }
        match self.cache.look_up(&wanted.key(), &*self.clock, wanted.mode(), wake) {
            Lookup::Hit(token) => {
                count(&self.results.hit);
                Ok(Step::Done(token))
            }
            Lookup::HitAndRefresh(token, lead) => {
                count(&self.results.hit);
                self.refresher.enqueue(wanted.job(), lead);
                Ok(Step::Done(token))
            }
            Lookup::Blocked(error) => Err(error),
            Lookup::Follow(flight, shared) => Ok(Step::Wait(Ticket { flight, shared })),
            Lookup::Lead(mut lead) => {
                count(&self.results.miss);
                lead.spent = wanted.spent();
                let job = wanted.job();
                match self.lane(&job) {
                    Some(lane) if !turns::has(&lane) => Ok(Step::Lead(lead, lane)),
                    _ => self.lead(wanted, lead).map(Step::Done),
                }
            }
        }
    }

    /// Requests the token on behalf of everyone waiting for it. Blocks.
    pub fn lead(&self, wanted: &TokenRequest<'_>, lead: Lead) -> Result<Arc<AccessToken>, Error> {
        self.run_job(wanted.job(), lead)
    }

    /// The lane of a job's first request. `None`: no request.
    fn lane(&self, job: &Job) -> Option<Lane> {
        match job {
            Job::Leg(leg) => Some(Lane::Origin(Arc::clone(self.token_endpoint(leg).origin.text()))),
            Job::ManagedIdentity(_) => Some(Lane::ManagedIdentity),
            // Another replica may have it.
            Job::Impossible(Error::NoSession) if self.shared.is_some() => Some(Shared::lane()),
            Job::Impossible(_) => None,
        }
    }

    /// Like [`Acquirer::acquire`], but blocks, for callers that already have a turn and must not
    /// repeat their work.
    pub fn acquire_in_place(&self, wanted: &TokenRequest<'_>) -> Result<Arc<AccessToken>, Error> {
        let start = self.clock.instant();
        loop {
            match self.cache.look_up(&wanted.key(), &*self.clock, wanted.mode(), || Box::new(|| {})) {
                Lookup::Hit(token) => return Ok(token),
                Lookup::HitAndRefresh(token, lead) => {
                    self.refresher.enqueue(wanted.job(), lead);
                    return Ok(token);
                }
                Lookup::Blocked(error) => return Err(error),
                Lookup::Follow(flight, shared) => {
                    // The other request may need this one's turn.
                    turns::pause();
                    let left = NESTED_WAIT.saturating_sub(self.clock.instant().duration_since(start));
                    if flight.wait(left).is_none() {
                        return Err(Error::unavailable("another request for the same token did not complete"));
                    }
                    if let Some(outcome) = (Ticket { flight, shared }).outcome() {
                        return outcome;
                    }
                }
                Lookup::Lead(lead) => {
                    count(&self.results.miss);
                    return self.lead(wanted, lead);
                }
            }
        }
    }

    fn run_job(&self, mut job: Job, lead: Lead) -> Result<Arc<AccessToken>, Error> {
        let sharing = match &self.shared {
            Some(shared) => match shared.look_up(&mut job, &lead, &self.sessions, &*self.clock) {
                Answer::Found(token) => {
                    let key = *lead.key();
                    let outcome = lead.complete(&*self.clock, Ok(token));
                    self.renew_if_due(&key, job);
                    return outcome;
                }
                Answer::Ask(sharing) => sharing,
            },
            None => None,
        };
        let outcome = match &job {
            Job::Leg(leg) => self.request(leg),
            Job::ManagedIdentity(wanted) => {
                let revoked = lead.revoked().map(|token| token.secret());
                self.machine_token(wanted, revoked.as_ref())
            }
            Job::Impossible(error) => Err(error.clone()),
        };
        if let Err(error) = &outcome {
            log::warn!("{}: failed to acquire a token ({}): {error}", job.name(), error.code());
        }
        if let Some(sharing) = sharing {
            sharing.publish(&lead, &outcome);
        }
        lead.complete(&*self.clock, outcome)
    }

    /// Renews another replica's token that is due: whoever serves it does.
    fn renew_if_due(&self, key: &CacheKey, job: Job) {
        let found = self.cache.look_up(key, &*self.clock, Mode::default(), || Box::new(|| {}));
        if let Lookup::HitAndRefresh(_, lead) = found {
            self.refresher.enqueue(job, lead);
        }
    }

    fn machine_token(
        &self,
        wanted: &IdentityRequest,
        revoked: Option<&Secret<String>>,
    ) -> Result<Arc<AccessToken>, Error> {
        let token = self.machine.token(wanted, revoked).map_err(|failure| match failure {
            Failure::Unavailable(cause) => Error::unavailable(cause),
            // MSAL's error code for a refusal of a managed identity endpoint.
            Failure::Unusable(description) => Error::Refused(Arc::new(TokenError {
                code: "managed_identity_request_failed".to_owned(),
                description,
                ..TokenError::default()
            })),
        })?;
        let header = format!("Bearer {}", token.access_token.expose());
        Ok(Arc::new(AccessToken::new(header, token.expires_at, token.refresh_at)))
    }

    fn request(&self, leg: &Leg) -> Result<Arc<AccessToken>, Error> {
        let outcome = self.attempt(leg);
        let stale = matches!(&outcome, Err(Error::Refused(refusal)) if refusal.code == "invalid_client"
            && refusal.error_codes.iter().any(|code| STALE_CREDENTIAL.contains(code)));
        let answer = if stale {
            log::warn!("{}: Entra rejected the credential; reading it again", leg.client.registration.section);
            leg.client.credentials.reload();
            self.attempt(leg)?
        } else {
            outcome?
        };
        let token = self.accept(leg, &answer)?;
        if let Some((id, owner)) = &leg.session {
            self.sessions.renew(id, owner, answer.refresh_token, self.clock.unix());
        }
        Ok(token)
    }

    fn attempt(&self, leg: &Leg) -> Result<TokenAnswer, Error> {
        let registration = &leg.client.registration;
        if registration.client_id.is_empty() {
            return Err(Error::Configuration(format!("{}:ClientId is not configured", registration.section).into()));
        }
        let discovered = self.discovery.ask(registration, &*self.exchange, self.timeout)?;
        let mut url = discovered.unwrap_or_else(|| self.token_endpoint(leg));
        // The assertion's audience is the endpoint without extra query parameters.
        let audience = url.to_string();
        let mut query = registration.extra_query.clone();
        query.extend(leg.extra_query.iter().map(|(name, value)| (name.clone(), value.clone())));
        url.query = encode_query(&query).or(url.query);
        let post =
            Post { url: &url, correlation_id: &leg.correlation_id, headers: leg.headers(), timeout: self.timeout };
        request_token(&*self.exchange, &*self.clock, &post, &|| self.form(leg, &audience))
    }

    /// The token endpoint, as far as known without a request.
    fn token_endpoint(&self, leg: &Leg) -> Url {
        let registration = &leg.client.registration;
        if let Some(discovered) = self.discovery.known(registration) {
            return discovered;
        }
        let region = registration.azure_region.as_deref().filter(|_| leg.is_app());
        let region = region.and_then(|region| authority::region(region, self.region.name()));
        let of_flow = leg.user_flow.as_deref().map(|flow| registration.with_policy(flow));
        authority::token_endpoint(of_flow.as_ref().unwrap_or(registration), &leg.tenant, region.as_deref())
    }

    /// Builds the form for one attempt. Each attempt has its own proof: an assertion that arrived
    /// counts as used, even if its answer was lost.
    fn form(&self, leg: &Leg, audience: &str) -> Result<Form, Error> {
        match &leg.proof {
            Proof::Credentials => Ok(leg.form(&self.authenticate(leg, audience)?, None)),
            Proof::Agent(agent) => {
                // The registration's token for the agent is the agent's client assertion.
                let of_blueprint = self.exchange_token(leg, Subject::ClientCredentials, Some(agent))?;
                let proof = ClientAuth::Assertion(of_blueprint);
                let exchange = match &leg.grant {
                    Grant::AgentUser(_) => Some(self.exchange_token(leg, Subject::AgentAutonomous(agent), None)?),
                    _ => None,
                };
                Ok(leg.form(&proof, exchange.as_ref()))
            }
        }
    }

    fn authenticate(&self, leg: &Leg, audience: &str) -> Result<ClientAuth, Error> {
        let registration = &leg.client.registration;
        if leg.client.credentials.is_empty() {
            return Err(Error::Credential(Arc::new(Vec::new())));
        }
        let context = Context {
            audience,
            registration,
            clock: &*self.clock,
            exchange: &*self.exchange,
            identities: &self.identities(&leg.client, &leg.correlation_id),
            correlation_id: &leg.correlation_id,
        };
        leg.client.credentials.authenticate(&context).map_err(|failures| {
            let waiting = failures.iter().find(|failure| matches!(failure.failure, Failure::Unavailable(_)));
            // If a credential may recover by itself, the caller is told to retry.
            match waiting {
                Some(failure) => Error::unavailable(failure.to_string()),
                None => Error::Credential(Arc::new(failures)),
            }
        })
    }

    /// Acquires the tokens that agents authenticate with.
    /// <https://learn.microsoft.com/entra/agent-id/identity-platform/agent-oauth-protocols>
    fn exchange_token(&self, leg: &Leg, subject: Subject<'_>, fmi_path: Option<&str>) -> Result<Secret<String>, Error> {
        let host = leg.client.registration.instance.origin.host();
        let scopes = [format!("{}/.default", exchange_audience(host))];
        let wanted = TokenRequest {
            tenant: Some(&leg.tenant),
            fmi_path,
            user_flow: leg.user_flow.as_deref(),
            ..TokenRequest::plain(&leg.client, subject, &scopes, &leg.correlation_id)
        };
        Ok(self.acquire_in_place(&wanted)?.secret())
    }

    /// Rejects another token type than requested, or an unbound token would pass as bound.
    fn accept(&self, leg: &Leg, answer: &TokenAnswer) -> Result<Arc<AccessToken>, Error> {
        let expected = if leg.bound_key.is_some() { "PoP" } else { "Bearer" };
        if !answer.token_type.eq_ignore_ascii_case(expected) {
            return Err(Error::TokenType { expected });
        }
        let now = self.clock.unix();
        let header = format!("{expected} {}", answer.access_token.expose());
        let refresh_at = answer.refresh_in.map(|seconds| now.saturating_add(seconds));
        Ok(Arc::new(AccessToken::new(header, now.saturating_add(answer.expires_in), refresh_at)))
    }

    /// The machine's identity, for credentials of this client that need its tokens.
    pub fn identities<'a>(&'a self, client: &'a Arc<Client>, correlation_id: &'a str) -> impl Identities + 'a {
        MachineIdentity { acquirer: self, client, correlation_id }
    }

    /// Detects the region in the background, if a registration wants that.
    pub fn find_region<'a>(&self, mut clients: impl Iterator<Item = &'a Arc<Client>>) {
        if clients.any(|client| client.registration.azure_region.as_deref().is_some_and(authority::is_detected)) {
            self.region.find(&self.exchange);
        }
    }

    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Finds a long-running session. In memory at once; what other replicas know takes a turn, unless
    /// the request has `asked` already.
    pub fn find_session(&self, id: &SessionId, asked: bool) -> FoundSession {
        let now = self.clock.unix();
        let found = self.sessions.find(id, now);
        let known = found.as_ref().is_some_and(|session| !self.sessions.is_due(session, now));
        match &self.shared {
            Some(shared) if !known && !asked && shared.is_asked() => {
                if !turns::may_block() {
                    return FoundSession::NeedsTurn;
                }
                let spent = shared.find_session(id, &self.sessions, now);
                FoundSession::Done(self.sessions.find(id, now).or(found), spent)
            }
            _ => FoundSession::Done(found, Duration::ZERO),
        }
    }

    #[cfg(feature = "shared-cache")]
    pub fn shared_figures(&self) -> Option<&SharedFigures> {
        self.shared.as_ref().map(Shared::figures)
    }

    pub fn figures(&self) -> CacheFigures {
        self.cache.figures(&*self.clock)
    }

    /// Forgets refusals and discovered endpoints, for a new configuration.
    pub fn forget_refusals(&self) {
        self.cache.forget_refusals();
        self.discovery.clear();
    }
}

/// The machine's identity, for a credential of this client. Its tokens are cached like any other.
struct MachineIdentity<'a> {
    acquirer: &'a Acquirer,
    client: &'a Arc<Client>,
    correlation_id: &'a str,
}

impl Identities for MachineIdentity<'_> {
    fn managed_identity(&self, client_id: Option<&str>, resource: &str) -> Result<Secret<String>, Failure> {
        let scopes = [format!("{resource}/.default")];
        let wanted =
            TokenRequest::plain(self.client, Subject::ManagedIdentity(client_id), &scopes, self.correlation_id);
        match self.acquirer.acquire_in_place(&wanted) {
            Ok(token) => Ok(token.secret()),
            Err(Error::Refused(refusal)) => Err(Failure::Unusable(refusal.description.clone())),
            Err(error) => Err(Failure::Unavailable(error.to_string())),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
pub(crate) mod tests;
