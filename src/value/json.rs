//! JSON strings at memory speed (RFC 8259 §7): bytes that need no escape are looked at and
//! copied many at a time, the others come from a table. What `serde_json` would write, byte for byte.

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

/// Bytes looked at together, without a branch for each, so that the compiler uses vector instructions.
const BLOCK: usize = 32;

fn needs_escape(block: &[u8; BLOCK]) -> bool {
    const fn one(byte: u8) -> bool {
        byte < b' ' || byte == b'"' || byte == b'\\'
    }
    block.iter().fold(false, |any, &byte| any | one(byte))
}

/// Bytes of an entry of the table below: an escape is at most 6 long.
const WORD: usize = 8;

/// What is written for each byte, and in the last place how many bytes of it count.
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

/// Appends text as the inside of a JSON string, as much of it as fits into `room` bytes: how much that was. UTF-8 may
/// be cut between two bytes of one character; the next call goes on there.
pub fn push_escaped(out: &mut Vec<u8>, text: &[u8], room: usize) -> usize {
    /// What is copied beyond an escape is overwritten by what follows, or cut off at the end.
    const SLACK: usize = WORD;
    let start = out.len();
    let room = room.min(text.len().saturating_mul(6));
    out.resize(start + room + SLACK, 0);
    let into = &mut out[start..];
    let (mut at, mut made) = (0, 0);
    while at < text.len() {
        let block = text[at..].first_chunk();
        if let Some(block) = block.filter(|block| made + BLOCK <= room && !needs_escape(block)) {
            into[made..made + BLOCK].copy_from_slice(block);
            (at, made) = (at + BLOCK, made + BLOCK);
            continue;
        }
        // Without a branch that depends on the text: those would be guessed wrongly all the time.
        let end = text.len().min(at + BLOCK);
        for &byte in &text[at..end] {
            let escape = &ESCAPES[usize::from(byte)];
            let length = usize::from(escape[WORD - 1]);
            if made + length > room {
                out.truncate(start + made);
                return at;
            }
            into[made..made + WORD].copy_from_slice(escape);
            (at, made) = (at + 1, made + length);
        }
    }
    out.truncate(start + made);
    at
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
