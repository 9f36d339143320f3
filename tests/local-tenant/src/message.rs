//! One request as it came and one answer as it will go out, with the decoders of query strings and forms.

use std::time::Duration;

use serde_json::Value;

/// A request, read completely.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Which accepted connection it came on: 1, 2, 3…
    pub connection: u64,
    /// The method, as sent.
    pub method: String,
    /// The path without the query, still percent-encoded.
    pub path: String,
    /// The text behind the `?`.
    pub query: String,
    /// Header names and values in order of arrival, names as sent.
    pub headers: Vec<(String, String)>,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The query's pairs, decoded.
    pub fn query_pairs(&self) -> Vec<(String, String)> {
        form_pairs(&self.query)
    }

    /// The last value of this query key.
    pub fn query_value(&self, key: &str) -> Option<String> {
        self.query_pairs().into_iter().rev().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// The body's pairs, when it is a form.
    pub fn form(&self) -> Vec<(String, String)> {
        let is_form =
            self.header("content-type").is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"));
        if is_form { form_pairs(&String::from_utf8_lossy(&self.body)) } else { Vec::new() }
    }

    /// The path's segments, percent-decoded.
    pub fn segments(&self) -> Vec<String> {
        self.path.split('/').filter(|s| !s.is_empty()).map(|s| percent_decode(s, false)).collect()
    }
}

/// How an answer's body is delimited on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`.
    #[default]
    Length,
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Chunked, each event of an event stream in a chunk of its own and sent on its own.
    Events,
    /// Neither: the end of the connection ends the body.
    UntilClose,
}

/// What happens to the connection while and after the answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// The connection serves the next request.
    #[default]
    KeepOpen,
    /// `Connection: close`.
    Close,
    /// Cut after this many bytes of head and body.
    CutAfter(usize),
    /// Cut without a byte of answer.
    Silent,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, beside those that frame the message.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How the body is delimited.
    pub framing: Framing,
    /// What becomes of the connection.
    pub ending: Ending,
    /// Waits this long between the head and the body, or before each event.
    pub pause_before_body: Duration,
}

impl Answer {
    /// An answer without a body.
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// A JSON answer.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::of(status, "application/json; charset=utf-8", body.to_string())
    }

    /// A plain text answer.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self::of(status, "text/plain; charset=utf-8", body.into())
    }

    /// An answer of any type.
    pub fn of(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }.header("Content-Type", content_type)
    }

    /// The same answer with one header more.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// `a=1&b=2` as pairs: `+` is a space, then percent-decoding (WHATWG `application/x-www-form-urlencoded`).
pub fn form_pairs(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(key, true), percent_decode(value, true))
        })
        .collect()
}

/// Decodes `%XX`, and `+` in a form. An incomplete escape stays as it is.
pub fn percent_decode(text: &str, form: bool) -> String {
    let hex = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high << 4 | low);
                at += 2;
            }
            (b'+', ..) if form => decoded.push(b' '),
            (byte, ..) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Encodes everything but the unreserved characters of RFC 3986.
pub fn percent_encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded_once() {
        assert_eq!(
            form_pairs("scope=offline_access+openid&client_secret=s%3Dc%2Bret%2525&empty=&flag"),
            [("scope", "offline_access openid"), ("client_secret", "s=c+ret%25"), ("empty", ""), ("flag", "")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
    }

    #[test]
    fn encoding_and_decoding_agree() {
        let text = "a b+c/ü%&=";
        assert_eq!(percent_decode(&percent_encode(text), true), text);
        assert_eq!(percent_decode("a+b%2", false), "a+b%2");
    }
}
