//! The ladder for an operator's own shell: one request that no connection brought. Its thread waits in place for
//! whatever a connection would wait for.

use std::borrow::Cow;
use std::sync::mpsc::channel;
use std::time::Instant;

use zeroize::Zeroizing;

use super::authenticate::explained;
use super::authorization_header::acquire;
use super::call::{Call, Halt, Parked, Shared};
use super::problem::Problem;
use super::route::{Endpoint, Route};
use super::service::Service;
use super::validate::answer;
use crate::http::{Body, Cause, Headers, Method, Peer, Request, RequestRecord, Resumed, Waker};
use crate::jwks::KeySet;
use crate::jwt::Finding;
use crate::secret::Secret;
use crate::turns;
use crate::value::guid;

/// Metadata, keys and the issuer of v1 tokens: as many documents does a fetch of signing keys ask for.
const DOCUMENTS: u32 = 3;

pub struct Once {
    shared: Shared,
    service: Service,
}

#[derive(Debug)]
pub struct Acquired {
    /// The value of an `Authorization` header.
    pub header: Secret<String>,
    /// When the token in it expires, in seconds since 1970.
    pub expires_at: u64,
}

impl Once {
    pub const fn new(shared: Shared, service: Service) -> Self {
        Self { shared, service }
    }

    /// What `/AuthorizationHeader` answers to a user's token, and without one `/AuthorizationHeaderUnauthenticated`.
    pub fn header(&self, api: &str, query: &str, user_token: Option<&str>) -> Result<Acquired, Problem> {
        let authorization = user_token.map(|token| Secret::new(format!("Bearer {token}")));
        let value = authorization.as_ref().map(|header| header.expose().as_bytes());
        let field = value.map(|value| httparse::Header { name: "authorization", value });
        let endpoint = match field {
            Some(_) => Endpoint::AuthorizationHeader,
            None => Endpoint::AuthorizationHeaderUnauthenticated,
        };
        let route = Route { endpoint, name: Cow::Borrowed(api), proxied: ("", "") };
        self.decryption_keys(user_token);
        self.run(query, field.as_slice(), |call, resumed| {
            acquire(call, &route, resumed, |_, token, header| Acquired {
                header: Secret::new(header.to_owned()),
                expires_at: token.expires_at,
            })
        })
    }

    /// What `/Validate` says of a token, and every check that this took.
    pub fn validate(&self, token: &str) -> (Result<Zeroizing<Vec<u8>>, Problem>, Vec<Finding>) {
        self.decryption_keys(Some(token));
        let (judged, findings) = match self.run("", &[], |call, resumed| explained(call, token, resumed.as_ref())) {
            Ok((judged, findings)) => {
                (judged.map_err(|rejection| Problem::with(401, rejection.description())), findings)
            }
            Err(problem) => {
                // As far as it goes without keys.
                let (validator, none, now) = (&self.service.validator, KeySet::default(), self.shared.clock.unix());
                let outcome = validator.validate(token, &none, now);
                (Err(problem), validator.explain(token, &none, now, outcome.as_ref().err()))
            }
        };
        let answer = judged.map(|verified| Zeroizing::new(answer("Bearer", token, verified.claims_json())));
        (answer, findings)
    }

    /// A token that is encrypted needs keys, and some may be in a vault.
    #[cfg(feature = "jwe")]
    fn decryption_keys(&self, token: Option<&str>) {
        if token.is_some_and(crate::jwt::jwe::is_encrypted) {
            super::decryption_vaults::fetch(&self.service, &self.shared);
        }
    }

    #[cfg(not(feature = "jwe"))]
    #[expect(clippy::unused_self, reason = "with the feature `jwe` the keys are here")]
    const fn decryption_keys(&self, _: Option<&str>) {}

    /// Goes on until there is an outcome, with a turn where one is needed.
    fn run<T>(
        &self,
        query: &str,
        fields: &[httparse::Header<'_>],
        mut step: impl FnMut(&Call<'_>, Option<Resumed<Parked>>) -> Result<T, Halt>,
    ) -> Result<T, Problem> {
        let Self { shared, service } = self;
        let record = RequestRecord::new(Instant::now());
        let request = Request {
            method: Method::Get,
            method_name: "GET",
            path: "/",
            query: Some(query),
            headers: Headers(fields),
            body: Body::NONE,
            peer: Peer::Unix,
            record: &record,
        };
        let (wake, woken) = channel();
        let waker = Waker::from_fn(move || wake.send(()).unwrap_or_default());
        let correlation_id = guid::random();
        let call = Call { service, shared, request: &request, correlation_id: correlation_id.as_str(), waker: &waker };
        let mut outcome = step(&call, None);
        loop {
            outcome = match outcome {
                Ok(done) => return Ok(done),
                Err(Halt::Problem(problem)) => return Err(problem),
                // There is no body to wait for, and nothing is passed through.
                Err(Halt::NeedsBody(_) | Halt::Pending(..)) => return Err(Problem::new(500)),
                Err(Halt::Park(on, _)) => {
                    // Nobody waits behind this one: the fetch ends it, however long it takes.
                    let cause = match woken.recv_timeout(service.config.azure_ad.metadata_timeout * DOCUMENTS) {
                        Ok(()) => Cause::Woken,
                        Err(_) => Cause::Overdue,
                    };
                    step(&call, Some(Resumed { on, cause }))
                }
                Err(Halt::Call(on, lane)) => {
                    let patience = service.config.limits.queue_timeout;
                    let turn = shared.budget.turns.wait(&lane, patience)?;
                    turns::with_turn(turn, patience, || step(&call, Some(Resumed { on, cause: Cause::Turn }))).0
                }
            };
        }
    }
}
