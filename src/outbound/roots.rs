//! Trusted root certificates: Mozilla's, built in, or the operator's PEM files instead.

use std::fmt;
use std::path::{Path, PathBuf};
#[cfg(feature = "shared-cache")]
use std::sync::Arc;

#[cfg(feature = "shared-cache")]
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Well above common bundles (about 230 KiB), and small enough to hold in memory.
const MAX_BUNDLE: u64 = 16 * 1024 * 1024;

#[derive(Clone, Debug)]
pub enum Roots {
    /// Mozilla's, as of the build.
    BuiltIn,
    Own(Vec<CertificateDer<'static>>),
}

/// Why the operator's roots are unusable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootsError {
    /// A file or folder.
    pub path: PathBuf,
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
    /// Loads the certificates in these files and folders, or the built-in ones if there are no
    /// paths. `warn` receives each unreadable certificate with its file and line.
    pub fn load(paths: &[PathBuf], warn: &mut dyn FnMut(String)) -> Result<Self, RootsError> {
        let mut certificates = Vec::new();
        for path in paths {
            certificates.extend(if path.is_dir() { folder(path, warn)? } else { file(path, warn)? });
        }
        Ok(if paths.is_empty() { Self::BuiltIn } else { Self::Own(certificates) })
    }

    /// As the trust anchors of TLS.
    pub(super) fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        match self {
            Self::BuiltIn => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Self::Own(own) => drop(store.add_parsable_certificates(own.iter().cloned())),
        }
        store
    }

    /// For TLS to a server that no HTTP is spoken with.
    #[cfg(feature = "shared-cache")]
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.store())
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

fn file(path: &Path, warn: &mut dyn FnMut(String)) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let error = |cause: String| RootsError { path: path.to_owned(), cause };
    let pem = crate::file::read(path, MAX_BUNDLE).map_err(|cause| error(cause.to_string()))?;
    let found = certificates(&pem, |line| {
        warn(format!("{}:{line}: skipped an unreadable certificate", path.display()));
    });
    if found.is_empty() { Err(error("expected at least one PEM certificate".into())) } else { Ok(found) }
}

/// Reads every file that contains certificates; skips others, as OpenSSL does.
fn folder(path: &Path, warn: &mut dyn FnMut(String)) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let error = |cause: String| RootsError { path: path.to_owned(), cause };
    let entries = std::fs::read_dir(path).map_err(|cause| error(cause.to_string()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.sort();
    let mut certificates = Vec::new();
    for path in files.iter().filter(|path| path.is_file()) {
        certificates.extend(file(path, warn).unwrap_or_default());
    }
    // A folder prepared for OpenSSL has each certificate twice, once under its hash.
    certificates.sort_by(|one: &CertificateDer<'_>, other| one.as_ref().cmp(other.as_ref()));
    certificates.dedup();
    if certificates.is_empty() {
        return Err(error("expected files with PEM certificates".into()));
    }
    Ok(certificates)
}

/// The certificates in a bundle that can serve as trust anchors. `broken` receives the first line
/// of each other one.
fn certificates(pem: &[u8], mut broken: impl FnMut(usize)) -> Vec<CertificateDer<'static>> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let starts: Vec<usize> =
        pem.windows(BEGIN.len()).enumerate().filter(|(_, text)| *text == BEGIN).map(|(at, _)| at).collect();
    let mut found = Vec::new();
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(pem.len());
        let section = &pem[*start..end];
        if !section[BEGIN.len()..].starts_with(b"CERTIFICATE-----") {
            continue;
        }
        let certificate = CertificateDer::from_pem_slice(section).ok();
        match certificate.filter(|der| RootCertStore::empty().add(der.clone()).is_ok()) {
            Some(certificate) => found.push(certificate),
            None => broken(pem[..*start].split(|byte| *byte == b'\n').count()),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A self-signed P-256 certificate.
    const PEM: &str = include_str!("testdata/root.pem");

    fn load(paths: &[&Path]) -> Result<usize, String> {
        load_with(paths, &mut |warning| panic!("{warning}"))
    }

    fn load_with(paths: &[&Path], warn: &mut dyn FnMut(String)) -> Result<usize, String> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| (*path).to_owned()).collect();
        match Roots::load(&paths, warn) {
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
        assert!(load_with(&[&path], &mut |_| ()).is_err());
    }

    #[test]
    fn a_byte_order_mark_costs_no_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roots.pem");
        std::fs::write(&path, format!("\u{feff}{PEM}{PEM}")).unwrap();
        assert_eq!(load(&[&path]), Ok(2));
    }

    #[test]
    fn a_broken_certificate_is_a_warning_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roots.pem");
        let lines = PEM.lines().count();
        let not_base64 = PEM.replacen("MII", "!!!", 1);
        let not_der = PEM.replacen("MII", "AAA", 1);
        let cut = PEM.lines().take(3).collect::<Vec<_>>().join("\n");
        for broken in [not_base64.as_str(), &not_der, &cut] {
            std::fs::write(&path, format!("{PEM}# broken\n{broken}\n{PEM}")).unwrap();
            let mut warnings = Vec::new();
            assert_eq!(load_with(&[&path], &mut |warning| warnings.push(warning)), Ok(2), "{broken}");
            let place = format!("{}:{}: ", path.display(), lines + 2);
            assert!(matches!(&warnings[..], [warning] if warning.starts_with(&place)), "{warnings:?}");
            let mut of_folder = Vec::new();
            assert_eq!(load_with(&[folder.path()], &mut |warning| of_folder.push(warning)), Ok(1));
            assert_eq!(of_folder, warnings);
        }
    }
}
