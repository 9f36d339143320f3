//! The sections that are the sidecar's own, `Sidecar` and its limits, and `Logging`.

use std::path::PathBuf;

use log::LevelFilter;

use super::load::Reader;
use super::{AllowOverrides, AllowedCallers, Config, Limits, Listen, Logging, PopValidation, Sidecar};
use crate::value::network::Network;
use crate::value::{guid, syntax};

/// `Sidecar`, without its limits.
pub fn read(reader: &mut Reader<'_>) -> Sidecar {
    let allowed_callers = allowed_callers(reader);
    let exposed = !reader.is_development() && allowed_callers.go_beyond_loopback();
    let insecure = reader.flag("Sidecar:AllowInsecureUpstream");
    if insecure {
        reader.warn("Sidecar:AllowInsecureUpstream", "true lets tokens and secrets travel without TLS");
    }
    if exposed && reader.said("Sidecar:CallerTokenFile").is_none() {
        reader.warn(
            "Sidecar:AllowedCallers",
            "lets other machines use the sidecar's identity; Sidecar:CallerTokenFile would make them prove themselves",
        );
    }
    // Blank, as from an unset variable, these would protect nothing and look as if they did.
    if reader.settings.value("Sidecar:CallerTokenFile").is_some() && reader.said("Sidecar:CallerTokenFile").is_none() {
        reader.problem("Sidecar:CallerTokenFile", "is blank: expected a file, or no such setting");
    }
    if reader.settings.has_section("Sidecar:AllowedTenants") && reader.items("Sidecar:AllowedTenants").is_empty() {
        reader.warn("Sidecar:AllowedTenants", "is blank: every tenant of the authority is accepted");
    }
    let allows = |endpoint: &str, default| reader.flag_or(&format!("Sidecar:AllowOverrides:{endpoint}"), default);
    let pop = |name: &str| reader.flag(&format!("Sidecar:PopValidation:{name}"));
    Sidecar {
        allow_overrides: AllowOverrides {
            authorization_header: allows("GetAuthorizationHeader", true),
            authorization_header_unauthenticated: allows("GetAuthorizationHeaderUnauthenticated", !exposed),
            downstream_api: allows("CallDownstreamApi", true),
            downstream_api_unauthenticated: allows("CallDownstreamApiUnauthenticated", !exposed),
        },
        allowed_callers,
        caller_token_file: reader.path("Sidecar:CallerTokenFile"),
        allow_app_token_without_user: reader.flag("Sidecar:AllowAppTokenWithoutUser"),
        allow_insecure_upstream: insecure,
        allow_outbound_redirects: reader.flag("Sidecar:AllowOutboundRedirects"),
        header_values_as_arrays: reader
            .word("Sidecar:DownstreamHeaderValues")
            .is_some_and(|form| form.eq_ignore_ascii_case("Array")),
        semantic_token_errors: reader
            .word("Sidecar:TokenErrorStatus")
            .is_some_and(|form| form.eq_ignore_ascii_case("Semantic")),
        metrics: reader.flag("Sidecar:Metrics"),
        trusted_certificates: trusted_certificates(reader),
        allowed_tenants: reader
            .items("Sidecar:AllowedTenants")
            .iter()
            .filter_map(|tenant| guid::parse(tenant).ok())
            .collect(),
        signed_http_request_key: reader.path("Sidecar:SignedHttpRequests:KeyFile"),
        pop_validation: PopValidation {
            method: pop("ValidateM"),
            host: pop("ValidateU"),
            path: pop("ValidateP"),
            query: pop("ValidateQ"),
            accept_unsigned_query: pop("AcceptUnsignedQueryParameters"),
            present_claims: pop("ValidatePresentClaims"),
            claims_when_present: reader
                .items("Sidecar:PopValidation:ClaimsToValidateWhenPresent")
                .iter()
                .map(|claim| claim.to_ascii_lowercase())
                .collect(),
            lifetime: reader.duration("Sidecar:PopValidation:SignedHttpRequestLifetime").unwrap_or_default(),
            reject_replays: pop("RejectReplays"),
            reject_bound_as_bearer: pop("RejectBoundAsBearer"),
        },
    }
}

fn allowed_callers(reader: &Reader<'_>) -> AllowedCallers {
    let items = reader.items("Sidecar:AllowedCallers");
    let said = reader.settings.has_section("Sidecar:AllowedCallers");
    if items.contains(&"*") || (!said && reader.is_development()) {
        return AllowedCallers::Any;
    }
    AllowedCallers::Networks(items.iter().filter_map(|item| Network::parse_exact(item).ok()).collect())
}

/// Warns where more callers may come in than the defaults allow.
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
            &format!("Development on {address}, an address beyond loopback, serves {who}; expected for tests alone"),
        );
    }
    if config.allowed_hosts.iter().any(|host| host == "*") {
        reader.warn(
            "AllowedHosts",
            "* accepts every Host header: a web page under a name that is rebound to this address could call the sidecar",
        );
    }
}

impl AllowedCallers {
    /// Whether any caller may come from elsewhere than this machine.
    pub fn go_beyond_loopback(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Networks(networks) => !networks.iter().all(Network::is_loopback),
        }
    }
}

/// The setting, else what OpenSSL's users know: a file, and a list of folders.
fn trusted_certificates(reader: &Reader<'_>) -> Vec<PathBuf> {
    if let Some(path) = reader.path("Sidecar:TrustedCertificates") {
        return vec![path];
    }
    let folders = reader.variable("SSL_CERT_DIR").unwrap_or_default();
    let folders = std::env::split_paths(&folders).filter(|path| !path.as_os_str().is_empty());
    reader.variable("SSL_CERT_FILE").into_iter().chain(folders.collect::<Vec<_>>()).collect()
}

/// `Sidecar:Limits`.
pub fn limits(reader: &mut Reader<'_>) -> Limits {
    let limits = read_limits(reader);
    let bodies =
        [(limits.request_body_bytes, "RequestBodyBytes"), (limits.downstream_body_bytes, "DownstreamBodyBytes")];
    // A body of that size could never be held.
    if let Some((size, name)) = bodies.into_iter().filter(|(size, _)| *size > limits.body_memory).max() {
        let memory = reader.said("Sidecar:Limits:BodyMemory").unwrap_or("64MiB");
        let message = format!("expected at least the {size} bytes of Sidecar:Limits:{name}, got '{memory}'");
        reader.problem("Sidecar:Limits:BodyMemory", &message);
    }
    limits
}

fn read_limits(reader: &Reader<'_>) -> Limits {
    let number = |name: &str| reader.number(&format!("Sidecar:Limits:{name}")).unwrap_or_default();
    let duration = |name: &str| reader.duration(&format!("Sidecar:Limits:{name}")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let shutdown = match reader.said("Sidecar:Limits:ShutdownTimeout") {
        Some(_) => None,
        None => reader.duration("shutdownTimeoutSeconds"),
    };
    Limits {
        workers: reader.number("Sidecar:Limits:Workers").unwrap_or_else(|| cores.max(2)),
        upstream_calls: number("UpstreamCalls"),
        queue_timeout: duration("QueueTimeout"),
        body_memory: number("BodyMemory"),
        connections: number("Connections"),
        request_head_bytes: number("RequestHeadBytes"),
        request_headers: number("RequestHeaders"),
        head_timeout: duration("HeadTimeout"),
        body_timeout: duration("BodyTimeout"),
        write_timeout: duration("WriteTimeout"),
        idle_timeout: duration("IdleTimeout"),
        request_body_bytes: number("RequestBodyBytes"),
        token_bytes: number("TokenBytes"),
        connect_timeout: duration("ConnectTimeout"),
        token_request_timeout: duration("TokenRequestTimeout"),
        downstream_timeout: duration("DownstreamTimeout"),
        downstream_body_bytes: number("DownstreamBodyBytes"),
        token_cache_entries: number("TokenCacheEntries"),
        token_cache_bytes: number("TokenCacheBytes"),
        validated_tokens: number("ValidatedTokens"),
        sessions: number("Sessions"),
        shutdown_timeout: shutdown.unwrap_or_else(|| duration("ShutdownTimeout")),
    }
}

/// `Logging`.
pub fn logging(reader: &Reader<'_>) -> Logging {
    let level = |key: &str| reader.said(key).and_then(|text| syntax::level(text.trim()).ok());
    let mut categories = Vec::new();
    for section in ["Logging:LogLevel", "Logging:Console:LogLevel"] {
        for name in reader.settings.children(section) {
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
    let said = reader.said("Logging:Format").and_then(|_| reader.word("Logging:Format"));
    Logging {
        default: own("Default").unwrap_or(LevelFilter::Info),
        access: own("Access").unwrap_or(access),
        json: said.or(console).is_some_and(|format| format.eq_ignore_ascii_case("json")),
        categories,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_networks_are_no_exposure() {
        for (network, beyond) in [
            ("127.0.0.1", false),
            ("127.0.0.0/8", false),
            ("::1", false),
            ("126.0.0.0/7", true),
            ("::/127", true),
            ("10.0.0.0/8", true),
        ] {
            let callers = AllowedCallers::Networks(vec![Network::parse_exact(network).unwrap()]);
            assert_eq!(callers.go_beyond_loopback(), beyond, "{network}");
        }
        assert!(!AllowedCallers::Networks(Vec::new()).go_beyond_loopback());
        assert!(AllowedCallers::Any.go_beyond_loopback());
    }
}
