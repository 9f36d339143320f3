//! Whom to trust: Mozilla's roots, built in, or the operator's PEM files in their place.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Well above the bundles in use (about 230 KiB), well below what would hurt.
const MAX_BUNDLE: u64 = 16 * 1024 * 1024;

/// The trusted certificates.
#[derive(Clone, Debug)]
pub enum Roots {
    /// Mozilla's, as of the build.
    BuiltIn,
    /// These alone.
    Own(Vec<CertificateDer<'static>>),
}

/// Why the operator's roots cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootsError {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub cause: String,
}

impl fmt::Display for RootsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Sidecar:TrustedCertificates (or SSL_CERT_FILE, SSL_CERT_DIR): {}: {}",
            self.path.display(),
            self.cause
        )
    }
}

impl std::error::Error for RootsError {}

impl Roots {
    /// The certificates of these files and folders; without any, what is built in.
    pub fn load(paths: &[PathBuf]) -> Result<Self, RootsError> {
        let mut certificates = Vec::new();
        for path in paths {
            certificates.extend(if path.is_dir() { folder(path)? } else { file(path)? });
        }
        Ok(if paths.is_empty() { Self::BuiltIn } else { Self::Own(certificates) })
    }
}

fn file(path: &Path) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let error = |cause: String| RootsError { path: path.to_owned(), cause };
    let length = std::fs::metadata(path).map_err(|cause| error(cause.to_string()))?.len();
    if length > MAX_BUNDLE {
        return Err(error(format!("larger than {MAX_BUNDLE} bytes")));
    }
    let pem = std::fs::read(path).map_err(|cause| error(cause.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    usable(found.map_err(|_| error("expected PEM certificates".into()))?)
        .ok_or_else(|| error("expected at least one PEM certificate".into()))
}

/// Every file of a folder that holds certificates; others are passed over, as OpenSSL does.
fn folder(path: &Path) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let error = |cause: String| RootsError { path: path.to_owned(), cause };
    let entries = std::fs::read_dir(path).map_err(|cause| error(cause.to_string()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.sort();
    let mut certificates: Vec<_> = files.iter().filter_map(|path| file(path).ok()).flatten().collect();
    // A folder prepared for OpenSSL holds each certificate twice, once by its hash.
    certificates.sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
    certificates.dedup();
    if certificates.is_empty() {
        return Err(error("expected files with PEM certificates".into()));
    }
    Ok(certificates)
}

/// The certificates that can be trust anchors, if there is one.
fn usable(found: Vec<CertificateDer<'static>>) -> Option<Vec<CertificateDer<'static>>> {
    let parses = |der: &CertificateDer<'static>| RootCertStore::empty().add(der.clone()).is_ok();
    let usable: Vec<_> = found.into_iter().filter(parses).collect();
    (!usable.is_empty()).then_some(usable)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A self-signed P-256 certificate.
    const PEM: &str = include_str!("testdata/root.pem");

    fn load(paths: &[&Path]) -> Result<usize, String> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| (*path).to_owned()).collect();
        match Roots::load(&paths) {
            Ok(Roots::BuiltIn) => Ok(0),
            Ok(Roots::Own(certificates)) => Ok(certificates.len()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn what_the_operator_names_replaces_what_is_built_in() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one.pem"), folder.path().join("two.pem"));
        std::fs::write(&one, PEM).unwrap();
        std::fs::write(&two, format!("a comment\n{PEM}\n{PEM}")).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "no certificate").unwrap();
        assert_eq!(load(&[]), Ok(0));
        assert_eq!(load(&[&one]), Ok(1));
        assert_eq!(load(&[&two]), Ok(2));
        assert_eq!(load(&[folder.path()]), Ok(1));
        assert_eq!(load(&[&one, folder.path()]), Ok(2));
    }

    #[test]
    fn what_cannot_be_read_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.pem");
        std::fs::write(&path, "").unwrap();
        assert!(load(&[&path]).unwrap_err().ends_with("empty.pem: expected at least one PEM certificate"));
        assert!(load(&[Path::new("/absent/roots.pem")]).unwrap_err().contains("/absent/roots.pem: "));
        assert!(load(&[folder.path()]).is_err());
        std::fs::write(&path, PEM.replace("MII", "AAA")).unwrap();
        assert!(load(&[&path]).is_err());
    }
}
