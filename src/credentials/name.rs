//! Distinguished names (RFC 5280 §4.1.2.4), as encoded in certificates and as written by people
//! (RFC 4514, and Windows' variant of it).

use crate::value::der::{OBJECT_IDENTIFIER, SEQUENCE, element, expect};

const SET: u8 = 0x31;
const BMP_STRING: u8 = 0x1e;
const T61_STRING: u8 = 0x14;

/// Attribute types by encoded identifier, with their accepted spellings.
const TYPES: [(&[u8], &[&str]); 12] = [
    (&[0x55, 4, 3], &["CN"]),
    (&[0x55, 4, 4], &["SN"]),
    (&[0x55, 4, 5], &["SERIALNUMBER"]),
    (&[0x55, 4, 6], &["C"]),
    (&[0x55, 4, 7], &["L"]),
    (&[0x55, 4, 8], &["ST", "S"]),
    (&[0x55, 4, 9], &["STREET"]),
    (&[0x55, 4, 10], &["O"]),
    (&[0x55, 4, 11], &["OU"]),
    (&[0x55, 4, 12], &["T", "TITLE"]),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], &["DC"]),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], &["E", "EMAILADDRESS"]),
];

/// Attributes in order: the first spelling of the type, and the value in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(Vec<(&'static str, String)>);

impl Name {
    /// Reads a certificate's name. Attributes of unknown types get an empty type, so such a name
    /// equals no written one.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (mut sets, _) = expect(SEQUENCE, der)?;
        let mut attributes = Vec::new();
        while !sets.is_empty() {
            let (mut set, rest) = expect(SET, sets)?;
            sets = rest;
            while !set.is_empty() {
                let (attribute, rest) = expect(SEQUENCE, set)?;
                set = rest;
                let (kind, value) = expect(OBJECT_IDENTIFIER, attribute)?;
                let (tag, value, _) = element(value)?;
                let kind = TYPES.iter().find(|(own, _)| *own == kind).map_or("", |(_, names)| names[0]);
                attributes.push((kind, text(tag, value)?.to_lowercase()));
            }
        }
        Some(Self(attributes))
    }

    /// Parses, for example, `CN=app, O="Example, Inc."`.
    pub fn parse(written: &str) -> Option<Self> {
        let mut attributes = Vec::new();
        let mut rest = written.trim();
        while !rest.is_empty() {
            let (kind, value) = rest.split_once('=')?;
            let kind = kind.trim();
            let is_kind = |name: &&str| name.eq_ignore_ascii_case(kind);
            let (_, names) = TYPES.iter().find(|(_, names)| names.iter().any(is_kind))?;
            let (value, after) = value_of(value.trim_start())?;
            attributes.push((names[0], value.trim().to_lowercase()));
            rest = after.trim_start();
        }
        (!attributes.is_empty()).then_some(Self(attributes))
    }

    /// True if both are the same name in either order: certificates start at the root, people at
    /// the leaf, and some tools at the root too.
    pub fn is(&self, other: &Self) -> bool {
        self == other || self.0.iter().rev().eq(other.0.iter())
    }

    /// True if any value contains this text, ignoring case.
    pub fn mentions(&self, part: &str) -> bool {
        let part = part.trim().to_lowercase();
        !part.is_empty() && self.0.iter().any(|(_, value)| value.contains(&part))
    }
}

fn value_of(written: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let quoted = written.starts_with('"');
    let mut characters = written.char_indices().skip(usize::from(quoted)).peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.push(characters.next()?.1),
            // Windows doubles a quote inside quotes.
            '"' if quoted && characters.next_if(|(_, next)| *next == '"').is_some() => value.push('"'),
            '"' if quoted => {
                let rest = written[at + 1..].trim_start();
                return if rest.is_empty() {
                    Some((value, rest))
                } else {
                    Some((value, rest.strip_prefix([',', ';', '+'])?))
                };
            }
            ',' | ';' | '+' if !quoted => return Some((value, &written[at + 1..])),
            other => value.push(other),
        }
    }
    (!quoted).then_some((value, ""))
}

fn text(tag: u8, value: &[u8]) -> Option<String> {
    match tag {
        BMP_STRING => {
            let (units, _) = value.as_chunks::<2>();
            String::from_utf16(&units.iter().map(|unit| u16::from_be_bytes(*unit)).collect::<Vec<_>>()).ok()
        }
        // In practice Latin-1.
        T61_STRING => Some(value.iter().map(|byte| char::from(*byte)).collect()),
        _ => String::from_utf8(value.to_vec()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::testing::certificates;
    use crate::value::der::Certificate;

    #[test]
    fn a_written_name_is_the_certificates_in_either_order() {
        let subject = Certificate::parse(&certificates("leaf.crt.pem")[0]).unwrap().subject;
        let subject = Name::from_der(&subject).unwrap();
        for written in [
            "CN=app.example, O=\"Example, Inc.\"", "O=Example\\, Inc., CN=app.example",
            "cn = APP.example;o=\"example, inc.\"", "CN=app.example,O=\"Example, Inc.\" ",
        ] {
            assert!(Name::parse(written).unwrap().is(&subject), "{written}");
        }
        for written in ["CN=app.example", "CN=app.example, O=Example", "CN=app.example, O=\"Example, Inc.\", C=DE"] {
            assert!(!Name::parse(written).unwrap().is(&subject), "{written}");
        }
        assert!(subject.mentions("App.Ex") && subject.mentions("inc"));
        assert!(!subject.mentions("other") && !subject.mentions(" "));
    }

    #[test]
    fn what_is_no_name_is_none() {
        for written in ["", "app", "XX=app", "CN=\"app", "CN=\"app\" x", "CN=a\\", "CN=a, b"] {
            assert_eq!(Name::parse(written), None, "{written}");
        }
        assert_eq!(Name::parse("CN=\"a \"\"b\"\"\"").unwrap().0, [("CN", "a \"b\"".to_owned())]);
    }
}
