//! How a client proves who it is: a secret, an assertion signed with a certificate, or an assertion of an issuer
//! that its registration trusts (RFC 6749 §2.3.1, RFC 7523 §2.2).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::agents;
use crate::directory::App;
use crate::form::Form;
use crate::jwt::Decoded;
use crate::message::Request;
use crate::refusal::Refusal;
use crate::state::State;
use crate::time::now;
use crate::verify;

/// The only `client_assertion_type`.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// What the clocks of client and tenant may differ by.
const SKEW: i64 = 300;
/// The longest life of a client assertion, beyond which it is no proof of the moment.
const ASSERTION_LIFETIME: i64 = 600;

/// The registration that a request proves to come from.
pub fn authenticate(state: &State, request: &Request, form: &Form, tenant: &str) -> Result<App, Refusal> {
    let client_id = form.required("client_id")?;
    let app = state
        .directory
        .read()
        .unwrap()
        .app(client_id)
        .cloned()
        .filter(|app| app.multi_tenant || tenant == crate::directory::TENANT_ID);
    let app = app.ok_or_else(|| {
        let text = format!("Application with identifier '{client_id}' was not found in the directory '{tenant}'.");
        Refusal::unauthorized(700_016, text)
    })?;
    match (form.get("client_secret"), form.get("client_assertion")) {
        (Some(_), Some(_)) => Err(Refusal::malformed("client_secret", "allowed beside 'client_assertion'")),
        (None, None) => {
            let text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
            Err(Refusal::client(7_000_218, text))
        }
        (Some(secret), None) => by_secret(&app, secret),
        (None, Some(assertion)) => {
            if form.required("client_assertion_type")? != JWT_BEARER {
                return Err(Refusal::malformed("client_assertion_type", JWT_BEARER));
            }
            by_assertion(state, request, &app, tenant, assertion)
        }
    }?;
    Ok(app)
}

fn by_secret(app: &App, secret: &str) -> Result<(), Refusal> {
    match app.secrets.iter().find(|(known, _)| known == secret) {
        Some((_, false)) => Ok(()),
        Some((_, true)) => {
            let text = format!("The provided client secret keys for app '{}' are expired.", app.client_id);
            Err(Refusal::client(7_000_222, text))
        }
        None => {
            let text = "Invalid client secret provided. Ensure the secret being sent in the request is the client \
                        secret value, not the client secret ID, for a secret added to app";
            Err(Refusal::client(7_000_215, format!("{text} '{}'.", app.client_id)))
        }
    }
}

fn by_assertion(state: &State, request: &Request, app: &App, tenant: &str, assertion: &str) -> Result<(), Refusal> {
    let decoded = Decoded::of(assertion)
        .map_err(|reason| Refusal::client(50_027, format!("JWT token is invalid or malformed: {reason}.")))?;
    if app.blueprint.is_some() {
        return agents::check_exchange_token(state, &decoded, assertion, app, tenant);
    }
    if decoded.header.contains_key("x5t") || decoded.header.contains_key("x5t#S256") {
        by_certificate(state, request, app, &decoded)
    } else {
        by_federation(state, app, assertion, &decoded)
    }
}

fn by_certificate(state: &State, request: &Request, app: &App, assertion: &Decoded) -> Result<(), Refusal> {
    let unknown = |reason: &str| {
        let text = format!("Client assertion failed signature validation. {reason}");
        Refusal::client(700_027, text)
    };
    if assertion.header_text("typ").is_some_and(|typ| typ != "JWT") {
        return Err(unknown("The 'typ' is not JWT."));
    }
    // PS256 goes with the SHA-256 thumbprint and RS256 with the SHA-1 one; never the other way round.
    let (member, digest): (_, fn(&crate::certificate::Certificate) -> Vec<u8>) = match assertion.header_text("alg") {
        Some("PS256") => ("x5t#S256", crate::certificate::Certificate::sha256),
        Some("RS256") => ("x5t", crate::certificate::Certificate::sha1),
        _ => return Err(unknown("The 'alg' is neither PS256 nor RS256.")),
    };
    let thumbprint = assertion
        .header_text(member)
        .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        .ok_or_else(|| unknown(&format!("The header has no base64url '{member}' for its 'alg'.")))?;
    let certificate = app
        .certificates
        .iter()
        .find(|certificate| digest(certificate) == thumbprint)
        .ok_or_else(|| unknown("The key was not found by its thumbprint."))?;
    check_x5c(app, &certificate.der, assertion.header.get("x5c")).map_err(|reason| unknown(&reason))?;
    if !assertion.signed_by(&certificate.key) {
        return Err(unknown("The signature does not match the key."));
    }
    if certificate.is_expired() {
        return Err(unknown("The certificate used has expired."));
    }
    if assertion.text("iss") != Some(&app.client_id) || assertion.text("sub") != Some(&app.client_id) {
        let text = "Client assertion application identifier doesn't match 'client_id' parameter.";
        return Err(Refusal::client(700_021, text));
    }
    let url = format!("http://{}{}", request.header("host").unwrap_or_default(), request.path);
    if assertion.text("aud") != Some(&url) {
        let audience = assertion.text("aud").unwrap_or_default();
        let text = format!("Client assertion audience claim '{audience}' is not the token endpoint '{url}'.");
        return Err(Refusal::client(700_023, text));
    }
    check_times(assertion)?;
    let (nbf, exp) = (assertion.time("nbf"), assertion.time("exp"));
    if nbf.zip(exp).is_some_and(|(nbf, exp)| exp - nbf > ASSERTION_LIFETIME) {
        return Err(Refusal::client(700_024, "Client assertion is valid for longer than 10 minutes."));
    }
    let id = assertion.text("jti").ok_or_else(|| Refusal::client(50_027, "JWT token has no 'jti'."))?;
    if !state.assertion_ids.lock().unwrap().insert(format!("{} {id}", app.client_id)) {
        return Err(Refusal::client(700_025, format!("Client assertion '{id}' was used before.")));
    }
    Ok(())
}

/// The RFC form is an array of standard base64, leaf first; MSAL.NET sends the leaf alone as a string.
fn check_x5c(app: &App, leaf: &[u8], x5c: Option<&Value>) -> Result<(), String> {
    let sent = match x5c {
        None if app.requires_x5c => return Err("The header has no 'x5c', which this trust needs.".into()),
        None => return Ok(()),
        Some(Value::String(text)) => text.as_str(),
        Some(Value::Array(chain)) => chain.first().and_then(Value::as_str).unwrap_or_default(),
        Some(_) => "",
    };
    if STANDARD.decode(sent).is_ok_and(|der| der == leaf) {
        Ok(())
    } else {
        Err("The 'x5c' does not start with the certificate of the thumbprint in standard base64.".into())
    }
}

fn check_times(assertion: &Decoded) -> Result<(), Refusal> {
    let outside = || {
        let text = format!(
            "Client assertion is not within its valid time range. Current time: {}, assertion valid from {:?}, \
             expiry {:?} (seconds since 1970).",
            now(),
            assertion.time("nbf"),
            assertion.time("exp")
        );
        Refusal::client(700_024, text)
    };
    match assertion.time("exp") {
        Some(exp) if exp + SKEW > now() => {}
        _ => return Err(outside()),
    }
    if assertion.time("nbf").is_some_and(|nbf| nbf > now() + SKEW) { Err(outside()) } else { Ok(()) }
}

fn by_federation(state: &State, app: &App, token: &str, assertion: &Decoded) -> Result<(), Refusal> {
    let issuer = assertion.text("iss").unwrap_or_default();
    let full = |known: &str| if known.starts_with('/') { format!("{}{known}", state.base) } else { known.to_owned() };
    let of_issuer: Vec<_> = app.federated.iter().filter(|known| full(&known.issuer) == issuer).collect();
    if of_issuer.is_empty() {
        let text = format!("No matching federated identity record found for presented assertion issuer '{issuer}'.");
        return Err(Refusal::client(700_211, text));
    }
    // An app or managed identity of the tenant is named by its object id; here by its client id as well.
    let subjects = [assertion.text("sub").unwrap_or_default(), verify::client_of(assertion)];
    let Some(known) = of_issuer.iter().find(|known| subjects.contains(&known.subject.as_str())) else {
        let text =
            format!("No matching federated identity record found for presented assertion subject '{}'.", subjects[0]);
        return Err(Refusal::client(700_213, text));
    };
    let directory = state.directory.read().unwrap();
    let is_expected = |audience: &&str| {
        *audience == known.audience || directory.api(audience).is_some_and(|api| api.resource == known.audience)
    };
    if !verify::audiences(assertion).iter().any(is_expected) {
        let text = format!("The audience of the presented assertion is not '{}'.", known.audience);
        return Err(Refusal::client(7_002_206, text));
    }
    drop(directory);
    check_times(assertion)?;
    let signed = if issuer == full("/federated") {
        assertion.signed_by(&state.federated_key.public())
    } else {
        verify::issued_here(state, token).is_ok()
    };
    if signed { Ok(()) } else { Err(Refusal::client(50_013, "Assertion failed signature validation.")) }
}
