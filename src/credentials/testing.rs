//! Fixtures for credential tests: a scripted network, and a token request to authenticate.

use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::Value;

use super::{ClientAuth, Context, Failure, Identities, Source};
use crate::clock::ManualClock;
use crate::config::{Registration, testing::registration};
use crate::outbound::{Exchange, HeaderFields, OutError, OutRequest, OutResponse, Upstream};
use crate::secret::Secret;
use crate::value::der;

/// The token endpoint of the request.
pub const AUDIENCE: &str = "https://login.microsoftonline.com/t1/oauth2/v2.0/token";

/// Answers a request, given as one line for method and URL, one per header, and the body.
type Answer = Box<dyn Fn(Upstream, &str) -> Result<OutResponse, OutError> + Send + Sync>;

/// A token request that needs authentication, with its context.
pub struct World {
    pub clock: ManualClock,
    pub registration: Registration,
    answer: Answer,
    identity: Result<Secret<String>, Failure>,
    /// As passed to [`Answer`].
    pub requests: Mutex<Vec<String>>,
    /// Client id and resource.
    pub asked: Mutex<Vec<(Option<String>, String)>>,
}

impl World {
    /// Nothing answers.
    pub fn at(now: u64) -> Self {
        Self::with(now, |_, _| panic!("no request was expected"))
    }

    pub fn with(
        now: u64,
        answer: impl Fn(Upstream, &str) -> Result<OutResponse, OutError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            clock: ManualClock::at(now),
            registration: registration("https://login.microsoftonline.com/", "t1"),
            answer: Box::new(answer),
            identity: Ok(Secret::new("MI".into())),
            requests: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    /// The result for managed identities.
    pub fn identity(mut self, identity: Result<&str, Failure>) -> Self {
        self.identity = identity.map(|token| Secret::new(token.to_owned()));
        self
    }

    pub fn context(&self) -> Context<'_> {
        Context {
            audience: AUDIENCE,
            registration: &self.registration,
            clock: &self.clock,
            exchange: self,
            identities: self,
            correlation_id: "cid",
        }
    }

    pub fn authenticate(&self, source: &dyn Source) -> Result<String, Failure> {
        source.authenticate(&self.context()).map(|auth| match auth {
            ClientAuth::Assertion(text) => text.expose().clone(),
            ClientAuth::Secret(_) => panic!("an assertion"),
        })
    }

    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

impl Exchange for World {
    fn send(&self, request: OutRequest) -> Result<OutResponse, OutError> {
        assert!(!request.timeout.is_zero() && request.max_body > 0);
        let headers = request.headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)));
        let body = request.body.as_ref().map(|body| String::from_utf8(body.current().to_vec()).unwrap());
        let first = format!("{} {}", request.method, request.url);
        let text = [first].into_iter().chain(headers).chain(body).collect::<Vec<_>>().join("\n");
        self.requests.lock().unwrap().push(text.clone());
        (self.answer)(request.upstream, &text)
    }
}

impl Identities for World {
    fn managed_identity(&self, client_id: Option<&str>, resource: &str) -> Result<Secret<String>, Failure> {
        self.asked.lock().unwrap().push((client_id.map(str::to_owned), resource.to_owned()));
        self.identity.clone()
    }
}

/// A file in `tests/data/credentials`.
pub fn data(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/credentials").join(name)
}

/// The certificates of a PEM file there.
pub fn certificates(name: &str) -> Vec<Vec<u8>> {
    let mut material = super::certificate::KeyMaterial::default();
    material.add(&std::fs::read(data(name)).unwrap(), None).unwrap();
    material.certificates
}

/// Verifies an assertion with the certificate in `leaf.crt.pem`, and returns its header and
/// payload.
pub fn verified(assertion: &str) -> (Value, Value) {
    let parts: Vec<&str> = assertion.split('.').collect();
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let leaf = der::Certificate::parse(&certificates("leaf.crt.pem")[0]).unwrap();
    // The SubjectPublicKeyInfo of an RSA-2048 key ends with its 270-byte RSAPublicKey.
    let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &leaf.spki[leaf.spki.len() - 270..]);
    key.verify(format!("{}.{}", parts[0], parts[1]).as_bytes(), &decode(parts[2])).unwrap();
    let json = |part| serde_json::from_slice(&decode(part)).unwrap();
    (json(parts[0]), json(parts[1]))
}

/// A moment at which the certificates are valid.
pub fn now() -> u64 {
    der::Certificate::parse(&certificates("leaf.crt.pem")[0]).unwrap().not_before + 1000
}

#[expect(clippy::unnecessary_wraps, reason = "stands for an exchange, which may fail")]
pub fn answer(status: u16, body: &str) -> Result<OutResponse, OutError> {
    Ok(OutResponse { status, headers: HeaderFields::default(), body: body.as_bytes().to_vec() })
}
