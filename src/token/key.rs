//! The cache key: everything that distinguishes one token from another, folded into hashes. It
//! contains no secret, needs no allocation, and is unique to the request.

use std::sync::OnceLock;

use ring::digest;

use crate::value::hash::{self, Digest};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// The hash of what is asked for: client, tenant, scopes and all options that change the token.
    pub request: Digest,
    /// The hash of the user's token, if the token is acquired on behalf of a user.
    pub user: Option<Digest>,
}

impl CacheKey {
    /// One hash of both, for a store outside the process.
    #[cfg(feature = "shared-cache")]
    pub fn digest(&self) -> Digest {
        let user = self.user.as_ref().map_or(&[][..], |user| user);
        KeyBuilder::new("token").bytes(&self.request).bytes(user).finish()
    }
}

/// The first part of the cache keys of an API's requests that override nothing. It depends on the
/// configuration alone, so it is computed once.
#[derive(Debug, Default)]
pub struct KnownRequests {
    pub app: OnceLock<Digest>,
    pub user: OnceLock<Digest>,
}

/// Hashes the parts. Each is preceded by its length, so that different lists of parts never hash
/// alike.
pub struct KeyBuilder {
    context: digest::Context,
    /// Collects short parts, to hash them in one call.
    buffer: [u8; 256],
    used: usize,
}

impl KeyBuilder {
    pub fn new(kind: &str) -> Self {
        Self { context: digest::Context::new(&digest::SHA256), buffer: [0; 256], used: 0 }.text(kind)
    }

    fn push(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(self.buffer.len()) {
            if self.used + chunk.len() > self.buffer.len() {
                self.context.update(&self.buffer[..self.used]);
                self.used = 0;
            }
            self.buffer[self.used..self.used + chunk.len()].copy_from_slice(chunk);
            self.used += chunk.len();
        }
    }

    #[must_use]
    pub fn bytes(mut self, part: &[u8]) -> Self {
        self.push(&(part.len() as u64).to_le_bytes());
        self.push(part);
        self
    }

    #[must_use]
    pub fn text(self, part: &str) -> Self {
        self.bytes(part.as_bytes())
    }

    /// An absent part differs from an empty one.
    #[must_use]
    pub fn option(self, part: Option<&str>) -> Self {
        match part {
            Some(part) => self.text("+").text(part),
            None => self.text("-"),
        }
    }

    /// Compared ignoring ASCII case.
    #[must_use]
    pub fn folded(mut self, part: &str) -> Self {
        self.push(&(part.len() as u64).to_le_bytes());
        let mut buffer = [0u8; 64];
        for chunk in part.as_bytes().chunks(buffer.len()) {
            let lower = &mut buffer[..chunk.len()];
            lower.copy_from_slice(chunk);
            lower.make_ascii_lowercase();
            self.push(lower);
        }
        self
    }

    /// A set of scopes, ignoring order and case.
    #[must_use]
    pub fn scopes<S: AsRef<str>>(self, scopes: &[S]) -> Self {
        let key = self.bytes(&scopes.len().to_le_bytes());
        if let [only] = scopes {
            return key.folded(only.as_ref());
        }
        let mut sorted: Vec<String> = scopes.iter().map(|scope| scope.as_ref().to_ascii_lowercase()).collect();
        sorted.sort_unstable();
        sorted.iter().fold(key, |key, scope| key.text(scope))
    }

    pub fn finish(mut self) -> Digest {
        self.context.update(&self.buffer[..self.used]);
        hash::array(self.context.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let key = |parts: &[&str]| parts.iter().fold(KeyBuilder::new("x"), |key, part| key.text(part)).finish();
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["ab"]), key(&["ab", ""]));
        assert_ne!(KeyBuilder::new("x").option(None).finish(), KeyBuilder::new("x").option(Some("")).finish());
    }

    #[test]
    fn parts_of_any_length_count_to_the_last_byte() {
        let key = |length: usize, last: u8| {
            let mut part = vec![b'a'; length];
            part.push(last);
            KeyBuilder::new("x").bytes(&part).text("end").finish()
        };
        for length in [0, 1, 200, 238, 239, 240, 255, 256, 257, 511, 512, 5000] {
            assert_eq!(key(length, b'b'), key(length, b'b'));
            assert_ne!(key(length, b'b'), key(length, b'c'), "{length}");
            assert_ne!(key(length, b'b'), key(length + 1, b'b'), "{length}");
        }
    }

    #[test]
    fn scopes_are_a_set_without_case() {
        let key = |scopes: &[&str]| KeyBuilder::new("x").scopes(scopes).finish();
        assert_eq!(key(&["User.Read", "mail"]), key(&["MAIL", "user.read"]));
        assert_eq!(key(&["A"]), key(&["a"]));
        assert_ne!(key(&["a", "b"]), key(&["a"]));
    }
}
