//! Who asks the vault: what the platform says in the environment, in the order in which the Azure libraries
//! look: a secret, a workload identity, else the machine's managed identity.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::call::{ATTEMPT, Call, MAX_ANSWER};
use crate::credentials::federated::FederatedToken;
use crate::credentials::reason::MAX_MESSAGE;
use crate::credentials::{ClientAuth, Failure, Source};
use crate::outbound::{OutBody, OutRequest, Upstream};
use crate::redaction::redact;
use crate::secret::Secret;
use crate::value::percent::encode_component;
use crate::value::text::is_visible_word;
use crate::value::url::Url;

/// A token is not used in its last minutes.
const MARGIN: u64 = 5 * 60;

/// Seconds; Entra's longest access tokens live for a day.
const LONGEST: u64 = 48 * 3600;

/// What the environment says.
pub struct Environment {
    application: Option<Result<Application, String>>,
    /// `AZURE_CLIENT_ID`, which otherwise names a managed identity.
    client_id: Option<String>,
    token: Mutex<Option<Kept>>,
}

/// A token that is used again, by the calendar or by the time that passes, whichever ends it sooner.
#[derive(Clone)]
struct Kept {
    resource: String,
    token: Secret<String>,
    until_unix: u64,
    until: Instant,
}

/// An application in Entra that the environment describes whole.
struct Application {
    /// Its token endpoint.
    endpoint: Url,
    client_id: String,
    proof: Proof,
}

enum Proof {
    Secret(Secret<String>),
    Federated(FederatedToken),
}

impl Environment {
    /// Reads the variables once; the file of a workload identity is read when it changes.
    pub fn new(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let client_id = variable("AZURE_CLIENT_ID");
        let federated = || variable("AZURE_FEDERATED_TOKEN_FILE").map(|path| FederatedToken::new(path.into()));
        let secret = variable("AZURE_CLIENT_SECRET").map(|secret| Proof::Secret(Secret::new(secret)));
        let proof = secret.or_else(|| federated().map(Proof::Federated));
        let application = match (proof, client_id.clone(), variable("AZURE_TENANT_ID")) {
            (Some(proof), Some(client_id), Some(tenant)) => {
                let host = variable("AZURE_AUTHORITY_HOST");
                let host = host.as_deref().unwrap_or("https://login.microsoftonline.com/");
                Some(endpoint(host, &tenant).map(|endpoint| Application { endpoint, client_id, proof }))
            }
            _ => None,
        };
        Self { application, client_id, token: Mutex::default() }
    }

    /// A token for a resource. `identity` is the client id of a managed identity that the configuration names.
    pub(super) fn token(
        &self,
        call: &Call<'_, '_>,
        identity: Option<&str>,
        resource: &str,
    ) -> Result<Secret<String>, Failure> {
        let Some(application) = &self.application else {
            let registered = call.context.registration.managed_identity_client_id.as_deref();
            let identity = identity.or(registered).or(self.client_id.as_deref());
            return call.context.identities.managed_identity(identity, resource);
        };
        let application = application.as_ref().map_err(|reason| Failure::Unusable(reason.clone()))?;
        let (unix, now) = (call.context.clock.unix(), call.context.clock.instant());
        let kept = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let serves = |kept: &Kept| kept.resource == resource && unix < kept.until_unix && now < kept.until;
        if let Some(kept) = kept.filter(serves) {
            return Ok(kept.token);
        }
        let (token, expires_in) = application.request(call, resource)?;
        let used_for = expires_in.min(LONGEST).saturating_sub(MARGIN);
        let kept = Kept {
            resource: resource.to_owned(),
            token: token.clone(),
            until_unix: unix.saturating_add(used_for),
            until: now + Duration::from_secs(used_for),
        };
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        Ok(token)
    }

    /// Asks anew next time.
    pub(super) fn forget(&self) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn endpoint(host: &str, tenant: &str) -> Result<Url, String> {
    let wrong = |expected| format!("the environment's AZURE_AUTHORITY_HOST: expected {expected}");
    let url = Url::parse(host).map_err(wrong)?;
    if !url.origin.https && !url.origin.is_loopback() {
        return Err(wrong("an https:// URL"));
    }
    Ok(url.with_path(&format!("{}/{}/oauth2/v2.0/token", url.base_path(), encode_component(tenant))))
}

#[derive(Deserialize)]
struct Granted {
    access_token: Zeroizing<String>,
    #[serde(default)]
    expires_in: Value,
}

impl Application {
    /// RFC 6749 §4.4; the token and the seconds that it lives.
    fn request(&self, call: &Call<'_, '_>, resource: &str) -> Result<(Secret<String>, u64), Failure> {
        let proof = self.proof(call)?;
        let form = self.form(&proof, resource);
        let fixed = [
            ("accept", "application/json"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("client-request-id", call.context.correlation_id),
        ];
        let request = || OutRequest {
            upstream: Upstream::Token,
            method: "POST".to_owned(),
            url: self.endpoint.to_string(),
            headers: fixed.map(|(name, value)| (name.to_owned(), Zeroizing::new(value.to_owned()))).into(),
            body: Some(OutBody::Own(Zeroizing::new(form.as_bytes().to_vec()))),
            memory: None,
            timeout: ATTEMPT,
            max_body: MAX_ANSWER,
            pooled: true,
            redirected_from: None,
        };
        let name = format!("the token endpoint at {}", self.endpoint.origin.host);
        let answer = call.send(&name, request)?;
        if answer.status != 200 {
            let (code, reason) = refusal(&answer.body, &proof);
            let reason = format!("{name} gave no token for the vault: {}: {reason}", answer.status);
            // As for every other token request, whatever status it comes with.
            return Err(match code.as_str() {
                "temporarily_unavailable" => Failure::Unavailable(reason),
                _ => Failure::Unusable(reason),
            });
        }
        let unreadable = |_| Failure::Unavailable(format!("{name} sent an answer that is no token response"));
        let granted: Granted = serde_json::from_slice(&answer.body).map_err(unreadable)?;
        if !is_visible_word(&granted.access_token) {
            return Err(Failure::Unavailable(format!("{name} sent an access_token that cannot stand in a header")));
        }
        // Some endpoints send numbers as strings.
        let text = granted.expires_in.as_str().and_then(|text| text.parse().ok());
        let expires_in = granted.expires_in.as_u64().or(text).unwrap_or(0);
        Ok((Secret::new(granted.access_token.to_string()), expires_in))
    }

    fn proof(&self, call: &Call<'_, '_>) -> Result<ClientAuth, Failure> {
        match &self.proof {
            Proof::Secret(secret) => Ok(ClientAuth::Secret(secret.clone())),
            Proof::Federated(file) => file.authenticate(call.context),
        }
    }

    fn form(&self, proof: &ClientAuth, resource: &str) -> Zeroizing<String> {
        let proof = Zeroizing::new(match proof {
            ClientAuth::Secret(secret) => format!("client_secret={}", encode_component(secret.expose())),
            ClientAuth::Assertion(assertion) => format!(
                "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
                 &client_assertion={}",
                encode_component(assertion.expose())
            ),
        });
        let scope = encode_component(&format!("{resource}/.default"));
        let client_id = encode_component(&self.client_id);
        Zeroizing::new(format!("client_id={client_id}&{}&scope={scope}&grant_type=client_credentials", *proof))
    }
}

/// The service's own words (RFC 6749 §5.2): the code, and one line without what was sent to prove who asks.
fn refusal(body: &[u8], proof: &ClientAuth) -> (String, String) {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| body[name].as_str().unwrap_or_default();
    let (ClientAuth::Secret(secret) | ClientAuth::Assertion(secret)) = proof;
    let line =
        redact(&format!("{}: {}", text("error"), text("error_description")), std::iter::once(secret.expose().as_str()));
    let line = line.lines().next().unwrap_or_default().chars().take(MAX_MESSAGE).collect();
    (text("error").to_owned(), line)
}
