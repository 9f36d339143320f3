//! Token responses (RFC 6749 §5.1) of token endpoints and managed identity endpoints.

use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::value::text::is_visible_word;

pub struct TokenResponse {
    /// Visible ASCII, so it fits in a header.
    pub access_token: Secret<String>,
    pub token_type: Option<String>,
    pub expires_in: Value,
    /// Only from managed identity endpoints.
    pub expires_on: Value,
    pub refresh_in: Value,
    pub refresh_token: Option<Secret<String>>,
}

#[derive(Deserialize)]
struct Members {
    access_token: Option<Zeroizing<String>>,
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Value,
    #[serde(default)]
    expires_on: Value,
    #[serde(default)]
    refresh_in: Value,
    refresh_token: Option<Zeroizing<String>>,
}

impl TokenResponse {
    /// An error reads on from the endpoint's name.
    pub fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let members: Members = serde_json::from_slice(body).map_err(|_| "sent a malformed token response")?;
        let access_token = members.access_token.ok_or("sent a token response without access_token")?;
        if !is_visible_word(&access_token) {
            return Err("sent an access_token that does not fit in a header");
        }
        Ok(Self {
            access_token: Secret::new(access_token.to_string()),
            token_type: members.token_type,
            expires_in: members.expires_in,
            expires_on: members.expires_on,
            refresh_in: members.refresh_in,
            refresh_token: members.refresh_token.map(|token| Secret::new(token.to_string())),
        })
    }
}

/// A number of seconds; some services send numbers as strings.
pub fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
