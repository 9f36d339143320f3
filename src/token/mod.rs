//! Token acquisition: from the cache, else from whoever is asking already, else from the token service.
//!
//! [`Acquirer::acquire`] never blocks on another caller's request: it returns a [`Ticket`], with which
//! the caller comes back when it has been woken. Only the legs inside one acquisition wait in place.

mod access_token;
pub mod authority;
pub mod cache;
pub mod claims;
mod discovery;
mod endpoint;
mod error;
mod flight;
mod form;
pub mod key;
mod leg;
mod refresh;
mod region;
pub mod session;
mod wanted;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

pub use crate::credentials::cloud::exchange_audience;
pub use access_token::AccessToken;
pub use error::{Error, OAuthRefusal, Remedy, Unavailable};
pub use flight::Wake;
pub use wanted::{Renewal, SessionSubject, Subject, UserAssertion, Wanted};

use crate::clock::Clock;
use crate::credentials::managed_identity::{self, ManagedIdentities};
use crate::credentials::{Client, ClientAuth, Context, Failure, Identities};
use crate::outbound::Exchange;
use crate::secret::Secret;
use crate::turns::{self, Lane};
use crate::value::percent::encode_component;
use crate::value::url::Url;
pub use cache::Lead;
use cache::{Cache, CacheFigures, Lookup};
use endpoint::{Post, TokenAnswer, request_token};
use flight::{Flight, Outcome};
use form::Form;
use leg::{Grant, Job, Leg, Proof};
use session::Sessions;

/// What the acquirer is told.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Of each token request.
    pub timeout: Duration,
    /// Cached tokens.
    pub entries: usize,
    /// Bytes of cached tokens.
    pub bytes: usize,
    /// Long-running sessions.
    pub sessions: usize,
}

/// Where to come back with.
#[derive(Debug)]
pub struct Ticket {
    flight: Arc<Flight>,
    shared: bool,
}

impl Ticket {
    /// What the request that was waited for brought. `None`: nothing for this caller, who looks again.
    fn outcome(&self) -> Option<Outcome> {
        // A token that was asked for with other claims does not meet these.
        let outcome = self.flight.outcome().filter(|_| self.shared);
        // Whoever was to ask did not: the next one does.
        outcome.filter(|outcome| !matches!(outcome, Err(Error::Abandoned)))
    }
}

/// How far an acquisition has come.
#[derive(Debug)]
pub enum Step {
    /// Here it is.
    Done(Arc<AccessToken>),
    /// Somebody is asking for the same: come back with the ticket when `wake` was called.
    Wait(Ticket),
    /// The caller is to ask, with [`Acquirer::lead`], once it has a turn on this lane. Others wait for it meanwhile.
    Lead(Lead, Lane),
}

/// How look-ups ended, since the start.
#[derive(Debug, Default)]
pub struct Results {
    /// Served from the cache.
    pub hit: AtomicU64,
    /// Asked of the token service.
    pub miss: AtomicU64,
    /// Answered from another caller's request.
    pub shared: AtomicU64,
    /// Renewed in the background.
    pub refreshed: AtomicU64,
}

/// AADSTS numbers that tell that the certificate or assertion, not the application, is wrong: a freshly
/// loaded one may do (Microsoft Learn, "Microsoft Entra authentication and authorization error codes").
const STALE_CREDENTIAL: &[u64] = &[700_027, 700_024, 7_000_214, 1_000_502, 7_000_274, 7_000_277];

/// How long is waited in place for another caller's request for the same token, at most: two attempts and the
/// longest pause between them.
const NESTED_WAIT: Duration = Duration::from_secs(40);

/// Acquires tokens.
pub struct Acquirer {
    settings: Settings,
    cache: Arc<Cache>,
    sessions: Sessions,
    exchange: Arc<dyn Exchange>,
    clock: Arc<dyn Clock>,
    machine: ManagedIdentities,
    region: region::Region,
    discovery: discovery::Discovery,
    refresher: refresh::Refresher,
    /// For the metrics.
    pub results: Results,
}

/// Renews a token, and says whether there is still an acquirer to do so.
fn renewer(acquirer: &Weak<Acquirer>) -> impl Fn(&Job, Lead) -> bool + Send + Sync + 'static {
    let acquirer = Weak::clone(acquirer);
    move |job, lead| {
        let Some(acquirer) = acquirer.upgrade() else { return false };
        if acquirer.fly(job, lead).is_ok() {
            count(&acquirer.results.refreshed);
        }
        true
    }
}

impl Acquirer {
    /// An acquirer with an empty cache. `environment` tells where the machine's managed identity endpoint is.
    pub fn new(
        settings: Settings,
        exchange: Arc<dyn Exchange>,
        clock: Arc<dyn Clock>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            region: region::Region::new(&environment),
            discovery: discovery::Discovery::default(),
            machine: ManagedIdentities::new(environment, Arc::clone(&exchange), Arc::clone(&clock)),
            settings,
            cache: Cache::new(settings.entries, settings.bytes),
            sessions: Sessions::new(settings.sessions, settings.bytes),
            exchange,
            clock,
            refresher: refresh::Refresher::start(renewer(own)),
            results: Results::default(),
        })
    }

    /// The token, or when to come back. `ticket` is what an earlier call returned; `wake` is made and kept
    /// only where the caller has to wait.
    pub fn acquire(
        &self,
        wanted: &Wanted<'_>,
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
            Lookup::Lead(lead) => {
                count(&self.results.miss);
                let job = wanted.job();
                match self.lane(&job) {
                    Some(lane) if !turns::has(&lane) => Ok(Step::Lead(lead, lane)),
                    _ => self.fly(&job, lead).map(Step::Done),
                }
            }
        }
    }

    /// Asks for the token, for everybody who waits for it. Blocks.
    pub fn lead(&self, wanted: &Wanted<'_>, lead: Lead) -> Result<Arc<AccessToken>, Error> {
        self.fly(&wanted.job(), lead)
    }

    /// Whom a job asks first. `None`: nobody.
    fn lane(&self, job: &Job) -> Option<Lane> {
        match job {
            Job::Leg(leg) => Some(Lane::of_url(&self.token_endpoint(leg).to_string())),
            Job::ManagedIdentity { .. } => Some(Lane::ManagedIdentity),
            Job::Hopeless(_) => None,
        }
    }

    /// Like [`Acquirer::acquire`], but waits in place: for callers who have a turn already and have done something
    /// that must not be done twice.
    pub fn acquire_in_place(&self, wanted: &Wanted<'_>) -> Result<Arc<AccessToken>, Error> {
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
                    // The other request may need the turn that this one has.
                    turns::pause();
                    let left = NESTED_WAIT.saturating_sub(self.clock.instant().duration_since(start));
                    if flight.wait(left).is_none() {
                        return Err(Error::unavailable("another request for the same token did not end"));
                    }
                    if let Some(outcome) = (Ticket { flight, shared }).outcome() {
                        return outcome;
                    }
                }
                Lookup::Lead(lead) => {
                    count(&self.results.miss);
                    return self.fly(&wanted.job(), lead);
                }
            }
        }
    }

    /// Does what is to be done and ends its flight.
    fn fly(&self, job: &Job, lead: Lead) -> Result<Arc<AccessToken>, Error> {
        let outcome = match job {
            Job::Leg(leg) => self.request(leg),
            Job::ManagedIdentity { client_id, resource, capabilities, correlation_id } => {
                let revoked = lead.revoked().map(|token| Secret::new(token.token().to_owned()));
                self.machine_token(&managed_identity::Request {
                    client_id: client_id.as_deref(),
                    resource,
                    capabilities,
                    revoked: revoked.as_ref(),
                    correlation_id,
                })
            }
            Job::Hopeless(error) => Err(error.clone()),
        };
        if let Err(error) = &outcome {
            log::warn!("{}: no token ({}): {error}", job.name(), error.code());
        }
        lead.land(&*self.clock, outcome)
    }

    fn machine_token(&self, wanted: &managed_identity::Request<'_>) -> Result<Arc<AccessToken>, Error> {
        let token = self.machine.token(wanted).map_err(|failure| match failure {
            Failure::Unavailable(cause) => Error::unavailable(cause),
            // The original's name for a refusal of such an endpoint.
            Failure::Unusable(description) => Error::Refused(Arc::new(OAuthRefusal {
                code: "managed_identity_request_failed".to_owned(),
                description,
                ..OAuthRefusal::default()
            })),
        })?;
        Ok(Arc::new(AccessToken {
            header: Secret::new(format!("Bearer {}", token.access_token.expose())),
            expires_at: token.expires_at,
            refresh_at: token.refresh_at,
        }))
    }

    fn request(&self, leg: &Leg) -> Result<Arc<AccessToken>, Error> {
        let outcome = self.attempt(leg);
        let stale = matches!(&outcome, Err(Error::Refused(refusal)) if refusal.code == "invalid_client"
            && refusal.error_codes.iter().any(|code| STALE_CREDENTIAL.contains(code)));
        let answer = if stale {
            log::warn!("{}: the credential was refused; reading it again", leg.client.registration.section);
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

    /// One request with its retry.
    fn attempt(&self, leg: &Leg) -> Result<TokenAnswer, Error> {
        let registration = &leg.client.registration;
        if registration.client_id.is_empty() {
            return Err(Error::Configuration(format!("{}:ClientId is not configured", registration.section).into()));
        }
        let discovered = self.discovery.ask(registration, &*self.exchange, self.settings.timeout)?;
        let mut url = discovered.unwrap_or_else(|| self.token_endpoint(leg));
        // The assertion's audience is the endpoint without the extra query (RFC 7523 §3).
        let audience = url.to_string();
        let mut query = registration.extra_query.clone();
        query.extend(leg.extra_query.iter().map(|(name, value)| (name.clone(), value.clone())));
        if !query.is_empty() {
            url.query = Some(
                query
                    .iter()
                    .map(|(name, value)| format!("{}={}", encode_component(name), encode_component(value)))
                    .collect::<Vec<_>>()
                    .join("&"),
            );
        }
        let post = Post {
            url: url.to_string(),
            host: &url.origin.host,
            correlation_id: &leg.correlation_id,
            headers: leg.headers(),
            timeout: self.settings.timeout,
        };
        request_token(&*self.exchange, &*self.clock, &post, &|| self.form(leg, &audience))
    }

    /// The token endpoint as far as it is known without asking anybody.
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

    /// The form of one request. Each has a proof of its own: an assertion that has arrived counts as used, be its answer lost or not.
    fn form(&self, leg: &Leg, audience: &str) -> Result<Form, Error> {
        match &leg.proof {
            Proof::Credentials => Ok(leg.form(&self.authenticate(leg, audience)?, None)),
            Proof::Agent(agent) => {
                let proof = ClientAuth::Assertion(self.exchange_token(leg, agent, ExchangeToken::OfBlueprint)?);
                let exchange = match &leg.grant {
                    Grant::AgentUser(_) => Some(self.exchange_token(leg, agent, ExchangeToken::OfAgent)?),
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
            // A credential that may come back by itself decides: the caller is told to try again.
            match waiting {
                Some(failure) => Error::unavailable(failure.to_string()),
                None => Error::Credential(Arc::new(failures)),
            }
        })
    }

    /// The tokens that agents authenticate with (Microsoft Learn, "Agent OAuth protocols").
    fn exchange_token(&self, leg: &Leg, agent: &str, which: ExchangeToken) -> Result<Secret<String>, Error> {
        let host = &leg.client.registration.instance.origin.host;
        let scopes = [format!("{}/.default", exchange_audience(host))];
        let (subject, fmi_path) = match which {
            ExchangeToken::OfBlueprint => (Subject::ClientCredentials, Some(agent)),
            ExchangeToken::OfAgent => (Subject::AgentAutonomous(agent), None),
        };
        let wanted = Wanted {
            tenant: Some(&leg.tenant),
            fmi_path,
            user_flow: leg.user_flow.as_deref(),
            ..Wanted::plain(&leg.client, subject, &scopes, &leg.correlation_id)
        };
        let token = self.acquire_in_place(&wanted)?;
        Ok(Secret::new(token.token().to_owned()))
    }

    /// A token that is not of the type asked for would pass as bound to a key that it is not bound to.
    fn accept(&self, leg: &Leg, answer: &TokenAnswer) -> Result<Arc<AccessToken>, Error> {
        let expected = if leg.bound_key.is_some() { "PoP" } else { "Bearer" };
        if !answer.token_type.eq_ignore_ascii_case(expected) {
            return Err(Error::TokenType { expected });
        }
        let now = self.clock.unix();
        Ok(Arc::new(AccessToken {
            header: Secret::new(format!("{expected} {}", answer.access_token.expose())),
            expires_at: now.saturating_add(answer.expires_in),
            refresh_at: answer.refresh_in.map(|seconds| now.saturating_add(seconds)),
        }))
    }

    /// Tokens of the machine's identity, for credentials of this client that need one.
    pub fn identities<'a>(&'a self, client: &'a Arc<Client>, correlation_id: &'a str) -> impl Identities + 'a {
        Machine { acquirer: self, client, correlation_id }
    }

    /// Finds out the region for registrations that want it detected, in the background.
    pub fn find_region<'a>(&self, mut clients: impl Iterator<Item = &'a Arc<Client>>) {
        if clients.any(|client| client.registration.azure_region.as_deref().is_some_and(authority::is_detected)) {
            self.region.find(&self.exchange);
        }
    }

    /// The long-running sessions.
    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// What the cache holds.
    pub fn figures(&self) -> CacheFigures {
        self.cache.figures(&*self.clock)
    }

    /// Forgets what was refused, for another configuration.
    pub fn forget_refusals(&self) {
        self.cache.forget_refusals();
        self.discovery.clear();
    }
}

/// Whose exchange token.
#[derive(Clone, Copy)]
enum ExchangeToken {
    /// Of the registration for the agent: the agent's client assertion.
    OfBlueprint,
    /// Of the agent itself: the `user_fic` grant's credential.
    OfAgent,
}

/// The machine's identity, for a credential of this client: its tokens are cached like any other.
struct Machine<'a> {
    acquirer: &'a Acquirer,
    client: &'a Arc<Client>,
    correlation_id: &'a str,
}

impl Identities for Machine<'_> {
    fn managed_identity(&self, client_id: Option<&str>, resource: &str) -> Result<Secret<String>, Failure> {
        let scopes = [format!("{resource}/.default")];
        let wanted = Wanted::plain(self.client, Subject::ManagedIdentity(client_id), &scopes, self.correlation_id);
        match self.acquirer.acquire_in_place(&wanted) {
            Ok(token) => Ok(Secret::new(token.token().to_owned())),
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
