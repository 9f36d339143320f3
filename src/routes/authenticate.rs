//! The caller's own token: found, verified, remembered.

use std::sync::Arc;
use std::time::Duration;

use super::call::{Call, Halt, Parked};
use super::problem::Problem;
use crate::http::Resumed;
use crate::jwks::{KeySet, RefreshAnswer};
use crate::jwt::shr::{OriginalRequest, access_token};
use crate::jwt::{Rejection, Verified};
use crate::token;
use crate::turns::{self, Lane};

/// What an unusable signed request is answered with.
pub const POP_CHALLENGE: &str = "PoP error=\"invalid_token\"";

/// How long a request waits for signing keys that are being fetched.
const KEY_WAIT: Duration = Duration::from_secs(2);

/// After which a caller who came without keys may try again, in seconds.
const KEY_RETRY: u64 = 5;

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
        Presented::Bearer(token) => bearer(call, token, resumed).map(Some),
        Presented::Nothing if call.service.config.sidecar.allow_app_token_without_user => Ok(None),
        Presented::Nothing | Presented::Unusable | Presented::Pop(_) => Err(challenge(call).into()),
    }
}

/// 401 without a token to speak of.
pub fn challenge(call: &Call<'_>) -> Problem {
    Problem::token_required(&call.service.config.azure_ad.challenge)
}

/// The token's proof: from the memory, else by verifying it.
pub fn bearer(call: &Call<'_>, token: &str, resumed: Option<&Resumed<Parked>>) -> Result<Arc<Verified>, Halt> {
    let service = call.service;
    let check = |keys: &KeySet, now| service.validator.validate(token, keys, now);
    let refuse = |rejection: &Rejection| Problem::from_rejection(rejection, &service.config.azure_ad);
    with_keys(call, token, resumed, check, refuse)
}

/// The proof of a signed request: of the token inside, and that the request is what was signed.
pub fn signed_request(
    call: &Call<'_>,
    signed: &str,
    original: &OriginalRequest,
    resumed: Option<&Resumed<Parked>>,
) -> Result<Arc<Verified>, Halt> {
    let service = call.service;
    let check = |keys: &KeySet, now| service.signed_requests.verify(signed, original, &service.validator, keys, now);
    let refuse = |_: &Rejection| challenge(call).header("WWW-Authenticate", POP_CHALLENGE);
    // Its access token may be an encrypted one.
    let token = access_token(signed).unwrap_or_default();
    with_keys(call, &token, resumed, check, refuse)
}

/// Checks with the keys of the moment, and once more if they were behind.
pub fn with_keys(
    call: &Call<'_>,
    token: &str,
    resumed: Option<&Resumed<Parked>>,
    check: impl FnOnce(&KeySet, u64) -> Result<Arc<Verified>, Rejection>,
    refuse: impl FnOnce(&Rejection) -> Problem,
) -> Result<Arc<Verified>, Halt> {
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
        // A request that waits for something else by now has been verified, and is no longer remembered.
        if !turns::may_block() {
            return Err(Halt::Call(Parked::Decryption, Lane::Decryption));
        }
        turns::switch(&Lane::Decryption).map_err(|turns::Busy| Problem::from(token::Error::Busy))?;
    }
    let outcome = check(&keys, now);
    if let Err(Rejection::KeyNotFound) = &outcome
        && !waited
        && service.keys.on_unknown_kid(&keys, call.wake()) == RefreshAnswer::Wait
    {
        return Err(park(call));
    }
    call.shared.metrics.validation(outcome.as_ref().map_or_else(Rejection::code, |_| "valid"));
    outcome.map_err(|rejection| {
        log::info!("inbound token refused: {}", rejection.code());
        refuse(&rejection).into()
    })
}

fn park(call: &Call<'_>) -> Halt {
    Halt::Park(Parked::Keys, call.shared.clock.instant() + KEY_WAIT)
}
