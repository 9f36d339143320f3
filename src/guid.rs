//! GUIDs: recognised, brought to one form, and made (RFC 9562).

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use ring::rand::{SecureRandom, SystemRandom};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A random one (RFC 9562 §5.4), which nobody can guess.
pub fn random() -> String {
    let mut bytes = [0u8; 16];
    // The kernel's generator does not fail once it has been seeded; were it to, an id of zeros harms nothing.
    let _ = SystemRandom::new().fill(&mut bytes);
    version_4(bytes)
}

/// One that no other request has, without a system call for it: a keyed hash of a counter. It tells requests
/// apart and proves nothing.
pub fn unique() -> String {
    static KEYS: LazyLock<(RandomState, RandomState)> = LazyLock::new(|| (RandomState::new(), RandomState::new()));
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let (high, low) = (KEYS.0.hash_one(count), KEYS.1.hash_one(count));
    version_4((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
}

/// In lower case with dashes.
fn version_4(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

/// Whether the text is a GUID in its usual form, `8-4-4-4-12` hex digits.
pub fn is_guid(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ones_are_guids_and_differ() {
        for (a, b) in [(random(), random()), (unique(), unique())] {
            assert!(is_guid(&a) && is_guid(&b), "{a} {b}");
            assert_ne!(a, b);
            assert_eq!(&a[14..15], "4");
        }
    }

    #[test]
    fn other_texts_are_none() {
        for text in [
            "",
            "0",
            "00000000-0000-0000-0000-00000000000",
            "00000000-0000-0000-0000-00000000000g",
            "00000000000000000000000000000000",
            "{0000000-0000-0000-0000-000000000000}",
            "00000000-0000-0000-0000-0000000000000",
        ] {
            assert!(!is_guid(text), "{text}");
        }
    }
}
