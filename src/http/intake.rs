//! Puts requests together from whatever pieces they arrive in. A request that lies whole in the reader's buffer
//! is handed on where it lies; only an incomplete one is copied here, so an idle connection holds no memory.

use super::chunked::Decoder;
use super::head::{Fields, Framing, Head};
use super::limits::Limits;
use super::refusal::Refusal;
use super::scan::{HeadEnd, Scanner};

/// Bodies grow by doubling from this on, so that a declared length alone reserves nothing.
const FIRST_BODY_ROOM: usize = 4096;

/// What has arrived of one request.
#[derive(Debug, Default)]
pub struct Intake {
    /// The head, then the body without its transfer coding.
    saved: Vec<u8>,
    part: Part,
}

#[derive(Debug)]
enum Part {
    Head(Scanner),
    Body(HeadEnd, Rest),
}

impl Default for Part {
    fn default() -> Self {
        Self::Head(Scanner::default())
    }
}

/// What is missing of a body.
#[derive(Debug)]
enum Rest {
    Bytes(usize),
    Chunks(Decoder),
}

/// What of a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing.
    Nothing,
    /// Part of its head.
    Head,
    /// Its head.
    Body,
}

/// What became of the bytes that were fed.
#[derive(Debug, PartialEq, Eq)]
pub enum Fed<R> {
    /// All were taken and the request is not complete.
    More {
        /// The caller waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
        continue_expected: bool,
    },
    /// The request is complete and was handed on.
    Request {
        /// Bytes taken; those behind them belong to the next request.
        used: usize,
        /// The request's head, for [`Intake::keep`].
        head: HeadEnd,
        /// What the receiver of the request made of it.
        result: R,
    },
}

impl Intake {
    /// What of the present request has come.
    pub fn progress(&self) -> Progress {
        match &self.part {
            Part::Body(..) => Progress::Body,
            Part::Head(_) if self.saved.is_empty() => Progress::Nothing,
            Part::Head(_) => Progress::Head,
        }
    }

    /// Takes what has arrived. A request that it completes is handed to `receive`, once, after which
    /// [`Self::finish`] or [`Self::keep`] says whether it is still needed.
    pub fn feed<R>(
        &mut self,
        input: &[u8],
        limits: &Limits,
        receive: impl FnOnce(&Head<'_>, &[u8]) -> R,
    ) -> Result<Fed<R>, Refusal> {
        let in_place = self.saved.is_empty();
        let mut body_at = 0;
        let mut continue_expected = false;
        if let Part::Head(scanner) = &mut self.part {
            if !in_place {
                self.saved.extend_from_slice(input);
            }
            let Some(end) = scanner.scan(if in_place { input } else { &self.saved }, limits)? else {
                if in_place {
                    self.saved.extend_from_slice(input);
                }
                return Ok(Fed::More { continue_expected: false });
            };
            // The end was not in what had come before, so all that lies behind it came with `input`.
            body_at = if in_place { end.bytes } else { input.len() - (self.saved.len() - end.bytes) };
            self.saved.truncate(end.bytes);
            let mut fields = Fields::with_room_for(end.fields);
            let bytes = if in_place { &input[..end.bytes] } else { &self.saved };
            let head = Head::parse(bytes, &mut fields)?;
            let rest = match head.framing {
                Framing::Chunked => Rest::Chunks(Decoder::default()),
                Framing::Length(length) => Rest::Bytes(usize::try_from(length).unwrap_or(usize::MAX)),
            };
            let too_large = matches!(rest, Rest::Bytes(length) if length > limits.body_bytes);
            if let (Rest::Bytes(length), true, false) = (&rest, in_place, too_large)
                && let Some(body) = input[body_at..].get(..*length)
            {
                let result = receive(&head, body);
                return Ok(Fed::Request { used: body_at + length, head: end, result });
            }
            continue_expected = head.expects_continue && body_at == input.len();
            if in_place {
                self.saved.extend_from_slice(&input[..end.bytes]);
            }
            self.part = Part::Body(end, rest);
            // Only now, so that the refusal can say what was refused.
            if too_large {
                return Err(Refusal::BodyTooLarge { limit: limits.body_bytes });
            }
        }
        let (taken, complete) = self.take_body(&input[body_at..], limits)?;
        match complete {
            None => Ok(Fed::More { continue_expected }),
            Some(head) => {
                let result = self.replay(receive)?;
                Ok(Fed::Request { used: body_at + taken, head, result })
            }
        }
    }

    /// Appends what `input` holds of the body: how much that was, and the head if the body is complete.
    fn take_body(&mut self, input: &[u8], limits: &Limits) -> Result<(usize, Option<HeadEnd>), Refusal> {
        let Part::Body(head, rest) = &mut self.part else { return Ok((0, None)) };
        match rest {
            Rest::Bytes(missing) => {
                let taken = input.len().min(*missing);
                let room = (*missing).min(self.saved.len().max(FIRST_BODY_ROOM));
                if self.saved.capacity() - self.saved.len() < taken {
                    self.saved.reserve_exact(room.max(taken));
                }
                self.saved.extend_from_slice(&input[..taken]);
                *missing -= taken;
                Ok((taken, (*missing == 0).then_some(*head)))
            }
            Rest::Chunks(decoder) => {
                let taken = decoder.decode(input, &mut self.saved, limits)?;
                Ok((taken, decoder.is_done().then_some(*head)))
            }
        }
    }

    /// Hands the request on once more that was completed or kept.
    pub fn replay<R>(&self, receive: impl FnOnce(&Head<'_>, &[u8]) -> R) -> Result<R, Refusal> {
        let Part::Body(end, _) = &self.part else { return Err(Refusal::Malformed("the request is not complete")) };
        let mut fields = Fields::with_room_for(end.fields);
        let (head, body) = self.saved.split_at(end.bytes);
        Ok(receive(&Head::parse(head, &mut fields)?, body))
    }

    /// Keeps the request that was just handed on, for [`Self::replay`]. `input` is where it may have lain.
    pub fn keep(&mut self, input: &[u8], head: HeadEnd) {
        if self.saved.is_empty() {
            self.saved.extend_from_slice(input);
            self.part = Part::Body(head, Rest::Bytes(0));
        }
    }

    /// Forgets the request, and its memory.
    pub fn finish(&mut self) {
        if !self.saved.is_empty() {
            self.saved = Vec::new();
        }
        self.part = Part::default();
    }

    /// Whether the head would be complete with these bytes.
    pub fn would_complete_head(&self, further: &[u8], limits: &Limits) -> bool {
        match &self.part {
            Part::Body(..) => true,
            Part::Head(scanner) => {
                let bytes = [&self.saved, further].concat();
                matches!(scanner.clone().scan(&bytes, limits), Ok(Some(_)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_limits;
    use super::*;

    type Seen = (String, Vec<u8>);

    fn see(head: &Head<'_>, body: &[u8]) -> Seen {
        (head.path.to_owned(), body.to_vec())
    }

    /// Feeds pieces of `step` bytes and returns every request that came out.
    fn requests(input: &[u8], step: usize, limits: &Limits) -> Result<Vec<Seen>, Refusal> {
        let (mut intake, mut seen) = (Intake::default(), Vec::new());
        for mut piece in input.chunks(step) {
            while !piece.is_empty() {
                match intake.feed(piece, limits, see)? {
                    Fed::More { .. } => break,
                    Fed::Request { used, result, .. } => {
                        intake.finish();
                        seen.push(result);
                        piece = &piece[used..];
                    }
                }
            }
        }
        assert_eq!(intake.progress(), Progress::Nothing);
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
    fn a_declared_length_may_be_the_limit_and_no_more() {
        let limits = Limits { body_bytes: 5, ..test_limits() };
        for (length, good) in [("4", true), ("5", true), ("6", false), ("99999999999999999999", false)] {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
            let fed = Intake::default().feed(head.as_bytes(), &limits, see);
            let expected =
                if good { Ok(Fed::More { continue_expected: false }) } else { Err(Refusal::BodyTooLarge { limit: 5 }) };
            assert_eq!(fed, expected, "{length}");
        }
    }

    #[test]
    fn continue_is_expected_only_while_no_body_has_come() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        let feed = |text: String| Intake::default().feed(text.as_bytes(), &test_limits(), see);
        assert_eq!(feed(head.to_owned()), Ok(Fed::More { continue_expected: true }));
        assert_eq!(feed(format!("{head}a")), Ok(Fed::More { continue_expected: false }));
        assert!(matches!(feed(format!("{head}ab")), Ok(Fed::Request { .. })));
    }

    #[test]
    fn a_kept_request_is_handed_on_again() {
        let whole = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        for step in [whole.len(), 7] {
            let mut intake = Intake::default();
            for piece in whole.chunks(step) {
                if let Fed::Request { used, head, .. } = intake.feed(piece, &test_limits(), see).unwrap() {
                    intake.keep(&piece[..used], head);
                }
            }
            for _ in 0..2 {
                assert_eq!(intake.replay(see), Ok(("/x".to_owned(), b"hi".to_vec())));
            }
            intake.finish();
            assert_eq!((intake.progress(), intake.saved.capacity()), (Progress::Nothing, 0));
        }
    }

    #[test]
    fn a_body_reserves_what_has_come_and_not_what_is_declared() {
        let limits = Limits { body_bytes: 1 << 30, ..test_limits() };
        let mut intake = Intake::default();
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\nx";
        assert!(matches!(intake.feed(head, &limits, see), Ok(Fed::More { .. })));
        assert!(intake.saved.capacity() < 2 * FIRST_BODY_ROOM);
    }

    #[test]
    fn whether_a_head_would_be_complete_is_told_without_taking_it() {
        let mut intake = Intake::default();
        assert!(matches!(intake.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r", &test_limits(), see), Ok(Fed::More { .. })));
        assert!(intake.would_complete_head(b"\n", &test_limits()));
        assert!(!intake.would_complete_head(b"", &test_limits()));
        assert_eq!(intake.progress(), Progress::Head);
    }
}
