//! What the cache keeps and callers are handed.

use crate::secret::Secret;

/// A token as it is handed out.
#[derive(Debug)]
pub struct AccessToken {
    /// The whole header value: `Bearer <token>` or `PoP <token>`.
    pub header: Secret<String>,
    /// Unix seconds.
    pub expires_at: u64,
    /// Unix seconds from which it is renewed in the background.
    pub refresh_at: Option<u64>,
}

impl AccessToken {
    /// The value of an `Authorization` header.
    pub fn authorization(&self) -> &str {
        self.header.expose()
    }

    /// The token without its scheme.
    pub fn token(&self) -> &str {
        self.authorization().split_once(' ').map_or("", |(_, token)| token)
    }
}
