//! The tokens that the cache keeps and callers receive.

use crate::secret::Secret;
use crate::value::json;

#[derive(Debug)]
pub struct AccessToken {
    /// The full header value: `Bearer <token>` or `PoP <token>`.
    header: Secret<String>,
    /// True if JSON needs no escape for it.
    plain: bool,
    /// Unix seconds.
    pub expires_at: u64,
    /// Unix seconds from which the token is renewed in the background.
    pub refresh_at: Option<u64>,
}

impl AccessToken {
    pub fn new(header: String, expires_at: u64, refresh_at: Option<u64>) -> Self {
        Self { plain: json::is_plain(&header), header: Secret::new(header), expires_at, refresh_at }
    }

    /// True if it, or a request signed with it, can stand in JSON without escapes.
    pub const fn is_plain(&self) -> bool {
        self.plain
    }

    pub fn authorization(&self) -> &str {
        self.header.expose()
    }

    pub fn token(&self) -> &str {
        self.authorization().split_once(' ').map_or("", |(_, token)| token)
    }

    /// A copy of [`Self::token`], to be passed on.
    pub fn secret(&self) -> Secret<String> {
        Secret::new(self.token().to_owned())
    }
}
