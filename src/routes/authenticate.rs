//! Finds and verifies the caller's token. Verified tokens are remembered.

use std::sync::Arc;
use std::time::Duration;

use super::call::{Call, Halt, Parked};
use super::problem::Problem;
use crate::http::Resumed;
use crate::jwks::{KeySet, RefreshAnswer};
use crate::jwt::shr::{OriginalRequest, access_token};
use crate::jwt::{Finding, Rejection, Verified};
use crate::turns::{self, Lane};

/// The challenge in answer to an unusable signed request.
pub const POP_CHALLENGE: &str = "PoP error=\"invalid_token\"";

/// How long a request waits while signing keys are fetched.
const KEY_WAIT: Duration = Duration::from_secs(2);

/// Seconds until a request that found no keys may be repeated.
const KEY_RETRY: u64 = 5;

/// The `Authorization` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented<'a> {
    Nothing,
    /// Another scheme, or no token.
    Unusable,
    Bearer(&'a str),
    Pop(&'a str),
}

impl<'a> Presented<'a> {
    /// Parses the header (RFC 9110 §11.4). The server refuses a second one.
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

/// Verifies the caller's token. `None` only if the operator lets the application act without one.
pub fn caller(call: &Call<'_>, resumed: Option<&Resumed<Parked>>) -> Result<Option<Arc<Verified>>, Halt> {
    match Presented::of(call) {
        Presented::Bearer(token) => bearer(call, token, resumed).map(Some),
        Presented::Nothing if call.service.config.sidecar.allow_app_token_without_user => Ok(None),
        Presented::Nothing | Presented::Unusable | Presented::Pop(_) => Err(challenge(call).into()),
    }
}

/// The 401 for a missing token.
pub fn challenge(call: &Call<'_>) -> Problem {
    Problem::token_required(&call.service.config.azure_ad.challenge)
}

/// Verifies a bearer token, unless it is remembered.
pub fn bearer(call: &Call<'_>, token: &str, resumed: Option<&Resumed<Parked>>) -> Result<Arc<Verified>, Halt> {
    judge(call, token, resumed)?.map_err(|rejection| {
        let registration = &call.service.config.azure_ad;
        Problem::from_rejection(&rejection, registration).into()
    })
}

/// The token's proof, or which check it failed.
pub type Judged = Result<Arc<Verified>, Rejection>;

/// Judges a token for callers that report a rejection in their own words.
pub fn judge(call: &Call<'_>, token: &str, resumed: Option<&Resumed<Parked>>) -> Result<Judged, Halt> {
    with_keys(call, token, resumed, |keys, now| call.service.validator.validate(token, keys, now))
}

/// As [`judge`], with what each check found.
pub fn explained(
    call: &Call<'_>,
    token: &str,
    resumed: Option<&Resumed<Parked>>,
) -> Result<(Judged, Vec<Finding>), Halt> {
    let (validator, mut findings) = (&call.service.validator, Vec::new());
    let judged = with_keys(call, token, resumed, |keys, now| {
        let outcome = validator.validate(token, keys, now);
        findings = validator.explain(token, keys, now, outcome.as_ref().err());
        outcome
    })?;
    Ok((judged, findings))
}

/// Verifies a signed request: the token inside it, and that it was signed for this request.
pub fn signed_request(
    call: &Call<'_>,
    signed: &str,
    original: &OriginalRequest,
    resumed: Option<&Resumed<Parked>>,
) -> Result<Arc<Verified>, Halt> {
    let service = call.service;
    let check = |keys: &KeySet, now| service.signed_requests.verify(signed, original, &service.validator, keys, now);
    // The token inside may be encrypted.
    let token = access_token(signed).unwrap_or_default();
    with_keys(call, &token, resumed, check)?
        .map_err(|_| challenge(call).header("WWW-Authenticate", POP_CHALLENGE).into())
}

/// Verifies with the current keys, and again with fetched ones if the key is unknown.
pub fn with_keys(
    call: &Call<'_>,
    token: &str,
    resumed: Option<&Resumed<Parked>>,
    check: impl FnOnce(&KeySet, u64) -> Result<Arc<Verified>, Rejection>,
) -> Result<Result<Arc<Verified>, Rejection>, Halt> {
    let service = call.service;
    let waited = resumed.is_some_and(|resumed| matches!(resumed.on, Parked::Keys));
    let Some(keys) = service.keys.snapshot() else {
        return Err(if !waited && service.keys.on_missing(call.wake()) == RefreshAnswer::Wait {
            park(call)
        } else {
            Problem::unavailable("Signing keys are not available", KEY_RETRY).into()
        });
    };
    let now = call.shared.clock.unix();
    #[cfg(feature = "jwe")]
    service.decryption.renew(&service.validator, now);
    if service.validator.decrypts(token, &keys, now) && !turns::has(&Lane::Decryption) {
        // A request that waits for something else was verified earlier, but has since been
        // forgotten.
        if !turns::may_block() {
            return Err(Halt::Call(Parked::Decryption, Lane::Decryption));
        }
        turns::switch(&Lane::Decryption)?;
    }
    let outcome = check(&keys, now);
    if let Err(Rejection::KeyNotFound) = &outcome
        && !waited
        && service.keys.on_unknown_kid(&keys, call.wake()) == RefreshAnswer::Wait
    {
        return Err(park(call));
    }
    // A request that is handled again finds its token judged already.
    if !call.request.record.mark.replace(true) {
        call.shared.metrics.validation(outcome.as_ref().map_or_else(Rejection::code, |_| "valid"));
    }
    Ok(outcome.inspect_err(|rejection| log::info!("inbound token refused: {}", rejection.code())))
}

fn park(call: &Call<'_>) -> Halt {
    Halt::Park(Parked::Keys, call.shared.clock.instant() + KEY_WAIT)
}
