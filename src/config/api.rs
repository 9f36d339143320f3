//! Reads `DownstreamApis:<name>`.

use std::sync::Arc;

use super::reader::Reader;
use super::{Api, Config, sections};
use crate::value::syntax;

/// Every configured API, sorted by name.
pub fn read_all(reader: &mut Reader<'_>) -> Vec<Arc<Api>> {
    reader.children("DownstreamApis").into_iter().map(|name| Arc::new(read(reader, name))).collect()
}

fn read(reader: &mut Reader<'_>, name: String) -> Api {
    let section = format!("DownstreamApis:{name}");
    let mut options = reader.options(&name);
    if asks_for_pop(reader, &section) {
        options.pop = Some(true);
    }
    // An empty section asks for the system-assigned identity.
    if reader.has_section(&format!("{section}:AcquireTokenOptions:ManagedIdentity")) {
        options.managed_identity.get_or_insert_default();
    }
    Api { registration: acquiring_section(reader, &name), name, options }
}

/// Reports settings that are valid by themselves and contradict each other. Overrides are checked
/// by the same rules.
pub fn check(reader: &mut Reader<'_>, config: &Config) {
    for api in &config.apis {
        let at = |key: &str| format!("DownstreamApis:{}:AcquireTokenOptions:{key}", api.name);
        let options = &api.options;
        if let (Some(true), None, Some(claims)) = (options.pop, &options.pop_public_key, &options.pop_claims)
            && let Err(expected) = syntax::json_object(claims, &syntax::SIGNED_MEMBERS)
        {
            let key = ["PopClaims", "PopClaim"].map(at).into_iter().find(|key| reader.given(key).is_some());
            reader.refuse(&key.unwrap_or_default(), claims, expected);
        }
        if let Some(flow) = &options.user_flow {
            let registration = config.registration(api);
            // The token endpoint of a policy is /tfp/{domain}/{policy} below the instance, or part
            // of the authority.
            if registration.domain.is_none() || (registration.authority.is_some() && registration.policy.is_none()) {
                let expected = format!("a B2C registration: {}:Domain is not configured", registration.section);
                reader.refuse(&at("UserFlow"), flow, &expected);
            }
        }
    }
}

/// The API that the managed identity endpoint acts for: there, and of use to clients that send a bearer token.
pub fn check_identity_endpoint(reader: &mut Reader<'_>, config: &Config) {
    let Some(name) = &config.sidecar.identity_endpoint.api else { return };
    let expected = match config.apis.iter().find(|api| api.name.eq_ignore_ascii_case(name)) {
        None => "the name of an API under DownstreamApis",
        Some(api) if api.options.is_bound() => "an API whose tokens are not bound to a key",
        Some(_) => return,
    };
    reader.refuse("Sidecar:IdentityEndpoint:Api", name, expected);
}

/// `ProtocolScheme` is another way to ask for signed HTTP requests.
fn asks_for_pop(reader: &mut Reader<'_>, section: &str) -> bool {
    let key = format!("{section}:ProtocolScheme");
    let said = reader.word(&key).unwrap_or_default();
    if said.starts_with("MTLS") {
        reader.refuse(&key, &said, "Bearer or PoP, since mutual TLS is not supported");
    }
    said == "PoP"
}

fn acquiring_section(reader: &mut Reader<'_>, api: &str) -> Option<String> {
    let (key, section) = sections::name_of(reader.settings, api)?;
    if section.eq_ignore_ascii_case("AzureAd") {
        return None;
    }
    if sections::is_reserved(&section) || !reader.has_section(&section) {
        let expected = if key.ends_with("AuthenticationScheme") {
            "Bearer, PoP, or the name of another section with the keys of AzureAd"
        } else {
            "the name of another section with the keys of AzureAd"
        };
        reader.refuse(&key, &section, expected);
        return None;
    }
    Some(section.to_lowercase())
}
