//! Forwards the heads of a proxied request and of its answer: selects the fields and adds the sidecar's own.
//!
//! Hop-by-hop fields and the fields named by `Connection` are removed before anything is added (RFC 9110 §7.6.1), so a
//! caller that names `authorization` there removes its own field and never the token.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;

use zeroize::Zeroizing;

use super::request_line::{self, ToProxy};
use crate::value::chunked::{Bounds, ChunkError, Decoder};
use crate::value::date::HTTP_LEN;
use crate::value::header;
use crate::value::url::{Origin, Url};

/// The error for an answer whose end is told twice.
pub const TWO_ENDS: &str = "the answer says twice where it ends";

/// Whether a request may be sent again if a reused connection ended before it was answered (RFC 9110 §9.2.2).
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS")
}

/// Header fields that an API may send.
const MAX_FIELDS: usize = 256;

/// A field's name and value as received.
pub type Field<'a> = (&'a str, &'a [u8]);

/// How a body is delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body.
    None,
    /// By this length.
    Length(u64),
    /// By the chunked coding.
    Chunked,
    /// By the end of the connection; answers only.
    UntilClose,
}

/// What the forwarded request head is built from.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a, F> {
    pub method: &'a str,
    /// The target.
    pub url: &'a Url,
    /// Set if a forward proxy takes the request.
    pub to_proxy: Option<&'a ToProxy>,
    /// The caller's fields in their order.
    pub fields: F,
    /// Names of the caller's credentials that are forwarded.
    pub kept: &'a [String],
    /// Configured fields, which replace the caller's. Names are lower case.
    pub configured: &'a BTreeMap<String, String>,
    /// The value of `Authorization`.
    pub authorization: &'a str,
    /// Sent if the caller sent none.
    pub correlation_id: &'a str,
    /// Whether the correlation id replaces the caller's.
    pub replaces_id: bool,
    /// The framing of the body.
    pub framing: BodyFraming,
}

impl<'a, F: Iterator<Item = Field<'a>> + Clone> RequestHead<'a, F> {
    /// The whole head, the empty line included.
    pub fn write(&self) -> Zeroizing<Vec<u8>> {
        let lines = |(name, value): Field<'_>| name.len() + value.len() + 4;
        let fields: usize = self.fields.clone().map(lines).sum();
        let target = self.url.path.len() + self.url.query.as_ref().map_or(0, String::len);
        // Wiped in one place, unless configured fields or a proxy need more.
        let room = fields + target + self.authorization.len() + 512;
        let mut out = Zeroizing::new(Vec::with_capacity(room));
        request_line::write(&mut out, self.method, self.url, self.to_proxy);
        let stays = |name: &str| header::is_named_by(connection(self.fields.clone()), name);
        let replaced = |name: &str| {
            self.configured.keys().any(|own| own.eq_ignore_ascii_case(name))
                || self.replaces_id && name.eq_ignore_ascii_case(CORRELATION)
        };
        let mut identified = self.configured.contains_key(CORRELATION);
        for (name, value) in self.fields.clone() {
            if header::is_forwarded(name, self.kept) && !stays(name) && !replaced(name) {
                identified |= name.eq_ignore_ascii_case(CORRELATION);
                push(&mut out, name, value);
            }
        }
        for (name, value) in self.configured {
            push(&mut out, name, value.as_bytes());
        }
        if !identified {
            push(&mut out, CORRELATION, self.correlation_id.as_bytes());
        }
        push(&mut out, "Authorization", self.authorization.as_bytes());
        match self.framing {
            BodyFraming::Length(length) => write_all(&mut out, format_args!("Content-Length: {length}\r\n")),
            BodyFraming::Chunked => push(&mut out, "Transfer-Encoding", b"chunked"),
            BodyFraming::None | BodyFraming::UntilClose => {}
        }
        out.extend_from_slice(b"\r\n");
        out
    }
}

const CORRELATION: &str = "x-ms-client-request-id";

/// The values of `Connection`.
fn connection<'a>(fields: impl Iterator<Item = Field<'a>>) -> impl Iterator<Item = &'a [u8]> {
    fields.filter(|(name, _)| name.eq_ignore_ascii_case("connection")).map(|(_, value)| value)
}

/// The head of an answer.
#[derive(Debug)]
pub struct AnswerHead<'a> {
    /// 100 or above.
    pub status: u16,
    reason: &'a str,
    /// In the order received.
    pub fields: Vec<Field<'a>>,
    /// The framing of the body.
    pub framing: BodyFraming,
    /// Whether a length stands beside the chunked coding, which overrides it (RFC 9112 §6.3).
    pub has_two_ends: bool,
    /// Whether the connection stays open after this answer.
    pub persists: bool,
}

impl<'a> AnswerHead<'a> {
    /// Parses a head and returns it with its length; `None` if it is incomplete. `bodiless`: it answers HEAD.
    ///
    /// # Errors
    /// It is malformed, or its framing is ambiguous.
    pub fn parse(bytes: &'a [u8], bodiless: bool) -> Result<Option<(Self, usize)>, &'static str> {
        let mut room = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut raw = httparse::Response::new(&mut room);
        let length = match raw.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err("the answer has too many header fields"),
            Err(_) => return Err("the answer is no HTTP"),
        };
        let status = raw.code.unwrap_or_default();
        // RFC 9110 §15.
        if status < 100 {
            return Err("the answer's status is less than 100");
        }
        let fields: Vec<Field<'a>> = raw.headers.iter().map(|field| (field.name, field.value)).collect();
        let framing = framing(status, bodiless, &fields)?;
        let closes = header::is_named_by(connection(fields.iter().copied()), "close");
        let has_length = fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let has_two_ends = framing == BodyFraming::Chunked && has_length;
        let persists = raw.version == Some(1) && !closes && framing != BodyFraming::UntilClose && !has_two_ends;
        let reason = raw.reason.unwrap_or_default();
        Ok(Some((Self { status, reason, fields, framing, has_two_ends, persists }, length)))
    }

    /// Appends the status line and the end-to-end fields, with links rewritten. Framing fields without a length, `Connection`
    /// and the empty line are left to the caller.
    pub fn write(&self, out: &mut Vec<u8>, links: &LinkRewrite) {
        write_all(out, format_args!("HTTP/1.1 {} {}\r\n", self.status, self.reason));
        for (name, value) in &self.fields {
            let length = name.eq_ignore_ascii_case("content-length");
            let stays = header::is_hop_by_hop(name)
                || header::is_named_by(connection(self.fields.iter().copied()), name) && !length;
            if stays || header::is_refusal_mark(name) || length && !self.has_length() {
                continue;
            }
            match links.rewritten(name, value) {
                Some(link) => push(out, name, link.as_bytes()),
                None => push(out, name, value),
            }
        }
    }

    /// Whether `Content-Length` is forwarded. In answers to HEAD and in 304 it describes the answer to GET (RFC 9110 §8.6).
    fn has_length(&self) -> bool {
        match self.framing {
            BodyFraming::None => self.status != 204 && self.status >= 200,
            BodyFraming::Length(_) => true,
            BodyFraming::Chunked | BodyFraming::UntilClose => false,
        }
    }

    /// Appends `Date` and the correlation id if the API sent none.
    pub fn complete(&self, out: &mut Vec<u8>, date: &[u8; HTTP_LEN], correlation_id: &str) {
        let has = |wanted: &str| self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        if !has("date") {
            push(out, "Date", date);
        }
        if !has(CORRELATION) {
            push(out, CORRELATION, correlation_id.as_bytes());
        }
    }
}

/// The part of an answer's body that has not arrived yet.
#[derive(Debug)]
pub enum AnswerBody {
    /// So many bytes.
    Length(u64),
    Chunked(Box<Decoder>),
    /// Everything up to the end of the connection.
    UntilClose,
    /// None.
    Done,
}

impl AnswerBody {
    pub fn new(framing: BodyFraming) -> Self {
        match framing {
            BodyFraming::None | BodyFraming::Length(0) => Self::Done,
            BodyFraming::Length(length) => Self::Length(length),
            BodyFraming::Chunked => Self::Chunked(Box::default()),
            BodyFraming::UntilClose => Self::UntilClose,
        }
    }

    /// How many bytes are missing, if that is known.
    pub const fn length(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            _ => None,
        }
    }

    pub const fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Appends the part of `input` that belongs to the body, without its transfer coding. Returns how much of `input`
    /// that was.
    ///
    /// # Errors
    /// The chunks are malformed, or go beyond the bounds.
    pub fn take(&mut self, input: &[u8], out: &mut Vec<u8>, bounds: Bounds) -> Result<usize, ChunkError> {
        let used = match self {
            Self::Done => 0,
            Self::UntilClose => input.len(),
            Self::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX).min(input.len()),
            Self::Chunked(decoder) => {
                let used = decoder.decode(input, out, bounds)?;
                if decoder.is_done() {
                    *self = Self::Done;
                }
                return Ok(used);
            }
        };
        out.extend_from_slice(&input[..used]);
        self.count(used);
        Ok(used)
    }

    /// Counts bytes of a length that were read into place.
    pub fn count(&mut self, received: usize) {
        if let Self::Length(left) = self {
            *left = left.saturating_sub(received as u64);
            if *left == 0 {
                *self = Self::Done;
            }
        }
    }

    /// Notes the end of the connection. False if the body is not complete.
    pub fn end(&mut self) -> bool {
        if matches!(self, Self::UntilClose) {
            *self = Self::Done;
        }
        self.is_done()
    }
}

/// The framing of an answer's body. Anything that two readers could read differently is refused (RFC 9112 §6.3, §11.2).
fn framing(status: u16, bodiless: bool, fields: &[Field<'_>]) -> Result<BodyFraming, &'static str> {
    let all = |wanted: &'static str| fields.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted));
    let (mut lengths, mut codings) = (all("content-length"), all("transfer-encoding"));
    let (length, coding) = (lengths.next(), codings.next());
    if lengths.next().is_some() || codings.next().is_some() {
        return Err(TWO_ENDS);
    }
    let length = match length {
        Some((_, digits)) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            Some(number.ok_or("the length of the answer is beyond measure")?)
        }
        Some(_) => return Err("the length of the answer is no number"),
        None => None,
    };
    Ok(match (coding, length) {
        _ if bodiless || status < 200 || matches!(status, 204 | 304) => BodyFraming::None,
        (Some((_, coding)), _) if coding.eq_ignore_ascii_case(b"chunked") => BodyFraming::Chunked,
        (Some(_), _) => return Err("the transfer coding of the answer is unknown"),
        (None, Some(0)) => BodyFraming::Length(0),
        (None, Some(length)) => BodyFraming::Length(length),
        (None, None) => BodyFraming::UntilClose,
    })
}

/// Fields whose value is a link, which clients follow or poll.
const LINKS: [&str; 4] = ["location", "content-location", "operation-location", "azure-asyncoperation"];

/// Turns links to the API into links through the sidecar.
#[derive(Debug)]
pub struct LinkRewrite {
    /// The API's origin.
    pub origin: Origin,
    /// The API's base path, without a trailing slash.
    pub base: String,
    /// The sidecar's URL for that base.
    pub here: String,
}

impl LinkRewrite {
    /// The new value of a link field, if it points to the base URL or below it.
    fn rewritten(&self, name: &str, value: &[u8]) -> Option<String> {
        if !LINKS.iter().any(|link| link.eq_ignore_ascii_case(name)) {
            return None;
        }
        let text = std::str::from_utf8(value).ok()?;
        let authority = text.find("://")? + 3;
        let end = text[authority..].find(['/', '?', '#']).map_or(text.len(), |at| authority + at);
        let (origin, rest) = text.split_at(end);
        if Url::parse(origin).ok()?.origin != self.origin {
            return None;
        }
        let rest = rest.strip_prefix(&self.base)?;
        (rest.is_empty() || rest.starts_with(['/', '?'])).then(|| format!("{}{rest}", self.here))
    }
}

fn write_all(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // Cannot fail.
    let _ = out.write_fmt(text);
}

fn push(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        String::from_utf8_lossy(bytes).split_terminator("\r\n").map(str::to_owned).collect()
    }

    fn request(fields: &[Field<'_>], kept: &[&str], configured: &[(&str, &str)], framing: BodyFraming) -> Vec<String> {
        let url = Url::parse("https://api.example:8443/v1").unwrap();
        let kept: Vec<String> = kept.iter().map(|name| (*name).to_owned()).collect();
        let configured = configured.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let head = RequestHead {
            method: "GET",
            url: &url,
            to_proxy: None,
            fields: fields.iter().copied(),
            kept: &kept,
            configured: &configured,
            authorization: "Bearer t",
            correlation_id: "id",
            replaces_id: false,
            framing,
        };
        let lines = lines(&head.write());
        assert_eq!(lines[0], "GET /v1 HTTP/1.1");
        lines[1..].to_vec()
    }

    const OWN: [&str; 3] = ["x-ms-client-request-id: id", "Authorization: Bearer t", ""];

    #[test]
    fn a_request_loses_connection_fields_and_credentials() {
        let fields: Vec<Field<'_>> = [
            "Host", "Authorization", "Expect", "Forwarded", "Via", "X-Forwarded-For", "X-Real-IP", "Cookie",
            "X-Sidecar-Options", "X-Sidecar-Token", "API-Key", "x-api-key", "ocp-apim-subscription-key",
            "X-Functions-Key", "x-ms-authorization-auxiliary", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding",
            "Upgrade", "Proxy-Authorization", "Proxy-Connection", "Content-Length", "X-Named",
        ]
        .into_iter()
        .map(|name| (name, &b"of-the-caller"[..]))
        .chain([("Connection", &b"close, X-Named ,authorization"[..]), ("Accept-Encoding", b"gzip"), ("X-Two", b"1")])
        .chain([("x-two", &b"\xe9"[..]), ("Accept", b"a")])
        .collect();
        let rest = ["Host: api.example:8443", "Accept-Encoding: gzip", "X-Two: 1", "x-two: \u{fffd}", "Accept: a"];
        assert_eq!(request(&fields, &[], &[], BodyFraming::None), [&rest[..], &OWN].concat());
        let kept = ["Cookie", "api-key"];
        let with_kept = request(&fields, &kept, &[("accept", "b")], BodyFraming::Length(3));
        assert_eq!(
            with_kept[1..],
            [
                "Cookie: of-the-caller", "API-Key: of-the-caller", "Accept-Encoding: gzip", "X-Two: 1",
                "x-two: \u{fffd}", "accept: b", OWN[0], OWN[1], "Content-Length: 3", ""
            ]
        );
    }

    #[test]
    fn the_callers_own_id_stays() {
        let own = [("X-MS-Client-Request-Id", &b"mine"[..])];
        let sent = request(&own, &[], &[], BodyFraming::Chunked);
        assert_eq!(sent[1..], ["X-MS-Client-Request-Id: mine", OWN[1], "Transfer-Encoding: chunked", ""]);
    }

    fn links() -> LinkRewrite {
        let origin = Url::parse("https://api.example/").unwrap().origin;
        LinkRewrite { origin, base: "/v1".into(), here: "http://localhost:5000/Proxy/a".into() }
    }

    /// The lines of an answer as it goes on, and where its body ends.
    fn answer(head: &str, bodiless: bool) -> Result<(Vec<String>, BodyFraming, bool), &'static str> {
        let text = format!("HTTP/1.1 {head}\r\n\r\nrest");
        let (parsed, length) = AnswerHead::parse(text.as_bytes(), bodiless)?.unwrap();
        if parsed.has_two_ends {
            return Err(TWO_ENDS);
        }
        assert_eq!(&text[length..], "rest");
        let mut out = Vec::new();
        parsed.write(&mut out, &links());
        Ok((lines(&out), parsed.framing, parsed.persists))
    }

    #[test]
    fn an_answer_keeps_all_but_connection_fields() {
        let head = "299 All fine\r\nServer: x\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: keep-alive, X-Gone\r\n\
                    X-Gone: 1\r\nKeep-Alive: 5\r\nX-Sidecar-Error: 1\r\nProxy-Authenticate: Basic\r\nContent-Length: 07";
        let (sent, framing, persists) = answer(head, false).unwrap();
        let expected =
            ["HTTP/1.1 299 All fine", "Server: x", "set-cookie: a=1", "Set-Cookie: b=2", "Content-Length: 07"];
        assert_eq!(
            (sent.as_slice(), framing, persists),
            (&expected.map(str::to_owned)[..], BodyFraming::Length(7), true)
        );
    }

    #[test]
    fn an_answer_ends_where_http_says() {
        let (length, chunks) = ("\r\nContent-Length: 5", "\r\nTransfer-Encoding: Chunked");
        for (status, fields, bodiless, framing, has_length) in [
            ("200 OK", length, false, BodyFraming::Length(5), true),
            ("200 OK", length, true, BodyFraming::None, true),
            ("304 Not Modified", length, false, BodyFraming::None, true),
            ("204 No Content", length, false, BodyFraming::None, false),
            ("200 OK", chunks, false, BodyFraming::Chunked, false),
            ("200 OK", "", false, BodyFraming::UntilClose, false),
            ("103 Early Hints", length, false, BodyFraming::None, false),
        ] {
            let (sent, seen, persists) = answer(&format!("{status}{fields}"), bodiless).unwrap();
            let said = sent.iter().any(|line| line.starts_with("Content-Length"));
            let case = format!("{status}{fields} {bodiless}");
            assert_eq!((seen, said, persists), (framing, has_length, framing != BodyFraming::UntilClose), "{case}");
        }
        for fields in [
            [length, length].concat(),
            [length, chunks].concat(),
            [chunks, chunks].concat(),
            "\r\nContent-Length: 5, 5".to_owned(),
            "\r\nContent-Length: +5".to_owned(),
            "\r\nContent-Length: 99999999999999999999".to_owned(),
            "\r\nTransfer-Encoding: gzip, chunked".to_owned(),
            "\r\n folded: 1".to_owned(),
        ] {
            assert!(answer(&format!("200 OK{fields}"), false).is_err(), "{fields}");
        }
        assert!(AnswerHead::parse(b"HTTP/1.1 200 OK\r\nA: b\r\n", false).unwrap().is_none());
        for line in ["SSH-2.0-x", "HTTP/1.1 000 No", "HTTP/1.1 099 No", "HTTP/1.1 99 No", "HTTP/1.1 1000 No"] {
            assert!(AnswerHead::parse(format!("{line}\r\n\r\n").as_bytes(), false).is_err(), "{line}");
        }
    }

    #[test]
    fn links_below_the_base_lead_through_the_sidecar() {
        for (value, rewritten) in [
            ("https://api.example/v1", Some("")),
            ("https://API.example:443/v1/x/y?z=1#f", Some("/x/y?z=1#f")),
            ("https://api.example/v1?x", Some("?x")),
            ("https://api.example/v1/", Some("/")),
            ("https://api.example/v12", None),
            ("https://api.example/", None),
            ("https://api.example.evil/v1/x", None),
            ("https://api.example@evil/v1/x", None),
            ("http://api.example/v1/x", None),
            ("/v1/x", None),
            ("x", None),
        ] {
            let here = rewritten.map(|rest| format!("http://localhost:5000/Proxy/a{rest}"));
            for name in ["Location", "Content-Location", "Operation-Location", "Azure-AsyncOperation"] {
                let (sent, ..) = answer(&format!("201 Created\r\n{name}: {value}"), false).unwrap();
                assert_eq!(sent[1], format!("{name}: {}", here.as_deref().unwrap_or(value)), "{name} {value}");
            }
            let (sent, ..) = answer(&format!("201 Created\r\nLink: {value}"), false).unwrap();
            assert_eq!(sent[1], format!("Link: {value}"));
        }
    }
}
