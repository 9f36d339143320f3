//! Base64 as people and services send it.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

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
