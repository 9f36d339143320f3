//! A strict stand-in for Entra and what surrounds it: token endpoint, metadata and signing keys, managed identity
//! endpoints, Key Vault and a downstream API, on one loopback port. It refuses what Entra would refuse and says
//! why, keeps a journal of every request, and fails on demand.
//!
//! ```no_run
//! use local_tenant::{Kind, LocalTenant, Options};
//!
//! let tenant = LocalTenant::start(Options::default());
//! let token = tenant.mint_user("alice").scopes("read").token();
//! // … run the sidecar against `tenant.base_url()` …
//! assert_eq!(tenant.journal().count(Kind::Token), 1);
//! ```
//!
//! | path | what |
//! |---|---|
//! | `/{tenant}/v2.0/.well-known/openid-configuration`, `/{tenant}/discovery/v2.0/keys` | metadata, keys |
//! | `/{tenant}/oauth2/v2.0/token` | token endpoint |
//! | `/api/…` | downstream API |
//! | `/openai/…`, `/models/…` | Azure OpenAI's chat completions |
//! | `/v1.0/…` | Microsoft Graph's users |
//! | `/metadata/identity/oauth2/token`, `/managed-identity/{app-service,arc,…}` | managed identity |
//! | `/certificates/…`, `/secrets/…`, `/keys/…` | Key Vault |
//! | `/blob/…` | a storage account for block blobs |
//! | `/_control/…` | control |

pub mod agents;
pub mod blob;
pub mod certificate;
pub mod client;
pub mod client_auth;
pub mod control;
pub mod directory;
pub mod downstream;
pub mod faults;
pub mod form;
pub mod graph;
pub mod journal;
pub mod jwe;
pub mod jwt;
pub mod keyring;
pub mod keys;
pub mod managed_identity;
pub mod message;
pub mod metadata;
pub mod mint;
pub mod openai;
pub mod random;
pub mod refusal;
pub mod sample;
pub mod scope;
pub mod server;
pub mod shr;
pub mod state;
pub mod time;
pub mod token_endpoint;
pub mod vault;
pub mod verify;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

pub use directory::{Api, App, Condition, User};
pub use faults::{Action, Fault};
pub use journal::{Kind, Record};
pub use message::{Answer, Ending, Framing, Request};
pub use mint::Mint;
pub use state::{ExpiresOn, Settings};

use directory::Directory;
use keys::SigningKey;
use server::{Handler, Server};
use state::State;

/// How a tenant starts.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The port; 0 takes a free one.
    pub port: u16,
    /// What is registered.
    pub directory: Directory,
    /// Token lifetimes and the like.
    pub settings: Settings,
}

/// A running tenant; it stops when dropped.
pub struct LocalTenant {
    state: Arc<State>,
    server: Server,
}

impl LocalTenant {
    /// Starts a tenant on loopback.
    pub fn start(options: Options) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], options.port))).expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("a bound listener"));
        let state = Arc::new(State::new(base, options.directory, options.settings));
        let server = Server::start(listener, Arc::new(Router(Arc::clone(&state)))).expect("a bound listener");
        Self { state, server }
    }

    /// `http://127.0.0.1:port`, without a trailing slash.
    pub fn base_url(&self) -> &str {
        &self.state.base
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The GUID of the first tenant.
    pub fn tenant_id(&self) -> &'static str {
        directory::TENANT_ID
    }

    /// The token endpoint of a tenant.
    pub fn token_url(&self, tenant: &str) -> String {
        format!("{}/{tenant}/oauth2/v2.0/token", self.state.base)
    }

    /// A user's token for the ready-made registration. The user is one of the directory, by name; any other name
    /// is the object id of a user who is not registered.
    pub fn mint_user(&self, name: &str) -> Mint {
        let known = self.state.directory.read().unwrap().user(name).cloned();
        Mint::user(&self.state, &known.unwrap_or_else(|| User::new(name, name)))
    }

    /// An app-only token for the ready-made registration, issued to this client.
    pub fn mint_app(&self, client_id: &str) -> Mint {
        let known = self.state.directory.read().unwrap().app(client_id).cloned();
        Mint::app(&self.state, &known.unwrap_or_else(|| App::new(client_id)))
    }

    /// An assertion of the federated issuer that [`directory::APP_ID`] trusts, about this subject.
    pub fn federated_assertion(&self, subject: &str, expires_in: i64) -> String {
        mint::federated_assertion(&self.state, subject, directory::EXCHANGE, expires_in)
    }

    /// Changes what is registered.
    pub fn directory(&self, change: impl FnOnce(&mut Directory)) {
        change(&mut self.state.directory.write().unwrap());
    }

    /// Changes settings.
    pub fn settings(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.state.settings.write().unwrap());
    }

    /// Signs with a fresh key from now on; gives its id. The old keys stay published.
    pub fn rotate_keys(&self) -> String {
        self.state.keys.write().unwrap().rotate()
    }

    /// Changes the key set.
    pub fn keys(&self, change: impl FnOnce(&mut keyring::KeyRing)) {
        change(&mut self.state.keys.write().unwrap());
    }

    /// Adds a signing key with members for its JWK.
    pub fn add_key(&self, key: SigningKey, published: bool, members: &Value) {
        let members = members.as_object().cloned().unwrap_or_default();
        self.state.keys.write().unwrap().add(Arc::new(key), published, members);
    }

    /// Writes the key file that the Azure Arc challenge names.
    pub fn write_arc_key(&self) -> std::io::Result<()> {
        let path = std::path::PathBuf::from(self.state.settings().arc_key_path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, managed_identity::ARC_KEY)
    }

    /// Changes what the vault holds.
    pub fn vault(&self, change: impl FnOnce(&mut Vec<vault::Item>)) {
        change(&mut self.state.vault.write().unwrap());
    }

    /// Revokes every refresh token.
    pub fn revoke_refresh_tokens(&self) {
        self.state.refresh_tokens.lock().unwrap().clear();
    }

    /// Plans a fault.
    pub fn fail(&self, fault: Fault) {
        self.state.faults.add(fault);
    }

    /// The planned faults and the held requests.
    pub fn faults(&self) -> &faults::Faults {
        &self.state.faults
    }

    /// What came in.
    pub fn journal(&self) -> &journal::Journal {
        &self.state.journal
    }

    /// How many connections were accepted.
    pub fn accepted_connections(&self) -> u64 {
        self.server.accepted()
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.server.open()
    }

    /// Cuts every open connection, idle ones included.
    pub fn cut_connections(&self) {
        self.server.cut_all();
    }
}

impl Drop for LocalTenant {
    fn drop(&mut self) {
        // Held requests would keep their threads for ever.
        self.state.faults.clear();
    }
}

/// Sends each request to its part, through the faults and into the journal.
struct Router(Arc<State>);

impl Handler for Router {
    fn head(&self, request: &Request) -> Option<Answer> {
        let answer = self.0.faults.at_head(request)?;
        let number = self.0.journal.arrived(request);
        self.0.journal.note(number, "cut before the body was read");
        Some(answer)
    }

    fn handle(&self, request: Request) -> Answer {
        let state = &self.0;
        if Kind::of_path(&request.path) == Kind::Control {
            return control::answer(state, &request);
        }
        let number = state.journal.arrived(&request);
        let slow = state.settings.read().unwrap().slow_one_in;
        if slow.is_some_and(|one_in| random::below(one_in) == 0) {
            thread::sleep(Duration::from_millis(50 + random::below(451)));
        }
        let silent = Answer { ending: Ending::Silent, ..Answer::default() };
        let answer = match state.faults.take(&request) {
            None => self.route(&request, number),
            Some(Action::Answer(answer)) => *answer,
            Some(Action::Echo) => refusal::Refusal::echo(&request).answer(&state.base, "echo", true),
            Some(Action::Delay(delay)) => {
                thread::sleep(delay);
                self.route(&request, number)
            }
            Some(Action::Hold) => {
                state.faults.hold();
                self.route(&request, number)
            }
            Some(Action::CutBeforeBody | Action::CutBeforeAnswer) => silent,
            Some(Action::CutAfterWork) => {
                self.route(&request, number);
                silent
            }
            Some(Action::Truncate(length)) => {
                Answer { ending: Ending::CutAfter(length), ..self.route(&request, number) }
            }
        };
        state.journal.answered(number, Some(answer.status).filter(|_| answer.ending != Ending::Silent));
        answer
    }
}

impl Router {
    fn route(&self, request: &Request, number: usize) -> Answer {
        let state = &self.0;
        match Kind::of_path(&request.path) {
            Kind::Token => {
                let (answer, reason) = token_endpoint::answer(state, request, &tenant_of(request));
                if let Some(reason) = reason {
                    state.journal.note(number, &reason);
                }
                answer
            }
            Kind::Downstream => downstream::answer(state, request),
            Kind::ManagedIdentity if request.path.starts_with("/metadata/instance") => {
                managed_identity::instance(request)
            }
            Kind::ManagedIdentity => managed_identity::answer(state, request),
            Kind::Vault => vault::answer(state, request),
            Kind::OpenAi => openai::answer(state, request),
            Kind::Graph => graph::answer(state, request),
            Kind::Blob => blob::answer(state, request),
            _ => metadata::answer(state, request).unwrap_or_else(|| Answer::text(404, "nothing here")),
        }
    }
}

/// The tenant in a token endpoint's path; B2C may put `tfp` before it.
fn tenant_of(request: &Request) -> String {
    let segments = request.segments();
    let at = usize::from(segments.first().is_some_and(|first| first == "tfp"));
    segments.get(at).cloned().unwrap_or_default()
}
