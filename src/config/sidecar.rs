//! The sections that are the sidecar's own, `Sidecar` and its limits, and `Logging`.

use std::net::IpAddr;
use std::path::PathBuf;

use log::LevelFilter;

use super::load::Reader;
use super::{AllowOverrides, AllowedCallers, Limits, Logging, Network, PopValidation, Sidecar, parse};

/// `Sidecar`, without its limits.
pub fn read(reader: &mut Reader<'_>) -> Sidecar {
    let allowed_callers = allowed_callers(reader);
    let exposed = !reader.is_development() && goes_beyond_loopback(&allowed_callers);
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
        metrics: reader.flag("Sidecar:Metrics"),
        trusted_certificates: trusted_certificates(reader),
        allowed_tenants: reader
            .items("Sidecar:AllowedTenants")
            .iter()
            .filter_map(|tenant| parse::tenant(tenant).ok())
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
        },
    }
}

fn allowed_callers(reader: &Reader<'_>) -> AllowedCallers {
    let items = reader.items("Sidecar:AllowedCallers");
    let said = reader.settings.has_section("Sidecar:AllowedCallers");
    if items.contains(&"*") || (!said && reader.is_development()) {
        return AllowedCallers::Any;
    }
    AllowedCallers::Networks(items.iter().filter_map(|item| parse::network(item).ok()).collect())
}

/// Whether any caller may come from elsewhere than this machine.
fn goes_beyond_loopback(callers: &AllowedCallers) -> bool {
    let local = |network: &Network| match network.address {
        IpAddr::V4(address) => address.is_loopback() && network.prefix >= 8,
        IpAddr::V6(address) => address.is_loopback() && network.prefix == 128,
    };
    match callers {
        AllowedCallers::Any => true,
        AllowedCallers::Networks(networks) => !networks.iter().all(local),
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
    let level = |key: &str| reader.said(key).and_then(|text| parse::level(text.trim()).ok());
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
            let callers = AllowedCallers::Networks(vec![parse::network(network).unwrap()]);
            assert_eq!(goes_beyond_loopback(&callers), beyond, "{network}");
        }
        assert!(!goes_beyond_loopback(&AllowedCallers::Networks(Vec::new())));
        assert!(goes_beyond_loopback(&AllowedCallers::Any));
    }
}
