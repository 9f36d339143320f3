//! GUIDs: checked, normalized and generated (RFC 9562).

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use ring::rand::{SecureRandom, SystemRandom};

use super::{Expected, ensure, hex};

/// Lower case with dashes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Guid([u8; 36]);

impl Guid {
    pub fn as_str(&self) -> &str {
        // All bytes are hex digits and dashes.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Generates an unpredictable GUID (RFC 9562 §5.4).
pub fn random() -> Guid {
    let mut bytes = [0u8; 16];
    // The kernel's generator cannot fail once seeded; even an all-zero id would do no harm.
    let _ = SystemRandom::new().fill(&mut bytes);
    version_4(bytes)
}

/// The GUID of this number, in this process: a keyed hash. It distinguishes requests without a system call and proves
/// nothing.
pub fn numbered(number: u64) -> Guid {
    static KEYS: LazyLock<(RandomState, RandomState)> = LazyLock::new(|| (RandomState::new(), RandomState::new()));
    let (high, low) = (KEYS.0.hash_one(number), KEYS.1.hash_one(number));
    version_4((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
}

fn version_4(mut bytes: [u8; 16]) -> Guid {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    of_bytes(bytes)
}

pub fn of_bytes(bytes: [u8; 16]) -> Guid {
    /// Offsets of each byte's two digits.
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let mut text = [b'-'; 36];
    for (byte, at) in bytes.into_iter().zip(PLACES) {
        [text[at], text[at + 1]] = hex::lower(byte);
    }
    Guid(text)
}

/// True for the usual form, `8-4-4-4-12` hex digits.
pub fn is_guid(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Normalizes a GUID to lower case with dashes. Accepts .NET's usual forms: with or without dashes,
/// braces or parentheses.
pub fn parse(text: &str) -> Result<String, Expected> {
    let bare = match text.as_bytes() {
        [b'{', .., b'}'] | [b'(', .., b')'] if text.len() == 38 => &text[1..37],
        _ => text,
    };
    let digits: String = if is_guid(bare) { bare.split('-').collect() } else { bare.to_owned() };
    ensure(digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "a GUID")?;
    let digits = digits.to_ascii_lowercase();
    Ok([&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotnets_forms_are_read_into_one() {
        let canonical = "5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab";
        for text in [
            canonical, "5F0A5B1C-8A3E-4D0B-9B1E-0123456789AB", "5f0a5b1c8a3e4d0b9b1e0123456789ab",
            "{5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab}", "(5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab)",
        ] {
            assert_eq!(parse(text).as_deref(), Ok(canonical), "{text}");
        }
        for text in [
            "",
            "{",
            "{}",
            "5f0a5b1c-8a3e-4d0b-9b1e-0123456789a",
            "5f0a5b1c-8a3e-4d0b-9b1e-0123456789abc",
            "5f0a5b1c-8a3e-4d0b-9b1e-0123456789ag",
            "5f0a5b1c08a3e-4d0b-9b1e-0123456789ab",
            "5f0a5b1c-8a3e-4d0b-9b1e--123456789ab",
            "{5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab",
            "{5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab)",
            "5f0a5b1c-8a3e-4d0b-9b1e-01234567\u{e9}ab",
        ] {
            assert_eq!(parse(text), Err("a GUID"), "{text:?}");
        }
    }

    #[test]
    fn random_ones_are_guids_and_differ() {
        for (a, b) in [(random(), random()), (numbered(1), numbered(2))] {
            let (a, b) = (a.as_str(), b.as_str());
            assert!(is_guid(a) && is_guid(b), "{a} {b}");
            assert_ne!(a, b);
            assert_eq!(&a[14..15], "4");
        }
    }

    #[test]
    fn bytes_have_their_text() {
        let bytes = std::array::from_fn(|at| u8::try_from(at * 17).unwrap());
        assert_eq!(of_bytes(bytes).as_str(), "00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn other_texts_are_none() {
        for text in [
            "", "0", "00000000-0000-0000-0000-00000000000", "00000000-0000-0000-0000-00000000000g",
            "00000000000000000000000000000000", "{0000000-0000-0000-0000-000000000000}",
            "00000000-0000-0000-0000-0000000000000",
        ] {
            assert!(!is_guid(text), "{text}");
        }
    }
}
