//! Percent-encoding (RFC 3986 §2.1) and its form variant, where `+` is a space.

use std::borrow::Cow;

use percent_encoding::{
    AsciiSet, CONTROLS, NON_ALPHANUMERIC, PercentEncode, percent_decode_str, percent_encode, utf8_percent_encode,
};

use super::Expected;

/// Everything except the unreserved characters (RFC 3986 §2.3).
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What HTML forms encode, apart from the space, which becomes `+`.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*');

/// Characters that no URL may contain (RFC 3986 §2).
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

/// Decodes a key or value of a query. Fails for a `%` without two hex digits and for invalid UTF-8.
pub fn decode_form(text: &str) -> Result<Cow<'_, str>, Expected> {
    if !text.contains('+') {
        return decode(text);
    }
    Ok(Cow::Owned(decode(&text.replace('+', " "))?.into_owned()))
}

/// Decodes a path once. Fails as [`decode_form`] does.
pub fn decode(text: &str) -> Result<Cow<'_, str>, Expected> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let escape = |rest: &str| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    let coded = text.split('%').skip(1).all(escape);
    percent_decode_str(text).decode_utf8().ok().filter(|_| coded).ok_or("percent-encoded UTF-8")
}

/// Decodes once. Keeps malformed escapes, and replaces invalid UTF-8.
pub fn decode_lenient(text: &str) -> Cow<'_, str> {
    if text.contains('%') { percent_decode_str(text).decode_utf8_lossy() } else { Cow::Borrowed(text) }
}

/// Encodes text as one path segment, query name or query value: only unreserved characters stay as
/// they are.
pub fn encode_component(text: &str) -> String {
    utf8_percent_encode(text, COMPONENT).to_string()
}

/// Encodes a query; `None` if there are no parameters.
pub fn encode_query<'a>(parameters: impl IntoIterator<Item = (&'a String, &'a String)>) -> Option<String> {
    let pair = |(name, value): (&String, &String)| format!("{}={}", encode_component(name), encode_component(value));
    let pairs: Vec<_> = parameters.into_iter().map(pair).collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}

/// Encodes only what no URL may contain, such as spaces, quotes, braces and non-ASCII. The text may
/// be partly encoded already.
pub fn encode_rest(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, REST)
}

/// Encodes what servers leave unencoded in a `Location` although no URL may contain it: spaces and
/// bytes beyond ASCII, in whatever charset.
pub fn encode_raw(bytes: &[u8]) -> String {
    const BLANK: &AsciiSet = &AsciiSet::EMPTY.add(b' ');
    percent_encode(bytes, BLANK).to_string()
}

/// Appends text as HTML forms encode it: at most three bytes per input byte.
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
