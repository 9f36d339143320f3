//! The folder where .NET keeps a user's certificates on Linux: PKCS#12 files without a password.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::certificate::Certificate;
use super::name::Name;
use crate::config::Selector;
use crate::file::{self, Stamp};
use crate::sync::Mutex;
use crate::value::{der, hash, hex};

/// Relative to the user's home.
const FOLDER: &str = ".dotnet/corefx/cryptography/x509stores/my";

/// Files to read; a store has a handful.
const MAX_FILES: usize = 256;

/// Larger files are skipped.
const MAX_BYTES: u64 = 1024 * 1024;

pub struct Store {
    folder: Result<PathBuf, String>,
    wanted: Selector,
    read: Mutex<Read>,
}

#[derive(Default)]
struct Read {
    files: Vec<File>,
    certificates: Vec<Arc<Certificate>>,
    /// From the last unreadable file.
    problem: Option<String>,
}

#[derive(PartialEq, Eq)]
struct File {
    path: PathBuf,
    stamp: Stamp,
}

impl Store {
    /// `path` is `CertificateStorePath`. Reads nothing yet.
    pub fn new(path: &str, home: Option<PathBuf>, wanted: Selector) -> Self {
        let known = path.is_empty() || path.replace('\\', "/").eq_ignore_ascii_case("CurrentUser/My");
        let folder = match home {
            _ if !known => Err(format!("the store {path:?} is not available on Linux; use CurrentUser/My")),
            None => Err("the user's store needs the environment variable HOME".into()),
            Some(home) => Ok(home.join(FOLDER)),
        };
        Self { folder, wanted, read: Mutex::default() }
    }

    /// The newest certificate that is valid now; if none is valid, the newest.
    pub fn find(&self, now: u64) -> Result<Arc<Certificate>, String> {
        let folder = self.folder.clone()?;
        let mut read = self.read.lock();
        let files = list(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        if files != read.files {
            *read = load(files);
        }
        let mut found: Vec<_> = read.certificates.iter().filter(|one| self.wanted.is(one)).collect();
        found.sort_by_key(|one| (one.validity.check(now).is_ok(), one.validity.not_before));
        found.pop().map(Arc::clone).ok_or_else(|| {
            let problem = read.problem.as_ref().map_or(String::new(), |problem| format!("; {problem}"));
            format!(
                "{}: {} not found among its {} certificates with a key{problem}",
                folder.display(),
                self.wanted,
                read.certificates.len()
            )
        })
    }

    /// Forces a read at the next use.
    pub fn forget(&self) {
        self.read.lock().files.clear();
    }
}

impl Selector {
    fn is(&self, certificate: &Certificate) -> bool {
        let own = &certificate.chain[0];
        let subject = || Name::from_der(&der::Certificate::parse(own)?.subject);
        match self {
            Self::Thumbprint(wanted) => thumbprint(own) == *wanted,
            Self::DistinguishedName(wanted) => {
                Name::parse(wanted).zip(subject()).is_some_and(|(wanted, subject)| wanted.is(&subject))
            }
            Self::SubjectName(wanted) => subject().is_some_and(|subject| subject.mentions(wanted)),
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Thumbprint(wanted) => write!(f, "the thumbprint {wanted}"),
            Self::DistinguishedName(wanted) => write!(f, "the subject {wanted:?}"),
            Self::SubjectName(wanted) => write!(f, "a subject with {wanted:?}"),
        }
    }
}

fn thumbprint(der: &[u8]) -> String {
    hex::encode(&hash::sha1(der))
}

fn list(folder: &PathBuf) -> std::io::Result<Vec<File>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let metadata = fs::metadata(&path);
        let Ok(metadata) = metadata else { continue };
        if metadata.is_file() && metadata.len() <= MAX_BYTES && path.extension().is_some_and(|name| name == "pfx") {
            files.push(File { path, stamp: Stamp::of(&metadata) });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.truncate(MAX_FILES);
    Ok(files)
}

fn load(files: Vec<File>) -> Read {
    let mut read = Read::default();
    for file in &files {
        let content = file::read(&file.path, MAX_BYTES).map_err(|error| error.to_string());
        match content.and_then(|content| Certificate::read([&content[..]], None)) {
            Ok(certificate) => read.certificates.push(Arc::new(certificate)),
            Err(reason) => read.problem = Some(format!("{}: {reason}", file.path.display())),
        }
    }
    read.files = files;
    read
}

#[cfg(feature = "pfx")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::testing::{certificates, data, now};

    const SUBJECT: &str = "CN=app.example, O=\"Example, Inc.\"";

    /// A home directory whose store contains these files.
    fn home(names: &[&str]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(FOLDER);
        fs::create_dir_all(&folder).unwrap();
        for name in names {
            fs::copy(data(name), folder.join(name)).unwrap();
        }
        home
    }

    fn find(home: &tempfile::TempDir, path: &str, wanted: Selector) -> Result<Arc<Certificate>, String> {
        Store::new(path, Some(home.path().into()), wanted).find(now())
    }

    #[test]
    fn a_certificate_is_found_by_thumbprint_and_by_name() {
        let home = home(&["modern-empty.pfx", "modern.pfx", "pkcs8.pem"]);
        let own = &certificates("leaf.crt.pem")[0];
        for wanted in [
            Selector::Thumbprint(thumbprint(own)),
            Selector::DistinguishedName(SUBJECT.into()),
            Selector::SubjectName("app.ex".into()),
        ] {
            assert_eq!(&find(&home, "CurrentUser/My", wanted).unwrap().chain[0], own);
        }
        assert!(find(&home, "", Selector::SubjectName("app".into())).is_ok());
        assert!(find(&home, "currentuser\\my", Selector::SubjectName("app".into())).is_ok());
    }

    #[test]
    fn what_is_not_found_says_where_it_was_looked_for() {
        let home = home(&["modern-empty.pfx", "modern.pfx"]);
        for wanted in [
            Selector::Thumbprint("0".repeat(40)),
            Selector::DistinguishedName("CN=app.example".into()),
            Selector::SubjectName("other".into()),
        ] {
            let reason = find(&home, "CurrentUser/My", wanted).err().unwrap();
            assert!(reason.contains("among its 1 certificates") && reason.contains("password"), "{reason}");
        }
        let reason = find(&home, "LocalMachine/My", Selector::SubjectName("app".into())).err().unwrap();
        assert!(reason.contains("CurrentUser/My"), "{reason}");
        let empty = tempfile::tempdir().unwrap();
        assert!(find(&empty, "", Selector::SubjectName("app".into())).err().unwrap().contains("x509stores/my"));
        assert!(Store::new("", None, Selector::SubjectName("a".into())).find(0).err().unwrap().contains("HOME"));
    }

    #[test]
    fn a_file_that_comes_later_is_seen() {
        let home = home(&[]);
        let store = Store::new("", Some(home.path().into()), Selector::SubjectName("app".into()));
        assert!(store.find(now()).is_err());
        fs::copy(data("legacy-empty.pfx"), home.path().join(FOLDER).join("a.pfx")).unwrap();
        assert!(store.find(now()).is_ok());
    }
}
