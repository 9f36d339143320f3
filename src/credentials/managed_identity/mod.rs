//! Tokens of the identity that Azure gives to a machine: one request to an endpoint on the machine itself or
//! beside it, with retries for transient errors (Microsoft Learn, "How to use managed identities on an
//! Azure VM to acquire an access token").

mod answer;
mod arc;
mod source;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use answer::MachineToken;
pub use source::{Request, imds};

use source::Source;

use super::Failure;
use super::reason::reason;
use crate::clock::Clock;
use crate::outbound::{Exchange, OutError, OutRequest, OutResponse};
use crate::value::date;

/// For all attempts together: a request waits here.
const BUDGET: Duration = Duration::from_secs(15);

/// The same when IMDS answers 410 first: all its retries, and some time to answer in.
const BUDGET_WHILE_GONE: Duration = Duration::from_secs(75);

/// Of one attempt.
const ATTEMPT: Duration = Duration::from_secs(10);

/// After the first attempt.
const RETRIES: u32 = 3;

/// Retries when IMDS answers 410 first: it is being upgraded, which takes up to 70 seconds.
const RETRIES_WHILE_GONE: u32 = 7;

/// Between attempts when IMDS answers 410.
const PAUSE_WHILE_GONE: Duration = Duration::from_secs(10);

/// The client of this machine's managed identity endpoint. It keeps no tokens.
pub struct ManagedIdentities {
    source: Result<Source, String>,
    arc_keys: PathBuf,
    exchange: Arc<dyn Exchange>,
    clock: Arc<dyn Clock>,
}

/// The resource that a scope stands for: the scope without exactly one `/.default`.
pub fn resource(scope: &str) -> &str {
    scope.strip_suffix("/.default").unwrap_or(scope)
}

impl ManagedIdentities {
    /// Finds out where the endpoint is; asks nothing yet.
    pub fn new(
        environment: impl Fn(&str) -> Option<String>,
        exchange: Arc<dyn Exchange>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let source = Source::detect(environment, Path::new(source::ARC_AGENT).exists());
        Self { source, arc_keys: arc::KEY_FOLDER.into(), exchange, clock }
    }

    /// The token.
    pub fn token(&self, wanted: &Request<'_>) -> Result<MachineToken, Failure> {
        let source = self.source.as_ref().map_err(|reason| Failure::Unusable(reason.clone()))?;
        let request = |timeout| source.request(wanted, timeout);
        request(ATTEMPT).map_err(Failure::Unusable)?;
        let start = self.clock.instant();
        let mut pace = Pace::new(source);
        loop {
            let deadline = start + pace.budget();
            let timeout = ATTEMPT.min(deadline.saturating_duration_since(self.clock.instant()));
            let outcome = self.attempt(source, request(timeout).map_err(Failure::Unusable)?, deadline)?;
            let failure = match &outcome {
                Ok(response) if response.status == 200 => {
                    echoed(source, wanted, &response.body)?;
                    return answer::token(&response.body, self.clock.unix())
                        .map_err(|what| Failure::Unavailable(format!("{} {what}", source.name())));
                }
                outcome => explain(source, outcome),
            };
            let pause = pace.pause(&outcome, self.clock.unix());
            let deadline = start + pace.budget();
            let Some(pause) = pause.filter(|pause| self.clock.instant() + *pause < deadline) else {
                return Err(failure);
            };
            log::info!("{failure}; trying again in {} s", pause.as_secs());
            self.clock.sleep(pause);
        }
    }

    /// One request, and with Azure Arc the second one that its challenge asks for.
    fn attempt(
        &self,
        source: &Source,
        request: OutRequest,
        deadline: Instant,
    ) -> Result<Result<OutResponse, OutError>, Failure> {
        let Source::Arc { .. } = source else { return Ok(self.exchange.send(request)) };
        let mut second = OutRequest {
            upstream: request.upstream,
            method: request.method.clone(),
            url: request.url.clone(),
            headers: request.headers.clone(),
            body: None,
            memory: None,
            timeout: request.timeout,
            max_body: request.max_body,
            pooled: request.pooled,
            redirected_from: None,
        };
        let challenge = match self.exchange.send(request) {
            Ok(response) if response.status == 401 => response,
            other => return Ok(other),
        };
        let unusable = |reason| Failure::Unusable(format!("{}: {reason}", source.name()));
        let path = arc::key_path(&challenge, &self.arc_keys).map_err(unusable)?;
        second.headers.push(("authorization".to_owned(), arc::authorization(&path).map_err(unusable)?));
        second.timeout = second.timeout.min(deadline.saturating_duration_since(self.clock.instant()));
        Ok(self.exchange.send(second))
    }
}

/// Agents of Azure Arc that know no user-assigned identities answer with the machine's own token, which is another's.
fn echoed(source: &Source, wanted: &Request<'_>, body: &[u8]) -> Result<(), Failure> {
    match (source, wanted.client_id) {
        (Source::Arc { .. }, Some(id)) if !answer::is_of(body, id) => Err(Failure::Unusable(format!(
            "{} did not confirm that the token is of the identity {id}; is its agent too old for user-assigned identities?",
            source.name()
        ))),
        _ => Ok(()),
    }
}

/// What a failed attempt means for the caller.
fn explain(source: &Source, outcome: &Result<OutResponse, OutError>) -> Failure {
    let (name, origin) = (source.name(), &source.endpoint().origin);
    match outcome {
        Err(error) => Failure::Unavailable(format!(
            "the managed identity endpoint of {name} at {origin} does not answer ({error}); \
             does this run on Azure, with a managed identity assigned and the endpoint within reach?"
        )),
        Ok(response) => {
            let status = response.status;
            let secret = source.secret().map(|secret| secret.expose().as_str());
            let reason = reason(&response.body, secret);
            let text = format!("the managed identity endpoint of {name} answered {status}: {reason}");
            match status {
                408 | 410 | 429 | 500..=599 => Failure::Unavailable(text),
                _ => Failure::Unusable(text),
            }
        }
    }
}

/// How often a request is retried, and after which pauses.
struct Pace {
    imds: bool,
    sent: u32,
    unanswered: u32,
    gone_first: bool,
}

impl Pace {
    const fn new(source: &Source) -> Self {
        Self { imds: matches!(source, Source::Imds { .. }), sent: 0, unanswered: 0, gone_first: false }
    }

    /// From the first attempt on.
    const fn budget(&self) -> Duration {
        if self.gone_first { BUDGET_WHILE_GONE } else { BUDGET }
    }

    /// The pause after an attempt; none where it was the last.
    fn pause(&mut self, outcome: &Result<OutResponse, OutError>, now: u64) -> Option<Duration> {
        self.sent += 1;
        let Ok(response) = outcome else {
            // Once, since a machine off Azure should be told so within seconds.
            self.unanswered += 1;
            if self.gone_first {
                return (self.sent <= RETRIES_WHILE_GONE).then_some(PAUSE_WHILE_GONE);
            }
            return (self.unanswered == 1 && self.sent <= RETRIES).then_some(Duration::from_secs(1));
        };
        let status = response.status;
        if self.imds {
            self.gone_first |= self.sent == 1 && status == 410;
            let retries = if self.gone_first { RETRIES_WHILE_GONE } else { RETRIES };
            let passes = matches!(status, 404 | 408 | 410 | 429 | 500..=599);
            let pause = if self.gone_first && status == 410 {
                PAUSE_WHILE_GONE
            } else {
                Duration::from_secs(1 << (self.sent - 1).min(RETRIES - 1))
            };
            (passes && self.sent <= retries).then_some(pause)
        } else {
            let passes = matches!(status, 404 | 408 | 429 | 500 | 503 | 504);
            let advised = response.header("retry-after").and_then(|text| date::retry_after(text, now));
            let pause = Duration::from_secs(advised.unwrap_or(1).max(1));
            (passes && self.sent <= RETRIES).then_some(pause)
        }
    }
}
