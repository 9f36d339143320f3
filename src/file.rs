//! Reads settings, certificates, keys and tokens from files.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

/// Windows editors put it before UTF-8 text. No binary format read here starts with it: DER starts
/// with 0x30.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Changes whenever the file does. A swapped symlink changes the inode.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    modified: (i64, i64),
    size: u64,
    inode: u64,
}

impl Stamp {
    pub fn of(metadata: &Metadata) -> Self {
        Self { modified: (metadata.mtime(), metadata.mtime_nsec()), size: metadata.len(), inode: metadata.ino() }
    }
}

/// Reads at most `limit` bytes and strips a byte order mark. An error does not name the path.
pub fn read(path: &Path, limit: u64) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(std::io::Error::other("not a file"));
    }
    read_from(file, metadata.len(), limit)
}

/// The same for an open source of about this length.
pub fn read_from(source: impl std::io::Read, length: u64, limit: u64) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // Reserve everything at once, since growing would leave copies of a secret behind.
    let room = usize::try_from(length.min(limit).saturating_add(1)).unwrap_or(0);
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    source.take(limit.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        return Err(std::io::Error::other(format!("longer than {limit} bytes")));
    }
    if content.starts_with(BYTE_ORDER_MARK) {
        content.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_skipped_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        for (content, text) in [
            (&b"\xef\xbb\xbfx"[..], &b"x"[..]),
            (b"\xef\xbb\xbf\xef\xbb\xbfx", b"\xef\xbb\xbfx"),
            (b"\xef\xbb", b"\xef\xbb"),
            (b"x\xef\xbb\xbf", b"x\xef\xbb\xbf"),
            (b"\xef\xbb\xbf", b""),
            (b"", b""),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(read(&path, 100).unwrap().as_slice(), text, "{content:?}");
        }
    }

    #[test]
    fn folders_and_large_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, [b'x'; 10]).unwrap();
        assert_eq!(read(&path, 10).unwrap().len(), 10);
        assert_eq!(read(&path, 9).unwrap_err().to_string(), "longer than 9 bytes");
        assert_eq!(read(folder.path(), 10).unwrap_err().to_string(), "not a file");
        assert_eq!(read(&folder.path().join("absent"), 10).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    }
}
