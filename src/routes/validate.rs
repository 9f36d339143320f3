//! `/Validate`: returns the claims of the caller's token.

use super::authenticate::{POP_CHALLENGE, Presented, bearer, challenge, signed_request};
use super::call::{Call, Halt, Parked};
use super::problem::Problem;
use super::reply;
use crate::http::{Keep, Reply, Resumed};
use crate::jwt::shr::OriginalRequest;
use crate::value::json;

/// Answers `{"protocol","token","claims"}`.
pub fn validate(call: &Call<'_>, resumed: Option<&Resumed<Parked>>) -> Result<Reply, Halt> {
    match Presented::of(call) {
        Presented::Bearer(token) => {
            let verified = bearer(call, token, resumed)?;
            call.body(Keep::No)?;
            // As received: an encrypted token stays encrypted.
            Ok(result("Bearer", token, verified.claims_json()))
        }
        Presented::Pop(signed) => {
            let verified = signed_request(call, signed, &original_request(call)?, resumed)?;
            call.body(Keep::No)?;
            Ok(result("PoP", verified.assertion(), verified.claims_json()))
        }
        Presented::Nothing => {
            let challenge = call.service.config.azure_ad.challenge.clone();
            Err(Problem::with(400, "No token found").header("WWW-Authenticate", challenge).into())
        }
        Presented::Unusable => Err(challenge(call).into()),
    }
}

/// The request that the caller received, which a signed request must match.
fn original_request(call: &Call<'_>) -> Result<OriginalRequest, Problem> {
    let unusable = |detail: String| Problem::with(400, detail).header("WWW-Authenticate", POP_CHALLENGE);
    let header = |name: &'static str| {
        let missing = || unusable(format!("The header {name} is required with a signed request"));
        call.request.headers.text(name).ok_or_else(missing)
    };
    OriginalRequest::parse(header("original-method")?, header("original-uri")?).map_err(unusable)
}

fn result(protocol: &str, token: &str, claims: &str) -> Reply {
    reply::json(answer(protocol, token, claims))
}

/// The answer for a token that is good, and so is base64url and dots.
pub fn answer(protocol: &str, token: &str, claims: &str) -> Vec<u8> {
    let mut body = Reply::buffer();
    body.reserve(token.len() + claims.len() + 48);
    body.extend_from_slice(br#"{"protocol":"#);
    json::push_plain_string(&mut body, protocol);
    body.extend_from_slice(br#","token":"#);
    json::push_plain_string(&mut body, token);
    body.extend_from_slice(br#","claims":"#);
    body.extend_from_slice(claims.as_bytes());
    body.push(b'}');
    body
}
