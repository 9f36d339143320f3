//! From settings to [`Config`]. Every problem is collected, so that one start reports them all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::keys::{self, Key, Split};
use super::slot::{Field, Slot, Value};
use super::source::{self, Origin, Settings};
use super::table::KEYS;
use super::{Config, Invocation, Limits, Problem, Sidecar, Warning, api, check, listen, parse, registration, sidecar};
use crate::url::Url;

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
        allowed_hosts: reader.items("AllowedHosts").iter().filter_map(|host| parse::host(host).ok()).collect(),
    };
    api::judge(&mut reader, &config);
    sidecar::warn_of_exposure(&mut reader, &config);
    let Reader { mut problems, warnings, .. } = reader;
    problems.dedup();
    if problems.is_empty() { Ok(Loaded { config, warnings }) } else { Err(Rejected { problems, warnings }) }
}

/// Typed access to the settings. A value that is malformed was reported by [`check::types`] and reads as absent,
/// so that reading goes on and finds the next problem.
pub struct Reader<'a> {
    /// All settings.
    pub settings: &'a Settings,
    /// Sections of the shape of `AzureAd`, in lower case.
    pub registrations: &'a [String],
    /// `Production` when nothing is said.
    pub environment: &'a str,
    variables: &'a Invocation,
    /// Found so far.
    pub problems: Vec<Problem>,
    /// Found so far.
    pub warnings: Vec<Warning>,
}

impl Reader<'_> {
    /// The table's row.
    pub fn key(&self, path: &str) -> Option<&'static Key> {
        keys::find(path, self.registrations)
    }

    /// What was said, where it is not empty.
    pub fn said(&self, path: &str) -> Option<&str> {
        self.settings.value(path).filter(|value| !value.trim().is_empty())
    }

    /// What was said, else the default of the table.
    fn value(&self, path: &str) -> Option<&str> {
        self.said(path).or_else(|| self.key(path)?.default)
    }

    fn parsed(&self, path: &str) -> Option<Value> {
        let key = self.key(path)?;
        let good = |text: &str| key.kind.parse(path.rsplit(':').next()?, text.trim()).ok();
        self.said(path).and_then(good).or_else(|| good(key.default?))
    }

    /// Fills the field that a row names with what is said under `path`, else with the row's default. What is malformed
    /// was reported and leaves the field as it is.
    fn fill<T>(&self, key: &Key, field: fn(&mut T) -> Slot<'_>, path: &str, into: &mut T) {
        let (name, items) = match key.list {
            Some(_) => ("", self.items(path)),
            None => (path.rsplit(':').next().unwrap_or_default(), self.value(path).into_iter().collect()),
        };
        for text in items {
            let text = if key.kind.keeps_blanks() { text } else { text.trim() };
            if let Ok(value) = key.kind.parse(name, text) {
                let fits = field(into).fill(value);
                debug_assert!(fits, "{}: its kind does not fit its field", key.pattern);
            }
        }
    }

    /// Fills what the table says about the sidecar and its limits.
    pub fn fill_own(&self, sidecar: &mut Sidecar, limits: &mut Limits) {
        for key in KEYS {
            match key.field {
                Field::Named => {}
                Field::Sidecar(field) => self.fill(key, field, key.pattern, sidecar),
                Field::Limits(field) => self.fill(key, field, key.pattern, limits),
            }
        }
    }

    /// A text, as it is.
    pub fn text(&self, path: &str) -> Option<String> {
        self.value(path).map(str::to_owned)
    }

    /// A text in the normal form of its kind, where it is of that kind.
    pub fn word(&self, path: &str) -> Option<String> {
        match self.parsed(path)? {
            Value::Text(text) => Some(text),
            Value::Choice(_, choice) => Some(choice.to_owned()),
            _ => None,
        }
    }

    /// A switch.
    pub fn flag(&self, path: &str) -> bool {
        self.parsed(path) == Some(Value::Flag(true))
    }

    /// A URL.
    pub fn url(&self, path: &str) -> Option<Url> {
        if let Value::Url(url) = self.parsed(path)? { Some(url) } else { None }
    }

    /// A file or folder.
    pub fn path(&self, path: &str) -> Option<PathBuf> {
        self.value(path).map(PathBuf::from)
    }

    /// A duration.
    pub fn duration(&self, path: &str) -> Option<Duration> {
        if let Value::Duration(duration) = self.parsed(path)? { Some(duration) } else { None }
    }

    /// The items of a list, none of them empty.
    pub fn items(&self, path: &str) -> Vec<&str> {
        let Some(key) = self.key(path) else { return Vec::new() };
        let divides = key.list.map_or::<fn(char) -> bool, _>(|_| false, Split::divides);
        match key.default {
            Some(default) if !self.settings.has_section(path) => default.split(divides).collect(),
            _ => self.settings.list(path, divides),
        }
    }

    /// Name and value of everything below a key that is not empty; names as written.
    pub fn map(&self, path: &str) -> BTreeMap<String, String> {
        let value = |name: &String| self.said(&format!("{path}:{name}")).map(str::to_owned);
        let names = self.settings.children(path).into_iter();
        names.filter_map(|name| Some((name.clone(), value(&name)?))).collect()
    }

    /// The same for header fields, whose outer blanks mean nothing (RFC 9110 §5.5).
    pub fn headers(&self, path: &str) -> BTreeMap<String, String> {
        self.map(path).into_iter().map(|(name, value)| (name, value.trim().to_owned())).collect()
    }

    /// The source of a key.
    pub fn origin(&self, path: &str) -> Option<&Origin> {
        self.settings.setting(path).map(|setting| &*setting.origin)
    }

    /// A variable of the environment that is no setting.
    pub fn variable(&self, name: &str) -> Option<PathBuf> {
        let (_, value) = self.variables.variables.iter().find(|(own, _)| own == name)?;
        (!value.is_empty()).then(|| PathBuf::from(value))
    }

    /// Reports that the configuration cannot run.
    pub fn problem(&mut self, key: &str, message: &str) {
        self.problems.push(Problem::new(key, message));
    }

    /// Reports something that the operator should know.
    pub fn warn(&mut self, key: &str, message: &str) {
        self.warnings.push(Problem::new(key, message));
    }

    /// Whether the environment is `Development`.
    pub fn is_development(&self) -> bool {
        self.environment.eq_ignore_ascii_case("Development")
    }
}
