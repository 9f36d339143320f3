//! The routes: [`Routes::answer`] takes a request to its answer, step by step.

mod access;
mod acquire;
pub mod admit;
mod api_call;
mod authenticate;
mod authorization_header;
mod call;
mod correlation;
#[cfg(feature = "jwe")]
mod decryption;
#[cfg(feature = "jwe")]
mod decryption_vaults;
mod door;
mod downstream_api;
mod forward_auth;
mod health;
mod identity;
mod oauth;
mod once;
mod outbox;
mod page;
pub mod problem;
mod proxy;
mod pump;
mod recent;
mod reply;
pub mod route;
mod service;
mod stage;
mod validate;

use std::sync::Arc;
use std::time::Instant;

use access::{Ended, Entry};
use admit::{Admission, TOKEN_HEADER};
use call::{Call, Halt};
pub use call::{Parked, Shared};
pub use once::Once;
use problem::{Form, Problem};
pub use recent::Recent;
use route::{Endpoint, route};
pub use service::Service;

use crate::clock::Clock;
use crate::http::{Cause, Handler, Keep, Method, Outcome, Reply, Request, RequestError, Resumed, Waker};
use crate::sync::RwLock;
use crate::token;
use crate::value::guid;

pub struct Routes {
    shared: Shared,
    service: RwLock<Arc<Service>>,
    started: Instant,
}

impl Routes {
    pub fn new(shared: Shared, service: Service) -> Self {
        let service = Arc::new(service);
        ready(&service, &shared);
        Self { shared, service: RwLock::new(service), started: Instant::now() }
    }

    pub fn service(&self) -> Arc<Service> {
        Arc::clone(&self.service.read())
    }

    /// Installs another configuration. Requests in flight keep theirs.
    pub fn replace(&self, service: Service) -> Arc<Service> {
        let service = Arc::new(service);
        ready(&service, &self.shared);
        let mut current = self.service.write();
        std::mem::replace(&mut current, service)
    }

    pub const fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The order of the checks (docs/endpoints.md): caller, route, query, token, API, then the
    /// rest.
    fn answer(
        &self,
        call: &Call<'_>,
        endpoint: &mut Option<Endpoint>,
        parked: Option<Resumed<Parked>>,
    ) -> Result<Reply, Halt> {
        let request = call.request;
        let found = route(request.method, request.path);
        *endpoint = found.as_ref().map_or_else(|no_route| no_route.endpoint(), |route| Some(route.endpoint));
        let admission = &call.service.admission;
        match *endpoint {
            Some(endpoint) if endpoint.is_open() => {}
            // Their clients prove themselves by means of their own: in a header, or in the body, which has not come yet.
            endpoint if matches!(Form::of(endpoint, request.path), Form::OAuth | Form::ManagedIdentity) => {
                admission.admit_place(request.peer, request.headers)?;
                Admission::admit_no_page(request.headers)?;
            }
            // A proxy passes on what the browser behind it sent.
            Some(Endpoint::ForwardAuth) => {
                admission.admit_place(request.peer, request.headers)?;
                admission.admit_token(request.headers, TOKEN_HEADER, [])?;
            }
            _ => admission.admit(request.peer, request.headers)?,
        }
        // Not found, with any method.
        if endpoint.is_some_and(|endpoint| door::is_shut(endpoint, &call.service.config)) {
            return Err(Problem::new(404).into());
        }
        let route = found?;
        match route.endpoint {
            Endpoint::Health | Endpoint::Metrics | Endpoint::OpenApi => {
                call.body(Keep::No)?;
                Ok(match route.endpoint {
                    Endpoint::Health => health::health(call),
                    Endpoint::Metrics => health::metrics(call, self.started),
                    _ => health::openapi(),
                })
            }
            Endpoint::Validate => validate::validate(call, parked.as_ref()),
            Endpoint::AuthorizationHeader | Endpoint::AuthorizationHeaderUnauthenticated => {
                authorization_header::authorization_header(call, &route, parked)
            }
            Endpoint::DownstreamApi | Endpoint::DownstreamApiUnauthenticated => {
                downstream_api::downstream_api(call, &route, parked)
            }
            Endpoint::OAuthToken => oauth::token(call, &route, parked),
            Endpoint::OAuthIntrospect => oauth::introspect(call, parked.as_ref()),
            Endpoint::ForwardAuth => forward_auth::forward_auth(call, parked.as_ref()),
            Endpoint::Identity => identity::token(call, parked),
            Endpoint::Proxy | Endpoint::ProxyUnauthenticated => proxy::proxy(call, &route, parked),
            Endpoint::Page => page::page(call, parked.as_ref()),
        }
    }

    /// For the access log. Without a request, its head was never read.
    fn entry<'a>(&'a self, request: Option<&Request<'_>>, endpoint: Option<Endpoint>, id: &'a str) -> Entry<'a> {
        Entry {
            metrics: &self.shared.metrics,
            recent: self.shared.recent.as_deref(),
            method: request.map_or(Method::Other, |request| request.method),
            endpoint,
            received: request.map_or_else(Instant::now, |request| request.record.received),
            id,
        }
    }
}

/// A problem and the form in which the callers of an endpoint read it. One that is switched off has none of its own.
fn in_form(problem: Problem, service: &Service, endpoint: Option<Endpoint>, path: &str) -> (Problem, Form) {
    let rules = &service.config.sidecar;
    let form = match Form::of(endpoint, path) {
        Form::Proxied if !rules.proxy => Form::Problem,
        form => form,
    };
    let semantic = rules.semantic_token_errors && matches!(form, Form::Problem | Form::Proxied);
    (if semantic { problem.semantic() } else { problem }, form)
}

/// Answers a request that got no turn in time.
fn no_turn(on: Parked, clock: &dyn Clock) -> Problem {
    if let Parked::Lead(lead, _) = on {
        // Callers waiting for the same token get the same error.
        let _ = lead.complete(clock, Err(token::Error::Busy));
    }
    token::Error::Busy.into()
}

/// Starts the background work of a configuration.
fn ready(service: &Arc<Service>, shared: &Shared) {
    shared.acquirer.find_region(service.clients());
    #[cfg(feature = "jwe")]
    decryption_vaults::start(service, shared);
}

impl Handler for Routes {
    type Parked = Parked;

    fn handle(&self, request: &Request<'_>, waker: &Waker, resumed: Option<Resumed<Parked>>) -> Outcome<Parked> {
        let service = self.service();
        let id = correlation::id(request.headers, request.record);
        let id = id.as_str();
        let call = Call { service: &service, shared: &self.shared, request, correlation_id: id, waker };
        let mut endpoint = None;
        let answer = match resumed {
            Some(Resumed { on, cause: Cause::NoTurn }) => {
                endpoint = route(request.method, request.path).ok().map(|route| route.endpoint);
                Err(no_turn(on, &*self.shared.clock).into())
            }
            resumed => self.answer(&call, &mut endpoint, resumed),
        };
        let entry = self.entry(Some(request), endpoint, id);
        Outcome::Reply(match answer {
            Ok(reply) => entry.reply(reply),
            Err(Halt::Park(on, until)) => return Outcome::Park { on, until },
            Err(Halt::Call(on, lane)) => return Outcome::Call { on, lane },
            Err(Halt::NeedsBody(keep)) => return Outcome::NeedsBody(keep),
            Err(Halt::Pending(answer, lane)) => return Outcome::Pending { answer, lane },
            Err(Halt::Problem(problem)) => {
                let (problem, form) = in_form(problem, &service, endpoint, request.path);
                entry.problem(problem, form)
            }
        })
    }

    fn refuse(&self, refusal: &RequestError, request: Option<&Request<'_>>) -> Reply {
        let problem = Problem::from(refusal);
        let Some(request) = request else {
            return self.entry(None, None, guid::random().as_str()).problem(problem, Form::Problem);
        };
        let id = correlation::id(request.headers, request.record);
        let endpoint = match route(request.method, request.path) {
            Ok(route) => Some(route.endpoint),
            Err(no_route) => no_route.endpoint(),
        };
        let (problem, form) = in_form(problem, &self.service(), endpoint, request.path);
        self.entry(Some(request), endpoint, id.as_str()).problem(problem, form)
    }

    fn panicked(&self) -> Reply {
        let problem = Problem::new(500);
        self.entry(None, None, "-").add(problem.status, Ended::Whole, problem.words());
        problem.into_reply()
    }
}
