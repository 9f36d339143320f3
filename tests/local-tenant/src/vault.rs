//! Key Vault, whose URL is the tenant's own: a request without a token is challenged; then certificates, the
//! secrets behind them, and signatures by keys that never leave.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::rand_core::OsRng;
use rsa::sha2::Sha256;
use serde_json::{Value, json};

use crate::certificate::{CLIENT_1, CLIENT_1_PFX, CLIENT_1_PFX_LEGACY, CLIENT_EXPIRED, ClientCertificate};
use crate::directory::{TENANT_ID, VAULT};
use crate::message::{Answer, Request};
use crate::state::State;
use crate::time::now;
use crate::verify;

/// A certificate in the vault.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// Its current version.
    pub version: String,
    /// The certificate and its key.
    pub certificate: ClientCertificate,
    /// The secret's content type and value; none for a key that is not exportable.
    pub secret: Option<(&'static str, String)>,
    /// Validity, in seconds since 1970.
    pub validity: (i64, i64),
    /// Whether it may be used.
    pub enabled: bool,
}

impl Item {
    /// [`CLIENT_1`] as PKCS#12.
    pub fn pfx(name: &str) -> Self {
        Self {
            name: name.into(),
            version: "0123456789abcdef0123456789abcdef".into(),
            certificate: CLIENT_1,
            secret: Some(("application/x-pkcs12", STANDARD.encode(CLIENT_1_PFX))),
            validity: (now() - 86_400, now() + 365 * 86_400),
            enabled: true,
        }
    }

    /// What a vault holds at the start.
    pub fn ready_made() -> Vec<Self> {
        vec![
            Self::pfx("client-pfx"),
            Self { secret: Some(("application/x-pem-file", CLIENT_1.pem())), ..Self::pfx("client-pem") },
            Self { secret: None, ..Self::pfx("client-sealed") },
            Self {
                certificate: CLIENT_EXPIRED,
                validity: (1_577_836_800, 1_609_459_200),
                secret: Some(("application/x-pem-file", CLIENT_EXPIRED.pem())),
                ..Self::pfx("client-expired")
            },
            Self { enabled: false, ..Self::pfx("client-disabled") },
            // Under a password, which a vault's never is: unreadable.
            Self {
                secret: Some(("application/x-pkcs12", STANDARD.encode(CLIENT_1_PFX_LEGACY))),
                ..Self::pfx("client-locked")
            },
        ]
    }

    fn attributes(&self) -> Value {
        json!({
            "enabled": self.enabled, "nbf": self.validity.0, "exp": self.validity.1,
            "created": self.validity.0, "updated": self.validity.0,
        })
    }
}

/// Answers a vault request.
pub fn answer(state: &State, request: &Request) -> Answer {
    if let Err(refused) = authorize(state, request) {
        return refused;
    }
    if request.query_value("api-version").is_none_or(|version| !version.starts_with("7.") && !version.starts_with("20"))
    {
        return refusal(400, "BadParameter", "The api-version is missing or unknown.");
    }
    let segments = request.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let items = state.vault.read().unwrap();
    let find = |name: &str, version: Option<&str>| {
        items.iter().find(|item| item.name == name && version.is_none_or(|version| item.version == version))
    };
    match (request.method.as_str(), segments.as_slice()) {
        ("GET", ["certificates", name, rest @ ..]) if rest.len() < 2 => find(name, rest.first().copied())
            .map_or_else(|| not_found("Certificate", name), |item| Answer::json(200, &certificate(state, item))),
        ("GET", ["secrets", name, rest @ ..]) if rest.len() < 2 => {
            find(name, rest.first().copied()).map_or_else(|| not_found("Secret", name), |item| secret(state, item))
        }
        ("POST", ["keys", name, version, "sign"]) => {
            find(name, Some(version)).map_or_else(|| not_found("Key", name), |item| sign(state, item, request))
        }
        _ => refusal(405, "MethodNotAllowed", "No such operation."),
    }
}

fn authorize(state: &State, request: &Request) -> Result<(), Answer> {
    let challenge = || {
        let resource = state.settings().vault_resource;
        format!("Bearer authorization=\"{}/{TENANT_ID}\", resource=\"{resource}\"", state.base)
    };
    let unauthorized = |text: &str| refusal(401, "Unauthorized", text).header("WWW-Authenticate", challenge());
    let Some(value) = request.header("authorization") else {
        return Err(unauthorized("AKV10000: Request is missing a Bearer or PoP token."));
    };
    let token = value.strip_prefix("Bearer ").ok_or_else(|| unauthorized("The scheme is not Bearer."))?;
    let token = verify::issued_here(state, token).map_err(|reason| unauthorized(&reason))?;
    if verify::audiences(&token).contains(&VAULT) { Ok(()) } else { Err(unauthorized("AKV10022: Invalid audience.")) }
}

fn refusal(status: u16, code: &str, text: &str) -> Answer {
    Answer::json(status, &json!({"error": {"code": code, "message": text}}))
}

fn not_found(what: &str, name: &str) -> Answer {
    refusal(404, &format!("{what}NotFound"), &format!("{name} was not found in this key vault."))
}

fn id(state: &State, kind: &str, item: &Item) -> String {
    format!("{}/{kind}/{}/{}", state.base, item.name, item.version)
}

fn certificate(state: &State, item: &Item) -> Value {
    let certificate = item.certificate.certificate();
    let content_type = item.secret.as_ref().map_or("application/x-pkcs12", |(content_type, _)| content_type);
    json!({
        "id": id(state, "certificates", item),
        "kid": id(state, "keys", item),
        "sid": id(state, "secrets", item),
        "x5t": URL_SAFE_NO_PAD.encode(certificate.sha1()),
        "cer": STANDARD.encode(&certificate.der),
        "attributes": item.attributes(),
        "policy": {
            "key_props": {"exportable": item.secret.is_some(), "kty": "RSA", "key_size": 2048, "reuse_key": false},
            "secret_props": {"contentType": content_type},
        },
    })
}

fn secret(state: &State, item: &Item) -> Answer {
    if !item.enabled {
        return refusal(403, "Forbidden", "Operation get is not allowed on a disabled secret.");
    }
    let (content_type, value) = match &item.secret {
        Some((content_type, value)) => (*content_type, value.clone()),
        // The secret of a sealed key holds the certificate alone.
        None => ("application/x-pem-file", item.certificate.certificate_pem.to_owned()),
    };
    let body = json!({
        "value": value,
        "contentType": content_type,
        "id": id(state, "secrets", item),
        "attributes": item.attributes(),
        "kid": id(state, "keys", item),
    });
    Answer::json(200, &body)
}

fn sign(state: &State, item: &Item, request: &Request) -> Answer {
    if !item.enabled {
        return refusal(403, "Forbidden", "Operation sign is not allowed on a disabled key.");
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    if !request.header("content-type").is_some_and(|value| value.starts_with("application/json")) {
        return refusal(415, "UnsupportedMediaType", "The body is JSON.");
    }
    let digest = body["value"].as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let Some(digest) = digest.filter(|digest| digest.len() == 32) else {
        return refusal(400, "BadParameter", "The value is not base64url of a SHA-256 digest.");
    };
    let key = rsa::RsaPrivateKey::from_pkcs8_pem(item.certificate.key_pem).expect("an embedded key");
    let signed = match body["alg"].as_str() {
        Some("PS256") => key.sign_with_rng(&mut OsRng, rsa::Pss::new::<Sha256>(), &digest),
        Some("RS256") => key.sign(rsa::Pkcs1v15Sign::new::<Sha256>(), &digest),
        _ => return refusal(400, "BadParameter", "The algorithm is neither PS256 nor RS256."),
    };
    let signed = URL_SAFE_NO_PAD.encode(signed.expect("a digest of the algorithm's length"));
    Answer::json(200, &json!({"kid": id(state, "keys", item), "value": signed}))
}
