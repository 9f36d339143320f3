//! PEM (RFC 7468). `rustls-pki-types` skips encrypted keys and wipes nothing, so credentials are
//! read here.

use zeroize::Zeroizing;

use super::{Expected, b64};

const BEGIN: &[u8] = b"-----BEGIN ";
const DASHES: &[u8] = b"-----";

/// The content between a `BEGIN` line and its `END` line.
pub struct Section<'a> {
    /// For example `CERTIFICATE`.
    pub label: &'a [u8],
    /// Base64, with any headers before it.
    pub body: &'a [u8],
}

impl Section<'_> {
    pub fn decode(&self) -> Result<Zeroizing<Vec<u8>>, Expected> {
        b64::secret(self.body).ok_or("base64 as the content of PEM")
    }
}

/// True if the text contains a section, even a truncated one.
pub fn is_in(text: &[u8]) -> bool {
    find(text, BEGIN).is_some()
}

/// The sections in order. Text between them is explanatory (RFC 7468 §5.2). Stops after a section
/// without an end.
pub fn sections(mut text: &[u8]) -> impl Iterator<Item = Result<Section<'_>, Expected>> {
    std::iter::from_fn(move || {
        let start = find(text, BEGIN)?;
        let (section, rest) = section(&text[start + BEGIN.len()..]).unzip();
        text = rest.unwrap_or_default();
        Some(section.ok_or("PEM with its end; is the file cut off?"))
    })
}

fn section(text: &[u8]) -> Option<(Section<'_>, &[u8])> {
    let (label, rest) = text.split_at(find(text, DASHES)?);
    let end = [b"-----END ", label, DASHES].concat();
    let body = &rest[DASHES.len()..];
    let length = find(body, &end)?;
    Some((Section { label, body: &body[..length] }, &body[length + end.len()..]))
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_among_explanations() {
        let text = b"a\n-----BEGIN A-----\nAA ==\n-----END A-----\nb\n-----BEGIN B C-----\n!\n-----END B C-----\n-----BEGIN D-----";
        let mut found = sections(text);
        let first = found.next().unwrap().unwrap();
        assert_eq!((first.label, first.decode().unwrap().to_vec()), (&b"A"[..], vec![0]));
        let second = found.next().unwrap().unwrap();
        assert_eq!(second.label, b"B C");
        assert!(second.decode().is_err());
        assert!(found.next().unwrap().is_err());
        assert!(found.next().is_none());
    }
}
