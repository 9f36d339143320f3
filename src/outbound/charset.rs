//! Detects whether a body is text: in the charset of its `Content-Type`, else in UTF-8. Text must
//! decode without loss.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charset {
    Utf8,
    /// Each byte is its own code point.
    Latin1,
    /// Latin-1 with printable characters instead of control characters.
    Windows1252,
    /// Well-formed code units.
    Utf16(Endian),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub charset: Charset,
    /// After the byte order mark, if any.
    pub start: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endian {
    Big,
    Little,
}

/// Bytes 0x80 to 0x9f of windows-1252; `\0` if undefined.
const WINDOWS_1252: [char; 32] = [
    '\u{20ac}', '\0', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}', '\u{2c6}', '\u{2030}',
    '\u{160}', '\u{2039}', '\u{152}', '\0', '\u{17d}', '\0', '\0', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}',
    '\u{2022}', '\u{2013}', '\u{2014}', '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\0', '\u{17e}',
    '\u{178}',
];

/// `None` if the body does not decode.
pub(super) fn detect(content_type: &str, body: &[u8]) -> Option<Text> {
    let text = |charset, mark: &[u8]| {
        let start = if body.starts_with(mark) { mark.len() } else { 0 };
        Text { charset, start }
    };
    let utf16 = |endian, mark: &[u8]| {
        let text = text(Charset::Utf16(endian), mark);
        is_utf16(&body[text.start..], endian).then_some(text)
    };
    match parameter(content_type).unwrap_or("utf-8").to_ascii_lowercase().as_str() {
        "utf-8" | "utf8" => {
            let text = text(Charset::Utf8, b"\xef\xbb\xbf");
            std::str::from_utf8(&body[text.start..]).is_ok().then_some(text)
        }
        "us-ascii" | "ascii" => body.is_ascii().then_some(text(Charset::Utf8, b"")),
        "iso-8859-1" | "latin1" => Some(text(Charset::Latin1, b"")),
        "windows-1252" | "cp1252" => {
            let defined = |byte: &u8| !matches!(byte, 0x81 | 0x8d | 0x8f | 0x90 | 0x9d);
            body.iter().all(defined).then_some(text(Charset::Windows1252, b""))
        }
        "utf-16" if body.starts_with(b"\xfe\xff") => utf16(Endian::Big, b"\xfe\xff"),
        // RFC 2781 §4.3 prescribes big-endian, but text without a mark is little-endian in practice
        // (WHATWG Encoding §4.2).
        "utf-16" | "utf-16le" => utf16(Endian::Little, b"\xff\xfe"),
        "utf-16be" => utf16(Endian::Big, b"\xfe\xff"),
        _ => None,
    }
}

fn is_utf16(body: &[u8], endian: Endian) -> bool {
    body.len().is_multiple_of(2) && char::decode_utf16(units(body, endian)).all(|unit| unit.is_ok())
}

fn units(body: &[u8], endian: Endian) -> impl Iterator<Item = u16> {
    body.chunks_exact(2).map(move |pair| match endian {
        Endian::Big => u16::from_be_bytes([pair[0], pair[1]]),
        Endian::Little => u16::from_le_bytes([pair[0], pair[1]]),
    })
}

impl Charset {
    /// The first character and its length in bytes. Not used for UTF-8, which needs no decoding.
    pub(super) fn first(self, rest: &[u8]) -> Option<(char, usize)> {
        let byte = *rest.first()?;
        Some(match self {
            Self::Utf8 | Self::Latin1 => (char::from(byte), 1),
            Self::Windows1252 => {
                let upper = byte.checked_sub(0x80).and_then(|index| WINDOWS_1252.get(usize::from(index)));
                (upper.copied().unwrap_or(char::from(byte)), 1)
            }
            Self::Utf16(endian) => {
                let unit = char::decode_utf16(units(&rest[..rest.len().min(4)], endian)).next()?;
                let character = unit.unwrap_or(char::REPLACEMENT_CHARACTER);
                (character, 2 * character.len_utf16())
            }
        })
    }
}

/// The parameter `charset` (RFC 9110 §8.3.2).
fn parameter(content_type: &str) -> Option<&str> {
    let mut parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let (_, value) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
    Some(value.trim().trim_matches('"'))
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
            let decoded = detect(content_type, body).map(|text| {
                let mut rest = &body[text.start..];
                if text.charset == Charset::Utf8 {
                    return String::from_utf8(rest.to_vec()).unwrap();
                }
                let mut decoded = String::new();
                while let Some((character, bytes)) = text.charset.first(rest) {
                    decoded.push(character);
                    rest = &rest[bytes..];
                }
                decoded
            });
            assert_eq!(decoded.as_deref(), text, "{content_type} {body:?}");
        }
    }
}
