//! Tokens of the identity that Azure gives to a machine: one request to an endpoint on or near the
//! machine, retried after transient failures.
//! <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>

mod answer;
mod arc;
mod source;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use answer::IdentityToken;
pub use source::{IdentityRequest, imds};

use source::{IdentitySource, Kind};

use super::Failure;
use super::reason::reason;
use crate::clock::Clock;
use crate::outbound::{Exchange, OutError, OutRequest, OutResponse};
use crate::redaction::redact;
use crate::secret::Secret;

/// For all attempts together, since a request is waiting.
const BUDGET: Duration = Duration::from_secs(15);

/// The budget if IMDS first answers 410: all its retries, and time for the answer.
const BUDGET_WHILE_GONE: Duration = Duration::from_secs(75);

/// Per attempt.
const ATTEMPT: Duration = Duration::from_secs(10);

/// After the first attempt.
const RETRIES: u32 = 3;

/// Retries if IMDS first answers 410: it is being upgraded, which takes up to 70 seconds.
const RETRIES_WHILE_GONE: u32 = 7;

const PAUSE_WHILE_GONE: Duration = Duration::from_secs(10);

/// The client of this machine's managed identity endpoint. It caches nothing.
pub struct ManagedIdentities {
    source: Result<IdentitySource, String>,
    arc_keys: PathBuf,
    exchange: Arc<dyn Exchange>,
    clock: Arc<dyn Clock>,
}

impl ManagedIdentities {
    /// Locates the endpoint without contacting it.
    pub fn new(
        environment: impl Fn(&str) -> Option<String>,
        exchange: Arc<dyn Exchange>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let source = IdentitySource::detect(environment, Path::new(source::ARC_AGENT).exists());
        Self { source, arc_keys: arc::KEY_FOLDER.into(), exchange, clock }
    }

    /// `revoked` is a token for the same resource that was rejected.
    pub fn token(&self, wanted: &IdentityRequest, revoked: Option<&Secret<String>>) -> Result<IdentityToken, Failure> {
        let source = self.source.as_ref().map_err(|reason| Failure::Unusable(reason.clone()))?;
        let request = |timeout| source.request(wanted, revoked, timeout);
        request(ATTEMPT).map_err(Failure::Unusable)?;
        let start = self.clock.instant();
        let mut pace = Pace::new(source);
        loop {
            let deadline = start + pace.budget();
            let timeout = ATTEMPT.min(deadline.saturating_duration_since(self.clock.instant()));
            let outcome = self.attempt(source, request(timeout).map_err(Failure::Unusable)?, deadline)?;
            let failure = match &outcome {
                Ok(response) if response.status == 200 => {
                    check_identity(source, wanted, &response.body)?;
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
            log::info!("{failure}; retrying in {} s", pause.as_secs());
            self.clock.sleep(pause);
        }
    }

    /// Sends one request, and for Azure Arc the second one that its challenge asks for.
    fn attempt(
        &self,
        source: &IdentitySource,
        request: OutRequest,
        deadline: Instant,
    ) -> Result<Result<OutResponse, OutError>, Failure> {
        if source.kind != Kind::Arc {
            return Ok(self.exchange.send(request));
        }
        let mut second = request.clone();
        let challenge = match self.exchange.send(request) {
            Ok(response) if response.status == 401 => response,
            other => return Ok(other),
        };
        let unusable = |reason| Failure::Unusable(format!("{}: {reason}", source.name()));
        let path = arc::key_path(&challenge, &self.arc_keys).map_err(unusable)?;
        second = second.header("authorization", &arc::authorization(&path).map_err(unusable)?);
        second.timeout = second.timeout.min(deadline.saturating_duration_since(self.clock.instant()));
        Ok(self.exchange.send(second))
    }
}

/// Agents of Azure Arc that do not support user-assigned identities answer with a token of the
/// machine's own identity.
fn check_identity(source: &IdentitySource, wanted: &IdentityRequest, body: &[u8]) -> Result<(), Failure> {
    match (source.kind, &wanted.client_id) {
        (Kind::Arc, Some(id)) if !answer::is_of(body, id) => Err(Failure::Unusable(format!(
            "{} did not confirm that the token belongs to the identity {id}; is its agent too old for user-assigned identities?",
            source.name()
        ))),
        _ => Ok(()),
    }
}

/// Turns a failed attempt into an error for the caller.
fn explain(source: &IdentitySource, outcome: &Result<OutResponse, OutError>) -> Failure {
    let (name, origin) = (source.name(), &source.endpoint.origin);
    match outcome {
        Err(error) => Failure::Unavailable(format!(
            "the managed identity endpoint of {name} at {origin} does not answer ({error}); \
             does this run on Azure, with a managed identity assigned and the endpoint within reach?"
        )),
        Ok(response) => {
            let status = response.status;
            let secret = source.secret.as_ref().map(|secret| secret.expose().as_str());
            let reason = reason(&response.body, |line| redact(line, secret.into_iter()));
            let text = format!("the managed identity endpoint of {name} answered {status}: {reason}");
            match status {
                408 | 410 | 429 | 500..=599 => Failure::Unavailable(text),
                _ => Failure::Unusable(text),
            }
        }
    }
}

/// Counts the attempts and decides on retries and pauses.
struct Pace {
    imds: bool,
    sent: u32,
    unanswered: u32,
    gone_first: bool,
}

impl Pace {
    const fn new(source: &IdentitySource) -> Self {
        Self { imds: matches!(source.kind, Kind::Imds), sent: 0, unanswered: 0, gone_first: false }
    }

    /// Measured from the first attempt.
    const fn budget(&self) -> Duration {
        if self.gone_first { BUDGET_WHILE_GONE } else { BUDGET }
    }

    /// The pause before the next attempt; `None` after the last.
    fn pause(&mut self, outcome: &Result<OutResponse, OutError>, now: u64) -> Option<Duration> {
        self.sent += 1;
        let Ok(response) = outcome else {
            // Retried once only, so that a machine outside Azure fails within seconds.
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
            let pause = Duration::from_secs(response.retry_after(now).unwrap_or(1).max(1));
            (passes && self.sent <= RETRIES).then_some(pause)
        }
    }
}
