//! The caller's own token: found, verified, remembered.

use std::sync::Arc;
use std::time::Duration;

use super::problem::Problem;
use super::{Call, Halt, Parked};
use crate::http::Resumed;
use crate::jwks::Answer;
use crate::jwt::{self, Rejection, Verified};

/// How long a request waits for signing keys that are being fetched.
const KEY_WAIT: Duration = Duration::from_secs(2);

/// What the `Authorization` header holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented<'a> {
    /// No header.
    Nothing,
    /// A header of another scheme, or without a token.
    Unusable,
    /// `Bearer`.
    Bearer(&'a str),
    /// `PoP`.
    Pop(&'a str),
}

impl<'a> Presented<'a> {
    /// Reads the header (RFC 9110 §11.4). The front door has refused a second one.
    pub fn of(call: &Call<'a>) -> Self {
        let Some(value) = call.request.headers.first("authorization") else { return Self::Nothing };
        let Ok(value) = std::str::from_utf8(value) else { return Self::Unusable };
        let Some((scheme, token)) = value.trim().split_once([' ', '\t']) else { return Self::Unusable };
        let token = token.trim();
        if token.is_empty() {
            Self::Unusable
        } else if scheme.eq_ignore_ascii_case("Bearer") {
            Self::Bearer(token)
        } else if scheme.eq_ignore_ascii_case("PoP") {
            Self::Pop(token)
        } else {
            Self::Unusable
        }
    }
}

/// The token of a caller who has to present one, unless the operator lets the application act without.
pub fn caller(call: &Call<'_>, resumed: Option<&Resumed<Parked>>) -> Result<Option<Arc<Verified>>, Halt> {
    match Presented::of(call) {
        Presented::Bearer(token) => verify(call, token, resumed).map(Some),
        Presented::Nothing if call.service.config.sidecar.allow_app_token_without_user => Ok(None),
        Presented::Nothing | Presented::Unusable | Presented::Pop(_) => Err(challenge(call).into()),
    }
}

/// 401 without a token to speak of.
pub fn challenge(call: &Call<'_>) -> Problem {
    Problem::token_required(&call.service.config.azure_ad.challenge)
}

/// The token's proof: from the memory, else by verifying it, once more if the keys were behind.
pub fn verify(call: &Call<'_>, token: &str, resumed: Option<&Resumed<Parked>>) -> Result<Arc<Verified>, Halt> {
    let service = call.service;
    let now = call.shared.clock.unix();
    let keys = service.keys.snapshot();
    let Some(keys) = keys else {
        return Err(match (resumed, service.keys.on_missing(call.wake())) {
            (None, Answer::Wait) => park(call),
            (_, Answer::NotNow { retry_after }) => no_keys(retry_after),
            (Some(_), Answer::Wait) => no_keys(1),
        });
    };
    if let Some(verified) = service.memory.get(token, &keys, now) {
        return Ok(verified);
    }
    let outcome = jwt::verify(token, &keys, &service.policy, now);
    let waited = resumed.is_some_and(|resumed| matches!(resumed.on, Parked::Keys));
    if let Err(Rejection::UnknownKey { .. }) = &outcome
        && !waited
        && let Answer::Wait = service.keys.on_unknown_kid(call.wake())
    {
        return Err(park(call));
    }
    call.shared.metrics.validation(outcome.as_ref().map_or_else(Rejection::code, |_| "valid"));
    match outcome {
        Ok(verified) => {
            let verified = Arc::new(verified);
            service.memory.put(&verified, now);
            Ok(verified)
        }
        Err(rejection) => {
            log::info!("inbound token refused: {}", rejection.code());
            Err(Problem::from_rejection(&rejection, &service.config.azure_ad).into())
        }
    }
}

fn park(call: &Call<'_>) -> Halt {
    Halt::Park(Parked::Keys, call.shared.clock.instant() + KEY_WAIT)
}

fn no_keys(retry_after: u64) -> Halt {
    Problem::unavailable("Signing keys are not available", retry_after.max(1)).into()
}
