//! `/oauth2/token/{serviceName}`: the tokens of `/AuthorizationHeader*` for OAuth clients. Client
//! credentials (RFC 6749 §4.4) for the application, token exchange (RFC 8693) for a user.

use std::borrow::Cow;

use super::super::acquire::{Acquisition, Asked, find_api};
use super::super::authenticate::judge;
use super::super::call::{Call, Halt, Parked};
use super::super::door::Door;
use super::super::problem::Problem;
use super::super::reply;
use super::super::route::Route;
use super::form::{self, Form};
use crate::http::{Reply, Resumed};
use crate::options::{Effective, Overrides};
use crate::value::{json, syntax};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Answers `{"access_token","token_type","expires_in","scope"}`.
pub fn token(call: &Call<'_>, route: &Route<'_>, resumed: Option<Resumed<Parked>>) -> Result<Reply, Halt> {
    let body = form::body(call)?;
    let form = Form::receive(call, &body)?;
    if route.name.is_empty() {
        return Err(Problem::with(400, "Service name is required").into());
    }
    let (api, known_requests) = find_api(call, &route.name)?;
    let mut overrides = Overrides::parse(call.request.query)?;
    let subject = subject_token(&form)?;
    let (door, caller) = match subject {
        None => (Door::AppToken, None),
        Some(token) => {
            let registration = &call.service.config.azure_ad;
            let verified = judge(call, token, resumed.as_ref())?;
            (Door::UserToken, Some(verified.map_err(|rejection| Problem::from_subject(&rejection, registration))?))
        }
    };
    door.admits(call, &overrides)?;
    let scopes = scopes(&form)?;
    if !scopes.is_empty() {
        if !scopes.iter().all(|scope| api.options.scopes.contains(scope)) {
            door.opens_further(call)?;
        }
        overrides.options.scopes = scopes;
    }
    let asked = Asked { caller, api, known_requests: Some(known_requests), overrides: Cow::Owned(overrides), door };
    let effective = Effective::merge(api, &asked.overrides)?;
    let acquisition = Acquisition::new(call, &asked, &effective, resumed.as_ref())?;
    let token = acquisition.token(call, resumed)?;
    let header = acquisition.authorization(call, &token, || acquisition.target(call))?;
    let (scheme, access_token) = header.split_once(' ').unwrap_or(("Bearer", &header));
    let left = token.expires_at.saturating_sub(call.shared.clock.unix());
    let own = |scope: &&String| !syntax::is_openid_scope(scope);
    let scopes: Vec<&str> = effective.options.scopes.iter().filter(own).map(String::as_str).collect();

    let mut body = Reply::buffer();
    body.reserve(access_token.len() + 256);
    push(&mut body, r#"{"access_token":"#, access_token);
    push(&mut body, r#","token_type":"#, scheme);
    body.extend_from_slice(br#","expires_in":"#);
    body.extend_from_slice(left.to_string().as_bytes());
    if !scopes.is_empty() {
        push(&mut body, r#","scope":"#, &scopes.join(" "));
    }
    if subject.is_some() {
        push(&mut body, r#","issued_token_type":"#, ACCESS_TOKEN);
    }
    body.push(b'}');
    Ok(acquisition.announce(reply::json(body)))
}

fn push(body: &mut Vec<u8>, name: &str, value: &str) {
    body.extend_from_slice(name.as_bytes());
    json::push_string(body, value);
}

/// The token of the user in a token exchange. `None`: the application's own grant.
fn subject_token<'a>(form: &'a Form<'_>) -> Result<Option<&'a str>, Problem> {
    let exchange = match form.required("grant_type")? {
        "client_credentials" => false,
        "urn:ietf:params:oauth:grant-type:token-exchange" => true,
        _ => {
            return Err(Problem::unsupported_grant(
                "grant_type: expected client_credentials or urn:ietf:params:oauth:grant-type:token-exchange",
            ));
        }
    };
    // If they were ignored, the caller would get a token for something else than it asked for.
    for (name, instead) in [
        ("actor_token", "an agent acts by AgentIdentity in the query"),
        ("actor_token_type", "an agent acts by AgentIdentity in the query"),
        ("resource", "scope names the API, as in scope=https://api.example/.default"),
        ("audience", "scope names the API, as in scope=https://api.example/.default"),
    ] {
        if form.get(name).is_some() {
            return Err(Problem::with(400, format!("{name} is not supported: {instead}")));
        }
    }
    if !exchange {
        return Ok(None);
    }
    let token = form.required("subject_token")?;
    if !matches!(form.required("subject_token_type")?, ACCESS_TOKEN | JWT) {
        return Err(Problem::with(400, format!("subject_token_type: expected {ACCESS_TOKEN} or {JWT}")));
    }
    if form.get("requested_token_type").is_some_and(|wanted| wanted != ACCESS_TOKEN) {
        return Err(Problem::with(400, format!("requested_token_type: expected {ACCESS_TOKEN}")));
    }
    Ok(Some(token))
}

/// The requested scopes, which replace the configured ones. OpenID scopes are dropped: user tokens
/// get them anyway, app tokens have none, and clients send them by default.
fn scopes(form: &Form<'_>) -> Result<Vec<String>, Problem> {
    let scopes = syntax::scopes(form.get("scope").unwrap_or_default());
    let scopes = scopes.map_err(|expected| Problem::invalid_scope(format!("scope: expected {expected}")))?;
    Ok(scopes.filter(|scope| !syntax::is_openid_scope(scope)).collect())
}
