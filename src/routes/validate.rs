//! `/Validate`: what the caller's token says, once it has been verified.

use super::authenticate::{Presented, challenge, verify};
use super::problem::Problem;
use super::{Call, Halt, Parked, reply};
use crate::http::{Reply, Resumed};

/// `{"protocol","token","claims"}`.
pub fn validate(call: &Call<'_>, resumed: Option<&Resumed<Parked>>) -> Result<Reply, Halt> {
    let token = match Presented::of(call) {
        Presented::Bearer(token) => token,
        Presented::Nothing => return Err(Problem::with(400, "No token found").into()),
        Presented::Unusable | Presented::Pop(_) => return Err(challenge(call).into()),
    };
    let verified = verify(call, token, resumed)?;
    let claims = verified.claims_json();
    let mut body = Vec::with_capacity(token.len() + claims.len() + 48);
    body.extend_from_slice(br#"{"protocol":"Bearer","token":"#);
    reply::push_string(&mut body, token);
    body.extend_from_slice(br#","claims":"#);
    body.extend_from_slice(claims.as_bytes());
    body.push(b'}');
    Ok(reply::json(body))
}
