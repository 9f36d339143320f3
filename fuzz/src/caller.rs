//! What the local application asks for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entra_sidecar::internal::config::{Api, ApiOptions};
use entra_sidecar::internal::value::BoundKey;
use entra_sidecar::internal::value::Url;
use entra_sidecar::internal::value::{is_reserved, is_token, is_value};
use entra_sidecar::internal::{Effective, Overrides, Target};

/// No query sends a token to an origin that the operator did not name, climbs above the base path, or writes a header that it may not.
pub fn overrides(data: &[u8]) {
    let Ok(query) = std::str::from_utf8(data) else { return };
    let Ok(overrides) = Overrides::parse(Some(query)) else { return };
    let said = &overrides.options;
    for (name, value) in &said.extra_headers {
        assert!(is_token(name) && !is_reserved(name) && is_value(value), "{name:?} {value:?}");
    }
    assert!([&said.accept, &said.content_type].into_iter().flatten().all(|value| is_value(value)));
    for text in [&said.tenant, &said.fmi_path, &said.session_key].into_iter().flatten() {
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    assert!(!said.http_method.as_deref().is_some_and(|method| matches!(method, "CONNECT" | "TRACE")));

    let url = |text: &str| Url::parse(text).unwrap();
    let options = ApiOptions {
        base_url: Some(url("https://api.example/v1")),
        allowed_base_urls: vec![url("https://other.example/")],
        scopes: vec!["https://api.example/.default".into()],
        ..ApiOptions::default()
    };
    let api = Api { name: "api".into(), options, ..Api::default() };
    let Ok(options) = Effective::merge(&api, &overrides) else { return };
    let Ok(target) = Target::new(&options) else { return };
    assert!(["https://api.example", "https://other.example"].contains(&target.origin().to_string().as_str()));
    let path = &target.url().path;
    let base = said.base_url.as_ref().map_or("/v1", |base| base.base_path());
    assert!(path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')), "{path}");
    let decoded = path.to_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\");
    assert!(!decoded.split(['/', '\\']).any(|segment| segment == ".." || segment == "."), "{path}");
    // What goes onto the wire is again a URL, and the same one.
    assert_eq!(Url::parse(&target.url().to_string()).as_ref(), Ok(target.url()));
}

/// A key that is taken has a name, and that is all that Entra is told.
pub fn pop_public_key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(key) = BoundKey::parse(text) else { return };
    let sent = URL_SAFE_NO_PAD.decode(&key.req_cnf).unwrap();
    let sent: serde_json::Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(sent["kid"].as_str(), Some(key.kid.as_str()));
}
