//! What all parts of the tenant share.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use crate::directory::Directory;
use crate::faults::Faults;
use crate::journal::Journal;
use crate::keyring::KeyRing;
use crate::keys::{SigningKey, embedded};
use crate::vault::Item;

/// What a test may change while the tenant runs.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Settings {
    /// `expires_in` of every token, in seconds.
    pub expires_in: i64,
    /// `refresh_in`, when it is to be sent.
    pub refresh_in: Option<i64>,
    /// Sends the two as JSON strings.
    pub numbers_as_strings: bool,
    /// Puts `Trace ID` and what follows on lines of their own.
    pub error_lines: bool,
    /// Answers `token_type: Bearer` although `pop` was asked for.
    pub ignores_pop: bool,
    /// Replaces the `issuer` of the metadata documents.
    pub issuer: Option<String>,
    /// What the vault's challenge names as `resource`.
    pub vault_resource: String,
    /// How long a managed identity's token lives, in seconds.
    pub managed_identity_expires_in: i64,
    /// How managed identity endpoints spell `expires_on`.
    pub expires_on: ExpiresOn,
    /// Whether the host has an identity of its own.
    pub system_identity: bool,
    /// What the Azure Arc challenge names as the key file, whatever follows `realm=`.
    pub arc_key_path: String,
    /// Of so many requests, whatever they ask for, one is answered 50 to 500 ms later than it could be.
    pub slow_one_in: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            expires_in: 3599,
            refresh_in: None,
            numbers_as_strings: false,
            error_lines: false,
            ignores_pop: false,
            issuer: None,
            vault_resource: crate::directory::VAULT.into(),
            managed_identity_expires_in: 86_399,
            expires_on: ExpiresOn::default(),
            system_identity: true,
            arc_key_path: "/var/opt/azcmagent/tokens/local-tenant.key".into(),
            slow_one_in: None,
        }
    }
}

/// How managed identity endpoints spell the end of a token's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiresOn {
    /// `"1767225600"`, as most do.
    #[default]
    Text,
    /// `1767225600`.
    Number,
    /// `"2026-01-01T00:00:00Z"`, as the oldest App Service interface did.
    Date,
}

/// What a refresh token stands for.
#[derive(Clone, Debug)]
pub struct Refresh {
    /// The user's object id.
    pub user: String,
    /// The client that it was given to.
    pub client_id: String,
    /// The tenant that issued it.
    pub tenant: String,
}

/// The tenant's state.
pub struct State {
    /// `http://127.0.0.1:port`.
    pub base: String,
    /// What is registered.
    pub directory: RwLock<Directory>,
    /// The signing keys.
    pub keys: RwLock<KeyRing>,
    /// The key of the federated issuer.
    pub federated_key: Arc<SigningKey>,
    /// What a test may change.
    pub settings: RwLock<Settings>,
    /// Planned faults.
    pub faults: Faults,
    /// What came in.
    pub journal: Journal,
    /// Refresh tokens that are good.
    pub refresh_tokens: Mutex<HashMap<String, Refresh>>,
    /// Every `jti` of a client assertion that was accepted.
    pub assertion_ids: Mutex<HashSet<String>>,
    /// What the vault holds.
    pub vault: RwLock<Vec<Item>>,
    /// The storage account.
    pub account: crate::blob::Account,
    issued: AtomicU64,
}

impl State {
    /// The state of a tenant at this base URL.
    pub fn new(base: String, directory: Directory, settings: Settings) -> Self {
        Self {
            base,
            directory: RwLock::new(directory),
            keys: RwLock::new(KeyRing::default()),
            federated_key: Arc::new(SigningKey::rsa("local-federated", embedded!("federated.pem"))),
            settings: RwLock::new(settings),
            faults: Faults::default(),
            journal: Journal::default(),
            refresh_tokens: Mutex::default(),
            assertion_ids: Mutex::default(),
            vault: RwLock::new(Item::ready_made()),
            account: crate::blob::Account::default(),
            issued: AtomicU64::new(0),
        }
    }

    /// A number that grows with every token issued.
    pub fn next_marker(&self) -> u64 {
        self.issued.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// How many tokens were issued.
    pub fn issued(&self) -> u64 {
        self.issued.load(Ordering::SeqCst)
    }

    /// The settings now.
    pub fn settings(&self) -> Settings {
        self.settings.read().unwrap().clone()
    }
}
