//! One configuration, made ready to answer with. Immutable but for what it remembers; a reload makes another.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::admit::Admission;
use crate::config::{Api, Config};
use crate::credentials::{Client, Credentials};
#[cfg(feature = "jwe")]
use crate::credentials::{Context, Failure, Identities};
use crate::jwks::Keys;
#[cfg(feature = "jwe")]
use crate::jwt::jwe::DecryptionKey;
use crate::jwt::shr::SignedRequests;
use crate::jwt::{Policy, Validator};
#[cfg(feature = "jwe")]
use crate::secret::Secret;
use crate::shr::{RequestSigner, SignerError};

/// A configuration and what was built from it.
pub struct Service {
    /// As loaded.
    pub config: Config,
    /// Who may call.
    pub admission: Admission,
    /// Which tokens are accepted.
    pub validator: Validator,
    /// Which signed requests are.
    pub signed_requests: SignedRequests,
    /// What they are verified with.
    pub keys: Arc<Keys>,
    /// Holds the key that tokens are bound to where the caller has none.
    pub signer: RequestSigner,
    /// `AzureAd`.
    client: Arc<Client>,
    /// Other registrations by their sections' names in lower case.
    clients: BTreeMap<String, Arc<Client>>,
}

impl Service {
    /// From the configuration. `keys` may outlive it.
    pub fn new(config: Config, keys: Arc<Keys>) -> Result<Self, SignerError> {
        let client = |registration: &Arc<_>| -> Arc<Client> {
            let registration: &Arc<crate::config::Registration> = registration;
            let credentials = Credentials::new(&registration.credentials);
            Arc::new(Client { registration: Arc::clone(registration), credentials })
        };
        let admission = Admission::new(
            config.sidecar.allowed_callers.clone(),
            config.allowed_hosts.clone(),
            config.sidecar.caller_token_file.clone(),
        );
        let signer = match &config.sidecar.signed_http_request_key {
            Some(path) => RequestSigner::from_file(path)?,
            None => RequestSigner::generate()?,
        };
        Ok(Self {
            admission,
            signer,
            signed_requests: SignedRequests::new(config.sidecar.pop_validation.clone()),
            validator: Validator::new(
                Policy::of(&config.azure_ad, &config.sidecar.allowed_tenants, config.limits.token_bytes),
                config.limits.validated_tokens,
            ),
            keys,
            client: client(&config.azure_ad),
            clients: config.registrations.iter().map(|(name, own)| (name.clone(), client(own))).collect(),
            config,
        })
    }

    /// Reads the certificates of `TokenDecryptionCredentials`, and says which cannot be used.
    #[cfg(feature = "jwe")]
    pub fn read_decryption_keys(&self, shared: &super::Shared) {
        let registration = &self.config.azure_ad;
        let context = Context {
            audience: "",
            registration,
            clock: &*shared.clock,
            exchange: &*shared.exchange,
            identities: &NoIdentities,
            correlation_id: "",
        };
        let certificates = Credentials::new(&registration.decryption_credentials).certificates(&context);
        let keys = certificates.into_iter().filter_map(|certificate| {
            let key = certificate.map_err(|failure| failure.to_string()).and_then(|certificate| {
                let own = certificate.chain.first().map(Vec::as_slice);
                DecryptionKey::new(&certificate.private_key, own).map_err(|error| error.to_string())
            });
            key.inspect_err(|reason| log::error!("{}:TokenDecryptionCredentials: {reason}", registration.section)).ok()
        });
        self.validator.set_decryption_keys(keys.collect());
    }

    /// The API of this name: exactly so, else the only one without regard to case.
    pub fn api(&self, name: &str) -> Option<&Arc<Api>> {
        let apis = &self.config.apis;
        apis.iter().find(|api| api.name == name).or_else(|| apis.iter().find(|api| api.name.eq_ignore_ascii_case(name)))
    }

    /// The registration that acquires for an API.
    pub fn client(&self, api: &Api) -> &Arc<Client> {
        api.acquire.registration.as_ref().and_then(|name| self.clients.get(name)).unwrap_or(&self.client)
    }

    /// Each registration that has credentials and can use none of them, as far as this machine can tell, and why.
    pub fn unusable_credentials(&self, now: u64) -> impl Iterator<Item = String> {
        self.clients().filter(move |client| !client.credentials.is_usable(now)).map(move |client| {
            let reasons: Vec<_> = client
                .credentials
                .inspect(now)
                .into_iter()
                .filter_map(|own| {
                    own.result.err().map(|reason| format!("{} ({}): {reason}", own.index, own.source_type))
                })
                .collect();
            format!("{}:ClientCredentials: none can be used: {}", client.registration.section, reasons.join("; "))
        })
    }

    /// Every registration.
    pub fn clients(&self) -> impl Iterator<Item = &Arc<Client>> {
        std::iter::once(&self.client).chain(self.clients.values())
    }
}

/// Decryption keys are had without asking anybody for a token.
#[cfg(feature = "jwe")]
struct NoIdentities;

#[cfg(feature = "jwe")]
impl Identities for NoIdentities {
    fn managed_identity(&self, _: Option<&str>, _: &str) -> Result<Secret<String>, Failure> {
        Err(Failure::Unusable("decryption credentials are on this machine".to_owned()))
    }
}
