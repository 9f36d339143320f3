//! How the tenant judges a token that it issued itself.

use serde_json::Value;

use crate::jwt::Decoded;
use crate::message::Request;
use crate::state::State;
use crate::time::now;

/// Takes a token apart and checks signature and times.
pub fn issued_here(state: &State, token: &str) -> Result<Decoded, String> {
    let decoded = Decoded::of(token).map_err(|reason| format!("the token is malformed: {reason}"))?;
    let kid = decoded.header_text("kid").ok_or("the token has no kid")?;
    let key = state.keys.read().unwrap().find(kid).ok_or_else(|| format!("no key has the kid {kid}"))?;
    if !decoded.signed_by(&key.public()) {
        return Err("the signature is wrong".into());
    }
    let tenant = decoded.text("tid").unwrap_or_default();
    let issuers = [format!("{}/{tenant}/v2.0", state.base), format!("https://sts.windows.net/{tenant}/")];
    if !issuers.iter().any(|issuer| decoded.text("iss") == Some(issuer)) {
        return Err("the issuer is wrong".into());
    }
    if decoded.time("exp").is_none_or(|exp| exp <= now()) {
        return Err("the token has expired".into());
    }
    if decoded.time("nbf").is_some_and(|nbf| nbf > now() + 300) {
        return Err("the token is not valid yet".into());
    }
    Ok(decoded)
}

/// The token of a request for the API of this resource, in its only `Authorization` header.
pub fn bearer(state: &State, request: &Request, resource: &str) -> Result<Decoded, String> {
    let values: Vec<_> =
        request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("authorization")).collect();
    let [(_, value)] = values.as_slice() else {
        return Err(format!("{} Authorization headers", values.len()));
    };
    let token = issued_here(state, value.strip_prefix("Bearer ").ok_or("the scheme is not Bearer")?)?;
    if audiences(&token).contains(&resource) { Ok(token) } else { Err("the audience is another".into()) }
}

/// The token's audiences.
pub fn audiences(decoded: &Decoded) -> Vec<&str> {
    match decoded.payload.get("aud") {
        Some(Value::String(audience)) => vec![audience],
        Some(Value::Array(audiences)) => audiences.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The user's principal name or, in an app token, the application's id.
pub fn subject(decoded: &Decoded) -> &str {
    let user = decoded.text("upn").or_else(|| decoded.text("preferred_username"));
    user.unwrap_or_else(|| client_of(decoded))
}

/// The client that a token was issued to: `azp`, or `appid` in version 1.
pub fn client_of(decoded: &Decoded) -> &str {
    decoded.text("azp").or_else(|| decoded.text("appid")).unwrap_or_default()
}
