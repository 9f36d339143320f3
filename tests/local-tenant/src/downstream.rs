//! The downstream API: checks the token that it gets and says what it received. Query keys that start with `_`
//! tell it how to answer:
//!
//! | key | answer |
//! |---|---|
//! | `_status=404` | this status |
//! | `_body=empty`, `text`, `json`, `binary`, `latin1`, `utf16`, `bad-utf8`, `gzip`, `size:N`, `echo` | this body |
//! | `_content_type=…` | this `Content-Type` |
//! | `_header=Name:Value` | one header more (repeatable) |
//! | `_delay_ms=N`, `_pause_ms=N` | waits before the answer, between its head and its body |
//! | `_framing=chunked`, `close` | how the body is delimited |
//! | `_redirect=URL`, with `_status` (302) | a redirect |
//! | `_cut=N` | breaks off after N bytes |
//! | `_challenge=V` | 401 `insufficient_claims` until the token was asked for with claims that hold V |
//! | `_aud=any` | accepts a token for any API |
//!
//! Paths under `/api/anonymous` want no token, those under `/api/pop` a signed request.

use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::jwt::Decoded;
use crate::message::{Answer, Ending, Framing, Request};
use crate::shr;
use crate::state::State;
use crate::verify;

/// Answers a request for the downstream API.
pub fn answer(state: &State, request: &Request) -> Answer {
    let token = match authorize(state, request) {
        Ok(token) => token,
        Err(reason) => {
            let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{reason}\"");
            return Answer::json(401, &json!({"error": reason})).header("WWW-Authenticate", challenge);
        }
    };
    if let Some(challenge) = request.query_value("_challenge") {
        let asked = token.as_ref().and_then(|token| token.payload.get("requested_claims"));
        if !asked.is_some_and(|claims| claims.to_string().contains(&challenge)) {
            return claims_challenge(state, &challenge);
        }
    }
    let number = |key: &str| request.query_value(key).and_then(|text| text.parse().ok());
    thread::sleep(Duration::from_millis(number("_delay_ms").unwrap_or(0)));
    let (content_type, body) = body(request, token.as_ref());
    let redirect = request.query_value("_redirect");
    let default_status = if redirect.is_some() { 302 } else { 200 };
    let status = number("_status").and_then(|status| u16::try_from(status).ok()).unwrap_or(default_status);
    let mut answer = Answer { status, body, ..Answer::default() };
    if let Some(content_type) = request.query_value("_content_type").or(content_type) {
        answer = answer.header("Content-Type", content_type);
    }
    if request.query_value("_body").as_deref() == Some("gzip") {
        answer = answer.header("Content-Encoding", "gzip");
    }
    if let Some(target) = redirect {
        answer = answer.header("Location", target);
    }
    for (_, header) in request.query_pairs().iter().filter(|(key, _)| key == "_header") {
        let (name, value) = header.split_once(':').unwrap_or((header, ""));
        answer = answer.header(name, value);
    }
    answer.framing = match request.query_value("_framing").as_deref() {
        Some("chunked") => Framing::Chunked,
        Some("close") => Framing::UntilClose,
        _ => Framing::Length,
    };
    answer.pause_before_body = Duration::from_millis(number("_pause_ms").unwrap_or(0));
    if let Some(length) = number("_cut") {
        answer.ending = Ending::CutAfter(usize::try_from(length).unwrap_or(usize::MAX));
    }
    answer
}

fn authorize(state: &State, request: &Request) -> Result<Option<Decoded>, String> {
    if request.path.starts_with("/api/anonymous") {
        return Ok(None);
    }
    let values: Vec<_> =
        request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("authorization")).collect();
    let [(_, value)] = values.as_slice() else {
        return Err(format!("{} Authorization headers", values.len()));
    };
    let (scheme, credential) = value.split_once(' ').ok_or("the Authorization header has no scheme")?;
    let token = match scheme.to_ascii_lowercase().as_str() {
        "bearer" if request.path.starts_with("/api/pop") => return Err("a signed request is wanted here".into()),
        "bearer" => {
            let token = verify::issued_here(state, credential)?;
            if token.payload.contains_key("cnf") {
                return Err("a token that is bound to a key came as Bearer".into());
            }
            token
        }
        "pop" => shr::verify(state, request, credential)?,
        _ => return Err("the scheme is neither Bearer nor PoP".into()),
    };
    let directory = state.directory.read().unwrap();
    let known = |audience: &&str| directory.api(audience).is_some();
    if request.query_value("_aud").as_deref() != Some("any") && !verify::audiences(&token).iter().any(known) {
        return Err("the audience is no API of this tenant".into());
    }
    Ok(Some(token))
}

fn claims_challenge(state: &State, value: &str) -> Answer {
    let claims = json!({"access_token": {"nbf": {"essential": true, "value": value}}}).to_string();
    let challenge = format!(
        "Bearer realm=\"\", authorization_uri=\"{}/common/oauth2/authorize\", error=\"insufficient_claims\", claims=\"{}\"",
        state.base,
        STANDARD.encode(claims)
    );
    Answer::json(401, &json!({"error": "insufficient_claims"})).header("WWW-Authenticate", challenge)
}

fn body(request: &Request, token: Option<&Decoded>) -> (Option<String>, Vec<u8>) {
    let kind = request.query_value("_body").unwrap_or_else(|| "echo".into());
    let typed = |content_type: &str, body: &[u8]| (Some(content_type.to_owned()), body.to_vec());
    match kind.as_str() {
        "empty" => (None, Vec::new()),
        "text" => typed("text/plain", "plain text, with ümlaut".as_bytes()),
        "json" => typed("application/json", br#"{"z":1,"a":[true,null]}"#),
        "binary" => typed("application/octet-stream", &[0, 1, 2, 0xfd, 0xfe, 0xff]),
        "latin1" => typed("text/plain; charset=iso-8859-1", b"caf\xe9"),
        "utf16" => typed("text/plain; charset=utf-16le", b"a\0b\0"),
        "bad-utf8" => typed("text/plain; charset=utf-8", b"broken \xc3( here"),
        "gzip" => typed("text/plain", GZIPPED),
        _ => match kind.strip_prefix("size:").and_then(|size| size.parse().ok()) {
            Some(size) => typed("text/plain", &vec![b'x'; size]),
            None => typed("application/json; charset=utf-8", echo(request, token).to_string().as_bytes()),
        },
    }
}

/// `gzip` of `hello`, with a stored block (RFC 1951 §3.2.4).
const GZIPPED: &[u8] = &[
    0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1, 5, 0, 0xfa, 0xff, b'h', b'e', b'l', b'l', b'o', 0x86, 0xa6, 0x10, 0x36,
    5, 0, 0, 0,
];

fn echo(request: &Request, token: Option<&Decoded>) -> Value {
    let pairs = |pairs: &[(String, String)]| pairs.iter().map(|(n, v)| json!([n, v])).collect::<Value>();
    json!({
        "method": request.method,
        "path": request.path,
        "query": pairs(&request.query_pairs()),
        "rawQuery": request.query,
        "headers": pairs(&request.headers),
        "body": String::from_utf8_lossy(&request.body),
        "bodyBase64": STANDARD.encode(&request.body),
        "token": token.map(|token| Value::Object(token.payload.clone())),
    })
}
