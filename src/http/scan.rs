//! Finds the end of a request head while it arrives, and refuses it at the first forbidden byte.
//!
//! Each byte is looked at once, no matter how small the pieces are, so a caller that sends single
//! bytes costs no more per byte. [`super::head`] interprets the lines.

use super::request_error::RequestError;
use crate::config::Limits;
use crate::value::wide;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadEnd {
    /// Bytes of the head, including its empty line.
    pub bytes: usize,
    pub fields: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Scanner {
    at: usize,
    line_start: usize,
    /// Complete lines, including the request line.
    lines: usize,
}

impl Scanner {
    /// Scans the new part of `bytes`, which starts with the head and has only grown since the last
    /// call. `None`: the head is not complete.
    pub fn scan(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<HeadEnd>, RequestError> {
        let window = &bytes[..bytes.len().min(limits.head_bytes)];
        while let Some(&byte) = window.get(self.at) {
            if self.at == self.line_start && matches!(byte, b' ' | b'\t') {
                // Folded lines (RFC 9112 §5.2) and whitespace before the request line (§2.2) are
                // refused.
                return Err(RequestError::Malformed("a line of the head begins with whitespace"));
            }
            // Control characters: line ends, tabs, and what is refused.
            self.at += wide::find_less(&window[self.at..], b' ');
            match (window.get(self.at), window.get(self.at + 1)) {
                (None, _) | (Some(b'\r'), None) => break,
                (Some(b'\r'), Some(b'\n')) => {
                    if let Some(end) = self.end_of_line(limits)? {
                        return Ok(Some(end));
                    }
                }
                (Some(b'\t'), _) => self.at += 1,
                (Some(b'\r'), _) => return Err(RequestError::Malformed("a carriage return without its line feed")),
                (Some(b'\n'), _) => return Err(RequestError::Malformed("a line feed without its carriage return")),
                (Some(_), _) => return Err(RequestError::Malformed("a control character in the head")),
            }
        }
        match (bytes.len() >= limits.head_bytes, self.lines) {
            (false, _) => Ok(None),
            (true, 0) => Err(RequestError::UriTooLong),
            (true, _) => Err(RequestError::HeadTooLarge { limit: limits.head_bytes }),
        }
    }

    fn end_of_line(&mut self, limits: &Limits) -> Result<Option<HeadEnd>, RequestError> {
        let empty = self.at == self.line_start;
        self.at += 2;
        self.line_start = self.at;
        if !empty {
            self.lines += 1;
            if self.lines > limits.headers.saturating_add(1) {
                return Err(RequestError::TooManyHeaders { limit: limits.headers });
            }
        } else if self.lines > 0 {
            return Ok(Some(HeadEnd { bytes: self.at, fields: self.lines - 1 }));
        } else if self.at > 2 {
            // One empty line is ignored: old clients sent it after a body (RFC 9112 §2.2).
            return Err(RequestError::Malformed("empty lines before the request line"));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_limits;
    use super::*;

    fn scan(bytes: &[u8]) -> Result<Option<HeadEnd>, RequestError> {
        Scanner::default().scan(bytes, &test_limits())
    }

    #[test]
    fn the_head_ends_behind_the_empty_line() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
        let end = Some(HeadEnd { bytes: head.len(), fields: 2 });
        assert_eq!(scan(head), Ok(end));
        assert_eq!(scan(&[head, &b"body\0\n"[..]].concat()), Ok(end), "what follows is not looked at");
        for len in 0..head.len() {
            assert_eq!(scan(&head[..len]), Ok(None), "{len} bytes");
        }
    }

    #[test]
    fn single_bytes_give_the_same_end() {
        let head = format!("GET /{} HTTP/1.1\r\nHost: a\r\nX: {}\tb\r\n\r\n", "p".repeat(70), "v".repeat(70));
        let mut scanner = Scanner::default();
        for len in 1..head.len() {
            assert_eq!(scanner.scan(&head.as_bytes()[..len], &test_limits()), Ok(None));
        }
        let end = HeadEnd { bytes: head.len(), fields: 2 };
        assert_eq!(scanner.scan(head.as_bytes(), &test_limits()), Ok(Some(end)));
    }

    #[test]
    fn what_no_head_may_hold_is_refused_where_it_stands() {
        for bytes in [
            &b"GET / HTTP/1.1\n"[..],
            b"GET / HTTP/1.1\r\nHost: a\n",
            b"\n",
            b"GET / HTTP/1.1\rX",
            b"GET / HTTP/1.1\r\nHost: a\r\r",
            b"GET /\0",
            b"GET / HTTP/1.1\r\nHost: a\0",
            b"GET / HTTP/1.1\r\nX: \x0b",
            b" GET",
            b"\tGET",
            b"GET / HTTP/1.1\r\n ",
            b"GET / HTTP/1.1\r\nX: a\r\n\tb",
            b"\r\n\r\n",
        ] {
            assert!(matches!(scan(bytes), Err(RequestError::Malformed(_))), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn one_empty_line_before_the_request_line_is_forgiven() {
        assert_eq!(scan(b"\r\nGET / HTTP/1.1\r\n\r\n"), Ok(Some(HeadEnd { bytes: 20, fields: 0 })));
    }

    #[test]
    fn a_head_may_be_as_long_as_the_limit() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let end = Ok(Some(HeadEnd { bytes: head.len(), fields: 1 }));
        for (limit, expected) in [
            (head.len() + 1, end),
            (head.len(), end),
            (head.len() - 1, Err(RequestError::HeadTooLarge { limit: head.len() - 1 })),
            (16, Err(RequestError::HeadTooLarge { limit: 16 })),
            (15, Err(RequestError::UriTooLong)),
        ] {
            let limits = Limits { head_bytes: limit, ..test_limits() };
            assert_eq!(Scanner::default().scan(head, &limits), expected, "limit {limit}");
        }
    }

    #[test]
    fn a_head_may_have_as_many_fields_as_the_limit() {
        let head = b"GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n";
        for (limit, good) in [(4, true), (3, true), (2, false)] {
            let limits = Limits { headers: limit, ..test_limits() };
            let expected = if good {
                Ok(Some(HeadEnd { bytes: head.len(), fields: 3 }))
            } else {
                Err(RequestError::TooManyHeaders { limit })
            };
            assert_eq!(Scanner::default().scan(head, &limits), expected, "limit {limit}");
        }
    }
}
