//! Tests and copies of eight bytes at a time. A build for size does not vectorize loops over bytes, and most
//! of what a request brings is one long token.

/// A one in every byte of a word.
const EACH: u64 = u64::from_le_bytes([1; 8]);

pub const HIGH: u64 = EACH << 7;

pub const fn each(byte: u8) -> u64 {
    EACH * byte as u64
}

/// The high bit of each byte less than `than`, which is at most 0x80. Bytes above such a byte may
/// be marked too.
pub const fn less(word: u64, than: u8) -> u64 {
    word.wrapping_sub(EACH * than as u64) & !word & HIGH
}

/// The index of the first byte less than `than`, which is at most 0x80, or the length.
pub fn find_less(bytes: &[u8], than: u8) -> usize {
    let (words, rest) = bytes.as_chunks();
    let mut at = 0;
    for word in words {
        let found = less(u64::from_le_bytes(*word), than);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += word.len();
    }
    at + rest.iter().position(|&byte| byte < than).unwrap_or(rest.len())
}

/// True if every byte is one from `first` to `~`, the last visible character of ASCII.
pub fn all_ascii_from(first: u8, bytes: &[u8]) -> bool {
    const DELETE: u64 = each(0x7f);
    let (words, rest) = bytes.as_chunks();
    let odd = words.iter().fold(0, |odd, word| {
        let word = u64::from_le_bytes(*word);
        odd | less(word, first) | less(word ^ DELETE, 1) | (word & HIGH)
    });
    odd == 0 && rest.iter().all(|byte| (first..=b'~').contains(byte))
}

/// Copies of more bytes than this are left to memcpy.
const SHORT: usize = 64;

/// Appends bytes, of which there are mostly few: musl's memcpy takes as long for five as for five hundred.
#[inline]
pub fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() > SHORT {
        out.extend_from_slice(bytes);
        return;
    }
    out.reserve(bytes.len());
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        out.extend_from_slice(word);
    }
    for byte in rest {
        out.push(*byte);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_find_what_bytes_find(bytes in "[\\x00-\\x7f\u{e9}]{0,40}", from in 0usize..9, than in 1u8..=0x80) {
            let bytes = &bytes.as_bytes()[from.min(bytes.len())..];
            let found = bytes.iter().position(|&byte| byte < than).unwrap_or(bytes.len());
            prop_assert_eq!(find_less(bytes, than), found);
            let mut copy = vec![b'-'];
            push(&mut copy, &bytes.repeat(2));
            prop_assert_eq!(&copy[1..], bytes.repeat(2));
            prop_assert_eq!(all_ascii_from(than, bytes), bytes.iter().all(|byte| (than..=b'~').contains(byte)));
        }
    }
}
