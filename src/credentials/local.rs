//! Certificates on this machine: in a file, in the configuration, or in .NET's store.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::certificate::{Certificate, Notice};
use super::store::Store;
use super::{ClientAuth, Context, Failure, Source, assertion};
use crate::secret::Secret;
use crate::value::b64;
use crate::watched::Watched;

pub struct LocalCertificate {
    name: String,
    place: Location,
    notice: Notice,
}

enum Location {
    Files(Watched<Certificate>),
    Store(Store),
    Value { read: Box<dyn Fn() -> Result<Certificate, String> + Send + Sync>, once: OnceLock<Outcome> },
}

type Outcome = Result<Arc<Certificate>, String>;

impl LocalCertificate {
    /// `Path`: one file, or a certificate and its key. Reads nothing yet.
    pub fn file(certificate: PathBuf, key: Option<PathBuf>, password: Option<Secret<String>>) -> Self {
        let name = certificate.display().to_string();
        let paths = std::iter::once(certificate).chain(key).collect();
        let files = Watched::new(paths, move |contents| {
            Certificate::read(contents.iter().map(|bytes| &bytes[..]), password.as_ref())
        });
        Self { name, place: Location::Files(files), notice: Notice::default() }
    }

    /// `Base64Encoded`: a PKCS#12 file as text in the configuration.
    pub fn base64(value: Secret<String>, password: Option<Secret<String>>) -> Self {
        let read = move || {
            let file = b64::secret(value.expose().as_bytes()).ok_or("not base64")?;
            Certificate::read([&file[..]], password.as_ref())
        };
        let place = Location::Value { read: Box::new(read), once: OnceLock::new() };
        Self { name: "Base64EncodedValue".into(), place, notice: Notice::default() }
    }

    /// `StoreWithThumbprint` and similar.
    pub fn store(store: Store) -> Self {
        Self { name: "the user's store".into(), place: Location::Store(store), notice: Notice::default() }
    }

    fn current(&self, now: u64) -> Outcome {
        match &self.place {
            Location::Files(files) => files.current(),
            Location::Store(store) => store.find(now),
            Location::Value { read, once } => {
                let read = || read().map(Arc::new).map_err(|reason| format!("{}: {reason}", self.name));
                once.get_or_init(read).clone()
            }
        }
    }

    /// The current certificate if its dates are valid.
    pub fn valid(&self, now: u64) -> Outcome {
        let certificate = self.current(now)?;
        self.notice.check(&self.name, certificate.validity, now)?;
        Ok(certificate)
    }
}

impl Source for LocalCertificate {
    fn authenticate(&self, context: &Context<'_>) -> Result<ClientAuth, Failure> {
        let certificate = self.valid(context.clock.unix()).map_err(Failure::Unusable)?;
        assertion::sign(&certificate, context).map(ClientAuth::Assertion).map_err(Failure::Unusable)
    }

    fn inspect(&self, now: u64) -> Result<(), String> {
        self.valid(now).map(drop)
    }

    fn expires_at(&self, now: u64) -> Option<u64> {
        self.current(now).ok().map(|certificate| certificate.validity.not_after)
    }

    fn certificate(&self, now: u64) -> Option<Outcome> {
        Some(self.valid(now))
    }

    fn reload(&self) {
        match &self.place {
            Location::Files(files) => files.forget(),
            Location::Store(store) => store.forget(),
            Location::Value { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
