//! Checks that need nothing but the table: the type of each value, and whether its key is known.

use super::keys;
use super::reader::Reader;
use super::row::{Kind, Split};
use super::slot::Value;
use crate::spelling;
use crate::value::text::quote;
use crate::value::url::Url;

/// Checks the type of every value, and that no upstream is called without TLS by accident.
pub fn types(reader: &mut Reader<'_>) {
    let insecure = reader.flag("Sidecar:AllowInsecureUpstream");
    for setting in reader.settings.iter() {
        let (Some(key), Some(value)) = (reader.find(&setting.key), &setting.value) else { continue };
        let name = setting.key.rsplit(':').next().unwrap_or_default();
        let items: Vec<&str> = match key.list {
            Some(split) => value.split(split.divides()).map(str::trim).filter(|item| !item.is_empty()).collect(),
            // Blanks at the ends are part of a text only.
            None if value.trim().is_empty() => Vec::new(),
            None => vec![value.trim()],
        };
        // JSON lists cause a warning instead. A scheme may name a registration, which `api` looks
        // up.
        if (matches!(key.kind, Kind::Scope) && is_json_list(value)) || matches!(key.kind, Kind::Scheme) {
            continue;
        }
        for item in items {
            match key.kind.parse(name, item) {
                Err(expected) if key.secret => reader.problem(&setting.key, &format!("expected {expected}")),
                Err(expected) => reader.refuse(&setting.key, item, &expected),
                Ok(Value::Url(Url { origin, .. })) if !insecure && !origin.https && !origin.is_loopback() => {
                    let expected = "https://, since http:// is for loopback hosts only unless \
                                    Sidecar:AllowInsecureUpstream is true";
                    reader.refuse(&setting.key, item, expected);
                }
                Ok(_) => {}
            }
        }
    }
}

/// Warns of lists of scopes in a form that is not split: the whole text would be one scope, which
/// Entra refuses.
pub fn scopes(reader: &mut Reader<'_>) {
    for setting in reader.settings.iter() {
        let (Some(key), Some(value)) = (reader.find(&setting.key), &setting.value) else { continue };
        let found = match value {
            _ if key.list != Some(Split::Space) => continue,
            json if is_json_list(json) => "a JSON list as text, which counts as one scope",
            text if text.contains(',') => "separated by commas, so it counts as one scope",
            _ => continue,
        };
        let message = format!("{}: {found}: expected scopes separated by spaces, or by index (:0, :1)", quote(value));
        reader.warn(&setting.key, &message);
    }
}

fn is_json_list(text: &str) -> bool {
    serde_json::from_str::<Vec<serde::de::IgnoredAny>>(text).is_ok()
}

/// Warns of unknown keys in the sidecar's sections, and of sections with a similar name.
pub fn unknown(reader: &mut Reader<'_>) {
    for setting in reader.settings.iter() {
        let key = &setting.key;
        let first = key.split(':').next().unwrap_or_default();
        let ours = keys::is_ours(key)
            || reader.registrations.iter().any(|name| key.to_lowercase().starts_with(&format!("{name}:")))
            || (first.eq_ignore_ascii_case("Logging") && key.split(':').count() == 2);
        let is_section = keys::is_section(key, reader.registrations);
        let empty = setting.value.as_ref().is_some_and(|value| value.is_empty());
        if reader.find(key).is_some() || (empty && is_section) {
            continue;
        }
        if ours {
            let nearest = keys::nearest(key, reader.registrations);
            reader.warn(key, &unknown_key(is_section, &nearest));
        } else if let Some(section) = misspelt_section(key, first) {
            reader.warn(key, &format!("unknown section, ignored; the nearest known one is {section}"));
        }
    }
}

/// A section has keys below it, so a value of its own is a mistake of another kind.
fn unknown_key(is_section: bool, nearest: &str) -> String {
    if is_section {
        format!("expected keys below it, such as {nearest}; its value is ignored")
    } else {
        format!("unknown key, ignored; the nearest known one is {nearest}")
    }
}

fn misspelt_section(key: &str, first: &str) -> Option<&'static str> {
    let close = |section: &&&str| spelling::distance(&first.to_lowercase(), &section.to_lowercase()) <= 2;
    if key.contains(':') { keys::SECTIONS.iter().find(close).copied() } else { None }
}
