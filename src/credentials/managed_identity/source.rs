//! The six managed identity endpoints: which one this machine has, and what each expects in a
//! request. The environment is read once.

use std::time::Duration;

use crate::credentials::form::{self, Form};
use crate::outbound::{OutRequest, Thumbprint, Upstream};
use crate::secret::Secret;
use crate::value::hash::sha256;
use crate::value::hex;
use crate::value::percent::encode_component;
use crate::value::url::Url;

#[derive(Debug)]
pub struct IdentityRequest {
    /// A user-assigned identity; `None` is the system-assigned one.
    pub client_id: Option<String>,
    /// A resource, not a scope; see [`crate::value::resource::of_app_scope`].
    pub resource: String,
    /// Capabilities that the application declares, such as `cp1`.
    pub capabilities: Vec<String>,
    pub correlation_id: String,
}

/// Bytes; a token takes a few kilobytes.
const MAX_ANSWER: usize = 256 * 1024;

/// The same address on every virtual machine.
const IMDS: &str = "http://169.254.169.254";

/// Azure Arc's address if only the agent's file reveals it.
const ARC: &str = "http://127.0.0.1:40342/metadata/identity/oauth2/token";

/// The presence of this program reveals Azure Arc.
pub const ARC_AGENT: &str = "/opt/azcmagent/bin/himds";

/// The URL of the machine's metadata service or its stand-in. Callers replace the path.
pub fn imds(variable: impl Fn(&str) -> Option<String>) -> Result<Url, String> {
    const NAME: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
    let host = variable(NAME).filter(|value| !value.is_empty());
    Url::parse(host.as_deref().unwrap_or(IMDS))
        .map_err(|expected| format!("the environment's {NAME}: expected {expected}"))
}

#[derive(Debug)]
pub struct IdentitySource {
    pub kind: Kind,
    pub endpoint: Url,
    /// `IDENTITY_HEADER` or `MSI_SECRET`. Must not appear in messages.
    pub secret: Option<Secret<String>>,
    /// `DEFAULT_IDENTITY_CLIENT_ID`, of Azure Machine Learning.
    default_client_id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    ServiceFabric,
    /// App Service, Functions, Container Apps.
    AppService,
    MachineLearning,
    CloudShell,
    Arc,
    /// The metadata service of a virtual machine.
    Imds,
}

impl IdentitySource {
    /// The first source whose variables are set, in the order of the Azure SDKs. A malformed URL is
    /// an error rather than a reason to try the next source.
    pub fn detect(variable: impl Fn(&str) -> Option<String>, has_arc_agent: bool) -> Result<Self, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let url = |name: &str, text: &str| {
            Url::parse(text).map_err(|expected| format!("the environment's {name}: expected {expected}"))
        };
        let secret = |name| variable(name).map(Secret::new);
        let found = |kind, endpoint, secret| {
            let default_client_id = variable("DEFAULT_IDENTITY_CLIENT_ID");
            Ok(Self { kind, endpoint, secret, default_client_id })
        };
        let identity = variable("IDENTITY_ENDPOINT");
        if let (Some(endpoint), Some(header)) = (&identity, secret("IDENTITY_HEADER")) {
            let pinned = variable(Thumbprint::VARIABLE).is_some();
            let kind = if pinned { Kind::ServiceFabric } else { Kind::AppService };
            return found(kind, url("IDENTITY_ENDPOINT", endpoint)?, Some(header));
        }
        if let Some(endpoint) = variable("MSI_ENDPOINT") {
            let secret = secret("MSI_SECRET");
            let kind = if secret.is_some() { Kind::MachineLearning } else { Kind::CloudShell };
            return found(kind, url("MSI_ENDPOINT", &endpoint)?, secret);
        }
        if let (Some(endpoint), Some(_)) = (&identity, variable("IMDS_ENDPOINT")) {
            return found(Kind::Arc, url("IDENTITY_ENDPOINT", endpoint)?, None);
        }
        if has_arc_agent {
            return found(Kind::Arc, Url::parse(ARC)?, None);
        }
        found(Kind::Imds, imds(variable)?.with_path("/metadata/identity/oauth2/token"), None)
    }

    /// The platform's name, for messages.
    pub const fn name(&self) -> &'static str {
        match self.kind {
            Kind::ServiceFabric => "Service Fabric",
            Kind::AppService => "App Service",
            Kind::MachineLearning => "Azure Machine Learning",
            Kind::CloudShell => "Cloud Shell",
            Kind::Arc => "Azure Arc",
            Kind::Imds => "IMDS",
        }
    }

    /// Builds the request for a token. Rejects an identity that this endpoint cannot serve, since
    /// it would return a token of another identity. `revoked` is a token for the same resource that
    /// was rejected.
    pub fn request(
        &self,
        wanted: &IdentityRequest,
        revoked: Option<&Secret<String>>,
        timeout: Duration,
    ) -> Result<OutRequest, String> {
        let IdentityRequest { client_id, resource, correlation_id, .. } = wanted;
        let client_id = client_id.as_deref();
        let refused = |what: &str| Err(format!("{} {what}; remove the client id", self.name()));
        let request = |method, url: &Url| {
            OutRequest::new(Upstream::ManagedIdentity, method, url.clone(), timeout, MAX_ANSWER)
                .header("x-ms-client-request-id", correlation_id)
        };
        let identity = client_id.map(|id| ("client_id", id));
        let query = match self.kind {
            Kind::Imds => query("2018-02-01", resource, identity),
            Kind::Arc => query("2020-06-01", resource, identity),
            Kind::AppService => query("2019-08-01", resource, identity),
            Kind::ServiceFabric if client_id.is_some() => {
                return refused("chooses the identity by the application's manifest");
            }
            Kind::ServiceFabric => query("2020-05-01", resource, None) + &revocation(&wanted.capabilities, revoked),
            Kind::MachineLearning => {
                let id = client_id.or(self.default_client_id.as_deref()).ok_or_else(|| {
                    format!("{} needs a client id, configured or in DEFAULT_IDENTITY_CLIENT_ID", self.name())
                })?;
                query("2017-09-01", resource, Some(("clientid", id)))
            }
            Kind::CloudShell if client_id.is_some() => {
                return refused("supports only the user's own identity");
            }
            Kind::CloudShell => {
                let body = Form::default().field("resource", resource).encode();
                return Ok(request("POST", &self.endpoint).header("metadata", "true").body(form::MEDIA_TYPE, body));
            }
        };
        let mut url = self.endpoint.clone();
        url.query = Some(match url.query {
            Some(own) if !own.is_empty() => format!("{own}&{query}"),
            _ => query,
        });
        let request = request("GET", &url);
        let secret = self.secret.as_ref().map_or("", |secret| secret.expose());
        Ok(match self.kind {
            Kind::AppService => request.header("x-identity-header", secret),
            Kind::ServiceFabric => request.header("secret", secret),
            Kind::MachineLearning => request.header("metadata", "true").header("secret", secret),
            Kind::Imds | Kind::Arc | Kind::CloudShell => request.header("metadata", "true"),
        })
    }
}

fn query(version: &str, resource: &str, identity: Option<(&str, &str)>) -> String {
    let identity = identity.map_or(String::new(), |(name, id)| format!("&{name}={}", encode_component(id)));
    format!("api-version={version}&resource={}{identity}", encode_component(resource))
}

/// Service Fabric needs these to avoid returning the same token again.
fn revocation(capabilities: &[String], revoked: Option<&Secret<String>>) -> String {
    let capabilities = match capabilities {
        [] => String::new(),
        all => format!("&xms_cc={}", encode_component(&all.join(","))),
    };
    let revoked = revoked.map(|token| format!("&token_sha256_to_refresh={}", hex::encode(&sha256(token.expose()))));
    capabilities + &revoked.unwrap_or_default()
}
