//! A value that must not be shown: it prints as `[redacted]`, compares in constant time, and is
//! wiped on drop.

use std::fmt;

use zeroize::Zeroize;

/// Only [`Secret::expose`] gives access to the value, so that every use can be found by name.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Never pass the result to a formatter.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + AsRef<[u8]>> Secret<T> {
    /// Compares in a time that depends on the lengths only.
    pub fn matches(&self, other: &[u8]) -> bool {
        equal_in_constant_time(self.0.as_ref(), other)
    }
}

impl<T: Zeroize + AsRef<[u8]>> PartialEq for Secret<T> {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.0.as_ref())
    }
}

impl<T: Zeroize + AsRef<[u8]>> Eq for Secret<T> {}

/// Compares in a time that depends on the lengths only.
pub fn equal_in_constant_time(one: &[u8], other: &[u8]) -> bool {
    let ((words, rest), (other_words, other_rest)) = (one.as_chunks(), other.as_chunks());
    let of_words = words
        .iter()
        .zip(other_words)
        .fold(0, |difference, (one, other)| difference | (u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other)));
    let of_rest = rest.iter().zip(other_rest).fold(0, |difference, (one, other)| difference | (one ^ other));
    one.len() == other.len() && std::hint::black_box(of_words | u64::from(of_rest)) == 0
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<T: Zeroize> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formatting_never_shows_the_value() {
        let secret = Secret::new(String::from("hunter2"));
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "[redacted] [redacted] Some([redacted])");
    }

    #[test]
    fn only_the_same_bytes_match() {
        let secret = Secret::new(String::from("abc"));
        assert!(secret.matches(b"abc"));
        for other in ["", "ab", "abd", "abcd", "abc\0"] {
            assert!(!secret.matches(other.as_bytes()), "{other:?}");
        }
    }

    #[test]
    fn one_different_byte_makes_a_difference() {
        let bytes: Vec<u8> = (0..40).collect();
        for length in 1..bytes.len() {
            let bytes = &bytes[..length];
            assert!(equal_in_constant_time(bytes, bytes) && !equal_in_constant_time(bytes, &bytes[1..]));
            for at in 0..length {
                let mut other = bytes.to_vec();
                other[at] ^= 0x80;
                assert!(!equal_in_constant_time(bytes, &other), "{at} of {length}");
            }
        }
    }
}
