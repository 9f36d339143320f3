//! From settings to [`Config`]. Every problem is collected, so that one start reports them all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::keys::{self, Key, Kind, Split};
use super::options::{self, ApiOptions};
use super::slot::{Field, Value};
use super::source::{self, Origin, Setting, Settings};
use super::{Config, Invocation, Limits, Problem, Sidecar, Warning, api, check, listen, registration, sidecar, table};
use crate::value::syntax;
use crate::value::url::Url;

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
        allowed_hosts: reader.items("AllowedHosts").iter().filter_map(|host| syntax::host(host).ok()).collect(),
    };
    api::judge(&mut reader, &config);
    api::judge_identity_endpoint(&mut reader, &config);
    sidecar::warn_of_exposure(&mut reader, &config);
    let Reader { mut problems, warnings, .. } = reader;
    problems.dedup();
    if problems.is_empty() { Ok(Loaded { config, warnings }) } else { Err(Rejected { problems, warnings }) }
}

/// Typed access to the settings. A value that is malformed was reported by [`super::check::types`] and reads as absent,
/// so that reading goes on and finds the next problem.
pub struct Reader<'a> {
    settings: &'a Settings,
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
    /// Everything that was said, known or not.
    pub fn settings(&self) -> impl Iterator<Item = &Setting> {
        self.settings.iter()
    }

    /// The table's row of a key that someone has written.
    pub fn find(&self, path: &str) -> Option<&'static Key> {
        keys::find(path, self.registrations)
    }

    fn row(&self, path: &str) -> Option<&'static Key> {
        keys::row(path, self.registrations)
    }

    /// Which section an API names as the one that acquires, and with which key.
    pub fn acquiring_section(&self, api: &str) -> Option<(String, String)> {
        registration::name_of(self.settings, api)
    }

    /// Whether anything is said under a key or below it.
    pub fn has_section(&self, path: &str) -> bool {
        self.is_known(path);
        self.settings.has_section(path)
    }

    /// The names one level below a key.
    pub fn children(&self, path: &str) -> Vec<String> {
        self.is_known(path);
        self.settings.children(path)
    }

    fn is_known(&self, path: &str) {
        debug_assert!(
            self.find(path).is_some() || keys::is_section(path, self.registrations),
            "{path} is looked for, and no row begins so"
        );
    }

    /// What was said, where it is not empty.
    pub fn said(&self, path: &str) -> Option<&str> {
        self.row(path)?;
        self.settings.value(path).filter(|value| !value.trim().is_empty())
    }

    /// What was said, else the default of the table.
    fn value(&self, path: &str) -> Option<&str> {
        self.said(path).or_else(|| self.find(path)?.default)
    }

    fn parsed(&self, path: &str) -> Option<Value> {
        let key = self.row(path)?;
        let good = |text: &str| key.kind.parse(path.rsplit(':').next()?, text.trim()).ok();
        self.said(path).and_then(good).or_else(|| good(key.default?))
    }

    /// What is said under `path` in the place of a row, else the row's default, each with the last segment of its key. What
    /// is malformed was reported and is left out.
    fn values(&self, key: &Key, path: &str) -> Vec<(String, Value)> {
        self.row(path);
        let section = path.strip_suffix(":*");
        let said: Vec<(String, &str)> = match (section, key.list) {
            (Some(section), _) => {
                let names = self.settings.children(section).into_iter();
                names.filter_map(|name| Some((name.clone(), self.said(&format!("{section}:{name}"))?))).collect()
            }
            (None, Some(_)) => self.items(path).into_iter().map(|item| (String::new(), item)).collect(),
            // An `Accept` that is empty is a value: none is sent.
            (None, None) if matches!(key.kind, Kind::HeaderValue) && self.settings.value(path) == Some("") => {
                vec![(String::new(), "")]
            }
            (None, None) => self.value(path).map(|value| (String::new(), value)).into_iter().collect(),
        };
        let parse = |(name, text): (String, &str)| {
            let text = if key.kind.keeps_blanks() { text } else { text.trim() };
            let value = match key.kind.parse(&name, text) {
                // Of a list in JSON text, a warning has told what becomes.
                Err(_) if matches!(key.kind, Kind::Scope) => Some(Value::Text(text.to_owned())),
                value => value.ok(),
            };
            Some((name, value?))
        };
        said.into_iter().filter_map(parse).collect()
    }

    /// Fills what the table says about the sidecar and its limits.
    pub fn fill_own(&self, sidecar: &mut Sidecar, limits: &mut Limits) {
        for key in table::rows().filter(|key| matches!(key.field, Field::Sidecar(_) | Field::Limits(_))) {
            for (name, value) in self.values(key, key.pattern) {
                let fits = match key.field {
                    Field::Sidecar(field) => field(sidecar).fill(&name, value),
                    Field::Limits(field) => field(limits).fill(&name, value),
                    Field::Named | Field::Api(_) => true,
                };
                debug_assert!(fits, "{}: its kind does not fit its field", key.pattern);
            }
        }
    }

    /// The options of an API.
    pub fn options(&self, api: &str) -> ApiOptions {
        let mut options = ApiOptions::default();
        // Upwards, since another spelling stands below the one to which it yields.
        for key in options::ROWS.iter().rev().filter(|key| matches!(key.field, Field::Api(_)) && key.is_setting()) {
            for (name, value) in self.values(key, &key.pattern.replacen('*', api, 1)) {
                let fits = options.take(key, &name, value);
                debug_assert!(fits, "{}: its kind does not fit its field", key.pattern);
            }
        }
        options
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
        let Some(key) = self.row(path) else { return Vec::new() };
        let divides = key.list.map_or::<fn(char) -> bool, _>(|_| false, Split::divides);
        match key.default {
            Some(default) if !self.settings.has_section(path) => default.split(divides).collect(),
            _ => self.settings.list(path, divides),
        }
    }

    /// Name and value of everything below a key that is not empty; names as written.
    pub fn map(&self, path: &str) -> BTreeMap<String, String> {
        let value = |name: &String| self.said(&format!("{path}:{name}")).map(str::to_owned);
        let names = self.children(path).into_iter();
        names.filter_map(|name| Some((name.clone(), value(&name)?))).collect()
    }

    /// The source of a key.
    pub fn origin(&self, path: &str) -> Option<&Origin> {
        self.row(path)?;
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
