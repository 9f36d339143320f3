//! Percent-encoding (RFC 3986 §2.1) and its form variant, where `+` is a blank.

use std::borrow::Cow;

use percent_encoding::{
    AsciiSet, CONTROLS, NON_ALPHANUMERIC, PercentEncode, percent_decode_str, percent_encode, utf8_percent_encode,
};

use super::Expected;

/// Everything but the unreserved characters (RFC 3986 §2.3).
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What HTML forms encode; the blank is replaced before.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*');

/// What no URL may hold (RFC 3986 §2).
const REST: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b'#');

/// What is no visible ASCII, and what begins an escape.
const INVISIBLE: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// The text in visible ASCII, as one word of a header field's value.
pub fn encode_invisible(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, INVISIBLE)
}

/// Undoes the coding of a key or value of a query.
///
/// # Errors
/// A `%` without two hex digits, or no UTF-8.
pub fn decode_form(text: &str) -> Result<Cow<'_, str>, Expected> {
    if !text.contains('+') {
        return decode(text);
    }
    Ok(Cow::Owned(decode(&text.replace('+', " "))?.into_owned()))
}

/// Undoes the coding of a path, once.
///
/// # Errors
/// As for [`decode_form`].
pub fn decode(text: &str) -> Result<Cow<'_, str>, Expected> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let escape = |rest: &str| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    let coded = text.split('%').skip(1).all(escape);
    percent_decode_str(text).decode_utf8().ok().filter(|_| coded).ok_or("percent-encoded UTF-8")
}

/// Undoes the coding once. What is no escape stays as it is, and what is no UTF-8 is replaced.
pub fn decode_lenient(text: &str) -> Cow<'_, str> {
    if text.contains('%') { percent_decode_str(text).decode_utf8_lossy() } else { Cow::Borrowed(text) }
}

/// The text as one path segment, query name or query value: only the unreserved characters stand for themselves.
pub fn encode_component(text: &str) -> String {
    utf8_percent_encode(text, COMPONENT).to_string()
}

/// Text that may be encoded in part already, with everything encoded that no URL may hold: blanks, quotes, braces, what is
/// not ASCII.
pub fn encode_rest(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, REST)
}

/// The bytes with those encoded that servers write into a `Location` as they are although no URL may hold them: blanks and
/// what is not ASCII, in whatever encoding it is.
pub fn encode_raw(bytes: &[u8]) -> String {
    const BLANK: &AsciiSet = &AsciiSet::EMPTY.add(b' ');
    percent_encode(bytes, BLANK).to_string()
}

/// Appends the text as HTML forms encode it. At most three bytes are added for each.
pub fn push_form(out: &mut Vec<u8>, text: &str) {
    for (index, word) in text.split(' ').enumerate() {
        if index > 0 {
            out.push(b'+');
        }
        utf8_percent_encode(word, FORM).for_each(|part| out.extend_from_slice(part.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_text_is_decoded_strictly() {
        for (coded, text) in [("", ""), ("a", "a"), ("a+b", "a b"), ("a%2Bb", "a+b"), ("%c3%A9", "\u{e9}")] {
            assert_eq!(decode_form(coded).as_deref(), Ok(text), "{coded}");
        }
        for coded in ["%", "%4", "%zz", "%4g", "a%", "%c3", "%ff", "%+1", "%c0%ae"] {
            assert!(decode_form(coded).is_err(), "{coded}");
        }
        assert_eq!(decode("a+b%20").as_deref(), Ok("a+b "));
    }

    #[test]
    fn encoding_keeps_what_is_encoded_and_adds_what_is_missing() {
        assert_eq!(
            encode_rest("me/drive/root:/a b%20c/\u{e9}'{x}\"").to_string(),
            "me/drive/root:/a%20b%20c/%C3%A9'%7Bx%7D%22"
        );
        let kept = "!$%&'()*+,-./:;=?@[]_~";
        assert_eq!(encode_rest(kept).to_string(), kept);
        assert_eq!(encode_rest("\"<>\\^`{|}#\u{7f}\n").to_string(), "%22%3C%3E%5C%5E%60%7B%7C%7D%23%7F%0A");
        assert_eq!(encode_component("$top=1&a b/\u{e9}-._~"), "%24top%3D1%26a%20b%2F%C3%A9-._~");
        assert_eq!(encode_invisible("a b%\u{e9}\n\u{7f}\"~").to_string(), "a%20b%25%C3%A9%0A%7F\"~");
        assert_eq!(encode_raw(b"/a b\xff\r\"%"), "/a%20b%FF\r\"%");
    }

    #[test]
    fn leniently_what_is_no_escape_stays_as_it_is() {
        for (coded, text) in [("a%20b", "a b"), ("%", "%"), ("%4", "%4"), ("%zz%41", "%zzA"), ("%ff", "\u{fffd}")] {
            assert_eq!(decode_lenient(coded), text, "{coded}");
        }
    }
}
