//! Foreign text, made safe to show on one line.

use std::fmt;

/// Appends `text`, escaping everything that could end the line, move the cursor or reorder the
/// display: control characters, Unicode line separators, bidirectional marks and invisible
/// characters.
pub fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        if is_harmless(c) { out.push(c) } else { out.extend(c.escape_default()) }
    }
}

/// True if a character displays as itself and nothing else.
pub fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A name that the caller sent, cut to 100 characters for a message. Characters that [`escape`]
/// escapes become `?`.
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX_SHOWN: usize = 100;
        let clean = |c: char| if is_harmless(c) { c } else { '?' };
        let mut chars = self.0.chars();
        chars.by_ref().take(MAX_SHOWN).try_for_each(|c| write!(f, "{}", clean(c)))?;
        if chars.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}

/// The text behind a prefix in any case (ASCII).
pub fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// True for one word of visible ASCII, such as a token that fits in a header.
pub fn is_visible_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Quotes a value for a message: escaped, cut to 100 characters, and without the parts of a URL or
/// path that may be secret: user name, password, and query values, which may be function keys or
/// shared access signatures.
pub fn quote(text: &str) -> String {
    const MAX_SHOWN: usize = 100;
    let mut out = String::from("\"");
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (&text[..scheme.len() + 3], rest));
    let shown = match rest.rsplit_once('@') {
        Some((_, host)) if !scheme.is_empty() => without_query(&format!("{scheme}[redacted]@{host}")),
        _ => without_query(text),
    };
    escape(&shown.chars().take(MAX_SHOWN).collect::<String>(), &mut out);
    if shown.chars().count() > MAX_SHOWN {
        out.push('…');
    }
    out.push('"');
    out
}

/// Replaces every query value with `[redacted]`.
fn without_query(text: &str) -> String {
    let Some((path, query)) = text.split_once('?').filter(|(_, query)| !query.is_empty()) else {
        return text.to_owned();
    };
    let redacted = |pair: &str| match pair.split_once('=') {
        Some((name, _)) => format!("{name}=[redacted]"),
        None => "[redacted]".to_owned(),
    };
    format!("{path}?{}", query.split('&').map(redacted).collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes_its_line() {
        let mut out = String::new();
        escape("a\r\nb\t\u{1b}[31m\u{2028}\u{202e}\u{85}ü€😀", &mut out);
        assert_eq!(out, "a\\r\\nb\\t\\u{1b}[31m\\u{2028}\\u{202e}\\u{85}ü€😀");
    }

    #[test]
    fn a_callers_name_is_cut_and_made_harmless() {
        assert_eq!(Shown("a\nb\u{202e}c").to_string(), "a?b?c");
        assert_eq!(Shown(&"x".repeat(100)).to_string(), "x".repeat(100));
        assert_eq!(Shown(&"x".repeat(101)).to_string(), format!("{}…", "x".repeat(100)));
    }

    #[test]
    fn quoted_values_are_short_and_hold_no_password() {
        assert_eq!(
            quote("https://host/a?code=s3cret&s3cret&b="),
            "\"https://host/a?code=[redacted]&[redacted]&b=[redacted]\""
        );
        assert_eq!(quote("me?sig=s3cret"), "\"me?sig=[redacted]\"");
        assert_eq!(quote("https://u:s3cret@host/?c=s3cret"), "\"https://[redacted]@host/?c=[redacted]\"");
        assert_eq!(quote("yes?"), "\"yes?\"");
        assert_eq!(quote("https://user:pw@host/"), "\"https://[redacted]@host/\"");
        assert_eq!(quote(&"x".repeat(100)).len(), 102);
        assert_eq!(quote(&"x".repeat(101)), format!("\"{}…\"", "x".repeat(100)));
    }
}
