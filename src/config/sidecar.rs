//! Reads the sections `Sidecar`, `Sidecar:Limits` and `Logging`.

use std::path::PathBuf;

use log::LevelFilter;

use super::reader::Reader;
use super::{AllowedCallers, Config, Limits, Listen, Logging, Sidecar};
use crate::value::network::Network;
use crate::value::syntax;

/// Starts with defaults that depend on the machine or on other settings, then applies the settings.
pub fn read(reader: &mut Reader<'_>) -> (Sidecar, Limits) {
    let allowed_callers = allowed_callers(reader);
    let exposed = !reader.is_development() && allowed_callers.go_beyond_loopback();
    let mut sidecar = Sidecar { allowed_callers, ..Sidecar::default() };
    sidecar.allow_overrides.authorization_header_unauthenticated = !exposed;
    sidecar.allow_overrides.downstream_api_unauthenticated = !exposed;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut limits = Limits { workers: cores.max(2), ..Limits::default() };
    reader.fill_own(&mut sidecar, &mut limits);
    if sidecar.trusted_certificates.is_empty() {
        sidecar.trusted_certificates = certificates_of_openssl(reader);
    }
    check(reader, &sidecar, &limits, exposed);
    (sidecar, limits)
}

fn check(reader: &mut Reader<'_>, sidecar: &Sidecar, limits: &Limits, exposed: bool) {
    if sidecar.allow_insecure_upstream {
        reader.warn("Sidecar:AllowInsecureUpstream", "true allows tokens and secrets to be sent without TLS");
    }
    if exposed && sidecar.caller_token_file.is_none() {
        reader.warn(
            "Sidecar:AllowedCallers",
            "lets other machines use the sidecar's identity; set Sidecar:CallerTokenFile to authenticate them",
        );
    }
    // A blank value, as from an unset variable, would look like protection and be none.
    if reader.origin("Sidecar:CallerTokenFile").is_some() && sidecar.caller_token_file.is_none() {
        reader.problem("Sidecar:CallerTokenFile", "is blank: expected a file, or remove the setting");
    }
    if reader.has_section("Sidecar:AllowedTenants") && reader.items("Sidecar:AllowedTenants").is_empty() {
        reader.warn("Sidecar:AllowedTenants", "is blank: every tenant of the authority is accepted");
    }
    check_shared_cache(reader, sidecar);
    let bodies = [(limits.body_bytes, "RequestBodyBytes"), (limits.downstream_body_bytes, "DownstreamBodyBytes")];
    // A body of the permitted size would never fit.
    if let Some((size, name)) = bodies.into_iter().filter(|(size, _)| *size > limits.body_memory).max() {
        let memory = reader.given("Sidecar:Limits:BodyMemory").unwrap_or("64MiB");
        let message = format!("expected at least the {size} bytes of Sidecar:Limits:{name}, got '{memory}'");
        reader.problem("Sidecar:Limits:BodyMemory", &message);
    }
}

fn check_shared_cache(reader: &mut Reader<'_>, sidecar: &Sidecar) {
    const SECTION: &str = "Sidecar:SharedCache";
    let names = reader.children(SECTION).into_iter().map(|name| format!("{SECTION}:{name}"));
    let Some(first) = names.filter(|key| reader.find(key).is_some()).find(|key| reader.given(key).is_some()) else {
        return;
    };
    if !cfg!(feature = "shared-cache") {
        let message = "this build has no shared cache: expected one made with the feature shared-cache \
                       (scripts/build-static.sh --features shared-cache), or remove the setting";
        reader.problem(&first, message);
        return;
    }
    if reader.given("Sidecar:SharedCache:Url").is_none() {
        reader.warn(&first, "nothing is shared without Sidecar:SharedCache:Url");
    } else if sidecar.shared_cache.key_file.is_none() {
        reader.problem("Sidecar:SharedCache:KeyFile", "expected a file with the key that seals what is shared");
    }
    if let Some(url) = sidecar.shared_cache.url.as_ref().filter(|url| url.is_exposed()) {
        reader
            .warn("Sidecar:SharedCache:Url", &format!("{url} is beyond loopback and without TLS: expected rediss://"));
    }
}

fn allowed_callers(reader: &Reader<'_>) -> AllowedCallers {
    let items = reader.items("Sidecar:AllowedCallers");
    let said = reader.has_section("Sidecar:AllowedCallers");
    if items.contains(&"*") || (!said && reader.is_development()) {
        return AllowedCallers::Any;
    }
    AllowedCallers::Networks(items.iter().filter_map(|item| Network::parse_exact(item).ok()).collect())
}

/// Warns if more callers can connect than by default.
pub fn warn_of_exposure(reader: &mut Reader<'_>, config: &Config) {
    let exposed = config.listen.iter().find_map(|listen| match listen {
        Listen::Tcp(address) if !address.ip().is_loopback() => Some(*address),
        _ => None,
    });
    if let Some(address) = exposed.filter(|_| config.is_development()) {
        let beyond = config.sidecar.allowed_callers.go_beyond_loopback();
        let who = if beyond { "every caller that can connect" } else { "the callers in Sidecar:AllowedCallers" };
        reader.warn(
            "ASPNETCORE_ENVIRONMENT",
            &format!("Development on {address}, which is not a loopback address, serves {who}: use it for tests only"),
        );
    }
    if config.allowed_hosts.iter().any(|host| host == "*") {
        reader.warn(
            "AllowedHosts",
            "* accepts every Host header, so a web page could call the sidecar through DNS rebinding: list the names that \
             callers use",
        );
    }
}

/// The variables of OpenSSL: a file, and a list of folders.
fn certificates_of_openssl(reader: &Reader<'_>) -> Vec<PathBuf> {
    let folders = reader.variable("SSL_CERT_DIR").unwrap_or_default();
    let folders = std::env::split_paths(&folders).filter(|path| !path.as_os_str().is_empty());
    reader.variable("SSL_CERT_FILE").into_iter().chain(folders.collect::<Vec<_>>()).collect()
}

pub fn logging(reader: &Reader<'_>) -> Logging {
    let level = |key: &str| reader.given(key).and_then(|text| syntax::level(text.trim()).ok());
    let mut categories = Vec::new();
    for section in ["Logging:LogLevel", "Logging:Console:LogLevel"] {
        for name in reader.children(section) {
            if let Some(level) = level(&format!("{section}:{name}")) {
                categories.push((name, level));
            }
        }
    }
    let own = |category: &str| {
        let latest = categories.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(category));
        latest.map(|(_, level)| *level)
    };
    let access = if reader.is_development() { LevelFilter::Info } else { LevelFilter::Warn };
    let console = reader.word("Logging:Console:FormatterName");
    let said = reader.given("Logging:Format").and_then(|_| reader.word("Logging:Format"));
    Logging {
        default: own("Default").unwrap_or(LevelFilter::Info),
        access: own("Access").unwrap_or(access),
        json: said.or(console).is_some_and(|format| format.eq_ignore_ascii_case("json")),
        categories,
    }
}
