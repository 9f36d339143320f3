//! Every container and encryption in `tests/data/credentials` yields an assertion with a valid
//! signature.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::credentials::testing::{AUDIENCE, World, certificates, data, now, verified};

const PASSWORD: &str = "pass word";

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn file(name: &str, password: Option<&str>) -> LocalCertificate {
    LocalCertificate::file(data(name), None, password.map(secret))
}

fn reason(source: &LocalCertificate) -> String {
    match World::at(now()).authenticate(source) {
        Err(Failure::Unusable(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn signs(source: &LocalCertificate) {
    let assertion = World::at(now()).authenticate(source);
    let (header, payload) = verified(&assertion.unwrap());
    assert_eq!((&header["alg"], &header["typ"]), (&"PS256".into(), &"JWT".into()));
    assert_eq!(header["x5t#S256"], crate::value::b64::url_sha256(&certificates("leaf.crt.pem")[0]));
    assert_eq!(header.as_object().unwrap().len(), 3);
    assert_eq!(payload["aud"], AUDIENCE);
    assert_eq!((payload["nbf"].as_u64(), payload["exp"].as_u64()), (Some(now()), Some(now() + 600)));
}

#[test]
fn a_pem_file_signs() {
    signs(&file("pkcs8.pem", None));
    signs(&file("pkcs8.pem", Some("not needed")));
    signs(&file("pkcs1-chain.pem", None));
    signs(&LocalCertificate::file(data("leaf.crt.pem"), Some(data("key-pkcs8.pem")), None));
    signs(&LocalCertificate::file(data("leaf.crt.pem"), Some(data("key-pkcs1.pem")), None));
}

#[cfg(feature = "pfx")]
#[test]
fn an_encrypted_pem_key_signs_with_its_password() {
    for name in ["aes256", "aes128-sha512", "3des-sha1", "pkcs12-3des"] {
        let name = format!("sealed-{name}.pem");
        signs(&file(&name, Some(PASSWORD)));
        for wrong in [None, Some(""), Some("pass wore")] {
            assert!(reason(&file(&name, wrong)).contains("password"), "{name} {wrong:?}");
        }
    }
}

#[cfg(feature = "pfx")]
#[test]
fn a_pfx_signs_with_its_password() {
    for name in [
        "modern", "modern-chain", "legacy", "legacy-chain", "3des", "rc2-128", "aes128-mac-sha512", "open-key",
        "no-mac", "iterations", "nss", "ber-pieces",
    ] {
        let name = format!("{name}.pfx");
        signs(&file(&name, Some(PASSWORD)));
        assert!(reason(&file(&name, Some("pass wore"))).contains("password"), "{name}");
    }
    for name in ["modern-empty.pfx", "legacy-empty.pfx"] {
        signs(&file(name, Some("")));
        signs(&file(name, None));
        assert!(reason(&file(name, Some(PASSWORD))).contains("password"), "{name}");
    }
}

#[cfg(feature = "pfx")]
#[test]
fn a_configured_text_holds_a_pfx_too() {
    let text = STANDARD.encode(std::fs::read(data("modern.pfx")).unwrap());
    signs(&LocalCertificate::base64(secret(&text), Some(secret(PASSWORD))));
    let lines = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect::<Vec<_>>();
    signs(&LocalCertificate::base64(secret(&lines.join("\r\n")), Some(secret(PASSWORD))));
    assert!(reason(&LocalCertificate::base64(secret(&text), None)).contains("password"));
    assert!(reason(&LocalCertificate::base64(secret("no base64!"), None)).contains("not base64"));
}

#[test]
fn what_cannot_sign_says_why() {
    for (name, words) in [
        ("ec-pkcs8.pem", "not an RSA key"),
        ("ec-sec1.pem", "elliptic curve"),
        ("foreign-key.pem", "does not match any"),
        ("leaf.crt.pem", "no private key"),
        ("key-pkcs8.pem", "no certificate"),
        ("sealed-pkcs1.pem", "openssl pkcs8 -topk8"),
        ("absent.pem", "No such file"),
    ] {
        let reason = reason(&file(name, None));
        assert!(reason.contains(words) && reason.contains(name), "{reason}");
    }
}

#[cfg(feature = "pfx")]
#[test]
fn an_encryption_that_is_not_read_says_so() {
    assert!(reason(&file("sealed-scrypt.pem", Some(PASSWORD))).contains("unsupported"));
    assert!(reason(&file("no-key.pfx", Some(PASSWORD))).contains("no private key"));
}

#[cfg(not(feature = "pfx"))]
#[test]
fn without_the_feature_it_is_said_what_to_do() {
    assert!(reason(&file("modern.pfx", Some(PASSWORD))).contains("convert it to PEM"));
    assert!(reason(&file("sealed-aes256.pem", Some(PASSWORD))).contains("feature pfx"));
}

#[test]
fn the_chain_is_sent_in_the_order_of_issue() {
    let mut world = World::at(now());
    world.registration.send_x5c = true;
    let chain = ["leaf.crt.pem", "middle.crt.pem", "root.crt.pem"];
    let chain: Vec<_> = chain.iter().map(|name| STANDARD.encode(&certificates(name)[0])).collect();
    let sent = |name: &str| {
        let (header, _) = verified(&world.authenticate(&file(name, Some(PASSWORD))).unwrap());
        header["x5c"].as_array().unwrap().iter().map(|der| der.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(sent("pkcs8.pem"), chain[..1]);
    assert_eq!(sent("pkcs1-chain.pem"), chain);
    if cfg!(feature = "pfx") {
        assert_eq!(sent("modern-chain.pfx"), chain[..2]);
        assert_eq!(sent("legacy-chain.pfx"), chain);
    }
}

#[test]
fn an_expired_certificate_is_skipped_and_says_so() {
    let source = file("pkcs8.pem", None);
    let end = source.expires_at(now()).unwrap();
    assert!(World::at(end).authenticate(&source).is_ok());
    let world = World::at(end);
    world.clock.advance(Duration::from_secs(1));
    let Err(Failure::Unusable(reason)) = world.authenticate(&source) else { panic!("expired") };
    assert!(reason.contains("pkcs8.pem") && reason.contains("expired 1 s ago"), "{reason}");
    assert!(source.inspect(end).is_ok() && source.inspect(end + 1).is_err());
}

#[test]
fn a_renewed_file_is_used_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.pem");
    std::fs::copy(data("foreign-key.pem"), &path).unwrap();
    let source = LocalCertificate::file(path.clone(), None, None);
    assert!(reason(&source).contains("does not match any"));
    std::fs::copy(data("pkcs8.pem"), &path).unwrap();
    signs(&source);
}
