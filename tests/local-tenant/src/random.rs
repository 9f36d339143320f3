//! Random identifiers.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};

/// A random GUID (version 4), lower-case with dashes.
pub fn guid() -> String {
    let mut bytes = bytes::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// 16 random bytes as base64url.
pub fn text() -> String {
    URL_SAFE_NO_PAD.encode(bytes::<16>())
}

/// Whether this is a GUID in the D form: `8-4-4-4-12` lower-case hexadecimal digits.
pub fn is_guid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// A number below this.
pub fn below(limit: u64) -> u64 {
    u64::from_le_bytes(bytes()) % limit
}

fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system's random numbers");
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_fresh_guid_is_one() {
        assert!(super::is_guid(&super::guid()));
        assert!(!super::is_guid("5E1F0C1A-7c1e-4b57-9d2a-3f6c0a7e1b01"));
        assert!(!super::is_guid("5e1f0c1a7c1e4b579d2a3f6c0a7e1b01"));
    }
}
