//! Percent-encoding (RFC 3986 §2.1) and its form variant, where `+` is a blank.

use std::borrow::Cow;

/// Undoes the coding of a key or value of a query. `None`: a `%` without two hex digits, or no UTF-8.
pub fn decode_form(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    String::from_utf8(decode_bytes(text, true)?).ok().map(Cow::Owned)
}

/// Undoes the coding of a path, once. `None` as for [`decode_form`].
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    String::from_utf8(decode_bytes(text, false)?).ok().map(Cow::Owned)
}

fn decode_bytes(text: &str, form: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            b'+' if form => b' ',
            other => other,
        });
    }
    Some(out)
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Appends `text` with everything encoded but the unreserved characters (RFC 3986 §2.3).
pub fn encode_component(out: &mut String, text: &str) {
    encode(out, text, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'));
}

/// Appends `text`, which may be encoded in part already, with everything encoded that no URL may hold
/// (RFC 3986 §2): blanks, quotes, braces, what is not ASCII.
pub fn encode_rest(out: &mut String, text: &str) {
    encode(out, text, |byte| {
        byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#')
    });
}

/// The bytes with those encoded that servers write into a `Location` as they are although no URL may hold them: blanks and
/// what is not ASCII, in whatever encoding it is.
pub fn encode_raw(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    encode_bytes(&mut out, bytes, |byte| byte.is_ascii() && byte != b' ');
    out
}

fn encode(out: &mut String, text: &str, keep: impl Fn(u8) -> bool) {
    encode_bytes(out, text.as_bytes(), keep);
}

fn encode_bytes(out: &mut String, bytes: &[u8], keep: impl Fn(u8) -> bool) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for &byte in bytes {
        if keep(byte) {
            out.push(char::from(byte));
        } else {
            out.extend(['%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_text_is_decoded_strictly() {
        for (coded, text) in [("", ""), ("a", "a"), ("a+b", "a b"), ("a%2Bb", "a+b"), ("%c3%A9", "\u{e9}")] {
            assert_eq!(decode_form(coded).as_deref(), Some(text), "{coded}");
        }
        for coded in ["%", "%4", "%zz", "%4g", "a%", "%c3", "%ff", "%+1", "%c0%ae"] {
            assert_eq!(decode_form(coded), None, "{coded}");
        }
        assert_eq!(decode("a+b%20").as_deref(), Some("a+b "));
    }

    #[test]
    fn encoding_keeps_what_is_encoded_and_adds_what_is_missing() {
        let mut out = String::new();
        encode_rest(&mut out, "me/drive/root:/a b%20c/\u{e9}'{x}\"");
        assert_eq!(out, "me/drive/root:/a%20b%20c/%C3%A9'%7Bx%7D%22");
        out.clear();
        encode_component(&mut out, "$top=1&a b/\u{e9}-._~");
        assert_eq!(out, "%24top%3D1%26a%20b%2F%C3%A9-._~");
    }
}
