//! Authenticates to the vault with what the environment offers, in the order of the Azure SDKs: a
//! client secret, a workload identity, else the machine's managed identity.
//! <https://learn.microsoft.com/dotnet/api/azure.identity.environmentcredential>

use std::time::{Duration, Instant};

use serde_json::Value;

use super::call::{ATTEMPT, MAX_ANSWER, VaultCall};
use crate::credentials::federated::FederatedToken;
use crate::credentials::form::{self, Form};
use crate::credentials::reason::reason;
use crate::credentials::token_response::{TokenResponse, seconds};
use crate::credentials::{ClientAuth, Failure, Source};
use crate::outbound::{OutRequest, Upstream};
use crate::secret::Secret;
use crate::sync::Mutex;
use crate::value::percent::encode_component;
use crate::value::url::Url;

/// Seconds before expiry in which a token is not used.
const MARGIN: u64 = 5 * 60;

/// Seconds; Entra's longest-lived access tokens last a day.
const MAX_LIFETIME: u64 = 48 * 3600;

pub struct Environment {
    application: Option<Result<Application, String>>,
    /// `AZURE_CLIENT_ID`; without a secret or file, it names a managed identity.
    client_id: Option<String>,
    token: Mutex<Option<CachedToken>>,
}

/// A cached token, valid by calendar and by elapsed time, whichever ends first.
#[derive(Clone)]
struct CachedToken {
    resource: String,
    token: Secret<String>,
    until_unix: u64,
    until: Instant,
}

/// An application in Entra, fully described by the environment.
struct Application {
    endpoint: Url,
    client_id: String,
    proof: Proof,
}

enum Proof {
    Secret(Secret<String>),
    Federated(FederatedToken),
}

impl Environment {
    /// Reads the variables once. The file of a workload identity is read when it changes.
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

    /// `identity` is the client id of a managed identity in the configuration.
    pub(super) fn token(
        &self,
        call: &VaultCall<'_, '_>,
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
        let kept = self.token.lock().clone();
        let serves = |kept: &CachedToken| kept.resource == resource && unix < kept.until_unix && now < kept.until;
        if let Some(kept) = kept.filter(serves) {
            return Ok(kept.token);
        }
        let (token, expires_in) = application.request(call, resource)?;
        let used_for = expires_in.min(MAX_LIFETIME).saturating_sub(MARGIN);
        let kept = CachedToken {
            resource: resource.to_owned(),
            token: token.clone(),
            until_unix: unix.saturating_add(used_for),
            until: now + Duration::from_secs(used_for),
        };
        *self.token.lock() = Some(kept);
        Ok(token)
    }

    /// Forces a new token at the next use.
    pub(super) fn forget(&self) {
        *self.token.lock() = None;
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

impl Application {
    /// RFC 6749 §4.4. Returns the token and its lifetime in seconds.
    fn request(&self, call: &VaultCall<'_, '_>, resource: &str) -> Result<(Secret<String>, u64), Failure> {
        let form = Form::default()
            .field("client_id", &self.client_id)
            .authenticated(&self.proof(call)?)
            .field("scope", &format!("{resource}/.default"))
            .field("grant_type", "client_credentials");
        let request = || {
            OutRequest::new(Upstream::Token, "POST", self.endpoint.clone(), ATTEMPT, MAX_ANSWER)
                .header("accept", "application/json")
                .body(form::MEDIA_TYPE, form.encode())
                .header("client-request-id", call.context.correlation_id)
        };
        let name = format!("the token endpoint at {}", self.endpoint.origin.host());
        let answer = call.send(&name, request)?;
        if answer.status != 200 {
            let reason = reason(&answer.body, |line| form.redact(line));
            let reason = format!("{name} refused a token for the vault: {}: {reason}", answer.status);
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            // As for all token requests, regardless of the status.
            return Err(match body["error"].as_str() {
                Some("temporarily_unavailable") => Failure::Unavailable(reason),
                _ => Failure::Unusable(reason),
            });
        }
        let response = TokenResponse::parse(&answer.body);
        let response = response.map_err(|what| Failure::Unavailable(format!("{name} {what}")))?;
        Ok((response.access_token, seconds(&response.expires_in).unwrap_or(0)))
    }

    fn proof(&self, call: &VaultCall<'_, '_>) -> Result<ClientAuth, Failure> {
        match &self.proof {
            Proof::Secret(secret) => Ok(ClientAuth::Secret(secret.clone())),
            Proof::Federated(file) => file.authenticate(call.context),
        }
    }
}
