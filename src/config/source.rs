//! The sources of settings, merged into one flat map.
//!
//! Keys are paths with `:`, compared without regard to case. List items have an index as their last
//! segment, so a later source can replace single items, as in .NET's configuration.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{Diagnostic, json};
use crate::file;
use crate::value::text::strip_prefix;

/// What is needed to read the configuration at the start and on a reload.
#[derive(Clone, Default)]
pub struct Invocation {
    /// `--config`, which must exist. `None`: `appsettings.json` in the content root, if there is
    /// one.
    pub config_file: Option<PathBuf>,
    pub environment: Option<String>,
    pub urls: Option<String>,
    /// `--set KEY=VALUE` and its other spellings, in order.
    pub settings: Vec<(String, Zeroizing<String>)>,
    pub variables: Vec<(OsString, OsString)>,
}

/// The source of a setting, in ascending order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A variable with the prefix `DOTNET_`.
    DotnetHost,
    /// A variable with the prefix `ASPNETCORE_`.
    AspNetHost,
    /// `appsettings.json`, or the file given by `--config`.
    File(String),
    /// `appsettings.{Environment}.json`.
    EnvironmentFile(String),
    /// A variable without a prefix.
    Variable,
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DotnetHost | Self::AspNetHost | Self::Variable => f.write_str("environment"),
            Self::File(name) | Self::EnvironmentFile(name) => f.write_str(name),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

#[derive(Clone)]
pub struct Setting {
    /// In the spelling of its first source.
    pub key: String,
    /// `None`: JSON's `null`, which hides lower sources.
    pub value: Option<Zeroizing<String>>,
    pub origin: Arc<Origin>,
    /// When it was first set. The earliest spelling of a section's name is used.
    first: usize,
}

/// All settings by lower-case key.
#[derive(Clone, Default)]
pub struct Settings(BTreeMap<String, Setting>);

impl Settings {
    /// Sets a value, replacing that of lower sources.
    pub fn set(&mut self, key: &str, value: Option<Zeroizing<String>>, origin: &Arc<Origin>) {
        let first = self.0.len();
        let entry = self.0.entry(key.to_lowercase()).or_insert_with(|| Setting {
            key: key.to_owned(),
            value: None,
            origin: Arc::clone(origin),
            first,
        });
        entry.value = value;
        entry.origin = Arc::clone(origin);
    }

    /// The setting, unless it is `null`.
    pub fn setting(&self, key: &str) -> Option<&Setting> {
        self.0.get(&key.to_lowercase()).filter(|setting| setting.value.is_some())
    }

    /// The value, which may be empty.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.setting(key)?.value.as_ref().map(|value| value.as_str())
    }

    /// All settings that are not `null`, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.0.values().filter(|setting| setting.value.is_some())
    }

    /// True if there is a value for this key or below it.
    pub fn has_section(&self, key: &str) -> bool {
        self.setting(key).is_some() || !self.children(key).is_empty()
    }

    /// The names one level below a key: numbers first, in order, each name in its first spelling.
    pub fn children(&self, key: &str) -> Vec<String> {
        let prefix = format!("{}:", key.to_lowercase());
        let depth = key.split(':').count();
        let mut names: BTreeMap<(u64, String), (usize, &str)> = BTreeMap::new();
        for (path, setting) in self.0.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix)) {
            let (Some(lower), Some(written)) = (path.split(':').nth(depth), setting.key.split(':').nth(depth)) else {
                continue;
            };
            if setting.value.is_none() || lower.is_empty() {
                continue;
            }
            let order = (lower.parse().unwrap_or(u64::MAX), lower.to_owned());
            let first = names.entry(order).or_insert((setting.first, written));
            *first = (*first).min((setting.first, written));
        }
        names.into_values().map(|(_, written)| written.to_owned()).collect()
    }

    /// The items of a list, given by index or as one text that `split` divides. If both are
    /// present, the higher source wins as a whole, and within one source the indices win.
    pub fn list(&self, key: &str, split: fn(char) -> bool) -> Vec<&str> {
        let indexed: Vec<&Setting> =
            self.children(key).iter().filter_map(|index| self.setting(&format!("{key}:{index}"))).collect();
        let highest = indexed.iter().map(|setting| &*setting.origin).max();
        let chosen = match self.setting(key) {
            Some(scalar) if highest.is_none_or(|origin| *scalar.origin > *origin) => vec![scalar],
            _ => indexed,
        };
        let texts = chosen.into_iter().filter_map(|setting| setting.value.as_ref());
        texts.flat_map(|text| text.split(split)).map(str::trim).filter(|item| !item.is_empty()).collect()
    }
}

/// The merged settings, and problems of reading them.
pub struct Gathered {
    pub settings: Settings,
    /// `Production` by default.
    pub environment: String,
    pub problems: Vec<Diagnostic>,
}

/// Larger files are refused.
const MAX_FILE: u64 = 1 << 20;

pub fn gather(invocation: &Invocation) -> Gathered {
    let mut settings = Settings::default();
    let mut problems = Vec::new();
    for (prefix, origin) in [("DOTNET_", Origin::DotnetHost), ("ASPNETCORE_", Origin::AspNetHost)] {
        add_variables(&mut settings, &mut problems, &invocation.variables, prefix, &Arc::new(origin));
    }

    // These settings decide which files to read.
    let words = Arc::new(Origin::CommandLine);
    for (key, value) in invocation.settings.iter().filter(|(key, _)| is_host_key(key)) {
        settings.set(key, Some(value.clone()), &words);
    }
    if let Some(environment) = &invocation.environment {
        settings.set("environment", Some(Zeroizing::new(environment.clone())), &words);
    }
    let said = |key: &str| {
        super::keys::row(key, &[])?;
        settings.value(key).filter(|value| !value.is_empty())
    };
    let environment = said("environment").unwrap_or("Production").to_owned();
    let root = said("contentRoot").map(PathBuf::from).unwrap_or_default();
    if environment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        let (file, must_exist) = match &invocation.config_file {
            Some(file) => (file.clone(), true),
            None => (root.join("appsettings.json"), false),
        };
        let overlay = overlay_of(&file, &environment);
        add_file(&mut settings, &mut problems, &file, must_exist, Origin::File);
        add_file(&mut settings, &mut problems, &overlay, false, Origin::EnvironmentFile);
    } else {
        // It becomes part of a file name.
        problems.push(Diagnostic::value("ASPNETCORE_ENVIRONMENT", &environment, "letters, digits, '.', '_' and '-'"));
    }

    add_variables(&mut settings, &mut problems, &invocation.variables, "", &Arc::new(Origin::Variable));
    for (key, value) in &invocation.settings {
        settings.set(&key.replace("__", ":"), Some(value.clone()), &words);
    }
    if let Some(urls) = &invocation.urls {
        settings.set("urls", Some(Zeroizing::new(urls.clone())), &words);
    }
    Gathered { settings, environment, problems }
}

/// Keys that decide which files are read. Files and variables without a prefix cannot set them.
fn is_host_key(key: &str) -> bool {
    ["environment", "contentRoot"].iter().any(|own| own.eq_ignore_ascii_case(key))
}

/// `sidecar.Production.json` next to `sidecar.json` if it exists, else
/// `appsettings.Production.json` there.
fn overlay_of(file: &Path, environment: &str) -> PathBuf {
    let mut name = file.file_stem().unwrap_or_default().to_owned();
    name.push(format!(".{environment}.json"));
    let own = file.with_file_name(name);
    if own.exists() { own } else { file.with_file_name(format!("appsettings.{environment}.json")) }
}

fn add_file(
    settings: &mut Settings,
    problems: &mut Vec<Diagnostic>,
    path: &Path,
    must_exist: bool,
    origin: fn(String) -> Origin,
) {
    let name = path.display().to_string();
    let result = match file::read(path, MAX_FILE) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => return,
        Err(error) => Err(error.to_string()),
        Ok(bytes) => match std::str::from_utf8(&bytes) {
            Err(error) => Err(format!("not UTF-8 after byte {}", error.valid_up_to())),
            Ok(text) => json::flatten(text),
        },
    };
    match result {
        Ok(flat) => {
            let origin = Arc::new(origin(name));
            for (key, value) in flat.into_iter().filter(|(key, _)| !is_host_key(key)) {
                settings.set(&key, value, &origin);
            }
        }
        // Append a position to the name, as compilers do.
        Err(cause) if cause.starts_with(|c: char| c.is_ascii_digit()) => {
            let (position, cause) = cause.split_once(": ").unwrap_or(("", &cause));
            problems.push(Diagnostic::new(&format!("{name}:{position}"), cause));
        }
        Err(cause) => problems.push(Diagnostic::new(&name, &cause)),
    }
}

fn add_variables(
    settings: &mut Settings,
    problems: &mut Vec<Diagnostic>,
    variables: &[(OsString, OsString)],
    prefix: &str,
    origin: &Arc<Origin>,
) {
    for (name, value) in variables {
        let Some(key) = name.to_str().and_then(|name| strip_prefix(name, prefix)) else { continue };
        let key = key.replace("__", ":");
        if prefix.is_empty() && is_host_key(&key) {
            continue;
        }
        match value.to_str() {
            Some(value) => settings.set(&key, Some(Zeroizing::new(value.to_owned())), origin),
            // Variables of other programs may hold any bytes.
            None if super::keys::is_ours(&key) => {
                problems.push(Diagnostic::new(&key, "the variable is not valid UTF-8"));
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(entries: &[(&str, &str, Origin)]) -> Settings {
        let mut settings = Settings::default();
        for (key, value, origin) in entries {
            settings.set(key, Some(Zeroizing::new((*value).to_owned())), &Arc::new(origin.clone()));
        }
        settings
    }

    fn file() -> Origin {
        Origin::File("appsettings.json".to_owned())
    }

    #[test]
    fn lists_merge_by_index_and_the_higher_form_wins() {
        let both = |scalar: Origin, item: Origin| {
            let all = settings(&[("S", "a b", scalar), ("s:0", "c", file()), ("S:1", "d", item)]);
            all.list("S", char::is_whitespace).join(",")
        };
        assert_eq!(both(Origin::Variable, file()), "a,b");
        assert_eq!(both(Origin::Variable, Origin::Variable), "c,d");
        assert_eq!(both(file(), Origin::Variable), "c,d");
        assert_eq!(
            settings(&[("s", "", Origin::Variable), ("s:0", "c", file())]).list("S", char::is_whitespace),
            [""; 0]
        );
    }

    #[test]
    fn indices_are_ordered_as_numbers_and_names_follow_them() {
        let all = settings(&[("L:10", "c", file()), ("L:9", "b", file()), ("L:x", "d", file()), ("L:0", "a", file())]);
        assert_eq!(all.list("l", |_| false), ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_name_keeps_its_spelling_from_the_lowest_source() {
        let all = settings(&[
            ("DownstreamApis:Graph:Scopes", "a", file()),
            ("DOWNSTREAMAPIS:GRAPH:BASEURL", "b", Origin::Variable),
        ]);
        assert_eq!(all.children("downstreamApis"), ["Graph"]);
    }

    #[test]
    fn null_hides_what_lower_sources_said() {
        let mut all = settings(&[("A:B", "x", file())]);
        all.set("a:b", None, &Arc::new(Origin::EnvironmentFile(String::new())));
        assert_eq!((all.value("A:B"), all.has_section("A")), (None, false));
    }

    #[test]
    fn host_variables_lie_below_files_and_plain_ones_above() {
        let variables = [("DOTNET_Urls", "1"), ("aspnetcore_URLS", "2"), ("URLS", "3"), ("A__B__C", "4")];
        let invocation = Invocation {
            variables: variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect(),
            settings: vec![("A:b__C".to_owned(), Zeroizing::new("5".to_owned()))],
            ..Invocation::default()
        };
        let gathered = gather(&invocation);
        assert_eq!(gathered.settings.value("urls"), Some("3"));
        assert_eq!(gathered.settings.value("a:b:c"), Some("5"));
        assert_eq!(gathered.environment, "Production");
        assert!(Origin::DotnetHost < Origin::AspNetHost && Origin::AspNetHost < file() && file() < Origin::Variable);
    }
}
