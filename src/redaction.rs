//! Removes secrets from foreign text: a service may quote what it was sent.

use crate::value::hex;

const REDACTED: &str = "[redacted]";

/// Shorter secrets would match parts of ordinary words.
const SHORTEST: usize = 4;

/// Removes the given secrets, plain or percent-encoded, and anything else that looks like a token.
pub fn redact<'a>(text: &str, secrets: impl Iterator<Item = &'a str>) -> String {
    let secrets = secrets.filter(|secret| secret.len() >= SHORTEST);
    redact_tokens(secrets.fold(text.to_owned(), |text, secret| redact_encoded(&text.replace(secret, REDACTED), secret)))
}

/// Removes the secret in any percent-encoding. Forms (WHATWG), RFC 3986 and old libraries differ in
/// which bytes they encode (`~`, `*`, space) and in the case of the digits.
fn redact_encoded(text: &str, secret: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = encoded_length(rest.as_bytes(), secret).and_then(|length| rest.get(length..)) {
            kept.push_str(REDACTED);
            rest = after;
        } else {
            kept.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    kept
}

/// The length of the secret at the start of the text, if it is there: each byte plain, encoded, or
/// a space as `+`.
fn encoded_length(text: &[u8], secret: &str) -> Option<usize> {
    let mut at = 0;
    for byte in secret.bytes() {
        at += match text.get(at..)? {
            [b'%', high, low, ..] if Some(byte) == hex::digit(*high).zip(hex::digit(*low)).map(|(h, l)| h << 4 | l) => {
                3
            }
            [own, ..] if *own == byte || (*own, byte) == (b'+', b' ') => 1,
            _ => return None,
        };
    }
    Some(at)
}

/// Removes everything in the form of a JWS or JWE, which start with an encoded `{"` (RFC 7515
/// §7.1).
fn redact_tokens(mut text: String) -> String {
    const BEGIN: &str = "eyJ";
    let mut from = 0;
    while let Some(start) = text[from..].find(BEGIN).map(|at| from + at) {
        let of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let end = text[start..].find(|c| !of_token(c)).map_or(text.len(), |length| start + length);
        if text[start..end].contains('.') {
            text.replace_range(start..end, REDACTED);
            from = start + REDACTED.len();
        } else {
            from = end;
        }
    }
    text
}
