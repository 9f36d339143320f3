//! What Entra, or somebody in its place, and downstream APIs answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use entra_sidecar::internal::jwks::{KeySet, V1, accepted_issuers, document};
use entra_sidecar::internal::outbound::forwarding::{AnswerHead, BodyFraming, LinkRewrite, RequestHead};
use entra_sidecar::internal::outbound::{HeaderValues, OutResponse, challenge, claims_challenge, render};
use entra_sidecar::internal::outbound::{Hop, next_hop};
use entra_sidecar::internal::value::Url;
use serde_json::Value;

/// Every key that is taken can be found by its name and verifies nothing that it did not sign.
pub fn jwks(data: &[u8]) {
    let Ok((keys, skipped)) = document::keys(data) else { return };
    let Value::Object(document) = serde_json::from_slice(data).unwrap() else { panic!("no object") };
    assert_eq!(document["keys"].as_array().map(Vec::len), Some(keys.len() + skipped));
    let names: Vec<_> = keys.iter().map(|key| key.kid().to_owned()).collect();
    for key in &keys {
        assert!(!key.kid().is_empty() && key.public_key().thumbprint().len() == 43);
    }
    let set = KeySet::new(keys, "https://issuer.example/", Vec::new());
    for name in names {
        assert!(!set.find(&name).is_empty());
        for alg in ["RS256", "ES256", "ES384"] {
            let header = serde_json::json!({ "alg": alg, "kid": name }).to_string();
            let [header, payload] =
                [header.as_str(), "{}"].map(|part| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(part));
            assert!(entra_sidecar::internal::jwt::verify_signature(&format!("{header}.{payload}.AAAA"), &set).is_err());
        }
    }
}

/// An issuer is not blank, stands for itself, and its forms are other hosts of one cloud at most.
pub fn metadata(data: &[u8]) {
    let Ok(found) = document::metadata(data) else { return };
    assert!(!found.issuer.trim().is_empty() && document::issuer(data) == Ok(found.issuer.clone()));
    assert_eq!(Url::parse(&found.jwks_uri.to_string()).as_ref(), Ok(&found.jwks_uri));
    let accepted = accepted_issuers(&found.issuer, V1::Unknown);
    assert_eq!(accepted[0].as_str(), found.issuer);
    let tenant = "11111111-2222-3333-4444-555555555555";
    for issuer in &accepted {
        assert!(!issuer.matches("https://evil.example/", Some(tenant)) || issuer.as_str() == "https://evil.example/");
    }
}

/// A challenge is found only where its claims are a JSON object.
pub fn www_authenticate(data: &[u8]) {
    let fields: Vec<Vec<u8>> = data.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    for challenge in challenge::parse(fields.iter().map(Vec::as_slice)) {
        assert!(!challenge.scheme.is_empty() && challenge.parameters.len() <= 64);
    }
    let headers = fields.into_iter().map(|field| ("www-authenticate", field)).collect();
    if let Some(claims) = claims_challenge(&OutResponse { status: 401, headers, body: Vec::new() }) {
        assert!(serde_json::from_str::<Value>(&claims).unwrap().is_object());
    }
}

/// The token stays with its origin, wherever an answer points.
pub fn redirect(data: &[u8]) {
    let url = Url::parse("https://api.example/v1/me?x=1").unwrap();
    let (&first, location) = data.split_first().unwrap_or((&0, &[]));
    let status = [301, 302, 303, 307, 308][usize::from(first) % 5];
    let method = ["GET", "POST", "HEAD", "DELETE"][usize::from(first) / 5 % 4];
    let answer = OutResponse { status, headers: [("location", location)].into(), body: Vec::new() };
    match next_hop(method, &url, &answer) {
        Hop::Stay => {}
        Hop::Same { url: next, .. } => {
            assert_eq!(next.origin, url.origin);
            assert_eq!(Url::parse(&next.to_string()), Ok(next));
        }
        Hop::Foreign { url: next } => {
            assert!(next.origin != url.origin && next.origin.https, "{next}");
            assert_eq!(Url::parse(&next.to_string()), Ok(next));
        }
    }
}

/// A forwarded answer head has one framing, and a forwarded request head has one host and one token.
pub fn forwarding(data: &[u8]) {
    let Ok(Some((head, length))) = AnswerHead::parse(data, data.first() == Some(&b'h')) else { return };
    assert!(length <= data.len());
    // With the fields that are added, the parser that reads the result back would refuse more.
    if head.fields.len() > 240 {
        return;
    }
    let url = Url::parse("https://api.example/v1").unwrap();
    let here = "http://localhost/Proxy/a".to_owned();
    let links = LinkRewrite { origin: url.origin.clone(), base: "/v1".to_owned(), here, query: "k=1".to_owned() };
    let mut out = Vec::new();
    head.write(&mut out, &links);
    head.complete(&mut out, b"Thu, 01 Jan 1970 00:00:00 GMT", "id");
    out.extend_from_slice(b"\r\n");
    let (sent, end) = AnswerHead::parse(&out, true).unwrap().unwrap();
    assert!(end == out.len() && sent.status == head.status && sent.fields.len() <= head.fields.len() + 2);
    let count = |fields: &[(&str, &[u8])], wanted: &str| {
        fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).count()
    };
    for name in ["connection", "transfer-encoding", "upgrade", "x-sidecar-error"] {
        assert_eq!(count(&sent.fields, name), 0);
    }
    assert!(count(&sent.fields, "content-length") <= 1 && count(&sent.fields, "date") >= 1);
    let request = RequestHead {
        method: "GET",
        url: &url,
        to_proxy: None,
        fields: head.fields.iter().copied(),
        kept: &[],
        configured: &std::collections::BTreeMap::new(),
        authorization: "Bearer t",
        correlation_id: "id",
        framing: BodyFraming::Length(1),
    }
    .write();
    let fields = request.strip_prefix(b"GET /v1 HTTP/1.1\r\n").unwrap();
    let request = [b"HTTP/1.1 200 OK\r\n", fields].concat();
    let (sent, end) = AnswerHead::parse(&request, true).unwrap().unwrap();
    assert_eq!(end, request.len());
    for (name, times) in [("host", 1), ("authorization", 1), ("content-length", 1), ("cookie", 0), ("connection", 0)] {
        assert_eq!(count(&sent.fields, name), times, "{name}");
    }
}

/// The first line is a `Content-Type`, the rest a body: what the caller gets is JSON, and binary content comes back whole.
pub fn downstream_answer(data: &[u8]) {
    let (kind, body) = data.split_at(data.iter().position(|byte| *byte == b'\n').unwrap_or(0));
    let headers = [("content-type", kind), ("x-other", kind)].into();
    let answer = OutResponse { status: 200, headers, body: body.to_vec() };
    for values in [HeaderValues::Joined, HeaderValues::Arrays] {
        let json: Value = serde_json::from_slice(&render(answer.clone(), values)).unwrap();
        match (json["content"].as_str(), json["contentEncoding"].as_str()) {
            (None, None) => assert!(body.is_empty() && json["content"].is_null()),
            (Some(text), Some("base64")) => assert_eq!(STANDARD.decode(text).unwrap(), body),
            (Some(_), None) => {}
            other => panic!("{other:?}"),
        }
    }
}
