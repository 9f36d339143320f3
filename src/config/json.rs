//! Reads JSON as .NET's configuration does: comments and trailing commas are allowed, keys are
//! compared without regard to case, and a repeated key in one file is an error.
//!
//! Comments and trailing commas are replaced by blanks first, so `serde_json` reports the file's
//! own positions.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

/// Path and text of each value, in the order of the file. `None` is `null`, which hides lower
/// sources. An empty object or list becomes an empty text.
pub type Flat = Vec<(String, Option<Zeroizing<String>>)>;

/// Reads the text of a file. An error has the form `line:column: cause`.
pub fn flatten(text: &str) -> Result<Flat, String> {
    let plain = Zeroizing::new(blank(text)?);
    let tree = Tree::default();
    let mut json = serde_json::Deserializer::from_str(&plain);
    Node { tree: &tree, path: "" }.deserialize(&mut json).and_then(|()| json.end()).map_err(|error| {
        let full = error.to_string();
        let cause = full.rsplit_once(" at line ").map_or(full.as_str(), |(cause, _)| cause);
        format!("{}:{}: {cause}", error.line(), error.column())
    })?;
    Ok(tree.values.into_inner())
}

/// Replaces comments and trailing commas by blanks. Line ends stay.
fn blank(text: &str) -> Result<String, String> {
    let mut out = Zeroizing::new(text.as_bytes().to_vec());
    let mut comma = None;
    let mut previous = b'{';
    let mut at = 0;
    while let Some(&byte) = out.get(at) {
        match (byte, out.get(at + 1)) {
            (b'"', _) => {
                comma = None;
                previous = byte;
                at = end_of_string(&out, at);
                continue;
            }
            (b'/', Some(b'/')) => {
                while out.get(at).is_some_and(|&byte| byte != b'\n' && byte != b'\r') {
                    out[at] = b' ';
                    at += 1;
                }
                continue;
            }
            (b'/', Some(b'*')) => {
                let Some(length) = out[at + 2..].windows(2).position(|pair| pair == b"*/") else {
                    let (line, column) = position(text, at);
                    return Err(format!("{line}:{column}: unterminated comment"));
                };
                for byte in &mut out[at..at + length + 4] {
                    if !matches!(byte, b'\n' | b'\r') {
                        *byte = b' ';
                    }
                }
                at += length + 4;
                continue;
            }
            // A comma can only be trailing after a value. Others stay, so that `serde_json` refuses
            // them.
            (b',', _) => comma = (!matches!(previous, b'{' | b'[' | b',' | b':')).then_some(at),
            (b'}' | b']', _) => {
                if let Some(trailing) = comma.take() {
                    out[trailing] = b' ';
                }
            }
            _ if byte.is_ascii_whitespace() => {}
            _ => comma = None,
        }
        if !byte.is_ascii_whitespace() {
            previous = byte;
        }
        at += 1;
    }
    // Only whole comments were replaced, by ASCII, so this is still UTF-8.
    String::from_utf8(std::mem::take(&mut *out)).map_err(|error| error.to_string())
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    bytes.len()
}

fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at];
    let line = before.split(|&byte| byte == b'\n').count();
    (line, at - before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1) + 1)
}

#[derive(Default)]
struct Tree {
    values: RefCell<Flat>,
    seen: RefCell<HashSet<String>>,
}

#[derive(Clone, Copy)]
struct Node<'a> {
    tree: &'a Tree,
    path: &'a str,
}

impl Node<'_> {
    fn add<E: Error>(self, value: Option<&str>) -> Result<(), E> {
        if self.path.is_empty() {
            return Err(E::custom("the file must hold an object"));
        }
        if !self.tree.seen.borrow_mut().insert(self.path.to_lowercase()) {
            return Err(E::custom(format_args!("the key {:?} appears twice", self.path)));
        }
        let value = value.map(|text| Zeroizing::new(text.to_owned()));
        self.tree.values.borrow_mut().push((self.path.to_owned(), value));
        Ok(())
    }

    fn child(self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}:{name}", self.path) }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.add(Some(if value { "True" } else { "False" }))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.add(Some(&value.to_string()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.add(Some(&value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.add(Some(&value.to_string()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.add(Some(value))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.add(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut index = 0;
        loop {
            let path = self.child(&index.to_string());
            if self.path.is_empty() {
                return Err(A::Error::custom("the file must hold an object"));
            }
            if items.next_element_seed(Node { tree: self.tree, path: &path })?.is_none() {
                break;
            }
            index += 1;
        }
        if index == 0 { self.add(Some("")) } else { Ok(()) }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            let path = self.child(&name);
            if !names.insert(name.to_lowercase()) {
                return Err(A::Error::custom(format_args!("the key {path:?} appears twice")));
            }
            members.next_value_seed(Node { tree: self.tree, path: &path })?;
        }
        if names.is_empty() && !self.path.is_empty() { self.add(Some("")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(text: &str) -> Vec<(String, Option<String>)> {
        flatten(text).unwrap().into_iter().map(|(key, value)| (key, value.map(|value| value.to_string()))).collect()
    }

    #[test]
    fn the_dialect_of_appsettings_is_read() {
        let text = "{ // line, with \"quotes\" and [,\n  \"A\": { /* block ,} */ \"B\": \"x // no comment /* */ ,}\", },\n  \
                    \"N\": [1, 0.5, true, null, {\"C\": \"\\\"\"},], \"E\": {}, \"L\": [ ], // end\r\n}\n/* \u{e4} */";
        let expected = [
            ("A:B", Some("x // no comment /* */ ,}")),
            ("N:0", Some("1")),
            ("N:1", Some("0.5")),
            ("N:2", Some("True")),
            ("N:3", None),
            ("N:4:C", Some("\"")),
            ("E", Some("")),
            ("L", Some("")),
        ];
        assert_eq!(flat(text), expected.map(|(key, value)| (key.to_owned(), value.map(str::to_owned))));
        assert_eq!(flat("{}"), []);
    }

    #[test]
    fn a_key_given_twice_is_an_error_whatever_its_case() {
        for text in
            ["{\n\"A\": 1,\n \"a\": 2}", "{\n\"A\": {\"B\": 1},\n \"a:b\": 2}", "{\n\"A\": {},\n \"a\": {\"b\": 2}}"]
        {
            let error = flatten(text).unwrap_err();
            assert!(error.starts_with("3:") && error.contains("twice"), "{error}");
        }
    }

    #[test]
    fn errors_name_line_and_column_of_the_file() {
        for (text, start) in [
            ("{\n  /* c\n */ \"A\": x}", "3:"),
            ("{\"A\": 1 \"B\": 2}", "1:9"),
            ("{\n \"A\": /* open", "2:7: unterminated comment"),
            ("[1]", "1:"),
            ("\"text\"", "1:"),
            ("", "1:0"),
            ("{} {}", "1:4"),
            ("{\"A\": \"open", "1:"),
            ("{,}", "1:"),
            ("{\"A\": 1,,}", "1:"),
            ("{\"A\": [,]}", "1:"),
        ] {
            let result = flatten(text);
            assert!(result.as_ref().is_err_and(|error| error.starts_with(start)), "{text:?} {result:?}");
        }
    }
}
