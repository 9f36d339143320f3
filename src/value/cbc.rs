//! Decryption in CBC mode with PKCS#7 padding (RFC 5652 §6.3).

use cbc::Decryptor;
use cbc::cipher::{Array, BlockCipherDecrypt, BlockModeDecrypt, BlockSizeUser, KeyIvInit};
use zeroize::Zeroizing;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Key, IV or text do not have a length that the cipher takes.
    Length,
    /// No padding stands at the end, so the key is wrong.
    Padding,
}

/// Callers must not let strangers tell the two errors apart: that would be a padding oracle.
pub fn decrypt<C>(key: &[u8], iv: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unreadable>
where
    Decryptor<C>: KeyIvInit + BlockModeDecrypt,
    C: BlockCipherDecrypt,
{
    let mut cipher = Decryptor::<C>::new_from_slices(key, iv).map_err(|_| Unreadable::Length)?;
    let size = <Decryptor<C> as BlockSizeUser>::block_size();
    if sealed.is_empty() || !sealed.len().is_multiple_of(size) {
        return Err(Unreadable::Length);
    }
    let mut text = Zeroizing::new(sealed.to_vec());
    cipher.decrypt_blocks(Array::slice_as_chunks_mut(&mut text).0);
    let padding = text.last().map_or(0, |last| usize::from(*last));
    let length = text.len().checked_sub(padding).ok_or(Unreadable::Padding)?;
    let right = (1..=size).contains(&padding) && text[length..].iter().all(|byte| usize::from(*byte) == padding);
    text.truncate(length);
    if right { Ok(text) } else { Err(Unreadable::Padding) }
}
