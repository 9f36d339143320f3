//! Formats one record as one line, whatever its text contains.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use log::Record;

use crate::value::{date, text};

/// The prefix of the program's own targets.
pub(super) const CRATE: &str = "entra_sidecar";

/// Longer messages are cut, in bytes.
const MAX_MESSAGE: usize = 8 * 1024;

/// `2026-01-31T12:34:56.789Z INFO  token: message`
pub fn text(record: &Record<'_>) -> String {
    let mut line = format!("{} {:5} ", timestamp(), record.level());
    text::escape(target(record), &mut line);
    line.push_str(": ");
    text::escape(&message(record), &mut line);
    line.push('\n');
    line
}

/// `{"time":"…","level":"INFO","target":"token","message":"…"}`
pub fn json(record: &Record<'_>) -> String {
    let mut line = format!("{{\"time\":\"{}\",\"level\":\"{}\",\"target\":", timestamp(), record.level());
    json_string(target(record), &mut line);
    line.push_str(",\"message\":");
    json_string(&message(record), &mut line);
    line.push_str("}\n");
    line
}

fn target<'a>(record: &'a Record<'_>) -> &'a str {
    let target = record.target();
    target.strip_prefix(CRATE).map_or(target, |rest| rest.strip_prefix("::").unwrap_or(target))
}

fn message(record: &Record<'_>) -> String {
    let mut message = record.args().to_string();
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.push('…');
    }
    message
}

/// Escapes as RFC 8259 §7 requires, and every character that does not display as itself.
fn json_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if text::is_harmless(c) => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

fn timestamp() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date::to_rfc3339(since.as_secs(), since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(message: &str, format: fn(&Record<'_>) -> String) -> String {
        let mut record = Record::builder();
        record.target("entra_sidecar::token").level(log::Level::Info);
        format(&record.args(format_args!("{message}")).build())
    }

    #[test]
    fn no_message_makes_a_second_line() {
        let line = with("a\r\n2026 ERROR b\u{2028}\u{202e}", text);
        assert!(line.ends_with(" INFO  token: a\\r\\n2026 ERROR b\\u{2028}\\u{202e}\n"), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn json_lines_are_json_and_escape_as_much() {
        let message = "a\"\\\n\u{1}\u{2028}\u{e0001}ü";
        let line = with(message, json);
        assert!(line.is_char_boundary(line.len() - 1) && line.matches('\n').count() == 1 && !line.contains('\u{2028}'));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["message"], &value["target"]), (&message.into(), &"token".into()));
    }

    #[test]
    fn long_messages_are_cut() {
        for (length, cut) in [(MAX_MESSAGE, false), (MAX_MESSAGE + 1, true)] {
            assert_eq!(with(&"x".repeat(length), text).contains('…'), cut, "{length}");
        }
    }
}
