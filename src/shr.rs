//! Outgoing signed HTTP requests: the sidecar holds the key that a token is bound to, and signs the
//! token together with the request (draft-ietf-oauth-signed-http-request-03).

use std::collections::BTreeMap;
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PSS_SHA256, RsaKeyPair};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use crate::file;
use crate::value::b64;
use crate::value::bound_key::BoundKey;
use crate::value::der;
use crate::value::jwk::PublicKey;
use crate::value::pem;
use crate::value::url::Url;

/// A key takes a few kilobytes; a larger file means a wrong path.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// A private key and the names of its public half.
pub struct RequestSigner {
    key: SigningKey,
    jwk: Value,
    bound: BoundKey,
}

enum SigningKey {
    P256(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

const KEY_FILE: &str = "Sidecar:SignedHttpRequests:KeyFile";

impl RequestSigner {
    /// Generates a P-256 key that lives as long as the process.
    pub fn generate() -> Result<Self, String> {
        let failed = |_| format!("{KEY_FILE}: failed to generate a key");
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(failed)?;
        let mut signer = Self::of(b"PRIVATE KEY", document.as_ref())?;
        signer.bound.generated = true;
        Ok(signer)
    }

    /// Reads a key from PEM: RSA or P-256, as PKCS#8, PKCS#1 or SEC1.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let failed = |what: String| format!("{KEY_FILE}: {}: {what}", path.display());
        let content = file::read(path, MAX_KEY_FILE).map_err(|error| failed(error.to_string()))?;
        let malformed = |expected| failed(format!("expected {expected}"));
        for section in pem::sections(&content) {
            let section = section.map_err(malformed)?;
            if matches!(section.label, b"PRIVATE KEY" | b"RSA PRIVATE KEY" | b"EC PRIVATE KEY") {
                return Self::of(section.label, &section.decode().map_err(malformed)?).map_err(failed);
            }
        }
        Err(failed("contains no unencrypted private key in PEM".to_owned()))
    }

    fn of(label: &[u8], der: &[u8]) -> Result<Self, String> {
        let unusable = || "expected an RSA key of 2048 to 4096 bits or a P-256 key".to_owned();
        let random = SystemRandom::new();
        let ec = match label {
            b"PRIVATE KEY" => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random).ok(),
            b"EC PRIVATE KEY" => der::ec_private_key(der).and_then(|(private, public)| {
                let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
                EcdsaKeyPair::from_private_key_and_public_key(signing, private, public, &random).ok()
            }),
            _ => None,
        };
        let (key, public) = if let Some(pair) = ec {
            let public = PublicKey::P256(pair.public_key().as_ref().to_vec());
            (SigningKey::P256(Box::new(pair)), public)
        } else {
            let pair = match label {
                b"PRIVATE KEY" => RsaKeyPair::from_pkcs8(der),
                _ => RsaKeyPair::from_der(der),
            };
            let pair = pair.map_err(|_| unusable())?;
            let public = der::rsa_from_pkcs1(pair.public_key().as_ref()).ok_or_else(unusable)?;
            let public = PublicKey::rsa(public.n, public.e).map_err(|_| unusable())?;
            (SigningKey::Rsa(Box::new(pair)), public)
        };
        let jwk = serde_json::from_str(&public.canonical()).map_err(|_| unusable())?;
        let bound = BoundKey::of(&public);
        Ok(Self { key, jwk, bound })
    }

    /// The key that tokens are bound to.
    pub const fn bound_key(&self) -> &BoundKey {
        &self.bound
    }

    /// Signs one request. `claims` are the caller's members, without any that are set here; they
    /// may replace the random `nonce`.
    pub fn sign(
        &self,
        token: &str,
        method: &str,
        url: &Url,
        claims: BTreeMap<String, Box<RawValue>>,
        now: u64,
    ) -> Result<String, ring::error::Unspecified> {
        let random = SystemRandom::new();
        let mut nonce = [0u8; 16];
        random.fill(&mut nonce)?;
        let (algorithm, kid) = match &self.key {
            SigningKey::P256(_) => ("ES256", &self.bound.kid),
            SigningKey::Rsa(_) => ("PS256", &self.bound.kid),
        };
        let header = json!({ "alg": algorithm, "kid": kid, "typ": "pop" });
        let host = url.origin.authority();
        let raw = |value: Value| to_raw_value(&value).map_err(|_| ring::error::Unspecified);
        let mut payload = claims;
        let own = [
            ("at", json!(token)),
            ("ts", json!(now)),
            ("m", json!(method)),
            ("u", json!(host)),
            ("p", json!(url.path)),
            ("cnf", json!({ "jwk": self.jwk })),
        ];
        for (name, value) in own {
            payload.insert(name.to_owned(), raw(value)?);
        }
        if !payload.contains_key("nonce") {
            payload.insert("nonce".to_owned(), raw(json!(b64::url(nonce)))?);
        }
        let payload = serde_json::to_string(&payload).map_err(|_| ring::error::Unspecified)?;
        let text = format!("{}.{}", b64::url(header.to_string()), b64::url(payload));
        let signature = match &self.key {
            SigningKey::P256(pair) => pair.sign(&random, text.as_bytes())?.as_ref().to_vec(),
            SigningKey::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PSS_SHA256, &random, text.as_bytes(), &mut signature)?;
                signature
            }
        };
        Ok(format!("{text}.{}", b64::url(signature)))
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    fn parts(text: &str) -> (Value, Value, Vec<u8>) {
        let decode = |part: &str| b64::from_url(part).unwrap();
        let parts: Vec<&str> = text.split('.').collect();
        let json = |part: &str| serde_json::from_slice(&decode(part)).unwrap();
        (json(parts[0]), json(parts[1]), decode(parts[2]))
    }

    fn claims(text: &str) -> BTreeMap<String, Box<RawValue>> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_request_is_signed_with_everything_that_binds_it() {
        let signer = RequestSigner::generate().unwrap();
        let url = Url::parse("https://api.example:8443/v1/me?x=1").unwrap();
        let text = signer.sign("AT", "POST", &url, claims(r#"{"extra":1}"#), 1_000).unwrap();
        let (header, payload, signature) = parts(&text);
        assert_eq!(header, json!({ "alg": "ES256", "kid": signer.bound_key().kid, "typ": "pop" }));
        for (name, value) in [
            ("at", json!("AT")),
            ("ts", json!(1_000)),
            ("m", json!("POST")),
            ("u", json!("api.example:8443")),
            ("p", json!("/v1/me")),
            ("extra", json!(1)),
        ] {
            assert_eq!(payload[name], value, "{name}");
        }
        let jwk = &payload["cnf"]["jwk"];
        assert_eq!(BoundKey::parse(&jwk.to_string()).unwrap().kid, signer.bound_key().kid);
        assert!(signer.bound_key().generated);
        let coordinate = |name: &str| b64::from_url(jwk[name].as_str().unwrap()).unwrap();
        let point = [vec![4], coordinate("x"), coordinate("y")].concat();
        let content = text.rsplit_once('.').unwrap().0;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(content.as_bytes(), &signature).unwrap();
    }

    #[test]
    fn a_key_file_may_begin_with_a_byte_order_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let pem = include_str!("outbound/testdata/server.key");
        std::fs::write(&path, pem).unwrap();
        let plain = RequestSigner::from_file(&path).unwrap();
        std::fs::write(&path, format!("\u{feff}{pem}")).unwrap();
        assert_eq!(RequestSigner::from_file(&path).unwrap().bound_key(), plain.bound_key());
    }

    #[test]
    fn every_request_has_its_own_nonce_unless_it_is_given() {
        let signer = RequestSigner::generate().unwrap();
        let url = Url::parse("https://api.example/").unwrap();
        let nonce = |further: &str| {
            let text = signer.sign("AT", "GET", &url, claims(further), 1).unwrap();
            parts(&text).1["nonce"].clone()
        };
        assert_ne!(nonce("{}"), nonce("{}"));
        assert_eq!(nonce(r#"{"nonce":"mine"}"#), json!("mine"));
    }

    #[test]
    fn the_callers_numbers_stay_as_they_were_written() {
        let signer = RequestSigner::generate().unwrap();
        let url = Url::parse("https://api.example/").unwrap();
        let text = signer.sign("AT", "GET", &url, claims(r#"{"n":12345678901234567890123,"f":1.10}"#), 1).unwrap();
        let payload = b64::from_url(text.split('.').nth(1).unwrap()).unwrap();
        let payload = String::from_utf8(payload).unwrap();
        assert!(payload.contains(r#""n":12345678901234567890123"#) && payload.contains(r#""f":1.10"#), "{payload}");
    }
}
