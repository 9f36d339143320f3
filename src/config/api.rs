//! `DownstreamApis:<name>`.

use std::sync::Arc;

use super::load::Reader;
use super::{AcquireOptions, Api, Config, ManagedIdentity, Problem, registration};
use crate::syntax;
use crate::url::Url;

/// Every configured API, in the order of the names.
pub fn read_all(reader: &mut Reader<'_>) -> Vec<Arc<Api>> {
    reader.settings.children("DownstreamApis").into_iter().map(|name| Arc::new(read(reader, name))).collect()
}

fn read(reader: &mut Reader<'_>, name: String) -> Api {
    let section = format!("DownstreamApis:{name}");
    let at = |key: &str| format!("{section}:{key}");
    let acquire = acquire(reader, &section, &name);
    // Empty is a value here: it sends no `Accept`.
    let accept = match reader.settings.value(&at("AcceptHeader")) {
        Some("") => String::new(),
        _ => reader.word(&at("AcceptHeader")).unwrap_or_default(),
    };
    Api {
        base_url: reader.url(&at("BaseUrl")),
        allowed_base_urls: reader.items(&at("AllowedBaseUrls")).iter().filter_map(|url| Url::parse(url).ok()).collect(),
        relative_path: reader.word(&at("RelativePath")).unwrap_or_default(),
        http_method: reader.word(&at("HttpMethod")).and_then(|method| syntax::method(&method).ok()),
        scopes: reader.items(&at("Scopes")).into_iter().map(str::to_owned).collect(),
        request_app_token: reader.flag(&at("RequestAppToken")),
        accept,
        content_type: reader.word(&at("ContentType")),
        extra_headers: reader.headers(&at("ExtraHeaderParameters")),
        extra_query: reader.map(&at("ExtraQueryParameters")),
        acquire,
        name,
    }
}

fn acquire(reader: &mut Reader<'_>, section: &str, name: &str) -> AcquireOptions {
    let at = |key: &str| format!("{section}:AcquireTokenOptions:{key}");
    let managed = at("ManagedIdentity");
    let managed_identity = reader
        .settings
        .has_section(&managed)
        .then(|| ManagedIdentity { client_id: reader.word(&format!("{managed}:UserAssignedClientId")) });
    AcquireOptions {
        tenant: reader.word(&at("Tenant")),
        registration: acquiring_section(reader, name),
        pop: is_pop(reader, section),
        correlation_id: reader.word(&at("CorrelationId")),
        claims: reader.word(&at("Claims")),
        force_refresh: reader.flag(&at("ForceRefresh")),
        fmi_path: reader.word(&at("FmiPath")),
        pop_public_key: reader.word(&at("PopPublicKey")),
        pop_claims: reader.word(&at("PopClaims")).or_else(|| reader.word(&at("PopClaim"))),
        session_key: reader.word(&at("LongRunningWebApiSessionKey")),
        managed_identity,
        user_flow: reader.word(&at("UserFlow")),
        extra_query: reader.map(&at("ExtraQueryParameters")),
        extra_headers: reader.headers(&at("ExtraHeadersParameters")),
    }
}

/// Reports contradictions between settings that are good on their own; a request that overrides them is judged by the
/// same rules.
pub fn judge(reader: &mut Reader<'_>, config: &Config) {
    for api in &config.apis {
        let at = |key: &str| format!("DownstreamApis:{}:AcquireTokenOptions:{key}", api.name);
        let acquire = &api.acquire;
        if let (true, None, Some(claims)) = (acquire.pop, &acquire.pop_public_key, &acquire.pop_claims)
            && let Err(expected) = syntax::json_object(claims, &syntax::SIGNED_MEMBERS)
        {
            let key = ["PopClaims", "PopClaim"].map(at).into_iter().find(|key| reader.said(key).is_some());
            reader.problems.push(Problem::value(&key.unwrap_or_default(), claims, expected));
        }
        if let Some(flow) = &acquire.user_flow {
            let registration = config.registration(api);
            // The token endpoint of a policy is /tfp/{domain}/{policy} below the instance, or the authority's own.
            if registration.domain.is_none() || (registration.authority.is_some() && registration.policy.is_none()) {
                let expected = format!("a B2C registration: {}:Domain is not configured", registration.section);
                reader.problems.push(Problem::value(&at("UserFlow"), flow, &expected));
            }
        }
    }
}

/// `AuthenticationScheme` or `ProtocolScheme` asks for signed HTTP requests.
fn is_pop(reader: &mut Reader<'_>, section: &str) -> bool {
    let protocol = format!("{section}:ProtocolScheme");
    let said = reader.said(&protocol).map(|scheme| scheme.trim().to_owned()).unwrap_or_default();
    if said.to_ascii_uppercase().starts_with("MTLS") {
        reader.problems.push(Problem::value(&protocol, &said, "Bearer or PoP, since mutual TLS is not supported"));
    }
    let scheme = reader.said(&format!("{section}:AcquireTokenOptions:AuthenticationScheme")).unwrap_or_default();
    said.eq_ignore_ascii_case("PoP") || scheme.trim().eq_ignore_ascii_case("PoP")
}

fn acquiring_section(reader: &mut Reader<'_>, api: &str) -> Option<String> {
    let (key, section) = registration::name_of(reader.settings, api)?;
    if section.eq_ignore_ascii_case("AzureAd") {
        return None;
    }
    if registration::is_reserved(&section) || !reader.settings.has_section(&section) {
        let expected = if key.ends_with("AuthenticationScheme") {
            "Bearer, PoP, or the name of a section of the shape of AzureAd"
        } else {
            "the name of a section of the shape of AzureAd"
        };
        reader.problems.push(Problem::value(&key, &section, expected));
        return None;
    }
    Some(section.to_lowercase())
}
