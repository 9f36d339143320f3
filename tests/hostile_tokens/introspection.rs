//! The corpus at the door of resource servers, over real sockets: a hostile token is not active, and nothing more is said.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use entra_sidecar::internal::Acquirer;
use entra_sidecar::internal::BodyMemory;
use entra_sidecar::internal::Endpoint;
use entra_sidecar::internal::Metrics;
use entra_sidecar::internal::config::{Config, Invocation, Limits, load};
use entra_sidecar::internal::http::{self, Budget, Server};
use entra_sidecar::internal::jwks::{self, Keys};
use entra_sidecar::internal::jwt::Rejection;
use entra_sidecar::internal::outbound::{Exchange, HeaderFields, OutError, OutRequest, OutResponse};
use entra_sidecar::internal::outbound::{ExchangeSettings, Proxies, Roots, SystemResolver, UreqExchange};
use entra_sidecar::internal::{Bounds, Turns};
use entra_sidecar::internal::{Clock, ManualClock};
use entra_sidecar::internal::{Routes, Service, Shared};
use local_tenant::client::{Request, Response, eventually};
use local_tenant::message::percent_encode;
use serde_json::json;

use crate::corpus::corpus;
use crate::mint::{CLIENT, NOW, good, jwk};

/// The tenant's documents, whatever is asked for.
#[derive(Debug)]
struct Documents;

impl Exchange for Documents {
    fn send(&self, request: OutRequest) -> Result<OutResponse, OutError> {
        let base = "https://login.microsoftonline.com";
        let document = if request.url.path.ends_with("/keys") {
            let keys = ["rsa", "ps-only", "for-encryption", "personal", "weak", "p256", "p384"].map(jwk);
            json!({ "keys": keys })
        } else {
            json!({ "issuer": format!("{base}/{{tenantid}}/v2.0"), "jwks_uri": format!("{base}/keys") })
        };
        Ok(OutResponse { status: 200, headers: HeaderFields::default(), body: document.to_string().into_bytes() })
    }
}

fn config() -> Config {
    let settings = [
        ("urls", "http://127.0.0.1:0"),
        ("AzureAd:TenantId", "organizations"),
        ("AzureAd:ClientId", CLIENT),
        ("AzureAd:TokenDecryptionCredentials:0:SourceType", "Path"),
        ("AzureAd:TokenDecryptionCredentials:0:CertificateDiskPath", "tests/local-tenant/keys/encryption.pem"),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned().into()));
    let invocation = Invocation { settings: settings.into(), ..Invocation::default() };
    load(&invocation).unwrap_or_else(|rejected| panic!("{:?}", rejected.problems)).config
}

/// A sidecar of the moment for which the tokens are made.
fn start() -> (http::Running, SocketAddr) {
    let (config, second) = (config(), Duration::from_secs(1));
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
    let exchange: Arc<dyn Exchange> = Arc::new(Documents);
    let limits = Limits { workers: 2, connections: 64, shutdown_timeout: second, ..config.limits.clone() };
    let server = Server::bind(&config.listen, &limits).unwrap();
    let address = server.local_addrs()[0];
    let budget = Budget { turns: Turns::new(Bounds { calls: 4, decryptions: 1 }), memory: BodyMemory::new(1 << 20) };
    let keys = Keys::start(jwks::KeySettings::of(&config).unwrap(), Arc::clone(&exchange), Arc::clone(&clock)).unwrap();
    let nowhere = ExchangeSettings {
        connect_timeout: second,
        roots: Roots::BuiltIn,
        proxies: Proxies::default(),
        resolver: Arc::new(SystemResolver),
        machine: None,
    };
    let shared = Shared {
        connections: Arc::new(UreqExchange::new(nowhere).unwrap()),
        acquirer: Acquirer::new(&config.limits, Arc::clone(&exchange), Arc::clone(&clock), |_| None, None),
        exchange,
        clock,
        budget: budget.clone(),
        metrics: Arc::new(Metrics::new(&Endpoint::ALL.map(|(_, pattern, _)| pattern), Rejection::CODES)),
        monitor: server.monitor(),
        recent: None,
    };
    let service = Service::new(config, Arc::new(keys)).unwrap();
    let running = server.start(Arc::new(Routes::new(shared, service)), budget).unwrap();
    (running, address)
}

fn introspect(address: SocketAddr, token: &str) -> Response {
    let coded = percent_encode(token);
    let form = "application/x-www-form-urlencoded";
    Request::new("POST", "/oauth2/introspect").body(form, format!("token={coded}")).send(address)
}

#[test]
fn no_hostile_token_is_active() {
    let (running, address) = start();
    eventually("signing keys", || introspect(address, &good()).status == 200);
    assert_eq!(introspect(address, &good()).json()["active"], true, "what is good is told from what is not");
    let (mut judged, mut wrong) = (0, Vec::new());
    for case in corpus() {
        let answer = introspect(address, &case.token);
        let expected = match answer.status {
            // What does not fit into a request is no token either.
            413 => case.token.len() > 64 * 1024 - 64,
            status => status == 200 && answer.body == r#"{"active":false}"#,
        };
        judged += usize::from(answer.status == 200);
        if !expected {
            wrong.push(format!("{}: {} {}", case.reason, answer.status, answer.body));
        }
    }
    assert!(wrong.is_empty(), "{} of {judged}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(judged >= 400, "{judged}");
    running.shutdown();
    running.join();
}
