//! Every kind of credential against a tenant that verifies it: docs/design.md, "Credentials".

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use local_tenant::Kind;
use local_tenant::directory::{APP_ID, TENANT_ID, USER_IDENTITY_CLIENT_ID};
use local_tenant::managed_identity::HEADER_SECRET;

use super::support::{Scene, Sidecar};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";
pub const CREDENTIAL: &str = "AzureAd:ClientCredentials:0";

/// A file of the tenant's own keys.
pub fn key(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/local-tenant/keys");
    folder.join(name).display().to_string()
}

/// A scene whose registration has this credential instead of its secret.
pub fn scene(fields: &[(&str, &str)]) -> Scene {
    let mut scene = Scene::new();
    scene.settings.retain(|key, _| !key.starts_with(CREDENTIAL));
    fields.iter().fold(scene, |scene, (name, value)| scene.with(&format!("{CREDENTIAL}:{name}"), value))
}

/// The same in a vault, which is the tenant.
pub fn vault(kind: &str, name: &str) -> Scene {
    let scene = scene(&[("SourceType", kind), ("KeyVaultCertificateName", name)]);
    let url = scene.tenant.base_url().to_owned();
    scene.with(&format!("{CREDENTIAL}:KeyVaultUrl"), &url)
}

/// What the error names of the credential.
pub fn refused(sidecar: &Sidecar) -> (u16, String) {
    let answer = sidecar.get(APP);
    assert_eq!(answer.json()["detail"], "Failed to acquire token for downstream API", "{}", answer.body);
    (answer.status, answer.body)
}

#[cfg_attr(not(feature = "pfx"), ignore = "reads PFX files, for which the feature pfx is needed")]
#[test]
fn certificates_in_files_are_accepted() {
    let pfx = STANDARD.encode(std::fs::read(key("client-1.pfx")).unwrap());
    let (certificate, private, plain) = (key("client-1.crt.pem"), key("client-1.pem"), key("client-1.pfx"));
    let (sealed, legacy) = (key("client-1-password.pfx"), key("client-1-legacy.pfx"));
    let password = ("CertificatePassword", "pass word");
    let cases: [&[(&str, &str)]; 5] = [
        &[("SourceType", "Path"), ("CertificateDiskPath", &certificate), ("CertificateKeyDiskPath", &private)],
        &[("SourceType", "Path"), ("CertificateDiskPath", &plain)],
        &[("SourceType", "Path"), ("CertificateDiskPath", &sealed), password],
        &[("SourceType", "Path"), ("CertificateDiskPath", &legacy), password],
        &[("SourceType", "Base64Encoded"), ("Base64EncodedValue", &pfx)],
    ];
    for fields in cases {
        let scene = scene(fields);
        assert_eq!(scene.start().get(APP).status, 200, "{fields:?}");
    }
}

#[test]
fn a_certificate_that_cannot_be_used_is_told_by_place_and_kind() {
    let sealed = key("client-1-password.pfx");
    let scene = scene(&[("SourceType", "Path"), ("CertificateDiskPath", &sealed)]);
    let (status, body) = refused(&scene.start());
    assert_eq!(status, 500);
    assert!(body.contains("invalid_client_credential"), "{body}");
    assert_eq!(scene.tenant.journal().count(Kind::Token), 0);
}

#[cfg_attr(not(feature = "pfx"), ignore = "reads PFX files, for which the feature pfx is needed")]
#[test]
fn a_vault_gives_certificates_or_signs_itself() {
    for (kind, name, requests) in
        [("KeyVault", "client-pfx", 3), ("KeyVault", "client-pem", 3), ("SignedAssertionFromVault", "client-sealed", 3)]
    {
        let scene = vault(kind, name);
        let endpoint = scene.tenant.base_url().to_owned();
        let sidecar = scene.start_with(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &endpoint)]);
        assert_eq!(sidecar.get(APP).status, 200, "{name}");
        assert_eq!(scene.tenant.journal().count(Kind::Vault), requests, "{name}");
        assert_eq!(scene.tenant.journal().count(Kind::ManagedIdentity), 1, "{name}");
    }
}

#[test]
fn a_workload_identity_opens_the_vault() {
    let scene = vault("KeyVault", "client-pem");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let subject = local_tenant::directory::APP_SUBJECT;
    std::fs::write(&file, scene.tenant.federated_assertion(subject, 3600)).unwrap();
    let host = scene.tenant.base_url().to_owned();
    let sidecar = scene.start_with(&[
        ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap()),
        ("AZURE_CLIENT_ID", APP_ID),
        ("AZURE_TENANT_ID", TENANT_ID),
        ("AZURE_AUTHORITY_HOST", &host),
    ]);
    assert_eq!(sidecar.get(APP).status, 200);
    assert_eq!(scene.tenant.journal().count(Kind::ManagedIdentity), 0);
    assert_eq!(scene.tenant.journal().count(Kind::Token), 2);
}

#[cfg_attr(not(feature = "pfx"), ignore = "reads PFX files, for which the feature pfx is needed")]
#[test]
fn a_refused_vault_secret_is_an_unusable_credential() {
    for (name, words) in [
        ("client-sealed", "SignedAssertionFromVault"),
        ("client-expired", "expired"),
        ("client-disabled", "disabled"),
        ("client-locked", "password"),
        ("absent", "KeyVaultCertificateName"),
    ] {
        let scene = vault("KeyVault", name);
        let endpoint = scene.tenant.base_url().to_owned();
        let sidecar = scene.start_with(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &endpoint)]);
        assert_eq!(refused(&sidecar).0, 500, "{name}");
        let told = || sidecar.log().iter().any(|line| line.contains(words));
        super::support::eventually(&format!("{name}: the log says {words}"), told);
    }
}

#[test]
fn a_vault_that_is_down_may_come_back() {
    let port = super::support::free_port();
    let scene =
        vault("KeyVault", "client-pem").with(&format!("{CREDENTIAL}:KeyVaultUrl"), &format!("http://127.0.0.1:{port}"));
    let sidecar = scene.start();
    assert_eq!(refused(&sidecar).0, 503);
    assert_eq!(sidecar.get("/healthz").status, 200, "a restart would not help");
}

#[test]
fn a_managed_identity_vouches_for_the_application() {
    let kind = ("SourceType", "SignedAssertionFromManagedIdentity");
    let user = ("ManagedIdentityClientId", USER_IDENTITY_CLIENT_ID);
    for (fields, path, variable, secret) in [
        (&[kind][..], "", "AZURE_POD_IDENTITY_AUTHORITY_HOST", None),
        (&[kind, user], "", "AZURE_POD_IDENTITY_AUTHORITY_HOST", None),
        (&[kind, user], "/managed-identity/app-service", "IDENTITY_ENDPOINT", Some("IDENTITY_HEADER")),
        (&[kind, user], "/managed-identity/machine-learning", "MSI_ENDPOINT", Some("MSI_SECRET")),
        (&[kind], "/managed-identity/cloud-shell", "MSI_ENDPOINT", None),
    ] {
        let scene = scene(fields);
        let endpoint = format!("{}{path}", scene.tenant.base_url());
        let variables: Vec<_> =
            [(variable, endpoint.as_str())].into_iter().chain(secret.map(|name| (name, HEADER_SECRET))).collect();
        let sidecar = scene.start_with(&variables);
        let answer = sidecar.get(APP);
        assert_eq!(answer.status, 200, "{variable} {path}: {}", answer.body);
    }
}
