//! Builds a [`Config`] from the settings. Collects all problems, so that one attempt reports them
//! all.

use super::reader::Reader;
use super::source::{self, Invocation};
use super::{Config, Diagnostic, api, check, listen, registration, sections, sidecar};
use crate::value::syntax;

#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Diagnostic>,
}

#[derive(Debug)]
pub struct LoadError {
    /// Never empty.
    pub problems: Vec<Diagnostic>,
    /// Reported too, because a misspelt key often explains a missing one.
    pub warnings: Vec<Diagnostic>,
}

pub fn load(invocation: &Invocation) -> Result<Loaded, LoadError> {
    let gathered = source::gather(invocation);
    let registrations = sections::named(&gathered.settings);
    let mut reader = Reader {
        settings: &gathered.settings,
        registrations: &registrations,
        environment: &gathered.environment,
        variables: invocation,
        problems: gathered.problems,
        warnings: Vec::new(),
    };
    check::types(&mut reader);
    check::unknown(&mut reader);
    check::scopes(&mut reader);

    let azure_ad = registration::read(&mut reader, "AzureAd");
    let others = registrations
        .iter()
        .filter(|name| reader.settings.has_section(name))
        .map(|name| {
            let section = sections::as_written(reader.settings, name);
            (name.clone(), registration::read(&mut reader, &section).into())
        })
        .collect();
    let (sidecar, limits) = sidecar::read(&mut reader);
    let config = Config {
        environment: gathered.environment.clone(),
        listen: listen::read(&mut reader),
        azure_ad: azure_ad.into(),
        registrations: others,
        apis: api::read_all(&mut reader),
        sidecar,
        limits,
        logging: sidecar::logging(&reader),
        allowed_hosts: reader.items("AllowedHosts").iter().filter_map(|host| syntax::host(host).ok()).collect(),
    };
    api::check(&mut reader, &config);
    api::check_identity_endpoint(&mut reader, &config);
    sidecar::warn_of_exposure(&mut reader, &config);
    let Reader { mut problems, warnings, .. } = reader;
    problems.dedup();
    if problems.is_empty() { Ok(Loaded { config, warnings }) } else { Err(LoadError { problems, warnings }) }
}
