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
    /// The setting or variable that named them.
    pub key: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub cause: String,
}

impl fmt::Display for RootsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.key, self.path.display(), self.cause)
    }
}

impl std::error::Error for RootsError {}

impl Roots {
    /// The file that is configured; else those of `SSL_CERT_FILE` and `SSL_CERT_DIR` together; else what is built in.
    pub fn load(configured: Option<&Path>, lookup: impl Fn(&str) -> Option<String>) -> Result<Self, RootsError> {
        let variable = |name| lookup(name).filter(|text| !text.is_empty()).map(PathBuf::from);
        let mut certificates = Vec::new();
        if let Some(path) = configured {
            certificates.extend(file("Sidecar:TrustedCertificates", path)?);
        } else {
            if let Some(path) = variable("SSL_CERT_FILE") {
                certificates.extend(file("SSL_CERT_FILE", &path)?);
            }
            if let Some(path) = variable("SSL_CERT_DIR") {
                certificates.extend(folder("SSL_CERT_DIR", &path)?);
            }
        }
        Ok(if certificates.is_empty() { Self::BuiltIn } else { Self::Own(certificates) })
    }
}

fn file(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let error = |cause: String| RootsError { key, path: path.to_owned(), cause };
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
fn folder(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let error = |cause: String| RootsError { key, path: path.to_owned(), cause };
    let entries = std::fs::read_dir(path).map_err(|cause| error(cause.to_string()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.sort();
    let mut certificates: Vec<_> = files.iter().filter_map(|path| file(key, path).ok()).flatten().collect();
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

    fn load(configured: Option<&Path>, file: &str, folder: &str) -> Result<usize, String> {
        let roots = Roots::load(configured, |name| {
            let value = if name == "SSL_CERT_FILE" { file } else { folder };
            Some(value.to_owned())
        });
        match roots {
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
        let (one, two, folder) = (one.to_str().unwrap(), two.to_str().unwrap(), folder.path().to_str().unwrap());
        assert_eq!(load(None, "", ""), Ok(0));
        assert_eq!(load(None, one, ""), Ok(1));
        assert_eq!(load(None, two, ""), Ok(2));
        assert_eq!(load(None, "", folder), Ok(1));
        assert_eq!(load(None, one, folder), Ok(2));
        assert_eq!(load(Some(Path::new(one)), "/absent", "/absent"), Ok(1));
    }

    #[test]
    fn what_cannot_be_read_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.pem");
        std::fs::write(&path, "").unwrap();
        let text = path.to_str().unwrap();
        let refused = load(Some(&path), "", "").unwrap_err();
        assert_eq!(refused, format!("Sidecar:TrustedCertificates: {text}: expected at least one PEM certificate"));
        assert!(load(None, "/absent/roots.pem", "").unwrap_err().starts_with("SSL_CERT_FILE: /absent/roots.pem: "));
        assert!(load(None, "", folder.path().to_str().unwrap()).unwrap_err().starts_with("SSL_CERT_DIR: "));
        std::fs::write(&path, PEM.replace("MII", "AAA")).unwrap();
        assert!(load(None, text, "").is_err());
    }
}
