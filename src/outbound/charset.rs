//! A body as text: by the charset of its `Content-Type`, else as UTF-8. What does not decode without loss is no text.

use std::fmt::{self, Write as _};

/// A body that is text. Displaying it decodes it, so that no copy is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text<'a> {
    /// As it is, without a byte order mark.
    Utf8(&'a str),
    /// Every byte its own code point.
    Latin1(&'a [u8]),
    /// Latin-1 with letters and signs where that has controls.
    Windows1252(&'a [u8]),
    /// Code units; checked to be well formed.
    Utf16(&'a [u8], Endian),
}

/// The order of the bytes of a code unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endian {
    Big,
    Little,
}

/// The bytes 0x80 to 0x9f of windows-1252; `\0` where it has no character.
const WINDOWS_1252: [char; 32] = [
    '\u{20ac}', '\0', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}', '\u{2c6}', '\u{2030}',
    '\u{160}', '\u{2039}', '\u{152}', '\0', '\u{17d}', '\0', '\0', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}',
    '\u{2022}', '\u{2013}', '\u{2014}', '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\0', '\u{17e}',
    '\u{178}',
];

/// The body as text of the charset that the type names. `None`: not decodable.
pub(super) fn decode<'a>(content_type: &str, body: &'a [u8]) -> Option<Text<'a>> {
    let charset = parameter(content_type).unwrap_or("utf-8").to_ascii_lowercase();
    match charset.as_str() {
        "utf-8" | "utf8" => {
            let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
            std::str::from_utf8(text).ok().map(Text::Utf8)
        }
        "us-ascii" | "ascii" => std::str::from_utf8(body).ok().filter(|text| text.is_ascii()).map(Text::Utf8),
        "iso-8859-1" | "latin1" => Some(Text::Latin1(body)),
        "windows-1252" | "cp1252" => {
            let defined = |byte: &u8| !matches!(byte, 0x81 | 0x8d | 0x8f | 0x90 | 0x9d);
            body.iter().all(defined).then_some(Text::Windows1252(body))
        }
        "utf-16" => match body {
            [0xfe, 0xff, rest @ ..] => utf16(rest, Endian::Big),
            [0xff, 0xfe, rest @ ..] => utf16(rest, Endian::Little),
            // RFC 2781 §4.3 says big-endian; what is sent without a mark is little-endian (WHATWG Encoding §4.2).
            _ => utf16(body, Endian::Little),
        },
        "utf-16le" => utf16(body.strip_prefix(b"\xff\xfe").unwrap_or(body), Endian::Little),
        "utf-16be" => utf16(body.strip_prefix(b"\xfe\xff").unwrap_or(body), Endian::Big),
        _ => None,
    }
}

fn utf16(body: &[u8], endian: Endian) -> Option<Text<'_>> {
    let whole = body.len().is_multiple_of(2);
    let well_formed = || char::decode_utf16(units(body, endian)).all(|unit| unit.is_ok());
    (whole && well_formed()).then_some(Text::Utf16(body, endian))
}

fn units(body: &[u8], endian: Endian) -> impl Iterator<Item = u16> {
    body.chunks_exact(2).map(move |pair| match endian {
        Endian::Big => u16::from_be_bytes([pair[0], pair[1]]),
        Endian::Little => u16::from_le_bytes([pair[0], pair[1]]),
    })
}

/// The value of the parameter `charset` (RFC 9110 §8.3.2).
fn parameter(content_type: &str) -> Option<&str> {
    let mut parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let (_, value) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
    Some(value.trim().trim_matches('"'))
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utf8(text) => f.write_str(text),
            Self::Latin1(bytes) => bytes.iter().try_for_each(|byte| f.write_char(char::from(*byte))),
            Self::Windows1252(bytes) => bytes.iter().try_for_each(|byte| {
                let upper = byte.checked_sub(0x80).and_then(|index| WINDOWS_1252.get(usize::from(index)));
                f.write_char(upper.copied().unwrap_or(char::from(*byte)))
            }),
            Self::Utf16(bytes, endian) => char::decode_utf16(units(bytes, *endian))
                .try_for_each(|unit| f.write_char(unit.unwrap_or(char::REPLACEMENT_CHARACTER))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_charset_decodes_or_refuses() {
        for (content_type, body, text) in [
            ("", &b"caf\xc3\xa9"[..], Some("caf\u{e9}")),
            ("", b"\xef\xbb\xbfx", Some("x")),
            ("", b"caf\xe9", None),
            ("application/json", b"{}", Some("{}")),
            ("text/plain; charset=UTF-8", b"x", Some("x")),
            ("text/plain;format=flowed;CHARSET=\"utf-8\"", b"\xc3\xa9", Some("\u{e9}")),
            ("text/plain; charset=utf-8", b"\xff", None),
            ("text/plain; charset=us-ascii", b"x", Some("x")),
            ("text/plain; charset=us-ascii", b"\xc3\xa9", None),
            ("text/plain; charset=ISO-8859-1", b"caf\xe9\x80", Some("caf\u{e9}\u{80}")),
            ("text/plain; charset=windows-1252", b"\x80\x9f\xe9z", Some("\u{20ac}\u{178}\u{e9}z")),
            ("text/plain; charset=windows-1252", b"\x81", None),
            ("text/plain; charset=utf-16", b"\xfe\xff\0a", Some("a")),
            ("text/plain; charset=utf-16", b"\xff\xfea\0", Some("a")),
            ("text/plain; charset=utf-16", b"a\0", Some("a")),
            ("text/plain; charset=utf-16le", b"\x3d\xd8\x00\xde", Some("\u{1f600}")),
            ("text/plain; charset=utf-16be", b"\xd8\x3d", None),
            ("text/plain; charset=utf-16be", b"\0a\0", None),
            ("text/plain; charset=koi8-r", b"x", None),
            ("text/plain; charset=", b"x", None),
        ] {
            let decoded = decode(content_type, body).map(|text| text.to_string());
            assert_eq!(decoded.as_deref(), text, "{content_type} {body:?}");
        }
    }
}
