//! What the operator gives. It is trusted, yet a broken file must be told from a good one in words.

use std::sync::LazyLock;

use entra_sidecar::internal::Certificate;
use entra_sidecar::internal::Secret;
use entra_sidecar::internal::config::{self, Invocation};
use entra_sidecar::internal::value::der;

/// Any file is a configuration or a list of problems, each in one line.
pub fn configuration(data: &[u8]) {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    let file = FOLDER.path().join(format!("{}.json", std::process::id()));
    std::fs::write(&file, data).unwrap();
    let invocation = Invocation { config_file: Some(file), ..Invocation::default() };
    let loaded = config::load(&invocation);
    let config = loaded.as_ref().ok().map(|loaded| &loaded.config);
    let (problems, warnings) = match &loaded {
        Ok(loaded) => (&[][..], &loaded.warnings),
        Err(rejected) => (&rejected.problems[..], &rejected.warnings),
    };
    for line in problems.iter().chain(warnings).map(ToString::to_string) {
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    for line in config::describe(&invocation, config, true).lines() {
        let (key, value) = line.split_once(" = ").unwrap();
        let secret = key.starts_with("AzureAd:") && (key.ends_with("ClientSecret") || key.ends_with("Password"));
        assert!(!secret || value.starts_with("[redacted]") || value.starts_with("\"\""), "a secret is shown: {line}");
    }
}

/// A certificate comes with the key that it belongs to, or not at all; what is wrong is said in one line.
fn certificate(data: &[u8], password: Option<&Secret<String>>) {
    match Certificate::read([data], password) {
        Ok(certificate) => {
            assert!(!certificate.chain.is_empty());
            let _ = certificate.validity.check(1_700_000_000);
        }
        Err(reason) => assert!(!reason.is_empty() && !reason.chars().any(char::is_control), "{reason:?}"),
    }
}

/// PEM, and DER in all its parts.
pub fn pem(data: &[u8]) {
    certificate(data, None);
    if let Some(certificate) = der::Certificate::parse(data) {
        let _ = (der::rsa_from_spki(&certificate.spki), der::ec_point_from_spki(&certificate.spki));
    }
    let _ = (der::rsa_from_spki(data), der::ec_point_from_spki(data), der::ec_private_key(data));
    let _ = der::rsa_from_pkcs1(data);
}

/// PKCS#12 and encrypted PEM.
pub fn pfx(data: &[u8]) {
    static PASSWORD: LazyLock<Secret<String>> = LazyLock::new(|| Secret::new("pass word".to_owned()));
    certificate(data, Some(&PASSWORD));
}
