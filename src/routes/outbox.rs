//! Bytes on their way to one side of a proxied request, framed as chunks where the receiver needs it.

use zeroize::Zeroizing;

/// Bytes waiting to be sent. They may hold a token and are wiped.
#[derive(Default)]
pub struct Outbox {
    pub bytes: Zeroizing<Vec<u8>>,
    at: usize,
}

impl Outbox {
    pub const fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    pub fn sent(&mut self, bytes: usize) {
        self.at += bytes;
        if self.is_empty() {
            self.clear();
        }
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.at = 0;
    }

    /// Appends the bytes that `fill` adds, framed as a chunk if `chunked` and if there are any (RFC 9112 §7.1).
    pub fn piece<R>(&mut self, chunked: bool, fill: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        const SIZE: &[u8] = b"00000\r\n";
        let start = self.bytes.len();
        if !chunked {
            return fill(&mut self.bytes);
        }
        self.bytes.extend_from_slice(SIZE);
        let result = fill(&mut self.bytes);
        let length = self.bytes.len() - start - SIZE.len();
        if length == 0 {
            self.bytes.truncate(start);
        } else {
            let digits = format!("{length:05x}");
            self.bytes[start..start + digits.len()].copy_from_slice(digits.as_bytes());
            self.bytes.extend_from_slice(b"\r\n");
            let zeros = digits.bytes().take_while(|digit| *digit == b'0').count();
            if start == self.at {
                self.at += zeros;
            } else {
                self.bytes.drain(start..start + zeros);
            }
        }
        result
    }

    pub fn last_chunk(&mut self) {
        self.bytes.extend_from_slice(b"0\r\n\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_leave_as_chunks_without_leading_zeros() {
        let mut out = Outbox::default();
        out.bytes.extend_from_slice(b"head;");
        out.piece(true, |bytes| bytes.extend_from_slice(&[b'a'; 17]));
        out.piece(true, |_| ());
        out.piece(false, |bytes| bytes.push(b'-'));
        out.last_chunk();
        assert_eq!(out.rest(), b"head;11\r\naaaaaaaaaaaaaaaaa\r\n-0\r\n\r\n");
        out.sent(out.rest().len());
        out.piece(true, |bytes| bytes.push(b'b'));
        assert_eq!(out.rest(), b"1\r\nb\r\n");
    }
}
