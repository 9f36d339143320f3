//! Credentials that change while the program runs: docs/design.md, "Credentials".

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use local_tenant::certificate::{CLIENT_1, CLIENT_2, CLIENT_EXPIRED, Certificate, ClientCertificate};
use local_tenant::directory::{APP_ID, APP_SECRET, APP_SUBJECT};
use local_tenant::keys::der_of_pem;
use local_tenant::time::{now, timestamp};
use local_tenant::{Action, Answer, Fault, Kind, LocalTenant};

use super::credentials::{CREDENTIAL, scene};
use super::support::{Scene, Sidecar, claims, eventually};

const FORCED: &str = "/AuthorizationHeaderUnauthenticated/App?optionsOverride.AcquireTokenOptions.ForceRefresh=true";
const DAY: i64 = 24 * 60 * 60;

fn on_disk(path: &Path) -> Scene {
    scene(&[("SourceType", "Path"), ("CertificateDiskPath", path.to_str().unwrap())])
}

/// Written beside and moved over the old one, as Kubernetes and careful tools do.
fn swap(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).unwrap();
    std::fs::rename(beside, path).unwrap();
}

/// The `x5t#S256` of the newest assertion that the tenant was shown.
fn presented(tenant: &LocalTenant) -> String {
    let record = tenant.journal().of(Kind::Token).pop().unwrap();
    let header = record.field("client_assertion").unwrap().split('.').next().unwrap().to_owned();
    let header: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    header["x5t#S256"].as_str().unwrap().to_owned()
}

fn thumbprint(certificate: &ClientCertificate) -> String {
    URL_SAFE_NO_PAD.encode(certificate.certificate().sha256())
}

/// The first client's certificate with another end. Nobody checks its issuer's signature; the tenant is told to trust it.
fn ending(tenant: &LocalTenant, at: i64) -> String {
    let mut der = der_of_pem(CLIENT_1.certificate_pem);
    // YYYYMMDDHHMMSSZ, of which a validity that ends after 2049 has one (RFC 5280 §4.1.2.5.2).
    let text: String = timestamp(at).chars().filter(char::is_ascii_alphanumeric).collect();
    let place = der.windows(2).position(|pair| pair == [0x18, 15]).unwrap() + 2;
    der[place..place + 15].copy_from_slice(text.as_bytes());
    tenant.directory(|directory| {
        let app = directory.app(APP_ID).cloned().unwrap();
        directory.register_app(app.certificate(Certificate::of_der(&der).unwrap()));
    });
    let mut pem = format!("{}-----BEGIN CERTIFICATE-----\n", CLIENT_1.key_pem);
    for line in STANDARD.encode(&der).as_bytes().chunks(64) {
        let _ = writeln!(pem, "{}", std::str::from_utf8(line).unwrap());
    }
    pem + "-----END CERTIFICATE-----\n"
}

fn says(sidecar: &Sidecar, words: &str) -> bool {
    sidecar.log().iter().any(|line| line.contains(words))
}

#[test]
fn a_secret_in_a_file_is_taken_over_with_a_reload() {
    let scene = scene(&[]);
    let folder = tempfile::tempdir().unwrap();
    let write = |secret: &str| {
        let settings = serde_json::json!({"AzureAd": {"ClientCredentials": [
            {"SourceType": "ClientSecret", "ClientSecret": secret}]}});
        swap(&folder.path().join("appsettings.json"), &settings.to_string());
    };
    write("yesterday's");
    let scene = scene.with("contentRoot", folder.path().to_str().unwrap());
    let sidecar = scene.start();
    let refused = sidecar.get(FORCED).expect(500).json();
    assert!(refused["detail"].as_str().unwrap().contains("AADSTS7000215"), "{refused}");
    write(APP_SECRET);
    sidecar.signal("-HUP");
    eventually("the new secret is used", || sidecar.get(FORCED).status == 200);
}

#[test]
fn a_certificate_file_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.pem");
    swap(&path, &CLIENT_1.pem());
    let scene = on_disk(&path);
    let sidecar = scene.start();
    sidecar.get(FORCED).expect(200);
    assert_eq!(presented(&scene.tenant), thumbprint(&CLIENT_1));
    swap(&path, &CLIENT_2.pem());
    sidecar.get(FORCED).expect(200);
    assert_eq!(presented(&scene.tenant), thumbprint(&CLIENT_2));
}

#[test]
fn a_certificate_and_its_key_in_two_files_change_together() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    swap(&certificate, CLIENT_1.certificate_pem);
    swap(&key, CLIENT_1.key_pem);
    let scene = on_disk(&certificate).with(&format!("{CREDENTIAL}:CertificateKeyDiskPath"), key.to_str().unwrap());
    let sidecar = scene.start();
    sidecar.get(FORCED).expect(200);
    swap(&certificate, CLIENT_2.certificate_pem);
    sidecar.get(FORCED).expect(200);
    assert_eq!(presented(&scene.tenant), thumbprint(&CLIENT_1), "the new key is not there yet");
    swap(&key, CLIENT_2.key_pem);
    sidecar.get(FORCED).expect(200);
    assert_eq!(presented(&scene.tenant), thumbprint(&CLIENT_2));
}

#[test]
fn a_broken_or_absent_file_keeps_the_last_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.pem");
    std::fs::write(&path, CLIENT_1.pem()).unwrap();
    let scene = on_disk(&path);
    let sidecar = scene.start();
    sidecar.get(FORCED).expect(200);
    let new = CLIENT_2.pem();
    for length in [0, 10, 1000, new.len() - 10] {
        std::fs::write(&path, &new[..length]).unwrap();
        sidecar.get(FORCED).expect(200);
        assert_eq!(presented(&scene.tenant), thumbprint(&CLIENT_1), "{length} bytes");
    }
    eventually("the warning", || says(&sidecar, "keeping the last good content"));
    std::fs::remove_file(&path).unwrap();
    sidecar.get(FORCED).expect(200);
    sidecar.get("/healthz").expect(200);
    std::fs::write(&path, &new).unwrap();
    sidecar.get(FORCED).expect(200);
    assert_eq!(presented(&scene.tenant), thumbprint(&CLIENT_2));
}

#[test]
fn a_refused_certificate_is_read_again_and_retried_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.pem");
    std::fs::write(&path, CLIENT_1.pem()).unwrap();
    let scene = on_disk(&path);
    let sidecar = scene.start();
    let unknown = serde_json::json!({"error": "invalid_client", "error_codes": [700_027],
        "error_description": "AADSTS700027: The key was not found."});
    let refuse = |times| {
        let answer = Action::Answer(Box::new(Answer::json(401, &unknown)));
        scene.tenant.fail(Fault::times(Kind::Token, times, answer));
    };
    refuse(1);
    sidecar.get(FORCED).expect(200);
    let shown = scene.tenant.journal().of(Kind::Token);
    let id = |at: usize| claims(shown[at].field("client_assertion").unwrap())["jti"].clone();
    assert_eq!(shown.len(), 2);
    assert_ne!(id(0), id(1), "an assertion is used once");
    refuse(2);
    let refused = sidecar.get(FORCED).expect(500).json();
    assert_eq!(refused["extensions"]["errorCodes"], serde_json::json!([700_027]));
    assert_eq!(scene.tenant.journal().count(Kind::Token), 4);
}

#[test]
fn a_changed_federated_token_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let scene =
        scene(&[("SourceType", "SignedAssertionFilePath"), ("SignedAssertionFileDiskPath", path.to_str().unwrap())]);
    let [first, second] = [3600, 3601].map(|seconds| scene.tenant.federated_assertion(APP_SUBJECT, seconds));
    // Some writers end the line.
    swap(&path, &format!("{first}\n"));
    let sidecar = scene.start();
    let shown = || scene.tenant.journal().of(Kind::Token).pop().unwrap().field("client_assertion").map(str::to_owned);
    sidecar.get(FORCED).expect(200);
    assert_eq!(shown().as_ref(), Some(&first));
    std::fs::write(&path, &second[..second.len() / 4]).unwrap();
    sidecar.get(FORCED).expect(200);
    assert_eq!(shown().as_ref(), Some(&first), "half written");
    swap(&path, &second);
    sidecar.get(FORCED).expect(200);
    assert_eq!(shown().as_ref(), Some(&second));
}

#[test]
fn a_federated_token_that_was_not_renewed_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let scene =
        scene(&[("SourceType", "SignedAssertionFilePath"), ("SignedAssertionFileDiskPath", path.to_str().unwrap())]);
    swap(&path, &scene.tenant.federated_assertion(APP_SUBJECT, 3600));
    let sidecar = scene.start();
    sidecar.get(FORCED).expect(200);
    swap(&path, &scene.tenant.federated_assertion(APP_SUBJECT, -1));
    sidecar.get(FORCED).problem(500, "Failed to acquire token for downstream API");
    eventually("the log says so", || says(&sidecar, "and was not renewed"));
    sidecar.get("/healthz").expect(503);
}

#[test]
fn an_end_within_thirty_days_is_warned_about_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.pem");
    for (days, warned) in [(29, true), (31, false)] {
        let scene = on_disk(&path);
        let end = now() + days * DAY;
        std::fs::write(&path, ending(&scene.tenant, end)).unwrap();
        let sidecar = scene.start();
        sidecar.get(FORCED).expect(200);
        sidecar.get("/healthz").expect(200);
        // The answer to a request comes after all that is logged in its course.
        assert_eq!(says(&sidecar, "the certificate expires in"), warned, "{days} days");
        let metric =
            format!("entra_sidecar_certificate_expiry_timestamp_seconds{{credential=\"{CREDENTIAL}\"}} {end}\n");
        let metrics = sidecar.get("/metrics").expect(200).body;
        assert!(metrics.contains(&metric), "{metric}");
    }
}

#[test]
fn an_expired_certificate_is_skipped_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.pem");
    std::fs::write(&path, CLIENT_EXPIRED.pem()).unwrap();
    let second = "AzureAd:ClientCredentials:1";
    let scene = on_disk(&path)
        .with(&format!("{second}:SourceType"), "ClientSecret")
        .with(&format!("{second}:ClientSecret"), APP_SECRET);
    let sidecar = scene.start();
    sidecar.get(FORCED).expect(200);
    assert_eq!(scene.tenant.journal().of(Kind::Token)[0].field("client_secret"), Some(APP_SECRET));
    eventually("the log says so", || says(&sidecar, "the certificate expired"));
    let metric =
        format!("entra_sidecar_certificate_expiry_timestamp_seconds{{credential=\"{CREDENTIAL}\"}} 1609459200\n");
    assert!(sidecar.get("/metrics").expect(200).body.contains(&metric), "an alert must not fall silent at the end");
    std::fs::write(&path, CLIENT_1.pem()).unwrap();
    sidecar.get(FORCED).expect(200);
    assert_eq!(presented(&scene.tenant), thumbprint(&CLIENT_1));
}
