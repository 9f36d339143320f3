//! Decodes the chunked transfer coding (RFC 9112 §7.1) as the bytes arrive. Strict: it refuses
//! anything that two readers could take for different lengths. Extensions and trailers are checked,
//! bounded and dropped.

use super::header::{is_token_char, is_value_char};
use super::hex;

/// By how much extensions may outgrow the data. They are unused in practice, and recipients should
/// limit them (RFC 9112 §7.1.1); a stream with short ones may go on for ever.
const EXTENSION_BYTES: usize = 4096;
/// Enough for any length. Bounds the leading zeros.
const SIZE_DIGITS: u8 = 16;

/// Limits of one body, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// All chunks together, decoded.
    pub body: usize,
    /// All trailers together.
    pub trailers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    Malformed(&'static str),
    /// Longer than [`Bounds::body`].
    TooLarge,
    /// Longer than [`Bounds::trailers`].
    TrailersTooLarge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkState {
    Size,
    /// Behind a size.
    Blank,
    Extension,
    SizeEnd,
    Data,
    DataEnd,
    DataEndLf,
    LineStart,
    Name,
    Value,
    ValueEnd,
    LastEnd,
    Done,
}

#[derive(Clone, Debug)]
pub struct Decoder {
    state: ChunkState,
    /// The announced size while it is being read, then the bytes of the chunk still to come.
    size: usize,
    digits: u8,
    decoded: usize,
    /// Bytes of extensions that no data has made up for.
    extensions: usize,
    trailers: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { state: ChunkState::Size, size: 0, digits: 0, decoded: 0, extensions: 0, trailers: 0 }
    }
}

impl Decoder {
    pub fn is_done(&self) -> bool {
        self.state == ChunkState::Done
    }

    /// Appends the decoded part of `input` to `out`. Returns how many bytes of `input` belong to
    /// the body: all of them, unless the body ends here.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>, bounds: Bounds) -> Result<usize, ChunkError> {
        let mut at = 0;
        while at < input.len() && self.state != ChunkState::Done {
            if self.state == ChunkState::Data {
                let piece = &input[at..input.len().min(at.saturating_add(self.size))];
                out.extend_from_slice(piece);
                at += piece.len();
                self.size -= piece.len();
                if self.size == 0 {
                    self.state = ChunkState::DataEnd;
                }
            } else {
                self.state = self.step(input[at], bounds)?;
                at += 1;
            }
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8, bounds: Bounds) -> Result<ChunkState, ChunkError> {
        Ok(match (self.state, byte) {
            (ChunkState::Size, b'\r') if self.digits > 0 => ChunkState::SizeEnd,
            (ChunkState::Size | ChunkState::Blank, b';') if self.digits > 0 => ChunkState::Extension,
            // Blanks before an extension are part of the grammar (RFC 9112 §7.1.1), alone they are not.
            (ChunkState::Size, b' ' | b'\t') if self.digits > 0 => self.extension(byte).map(|_| ChunkState::Blank)?,
            (ChunkState::Blank, b' ' | b'\t') => self.extension(byte).map(|_| ChunkState::Blank)?,
            (ChunkState::Size, _) => self.size_digit(byte)?,
            (ChunkState::Extension, b'\r') => ChunkState::SizeEnd,
            (ChunkState::Extension, _) => self.extension(byte)?,
            (ChunkState::SizeEnd, b'\n') => self.begin_chunk(bounds)?,
            (ChunkState::DataEnd, b'\r') => ChunkState::DataEndLf,
            (ChunkState::DataEndLf, b'\n') => ChunkState::Size,
            (ChunkState::LineStart, b'\r') => ChunkState::LastEnd,
            (ChunkState::Name, b':') => self.trailer(ChunkState::Value, bounds)?,
            (ChunkState::LineStart | ChunkState::Name, _) if is_token_char(byte) => {
                self.trailer(ChunkState::Name, bounds)?
            }
            (ChunkState::Value, b'\r') => ChunkState::ValueEnd,
            (ChunkState::Value, _) if is_value_char(byte) => self.trailer(ChunkState::Value, bounds)?,
            (ChunkState::ValueEnd, b'\n') => ChunkState::LineStart,
            (ChunkState::LastEnd, b'\n') => ChunkState::Done,
            (
                ChunkState::LineStart
                | ChunkState::Name
                | ChunkState::Value
                | ChunkState::ValueEnd
                | ChunkState::LastEnd,
                _,
            ) => {
                return Err(ChunkError::Malformed("a trailer line is malformed"));
            }
            _ => return Err(ChunkError::Malformed("the data of a chunk is not followed by CRLF")),
        })
    }

    fn size_digit(&mut self, byte: u8) -> Result<ChunkState, ChunkError> {
        let digit = hex::digit(byte).ok_or(ChunkError::Malformed("a chunk size is not a hexadecimal number"))?;
        self.digits += 1;
        if self.digits > SIZE_DIGITS {
            return Err(ChunkError::Malformed("a chunk size has too many digits"));
        }
        // A size that overflows exceeds every limit, so it is refused at the end of its line.
        self.size = self.size.saturating_mul(16).saturating_add(usize::from(digit));
        Ok(ChunkState::Size)
    }

    fn extension(&mut self, byte: u8) -> Result<ChunkState, ChunkError> {
        self.extensions += 1;
        if !is_value_char(byte) {
            return Err(ChunkError::Malformed("a chunk extension holds a forbidden character"));
        }
        if self.extensions > EXTENSION_BYTES {
            return Err(ChunkError::Malformed("the chunk extensions are too long"));
        }
        Ok(ChunkState::Extension)
    }

    fn begin_chunk(&mut self, bounds: Bounds) -> Result<ChunkState, ChunkError> {
        self.digits = 0;
        self.extensions = self.extensions.saturating_sub(self.size);
        self.decoded = self.decoded.saturating_add(self.size);
        if self.decoded > bounds.body {
            return Err(ChunkError::TooLarge);
        }
        Ok(if self.size == 0 { ChunkState::LineStart } else { ChunkState::Data })
    }

    fn trailer(&mut self, next: ChunkState, bounds: Bounds) -> Result<ChunkState, ChunkError> {
        self.trailers += 1;
        if self.trailers > bounds.trailers {
            return Err(ChunkError::TrailersTooLarge);
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { body: 1 << 20, trailers: 1 << 10 };

    /// The decoded body and, if it is complete, the number of bytes consumed.
    fn decode(input: &[u8], bounds: Bounds) -> Result<(Vec<u8>, Option<usize>), ChunkError> {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        let used = decoder.decode(input, &mut out, bounds)?;
        Ok((out, decoder.is_done().then_some(used)))
    }

    #[test]
    fn chunks_are_joined_and_the_rest_is_left() {
        let input = b"5\r\nhello\r\n6 \t;a=\"b\"\r\n world\r\n000\r\nX-Sum: 1\r\n\r\n";
        let done = (b"hello world".to_vec(), Some(input.len()));
        assert_eq!(decode(input, BOUNDS), Ok(done.clone()));
        assert_eq!(decode(&[input, &b"GET"[..]].concat(), BOUNDS), Ok(done));
        for len in 0..input.len() {
            assert_eq!(decode(&input[..len], BOUNDS).unwrap().1, None, "{len} bytes");
        }
    }

    #[test]
    fn single_bytes_give_the_same_body() {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        for byte in b"1\r\na\r\nB\r\nbcdefghijkl\r\n0\r\nT: v\r\n\r\n" {
            assert!(!decoder.is_done());
            assert_eq!(decoder.decode(&[*byte], &mut out, BOUNDS), Ok(1));
        }
        assert!(decoder.is_done());
        assert_eq!(out, b"abcdefghijkl");
    }

    #[test]
    fn what_could_be_read_two_ways_is_malformed() {
        for input in [
            &b"\r\n"[..],
            b" 1\r\n",
            b"1 \r\n",
            b"1 1\r\n",
            b"1 \t\r\n",
            b"+1\r\n",
            b"-1\r\n",
            b"0x1\r\n",
            b"g\r\n",
            b";a\r\n",
            b"1\n",
            b"1\r\r",
            b"1\ra",
            b"1;a\n",
            b"1;\0",
            b"1\r\nab",
            b"1\r\na\n",
            b"1\r\na\rb",
            b"00000000000000001\r\n",
            b"0\r\nX\r\n",
            b"0\r\n: v\r\n",
            b"0\r\n X: v\r\n",
            b"0\r\nX : v\r\n",
            b"0\r\nX: v\n",
            b"0\r\nX: \0",
            b"0\r\n\n",
            b"0\r\n\r\r",
        ] {
            let refused = decode(input, BOUNDS);
            assert!(
                matches!(refused, Err(ChunkError::Malformed(_))),
                "{:?}: {refused:?}",
                String::from_utf8_lossy(input)
            );
        }
    }

    #[test]
    fn a_body_may_be_as_long_as_the_limit() {
        let bounds = Bounds { body: 5, ..BOUNDS };
        let too_large = Err(ChunkError::TooLarge);
        assert_eq!(decode(b"4\r\nabcd\r\n0\r\n\r\n", bounds).unwrap().0, b"abcd");
        assert_eq!(decode(b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", bounds).unwrap().0, b"abcde");
        assert_eq!(decode(b"6\r\n", bounds), too_large, "refused before it is read");
        assert_eq!(decode(b"2\r\nab\r\n4\r\n", bounds), too_large);
        assert_eq!(decode(b"ffffffffffffffff\r\n", bounds), too_large);
        assert_eq!(decode(b"2\r\nab\r\nffffffffffffffff\r\n", bounds), too_large);
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let body = |bytes: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(bytes));
        assert!(decode(body(EXTENSION_BYTES - 1).as_bytes(), BOUNDS).is_ok());
        assert!(decode(body(EXTENSION_BYTES).as_bytes(), BOUNDS).is_ok());
        assert!(decode(body(EXTENSION_BYTES + 1).as_bytes(), BOUNDS).is_err());
        let many = |chunk: &str| chunk.repeat(EXTENSION_BYTES / 2 + 1);
        assert!(decode(many("1;xxx\r\na\r\n").as_bytes(), BOUNDS).is_err(), "all chunks together");
        assert!(decode(many("3;xxx\r\nabc\r\n").as_bytes(), BOUNDS).is_ok(), "they do not outgrow the data");

        let bounds = Bounds { trailers: 10, ..BOUNDS };
        assert!(decode(b"0\r\nTrail: 89\r\n\r\n", bounds).is_ok());
        assert!(decode(b"0\r\nTrail: 890\r\n\r\n", bounds).is_ok());
        assert_eq!(decode(b"0\r\nTrail: 8901\r\n\r\n", bounds), Err(ChunkError::TrailersTooLarge));
    }
}
