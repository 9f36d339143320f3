//! Files that are read again when their metadata changes. A file that is unreadable or malformed
//! for a moment (half written, being swapped) leaves the last good content in place, unless the
//! file is strict.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::file::{self, Stamp};
use crate::sync::Mutex;

/// A larger file means a wrong path: no certificate, key or token is this long.
const MAX_BYTES: u64 = 1024 * 1024;

type Parse<T> = Box<dyn Fn(&[Zeroizing<Vec<u8>>]) -> Result<T, String> + Send + Sync>;

/// Files that are read together, and their parsed content.
pub struct Watched<T> {
    paths: Vec<PathBuf>,
    parse: Parse<T>,
    /// The setting that names the file. If set, an unusable file has no content.
    strict: Option<&'static str>,
    state: Mutex<LastRead<T>>,
}

struct LastRead<T> {
    /// From the last attempt, successful or not.
    stamps: Option<Vec<Stamp>>,
    good: Option<Arc<T>>,
    error: String,
}

impl<T> Watched<T> {
    pub fn new(
        paths: Vec<PathBuf>,
        parse: impl Fn(&[Zeroizing<Vec<u8>>]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Self {
        let state = Mutex::new(LastRead { stamps: None, good: None, error: String::new() });
        Self { paths, parse: Box::new(parse), strict: None, state }
    }

    /// Makes an unusable file drop its last good content. The log reports each new reason under the
    /// name of the setting.
    #[must_use]
    pub fn strict(mut self, setting: &'static str) -> Self {
        self.strict = Some(setting);
        self
    }

    /// The current content or, unless strict, the last good one. An error names the file.
    pub fn current(&self) -> Result<Arc<T>, String> {
        let mut state = self.state.lock();
        let stamps: Result<Vec<Stamp>, String> = self.paths.iter().map(|path| stamp(path)).collect();
        let unchanged = matches!((&stamps, &state.stamps), (Ok(now), Some(then)) if now == then);
        if !unchanged {
            let content = stamps.as_ref().map_err(Clone::clone).and_then(|_| {
                let contents: Result<Vec<_>, String> = self.paths.iter().map(|path| read(path)).collect();
                (self.parse)(&contents?).map_err(|reason| format!("{}: {reason}", self.names()))
            });
            match content {
                Ok(content) => {
                    state.good = Some(Arc::new(content));
                    state.error.clear();
                }
                Err(error) => {
                    match self.strict {
                        Some(setting) => {
                            state.good = None;
                            if state.error != error {
                                log::error!("{setting}: {error}; callers are refused until it can be used");
                            }
                        }
                        None if state.good.is_some() && state.error != error => {
                            log::warn!("{error}; keeping the last good content");
                        }
                        None => {}
                    }
                    state.error = error;
                }
            }
            state.stamps = stamps.ok();
        }
        state.good.clone().ok_or_else(|| state.error.clone())
    }

    /// Forces a read at the next use.
    pub fn forget(&self) {
        self.state.lock().stamps = None;
    }

    fn names(&self) -> String {
        self.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and ")
    }
}

fn stamp(path: &Path) -> Result<Stamp, String> {
    let metadata = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if !metadata.is_file() {
        return Err(format!("{}: not a file", path.display()));
    }
    if metadata.len() > MAX_BYTES {
        return Err(format!("{}: larger than {MAX_BYTES} bytes", path.display()));
    }
    Ok(Stamp::of(&metadata))
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    file::read(path, MAX_BYTES).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(path: &Path) -> Watched<u32> {
        Watched::new(vec![path.to_owned()], |contents| {
            let text = std::str::from_utf8(&contents[0]).map_err(|_| "no text")?;
            text.trim().parse().map_err(|_| "no number".to_owned())
        })
    }

    #[test]
    fn a_changed_file_is_read_again_unless_it_is_broken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        let watched = number(&path);
        assert!(watched.current().unwrap_err().contains("No such file"));
        fs::write(&path, "1").unwrap();
        assert_eq!(*watched.current().unwrap(), 1);
        fs::write(&path, "22").unwrap();
        assert_eq!(*watched.current().unwrap(), 22);
        fs::write(&path, "broken").unwrap();
        assert_eq!(*watched.current().unwrap(), 22);
        fs::remove_file(&path).unwrap();
        assert_eq!(*watched.current().unwrap(), 22);
        fs::write(&path, "333").unwrap();
        assert_eq!(*watched.current().unwrap(), 333);
    }

    #[test]
    fn a_strict_file_takes_its_content_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        let watched = number(&path).strict("Setting");
        fs::write(&path, "1").unwrap();
        assert_eq!(*watched.current().unwrap(), 1);
        fs::write(&path, "").unwrap();
        assert!(watched.current().is_err());
        fs::write(&path, "22").unwrap();
        assert_eq!(*watched.current().unwrap(), 22);
        fs::remove_file(&path).unwrap();
        assert!(watched.current().unwrap_err().contains("No such file"));
        fs::create_dir(&path).unwrap();
        assert!(watched.current().unwrap_err().contains("not a file"));
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "\u{feff}333").unwrap();
        assert_eq!(*watched.current().unwrap(), 333);
    }

    #[test]
    fn size_is_bounded_at_and_above_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        for (size, fits) in [(MAX_BYTES, true), (MAX_BYTES + 1, false)] {
            fs::write(&path, vec![b'1'; usize::try_from(size).unwrap()]).unwrap();
            let read = Watched::new(vec![path.clone()], |contents| Ok(contents[0].len()));
            assert_eq!(read.current().is_ok(), fits, "{size}");
        }
    }
}
