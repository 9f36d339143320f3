//! An HTTP/1.1 answer as it arrives: its heads, what delimits its body (RFC 9112 §6.3), and the bytes in between.

use std::io;
use std::mem::{self, MaybeUninit};

use zeroize::{Zeroize as _, Zeroizing};

use super::buffers;
use crate::value::chunked::{Bounds, ChunkError, Decoder};
use crate::value::header;
use crate::value::quantity::digits;

pub const TWO_ENDS: &str = "the answer says twice where it ends";

pub const TRAILERS_TOO_LONG: &str = "the trailers of the answer are too long";
const TOO_LONG: &str = "the head of the answer is too long";

/// Bytes of an answer's head at most, and read at once of what has to be parsed.
pub const INPUT: usize = 32 * 1024;
/// Header fields that an API may send.
const MAX_FIELDS: usize = 256;

/// A field's name and value as received.
pub type Field<'a> = (&'a str, &'a [u8]);

/// How a body is delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    None,
    Length(u64),
    Chunked,
    /// By the end of the connection; answers only.
    UntilClose,
}

impl BodyFraming {
    /// Whether no bytes of a body come.
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// Whether `Connection` names this field or option (RFC 9110 §7.6.1).
pub(super) fn connection_names<'a>(fields: impl Iterator<Item = Field<'a>>, name: &str) -> bool {
    let connection = fields.filter(|(own, _)| own.eq_ignore_ascii_case("connection"));
    header::is_named_by(connection.map(|(_, value)| value), name)
}

#[derive(Debug)]
pub struct AnswerHead<'a> {
    /// 100 or above.
    pub status: u16,
    pub(super) reason: &'a str,
    /// In the order received.
    pub fields: Vec<Field<'a>>,
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
        let mut room = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut raw = httparse::Response::new(&mut []);
        // A blank before the colon is removed, as a proxy has to (RFC 9112 §5.1).
        let mut rules = httparse::ParserConfig::default();
        rules.allow_spaces_after_header_name_in_responses(true);
        let length = match rules.parse_response_with_uninit_headers(&mut raw, bytes, &mut room) {
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
        if status == 101 {
            return Err("answered 101 to a request without an upgrade");
        }
        let fields: Vec<Field<'a>> = raw.headers.iter().map(|field| (field.name, field.value)).collect();
        let framing = framing(status, bodiless, &fields)?;
        let closes = connection_names(fields.iter().copied(), "close");
        let has_length = fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let has_two_ends = framing == BodyFraming::Chunked && has_length;
        let persists = raw.version == Some(1) && !closes && framing != BodyFraming::UntilClose && !has_two_ends;
        let reason = raw.reason.unwrap_or_default();
        Ok(Some((Self { status, reason, fields, framing, has_two_ends, persists }, length)))
    }
}

/// Where the bytes of an answer come from.
pub trait Source {
    /// Reads into the spare capacity of `into`, which must not be empty. `None`: nothing has arrived; `Some(0)`: the
    /// connection has ended.
    ///
    /// # Errors
    /// The connection is broken, or TLS ended without its closing alert.
    fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<Option<usize>>;
}

#[derive(Clone, Copy, Debug, Default)]
enum Content {
    #[default]
    Plain,
    /// Tokens or keys, which are wiped before their buffer is given back.
    Secret,
}

/// An answer as far as it has arrived.
#[derive(Default)]
pub struct Incoming {
    /// Received, of which the bytes up to `at` were parsed.
    inbox: Zeroizing<Vec<u8>>,
    at: usize,
    content: Content,
    /// What was not parsed is the start of a head.
    is_partial: bool,
    /// `None` until the final head has arrived.
    body: Option<AnswerBody>,
    /// Whether the connection stays open after this answer, and nothing came behind it.
    persists: bool,
    /// Whether any bytes have arrived.
    pub heard: bool,
}

impl Incoming {
    /// An answer that holds tokens or keys.
    pub fn secret() -> Self {
        Self { content: Content::Secret, ..Self::default() }
    }

    /// `begun` was received before, and begins with a head.
    pub fn begun(begun: Vec<u8>) -> Self {
        Self { heard: !begun.is_empty(), inbox: Zeroizing::new(begun), ..Self::default() }
    }

    /// Bytes that were received and not parsed.
    pub fn unparsed(&self) -> &[u8] {
        &self.inbox[self.at..]
    }

    pub fn is_done(&self) -> bool {
        self.body.as_ref().is_some_and(AnswerBody::is_done)
    }

    /// Whether nothing but the last chunk or the end of the connection ends what is missing of the body.
    pub const fn lacks_length(&self) -> bool {
        matches!(self.body, Some(AnswerBody::Chunked(_) | AnswerBody::UntilClose))
    }

    /// Whether the connection can serve another request. Bytes behind a complete answer belong to no request.
    pub fn is_clean(&self) -> bool {
        self.is_done() && self.persists && self.unparsed().is_empty()
    }

    /// How many bytes of the body come next, if they need no parsing and can be received into place.
    pub fn plain(&self) -> Option<usize> {
        match self.body {
            Some(AnswerBody::Length(left)) if self.unparsed().is_empty() => {
                Some(usize::try_from(left).unwrap_or(usize::MAX))
            }
            _ => None,
        }
    }

    /// Receives plain bytes of the body into the spare capacity of `out`. `None`: nothing has arrived; `Some(0)`: the
    /// connection has ended.
    pub fn receive_plain(&mut self, connection: &mut impl Source, out: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let received = connection.receive(out)?;
        if let (Some(received), Some(body)) = (received, &mut self.body) {
            let behind = body.count(received);
            self.persists &= behind == 0;
            out.truncate(out.len() - behind);
        }
        Ok(received)
    }

    /// Receives what has to be parsed, unless there is something to parse. `None`: nothing has arrived; `Some(0)`: the
    /// connection has ended.
    pub fn receive(&mut self, connection: &mut impl Source) -> io::Result<Option<usize>> {
        let rest = self.unparsed().len();
        if rest > 0 && !self.is_partial {
            return Ok(Some(rest));
        }
        self.inbox.drain(..self.at);
        self.at = 0;
        buffers::reserve(&mut self.inbox, INPUT.saturating_sub(rest));
        let received = connection.receive(&mut self.inbox)?;
        self.heard |= received.is_some_and(|received| received > 0);
        self.parsed(0);
        Ok(received)
    }

    /// Has `look` see each head that has arrived, with its length, up to the final one, behind which the body begins. Stops
    /// before a head for which it returns something.
    ///
    /// # Errors
    /// A head is malformed or too long, or its framing is ambiguous.
    pub fn heads<T>(
        &mut self,
        bodiless: bool,
        mut look: impl FnMut(&AnswerHead<'_>, usize) -> Option<T>,
    ) -> Result<Option<T>, &'static str> {
        while let Some((head, length)) = AnswerHead::parse(&self.inbox[self.at..], bodiless)? {
            if length > INPUT {
                return Err(TOO_LONG);
            }
            let found = look(&head, length);
            if found.is_some() {
                return Ok(found);
            }
            let is_final = head.status >= 200;
            if is_final {
                (self.body, self.persists) = (Some(AnswerBody::new(head.framing)), head.persists);
            }
            self.is_partial = false;
            self.parsed(length);
            if is_final {
                return Ok(None);
            }
        }
        self.is_partial = true;
        if self.unparsed().len() >= INPUT { Err(TOO_LONG) } else { Ok(None) }
    }

    /// Appends the part of the body that was received.
    ///
    /// # Errors
    /// The chunks are malformed, or go beyond the bounds.
    pub fn take_body(&mut self, out: &mut Vec<u8>, bounds: Bounds) -> Result<(), ChunkError> {
        let Some(body) = &mut self.body else { return Ok(()) };
        let used = body.take(&self.inbox[self.at..], out, bounds)?;
        self.parsed(used);
        Ok(())
    }

    /// Notes the end of the connection. False if the answer is not complete.
    pub fn end(&mut self) -> bool {
        self.body.as_mut().is_some_and(AnswerBody::end)
    }

    fn parsed(&mut self, bytes: usize) {
        self.at += bytes;
        if self.at == self.inbox.len() {
            match self.content {
                Content::Plain => self.inbox.clear(),
                Content::Secret => self.inbox.zeroize(),
            }
            self.at = 0;
            buffers::give_back(&mut self.inbox);
        }
    }

    /// What was received and not parsed, for another attempt to read it.
    pub fn into_unparsed(mut self) -> Vec<u8> {
        self.inbox.drain(..self.at);
        mem::take(&mut *self.inbox)
    }
}

/// The part of an answer's body that has not arrived yet.
enum AnswerBody {
    Length(u64),
    Chunked(Box<Decoder>),
    /// Everything up to the end of the connection.
    UntilClose,
    Done,
}

impl AnswerBody {
    fn new(framing: BodyFraming) -> Self {
        match framing {
            BodyFraming::None | BodyFraming::Length(0) => Self::Done,
            BodyFraming::Length(length) => Self::Length(length),
            BodyFraming::Chunked => Self::Chunked(Box::default()),
            BodyFraming::UntilClose => Self::UntilClose,
        }
    }

    const fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Appends the part of `input` that belongs to the body, without its transfer coding. Returns how much of `input`
    /// that was.
    fn take(&mut self, input: &[u8], out: &mut Vec<u8>, bounds: Bounds) -> Result<usize, ChunkError> {
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

    /// Counts bytes of a length, and returns how many came behind it.
    fn count(&mut self, received: usize) -> usize {
        let Self::Length(left) = self else { return 0 };
        let own = usize::try_from(*left).unwrap_or(usize::MAX).min(received);
        *left -= own as u64;
        if *left == 0 {
            *self = Self::Done;
        }
        received - own
    }

    /// Notes the end of the connection. False if the body is not complete.
    fn end(&mut self) -> bool {
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
        Some((_, value)) => {
            let number = std::str::from_utf8(value).ok().and_then(digits);
            Some(number.ok_or("the length of the answer is no number, or beyond measure")?)
        }
        None => None,
    };
    Ok(match (coding, length) {
        _ if bodiless || status < 200 || matches!(status, 204 | 304) => BodyFraming::None,
        (Some((_, coding)), _) if coding.eq_ignore_ascii_case(b"chunked") => BodyFraming::Chunked,
        (Some(_), _) => return Err("the transfer coding of the answer is unknown"),
        (None, Some(length)) => BodyFraming::Length(length),
        (None, None) => BodyFraming::UntilClose,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statuses of the heads, the body, and whether the connection can serve another request.
    fn received(bytes: &str) -> Result<(Vec<u16>, String, bool), &'static str> {
        let mut answer = Incoming::begun(bytes.as_bytes().to_vec());
        let (mut seen, mut body) = (Vec::new(), Vec::new());
        let stopped: Option<()> = answer.heads(false, |head, _| {
            seen.push(head.status);
            None
        })?;
        assert!(stopped.is_none());
        answer.take_body(&mut body, Bounds { body: 100, trailers: 100 }).unwrap();
        Ok((seen, String::from_utf8(body).unwrap(), answer.is_clean()))
    }

    #[test]
    fn interim_heads_come_first_and_nothing_comes_behind() {
        let (early, length) =
            ("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
        for (bytes, seen, body, clean) in [
            (format!("{early}{early}{length}ab"), vec![103, 103, 200], "ab", true),
            (format!("{length}a"), vec![200], "a", false),
            (format!("{length}abc"), vec![200], "ab", false),
            (chunked.to_owned(), vec![200], "ab", true),
            (format!("{chunked}{length}"), vec![200], "ab", false),
            ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), vec![204], "", true),
            ("HTTP/1.1 204 No Content\r\n\r\nx".to_owned(), vec![204], "", false),
            (early.to_owned(), vec![103], "", false),
        ] {
            assert_eq!(received(&bytes), Ok((seen, body.to_owned(), clean)), "{bytes}");
        }
        assert!(received("HTTP/1.1 101 Switching Protocols\r\n\r\n").is_err());
    }

    #[test]
    fn a_head_is_bounded_whether_it_is_complete_or_not() {
        let head = |length: usize| format!("HTTP/1.1 204 {}\r\n\r\n", "-".repeat(length - 17));
        for (length, cut, good) in
            [(INPUT, 0, true), (INPUT + 1, 0, false), (INPUT + 1, 2, true), (INPUT + 1, 1, false)]
        {
            let bytes = &head(length)[..length - cut];
            assert_eq!((bytes.len(), received(bytes).is_ok()), (length - cut, good));
        }
    }
}
