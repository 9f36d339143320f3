//! `/AuthorizationHeader*`: a header for the caller's own request to the API.

use super::acquire::{Acquisition, ask};
use super::call::{Call, Halt, Parked};
use super::reply;
use super::route::Route;
use crate::http::{Keep, Reply, Resumed};
use crate::options::Effective;
use crate::token::AccessToken;
use crate::value::json;

/// Answers `{"authorizationHeader"}`.
pub fn authorization_header(
    call: &Call<'_>,
    route: &Route<'_>,
    resumed: Option<Resumed<Parked>>,
) -> Result<Reply, Halt> {
    acquire(call, route, resumed, |acquisition, token, header| {
        let mut body = Reply::buffer();
        body.reserve(header.len() + 32);
        body.extend_from_slice(br#"{"authorizationHeader":"#);
        if token.is_plain() {
            json::push_plain_string(&mut body, header);
        } else {
            json::push_string(&mut body, header);
        }
        body.push(b'}');
        acquisition.announce(reply::json(body))
    })
}

/// The header's value, and the token in it, for `answer` to make something of.
pub fn acquire<T>(
    call: &Call<'_>,
    route: &Route<'_>,
    resumed: Option<Resumed<Parked>>,
    answer: impl FnOnce(&Acquisition<'_>, &AccessToken, &str) -> T,
) -> Result<T, Halt> {
    let asked = ask(call, route, resumed.as_ref())?;
    call.body(Keep::No)?;
    let effective = Effective::merge(asked.api, &asked.overrides)?;
    let acquisition = Acquisition::new(call, &asked, &effective, resumed.as_ref())?;
    let token = acquisition.token(call, resumed)?;
    let header = acquisition.authorization(call, &token, || acquisition.target(call))?;
    Ok(answer(&acquisition, &token, &header))
}
