//! A downstream answer as the JSON that callers get:
//! `{"statusCode":…,"headers":{…},"content":…}`. It is written straight into one buffer, since content may be large.

use std::fmt;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeMap as _, SerializeStruct as _, Serializer};

use super::{OutResponse, charset, header};

/// How header values are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderValues {
    /// One string a name, several values joined with `, `; without `set-cookie`, which cannot be joined (RFC 6265 §3).
    Joined,
    /// One array of strings a name, as the C# sidecar has it.
    Arrays,
}

/// The result of a downstream call, whatever its status was.
pub fn render(answer: &OutResponse, values: HeaderValues) -> Vec<u8> {
    // Escapes aside, text grows by nothing and base64 by a third.
    let mut json = Vec::with_capacity(answer.body.len() + answer.body.len() / 3 + 1024);
    // Memory takes every write, and every key is a string.
    let written = serde_json::to_writer(&mut json, &Answer { answer, values });
    debug_assert!(written.is_ok(), "{written:?}");
    json
}

struct Answer<'a> {
    answer: &'a OutResponse,
    values: HeaderValues,
}

impl Serialize for Answer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let content = content(self.answer);
        let coded = matches!(content, Content::Binary(_));
        let mut object = serializer.serialize_struct("Answer", if coded { 4 } else { 3 })?;
        object.serialize_field("statusCode", &self.answer.status)?;
        object.serialize_field("headers", &Fields { answer: self.answer, values: self.values })?;
        object.serialize_field("content", &content)?;
        if coded {
            object.serialize_field("contentEncoding", "base64")?;
        }
        object.end()
    }
}

/// The header fields, in the order of their first appearance.
struct Fields<'a> {
    answer: &'a OutResponse,
    values: HeaderValues,
}

impl Fields<'_> {
    fn shown(&self, name: &str) -> bool {
        let named_by_connection = || {
            let options = self.answer.headers.iter().filter(|(own, _)| own == "connection");
            options
                .flat_map(|(_, value)| value.split(|byte| *byte == b','))
                .any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
        };
        let joinable = self.values == HeaderValues::Arrays || name != "set-cookie";
        joinable
            && (name != "content-length" || self.length_is_sound())
            && !header::is_hop_by_hop(name)
            && !named_by_connection()
    }
}

impl Fields<'_> {
    /// Whether the one length that the answer states can be its own: a second one, a list, or a transfer coding beside
    /// it makes it void (RFC 9112 §6.3).
    fn length_is_sound(&self) -> bool {
        let named = |wanted: &'static str| self.answer.headers.iter().filter(move |(name, _)| name == wanted);
        let mut lengths = named("content-length").map(|(_, value)| value);
        let one = lengths.next().is_some_and(|value| value.iter().all(u8::is_ascii_digit)) && lengths.next().is_none();
        one && named("transfer-encoding").next().is_none()
    }
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let headers = &self.answer.headers;
        let mut map = serializer.serialize_map(None)?;
        for (index, (name, _)) in headers.iter().enumerate() {
            let again = headers[..index].iter().any(|(earlier, _)| earlier == name);
            if again || !self.shown(name) {
                continue;
            }
            let values = headers[index..].iter().filter(|(own, _)| own == name).map(|(_, value)| FieldValue(value));
            match self.values {
                HeaderValues::Joined => map.serialize_entry(name, &Joined(&values.collect::<Vec<_>>()))?,
                HeaderValues::Arrays => map.serialize_entry(name, &values.collect::<Vec<_>>())?,
            }
        }
        map.end()
    }
}

/// A field's value as text: UTF-8 where it is that, else the Latin-1 that HTTP once was (RFC 9110 §5.5).
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

struct Joined<'a>(&'a [FieldValue<'a>]);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{value}")?;
        }
        Ok(())
    }
}

impl Serialize for Joined<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

enum Content<'a> {
    None,
    Text(charset::Text<'a>),
    Binary(&'a [u8]),
}

fn content(answer: &OutResponse) -> Content<'_> {
    let encoded = answer
        .headers
        .iter()
        .any(|(name, value)| name == "content-encoding" && !value.trim_ascii().eq_ignore_ascii_case(b"identity"));
    if answer.body.is_empty() {
        return Content::None;
    }
    let text =
        if encoded { None } else { charset::decode(answer.header("content-type").unwrap_or_default(), &answer.body) };
    text.map_or(Content::Binary(&answer.body), Content::Text)
}

impl Serialize for Content<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_none(),
            Self::Text(charset::Text::Utf8(text)) => serializer.serialize_str(text),
            Self::Text(text) => serializer.collect_str(text),
            Self::Binary(bytes) => serializer.collect_str(&Base64Display::new(bytes, &STANDARD)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render_with(values: HeaderValues, headers: &[(&str, &str)], body: &[u8]) -> String {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        String::from_utf8(render(&OutResponse { status: 200, headers, body: body.to_vec() }, values)).unwrap()
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
        let headers = vec![("x".to_owned(), b"\xe9\"".to_vec()), ("y".to_owned(), "\u{e9}".as_bytes().to_vec())];
        let json = render(&OutResponse { status: 404, headers, body: Vec::new() }, HeaderValues::Joined);
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
    fn a_large_binary_answer_costs_less_than_twice_its_size_more() {
        let body = vec![0xff; 3_000_000];
        let json = render(&OutResponse { status: 200, headers: Vec::new(), body }, HeaderValues::Joined);
        assert!(json.capacity() < 6_000_000, "{}", json.capacity());
    }
}
