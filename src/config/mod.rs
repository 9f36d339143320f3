//! The configuration as the program uses it: complete, typed, validated. It is built once from all
//! sources and never edited; a reload builds another one.
//!
//! ```text
//! files, variables, words ─source─▶ Settings ─check─▶ problems, warnings
//!                                      └──────load──▶ Config
//! ```

mod api;
mod check;
mod credential;
mod describe;
mod json;
mod keys;
mod listen;
mod load;
mod options;
mod registration;
mod sidecar;
mod slot;
mod source;
mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use describe::{describe, documentation};
pub use keys::find as find_key;
pub use load::{Loaded, Rejected, load};
pub use options::{ApiOptions, InForce, Override, Ranked};
pub use source::Invocation;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::slot::Field;
use crate::secret::Secret;
use crate::value::network::Network;
use crate::value::url::Url;

/// Everything that the program was told.
#[derive(Debug)]
pub struct Config {
    /// `ASPNETCORE_ENVIRONMENT`; `Production` when nothing is said.
    pub environment: String,
    /// Where to listen. Never empty.
    pub listen: Vec<Listen>,
    /// The section `AzureAd`: whose tokens are accepted and who acquires by default.
    pub azure_ad: Arc<Registration>,
    /// Further sections of the same shape that an API names with `AcquireTokenOptions:AuthenticationOptionsName`,
    /// by that name in lower case.
    pub registrations: BTreeMap<String, Arc<Registration>>,
    /// The downstream APIs in the order of their names.
    pub apis: Vec<Arc<Api>>,
    /// The section `Sidecar`, without its limits.
    pub sidecar: Sidecar,
    /// The section `Sidecar:Limits`.
    pub limits: Limits,
    /// The section `Logging`.
    pub logging: Logging,
    /// `AllowedHosts`, lower case, without ports; `*` alone means any. Loopback names are always allowed.
    pub allowed_hosts: Vec<String>,
}

impl Default for AllowedCallers {
    fn default() -> Self {
        Self::Networks(Vec::new())
    }
}

impl Config {
    /// The keys of what has changed in `new` and is taken at the start only: addresses, threads, connections and
    /// the cache outlive a reload.
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let [mut old, mut other] = [self, new].map(|config| (config.sidecar.clone(), config.limits.clone()));
        let mut changed = Vec::from_iter((self.listen != new.listen).then_some("urls"));
        for key in table::rows().filter(|key| key.restart) {
            let differs = match key.field {
                Field::Named | Field::Api(_) => false,
                Field::Sidecar(field) => field(&mut old.0) != field(&mut other.0),
                Field::Limits(field) => field(&mut old.1) != field(&mut other.1),
            };
            changed.extend(differs.then_some(key.pattern));
        }
        changed
    }

    /// The registration that acquires for an API.
    pub fn registration(&self, api: &Api) -> &Arc<Registration> {
        api.registration.as_ref().and_then(|name| self.registrations.get(name)).unwrap_or(&self.azure_ad)
    }

    /// Whether the environment is `Development`, which opens the OpenAPI document and every caller's door.
    pub fn is_development(&self) -> bool {
        self.environment.eq_ignore_ascii_case("Development")
    }
}

/// One thing that is wrong with what the program was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, or the file with line and column.
    pub key: String,
    /// The value, unless it is secret, and what was expected. One line.
    pub message: String,
}

/// The same for something that works, though perhaps not as meant.
pub type Warning = Problem;

impl Problem {
    /// About a key as a whole.
    pub fn new(key: &str, message: &str) -> Self {
        let mut clean = Self { key: String::new(), message: String::new() };
        crate::value::text::escape(key, &mut clean.key);
        crate::value::text::escape(message, &mut clean.message);
        clean
    }

    /// About a value, which is shown: never for a secret.
    pub fn value(key: &str, value: &str, expected: &str) -> Self {
        Self::new(key, &format!("{}: expected {expected}", crate::value::text::quote(value)))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `http://127.0.0.1:5000`; `localhost` yields two of them, `+` and `*` the unspecified IPv6 address (dual stack).
    Tcp(SocketAddr),
    /// `unix:/run/entra-sidecar.sock` or `http://unix:/run/entra-sidecar.sock`.
    Unix(PathBuf),
}

/// A section of the shape of `AzureAd`: one app registration.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the configuration")]
pub struct Registration {
    /// The section's name as written, for messages.
    pub section: String,
    /// `Instance`, e.g. `https://login.microsoftonline.com/`; from `Authority` where that is given.
    pub instance: Url,
    /// `TenantId`: GUID, domain, `common`, `organizations`, `consumers`; from `Authority` where that is given. Empty: not configured.
    pub tenant: String,
    /// `ClientId`. Empty: not configured.
    pub client_id: String,
    /// `Authority` as given, without trailing slash and `/v2.0`, when it is not of the form `Instance` + `TenantId` (CIAM, B2C, other OIDC).
    pub authority: Option<Url>,
    /// `MetadataAddress`: the OpenID document where it does not follow from the authority.
    pub metadata_address: Option<Url>,
    /// `Audience` and `Audiences` and `TokenValidationParameters:ValidAudience(s)`. Empty: `ClientId` and `api://ClientId`.
    pub audiences: Vec<String>,
    /// `TokenValidationParameters:ValidIssuer(s)`. Empty: what the metadata says.
    pub valid_issuers: Vec<String>,
    /// `TokenValidationParameters:ValidateIssuer` (true).
    pub validate_issuer: bool,
    /// `TokenValidationParameters:RequireExpirationTime` (true).
    pub require_expiration: bool,
    /// `TokenValidationParameters:RoleClaimType` (`roles`).
    pub role_claim: String,
    /// `TokenValidationParameters:ClockSkew`, 5 minutes.
    pub clock_skew: Duration,
    /// `IncludeErrorDetails` (true): `error_description` in 401 challenges.
    pub include_error_details: bool,
    /// `Challenge` (`Bearer`): the scheme word of `WWW-Authenticate`.
    pub challenge: String,
    /// `AutomaticRefreshInterval`: between planned fetches of signing keys, 12 hours.
    pub key_refresh: Duration,
    /// `RefreshInterval`: least time between fetches for unknown keys, 30 seconds.
    pub key_refresh_minimum: Duration,
    /// `BackchannelTimeout`: for one fetch of metadata or keys.
    pub metadata_timeout: Duration,
    /// `Scopes` that an inbound token must have one of. Empty: none required.
    pub scopes: Vec<String>,
    /// `AllowWebApiToBeAuthorizedByACL` (true): whether an app token without scopes and roles is accepted.
    pub allow_acl: bool,
    /// `ClientCapabilities`, e.g. `cp1`.
    pub client_capabilities: Vec<String>,
    /// `AzureRegion`.
    pub azure_region: Option<String>,
    /// `SendX5C`.
    pub send_x5c: bool,
    /// `ExtraQueryParameters` of token requests.
    pub extra_query: BTreeMap<String, String>,
    /// `AppHomeTenantId`.
    pub app_home_tenant: Option<String>,
    /// `Domain`, B2C only.
    pub domain: Option<String>,
    /// `SignUpSignInPolicyId`, B2C only.
    pub policy: Option<String>,
    /// `UserAssignedManagedIdentityClientId`: the default managed identity of Key Vault credentials.
    pub managed_identity_client_id: Option<String>,
    /// `ClientCredentials`, in the order of their indices.
    pub credentials: Vec<CredentialDescription>,
    /// `TokenDecryptionCredentials`, then `TokenDecryptionCertificates`.
    pub decryption_credentials: Vec<CredentialDescription>,
}

impl Registration {
    /// The same registration of a B2C tenant with another policy (user flow). The policy is the last segment of an
    /// authority that names one: `/{domain}/{policy}`, with or without `tfp` before it.
    #[must_use]
    pub fn with_policy(&self, policy: &str) -> Self {
        let authority = self.authority.as_ref().map(|authority| match (&self.policy, authority.base_path()) {
            (Some(_), path) => {
                let start = path.rfind('/').map_or(path, |end| &path[..end]);
                authority.with_path(&format!("{start}/{}", crate::value::percent::encode_component(policy)))
            }
            (None, _) => authority.clone(),
        });
        Self { policy: Some(policy.to_owned()), authority, ..self.clone() }
    }
}

/// One entry of `ClientCredentials` or `TokenDecryptionCredentials`.
#[derive(Clone, Debug)]
pub struct CredentialDescription {
    /// Its key, e.g. `AzureAd:ClientCredentials:0`, for messages.
    pub key: String,
    /// What it is.
    pub source: CredentialSource,
}

/// The kinds of credential, with the fields that each needs.
#[derive(Clone, Debug)]
pub enum CredentialSource {
    /// A shared secret.
    ClientSecret(Secret<String>),
    /// A PEM or PFX file.
    Path {
        /// `CertificateDiskPath`.
        certificate: PathBuf,
        /// `CertificateKeyDiskPath`: the PEM key where it is not in the same file.
        key: Option<PathBuf>,
        /// `CertificatePassword`.
        password: Option<Secret<String>>,
    },
    /// A PFX, base64.
    Base64Encoded {
        /// `Base64EncodedValue`.
        value: Secret<String>,
        /// `CertificatePassword`.
        password: Option<Secret<String>>,
    },
    /// A certificate with an exportable key in a vault.
    KeyVault(VaultCertificate),
    /// .NET's store of the user, by SHA-1 thumbprint (hex).
    StoreWithThumbprint {
        /// `CertificateStorePath`, e.g. `CurrentUser/My`.
        store: String,
        /// `CertificateThumbprint`, hex without separators, lower case.
        thumbprint: String,
    },
    /// .NET's store of the user, by subject.
    StoreWithDistinguishedName {
        /// `CertificateStorePath`.
        store: String,
        /// `CertificateDistinguishedName`, e.g. `CN=app`.
        name: String,
    },
    /// .NET's store of the user, by a part of the subject.
    StoreWithSubjectName {
        /// `CertificateStorePath`.
        store: String,
        /// `CertificateSubjectName`.
        name: String,
    },
    /// A managed identity's token as client assertion.
    SignedAssertionFromManagedIdentity {
        /// `ManagedIdentityClientId`; `None` is the system-assigned one.
        client_id: Option<String>,
        /// `TokenExchangeUrl`; `None` follows from the cloud.
        token_exchange_url: Option<String>,
    },
    /// A projected service account token.
    SignedAssertionFilePath {
        /// `SignedAssertionFileDiskPath`, else `AZURE_FEDERATED_TOKEN_FILE`.
        path: PathBuf,
    },
    /// Assertions signed inside the vault.
    SignedAssertionFromVault(VaultCertificate),
}

impl CredentialSource {
    /// The value of `SourceType`.
    pub const fn source_type(&self) -> &'static str {
        match self {
            Self::ClientSecret(_) => "ClientSecret",
            Self::Path { .. } => "Path",
            Self::Base64Encoded { .. } => "Base64Encoded",
            Self::KeyVault(_) => "KeyVault",
            Self::StoreWithThumbprint { .. } => "StoreWithThumbprint",
            Self::StoreWithDistinguishedName { .. } => "StoreWithDistinguishedName",
            Self::StoreWithSubjectName { .. } => "StoreWithSubjectName",
            Self::SignedAssertionFromManagedIdentity { .. } => "SignedAssertionFromManagedIdentity",
            Self::SignedAssertionFilePath { .. } => "SignedAssertionFilePath",
            Self::SignedAssertionFromVault(_) => "SignedAssertionFromVault",
        }
    }
}

/// Where in which vault a certificate is.
#[derive(Clone, Debug)]
pub struct VaultCertificate {
    /// `KeyVaultUrl`.
    pub vault: Url,
    /// `KeyVaultCertificateName`.
    pub name: String,
    /// `ManagedIdentityClientId` for the vault's own token.
    pub managed_identity_client_id: Option<String>,
}

/// `DownstreamApis:<name>`.
#[derive(Clone, Debug, Default)]
pub struct Api {
    /// As written.
    pub name: String,
    /// The section whose registration acquires; lower case; `None` is `AzureAd`.
    pub registration: Option<String>,
    /// What holds where a request says nothing else.
    pub options: ApiOptions,
}

/// Which managed identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ManagedIdentity {
    /// `UserAssignedClientId`; `None` is the system-assigned one.
    pub client_id: Option<String>,
}

/// The section `Sidecar`.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the configuration")]
#[expect(missing_docs, reason = "what each is, the row of the table that fills it says")]
pub struct Sidecar {
    pub allowed_callers: AllowedCallers,
    pub caller_token_file: Option<PathBuf>,
    pub allow_overrides: AllowOverrides,
    pub allow_app_token_without_user: bool,
    pub allow_insecure_upstream: bool,
    pub allow_outbound_redirects: bool,
    pub header_values_as_arrays: bool,
    pub semantic_token_errors: bool,
    pub proxy: bool,
    pub metrics: bool,
    pub trusted_certificates: Vec<PathBuf>,
    pub allowed_tenants: Vec<String>,
    pub signed_http_request_key: Option<PathBuf>,
    pub pop_validation: PopValidation,
}

/// `Sidecar:AllowedCallers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedCallers {
    /// `*`, and the default in Development.
    Any,
    /// Loopback and the unix socket, and these networks.
    Networks(Vec<Network>),
}

/// `Sidecar:AllowOverrides`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one switch an endpoint, as configured")]
#[expect(missing_docs, reason = "what each is, the row of the table that fills it says")]
pub struct AllowOverrides {
    pub authorization_header: bool,
    pub authorization_header_unauthenticated: bool,
    pub downstream_api: bool,
    pub downstream_api_unauthenticated: bool,
}

/// `Sidecar:PopValidation`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the configuration")]
#[expect(missing_docs, reason = "what each is, the row of the table that fills it says")]
pub struct PopValidation {
    pub method: bool,
    pub host: bool,
    pub path: bool,
    pub query: bool,
    pub accept_unsigned_query: bool,
    pub present_claims: bool,
    pub claims_when_present: Vec<String>,
    pub lifetime: Duration,
    pub reject_replays: bool,
    pub reject_bound_as_bearer: bool,
}

/// `Sidecar:Limits`.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "what each is, the row of the table that fills it says")]
pub struct Limits {
    pub workers: usize,
    pub upstream_calls: usize,
    pub queue_timeout: Duration,
    pub body_memory: usize,
    pub connections: usize,
    pub request_head_bytes: usize,
    pub request_headers: usize,
    pub head_timeout: Duration,
    pub body_timeout: Duration,
    pub write_timeout: Duration,
    pub idle_timeout: Duration,
    pub request_body_bytes: usize,
    pub token_bytes: usize,
    pub connect_timeout: Duration,
    pub token_request_timeout: Duration,
    pub downstream_timeout: Duration,
    pub downstream_body_bytes: usize,
    pub proxy_first_byte_timeout: Duration,
    pub proxy_idle_timeout: Duration,
    pub token_cache_entries: usize,
    pub token_cache_bytes: usize,
    pub validated_tokens: usize,
    pub sessions: usize,
    pub shutdown_timeout: Duration,
}

/// The section `Logging`.
#[derive(Clone, Debug)]
pub struct Logging {
    /// `LogLevel:Default`.
    pub default: log::LevelFilter,
    /// `LogLevel:Access`: Warning, in Development Information, unless it is configured.
    pub access: log::LevelFilter,
    /// `LogLevel:<category>`, categories as written, those of the console last.
    pub categories: Vec<(String, log::LevelFilter)>,
    /// `Format` = `json`.
    pub json: bool,
}
