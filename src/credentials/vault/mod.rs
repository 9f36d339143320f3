//! The part of Azure Key Vault that certificates need. The vault names the resource for the token
//! in a challenge. It must be a suffix of the vault's own host, or a fake vault could obtain a
//! token for another service.
//! <https://learn.microsoft.com/azure/key-vault/general/authentication-requests-and-responses>

mod cached;
mod call;
mod certificate;
mod entry;
mod signer;
#[cfg(test)]
mod tests;
mod token;

pub use certificate::VaultCertificate;
pub use signer::VaultSigner;
pub use token::Environment;

use call::{ATTEMPT, MAX_ANSWER, VaultCall, judge};

use serde_json::Value;
use zeroize::Zeroizing;

use super::Failure;
use crate::outbound::{OutRequest, OutResponse, Upstream, challenge};
use crate::secret::Secret;
use crate::sync::Mutex;
use crate::value::resource::of_app_scope;
use crate::value::url::Url;

/// Of the vault's REST API.
const VERSION: &str = "7.5";

/// A vault, and the means to get a token for it.
struct Vault {
    url: Url,
    environment: Environment,
    client_id: Option<String>,
    /// From the last challenge.
    resource: Mutex<Option<String>>,
}

impl Vault {
    fn new(url: Url, client_id: Option<String>, environment: Environment) -> Self {
        Self { url, environment, client_id, resource: Mutex::default() }
    }

    fn get(&self, call: &VaultCall<'_, '_>, path: &str) -> Result<Value, Failure> {
        self.send(call, "GET", path, None)
    }

    fn post(&self, call: &VaultCall<'_, '_>, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(call, "POST", path, Some(body))
    }

    /// Sends with a token for the known resource. If there is none, or the token is rejected, the
    /// answer has a challenge and the request is sent again.
    fn send(&self, call: &VaultCall<'_, '_>, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let mut resource = self.resource.lock().clone();
        let mut challenged = false;
        loop {
            let token = match &resource {
                Some(resource) => Some(self.environment.token(call, self.client_id.as_deref(), resource)?),
                None => None,
            };
            let answer = self.request(call, method, path, body, token.as_ref())?;
            if answer.status != 401 || challenged {
                return judge(&self.name(), &answer);
            }
            challenged = true;
            self.environment.forget();
            resource = Some(self.challenged(&answer).map_err(Failure::Unusable)?);
            self.resource.lock().clone_from(&resource);
        }
    }

    fn request(
        &self,
        call: &VaultCall<'_, '_>,
        method: &str,
        path: &str,
        body: Option<&Value>,
        token: Option<&Secret<String>>,
    ) -> Result<OutResponse, Failure> {
        let mut url = self.url.with_path(&format!("{}{path}", self.url.base_path()));
        url.query = Some(format!("api-version={VERSION}"));
        let request = || {
            let plain = OutRequest::new(Upstream::KeyVault, method, url.clone(), ATTEMPT, MAX_ANSWER)
                .header("accept", "application/json")
                .header("x-ms-client-request-id", call.context.correlation_id);
            let Some(token) = token else {
                // Send no body to a vault before authenticating.
                return plain;
            };
            let request = plain.header("authorization", &Zeroizing::new(format!("Bearer {}", token.expose())));
            match body {
                Some(body) => request.body("application/json", Zeroizing::new(body.to_string().into_bytes())),
                None => request,
            }
        };
        call.send(&self.name(), request)
    }

    /// The resource in a challenge. It must be a suffix of the vault's host at a dot, and contain a
    /// dot itself, so that sharing a top-level domain is not enough.
    fn challenged(&self, answer: &OutResponse) -> Result<String, String> {
        let challenges = challenge::of(answer);
        let bearer = challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case("Bearer"));
        let resource = bearer.and_then(|bearer| {
            let scope = || bearer.parameter("scope").map(of_app_scope);
            bearer.parameter("resource").or_else(scope)
        });
        let resource = resource.ok_or_else(|| format!("{} answered 401 without naming a resource", self.name()))?;
        let own = &self.url.origin;
        let host = Url::parse(resource).map(|resource| resource.origin.host().to_owned()).unwrap_or_default();
        let dotted = own.host().strip_suffix(host.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        if own.is_loopback() || (host.contains('.') && dotted) {
            return Ok(resource.to_owned());
        }
        Err(format!("{} asked for a token for another service ({host}); refused", self.name()))
    }

    fn name(&self) -> String {
        format!("the vault {}", self.url.origin)
    }
}
