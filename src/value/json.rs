//! JSON strings at memory speed (RFC 8259 §7): bytes that need no escape are looked at many at a time and copied in
//! runs. What `serde_json` would write, byte for byte.

use super::hex;

/// Looked at together, without a branch a byte, so that the compiler uses vector instructions.
const CHUNK: usize = 64;

/// How many bytes more an escaped byte takes: 1 for those with a short escape, 5 for the other controls. Without a
/// branch, so that a sum over many bytes is made with vector instructions.
const fn growth(byte: u8) -> u8 {
    let quoted = matches!(byte, b'"' | b'\\');
    let short = matches!(byte, 0x08..=0x0a | 0x0c | 0x0d);
    quoted as u8 + 5 * (byte < 0x20) as u8 - 4 * short as u8
}

const fn is_special(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// The length of some text as the inside of a JSON string.
pub fn escaped_len(text: &[u8]) -> usize {
    // 48 bytes of 5 fit into a byte.
    let grown = text.chunks(48).map(|chunk| usize::from(chunk.iter().fold(0, |sum: u8, &byte| sum + growth(byte))));
    text.len() + grown.sum::<usize>()
}

/// The first byte from `from` on that needs an escape, or the end.
fn next_special(text: &[u8], from: usize) -> usize {
    let mut at = from;
    for chunk in text[from..].chunks_exact(CHUNK) {
        if chunk.iter().fold(false, |any, &byte| any | is_special(byte)) {
            break;
        }
        at += CHUNK;
    }
    text[at..].iter().position(|&byte| is_special(byte)).map_or(text.len(), |further| at + further)
}

/// Appends text as the inside of a JSON string, as much of it as fits into `room` bytes: how much that was. UTF-8 may
/// be cut between two bytes of one character; the next call goes on there.
pub fn push_escaped(out: &mut Vec<u8>, text: &[u8], room: usize) -> usize {
    let end = out.len() + room;
    let mut at = 0;
    loop {
        let run = next_special(&text[..text.len().min(at + (end - out.len()))], at);
        out.extend_from_slice(&text[at..run]);
        at = run;
        let Some(&byte) = text.get(at) else { return at };
        if out.len() + 1 + usize::from(growth(byte)) > end {
            return at;
        }
        push_escape(out, byte);
        at += 1;
    }
}

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        0..0x20 => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&hex::lower(byte));
            return;
        }
        _ => {
            out.push(byte);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends a whole JSON string.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text.as_bytes(), usize::MAX / 2);
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
