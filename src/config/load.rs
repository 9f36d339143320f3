//! From settings to [`Config`]. Every problem is collected, so that one start reports them all.

use super::reader::Reader;
use super::{Config, Invocation, Problem, Warning, api, check, listen, registration, sidecar, source};
use crate::value::syntax;

/// A configuration that can run.
#[derive(Debug)]
pub struct Loaded {
    /// It.
    pub config: Config,
    /// What the operator should know about it.
    pub warnings: Vec<Warning>,
}

/// A configuration that cannot.
#[derive(Debug)]
pub struct Rejected {
    /// Everything that is wrong. Never empty.
    pub problems: Vec<Problem>,
    /// What else is odd: a misspelt key is often why another one is missing.
    pub warnings: Vec<Warning>,
}

/// Reads every source and judges every value.
pub fn load(invocation: &Invocation) -> Result<Loaded, Rejected> {
    let gathered = source::gather(invocation);
    let registrations = registration::named(&gathered.settings);
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
            let section = registration::as_written(reader.settings, name);
            (name.clone(), registration::read(&mut reader, &section).into())
        })
        .collect();
    let config = Config {
        environment: gathered.environment.clone(),
        listen: listen::read(&mut reader),
        azure_ad: azure_ad.into(),
        registrations: others,
        apis: api::read_all(&mut reader),
        sidecar: sidecar::read(&mut reader),
        limits: sidecar::limits(&mut reader),
        logging: sidecar::logging(&reader),
        allowed_hosts: reader.items("AllowedHosts").iter().filter_map(|host| syntax::host(host).ok()).collect(),
    };
    api::judge(&mut reader, &config);
    sidecar::warn_of_exposure(&mut reader, &config);
    let Reader { mut problems, warnings, .. } = reader;
    problems.dedup();
    if problems.is_empty() { Ok(Loaded { config, warnings }) } else { Err(Rejected { problems, warnings }) }
}
