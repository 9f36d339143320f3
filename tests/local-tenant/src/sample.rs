//! A token of a fixed moment, for verifiers that are told the time. Header and payload are texts, so that a test can make
//! them as wrong as it likes and still sign them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// When it is good: ten seconds after it was issued, an hour before it expires.
pub const NOW: u64 = 1_700_000_000;
/// Its audience.
pub const CLIENT: &str = "aaaaaaaa-0000-0000-0000-000000000001";
/// Its tenant.
pub const TENANT: &str = "11111111-2222-3333-4444-555555555555";

/// Base64url without padding.
pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A JSON object of these members, with the changes: a value is JSON text, an empty one removes the member.
pub fn object(members: &[(&str, String)], changes: &[(&str, &str)]) -> String {
    let mut members: Vec<(&str, &str)> = members.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for (name, value) in changes {
        members.retain(|(own, _)| own != name);
        if !value.is_empty() {
            members.push((name, value));
        }
    }
    let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// The payload of a user's token, with the changes of [`object`].
pub fn payload(changes: &[(&str, &str)]) -> String {
    let members = [
        ("aud", format!("\"{CLIENT}\"")),
        ("iss", format!("\"https://login.microsoftonline.com/{TENANT}/v2.0\"")),
        ("iat", (NOW - 10).to_string()),
        ("nbf", (NOW - 10).to_string()),
        ("exp", (NOW + 3600).to_string()),
        ("tid", format!("\"{TENANT}\"")),
        ("oid", "\"user\"".to_owned()),
        ("scp", "\"access_as_user other\"".to_owned()),
        ("ver", "\"2.0\"".to_owned()),
    ];
    object(&members, changes)
}

/// A compact JWS (RFC 7515 §7.1) of these very bytes.
pub fn jws(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let input = format!("{}.{}", b64(header), b64(payload));
    let signature = b64(sign(input.as_bytes()));
    format!("{input}.{signature}")
}
