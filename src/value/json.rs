//! JSON strings at memory speed (RFC 8259 §7): blocks that need no escape are copied as a whole,
//! other bytes come from a table. The output matches `serde_json` byte for byte.

use super::hex;
use super::wide::{HIGH, each, less};

const QUOTES: u64 = each(b'"');
const BACKSLASHES: u64 = each(b'\\');

/// Extra bytes that escaping adds: 1 for a short escape, 5 for other control characters. Branch-free,
/// so that sums over many bytes are vectorized.
const fn growth(byte: u8) -> u8 {
    let quoted = matches!(byte, b'"' | b'\\');
    let short = matches!(byte, 0x08..=0x0a | 0x0c | 0x0d);
    quoted as u8 + 5 * (byte < 0x20) as u8 - 4 * short as u8
}

/// Length of the text inside a JSON string.
pub fn escaped_len(text: &[u8]) -> usize {
    let one_by_one = |bytes: &[u8]| bytes.iter().map(|&byte| usize::from(growth(byte))).sum::<usize>();
    let (words, rest) = text.as_chunks();
    let grown = words.iter().map(|word| {
        let number = u64::from_le_bytes(*word);
        if less(number, b' ') != 0 {
            return one_by_one(word);
        }
        // Exact, unlike `less`: no sum goes beyond its byte.
        let zero = |word: u64| !(((word & !HIGH) + !HIGH) | word) & HIGH;
        (zero(number ^ QUOTES) | zero(number ^ BACKSLASHES)).count_ones() as usize
    });
    text.len() + grown.sum::<usize>() + one_by_one(rest)
}

/// Bytes checked together.
const BLOCK: usize = 32;

/// Checks words, without a branch for each.
fn needs_escape(block: &[u8; BLOCK]) -> bool {
    let (words, _) = block.as_chunks();
    let special = words.iter().fold(0, |special, word| {
        let word = u64::from_le_bytes(*word);
        special | less(word, b' ') | less(word ^ QUOTES, 1) | less(word ^ BACKSLASHES, 1)
    });
    special != 0
}

/// Size of an entry in the table below: an escape has at most 6 bytes.
const WORD: usize = 8;

/// The output for each byte; the last byte of an entry is its length.
static ESCAPES: [[u8; WORD]; 256] = {
    let mut all = [[0; WORD]; 256];
    let mut byte = u8::MAX;
    loop {
        all[byte as usize] = escape(byte);
        let Some(next) = byte.checked_sub(1) else { break all };
        byte = next;
    }
};

const fn escape(byte: u8) -> [u8; WORD] {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        0..0x20 => {
            let [high, low] = hex::lower(byte);
            return [b'\\', b'u', b'0', b'0', high, low, 0, 6];
        }
        _ => return [byte, 0, 0, 0, 0, 0, 0, 1],
    };
    [b'\\', short, 0, 0, 0, 0, 0, 2]
}

/// Appends text as the inside of a JSON string, up to `room` bytes, and returns how many input
/// bytes were consumed. A UTF-8 character may be split; the next call continues there.
pub fn push_escaped(out: &mut Vec<u8>, text: &[u8], room: usize) -> usize {
    /// Bytes copied beyond an escape are overwritten by the next one, or left behind.
    const SLACK: usize = WORD;
    let mut escaped = [0; BLOCK * 6 + SLACK];
    let (mut at, mut left) = (0, room);
    while at < text.len() {
        let (blocks, _) = text[at..text.len().min(at.saturating_add(left))].as_chunks();
        let clean = blocks.iter().take_while(|block| !needs_escape(block)).count() * BLOCK;
        out.extend_from_slice(&text[at..at + clean]);
        (at, left) = (at + clean, left - clean);
        let (start, end) = (at, text.len().min(at + BLOCK));
        let last = &text[start..end];
        // Names, identifiers and the ends of tokens need no escape.
        if end == text.len() && last.len() <= left && last.iter().all(|&byte| ESCAPES[usize::from(byte)][WORD - 1] == 1)
        {
            out.extend_from_slice(last);
            return end;
        }
        // No branch depends on the text: it would be mispredicted all the time.
        let mut made = 0;
        for &byte in last {
            let escape = &ESCAPES[usize::from(byte)];
            let length = usize::from(escape[WORD - 1]);
            if made + length > left {
                break;
            }
            escaped[made..made + WORD].copy_from_slice(escape);
            (at, made) = (at + 1, made + length);
        }
        out.extend_from_slice(&escaped[..made]);
        left -= made;
        if at < end {
            break;
        }
    }
    at
}

pub fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text.as_bytes(), usize::MAX);
    out.push(b'"');
}

/// As [`push_string`], for text that [is plain](is_plain).
pub fn push_plain_string(out: &mut Vec<u8>, text: &str) {
    debug_assert!(is_plain(text));
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// True if no character needs an escape.
pub fn is_plain(text: &str) -> bool {
    escaped_len(text.as_bytes()) == text.len()
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
            if is_plain(&text) {
                whole.clear();
                push_plain_string(&mut whole, &text);
                prop_assert_eq!(&whole, &expected);
            }
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
