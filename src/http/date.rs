//! The `Date` field (RFC 9110 §6.6.1), formatted once a second.

use crate::value::date::{HTTP_LEN, to_http};

#[derive(Debug)]
pub struct Cached {
    second: u64,
    text: [u8; HTTP_LEN],
}

impl Default for Cached {
    fn default() -> Self {
        Self { second: 0, text: to_http(0) }
    }
}

impl Cached {
    /// The field's value for a time in Unix seconds.
    pub fn at(&mut self, unix: u64) -> &[u8; HTTP_LEN] {
        if self.second != unix {
            *self = Self { second: unix, text: to_http(unix) };
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_follows_the_second() {
        let mut cached = Cached::default();
        for unix in [0, 784_111_777, 784_111_777, 784_111_778, 0] {
            assert_eq!(*cached.at(unix), to_http(unix));
        }
    }
}
