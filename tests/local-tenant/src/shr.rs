//! Signed HTTP requests as a resource sees them (draft-ietf-oauth-signed-http-request-03): a JWS of type `pop`, signed with the key whose
//! thumbprint the access token inside confirms.

use serde_json::{Value, json};

use crate::jwt::{self, Claims, Decoded};
use crate::keys::{PublicKey, SigningKey};
use crate::message::Request;
use crate::random;
use crate::state::State;
use crate::time::now;
use crate::verify;

/// How old or new a signed request may be, in seconds.
const LIFETIME: i64 = 300;

/// A signed request as a key holder makes it: bound to method, host and path. The changes come last.
pub fn sign(key: &SigningKey, token: &str, request: (&str, &str, &str), changes: &Claims) -> String {
    let (method, host, path) = request;
    let public = key.public();
    let mut header = Claims::default();
    header.set("alg", if key.algorithm() == "RS256" { "PS256" } else { key.algorithm() });
    header.set("typ", "pop");
    header.set("kid", public.thumbprint());
    let mut payload = Claims::default();
    payload.set("at", token);
    payload.set("ts", now());
    payload.set("m", method);
    payload.set("u", host);
    payload.set("p", path);
    payload.set("nonce", random::text());
    payload.set("cnf", json!({"jwk": public.jwk()}));
    payload.extend(changes);
    jwt::sign(&header, payload.text().as_bytes(), key)
}

/// Checks a signed request against the request that carries it; gives the access token inside.
pub fn verify(state: &State, request: &Request, signed: &str) -> Result<Decoded, String> {
    let outer = Decoded::of(signed).map_err(|reason| format!("the signed request is malformed: {reason}"))?;
    let token = outer.text("at").ok_or("the signed request holds no access token")?;
    let inner = verify::issued_here(state, token)?;
    let jwk = outer.payload.get("cnf").and_then(|cnf| cnf.get("jwk")).ok_or("the signed request holds no key")?;
    let key = PublicKey::from_jwk(jwk).ok_or("the key of the signed request is unusable")?;
    let thumbprint = key.thumbprint();
    let confirmed = inner.payload.get("cnf").and_then(|cnf| cnf.get("kid")).and_then(Value::as_str);
    if confirmed != Some(&thumbprint) {
        return Err("the access token is bound to another key".into());
    }
    if outer.header_text("typ") != Some("pop") {
        return Err("the type of the signed request is not pop".into());
    }
    if outer.header_text("kid") != Some(&thumbprint) {
        return Err("the kid of the signed request is not its key's thumbprint".into());
    }
    if jwk.get("d").is_some() {
        return Err("the signed request holds a private key".into());
    }
    if !outer.signed_by(&key) {
        return Err("the signature of the signed request is wrong".into());
    }
    let ts = outer.payload.get("ts").and_then(Value::as_i64).ok_or("ts is not a number")?;
    if (now() - ts).abs() > LIFETIME {
        return Err("the signed request is too old or too new".into());
    }
    if outer.text("nonce").is_none_or(str::is_empty) {
        return Err("the signed request has no nonce".into());
    }
    for (claim, expected) in [
        ("m", request.method.as_str()),
        ("u", request.header("host").unwrap_or_default()),
        ("p", request.path.as_str()),
    ] {
        if outer.text(claim) != Some(expected) {
            return Err(format!("{claim} is {:?}, not {expected}", outer.text(claim)));
        }
    }
    Ok(inner)
}
