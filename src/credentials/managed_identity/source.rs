//! Which of six endpoints gives this machine its identity, and how each wants to be asked. The order
//! is that of the Azure SDKs. The environment is read once.

use std::time::Duration;

use ring::digest;
use zeroize::Zeroizing;

use crate::outbound::{OutBody, OutRequest, Thumbprint, Upstream};
use crate::secret::Secret;
use crate::value::hex;
use crate::value::percent::encode_component;
use crate::value::url::Url;

/// What a token is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Of a user-assigned identity; without it, the system-assigned one is meant.
    pub client_id: Option<&'a str>,
    /// No scope: see [`super::resource`].
    pub resource: &'a str,
    /// What the application says that it can do, such as `cp1`.
    pub capabilities: &'a [String],
    /// A token of the same kind that was found revoked.
    pub revoked: Option<&'a Secret<String>>,
    /// Sent along.
    pub correlation_id: &'a str,
}

/// The longest answer that is read; a token has some kilobytes.
const MAX_ANSWER: usize = 256 * 1024;

/// Where IMDS is on every virtual machine.
const IMDS: &str = "http://169.254.169.254";

/// Azure Arc's agent where only its file tells of it.
const ARC: &str = "http://127.0.0.1:40342/metadata/identity/oauth2/token";

/// The program whose presence tells of Azure Arc.
pub const ARC_AGENT: &str = "/opt/azcmagent/bin/himds";

/// The metadata service of the machine, or the one that stands in for it. Its path is replaced.
pub fn imds(variable: impl Fn(&str) -> Option<String>) -> Result<Url, String> {
    const NAME: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
    let host = variable(NAME).filter(|value| !value.is_empty());
    Url::parse(host.as_deref().unwrap_or(IMDS))
        .map_err(|expected| format!("the environment's {NAME}: expected {expected}"))
}

/// An endpoint, with what it wants to see.
#[derive(Debug)]
pub enum Source {
    /// Service Fabric.
    ServiceFabric {
        /// `IDENTITY_ENDPOINT`.
        endpoint: Url,
        /// `IDENTITY_HEADER`.
        header: Secret<String>,
    },
    /// App Service, Functions, Container Apps.
    AppService {
        /// `IDENTITY_ENDPOINT`.
        endpoint: Url,
        /// `IDENTITY_HEADER`.
        header: Secret<String>,
    },
    /// Azure Machine Learning.
    MachineLearning {
        /// `MSI_ENDPOINT`.
        endpoint: Url,
        /// `MSI_SECRET`.
        secret: Secret<String>,
        /// `DEFAULT_IDENTITY_CLIENT_ID`.
        default_client_id: Option<String>,
    },
    /// Cloud Shell.
    CloudShell {
        /// `MSI_ENDPOINT`.
        endpoint: Url,
    },
    /// Azure Arc.
    Arc {
        /// `IDENTITY_ENDPOINT`, or the agent's usual address.
        endpoint: Url,
    },
    /// A virtual machine's metadata service.
    Imds {
        /// With its path.
        endpoint: Url,
    },
}

impl Source {
    /// The first whose variables are there. A variable that holds no URL is an
    /// error rather than a reason to ask elsewhere.
    pub fn detect(variable: impl Fn(&str) -> Option<String>, has_arc_agent: bool) -> Result<Self, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let url = |name: &str, text: &str| {
            Url::parse(text).map_err(|expected| format!("the environment's {name}: expected {expected}"))
        };
        let default = |text| Url::parse(text).map_err(str::to_owned);
        let secret = |name| variable(name).map(Secret::new);
        let identity = variable("IDENTITY_ENDPOINT");
        if let (Some(endpoint), Some(header)) = (&identity, secret("IDENTITY_HEADER")) {
            let endpoint = url("IDENTITY_ENDPOINT", endpoint)?;
            return Ok(match variable(Thumbprint::VARIABLE) {
                Some(_) => Self::ServiceFabric { endpoint, header },
                None => Self::AppService { endpoint, header },
            });
        }
        if let Some(endpoint) = variable("MSI_ENDPOINT") {
            let endpoint = url("MSI_ENDPOINT", &endpoint)?;
            return Ok(match secret("MSI_SECRET") {
                Some(secret) => {
                    let default_client_id = variable("DEFAULT_IDENTITY_CLIENT_ID");
                    Self::MachineLearning { endpoint, secret, default_client_id }
                }
                None => Self::CloudShell { endpoint },
            });
        }
        if let (Some(endpoint), Some(_)) = (&identity, variable("IMDS_ENDPOINT")) {
            return Ok(Self::Arc { endpoint: url("IDENTITY_ENDPOINT", endpoint)? });
        }
        if has_arc_agent {
            return Ok(Self::Arc { endpoint: default(ARC)? });
        }
        Ok(Self::Imds { endpoint: imds(variable)?.with_path("/metadata/identity/oauth2/token") })
    }

    /// What operators call it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ServiceFabric { .. } => "Service Fabric",
            Self::AppService { .. } => "App Service",
            Self::MachineLearning { .. } => "Azure Machine Learning",
            Self::CloudShell { .. } => "Cloud Shell",
            Self::Arc { .. } => "Azure Arc",
            Self::Imds { .. } => "IMDS",
        }
    }

    /// Where it listens.
    pub const fn endpoint(&self) -> &Url {
        match self {
            Self::ServiceFabric { endpoint, .. }
            | Self::AppService { endpoint, .. }
            | Self::MachineLearning { endpoint, .. }
            | Self::CloudShell { endpoint }
            | Self::Arc { endpoint }
            | Self::Imds { endpoint } => endpoint,
        }
    }

    /// What must not come back out of an error message.
    pub const fn secret(&self) -> Option<&Secret<String>> {
        match self {
            Self::ServiceFabric { header: secret, .. }
            | Self::AppService { header: secret, .. }
            | Self::MachineLearning { secret, .. } => Some(secret),
            Self::CloudShell { .. } | Self::Arc { .. } | Self::Imds { .. } => None,
        }
    }

    /// The request for a token. An identity that this endpoint cannot be asked for is refused here, before
    /// it would be mistaken for another.
    pub fn request(&self, wanted: &Request<'_>, timeout: Duration) -> Result<OutRequest, String> {
        let Request { client_id, resource, correlation_id, .. } = *wanted;
        let refused = |what: &str| Err(format!("{} {what}; leave the client id away", self.name()));
        let mut headers = vec![header("x-ms-client-request-id", correlation_id)];
        let metadata = || header("metadata", "true");
        let query = match self {
            Self::Imds { .. } => {
                headers.push(metadata());
                query("2018-02-01", resource, client_id.map(|id| ("client_id", id)))
            }
            Self::AppService { header: secret, .. } => {
                headers.push(header("x-identity-header", secret.expose()));
                query("2019-08-01", resource, client_id.map(|id| ("client_id", id)))
            }
            Self::ServiceFabric { header: secret, .. } => {
                if client_id.is_some() {
                    return refused("chooses the identity by the application's manifest");
                }
                headers.push(header("secret", secret.expose()));
                query("2020-05-01", resource, None) + &revocation(wanted)
            }
            Self::MachineLearning { secret, default_client_id, .. } => {
                let Some(id) = client_id.or(default_client_id.as_deref()) else {
                    return Err(format!(
                        "{} needs a client id, configured or in DEFAULT_IDENTITY_CLIENT_ID",
                        self.name()
                    ));
                };
                headers.extend([metadata(), header("secret", secret.expose())]);
                query("2017-09-01", resource, Some(("clientid", id)))
            }
            Self::Arc { .. } => {
                headers.push(metadata());
                query("2020-06-01", resource, client_id.map(|id| ("client_id", id)))
            }
            Self::CloudShell { .. } => {
                if client_id.is_some() {
                    return refused("has the user's own identity alone");
                }
                headers.extend([metadata(), header("content-type", "application/x-www-form-urlencoded")]);
                let body = format!("resource={}", encode_component(resource)).into_bytes();
                let url = self.endpoint().to_string();
                return Ok(outgoing("POST", url, headers, Some(body), timeout));
            }
        };
        let mut url = self.endpoint().clone();
        url.query = Some(match url.query {
            Some(own) if !own.is_empty() => format!("{own}&{query}"),
            _ => query,
        });
        Ok(outgoing("GET", url.to_string(), headers, None, timeout))
    }
}

fn query(version: &str, resource: &str, identity: Option<(&str, &str)>) -> String {
    let identity = identity.map_or(String::new(), |(name, id)| format!("&{name}={}", encode_component(id)));
    format!("api-version={version}&resource={}{identity}", encode_component(resource))
}

/// What Service Fabric alone wants to know, so that it does not hand out the same token again.
fn revocation(wanted: &Request<'_>) -> String {
    let capabilities = match wanted.capabilities {
        [] => String::new(),
        all => format!("&xms_cc={}", encode_component(&all.join(","))),
    };
    let revoked = wanted.revoked.map(|token| format!("&token_sha256_to_refresh={}", sha256(token.expose())));
    capabilities + &revoked.unwrap_or_default()
}

/// Hexadecimal, lower case.
fn sha256(text: &str) -> String {
    hex::encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

/// A header of a request.
pub fn header(name: &str, value: &str) -> (String, Zeroizing<String>) {
    (name.to_owned(), Zeroizing::new(value.to_owned()))
}

fn outgoing(
    method: &str,
    url: String,
    headers: Vec<(String, Zeroizing<String>)>,
    body: Option<Vec<u8>>,
    timeout: Duration,
) -> OutRequest {
    OutRequest {
        upstream: Upstream::ManagedIdentity,
        method: method.to_owned(),
        url,
        headers,
        body: body.map(|body| OutBody::Own(Zeroizing::new(body))),
        memory: None,
        timeout,
        max_body: MAX_ANSWER,
        pooled: true,
        redirected_from: None,
    }
}
