//! Renders a downstream response as JSON for callers: `{"statusCode":…,"headers":{…},"content":…}`.
//! It is encoded piece by piece while it is sent, and never held in memory next to the body:
//! control characters would make it six times as large.

use std::fmt;
use std::io::Write as _;
use std::mem;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::charset::{self, Charset};
use super::{AnswerMemory, OutResponse};
use crate::value::{header, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderValues {
    /// One string per name, with several values joined by `, `. Omits `set-cookie`, which cannot be
    /// joined (RFC 6265 §3).
    Joined,
    /// One array of strings per name, as in the C# sidecar.
    Arrays,
}

/// The result of a downstream call, whatever its status.
pub struct Rendered {
    /// Everything before the content, and how much of it was written.
    head: Vec<u8>,
    head_made: usize,
    content: Content,
    body: Vec<u8>,
    /// How much of the body was written.
    at: usize,
    tail: &'static [u8],
    length: usize,
    /// Reserves memory for the body.
    _memory: Option<Arc<AnswerMemory>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Null,
    Text(Charset),
    Base64,
}

/// Room for the head of a usual answer, in bytes.
const HEAD: usize = 1024;

/// Every 3 bytes become 4 characters of base64.
const BASE64_UNIT: usize = 3;

impl Rendered {
    /// `memory` is the reservation for the answer's body.
    pub fn new(mut answer: OutResponse, values: HeaderValues, memory: Option<Arc<AnswerMemory>>) -> Self {
        let mut head = Vec::with_capacity(HEAD);
        // Writing to memory cannot fail.
        let _ = write!(head, "{{\"statusCode\":{},\"headers\":", answer.status);
        // Every key is a string.
        let written = serde_json::to_writer(&mut head, &Fields { answer: &answer, values });
        debug_assert!(written.is_ok(), "{written:?}");
        head.extend_from_slice(b",\"content\":");
        let (content, at) = content(&answer);
        let rest = &answer.body[at..];
        let (tail, length): (&[u8], usize) = match content {
            Content::Null => (b"null}", 0),
            Content::Text(Charset::Utf8) => (b"\"}", json::escaped_len(rest)),
            Content::Text(charset) => (b"\"}", decoded_len(charset, rest)),
            Content::Base64 => (b"\",\"contentEncoding\":\"base64\"}", rest.len().div_ceil(BASE64_UNIT) * 4),
        };
        if content != Content::Null {
            head.push(b'"');
        }
        let length = head.len() + length + tail.len();
        Self { head, head_made: 0, content, body: mem::take(&mut answer.body), at, tail, length, _memory: memory }
    }

    /// Bytes.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Appends the next piece, at most `room` bytes, or nothing after the end. `room` must be at
    /// least 4 KiB.
    pub fn fill(&mut self, out: &mut Vec<u8>, room: usize) {
        let end = out.len() + room;
        let head = &self.head[self.head_made..];
        let taken = head.len().min(room);
        out.extend_from_slice(&head[..taken]);
        self.head_made += taken;
        if self.head_made < self.head.len() {
            return;
        }
        let rest = &self.body[self.at..];
        let room = end - out.len();
        self.at += match self.content {
            Content::Null => rest.len(),
            Content::Text(Charset::Utf8) => json::push_escaped(out, rest, room),
            Content::Text(charset) => push_decoded(out, charset, rest, room),
            Content::Base64 => push_base64(out, rest, room),
        };
        if self.at == self.body.len() && end - out.len() >= self.tail.len() {
            out.extend_from_slice(mem::take(&mut self.tail));
        }
    }
}

impl fmt::Debug for Rendered {
    /// Omits the API's answer, which is only for the caller.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendered").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Renders everything at once.
pub fn render(answer: OutResponse, values: HeaderValues) -> Vec<u8> {
    let mut rendered = Rendered::new(answer, values, None);
    let mut json = Vec::with_capacity(rendered.len());
    while json.len() < rendered.len() {
        rendered.fill(&mut json, 64 * 1024);
    }
    json
}

/// The form of the body, and where it starts.
fn content(answer: &OutResponse) -> (Content, usize) {
    if answer.body.is_empty() {
        return (Content::Null, 0);
    }
    let is_coded = |coding: &[u8]| !coding.trim_ascii().eq_ignore_ascii_case(b"identity");
    let text = if answer.headers.all("content-encoding").any(is_coded) {
        None
    } else {
        charset::detect(answer.header("content-type").unwrap_or_default(), &answer.body)
    };
    text.map_or((Content::Base64, 0), |text| (Content::Text(text.charset), text.start))
}

fn decoded_len(charset: Charset, mut rest: &[u8]) -> usize {
    let (mut length, mut buffer) = (0, [0; 4]);
    while let Some((character, bytes)) = charset.first(rest) {
        length += json::escaped_len(character.encode_utf8(&mut buffer).as_bytes());
        rest = &rest[bytes..];
    }
    length
}

/// Appends characters of a charset other than UTF-8 while there is room, and returns how many bytes
/// of the body were consumed.
fn push_decoded(out: &mut Vec<u8>, charset: Charset, body: &[u8], room: usize) -> usize {
    /// Length of the longest escape.
    const MAX_ESCAPE: usize = 6;
    let (end, mut at, mut buffer) = (out.len() + room, 0, [0; 4]);
    while end - out.len() >= MAX_ESCAPE
        && let Some((character, bytes)) = charset.first(&body[at..])
    {
        json::push_escaped(out, character.encode_utf8(&mut buffer).as_bytes(), MAX_ESCAPE);
        at += bytes;
    }
    at
}

/// Appends whole units of base64 while there is room, and the padded rest at the end. Returns how
/// many bytes of the body were consumed.
fn push_base64(out: &mut Vec<u8>, body: &[u8], room: usize) -> usize {
    let taken = body.len().min(room / 4 * BASE64_UNIT);
    let start = out.len();
    out.resize(start + taken.div_ceil(BASE64_UNIT) * 4, 0);
    // The buffer has exactly the encoded length.
    let written = STANDARD.encode_slice(&body[..taken], &mut out[start..]);
    debug_assert!(written.is_ok(), "{written:?}");
    taken
}

/// The header fields, in order of first appearance.
struct Fields<'a> {
    answer: &'a OutResponse,
    values: HeaderValues,
}

impl Fields<'_> {
    fn shown(&self, name: &str) -> bool {
        let joinable = self.values == HeaderValues::Arrays || name != "set-cookie";
        joinable
            && (name != "content-length" || self.length_is_sound())
            && !header::is_hop_by_hop(name)
            && !header::is_named_by(self.answer.headers.all("connection"), name)
    }

    /// True if the `Content-Length` is trustworthy: repeated lengths, a list, or a transfer coding
    /// invalidate it (RFC 9112 §6.3).
    fn length_is_sound(&self) -> bool {
        let mut lengths = self.answer.headers.all("content-length");
        let one = lengths.next().is_some_and(|value| value.iter().all(u8::is_ascii_digit)) && lengths.next().is_none();
        one && self.answer.headers.all("transfer-encoding").next().is_none()
    }
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let headers = &self.answer.headers;
        let mut map = serializer.serialize_map(None)?;
        for (index, (name, _)) in headers.iter().enumerate() {
            let again = headers.iter().take(index).any(|(earlier, _)| earlier == name);
            if again || !self.shown(name) {
                continue;
            }
            let values = headers.all(name).map(FieldValue);
            match self.values {
                HeaderValues::Joined => map.serialize_entry(name, &Joined(values))?,
                HeaderValues::Arrays => map.serialize_entry(name, &values.collect::<Vec<_>>())?,
            }
        }
        map.end()
    }
}

/// A field value as UTF-8 if valid, else as Latin-1, HTTP's original charset (RFC 9110 §5.5).
struct FieldValue<'a>(&'a [u8]);

impl fmt::Display for FieldValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        match std::str::from_utf8(self.0) {
            Ok(text) => f.write_str(text),
            Err(_) => self.0.iter().try_for_each(|byte| f.write_char(char::from(*byte))),
        }
    }
}

impl Serialize for FieldValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

struct Joined<T>(T);

impl<'a, T: Iterator<Item = FieldValue<'a>> + Clone> fmt::Display for Joined<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in self.0.clone().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{value}")?;
        }
        Ok(())
    }
}

impl<'a, T: Iterator<Item = FieldValue<'a>> + Clone> Serialize for Joined<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::HeaderFields;

    fn render_with(values: HeaderValues, headers: &[(&str, &str)], body: &[u8]) -> String {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        String::from_utf8(render(OutResponse { status: 200, headers, body: body.to_vec() }, values)).unwrap()
    }

    fn content(headers: &[(&str, &str)], body: &[u8]) -> String {
        let json = render_with(HeaderValues::Joined, headers, body);
        json[json.find("\"content\":").unwrap()..json.len() - 1].to_owned()
    }

    #[test]
    fn an_answer_has_its_three_members_in_order() {
        let headers = [("content-type", "application/json"), ("etag", "\"1\"")];
        assert_eq!(
            render_with(HeaderValues::Joined, &headers, b"{\"a\":\"\xc3\xa9\\n\"}\n\x01"),
            "{\"statusCode\":200,\"headers\":{\"content-type\":\"application/json\",\"etag\":\"\\\"1\\\"\"},\
             \"content\":\"{\\\"a\\\":\\\"\u{e9}\\\\n\\\"}\\n\\u0001\"}"
        );
        assert_eq!(render_with(HeaderValues::Joined, &[], b""), "{\"statusCode\":200,\"headers\":{},\"content\":null}");
    }

    #[test]
    fn several_values_are_joined_or_listed() {
        let headers = [("x-a", "1"), ("set-cookie", "c=1"), ("x-b", "3"), ("x-a", "2"), ("set-cookie", "d=2")];
        let joined = render_with(HeaderValues::Joined, &headers, b"");
        assert!(joined.contains("\"headers\":{\"x-a\":\"1, 2\",\"x-b\":\"3\"}"), "{joined}");
        let arrays = render_with(HeaderValues::Arrays, &headers, b"");
        let expected = "\"headers\":{\"x-a\":[\"1\",\"2\"],\"set-cookie\":[\"c=1\",\"d=2\"],\"x-b\":[\"3\"]}";
        assert!(arrays.contains(expected), "{arrays}");
    }

    #[test]
    fn a_length_that_contradicts_is_left_out() {
        let shown =
            |headers: &[(&str, &str)]| render_with(HeaderValues::Joined, headers, b"ab").contains("content-length");
        assert!(shown(&[("content-length", "2")]));
        for headers in [
            &[("content-length", "2, 2")][..],
            &[("content-length", "2"), ("content-length", "2")],
            &[("content-length", "2"), ("content-length", "3")],
            &[("content-length", "2"), ("transfer-encoding", "chunked")],
            &[("content-length", "+2")],
        ] {
            assert!(!shown(headers), "{headers:?}");
        }
    }

    #[test]
    fn the_connections_own_fields_stay_behind() {
        let headers = [
            ("connection", "close, X-Hop"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "x"),
            ("trailer", "x"),
            ("upgrade", "h2c"),
            ("proxy-authenticate", "x"),
            ("x-hop", "x"),
            ("www-authenticate", "Bearer"),
        ];
        let json = render_with(HeaderValues::Joined, &headers, b"");
        assert!(json.contains("\"headers\":{\"www-authenticate\":\"Bearer\"}"), "{json}");
    }

    #[test]
    fn a_header_that_is_no_utf8_is_latin_1() {
        let headers = HeaderFields::from([("x", &b"\xe9\""[..]), ("y", "\u{e9}".as_bytes())]);
        let json = render(OutResponse { status: 404, headers, body: Vec::new() }, HeaderValues::Joined);
        assert_eq!(
            json,
            "{\"statusCode\":404,\"headers\":{\"x\":\"\u{e9}\\\"\",\"y\":\"\u{e9}\"},\"content\":null}".as_bytes()
        );
    }

    #[test]
    fn what_is_no_text_comes_as_base64_and_says_so() {
        let binary = |base64: &str| format!("\"content\":\"{base64}\",\"contentEncoding\":\"base64\"");
        assert_eq!(content(&[("content-type", "image/png")], b"\x89PNG"), binary("iVBORw=="));
        assert_eq!(content(&[("content-encoding", "gzip")], b"text"), binary("dGV4dA=="));
        assert_eq!(content(&[("content-encoding", "Identity")], b"text"), "\"content\":\"text\"");
        let latin = [("content-type", "text/plain; charset=iso-8859-1")];
        assert_eq!(content(&latin, b"caf\xe9\""), "\"content\":\"caf\u{e9}\\\"\"");
        assert_eq!(content(&[("content-type", "text/plain; charset=koi8-r")], b"abc"), binary("YWJj"));
    }

    #[test]
    fn every_size_of_piece_gives_the_same_answer() {
        const MIXED: &str = "a\"\\\n\u{1}\u{e9}\u{1f600}";
        let utf16 = |to_bytes: fn(u16) -> [u8; 2]| MIXED.encode_utf16().flat_map(to_bytes).collect::<Vec<u8>>();
        let units: [(&str, Vec<u8>, &str); 5] = [
            ("text/plain", MIXED.as_bytes().to_vec(), MIXED),
            ("text/plain; charset=latin1", b"caf\xe9\"\x01\x80".to_vec(), "caf\u{e9}\"\u{1}\u{80}"),
            ("text/plain; charset=windows-1252", b"\x80\x01\"\xe9".to_vec(), "\u{20ac}\u{1}\"\u{e9}"),
            ("text/plain; charset=utf-16le", utf16(u16::to_le_bytes), MIXED),
            ("text/plain; charset=utf-16be", utf16(u16::to_be_bytes), MIXED),
        ];
        let mut bodies = Vec::new();
        for repeated in [1, 700, 4000] {
            for (content_type, unit, text) in &units {
                bodies.push((*content_type, unit.repeat(repeated), text.repeat(repeated), ""));
            }
            let image = b"\x89PNG\0\x01\x02".repeat(repeated);
            let coded = STANDARD.encode(&image);
            bodies.push(("image/png", image, coded, r#","contentEncoding":"base64""#));
        }
        for (content_type, body, text, tail) in bodies {
            let content = serde_json::to_string(&text).unwrap();
            let expected = format!(
                r#"{{"statusCode":200,"headers":{{"content-type":"{content_type}"}},"content":{content}{tail}}}"#
            );
            for room in [4096, 4097, 5000, 65_536] {
                let headers = HeaderFields::from([("content-type", content_type)]);
                let answer = OutResponse { status: 200, headers, body: body.clone() };
                let mut rendered = Rendered::new(answer, HeaderValues::Joined, None);
                let mut json = Vec::new();
                loop {
                    let before = json.len();
                    rendered.fill(&mut json, room);
                    assert!(json.len() - before <= room);
                    if json.len() == before {
                        break;
                    }
                }
                assert!(json == expected.as_bytes() && json.len() == rendered.len(), "{content_type} {room}");
            }
        }
    }
}
