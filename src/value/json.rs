//! JSON strings at memory speed (RFC 8259 §7): bytes are scanned and copied a word at a time. The
//! output matches `serde_json` byte for byte.

use super::hex;

/// Extra bytes that escaping adds: 1 for a short escape, 5 for other control characters.
/// Branch-free, so that sums over many bytes are vectorized.
const fn growth(byte: u8) -> u8 {
    let quoted = matches!(byte, b'"' | b'\\');
    let short = matches!(byte, 0x08..=0x0a | 0x0c | 0x0d);
    quoted as u8 + 5 * (byte < 0x20) as u8 - 4 * short as u8
}

/// The length of text inside a JSON string.
pub fn escaped_len(text: &[u8]) -> usize {
    // 48 × 5 still fits in a `u8`.
    let grown = text.chunks(48).map(|chunk| usize::from(chunk.iter().fold(0, |sum: u8, &byte| sum + growth(byte))));
    text.len() + grown.sum::<usize>()
}

const WORD: usize = 8;

/// The number of leading bytes that need no escape.
const fn clean(word: [u8; WORD]) -> usize {
    const EACH: u64 = u64::from_le_bytes([1; WORD]);
    // Exact for the lowest matching byte. A borrow may flag bytes above it, which are not looked
    // at.
    const fn less(word: u64, than: u8) -> u64 {
        word.wrapping_sub(EACH * than as u64) & !word
    }
    let word = u64::from_le_bytes(word);
    let quote = less(word ^ (EACH * b'"' as u64), 1);
    let backslash = less(word ^ (EACH * b'\\' as u64), 1);
    ((less(word, b' ') | quote | backslash) & (EACH << 7)).trailing_zeros() as usize / 8
}

/// Appends text as the inside of a JSON string, up to `room` bytes, and returns how many input
/// bytes were consumed. A UTF-8 character may be split; the next call continues there.
pub fn push_escaped(out: &mut Vec<u8>, text: &[u8], room: usize) -> usize {
    /// Length of the longest escape. Bytes copied beyond it are overwritten.
    const MAX_ESCAPE: usize = 6;
    let start = out.len();
    out.resize(start + room.min(text.len().saturating_mul(MAX_ESCAPE)), 0);
    let into = &mut out[start..];
    let (mut at, mut made) = (0, 0);
    loop {
        while let (Some(word), Some(copy)) = (text[at..].first_chunk(), into[made..].first_chunk_mut()) {
            *copy = *word;
            let clean = clean(*word);
            (at, made) = (at + clean, made + clean);
            if clean < WORD {
                break;
            }
        }
        let Some(&byte) = text.get(at) else { break };
        let (escape, length) = escape(byte);
        let Some(copy) = into[made..].get_mut(..length) else { break };
        copy.copy_from_slice(&escape[..length]);
        (at, made) = (at + 1, made + length);
    }
    out.truncate(start + made);
    at
}

/// The bytes written for one input byte, and how many of them count.
const fn escape(byte: u8) -> ([u8; 6], usize) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        0..0x20 => {
            let [high, low] = hex::lower(byte);
            return ([b'\\', b'u', b'0', b'0', high, low], 6);
        }
        _ => return ([byte, 0, 0, 0, 0, 0], 1),
    };
    ([b'\\', short, 0, 0, 0, 0], 2)
}

pub fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text.as_bytes(), usize::MAX);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_are_what_serde_json_writes(text in "[\\x00-\\x7f\u{e9}\u{20ac}\u{1f600}]{0,300}", room in 6usize..200) {
            let expected = serde_json::to_vec(&text).unwrap();
            let mut whole = Vec::new();
            push_string(&mut whole, &text);
            prop_assert_eq!(&whole, &expected);
            prop_assert_eq!(escaped_len(text.as_bytes()), expected.len() - 2);
            let (mut pieces, mut at) = (Vec::new(), 0);
            while at < text.len() {
                let before = pieces.len();
                at += push_escaped(&mut pieces, &text.as_bytes()[at..], room);
                prop_assert!(pieces.len() > before && pieces.len() - before <= room);
            }
            prop_assert_eq!(&pieces, &expected[1..expected.len() - 1]);
        }
    }
}
