//! Azure Key Vault as far as certificates need it (Microsoft Learn, "Authentication, requests and
//! responses"). The vault says in a challenge
//! for whom a token must be; that is believed only of a name that the vault's own host ends with, since
//! otherwise a false vault could ask for a token that opens another service.

mod call;
mod certificate;
mod kept;
mod signer;
#[cfg(test)]
mod tests;
mod token;

pub use certificate::VaultCertificate;
pub use signer::VaultSigner;
pub use token::Environment;

use call::{ATTEMPT, Call, MAX_ANSWER, judge};

use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use zeroize::Zeroizing;

use super::Failure;
use crate::outbound::{OutBody, OutRequest, OutResponse, Upstream, challenge};
use crate::secret::Secret;
use crate::value::url::Url;

/// Of the vault's REST interface.
const VERSION: &str = "7.5";

/// One vault, and the way to a token for it.
struct Vault {
    url: Url,
    environment: Environment,
    client_id: Option<String>,
    /// As the last challenge said.
    resource: Mutex<Option<String>>,
}

impl Vault {
    fn new(url: Url, client_id: Option<String>, environment: Environment) -> Self {
        Self { url, environment, client_id, resource: Mutex::default() }
    }

    fn get(&self, call: &Call<'_, '_>, path: &str) -> Result<Value, Failure> {
        self.send(call, "GET", path, None)
    }

    fn post(&self, call: &Call<'_, '_>, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(call, "POST", path, Some(body))
    }

    /// With the token for the resource that is known; where it is not, or the token is refused, the answer
    /// holds a challenge and the request is sent again.
    fn send(&self, call: &Call<'_, '_>, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let mut resource = self.resource.lock().unwrap_or_else(PoisonError::into_inner).clone();
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
            self.resource.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&resource);
        }
    }

    fn request(
        &self,
        call: &Call<'_, '_>,
        method: &str,
        path: &str,
        body: Option<&Value>,
        token: Option<&Secret<String>>,
    ) -> Result<OutResponse, Failure> {
        let mut url = self.url.with_path(&format!("{}{path}", self.url.base_path()));
        url.query = Some(format!("api-version={VERSION}"));
        let fixed = [("accept", "application/json"), ("x-ms-client-request-id", call.context.correlation_id)];
        let mut headers: Vec<_> = fixed.map(|(name, value)| (name.to_owned(), Zeroizing::new(value.to_owned()))).into();
        if let Some(token) = token {
            let value = Zeroizing::new(format!("Bearer {}", token.expose()));
            headers.push(("authorization".to_owned(), value));
        }
        // Nothing is said to a vault that has not yet been told who asks.
        let body = body.filter(|_| token.is_some());
        if body.is_some() {
            headers.push(("content-type".to_owned(), Zeroizing::new("application/json".to_owned())));
        }
        let request = || OutRequest {
            upstream: Upstream::KeyVault,
            method: method.to_owned(),
            url: url.to_string(),
            headers: headers.clone(),
            body: body.map(|body| OutBody::Own(Zeroizing::new(body.to_string().into_bytes()))),
            memory: None,
            timeout: ATTEMPT,
            max_body: MAX_ANSWER,
            pooled: true,
            redirected_from: None,
        };
        call.send(&self.name(), request)
    }

    /// The resource of a challenge: its last label must not be all that both hosts share, so that the whole of it
    /// must end the vault's host at a dot.
    fn challenged(&self, answer: &OutResponse) -> Result<String, String> {
        let fields = answer.headers.iter().filter(|(name, _)| name == "www-authenticate").map(|(_, value)| &value[..]);
        let challenges = challenge::parse(fields);
        let bearer = challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case("Bearer"));
        let resource = bearer.and_then(|bearer| {
            let scope = || bearer.parameter("scope").map(super::managed_identity::resource);
            bearer.parameter("resource").or_else(scope)
        });
        let resource = resource.ok_or_else(|| format!("{} answered 401 without naming a resource", self.name()))?;
        let own = &self.url.origin;
        let host = Url::parse(resource).map(|resource| resource.origin.host).unwrap_or_default();
        let dotted = own.host.strip_suffix(&host).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        if own.is_loopback() || (host.contains('.') && dotted) {
            return Ok(resource.to_owned());
        }
        Err(format!("{} asks for a token for another service ({host}); it gets none", self.name()))
    }

    fn name(&self) -> String {
        format!("the vault {}", self.url.origin)
    }
}
