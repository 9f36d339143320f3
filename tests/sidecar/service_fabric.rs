//! Managed identities of Service Fabric, whose endpoint has a self-signed certificate
//! (<https://learn.microsoft.com/azure/service-fabric/how-to-managed-identity-service-fabric-app-code>).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use local_tenant::Kind;
use local_tenant::managed_identity::HEADER_SECRET;

use super::managed_identity::{MACHINE, SERVICE_FABRIC, asked, scene, start};
use super::support::command;

#[test]
fn service_fabric_is_told_which_token_was_revoked() {
    let scene = scene(None).with("AzureAd:ClientCapabilities:0", "cp1");
    let sidecar = start(&scene, SERVICE_FABRIC);
    let revoked = sidecar.get(MACHINE).token();
    let claims = "%7B%22access_token%22%3A%7B%7D%7D";
    let renewed = sidecar.get(&format!("{MACHINE}?optionsOverride.AcquireTokenOptions.Claims={claims}")).token();
    assert_ne!(revoked, renewed);
    assert_eq!(sidecar.get(MACHINE).token(), renewed);
    let requests = scene.tenant.journal().of(Kind::ManagedIdentity);
    let told = |at: usize, name: &str| requests[at].request.query_value(name);
    let hash = ring::digest::digest(&ring::digest::SHA256, revoked.as_bytes());
    let hash = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    assert_eq!((told(0, "xms_cc").as_deref(), told(0, "token_sha256_to_refresh")), (Some("cp1"), None));
    assert_eq!((told(1, "xms_cc").as_deref(), told(1, "token_sha256_to_refresh")), (Some("cp1"), Some(hash)));
    assert_eq!(requests.len(), 2);
}

/// A TLS server with the certificate of `src/outbound/testdata`, which no authority vouches for, before the tenant. One request a
/// connection; ends with the process.
fn behind_tls(tenant: SocketAddr) -> SocketAddr {
    use rustls::pki_types::pem::PemObject as _;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/outbound/testdata");
    let certificate = rustls::pki_types::CertificateDer::from_pem_file(format!("{folder}/server.pem")).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(format!("{folder}/server.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let _ = relay(stream, &config, tenant);
        }
    });
    address
}

fn relay(mut outside: TcpStream, config: &Arc<rustls::ServerConfig>, tenant: SocketAddr) -> std::io::Result<()> {
    let mut tls = rustls::ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
    let mut outside = rustls::Stream::new(&mut tls, &mut outside);
    let mut head = vec![0; 8192];
    let read = outside.read(&mut head)?;
    let head = String::from_utf8_lossy(&head[..read]).replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let mut inside = TcpStream::connect(tenant)?;
    inside.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    inside.read_to_end(&mut answer)?;
    outside.write_all(&answer)?;
    outside.conn.send_close_notify();
    outside.flush()
}

#[test]
fn service_fabric_is_known_by_its_certificates_thumbprint() {
    let thumbprint = "1F73DAFAF5BC5CD10F5A4AC08078573CFFEE36A7";
    for (thumbprint, status) in
        [(thumbprint.to_owned(), 200), (thumbprint.to_lowercase(), 200), (thumbprint.replace("1F", "2F"), 503)]
    {
        let scene = scene(None);
        let endpoint = format!("https://{}/managed-identity/service-fabric", behind_tls(scene.tenant.address()));
        let sidecar = scene.start_with(&[
            ("IDENTITY_ENDPOINT", &endpoint),
            ("IDENTITY_HEADER", HEADER_SECRET),
            ("IDENTITY_SERVER_THUMBPRINT", &thumbprint),
        ]);
        sidecar.get(MACHINE).expect(status);
        assert_eq!(asked(&scene).len(), usize::from(status == 200), "{thumbprint}: nothing is sent to a stranger");
    }
}

#[test]
fn a_malformed_thumbprint_stops_the_start_and_check() {
    let scene = scene(None);
    let settings = scene.settings.iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]);
    let settings: Vec<String> = settings.chain(["--urls".to_owned(), "http://127.0.0.1:0".to_owned()]).collect();
    for call in ["check", "serve"] {
        let mut command = command();
        let output =
            command.arg(call).args(&settings).env("IDENTITY_SERVER_THUMBPRINT", "no thumbprint").output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{call}: {told}");
        assert!(told.contains("IDENTITY_SERVER_THUMBPRINT: expected 40 hexadecimal digits"), "{call}: {told}");
    }
}
