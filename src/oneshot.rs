//! Commands that ask once, without a server: what answers requests answers them. Nothing is kept, and nothing but the
//! answer goes to standard output.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::log::LevelFilter;
use serde_json::json;
use zeroize::Zeroizing;

use crate::app;
use crate::config::{AllowOverrides, Config};
use crate::file;
use crate::secret::Secret;
use crate::value::date::to_rfc3339_seconds;
use crate::value::percent::encode_component;
use crate::value::text::strip_prefix;

#[derive(Debug, PartialEq, Eq)]
pub struct Acquisition {
    pub api: String,
    /// Where a user's token is, for whom the API is to be called.
    pub user_token: Option<Source>,
    /// Keys of the query and their values.
    pub overrides: Vec<(String, Zeroizing<String>)>,
    pub output: Output,
}

/// Where a token is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Input,
    File(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Token,
    Header,
    /// The header's value, and when it expires.
    Json,
    /// What `kubectl` reads: <https://kubernetes.io/docs/reference/config-api/client-authentication.v1/>.
    ExecCredential,
}

impl Output {
    pub const ALL: [(&'static str, Self); 4] = [
        ("token", Self::Token),
        ("header", Self::Header),
        ("json", Self::Json),
        ("exec-credential", Self::ExecCredential),
    ];

    pub fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(own, _)| *own == name).map(|(_, form)| *form);
        found.ok_or_else(|| format!("--output: expected one of {}", Self::ALL.map(|(own, _)| own).join(", ")))
    }
}

/// What is configured for callers does not bind the operator's own shell, and what the log has to say beside warnings
/// nobody has asked for.
pub fn settle(config: &mut Config) {
    config.sidecar.allow_overrides = AllowOverrides {
        authorization_header: true,
        authorization_header_unauthenticated: true,
        downstream_api: true,
        downstream_api_unauthenticated: true,
    };
    config.sidecar.caller_token_file = None;
    Arc::make_mut(&mut config.azure_ad).include_error_details = true;
    let logging = &mut config.logging;
    logging.access = LevelFilter::Off;
    let levels = logging.categories.iter_mut().map(|(_, level)| level);
    for level in levels.chain([&mut logging.default]) {
        *level = (*level).min(LevelFilter::Warn);
    }
}

/// The token in the form that was asked for, or on one line why there is none.
pub fn acquire(config: Config, wanted: &Acquisition) -> Result<Secret<String>, String> {
    let user = wanted.user_token.as_ref().map(|source| read(source, config.limits.token_bytes)).transpose()?;
    let query: Vec<String> = wanted.overrides.iter().map(|(key, value)| parameter(key, value)).collect();
    let query = Zeroizing::new(query.join("&"));
    let configured: Vec<String> = config.apis.iter().map(|api| api.name.clone()).collect();
    let once = app::once(config, user.is_some())?;
    let user = user.as_ref().map(|token| token.as_str());
    let acquired = once.header(&wanted.api, &query, user).map_err(|problem| {
        let words = problem.words().to_owned();
        // Beside the service's words, what an operator at a shell wants next.
        match problem.status {
            404 if configured.is_empty() => format!("{words}: there is no API under DownstreamApis"),
            404 => format!("{words}: expected one of {}", configured.join(", ")),
            _ => words,
        }
    })?;
    let header = acquired.header.expose();
    let token = header.split_once(' ').map_or("", |(_, token)| token);
    let expires_on = to_rfc3339_seconds(acquired.expires_at);
    Ok(Secret::new(match wanted.output {
        Output::Token => token.to_owned(),
        Output::Header => format!("Authorization: {header}"),
        Output::Json => json!({ "authorizationHeader": header, "expiresOn": expires_on }).to_string(),
        Output::ExecCredential => json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            // Required, though what it says is the caller's.
            "spec": { "interactive": false },
            "status": { "expirationTimestamp": expires_on, "token": token },
        })
        .to_string(),
    }))
}

/// The answer of `/Validate`, or on one line why the token is rejected. `explain` is told each
/// check.
pub fn validate(
    config: Config,
    source: &Source,
    explain: Option<&mut dyn FnMut(&str)>,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let token = read(source, config.limits.token_bytes)?;
    let (outcome, findings) = app::once(config, true)?.validate(&token);
    if let Some(explain) = explain {
        for finding in findings {
            explain(&finding.to_string());
        }
    }
    outcome.map_err(|problem| problem.words().to_owned())
}

/// A pair of the query. What has no prefix is an option that the operator overrides; which there are, the query's own rules say.
fn parameter(key: &str, value: &str) -> String {
    let lower = key.to_ascii_lowercase();
    let prefix =
        if lower.starts_with("agent") || lower.starts_with("optionsoverride.") { "" } else { "optionsOverride." };
    format!("{prefix}{}={}", encode_component(key), encode_component(value))
}

/// The token there, with or without what stands before it in a header.
fn read(source: &Source, limit: usize) -> Result<Zeroizing<String>, String> {
    // One that is longer than allowed is for the check of its size to refuse.
    let limit = (limit as u64).saturating_mul(2).max(1 << 20);
    let (name, content) = match source {
        Source::Input => ("standard input".to_owned(), file::read_from(std::io::stdin().lock(), limit, limit)),
        Source::File(path) => (path.display().to_string(), file::read(path, limit)),
    };
    let content = content.map_err(|error| format!("{name}: {error}"))?;
    let text = std::str::from_utf8(&content).map_err(|_| format!("{name}: expected a token, which is ASCII"))?.trim();
    let text = strip_prefix(text, "Authorization:").map_or(text, str::trim_start);
    let text = strip_prefix(text, "Bearer ").map_or(text, str::trim_start);
    if text.is_empty() { Err(format!("{name}: expected a token, and it is empty")) } else { Ok(text.to_owned().into()) }
}

impl Source {
    /// `-` is standard input.
    pub fn named(name: &str) -> Self {
        if name == "-" { Self::Input } else { Self::File(Path::new(name).to_owned()) }
    }
}
