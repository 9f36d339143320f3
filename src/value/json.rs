//! JSON strings at memory speed (RFC 8259 §7): bytes are copied a word at a time, and looked at together. What `serde_json` would write, byte for byte.

use super::hex;

/// How many bytes more an escaped byte takes: 1 for those with a short escape, 5 for the other controls. Without a
/// branch, so that a sum over many bytes is made with vector instructions.
const fn growth(byte: u8) -> u8 {
    let quoted = matches!(byte, b'"' | b'\\');
    let short = matches!(byte, 0x08..=0x0a | 0x0c | 0x0d);
    quoted as u8 + 5 * (byte < 0x20) as u8 - 4 * short as u8
}

/// The length of some text as the inside of a JSON string.
pub fn escaped_len(text: &[u8]) -> usize {
    // 48 bytes of 5 fit into a byte.
    let grown = text.chunks(48).map(|chunk| usize::from(chunk.iter().fold(0, |sum: u8, &byte| sum + growth(byte))));
    text.len() + grown.sum::<usize>()
}

/// Bytes looked at together.
const WORD: usize = 8;

/// How many bytes of a word come before the first that needs an escape.
const fn clean(word: [u8; WORD]) -> usize {
    const EACH: u64 = u64::from_le_bytes([1; WORD]);
    // Exact for the lowest byte that is less; a borrow can mark bytes above it, which nobody asks for.
    const fn less(word: u64, than: u8) -> u64 {
        word.wrapping_sub(EACH * than as u64) & !word
    }
    let word = u64::from_le_bytes(word);
    let quote = less(word ^ (EACH * b'"' as u64), 1);
    let backslash = less(word ^ (EACH * b'\\' as u64), 1);
    ((less(word, b' ') | quote | backslash) & (EACH << 7)).trailing_zeros() as usize / 8
}

/// Appends text as the inside of a JSON string, as much of it as fits into `room` bytes: how much that was. UTF-8 may
/// be cut between two bytes of one character; the next call goes on there.
pub fn push_escaped(out: &mut Vec<u8>, text: &[u8], room: usize) -> usize {
    /// As long as an escape is; what is copied beyond it is overwritten.
    const LONGEST: usize = 6;
    let start = out.len();
    out.resize(start + room.min(text.len().saturating_mul(LONGEST)), 0);
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

/// What is written for a byte, and how many bytes of it count.
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

/// Appends a whole JSON string.
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
