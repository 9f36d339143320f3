//! Prints the configuration: the output of `check`, and `docs/configuration.md`.

use std::fmt::Write;

use super::row::Row;
use super::source::{self, Invocation};
use super::{AllowedCallers, Config, keys, sections, table};
use crate::value::text::quote;

/// Every known setting that is given, with its value and source, and with `all` every default in
/// force. Secrets are redacted. With a configuration, also the defaults that depend on other settings.
pub fn describe(invocation: &Invocation, config: Option<&Config>, all: bool) -> String {
    let gathered = source::gather(invocation);
    let registrations = sections::named(&gathered.settings);
    let mut lines = Vec::new();
    for setting in gathered.settings.iter() {
        let (Some(key), Some(value)) = (keys::find(&setting.key, &registrations), &setting.value) else { continue };
        let shown = if key.secret && !value.is_empty() { "[redacted]".to_owned() } else { quote(value) };
        let mut name = String::new();
        crate::value::text::escape(&setting.key, &mut name);
        lines.push(format!("{name} = {shown} ({})", setting.origin));
    }
    let computed = config.map(computed).unwrap_or_default();
    let is_given = |key: &Row| gathered.settings.has_section(key.pattern);
    let is_told_by_alias = |key: &Row| table::rows().any(|own| own.alias == Some(key.pattern) && is_given(own));
    for key in table::rows().filter(|key| all && !is_given(key) && !is_told_by_alias(key)) {
        let follows = computed.iter().find(|(name, _)| *name == key.pattern).map(|(_, value)| value.as_str());
        if let Some(default) = follows.or(key.default).filter(|_| !key.pattern.contains('*')) {
            lines.push(format!("{} = {} (default)", key.pattern, quote(default)));
        }
    }
    lines.sort_by_key(|line| line.to_lowercase());
    lines.into_iter().fold(String::new(), |text, line| text + &line + "\n")
}

/// Defaults that depend on the machine or on other settings.
fn computed(config: &Config) -> Vec<(&'static str, String)> {
    let overrides = &config.sidecar.allow_overrides;
    let callers = match config.sidecar.allowed_callers {
        AllowedCallers::Any => "*",
        AllowedCallers::Networks(_) => "127.0.0.0/8;::1",
    };
    vec![
        ("Sidecar:AllowedCallers", callers.to_owned()),
        (
            "Sidecar:AllowOverrides:GetAuthorizationHeaderUnauthenticated",
            overrides.authorization_header_unauthenticated.to_string(),
        ),
        (
            "Sidecar:AllowOverrides:CallDownstreamApiUnauthenticated",
            overrides.downstream_api_unauthenticated.to_string(),
        ),
        ("Sidecar:Limits:Workers", config.limits.workers.to_string()),
        ("Logging:LogLevel:Access", config.logging.access.to_string()),
    ]
}

pub fn documentation() -> String {
    let mut out = String::from(INTRODUCTION);
    let mut section = "";
    for key in table::rows().filter(|key| key.is_setting()) {
        let own = key.pattern.split(':').next().filter(|_| key.pattern.contains(':')).unwrap_or("Host");
        let own = if key.pattern.starts_with("Sidecar:Limits:") { "Sidecar:Limits" } else { own };
        if own != section {
            section = own;
            let _ = write!(out, "\n## {own}\n\n| key | type | default | |\n|---|---|---|---|\n");
        }
        let default = key.default.map_or(String::new(), |default| format!("`{default}`"));
        let kind = match key.list {
            Some(_) => format!("list of {}", key.kind.describe()),
            None => key.kind.describe(),
        };
        let secret = if key.secret { " Never shown." } else { "" };
        let request = if key.is_override() { " May be overridden." } else { "" };
        let _ = writeln!(out, "| `{}` | {kind} | {default} | {}{secret}{request} |", key.pattern, key.help);
    }
    out
}

const INTRODUCTION: &str = "\
<!-- Made by scripts/gen-docs.sh from src/config/table.rs and src/config/options.rs. -->
# Configuration

Settings come from these sources. Later ones win:

1. defaults
2. the variables `DOTNET_*` and `ASPNETCORE_*` of the host
3. `appsettings.json`, or the file of `--config`
4. `appsettings.{Environment}.json` in the same folder
5. environment variables, with `__` for `:`
6. the command line (`--set KEY=VALUE`, `--KEY=VALUE`, `--KEY VALUE`)

The case of keys does not matter. A `*` below stands for an index or a name. A section named by an
`AcquireTokenOptions:AuthenticationOptionsName` has the same keys as `AzureAd`.

A malformed value prevents the start, with one line for each. An unknown key in `AzureAd`,
`DownstreamApis` or `Sidecar`, or directly in `Logging`, causes a warning, and so does a section
with a similar name. `entra-sidecar check --all` shows the settings in force and their sources.

JSON may contain comments and trailing commas. Write a list as a JSON array, by index (`Scopes__0`),
or as one text: scopes are separated by spaces, hosts and networks by semicolons, others by either.
Items of several sources merge by index. If one source has the list as one text and another by
index, the higher source replaces the whole list. An empty value counts as absent, but hides lower
sources.

Durations are seconds (`2`, `0.5`) or `hh:mm:ss`. Sizes are bytes, or have the unit `KiB` or `MiB`.
Text files (settings, PEM, tokens, keys) may begin with a byte order mark, which is skipped. `check`
shows the names of a URL's query parameters, but not their values.
";

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    #[test]
    fn secrets_are_redacted_and_sources_named() {
        let set = |key: &str, value: &str| (key.to_owned(), Zeroizing::new(value.to_owned()));
        let invocation = Invocation {
            settings: vec![
                set("AzureAd:ClientSecret", "s3cret"),
                set("azuread:clientcredentials:0:certificatepassword", "s3cret"),
                set("DownstreamApis:X:ExtraHeaderParameters:Api-Key", "s3cret"),
                set("DownstreamApis:X:BaseUrl", "https://user:s3cret@host/"),
                set("DownstreamApis:Y:BaseUrl", "https://host/api?code=s3cret"),
                set("DownstreamApis:Y:RelativePath", "me?sig=s3cret"),
                set("AzureAd:Authority", "https://host/t?x=s3cret"),
                set("AzureAd:ClientSecrets", "s3cret"),
                set("AzureAd:TenantId", "a\nb"),
            ],
            ..Invocation::default()
        };
        let text = describe(&invocation, None, true);
        assert!(!text.contains("s3cret"), "{text}");
        assert!(text.contains("AzureAd:ClientSecret = [redacted] (command line)\n"), "{text}");
        assert!(text.contains("AzureAd:TenantId = \"a\\nb\" (command line)\n"), "{text}");
        assert!(text.contains("Sidecar:Metrics = \"true\" (default)\n"), "{text}");
    }

    #[test]
    fn another_spelling_hides_the_default() {
        let settings = vec![("Kestrel:Limits:MaxRequestHeaderCount".to_owned(), Zeroizing::new("50".to_owned()))];
        let text = describe(&Invocation { settings, ..Invocation::default() }, None, true);
        assert!(text.contains("Kestrel:Limits:MaxRequestHeaderCount = \"50\" (command line)\n"), "{text}");
        assert!(!text.contains("Sidecar:Limits:RequestHeaders"), "{text}");
    }
}
