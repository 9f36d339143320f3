//! Assembles requests from the pieces they arrive in. A request that arrived in one piece is used
//! in place. Only an incomplete one is copied, so an idle connection holds no memory. The head is
//! handed on before the body is complete, so that a request can be refused without reading its
//! body.

use std::cell::RefCell;

use super::head::{Fields, Framing, Head};
use super::message::Body;
use super::request_error::RequestError;
use super::scan::{HeadEnd, Scanner};
use crate::config::Limits;
use crate::memory::{HeldBody, Reservation};
use crate::value::chunked::{Bounds, ChunkError, Decoder};

/// Bodies grow from this size by doubling, so a declared length alone takes no memory.
const FIRST_BODY_ROOM: usize = 4096;
/// Bodies of undeclared length reserve memory in steps of this size.
const RESERVED_AT_ONCE: usize = 256 * 1024;

/// One request, as far as it has arrived.
#[derive(Debug, Default)]
pub struct RequestReader {
    /// The head, if part of it had to be copied.
    head: Vec<u8>,
    part: Part,
    /// The decoded body, until the handler takes it.
    body: RefCell<Option<HeldBody>>,
}

#[derive(Debug)]
enum Part {
    Head(Scanner),
    /// The head is complete. Waits for [`RequestReader::expect`].
    Judged(HeadEnd, Rest),
    Body(HeadEnd, Rest, Keep),
    Whole(HeadEnd, usize),
}

impl Default for Part {
    fn default() -> Self {
        Self::Head(Scanner::default())
    }
}

/// How much of a body is still missing.
#[derive(Debug)]
enum Rest {
    Bytes(usize),
    Chunks(Decoder),
}

impl Rest {
    const fn length(&self) -> Option<usize> {
        match self {
            Self::Bytes(length) => Some(*length),
            Self::Chunks(_) => None,
        }
    }

    /// Appends the part of `input` that belongs to the body, or drops it. Returns its length, and whether the body ends with
    /// it.
    fn take(&mut self, input: &[u8], out: Option<&mut Vec<u8>>, bounds: Bounds) -> Result<(usize, bool), RequestError> {
        match self {
            Self::Bytes(missing) => {
                let taken = input.len().min(*missing);
                if let Some(out) = out {
                    out.extend_from_slice(&input[..taken]);
                }
                *missing -= taken;
                Ok((taken, *missing == 0))
            }
            Self::Chunks(decoder) => {
                let taken = decoder.decode(input, out.unwrap_or(&mut Vec::new()), bounds);
                let taken = taken.map_err(|error| match error {
                    ChunkError::Malformed(what) => RequestError::Malformed(what),
                    ChunkError::TooLarge => RequestError::BodyTooLarge { limit: bounds.body, configured: true },
                    ChunkError::TrailersTooLarge => RequestError::HeadTooLarge { limit: bounds.trailers },
                })?;
                Ok((taken, decoder.is_done()))
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Read it for the handler.
    Yes,
    /// The same, as long as it has no more bytes than this.
    UpTo(usize),
    /// Read and drop it, so that the connection can be used again.
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Nothing,
    Head,
    /// The head, and part of the body.
    Body,
    Whole,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Fed<R> {
    /// All bytes were used, and the request is not complete.
    More,
    /// The head is complete and was handed on, the body is not. [`RequestReader::expect`] starts
    /// reading the body.
    Head {
        /// Bytes used. The body begins after them.
        used: usize,
        /// The value that `receive` returned.
        result: R,
        /// The caller waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
        continue_expected: bool,
    },
    /// The request is complete and was handed on.
    Request {
        /// Bytes used. The next request begins after them.
        used: usize,
        /// For [`RequestReader::keep`].
        head: HeadEnd,
        /// The value that `receive` returned.
        result: R,
    },
}

impl RequestReader {
    pub fn progress(&self) -> Progress {
        match &self.part {
            Part::Whole(..) => Progress::Whole,
            Part::Body(..) | Part::Judged(..) => Progress::Body,
            Part::Head(_) if self.head.is_empty() => Progress::Nothing,
            Part::Head(_) => Progress::Head,
        }
    }

    /// Takes bytes in. Calls `receive` once for a complete request, after which [`Self::finish`] or
    /// [`Self::keep`] has to follow, and once for a head whose body is not complete.
    pub fn feed<R>(
        &mut self,
        input: &[u8],
        limits: &Limits,
        receive: impl FnOnce(&Head<'_>, Body<'_>) -> R,
    ) -> Result<Fed<R>, RequestError> {
        let Part::Head(scanner) = &mut self.part else { return self.feed_body(input, limits, receive) };
        let in_place = self.head.is_empty();
        if !in_place {
            self.head.extend_from_slice(input);
        }
        let Some(end) = scanner.scan(if in_place { input } else { &self.head }, limits)? else {
            if in_place {
                self.head.extend_from_slice(input);
            }
            return Ok(Fed::More);
        };
        // Earlier bytes did not contain the end of the head, so what follows it is all in `input`.
        let body_at = if in_place { end.bytes } else { input.len() - (self.head.len() - end.bytes) };
        self.head.truncate(end.bytes);
        let mut fields = Fields::with_room_for(end.fields);
        let head = Head::parse(if in_place { &input[..end.bytes] } else { &self.head }, &mut fields)?;
        let (rest, length) = match head.framing {
            Framing::Chunked => (Rest::Chunks(Decoder::default()), None),
            Framing::Length(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                (Rest::Bytes(length), Some(length))
            }
        };
        if let Some(length) = length
            && let Some(body) = length.checked_add(body_at).and_then(|end| input.get(body_at..end))
        {
            let result = receive(&head, Body::Whole(body));
            if !in_place {
                self.body.replace(Some(HeldBody::from(body.to_vec())));
                self.part = Part::Whole(end, length);
            }
            return Ok(Fed::Request { used: body_at + length, head: end, result });
        }
        let continue_expected = head.expects_continue && body_at == input.len();
        let result = receive(&head, Body::Expected(length));
        if in_place {
            self.head.extend_from_slice(&input[..end.bytes]);
        }
        self.part = Part::Judged(end, rest);
        Ok(Fed::Head { used: body_at, result, continue_expected })
    }

    /// Skips a chunked body that nobody reads, if all of it is here. Returns its length in `input`, else 0.
    pub fn skip(&mut self, input: &[u8], limits: &Limits) -> usize {
        let Part::Judged(end, rest @ Rest::Chunks(_)) = &mut self.part else { return 0 };
        match rest.take(input, None, limits.bounds()) {
            Ok((taken, true)) => {
                self.part = Part::Whole(*end, 0);
                taken
            }
            _ => 0,
        }
    }

    /// Starts reading the body after its head. `reservation` is the memory for it.
    pub fn expect(&mut self, keep: Keep, reservation: Reservation) {
        if let Part::Judged(end, rest) = std::mem::take(&mut self.part) {
            self.part = Part::Body(end, rest, keep);
            self.body.replace(Some(HeldBody { bytes: Vec::new(), reservation: Some(reservation) }));
        }
    }

    /// The declared length. `None` for a chunked body.
    pub fn declared(&self) -> Option<usize> {
        match &self.part {
            Part::Judged(_, rest) => rest.length(),
            _ => None,
        }
    }

    /// Extends the reservation for `further` more bytes. `Err`: the total size for which there is
    /// no memory.
    pub fn reserve(&mut self, further: usize, limits: &Limits) -> Result<(), usize> {
        let Part::Body(_, rest, Keep::Yes | Keep::UpTo(_)) = &self.part else { return Ok(()) };
        let Some(HeldBody { bytes, reservation: Some(reservation) }) = self.body.get_mut() else { return Ok(()) };
        let size = bytes.len() + further;
        if size <= reservation.covers() {
            return Ok(());
        }
        let size = match rest {
            Rest::Chunks(_) if size > crate::memory::FREE => {
                size.next_multiple_of(RESERVED_AT_ONCE).min(limits.body_bytes.max(size))
            }
            _ => size,
        };
        if reservation.grow_to(size) { Ok(()) } else { Err(size) }
    }

    pub fn reservation(&mut self) -> Option<&mut Reservation> {
        self.body.get_mut().as_mut()?.reservation.as_mut()
    }

    fn feed_body<R>(
        &mut self,
        input: &[u8],
        limits: &Limits,
        receive: impl FnOnce(&Head<'_>, Body<'_>) -> R,
    ) -> Result<Fed<R>, RequestError> {
        let (taken, complete) = self.take_body(input, limits)?;
        match complete {
            None => Ok(Fed::More),
            Some(head) => {
                let length = self.body.get_mut().as_ref().map_or(0, |body| body.bytes.len());
                self.part = Part::Whole(head, length);
                let result = self.replay(receive)?;
                Ok(Fed::Request { used: taken, head, result })
            }
        }
    }

    /// Appends the part of `input` that belongs to the body. Returns its length, and the head if
    /// the body is complete.
    fn take_body(&mut self, input: &[u8], limits: &Limits) -> Result<(usize, Option<HeadEnd>), RequestError> {
        let Part::Body(head, rest, keep) = &mut self.part else { return Ok((0, None)) };
        let Some(HeldBody { bytes, .. }) = self.body.get_mut() else { return Ok((0, None)) };
        if let (Rest::Bytes(missing), Keep::Yes | Keep::UpTo(_)) = (&rest, &keep) {
            let taken = input.len().min(*missing);
            if bytes.capacity() - bytes.len() < taken {
                let room = (*missing).min(bytes.len().max(FIRST_BODY_ROOM));
                bytes.reserve_exact(room.max(taken));
            }
        }
        let out = Some(&mut *bytes).filter(|_| *keep != Keep::No);
        let (taken, done) = rest.take(input, out, limits.bounds())?;
        if let Keep::UpTo(limit) = *keep
            && bytes.len() > limit
        {
            return Err(RequestError::BodyTooLarge { limit, configured: false });
        }
        Ok((taken, done.then_some(*head)))
    }

    /// Appends to `out` the body bytes in `input`, without their transfer coding, and returns how much of `input` belonged
    /// to the body. A body that arrived with its head is appended at once, and nothing of `input` is used.
    pub fn read_body(&mut self, input: &[u8], out: &mut Vec<u8>, bounds: Bounds) -> Result<usize, RequestError> {
        if let Some(held) = self.body.get_mut().take() {
            out.extend_from_slice(&held.bytes);
        }
        let (Part::Judged(head, rest) | Part::Body(head, rest, _)) = &mut self.part else { return Ok(0) };
        let (taken, done) = rest.take(input, Some(out), bounds)?;
        if done {
            self.part = Part::Whole(*head, 0);
        }
        Ok(taken)
    }

    pub fn body_is_read(&mut self) -> bool {
        matches!(self.part, Part::Whole(..)) && self.body.get_mut().is_none()
    }

    /// The bytes of a head that was refused while `input` was read.
    pub fn head_so_far<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        if self.head.is_empty() { input } else { &self.head }
    }

    /// Hands on again what has arrived: a complete request, or a head without its body.
    pub fn replay<R>(&self, receive: impl FnOnce(&Head<'_>, Body<'_>) -> R) -> Result<R, RequestError> {
        let (end, body) = match &self.part {
            Part::Whole(end, length) => (end, Body::Held { body: &self.body, length: *length }),
            Part::Judged(end, rest) | Part::Body(end, rest, _) => (end, Body::Expected(rest.length())),
            Part::Head(_) => return Err(RequestError::Malformed("the request is not complete")),
        };
        let mut fields = Fields::with_room_for(end.fields);
        Ok(receive(&Head::parse(&self.head, &mut fields)?, body))
    }

    /// Keeps the request that was just handed on, for [`Self::replay`]. `input` is the buffer it
    /// may lie in.
    pub fn keep(&mut self, input: &[u8], head: HeadEnd) {
        if self.head.is_empty() {
            let (bytes, body) = input.split_at(head.bytes);
            self.head.extend_from_slice(bytes);
            self.body.replace((!body.is_empty()).then(|| HeldBody::from(body.to_vec())));
            self.part = Part::Whole(head, body.len());
        }
    }

    /// Forgets the request and frees its memory.
    pub fn finish(&mut self) {
        if !self.head.is_empty() {
            self.head = Vec::new();
            self.body = RefCell::default();
        }
        self.part = Part::default();
    }

    /// True if these bytes would complete the request. An approximation: malformed input never
    /// completes one, and a chunked body counts as complete without a look for its end.
    pub fn would_complete(&self, further: &[u8], limits: &Limits) -> bool {
        let Part::Head(scanner) = &self.part else { return true };
        let bytes = [&self.head, further].concat();
        let Ok(Some(end)) = scanner.clone().scan(&bytes, limits) else { return false };
        let mut fields = Fields::with_room_for(end.fields);
        match Head::parse(&bytes[..end.bytes], &mut fields).map(|head| head.framing) {
            Ok(Framing::Length(length)) => (bytes.len() - end.bytes) as u64 >= length,
            Ok(Framing::Chunked) => true,
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_limits;
    use super::*;
    use crate::memory::BodyMemory;

    type Seen = (String, Vec<u8>);

    fn see(head: &Head<'_>, body: Body<'_>) -> Seen {
        (head.path.to_owned(), body.take().bytes)
    }

    /// Feeds input and reads every body.
    fn feed(reader: &mut RequestReader, input: &[u8], limits: &Limits) -> Result<Fed<Seen>, RequestError> {
        match reader.feed(input, limits, see)? {
            Fed::Head { used, .. } => {
                reader.expect(Keep::Yes, BodyMemory::new(0).nothing());
                let fed = reader.feed(&input[used..], limits, see)?;
                Ok(match fed {
                    Fed::Request { used: further, head, result } => Fed::Request { used: used + further, head, result },
                    other => other,
                })
            }
            other => Ok(other),
        }
    }

    /// Feeds pieces of `step` bytes and returns all requests found.
    fn requests(input: &[u8], step: usize, limits: &Limits) -> Result<Vec<Seen>, RequestError> {
        let (mut reader, mut seen) = (RequestReader::default(), Vec::new());
        for mut piece in input.chunks(step) {
            while !piece.is_empty() {
                match feed(&mut reader, piece, limits)? {
                    Fed::More | Fed::Head { .. } => break,
                    Fed::Request { used, result, .. } => {
                        reader.finish();
                        seen.push(result);
                        piece = &piece[used..];
                    }
                }
            }
        }
        assert_eq!(reader.progress(), Progress::Nothing);
        Ok(seen)
    }

    #[test]
    fn every_cut_of_the_stream_gives_the_same_requests() {
        let stream = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n\
            POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
            POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n\
            \r\nGET /d HTTP/1.1\r\nHost: a\r\n\r\n";
        let seen = |path: &str, body: &[u8]| (path.to_owned(), body.to_vec());
        let expected = vec![seen("/a", b""), seen("/b", b"hello"), seen("/c", b"abcde"), seen("/d", b"")];
        for step in 1..=stream.len() {
            assert_eq!(requests(stream, step, &test_limits()), Ok(expected.clone()), "pieces of {step}");
        }
    }

    #[test]
    fn a_head_without_its_body_is_handed_on_with_the_length() {
        for (field, expected) in [("Content-Length: 6", Some(6)), ("Transfer-Encoding: chunked", None)] {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
            let mut reader = RequestReader::default();
            let fed =
                reader.feed(format!("{head}4").as_bytes(), &test_limits(), |_, body| (body.is_here(), body.length()));
            assert!(
                matches!(fed, Ok(Fed::Head { used, result: (false, length), .. }) if used == head.len() && length == expected)
            );
            assert_eq!(reader.declared(), expected);
        }
    }

    #[test]
    fn continue_is_expected_only_while_no_body_has_come() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        let feed = |text: String| RequestReader::default().feed(text.as_bytes(), &test_limits(), see);
        assert!(matches!(feed(head.to_owned()), Ok(Fed::Head { continue_expected: true, .. })));
        assert!(matches!(feed(format!("{head}a")), Ok(Fed::Head { continue_expected: false, .. })));
        assert!(matches!(feed(format!("{head}ab")), Ok(Fed::Request { .. })));
    }

    #[test]
    fn a_kept_request_is_handed_on_again() {
        let whole = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        for step in [whole.len(), 7] {
            let mut reader = RequestReader::default();
            for piece in whole.chunks(step) {
                let length = |head: &Head<'_>, body: Body<'_>| (head.path.to_owned(), body.length());
                match reader.feed(piece, &test_limits(), length).unwrap() {
                    Fed::Request { used, head, .. } => reader.keep(&piece[..used], head),
                    Fed::Head { used, .. } => {
                        reader.expect(Keep::Yes, BodyMemory::new(0).nothing());
                        assert!(matches!(reader.feed(&piece[used..], &test_limits(), length), Ok(Fed::More)));
                    }
                    Fed::More => {}
                }
            }
            let length = |head: &Head<'_>, body: Body<'_>| (head.path.to_owned(), body.length());
            assert_eq!(reader.replay(length), Ok(("/x".to_owned(), Some(2))));
            assert_eq!(reader.replay(see), Ok(("/x".to_owned(), b"hi".to_vec())));
            assert_eq!(reader.replay(see), Ok(("/x".to_owned(), Vec::new())), "a body is taken once");
            reader.finish();
            assert_eq!((reader.progress(), reader.head.capacity()), (Progress::Nothing, 0));
        }
    }

    #[test]
    fn a_body_takes_what_has_come_and_not_what_is_declared() {
        let limits = Limits { body_bytes: 1 << 30, ..test_limits() };
        let mut reader = RequestReader::default();
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\nx";
        assert!(matches!(feed(&mut reader, head, &limits), Ok(Fed::More)));
        assert!(reader.body.get_mut().as_ref().unwrap().bytes.capacity() < 2 * FIRST_BODY_ROOM);
    }

    #[test]
    fn a_body_that_nobody_wants_is_dropped_as_it_comes() {
        let mut reader = RequestReader::default();
        let head = "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
        assert!(matches!(reader.feed(head.as_bytes(), &test_limits(), see), Ok(Fed::Head { .. })));
        reader.expect(Keep::No, BodyMemory::new(0).nothing());
        for _ in 0..9 {
            assert!(matches!(reader.feed(&[b'x'; 10_000], &test_limits(), see), Ok(Fed::More)));
            assert_eq!(reader.reserve(10_000, &test_limits()), Ok(()), "it takes no memory");
        }
        let fed = reader.feed(&[b'x'; 10_001], &test_limits(), see);
        assert!(matches!(fed, Ok(Fed::Request { used: 10_000, result: (_, body), .. }) if body.is_empty()));
    }

    #[test]
    fn a_body_without_a_length_reserves_memory_in_steps() {
        let memory = BodyMemory::new(300 * 1024);
        let mut reader = RequestReader::default();
        let head = "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(matches!(reader.feed(head.as_bytes(), &test_limits(), see), Ok(Fed::Head { .. })));
        reader.expect(Keep::Yes, memory.nothing());
        assert_eq!((reader.reserve(60_000, &test_limits()), memory.used()), (Ok(()), 0));
        assert_eq!(
            (reader.reserve(70_000, &test_limits()), memory.used()),
            (Ok(()), RESERVED_AT_ONCE - crate::memory::FREE)
        );
        assert_eq!(reader.reserve(RESERVED_AT_ONCE + 1, &test_limits()), Err(2 * RESERVED_AT_ONCE));
        reader.finish();
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn a_complete_request_is_recognised_without_taking_it() {
        let mut reader = RequestReader::default();
        assert!(matches!(reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r", &test_limits(), see), Ok(Fed::More)));
        assert!(reader.would_complete(b"\n", &test_limits()));
        assert!(!reader.would_complete(b"", &test_limits()));
        assert_eq!(reader.progress(), Progress::Head);
        let new = RequestReader::default();
        let head = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
        for (body, complete) in [("", false), ("bod", false), ("body", true), ("body and more", true)] {
            assert_eq!(new.would_complete(format!("{head}{body}").as_bytes(), &test_limits()), complete, "{body}");
        }
        let chunked = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(new.would_complete(chunked.as_bytes(), &test_limits()));
        assert!(!new.would_complete(b"no request\r\n\r\n", &test_limits()));
    }
}
