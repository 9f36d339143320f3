//! Base64 (RFC 4648) as standards, people and services write it.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::hash;

/// Base64url without padding, as in JOSE (RFC 7515 §2).
pub fn url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes base64url without padding and with zero trailing bits, so that no two texts decode to
/// the same bytes (RFC 4648 §3.5).
pub fn from_url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Base64url of the SHA-256: the form of thumbprints (RFC 7638 §3, RFC 7515 §4.1.8).
pub fn url_sha256(bytes: &[u8]) -> String {
    url(hash::sha256(bytes))
}

/// Standard base64, padded.
pub fn standard(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

pub fn from_standard(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Decodes either alphabet, padded or not, with line breaks and unused bits. A `+` left unencoded
/// in a query arrives as a space.
pub fn lenient(text: &str) -> Option<Vec<u8>> {
    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    let standard = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).map(|byte| match byte {
        b' ' | b'-' => b'+',
        b'_' => b'/',
        other => other,
    });
    ENGINE.decode(standard.collect::<Vec<u8>>()).ok()
}

/// Decodes a secret in standard base64, ignoring whitespace. All copies are wiped.
pub fn secret(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace());
    let text: Zeroizing<Vec<u8>> = Zeroizing::new(text.collect());
    STANDARD.decode(&*text).map(Zeroizing::new).ok()
}
