//! Requests to a vault, within the time budget of one token request.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::credentials::reason::reason;
use crate::credentials::{Context, Failure};
use crate::outbound::{OutError, OutRequest, OutResponse};
use crate::redaction::redact;

/// For everything that one token request needs from a vault.
const BUDGET: Duration = Duration::from_secs(15);

/// Per request.
pub(super) const ATTEMPT: Duration = Duration::from_secs(10);

/// Before the only retry if the vault gives no advice, and the longest advice that is followed.
const PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Bytes; a certificate with its chain takes a few kilobytes.
pub(super) const MAX_ANSWER: usize = 256 * 1024;

pub(super) struct VaultCall<'a, 'b> {
    pub context: &'a Context<'b>,
    deadline: Instant,
}

impl<'a, 'b> VaultCall<'a, 'b> {
    pub(super) fn new(context: &'a Context<'b>) -> Self {
        Self { context, deadline: context.clock.instant() + BUDGET }
    }

    /// Sends an idempotent request, and retries once after a transient failure.
    pub(super) fn send(&self, name: &str, request: impl Fn() -> OutRequest) -> Result<OutResponse, Failure> {
        match self.attempt(&request) {
            Ok(answer) if passes(answer.status) => {
                let advised = answer.retry_after(self.context.clock.unix());
                let pause = advised.map_or(PAUSE, Duration::from_secs);
                if answer.status == 429 || pause > MAX_PAUSE || self.left() <= pause {
                    return Err(Failure::Unavailable(format!("{name} answered {}", answer.status)));
                }
                self.context.clock.sleep(pause);
            }
            Err(error) if error.is_transient() => self.context.clock.sleep(PAUSE),
            other => return other.map_err(|error| unanswered(name, &error)),
        }
        match self.attempt(&request) {
            Ok(answer) if passes(answer.status) => {
                Err(Failure::Unavailable(format!("{name} answered {}", answer.status)))
            }
            other => other.map_err(|error| unanswered(name, &error)),
        }
    }

    fn attempt(&self, request: &impl Fn() -> OutRequest) -> Result<OutResponse, OutError> {
        let left = self.left();
        if left.is_zero() {
            return Err(OutError::Timeout(format!("no answer within {BUDGET:?}")));
        }
        let request = request();
        self.context.exchange.send(OutRequest { timeout: request.timeout.min(left), ..request })
    }

    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(self.context.clock.instant())
    }
}

const fn passes(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

fn unanswered(name: &str, error: &OutError) -> Failure {
    Failure::Unavailable(format!("{name} cannot be reached: {error}"))
}

pub(super) fn judge(name: &str, answer: &OutResponse) -> Result<Value, Failure> {
    let advice = match answer.status {
        200 => {
            return serde_json::from_slice(&answer.body)
                .map_err(|_| Failure::Unavailable(format!("{name} sent an answer that is not JSON")));
        }
        401 => "; is the vault in the tenant of the identity that asks?",
        403 => {
            "; grant the identity that asks the roles Key Vault Certificate User and, where the key stays in the \
             vault, Key Vault Crypto User, and check the vault's firewall"
        }
        404 => "; check KeyVaultCertificateName",
        _ => "",
    };
    let reason = reason(&answer.body, |line| redact(line, std::iter::empty()));
    Err(Failure::Unusable(format!("{name} answered {}: {reason}{advice}", answer.status)))
}
