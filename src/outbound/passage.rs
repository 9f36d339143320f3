//! The heads of a request that passes through and of its answer: what of them goes on, and what is put in.
//!
//! What belongs to one connection stays on it, what `Connection` names included, and is taken out before anything is put
//! in (RFC 9110 §7.6.1): a caller that names `authorization` there takes out its own field and no other.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::value::date::HTTP_LEN;
use crate::value::header;
use crate::value::url::{Origin, Url};

/// As many as an API may send.
const MAX_FIELDS: usize = 256;

/// A field as it came.
pub type Field<'a> = (&'a str, &'a [u8]);

/// Where a body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// Where the connection ends; answers only.
    UntilClose,
}

/// What of a request the head is made of that goes on.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// Where it goes.
    pub url: &'a Url,
    /// As they came.
    pub fields: &'a [Field<'a>],
    /// Credentials of the caller's own that go along.
    pub kept: &'a [String],
    /// Fields that replace the caller's of that name, which is in lower case.
    pub configured: &'a BTreeMap<String, String>,
    /// The value with the token.
    pub authorization: &'a str,
    /// For a caller that sent none.
    pub correlation_id: &'a str,
    /// Of the body, which goes on in the same way.
    pub extent: Extent,
}

impl RequestHead<'_> {
    /// The fields as they are sent, with the empty line.
    pub fn write(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(2048 + self.authorization.len()));
        let origin = self.url.origin.to_string();
        push(&mut out, "Host", origin.split_once("://").map_or("", |(_, host)| host).as_bytes());
        let stays = Named::by(self.fields);
        let replaced = |name: &str| self.configured.keys().any(|own| own.eq_ignore_ascii_case(name));
        let mut identified = self.configured.contains_key(CORRELATION);
        for (name, value) in self.fields {
            if header::is_passed(name, self.kept) && !stays.contains(name) && !replaced(name) {
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
        match self.extent {
            Extent::Length(length) => push(&mut out, "Content-Length", length.to_string().as_bytes()),
            Extent::Chunked => push(&mut out, "Transfer-Encoding", b"chunked"),
            Extent::None | Extent::UntilClose => {}
        }
        out.extend_from_slice(b"\r\n");
        out
    }
}

/// The id that follows a request through every log.
const CORRELATION: &str = "x-ms-client-request-id";

/// What `Connection` names.
struct Named<'a>(Vec<&'a [u8]>);

impl<'a> Named<'a> {
    fn by(fields: &[Field<'a>]) -> Self {
        let own = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("connection"));
        Self(own.flat_map(|(_, value)| value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)).collect())
    }

    fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|own| own.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// The head of an answer.
#[derive(Debug)]
pub struct AnswerHead<'a> {
    /// From 100 on.
    pub status: u16,
    reason: &'a str,
    /// As they came.
    pub fields: Vec<Field<'a>>,
    /// Of the body that follows.
    pub extent: Extent,
    /// Whether the connection serves another request after this one.
    pub persists: bool,
}

impl<'a> AnswerHead<'a> {
    /// Reads a head that may not have come whole yet: then `None`. With its length. `bodiless`: it answers HEAD.
    ///
    /// # Errors
    /// It is no answer whose end is certain.
    pub fn parse(bytes: &'a [u8], bodiless: bool) -> Result<Option<(Self, usize)>, &'static str> {
        let mut room = vec![httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut raw = httparse::Response::new(&mut room);
        let length = match raw.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err("the answer has too many header fields"),
            Err(_) => return Err("the answer is no HTTP"),
        };
        let status = raw.code.unwrap_or_default();
        let fields: Vec<Field<'a>> = raw.headers.iter().map(|field| (field.name, field.value)).collect();
        let extent = extent(status, bodiless, &fields)?;
        let closes = Named::by(&fields).contains("close");
        let persists = raw.version == Some(1) && !closes && extent != Extent::UntilClose;
        Ok(Some((Self { status, reason: raw.reason.unwrap_or_default(), fields, extent, persists }, length)))
    }

    /// Appends it as it goes on: all that is not about the connection, addresses below the API's as `links` has them.
    /// The caller adds what is about its own connection, and the empty line.
    pub fn write(&self, out: &mut Vec<u8>, links: &Links) {
        out.extend_from_slice(format!("HTTP/1.1 {} {}\r\n", self.status, self.reason).as_bytes());
        let stays = Named::by(&self.fields);
        for (name, value) in &self.fields {
            let lower = name.to_ascii_lowercase();
            let length = lower == "content-length";
            let stays_here = header::is_hop_by_hop(&lower) || stays.contains(name) && !length;
            if stays_here || lower.starts_with("x-sidecar-error") || length && !self.has_length() {
                continue;
            }
            match links.rewritten(&lower, value) {
                Some(link) => push(out, name, link.as_bytes()),
                None => push(out, name, value),
            }
        }
    }

    /// Whether a length stands in the head: of what follows, or of what a GET would have got (RFC 9110 §8.6).
    fn has_length(&self) -> bool {
        match self.extent {
            Extent::None => self.status != 204 && self.status >= 200,
            Extent::Length(_) => true,
            Extent::Chunked | Extent::UntilClose => false,
        }
    }

    /// Appends the fields that no answer is without, where the API sent none.
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

/// Where the body of an answer ends. Two readers must not see two ends (RFC 9112 §6.3, §11.2).
fn extent(status: u16, bodiless: bool, fields: &[Field<'_>]) -> Result<Extent, &'static str> {
    let all = |wanted: &'static str| fields.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted));
    let (mut lengths, mut codings) = (all("content-length"), all("transfer-encoding"));
    let (length, coding) = (lengths.next(), codings.next());
    if lengths.next().is_some() || codings.next().is_some() || length.is_some() && coding.is_some() {
        return Err("the answer says twice where it ends");
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
        _ if bodiless || status < 200 || matches!(status, 204 | 304) => Extent::None,
        (Some((_, coding)), _) if coding.eq_ignore_ascii_case(b"chunked") => Extent::Chunked,
        (Some(_), _) => return Err("the transfer coding of the answer is unknown"),
        (None, Some(0)) => Extent::Length(0),
        (None, Some(length)) => Extent::Length(length),
        (None, None) => Extent::UntilClose,
    })
}

/// Addresses of the API, and where they lead under the program.
#[derive(Debug)]
pub struct Links {
    /// The API's.
    pub origin: Origin,
    /// The base path, without slash at its end.
    pub base: String,
    /// The absolute URL under the program that stands for it.
    pub here: String,
}

impl Links {
    /// The value in which the base URL, or what goes on from it, leads here. `name` is in lower case.
    fn rewritten(&self, name: &str, value: &[u8]) -> Option<String> {
        if !matches!(name, "location" | "content-location" | "operation-location" | "azure-asyncoperation") {
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

fn push(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}
