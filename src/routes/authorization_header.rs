//! `/AuthorizationHeader*`: the header that the caller sends to the API itself.

use super::acquire::{Acquisition, ask};
use super::call::{Call, Halt, Parked};
use super::reply;
use super::route::Route;
use crate::http::{Keep, Reply, Resumed};
use crate::options::Effective;
use crate::value::json;

/// `{"authorizationHeader"}`.
pub fn authorization_header(
    call: &Call<'_>,
    route: &Route<'_>,
    resumed: Option<Resumed<Parked>>,
) -> Result<Reply, Halt> {
    let asked = ask(call, route, resumed.as_ref())?;
    call.body(Keep::No)?;
    let effective = Effective::merge(asked.api, &asked.overrides)?;
    let acquisition = Acquisition::new(call, &asked, &effective, route.endpoint.is_authenticated(), resumed.as_ref())?;
    let token = acquisition.token(call, resumed)?;
    let header = acquisition.authorization(call, &token, || acquisition.target(call))?;
    let mut body = Reply::buffer();
    body.reserve(header.len() + 32);
    body.extend_from_slice(br#"{"authorizationHeader":"#);
    json::push_string(&mut body, &header);
    body.push(b'}');
    Ok(acquisition.announce(reply::json(body)))
}
