//! The tokens that the cache keeps and callers receive.

use crate::secret::Secret;

#[derive(Debug)]
pub struct AccessToken {
    /// The full header value: `Bearer <token>` or `PoP <token>`.
    pub header: Secret<String>,
    /// Unix seconds.
    pub expires_at: u64,
    /// Unix seconds from which the token is renewed in the background.
    pub refresh_at: Option<u64>,
}

impl AccessToken {
    /// The value for an `Authorization` header.
    pub fn authorization(&self) -> &str {
        self.header.expose()
    }

    /// The token without its scheme.
    pub fn token(&self) -> &str {
        self.authorization().split_once(' ').map_or("", |(_, token)| token)
    }
}
