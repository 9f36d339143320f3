//! Access tokens: what the token endpoint issues and what a test wants to present. Every claim, header member,
//! key and time can be changed before the token is signed.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::directory::{APP_ID, App, CALLER_ID, TENANT_ID, User};
use crate::jwe;
use crate::jwt::{self, Claims};
use crate::keys::{PublicKey, SigningKey};
use crate::random;
use crate::state::State;
use crate::time::now;

/// A token in the making.
#[derive(Clone)]
pub struct Mint {
    state: Arc<State>,
    header: Claims,
    payload: Claims,
    key: Arc<SigningKey>,
}

impl Mint {
    /// A delegated token of a user for the ready-made registration, with scope `access_as_user`.
    pub fn user(state: &Arc<State>, user: &User) -> Self {
        let mut mint = Self::common(state, &user.tenant);
        mint.payload.set("azp", CALLER_ID);
        mint.payload.set("azpacr", "0");
        mint.payload.set("name", user.name.as_str());
        mint.payload.set("oid", user.oid.as_str());
        mint.payload.set("preferred_username", user.upn.as_str());
        mint.payload.set("scp", "access_as_user");
        // Pairwise: differs per user and application.
        mint.payload.set("sub", format!("sub-of-{}", user.oid));
        mint.finish()
    }

    /// An app-only token for the ready-made registration, with one role.
    pub fn app(state: &Arc<State>, app: &App) -> Self {
        let mut mint = Self::common(state, TENANT_ID);
        mint.payload.set("azp", app.client_id.as_str());
        mint.payload.set("azpacr", "1");
        mint.payload.set("idtyp", "app");
        mint.payload.set("oid", app.object_id.as_str());
        mint.payload.set("roles", json!(["Data.Read.All"]));
        mint.payload.set("sub", app.object_id.as_str());
        mint.finish()
    }

    fn common(state: &Arc<State>, tenant: &str) -> Self {
        let key = state.keys.read().unwrap().current();
        let mut header = Claims::default();
        header.set("typ", "JWT");
        header.set("alg", key.algorithm());
        header.set("kid", key.kid());
        let mut payload = Claims::default();
        payload.set("aud", APP_ID);
        payload.set("iss", format!("{}/{tenant}/v2.0", state.base));
        payload.set("iat", now());
        payload.set("nbf", now());
        payload.set("exp", now() + 3600);
        payload.set("tid", tenant);
        Self { state: Arc::clone(state), header, payload, key }
    }

    fn finish(mut self) -> Self {
        self.payload.set("uti", random::text());
        self.payload.set("ver", "2.0");
        self.payload.set("marker", self.state.next_marker());
        self
    }

    /// Sets a claim.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.payload.set(name, value);
        self
    }

    /// Adds a claim that may be there already, so that it stands twice in the token.
    #[must_use]
    pub fn duplicate(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.payload.push(name, value);
        self
    }

    /// Leaves a claim out.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.payload.remove(name);
        self
    }

    /// Sets a header member.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.set(name, value);
        self
    }

    /// Leaves a header member out.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.header.remove(name);
        self
    }

    /// Sets `aud`.
    #[must_use]
    pub fn audience(self, audience: &str) -> Self {
        self.claim("aud", audience)
    }

    /// Sets `scp`.
    #[must_use]
    pub fn scopes(self, scopes: &str) -> Self {
        self.claim("scp", scopes)
    }

    /// Sets `exp` to this many seconds from now; negative is the past, with `nbf` and `iat` an hour before.
    #[must_use]
    pub fn expires_in(self, seconds: i64) -> Self {
        let exp = now() + seconds;
        let start = if seconds > 0 { now() } else { exp - 3600 };
        self.claim("iat", start).claim("nbf", start).claim("exp", exp)
    }

    /// Moves the token to another tenant: `tid` and `iss`.
    #[must_use]
    pub fn in_tenant(self, tenant: &str) -> Self {
        let issuer = if self.payload.get("ver").and_then(Value::as_str) == Some("1.0") {
            format!("https://sts.windows.net/{tenant}/")
        } else {
            format!("{}/{tenant}/v2.0", self.state.base)
        };
        self.claim("tid", tenant).claim("iss", issuer)
    }

    /// Makes it a version 1 token: the issuer `https://sts.windows.net/…/`, `appid` for `azp`, `upn` for
    /// `preferred_username`, and an audience that is the registration's URI.
    #[must_use]
    pub fn version_1(mut self) -> Self {
        let tenant = self.payload.get("tid").and_then(Value::as_str).unwrap_or(TENANT_ID).to_owned();
        for (new, old) in [("appid", "azp"), ("appidacr", "azpacr"), ("upn", "preferred_username")] {
            if let Some(value) = self.payload.get(old).cloned() {
                self.payload.set(new, value);
                self.payload.remove(old);
            }
        }
        if self.payload.get("aud") == Some(&APP_ID.into()) {
            self.payload.set("aud", format!("api://{APP_ID}"));
        }
        self.payload.set("ver", "1.0");
        self.in_tenant(&tenant)
    }

    /// Signs with another key of the ring, published or not.
    #[must_use]
    pub fn signed_by(self, kid: &str) -> Self {
        let key = self.state.keys.read().unwrap().find(kid).expect("a key of the ring");
        self.signed_with(&key)
    }

    /// Signs with any key, and names it in the header.
    #[must_use]
    pub fn signed_with(mut self, key: &Arc<SigningKey>) -> Self {
        self.header.set("alg", key.algorithm());
        self.header.set("kid", key.kid());
        self.key = Arc::clone(key);
        self
    }

    /// Signs with another algorithm of the same key.
    #[must_use]
    pub fn algorithm(self, algorithm: &str) -> Self {
        self.header("alg", algorithm)
    }

    /// The marker by which a test tells two tokens apart.
    pub fn marker(&self) -> u64 {
        self.payload.get("marker").and_then(Value::as_u64).unwrap_or_default()
    }

    /// The signed token.
    pub fn token(&self) -> String {
        jwt::sign(&self.header, self.payload.text().as_bytes(), &self.key)
    }

    /// The signed token, encrypted for an RSA key whose id goes into the header as `kid`.
    pub fn encrypted(&self, key: &PublicKey, kid: &str, alg: &str, enc: &str) -> String {
        let mut members = Claims::default();
        members.set("kid", kid);
        jwe::encrypt(&self.token(), key, alg, enc, &members)
    }

    /// A token bound to this key: with `cnf` and the key's thumbprint.
    #[must_use]
    pub fn bound_to(self, key: &SigningKey) -> Self {
        self.claim("cnf", json!({"kid": key.public().thumbprint()}))
    }

    /// A token with this payload in place of the claims: any bytes.
    pub fn token_with_payload(&self, payload: &[u8]) -> String {
        jwt::sign(&self.header, payload, &self.key)
    }
}

/// An assertion of the federated issuer, as a Kubernetes service account token would be.
pub fn federated_assertion(state: &State, subject: &str, audience: &str, expires_in: i64) -> String {
    let mut header = Claims::default();
    header.set("alg", "RS256");
    header.set("kid", state.federated_key.kid());
    let mut payload = Claims::default();
    payload.set("iss", format!("{}/federated", state.base));
    payload.set("sub", subject);
    payload.set("aud", json!([audience]));
    payload.set("iat", now() - 1);
    payload.set("nbf", now() - 1);
    payload.set("exp", now() + expires_in);
    payload.set("jti", random::guid());
    jwt::sign(&header, payload.text().as_bytes(), &state.federated_key)
}
