//! Every container and encryption of `tests/data/credentials` as a client certificate, whose assertions the tenant
//! verifies (<https://learn.microsoft.com/entra/identity-platform/certificate-credentials>).

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use local_tenant::Kind;
use local_tenant::certificate::Certificate;
use local_tenant::directory::{APP_ID, TENANT_ID};
use local_tenant::keys::der_of_pem;
use serde_json::{Value, json};

use super::credentials::{CREDENTIAL, refused, scene};
use super::support::{Scene, claims, eventually};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";
const PASSWORD: &str = "pass word";
const SUBJECT: &str = "CN=app.example, O=\"Example, Inc.\"";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/credentials").join(name)
}

fn der(name: &str) -> Vec<u8> {
    der_of_pem(&std::fs::read_to_string(data(name)).unwrap())
}

/// A scene in whose tenant the certificate of `tests/data/credentials` is registered.
fn trusting(fields: &[(&str, &str)]) -> Scene {
    let scene = scene(fields);
    scene.tenant.directory(|directory| {
        let app = directory.app(APP_ID).cloned().unwrap();
        let certificate = |name| Certificate::of_der(&der(name)).unwrap();
        directory.register_app(app.certificate(certificate("leaf.crt.pem")).certificate(certificate("large.crt.pem")));
    });
    scene
}

/// Its credential is this file.
fn path(name: &str, password: Option<&str>) -> Scene {
    let file = data(name).display().to_string();
    let scene = trusting(&[("SourceType", "Path"), ("CertificateDiskPath", &file)]);
    match password {
        Some(password) => scene.with(&format!("{CREDENTIAL}:CertificatePassword"), password),
        None => scene,
    }
}

/// Header and payload of the only assertion that the tenant was shown.
fn shown(scene: &Scene) -> (Value, Value) {
    let requests = scene.tenant.journal().of(Kind::Token);
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].field("client_secret"), None);
    assert_eq!(
        requests[0].field("client_assertion_type"),
        Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
    );
    let assertion = requests[0].field("client_assertion").unwrap();
    let header = URL_SAFE_NO_PAD.decode(assertion.split('.').next().unwrap()).unwrap();
    (serde_json::from_slice(&header).unwrap(), claims(assertion))
}

#[track_caller]
fn accepted(what: &str, scene: &Scene, variables: &[(&str, &str)]) -> (Value, Value) {
    let sidecar = scene.start_with(variables);
    let answer = sidecar.get(APP);
    assert_eq!(answer.status, 200, "{what}: {} {:?}", answer.body, sidecar.log());
    shown(scene)
}

/// The log says why, and the tenant was not asked.
#[track_caller]
fn rejected(what: &str, scene: &Scene, words: &str) {
    let sidecar = scene.start();
    let (status, body) = refused(&sidecar);
    assert_eq!(status, 500, "{what}");
    assert!(body.contains("invalid_client_credential"), "{what}: {body}");
    eventually(&format!("{what}: {words}"), || sidecar.log().iter().any(|line| line.contains(words)));
    assert_eq!(scene.tenant.journal().count(Kind::Token), 0, "{what}");
}

#[test]
fn an_assertion_has_the_documented_header_and_claims() {
    let scene = path("pkcs8.pem", None);
    let (header, payload) = accepted("pkcs8.pem", &scene, &[]);
    let thumbprint = Certificate::of_der(&der("leaf.crt.pem")).unwrap().sha256();
    let expected = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": URL_SAFE_NO_PAD.encode(thumbprint)});
    assert_eq!(header, expected);
    assert_eq!(payload["aud"], scene.tenant.token_url(TENANT_ID));
    assert_eq!((&payload["iss"], &payload["sub"]), (&json!(APP_ID), &json!(APP_ID)));
    let seconds = |name: &str| payload[name].as_u64().unwrap_or_else(|| panic!("{name} is a number: {payload}"));
    assert_eq!(seconds("exp") - seconds("nbf"), 600);
    assert_eq!(payload["jti"].as_str().unwrap().len(), 36);
}

#[test]
fn a_pem_file_may_hold_its_parts_in_any_form_and_order() {
    for name in ["pkcs8.pem", "pkcs1-chain.pem", "bag-attributes.pem"] {
        accepted(name, &path(name, None), &[]);
    }
    for name in ["key-pkcs8.pem", "key-pkcs1.pem"] {
        let key = data(name).display().to_string();
        let scene = path("leaf.crt.pem", None).with(&format!("{CREDENTIAL}:CertificateKeyDiskPath"), &key);
        accepted(name, &scene, &[]);
    }
}

#[cfg_attr(not(feature = "pfx"), ignore = "decrypts keys, for which the feature pfx is needed")]
#[test]
fn an_encrypted_pkcs8_key_opens_with_its_password() {
    for name in ["sealed-aes256.pem", "sealed-aes128-sha512.pem", "sealed-3des-sha1.pem", "sealed-pkcs12-3des.pem"] {
        accepted(name, &path(name, Some(PASSWORD)), &[]);
    }
    rejected("no password", &path("sealed-aes256.pem", None), "password");
    rejected("another password", &path("sealed-aes256.pem", Some("pass wore")), "password");
}

#[cfg_attr(not(feature = "pfx"), ignore = "reads PFX files, for which the feature pfx is needed")]
#[test]
fn a_pfx_opens_with_its_password_whatever_wrote_it() {
    for name in [
        "modern.pfx", "modern-chain.pfx", "legacy.pfx", "legacy-chain.pfx", "3des.pfx", "rc2-128.pfx",
        "aes128-mac-sha512.pfx", "open-key.pfx", "no-mac.pfx", "iterations.pfx", "large.pfx",
    ] {
        accepted(name, &path(name, Some(PASSWORD)), &[]);
    }
    // As UTF-8 for PBKDF2 (RFC 8018 §3), as UTF-16 for the rest (RFC 7292 §B.1).
    for name in ["unicode.pfx", "unicode-legacy.pfx"] {
        accepted(name, &path(name, Some("pässwörd €")), &[]);
    }
    rejected("no password", &path("modern.pfx", None), "password");
    for name in ["legacy.pfx", "no-mac.pfx", "unicode.pfx"] {
        rejected(name, &path(name, Some("pass wore")), "password");
    }
}

#[cfg_attr(not(feature = "pfx"), ignore = "reads PFX files, for which the feature pfx is needed")]
#[test]
fn an_empty_password_is_the_same_as_none() {
    for name in ["modern-empty.pfx", "legacy-empty.pfx"] {
        for password in [None, Some("")] {
            accepted(name, &path(name, password), &[]);
        }
    }
}

#[cfg_attr(not(feature = "pfx"), ignore = "reads PFX files, for which the feature pfx is needed")]
#[test]
fn the_configuration_may_hold_the_file_itself() {
    for (name, password) in
        [("modern.pfx", PASSWORD), ("legacy-chain.pfx", PASSWORD), ("modern-empty.pfx", ""), ("pkcs8.pem", "")]
    {
        let value = STANDARD.encode(std::fs::read(data(name)).unwrap());
        let fields =
            [("SourceType", "Base64Encoded"), ("Base64EncodedValue", &value), ("CertificatePassword", password)];
        accepted(name, &trusting(&fields), &[]);
    }
    let broken = trusting(&[("SourceType", "Base64Encoded"), ("Base64EncodedValue", "no base64!")]);
    rejected("no base64", &broken, "not base64");
}

#[test]
fn the_chain_is_sent_only_where_it_is_asked_for() {
    let chain = |names: &[&str]| names.iter().map(|name| json!(STANDARD.encode(der(name)))).collect::<Vec<_>>();
    let leaf = chain(&["leaf.crt.pem"]);
    let whole = chain(&["leaf.crt.pem", "middle.crt.pem", "root.crt.pem"]);
    for (name, expected) in [("pkcs8.pem", &leaf), ("pkcs1-chain.pem", &whole)] {
        let scene = path(name, None);
        // Trusted by subject and issuer, so that the tenant needs the chain.
        scene.tenant.directory(|directory| {
            let app = directory.app(APP_ID).cloned().unwrap();
            directory.register_app(local_tenant::directory::App { requires_x5c: true, ..app });
        });
        scene.start().get(APP).expect(500);
        scene.tenant.journal().clear();
        let scene = scene.with("AzureAd:SendX5C", "true");
        let (header, _) = accepted(name, &scene, &[]);
        assert_eq!(header["x5c"].as_array(), Some(expected), "{name}");
        assert_eq!(header["alg"], "PS256");
    }
}

#[cfg_attr(not(feature = "pfx"), ignore = "reads PFX files, for which the feature pfx is needed")]
#[test]
fn the_chain_of_a_pfx_is_sent_too() {
    for (name, length) in [("modern-chain.pfx", 2), ("legacy-chain.pfx", 3)] {
        let (header, _) = accepted(name, &path(name, Some(PASSWORD)).with("AzureAd:SendX5C", "true"), &[]);
        assert_eq!(header["x5c"].as_array().unwrap().len(), length, "{name}");
    }
}

#[cfg_attr(not(feature = "pfx"), ignore = "reads PFX files, for which the feature pfx is needed")]
#[test]
fn the_users_store_is_searched_by_thumbprint_and_by_name() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".dotnet/corefx/cryptography/x509stores/my");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(data("modern-empty.pfx"), folder.join("a.pfx")).unwrap();
    let home = [("HOME", home.path().to_str().unwrap())];
    let sha1 = Certificate::of_der(&der("leaf.crt.pem")).unwrap().sha1();
    let thumbprint = sha1.iter().fold(String::new(), |text, byte| text + &format!("{byte:02X}"));
    for (kind, field, value) in [
        ("StoreWithThumbprint", "CertificateThumbprint", thumbprint.as_str()),
        ("StoreWithDistinguishedName", "CertificateDistinguishedName", SUBJECT),
        ("StoreWithSubjectName", "CertificateSubjectName", "app.example"),
    ] {
        for store in ["CurrentUser/My", ""] {
            let scene = trusting(&[("SourceType", kind), ("CertificateStorePath", store), (field, value)]);
            accepted(kind, &scene, &home);
        }
    }
    let absent = "0".repeat(40);
    let scene = trusting(&[("SourceType", "StoreWithThumbprint"), ("CertificateThumbprint", &absent)]);
    let sidecar = scene.start_with(&home);
    assert_eq!(refused(&sidecar).0, 500);
    eventually("the log says where it was looked for", || {
        sidecar.log().iter().any(|line| line.contains("x509stores/my") && line.contains(&absent))
    });
}

#[test]
fn an_elliptic_curve_key_is_refused_as_such() {
    rejected("PKCS#8", &path("ec-pkcs8.pem", None), "not an RSA key; Entra requires RSA keys");
    rejected("SEC1", &path("ec-sec1.pem", None), "an elliptic curve key; Entra requires RSA keys");
}

#[test]
fn a_certificate_file_without_a_part_says_which() {
    for (name, words) in [
        ("foreign-key.pem", "does not match any of the certificates"),
        ("leaf.crt.pem", "no private key"),
        ("key-pkcs8.pem", "no certificate"),
        ("sealed-pkcs1.pem", "openssl pkcs8 -topk8"),
        ("absent.pem", "No such file"),
    ] {
        rejected(name, &path(name, None), words);
    }
}

#[cfg_attr(not(feature = "pfx"), ignore = "reads PFX files, for which the feature pfx is needed")]
#[test]
fn what_this_program_does_not_read_is_said_plainly() {
    rejected("scrypt", &path("sealed-scrypt.pem", Some(PASSWORD)), "unsupported");
    rejected("no key", &path("no-key.pfx", Some(PASSWORD)), "no private key");
}
