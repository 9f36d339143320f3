//! `/ForwardAuth`: a reverse proxy asks before it lets a request through, and hands its answer's headers to the
//! application (docs/reverse-proxy.md). The method and the body are those of the client's request and mean nothing here.

use super::authenticate::{Presented, bearer, challenge};
use super::call::{Call, Halt, Parked};
use super::problem::Problem;
use crate::http::{Caching, Reply, Resumed};
use crate::jwt::claims::Claims;
use crate::jwt::{Rejection, Verified, check_audience};
use crate::options::{OptionsError, decode, parameters};
use crate::value::b64;
use crate::value::percent::encode_invisible;

/// The headers that hold one claim, each with the claims that can: the first that is there counts.
const CLAIM_HEADERS: [(&str, &[&str]); 6] = [
    ("X-Auth-Subject", &["sub"]),
    ("X-Auth-Object-Id", &["oid"]),
    ("X-Auth-Tenant", &["tid"]),
    ("X-Auth-Client", &["azp", "appid"]),
    ("X-Auth-Name", &["name"]),
    ("X-Auth-User", &["preferred_username", "upn"]),
];

/// 200 with who the user is, and no body.
pub fn forward_auth(call: &Call<'_>, resumed: Option<&Resumed<Parked>>) -> Result<Reply, Halt> {
    let required = required(call)?;
    let Presented::Bearer(token) = Presented::of(call) else { return Err(challenge(call).into()) };
    let verified = bearer(call, token, resumed)?;
    // A verified token's claims were parsed before.
    let claims = Claims::parse(verified.claims_json().as_bytes()).ok_or_else(|| Problem::new(500))?;
    let registration = &call.service.config.azure_ad;
    let refuse = |rejection| Problem::from_rejection(&rejection, registration);
    for Required { audiences, .. } in required.iter().flatten().filter(|required| !required.audiences.is_empty()) {
        check_audience(&claims, audiences).map_err(refuse)?;
    }
    for Required { scopes, roles, .. } in required.into_iter().flatten() {
        if !scopes.is_empty() && !verified.scopes().any(|own| scopes.iter().any(|scope| scope == own)) {
            return Err(refuse(Rejection::ScopeRequired(scopes)).into());
        }
        if !roles.is_empty() && !verified.roles().iter().any(|own| roles.contains(own)) {
            return Err(Problem::with(403, format!("The role '{}' is required", roles.join("' or '"))).into());
        }
    }
    Ok(identity(call, &verified, &claims))
}

/// What a route asks of a token beyond its being good. One of each kind suffices; of a kind without any, nothing is asked.
#[derive(Debug, Default, PartialEq, Eq)]
struct Required {
    scopes: Vec<String>,
    roles: Vec<String>,
    audiences: Vec<String>,
}

/// What the query and the header ask for. Both must be met, since the header may be the client's own. Behind
/// `/ForwardAuth/` the query is the client's.
fn required(call: &Call<'_>) -> Result<[Option<Required>; 2], Problem> {
    let request = call.request;
    let query = request.query.filter(|_| request.path.rfind('/') == Some(0));
    let mut headers = request.headers.all("x-sidecar-options");
    let header = headers.next().map(std::str::from_utf8).transpose();
    let header = header.map_err(|_| Problem::with(400, "X-Sidecar-Options: expected text"))?;
    if headers.next().is_some() {
        return Err(OptionsError::Repeated("X-Sidecar-Options").into());
    }
    Ok([query.map(Required::parse).transpose()?, header.map(Required::parse).transpose()?])
}

impl Required {
    fn parse(text: &str) -> Result<Self, Problem> {
        let mut required = Self::default();
        for parameter in parameters(text) {
            let (key, value) = parameter?;
            let list = match key.to_ascii_lowercase().as_str() {
                "scope" => &mut required.scopes,
                "role" => &mut required.roles,
                "audience" => &mut required.audiences,
                "" if value.is_empty() => continue,
                _ => {
                    let nearest = "scope, role or audience".to_owned();
                    return Err(OptionsError::UnknownKey(key.into_owned(), nearest).into());
                }
            };
            let value = decode(&key, value)?;
            // Absent it would ask for nothing, which whoever wrote the key did not mean.
            if value.is_empty() {
                return Err(Problem::with(400, "scope, role, audience: expected a value"));
            }
            list.push(value.into_owned());
        }
        Ok(required)
    }
}

/// Every header is there, empty where the token says nothing: an application must not take a client's own for ours.
fn identity(call: &Call<'_>, verified: &Verified, claims: &Claims<'_>) -> Reply {
    let rules = &call.service.config.sidecar.forward_auth;
    let claim = |names: &[&str]| {
        let name = names.iter().find(|name| claims.has(name));
        name.map_or_else(String::new, |name| words(claims.words(name).iter().map(String::as_str)))
    };
    let mut fields: Vec<(&str, String)> = CLAIM_HEADERS.iter().map(|(name, names)| (*name, claim(names))).collect();
    fields.push(("X-Auth-Scopes", words(verified.scopes())));
    fields.push(("X-Auth-Roles", words(verified.roles().iter().map(String::as_str))));
    fields.push(("X-Auth-Kind", if verified.is_app_only() { "app" } else { "user" }.to_owned()));
    if rules.claims {
        fields.push(("X-Auth-Claims", b64::url(verified.claims_json())));
    }
    for (name, own) in &rules.headers {
        fields.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        fields.push((name, claim(&[own])));
    }
    let reply = Reply::new(200).caching(Caching::Never);
    fields.iter().fold(reply, |reply, (name, value)| reply.header(name, value))
}

/// Words in visible ASCII, divided by blanks.
fn words<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let mut line = String::new();
    for item in items {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(encode_invisible(item));
    }
    line
}
