//! Converts BER (X.690 §8) to DER: resolves indefinite lengths and joins strings in pieces. NSS and
//! older tools write PKCS#12 this way, as RFC 7292 §4 allows.

use zeroize::Zeroizing;

use crate::value::der::{OCTET_STRING, element};

const CONSTRUCTED: u8 = 0x20;
/// Instead of a length; [`END`] marks the end of the content (X.690 §8.1.3.6).
const INDEFINITE: u8 = 0x80;
const END: &[u8] = &[0, 0];

/// Deeper structures are rejected.
const MAX_DEPTH: usize = 32;

/// Converts the first element. The content of strings is not converted.
pub fn to_der(ber: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (node, _) = node(ber, MAX_DEPTH)?;
    let mut der = Zeroizing::new(Vec::with_capacity(node.length()));
    node.write(&mut der);
    Some(der)
}

enum Node<'a> {
    /// In one or more pieces.
    String(u8, Vec<&'a [u8]>),
    Constructed(u8, Vec<Self>),
}

fn node(input: &[u8], depth: usize) -> Option<(Node<'_>, &[u8])> {
    let depth = depth.checked_sub(1)?;
    let (&tag, after) = input.split_first()?;
    if tag & CONSTRUCTED == 0 {
        let (_, content, rest) = element(input)?;
        return Some((Node::String(tag, vec![content]), rest));
    }
    let mut children = Vec::new();
    let rest = if let Some((&INDEFINITE, mut rest)) = after.split_first() {
        loop {
            if let Some(rest) = rest.strip_prefix(END) {
                break rest;
            }
            let (child, after) = node(rest, depth)?;
            children.push(child);
            rest = after;
        }
    } else {
        let (_, mut content, rest) = element(input)?;
        while !content.is_empty() {
            let (child, after) = node(content, depth)?;
            children.push(child);
            content = after;
        }
        rest
    };
    if tag != OCTET_STRING | CONSTRUCTED {
        return Some((Node::Constructed(tag, children), rest));
    }
    let mut pieces = Vec::new();
    for child in children {
        match child {
            Node::String(OCTET_STRING, own) => pieces.extend(own),
            _ => return None,
        }
    }
    Some((Node::String(OCTET_STRING, pieces), rest))
}

impl Node<'_> {
    fn content_length(&self) -> usize {
        match self {
            Self::String(_, pieces) => pieces.iter().map(|piece| piece.len()).sum(),
            Self::Constructed(_, children) => children.iter().map(Self::length).sum(),
        }
    }

    fn length(&self) -> usize {
        let content = self.content_length();
        2 + long_form(content).count() + content
    }

    fn write(&self, der: &mut Vec<u8>) {
        let (Self::String(tag, _) | Self::Constructed(tag, _)) = self;
        der.push(*tag);
        let content = self.content_length();
        let first = match long_form(content).count() {
            0 => content,
            count => 0x80 | count,
        };
        der.extend(first.to_be_bytes().last());
        der.extend(long_form(content));
        match self {
            Self::String(_, pieces) => pieces.iter().for_each(|piece| der.extend_from_slice(piece)),
            Self::Constructed(_, children) => children.iter().for_each(|child| child.write(der)),
        }
    }
}

/// The bytes after the first byte of a length (X.690 §10.1).
fn long_form(length: usize) -> impl Iterator<Item = u8> {
    let bytes = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0);
    bytes.filter(move |_| length > 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_marks_and_pieces_become_lengths_and_whole_strings() {
        let long = [&[0x24, 0x80, 0x04, 0x82, 0x01, 0x00][..], &[7; 256], &[0x04, 0x01, 8, 0, 0]].concat();
        let whole = [&[0x04, 0x82, 0x01, 0x01][..], &[7; 256], &[8]].concat();
        let cases: [(&[u8], &[u8]); 6] = [
            (&[0x30, 0x80, 0x02, 0x01, 3, 0, 0, 9], &[0x30, 0x03, 0x02, 0x01, 3]),
            (&[0x30, 0x80, 0x30, 0x80, 0, 0, 0, 0], &[0x30, 0x02, 0x30, 0x00]),
            (&[0x24, 0x06, 0x04, 0x01, 1, 0x04, 0x01, 2], &[0x04, 0x02, 1, 2]),
            (&[0x24, 0x80, 0x24, 0x80, 0x04, 0x01, 1, 0, 0, 0x04, 0x00, 0, 0], &[0x04, 0x01, 1]),
            (&[0xa0, 0x81, 0x02, 0x05, 0x00], &[0xa0, 0x02, 0x05, 0x00]),
            (&long, &whole),
        ];
        for (ber, der) in cases {
            assert_eq!(to_der(ber).unwrap().as_slice(), der);
            assert_eq!(to_der(der).unwrap().as_slice(), der);
            let end = ber.len() - usize::from(ber.ends_with(&[9]));
            assert!((0..end).all(|end| to_der(&ber[..end]).is_none()), "{ber:?} cut off");
        }
    }

    #[test]
    fn what_is_no_ber_is_nothing() {
        let deep = [[0x30, 0x80].repeat(MAX_DEPTH + 1), [0, 0].repeat(MAX_DEPTH + 1)].concat();
        let cases: [&[u8]; 4] =
            [&[0x04, 0x80, 1, 0, 0], &[0x24, 0x03, 0x02, 0x01, 1], &[0x30, 0x85, 0, 0, 0, 0, 0], &deep];
        for ber in cases {
            assert!(to_der(ber).is_none(), "{ber:?}");
        }
    }
}
