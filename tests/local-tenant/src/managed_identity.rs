//! The managed identity endpoints: six hosts with six dialects, each strict about its own.
//!
//! | path | host | wants |
//! |---|---|---|
//! | `/metadata/identity/oauth2/token` | IMDS | `Metadata: true`, `api-version=2018-02-01` |
//! | the same with `api-version=2020-06-01`, `/managed-identity/arc` | Azure Arc | a first try, then `Basic` and the key file |
//! | `/managed-identity/app-service` | App Service | `X-IDENTITY-HEADER`, `api-version=2019-08-01` |
//! | `/managed-identity/service-fabric` | Service Fabric | `secret`, `api-version=2020-05-01` |
//! | `/managed-identity/machine-learning` | Azure ML | `secret`, `Metadata: true`, `api-version=2017-09-01`, `clientid` |
//! | `/managed-identity/cloud-shell` | Cloud Shell | `POST`, `Metadata: true` |

use std::sync::Arc;

use serde_json::{Value, json};

use crate::directory::{App, SYSTEM_IDENTITY_ID, USER_IDENTITY_CLIENT_ID, USER_IDENTITY_ID};
use crate::message::{Answer, Request};
use crate::mint::Mint;
use crate::random;
use crate::state::{ExpiresOn, State};
use crate::time::{now, timestamp};

/// What `IDENTITY_HEADER` and `MSI_SECRET` hold.
pub const HEADER_SECRET: &str = "local-identity-header";
/// The content of the Azure Arc key file.
pub const ARC_KEY: &str = "local-arc-key";
/// The Azure resource id of the user-assigned identity.
pub const USER_IDENTITY_RESOURCE: &str =
    "/subscriptions/0/resourceGroups/local/providers/Microsoft.ManagedIdentity/userAssignedIdentities/local";

/// One host's dialect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Host {
    Imds,
    Arc,
    AppService,
    ServiceFabric,
    MachineLearning,
    CloudShell,
}

impl Host {
    fn of(request: &Request) -> Option<Self> {
        match request.path.as_str() {
            "/metadata/identity/oauth2/token" if version(request) == "2020-06-01" => Some(Self::Arc),
            "/metadata/identity/oauth2/token" => Some(Self::Imds),
            "/managed-identity/arc" => Some(Self::Arc),
            "/managed-identity/app-service" => Some(Self::AppService),
            "/managed-identity/service-fabric" => Some(Self::ServiceFabric),
            "/managed-identity/machine-learning" => Some(Self::MachineLearning),
            "/managed-identity/cloud-shell" => Some(Self::CloudShell),
            _ => None,
        }
    }

    fn versions(self) -> &'static [&'static str] {
        match self {
            Self::Imds => &["2018-02-01"],
            Self::Arc => &["2020-06-01"],
            Self::AppService => &["2019-08-01"],
            Self::ServiceFabric => &["2020-05-01", "2019-07-01-preview"],
            Self::MachineLearning => &["2017-09-01"],
            Self::CloudShell => &[""],
        }
    }

    fn wants_metadata_header(self) -> bool {
        !matches!(self, Self::AppService | Self::ServiceFabric)
    }

    fn secret_header(self) -> Option<&'static str> {
        match self {
            Self::AppService => Some("X-IDENTITY-HEADER"),
            Self::ServiceFabric | Self::MachineLearning => Some("secret"),
            Self::Imds | Self::Arc | Self::CloudShell => None,
        }
    }

    /// The keys that name a user-assigned identity.
    fn identity_keys(self) -> &'static [&'static str] {
        match self {
            Self::Imds | Self::Arc => &["client_id", "msi_res_id", "object_id"],
            Self::AppService => &["client_id", "mi_res_id", "object_id"],
            Self::ServiceFabric => &["principalId"],
            Self::MachineLearning => &["clientid"],
            Self::CloudShell => &[],
        }
    }

    /// The keys that it knows besides.
    fn other_keys(self) -> &'static [&'static str] {
        match self {
            Self::ServiceFabric => &["api-version", "resource", "xms_cc", "token_sha256_to_refresh"],
            Self::CloudShell => &["resource"],
            _ => &["api-version", "resource"],
        }
    }

    /// An error body in this host's form.
    fn refusal(self, status: u16, code: &str, text: &str) -> Answer {
        let body = match self {
            Self::AppService => json!({"statusCode": status, "message": text, "correlationId": random::guid()}),
            Self::ServiceFabric | Self::CloudShell => json!({"error": {"code": code, "message": text}}),
            _ => json!({"error": code, "error_description": text}),
        };
        Answer::json(status, &body)
    }
}

fn version(request: &Request) -> String {
    request.query_value("api-version").unwrap_or_default()
}

/// Answers a managed identity request.
pub fn answer(state: &Arc<State>, request: &Request) -> Answer {
    let Some(host) = Host::of(request) else { return Answer::text(404, "no such identity endpoint") };
    let invalid = |text: &str| host.refusal(400, "invalid_request", text);
    let method = if host == Host::CloudShell { "POST" } else { "GET" };
    if request.method != method {
        return host.refusal(405, "method_not_allowed", &format!("The method is {method}."));
    }
    // Proxied requests are refused: the answer must never leave the machine.
    if request.header("x-forwarded-for").is_some() {
        return invalid("The header X-Forwarded-For is not allowed.");
    }
    if host.wants_metadata_header() && request.header("metadata") != Some("true") {
        return host.refusal(400, "bad_request_102", "Required metadata header not specified");
    }
    if host.secret_header().is_some_and(|name| request.header(name) != Some(HEADER_SECRET)) {
        return host.refusal(401, "unauthorized", "The secret header is wrong or missing.");
    }
    let pairs = if host == Host::CloudShell { request.form() } else { request.query_pairs() };
    if !host.versions().contains(&version(request).as_str()) {
        return invalid(&format!("The api-version is one of {:?}.", host.versions()));
    }
    for (at, (key, value)) in pairs.iter().enumerate() {
        let known = host.identity_keys().contains(&key.as_str()) || host.other_keys().contains(&key.as_str());
        if !known || value.is_empty() || pairs[..at].iter().any(|(other, _)| other == key) {
            return invalid(&format!("The parameter '{key}' is unknown, empty or duplicated."));
        }
    }
    if let Some(challenge) = arc_challenge(state, request).filter(|_| host == Host::Arc) {
        return challenge;
    }
    let identity = match identity(state, host, &pairs) {
        Ok(identity) => identity,
        Err(text) => return invalid(text),
    };
    let Some((_, resource)) = pairs.iter().find(|(key, _)| key == "resource") else {
        return invalid("Required query variable 'resource' is missing.");
    };
    let directory = state.directory.read().unwrap();
    let Some(api) = directory.api(resource).cloned() else {
        let text = format!("AADSTS500011: The resource principal named {resource} was not found in the tenant.");
        return host.refusal(400, "invalid_resource", &text);
    };
    drop(directory);
    let expires_in = state.settings().managed_identity_expires_in;
    let mut mint = Mint::app(state, &identity).without("roles");
    if api.version == 1 {
        mint = mint.version_1();
    }
    let token = mint.audience(api.audience()).claim("exp", now() + expires_in).token();
    Answer::json(200, &body(state, host, &identity, resource, &token, expires_in))
}

fn body(state: &State, host: Host, identity: &App, resource: &str, token: &str, expires_in: i64) -> Value {
    let end = now() + expires_in;
    let mut body = json!({
        "access_token": token,
        "client_id": identity.client_id,
        "expires_on": match state.settings().expires_on {
            ExpiresOn::Text => end.to_string().into(),
            ExpiresOn::Number => Value::from(end),
            ExpiresOn::Date => timestamp(end).replace(' ', "T").into(),
        },
        "resource": resource,
        "token_type": "Bearer",
    });
    if host != Host::AppService && host != Host::ServiceFabric {
        body["expires_in"] = expires_in.to_string().into();
        body["ext_expires_in"] = expires_in.to_string().into();
        body["not_before"] = now().to_string().into();
    }
    body
}

fn identity(state: &State, host: Host, pairs: &[(String, String)]) -> Result<App, &'static str> {
    let named: Vec<_> = pairs.iter().filter(|(key, _)| host.identity_keys().contains(&key.as_str())).collect();
    let of = |client_id: &str, object_id: &str| App { object_id: object_id.into(), ..App::new(client_id) };
    match named.as_slice() {
        [] if host == Host::MachineLearning => Err("clientid is missing"),
        [] if state.settings().system_identity => Ok(of("d1d1d1d1-0000-4000-8000-000000000000", SYSTEM_IDENTITY_ID)),
        [(key, value)] => {
            let expected = match key.as_str() {
                "client_id" | "clientid" => USER_IDENTITY_CLIENT_ID,
                "msi_res_id" | "mi_res_id" => USER_IDENTITY_RESOURCE,
                _ => USER_IDENTITY_ID,
            };
            if value.eq_ignore_ascii_case(expected) {
                Ok(of(USER_IDENTITY_CLIENT_ID, USER_IDENTITY_ID))
            } else {
                Err("Identity not found")
            }
        }
        [] => Err("Identity not found"),
        _ => Err("Only one identity may be named"),
    }
}

/// The challenge that only a process which may read the key file can answer
/// (<https://learn.microsoft.com/azure/azure-arc/servers/managed-identity-authentication>).
fn arc_challenge(state: &State, request: &Request) -> Option<Answer> {
    match request.header("authorization") {
        Some(value) if value == format!("Basic {ARC_KEY}") => None,
        Some(_) => Some(Host::Arc.refusal(401, "unauthorized", "The key is wrong.")),
        None => {
            let challenge = format!("Basic realm={}", state.settings().arc_key_path);
            Some(Answer::status(401).header("WWW-Authenticate", challenge))
        }
    }
}

/// The region that a virtual machine knows
/// (<https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service>).
pub fn instance(request: &Request) -> Answer {
    if request.header("metadata") != Some("true") {
        return Host::Imds.refusal(400, "bad_request_102", "Required metadata header not specified");
    }
    if version(request) == "2021-02-01" {
        Answer::json(200, &json!({"location": "westeurope", "name": "local"}))
    } else {
        Answer::json(400, &json!({"error": "Bad request.", "newest-versions": ["2021-02-01"]}))
    }
}
