//! `DownstreamApis:<name>`.

use std::sync::Arc;

use super::load::Reader;
use super::{Api, Config, Problem, registration};
use crate::value::syntax;

/// Every configured API, in the order of the names.
pub fn read_all(reader: &mut Reader<'_>) -> Vec<Arc<Api>> {
    reader.children("DownstreamApis").into_iter().map(|name| Arc::new(read(reader, name))).collect()
}

fn read(reader: &mut Reader<'_>, name: String) -> Api {
    let section = format!("DownstreamApis:{name}");
    let mut options = reader.options(&name);
    if asks_for_pop(reader, &section) {
        options.pop = Some(true);
    }
    // The section alone asks for the system-assigned identity.
    if reader.has_section(&format!("{section}:AcquireTokenOptions:ManagedIdentity")) {
        options.managed_identity.get_or_insert_default();
    }
    Api { registration: acquiring_section(reader, &name), name, options }
}

/// Reports contradictions between settings that are good on their own; a request that overrides them is judged by the
/// same rules.
pub fn judge(reader: &mut Reader<'_>, config: &Config) {
    for api in &config.apis {
        let at = |key: &str| format!("DownstreamApis:{}:AcquireTokenOptions:{key}", api.name);
        let options = &api.options;
        if let (Some(true), None, Some(claims)) = (options.pop, &options.pop_public_key, &options.pop_claims)
            && let Err(expected) = syntax::json_object(claims, &syntax::SIGNED_MEMBERS)
        {
            let key = ["PopClaims", "PopClaim"].map(at).into_iter().find(|key| reader.said(key).is_some());
            reader.problems.push(Problem::value(&key.unwrap_or_default(), claims, expected));
        }
        if let Some(flow) = &options.user_flow {
            let registration = config.registration(api);
            // The token endpoint of a policy is /tfp/{domain}/{policy} below the instance, or the authority's own.
            if registration.domain.is_none() || (registration.authority.is_some() && registration.policy.is_none()) {
                let expected = format!("a B2C registration: {}:Domain is not configured", registration.section);
                reader.problems.push(Problem::value(&at("UserFlow"), flow, &expected));
            }
        }
    }
}

/// `ProtocolScheme` is another way to ask for signed HTTP requests.
fn asks_for_pop(reader: &mut Reader<'_>, section: &str) -> bool {
    let key = format!("{section}:ProtocolScheme");
    let said = reader.word(&key).unwrap_or_default();
    if said.starts_with("MTLS") {
        reader.problems.push(Problem::value(&key, &said, "Bearer or PoP, since mutual TLS is not supported"));
    }
    said == "PoP"
}

fn acquiring_section(reader: &mut Reader<'_>, api: &str) -> Option<String> {
    let (key, section) = reader.acquiring_section(api)?;
    if section.eq_ignore_ascii_case("AzureAd") {
        return None;
    }
    if registration::is_reserved(&section) || !reader.has_section(&section) {
        let expected = if key.ends_with("AuthenticationScheme") {
            "Bearer, PoP, or the name of another section that is set, with the keys of AzureAd"
        } else {
            "the name of another section that is set, with the keys of AzureAd"
        };
        reader.problems.push(Problem::value(&key, &section, expected));
        return None;
    }
    Some(section.to_lowercase())
}
