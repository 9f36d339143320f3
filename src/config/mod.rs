//! The configuration as the program uses it: complete, typed and validated. It is built once from
//! all sources and never changed. A reload builds another one.
//!
//! ```text
//! files, variables, words ─source─▶ Settings ─check─▶ problems, warnings
//!                                      └──────load──▶ Config
//! ```

mod api;
mod api_options;
mod check;
mod credential;
mod describe;
mod fields;
mod json;
mod keys;
mod listen;
mod load;
mod options;
mod reader;
mod registration;
mod row;
mod sections;
mod sidecar;
mod slot;
mod source;
mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub use api_options::ManagedIdentity;
pub use api_options::{ApiOptions, InForce, Ranked};
pub use describe::{describe, documentation};
#[cfg(feature = "shared-cache")]
pub use fields::SharedCache;
pub use fields::{AllowOverrides, AllowedCallers, Limits, PopValidation, Sidecar};
pub use keys::find as find_key;
pub use load::{LoadError, Loaded, load};
pub use options::Override;
pub use source::Invocation;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::slot::Field;
use crate::secret::Secret;
use crate::value::url::Url;

#[derive(Debug)]
pub struct Config {
    /// `ASPNETCORE_ENVIRONMENT`, or `Production`.
    pub environment: String,
    /// Never empty.
    pub listen: Vec<Listen>,
    /// The section `AzureAd`: whose tokens are accepted, and the default for acquiring tokens.
    pub azure_ad: Arc<Registration>,
    /// Further sections of the same shape that APIs name in
    /// `AcquireTokenOptions:AuthenticationOptionsName`, by lower-case name.
    pub registrations: BTreeMap<String, Arc<Registration>>,
    /// Sorted by name.
    pub apis: Vec<Arc<Api>>,
    pub sidecar: Sidecar,
    pub limits: Limits,
    pub logging: Logging,
    /// Lower case, without ports. `*` alone allows any host. Loopback names are always allowed.
    pub allowed_hosts: Vec<String>,
}

impl Config {
    /// The keys of changed settings that need a restart: addresses, threads, connections and the
    /// cache outlive a reload.
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

    pub fn registration(&self, api: &Api) -> &Arc<Registration> {
        api.registration.as_ref().and_then(|name| self.registrations.get(name)).unwrap_or(&self.azure_ad)
    }

    /// True in `Development`, which serves the OpenAPI document and admits every caller.
    pub fn is_development(&self) -> bool {
        self.environment.eq_ignore_ascii_case("Development")
    }
}

/// A problem with the configuration, or a warning about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The key, or the file with line and column.
    pub key: String,
    /// One line: the value, unless it is secret, and what was expected.
    pub message: String,
}

impl Diagnostic {
    /// A problem with a key as a whole.
    pub fn new(key: &str, message: &str) -> Self {
        let mut clean = Self { key: String::new(), message: String::new() };
        crate::value::text::escape(key, &mut clean.key);
        crate::value::text::escape(message, &mut clean.message);
        clean
    }

    /// A problem with a value, which is shown. Not for secrets.
    pub fn value(key: &str, value: &str, expected: &str) -> Self {
        Self::new(key, &format!("{}: expected {expected}", crate::value::text::quote(value)))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `http://127.0.0.1:5000`. `localhost` becomes two of these, `+` and `*` the unspecified IPv6
    /// address (dual stack).
    Tcp(SocketAddr),
    /// `unix:/run/entra-sidecar.sock` or `http://unix:/run/entra-sidecar.sock`.
    Unix(PathBuf),
}

/// An app registration: a section with the shape of `AzureAd`.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the configuration")]
pub struct Registration {
    /// As written, for messages.
    pub section: String,
    /// E.g. `https://login.microsoftonline.com/`. From `Authority` if that is given.
    pub instance: Url,
    /// GUID, domain, `common`, `organizations` or `consumers`. From `Authority` if that is given.
    /// Empty: not configured.
    pub tenant: String,
    /// Empty: not configured.
    pub client_id: String,
    /// `Authority` without trailing slash and `/v2.0`, if it is more than `Instance` and `TenantId`
    /// (CIAM, B2C, other OpenID providers).
    pub authority: Option<Url>,
    /// `MetadataAddress`: the OpenID document, if its address does not follow from the authority.
    pub metadata_address: Option<Url>,
    /// From `Audience`, `Audiences` and `TokenValidationParameters:ValidAudience(s)`. Empty:
    /// `ClientId` and `api://ClientId`.
    pub audiences: Vec<String>,
    /// From `TokenValidationParameters:ValidIssuer(s)`. Empty: the issuers in the metadata.
    pub valid_issuers: Vec<String>,
    pub validate_issuer: bool,
    pub require_expiration: bool,
    pub role_claim: String,
    pub clock_skew: Duration,
    /// Whether 401 challenges have an `error_description`.
    pub include_error_details: bool,
    /// The scheme in `WWW-Authenticate`.
    pub challenge: String,
    /// Time between planned fetches of signing keys.
    pub key_refresh: Duration,
    /// Minimum time between fetches for unknown keys.
    pub key_refresh_minimum: Duration,
    /// For one fetch of metadata or keys.
    pub metadata_timeout: Duration,
    /// An inbound token needs one of these scopes. Empty: none required.
    pub scopes: Vec<String>,
    /// True if an app token without scopes and roles is accepted.
    pub allow_acl: bool,
    /// E.g. `cp1`.
    pub client_capabilities: Vec<String>,
    pub azure_region: Option<String>,
    pub send_x5c: bool,
    pub extra_query: BTreeMap<String, String>,
    pub app_home_tenant: Option<String>,
    /// B2C only.
    pub domain: Option<String>,
    /// `SignUpSignInPolicyId`, B2C only.
    pub policy: Option<String>,
    /// The default managed identity for credentials in Key Vault.
    pub managed_identity_client_id: Option<String>,
    /// Sorted by index.
    pub credentials: Vec<CredentialDescription>,
    /// From `TokenDecryptionCredentials`, then `TokenDecryptionCertificates`.
    pub decryption_credentials: Vec<CredentialDescription>,
}

impl Registration {
    /// A copy with another policy (user flow) of the B2C tenant. If the authority names a policy,
    /// it is the last segment: `/{domain}/{policy}` or `/tfp/{domain}/{policy}`.
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

/// An entry of `ClientCredentials` or `TokenDecryptionCredentials`.
#[derive(Clone, Debug)]
pub struct CredentialDescription {
    /// E.g. `AzureAd:ClientCredentials:0`, for messages.
    pub key: String,
    /// Its `SourceType`.
    pub kind: &'static str,
    pub source: CredentialSource,
}

#[derive(Clone, Debug)]
pub enum CredentialSource {
    ClientSecret(Secret<String>),
    /// A PEM or PFX file.
    Path {
        certificate: PathBuf,
        /// The file of the PEM key, if it is a separate one.
        key: Option<PathBuf>,
        password: Option<Secret<String>>,
    },
    /// A PFX in base64.
    Base64Encoded {
        value: Secret<String>,
        password: Option<Secret<String>>,
    },
    /// A certificate with an exportable key in a vault.
    KeyVault(VaultCertificate),
    /// In .NET's certificate store of the user.
    Store {
        /// E.g. `CurrentUser/My`.
        store: String,
        wanted: Selector,
    },
    /// The token of a managed identity, used as a client assertion.
    SignedAssertionFromManagedIdentity {
        /// `None`: the system-assigned identity.
        client_id: Option<String>,
        /// `None`: the default of the cloud.
        token_exchange_url: Option<String>,
    },
    /// A projected service account token.
    SignedAssertionFilePath {
        /// `SignedAssertionFileDiskPath`, else `AZURE_FEDERATED_TOKEN_FILE`.
        path: PathBuf,
    },
    /// Assertions signed by the vault.
    SignedAssertionFromVault(VaultCertificate),
}

#[derive(Clone, Debug)]
pub enum Selector {
    /// SHA-1 in lower-case hex, without separators.
    Thumbprint(String),
    /// The full subject, e.g. `CN=app`.
    DistinguishedName(String),
    /// Part of the subject.
    SubjectName(String),
}

#[derive(Clone, Debug)]
pub struct VaultCertificate {
    pub vault: Url,
    pub name: String,
    /// The managed identity for accessing the vault.
    pub managed_identity_client_id: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Api {
    /// As written.
    pub name: String,
    /// The section whose registration acquires tokens, in lower case. `None`: `AzureAd`.
    pub registration: Option<String>,
    pub options: ApiOptions,
}

#[derive(Clone, Debug)]
pub struct Logging {
    pub default: log::LevelFilter,
    /// The level of the access log. Default: Warning, or Information in Development.
    pub access: log::LevelFilter,
    /// `LogLevel:<category>` as written. Later entries win.
    pub categories: Vec<(String, log::LevelFilter)>,
    pub json: bool,
}
