//! What arrives at the front door. However it is cut into pieces, it means the same.

use std::time::Duration;

use entra_sidecar::internal::BodyMemory;
use entra_sidecar::internal::config::Limits;
use entra_sidecar::internal::http::Head;
use entra_sidecar::internal::http::{Body, Keep};
use entra_sidecar::internal::http::{Fed, RequestReader};
use entra_sidecar::internal::value::chunked::{Bounds, ChunkError, Decoder};

/// Small, so that they are reached.
fn limits() -> Limits {
    let second = Duration::from_secs(1);
    Limits {
        workers: 1,
        queue_timeout: second,
        connections: 1,
        head_bytes: 512,
        headers: 8,
        head_timeout: second,
        body_timeout: second,
        write_timeout: second,
        idle_timeout: second,
        body_bytes: 256,
        shutdown_timeout: second,
        ..Limits::default()
    }
}

/// Every request of a connection, and how it ends: refused, or waiting for more.
fn requests(bytes: &[u8], piece: usize) -> Vec<String> {
    let (limits, mut reader, mut seen) = (limits(), RequestReader::default(), Vec::new());
    for mut piece in bytes.chunks(piece.max(1)) {
        while !piece.is_empty() {
            match reader.feed(piece, &limits, inspect) {
                Ok(Fed::More) => break,
                Ok(Fed::Head { result: None, .. } | Fed::Request { result: None, .. }) => {
                    seen.push("413".to_owned());
                    return seen;
                }
                Ok(Fed::Head { used, .. }) => {
                    reader.expect(Keep::Yes, BodyMemory::new(0).nothing());
                    piece = &piece[used..];
                }
                Ok(Fed::Request { used, result: Some(result), .. }) => {
                    assert!(used <= piece.len(), "{used} of {}", piece.len());
                    seen.push(result);
                    reader.finish();
                    piece = &piece[used..];
                }
                Err(refusal) => {
                    seen.push(format!("{}", refusal.status()));
                    return seen;
                }
            }
        }
    }
    seen.push("more".to_owned());
    seen
}

/// What a head and its body say; nothing where the body is too long.
fn inspect(head: &Head<'_>, body: Body<'_>) -> Option<String> {
    if body.length().is_some_and(|length| length > limits().body_bytes) {
        return None;
    }
    let body = body.take().bytes;
    let graphic = |text: &str| text.bytes().all(|byte| byte > b' ' && byte != 0x7f);
    assert!(head.path.starts_with('/') && graphic(head.path) && head.query.is_none_or(graphic), "{head:?}");
    assert!(!head.path.contains('?') && body.len() <= limits().body_bytes && head.headers.0.len() <= limits().headers);
    for field in head.headers.0 {
        assert!(!field.name.is_empty() && field.name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'));
        assert!(field.value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)), "{field:?}");
    }
    let count = |name| head.headers.all(name).count();
    assert!(count("host") <= 1 && count("authorization") <= 1 && count("transfer-encoding") <= 1, "{head:?}");
    assert!(count("transfer-encoding") + count("content-length") <= 1 || count("transfer-encoding") == 0, "{head:?}");
    Some(format!("{:?} {} {:?} {:?} {:?} {body:?}", head.method, head.path, head.query, head.headers, head.terms))
}

/// Requests, whole, in single bytes and in pieces of seven.
pub fn head(data: &[u8]) {
    let whole = requests(data, data.len());
    assert_eq!(requests(data, 1), whole);
    assert_eq!(requests(data, 7), whole);
}

fn body(bytes: &[u8], piece: usize) -> (Vec<u8>, usize, Result<bool, ChunkError>) {
    let bounds = Bounds { body: limits().body_bytes, trailers: limits().head_bytes };
    let (mut decoder, mut out, mut used) = (Decoder::default(), Vec::new(), 0);
    for piece in bytes.chunks(piece.max(1)) {
        match decoder.decode(piece, &mut out, bounds) {
            Ok(taken) => used += taken,
            Err(refusal) => return (Vec::new(), 0, Err(refusal)),
        }
        if decoder.is_done() {
            break;
        }
    }
    (out, used, Ok(decoder.is_done()))
}

/// A chunked body, whole, in single bytes and in pieces of three.
pub fn chunked(data: &[u8]) {
    let whole = body(data, data.len());
    assert!(whole.0.len() <= limits().body_bytes && whole.1 <= data.len());
    if whole.2 == Ok(true) {
        assert!(data[..whole.1].ends_with(b"\r\n"), "the last chunk's end");
    }
    assert_eq!(body(data, 1), whole);
    assert_eq!(body(data, 3), whole);
}
