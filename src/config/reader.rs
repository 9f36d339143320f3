//! Typed access to the settings, according to the table.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::api_options::ApiOptions;
use super::fields::{Limits, Sidecar};
use super::row::{Kind, Row, Split};
use super::slot::{Field, Value};
use super::source::{Invocation, Origin, Settings};
use super::{Diagnostic, keys, options, table};
use crate::value::url::Url;

/// Typed access to the settings. Malformed values read as absent: [`super::check::types`] has
/// reported them, and reading goes on to find further problems.
pub struct Reader<'a> {
    pub settings: &'a Settings,
    /// Names of sections with the shape of `AzureAd`, in lower case.
    pub registrations: &'a [String],
    pub environment: &'a str,
    /// For environment variables that are not settings.
    pub variables: &'a Invocation,
    pub problems: Vec<Diagnostic>,
    pub warnings: Vec<Diagnostic>,
}

impl Reader<'_> {
    /// The row of a key that an operator has written.
    pub fn find(&self, path: &str) -> Option<&'static Row> {
        keys::find(path, self.registrations)
    }

    fn row(&self, path: &str) -> Option<&'static Row> {
        keys::row(path, self.registrations)
    }

    /// True if there is a value for this key or below it.
    pub fn has_section(&self, path: &str) -> bool {
        self.is_known(path);
        self.settings.has_section(path)
    }

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

    /// The configured value, if it is not blank.
    pub fn given(&self, path: &str) -> Option<&str> {
        self.row(path)?;
        self.settings.value(path).filter(|value| !value.trim().is_empty())
    }

    /// The configured value, else the default.
    fn value(&self, path: &str) -> Option<&str> {
        self.given(path).or_else(|| self.find(path)?.default)
    }

    fn parsed(&self, path: &str) -> Option<Value> {
        let key = self.row(path)?;
        let good = |text: &str| key.kind.parse(path.rsplit(':').next()?, text.trim()).ok();
        self.given(path).and_then(good).or_else(|| good(key.default?))
    }

    /// The valid values at `path`, else the row's default, each with the last segment of its key.
    fn values(&self, key: &Row, path: &str) -> Vec<(String, Value)> {
        self.row(path);
        let section = path.strip_suffix(":*");
        let said: Vec<(String, &str)> = match (section, key.list) {
            (Some(section), _) => {
                let names = self.settings.children(section).into_iter();
                names.filter_map(|name| Some((name.clone(), self.given(&format!("{section}:{name}"))?))).collect()
            }
            (None, Some(_)) => self.items(path).into_iter().map(|item| (String::new(), item)).collect(),
            // An empty `Accept` is a value: the header is not sent.
            (None, None) if matches!(key.kind, Kind::HeaderValue) && self.settings.value(path) == Some("") => {
                vec![(String::new(), "")]
            }
            (None, None) => self.value(path).map(|value| (String::new(), value)).into_iter().collect(),
        };
        let parse = |(name, text): (String, &str)| {
            let text = if key.kind.keeps_blanks() { text } else { text.trim() };
            let value = match key.kind.parse(&name, text) {
                // A list as JSON text: `check::scopes` warns, and it is passed on as one scope.
                Err(_) if matches!(key.kind, Kind::Scope) => Some(Value::Text(text.to_owned())),
                value => value.ok(),
            };
            Some((name, value?))
        };
        said.into_iter().filter_map(parse).collect()
    }

    /// Fills the fields of the sidecar's own sections from the table.
    pub fn fill_own(&self, sidecar: &mut Sidecar, limits: &mut Limits) {
        let own = || table::rows().filter(|key| matches!(key.field, Field::Sidecar(_) | Field::Limits(_)));
        let is_missing = |pattern| self.given(pattern).is_none();
        let aliases = own().filter(|key| key.alias.is_some_and(is_missing));
        for key in own().filter(|key| key.alias.is_none()).chain(aliases) {
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

    pub fn options(&self, api: &str) -> ApiOptions {
        let mut options = ApiOptions::default();
        // From the bottom, because an alias stands below the key that beats it.
        for key in options::ROWS.iter().rev().filter(|key| matches!(key.field, Field::Api(_)) && key.is_setting()) {
            for (name, value) in self.values(key, &key.pattern.replacen('*', api, 1)) {
                let fits = key.field.fill_option(&mut options, &name, value);
                debug_assert!(fits, "{}: its kind does not fit its field", key.pattern);
            }
        }
        options
    }

    /// A text as written.
    pub fn text(&self, path: &str) -> Option<String> {
        self.value(path).map(str::to_owned)
    }

    /// A text in normalised form.
    pub fn word(&self, path: &str) -> Option<String> {
        match self.parsed(path)? {
            Value::Text(text) => Some(text),
            Value::Choice(_, choice) => Some(choice.to_owned()),
            _ => None,
        }
    }

    pub fn flag(&self, path: &str) -> bool {
        self.parsed(path) == Some(Value::Flag(true))
    }

    pub fn url(&self, path: &str) -> Option<Url> {
        if let Value::Url(url) = self.parsed(path)? { Some(url) } else { None }
    }

    pub fn path(&self, path: &str) -> Option<PathBuf> {
        self.value(path).map(PathBuf::from)
    }

    pub fn duration(&self, path: &str) -> Option<Duration> {
        if let Value::Duration(duration) = self.parsed(path)? { Some(duration) } else { None }
    }

    /// The items of a list. None is empty.
    pub fn items(&self, path: &str) -> Vec<&str> {
        let Some(key) = self.row(path) else { return Vec::new() };
        let divides = key.list.map_or::<fn(char) -> bool, _>(|_| false, Split::divides);
        match key.default {
            Some(default) if !self.settings.has_section(path) => default.split(divides).collect(),
            _ => self.settings.list(path, divides),
        }
    }

    /// Names, as written, and values of all keys below a path that are not blank.
    pub fn map(&self, path: &str) -> BTreeMap<String, String> {
        let value = |name: &String| self.given(&format!("{path}:{name}")).map(str::to_owned);
        let names = self.children(path).into_iter();
        names.filter_map(|name| Some((name.clone(), value(&name)?))).collect()
    }

    pub fn origin(&self, path: &str) -> Option<&Origin> {
        self.row(path)?;
        self.settings.setting(path).map(|setting| &*setting.origin)
    }

    /// An environment variable that is not a setting.
    pub fn variable(&self, name: &str) -> Option<PathBuf> {
        let (_, value) = self.variables.variables.iter().find(|(own, _)| own == name)?;
        (!value.is_empty()).then(|| PathBuf::from(value))
    }

    /// Reports a problem that prevents the start.
    pub fn problem(&mut self, key: &str, message: &str) {
        self.problems.push(Diagnostic::new(key, message));
    }

    /// Reports a value, which is shown. Not for secrets.
    pub fn refuse(&mut self, key: &str, value: &str, expected: &str) {
        self.problems.push(Diagnostic::value(key, value, expected));
    }

    pub fn warn(&mut self, key: &str, message: &str) {
        self.warnings.push(Diagnostic::new(key, message));
    }

    pub fn is_development(&self) -> bool {
        self.environment.eq_ignore_ascii_case("Development")
    }
}
