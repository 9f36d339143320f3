//! Reads a section with the shape of `AzureAd`: the tenant, the application and the tokens to
//! accept.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use super::reader::Reader;
use super::{Registration, credential};
use crate::value::text::quote;
use crate::value::url::Url;
use crate::value::{guid, percent, syntax};

/// Reads a section. Reports what is missing or contradictory.
pub fn read(reader: &mut Reader<'_>, section: &str) -> Registration {
    let at = |name: &str| format!("{section}:{name}");
    let validation = |name: &str| format!("{section}:TokenValidationParameters:{name}");
    let authority = authority(reader, section);
    let client_id = client_id(reader, section, &authority);
    cannot_be_switched_off(reader, section);

    let list = |names: &[String]| -> Vec<String> {
        let mut items: Vec<String> = names.iter().flat_map(|key| reader.items(key)).map(str::to_owned).collect();
        let mut seen = HashSet::new();
        items.retain(|item| seen.insert(item.clone()));
        items
    };
    let audiences = list(&[at("Audience"), at("Audiences"), validation("ValidAudience"), validation("ValidAudiences")]);
    let valid_issuers = list(&[validation("ValidIssuer"), validation("ValidIssuers")]);
    let mut extra_query = authority.query.clone();
    extra_query.extend(reader.map(&at("ExtraQueryParameters")));

    Registration {
        section: section.to_owned(),
        instance: authority.instance,
        tenant: authority.tenant,
        client_id,
        authority: authority.other,
        metadata_address: reader.url(&at("MetadataAddress")),
        audiences,
        valid_issuers,
        validate_issuer: reader.flag(&validation("ValidateIssuer")),
        require_expiration: reader.flag(&validation("RequireExpirationTime")),
        role_claim: reader.word(&validation("RoleClaimType")).unwrap_or_default(),
        clock_skew: reader.duration(&validation("ClockSkew")).unwrap_or_default(),
        include_error_details: reader.flag(&at("IncludeErrorDetails")),
        challenge: reader.word(&at("Challenge")).unwrap_or_default(),
        key_refresh: reader.duration(&at("AutomaticRefreshInterval")).unwrap_or_default(),
        key_refresh_minimum: reader.duration(&at("RefreshInterval")).unwrap_or_default(),
        metadata_timeout: reader.duration(&at("BackchannelTimeout")).unwrap_or_default(),
        scopes: list(&[at("Scopes")]),
        allow_acl: reader.flag(&at("AllowWebApiToBeAuthorizedByACL")),
        client_capabilities: list(&[at("ClientCapabilities")]),
        azure_region: reader.word(&at("AzureRegion")),
        send_x5c: reader.flag(&at("SendX5C")),
        extra_query,
        app_home_tenant: reader.word(&at("AppHomeTenantId")),
        domain: reader.word(&at("Domain")).or(authority.domain),
        policy: reader.word(&at("SignUpSignInPolicyId")).or(authority.policy),
        managed_identity_client_id: reader.word(&at("UserAssignedManagedIdentityClientId")),
        credentials: credential::read_all(reader, section),
        decryption_credentials: credential::read_decryption(reader, section),
    }
}

/// The combined result of `Instance`, `TenantId` and `Authority`.
struct Authority {
    instance: Url,
    tenant: String,
    /// An authority that is more than instance and tenant.
    other: Option<Url>,
    /// The query of `Authority`, which is sent with every token request.
    query: BTreeMap<String, String>,
    domain: Option<String>,
    policy: Option<String>,
}

fn authority(reader: &mut Reader<'_>, section: &str) -> Authority {
    let at = |name: &str| format!("{section}:{name}");
    let instance = reader.url(&at("Instance"));
    let mut found = Authority {
        // The default is valid, and an invalid value has been reported.
        instance: with_slash(&instance.unwrap_or_else(public_cloud)),
        tenant: reader.word(&at("TenantId")).unwrap_or_default(),
        other: None,
        query: BTreeMap::new(),
        domain: None,
        policy: None,
    };
    let is_b2c = reader.given(&at("SignUpSignInPolicyId")).is_some();
    let Some(authority) = reader.given(&at("Authority")).and_then(|text| Url::parse(text.trim()).ok()) else {
        if is_b2c && reader.given(&at("Domain")).is_none() {
            reader.problem(
                &at("Domain"),
                "is not set: expected the B2C tenant's domain, because SignUpSignInPolicyId is set",
            );
        }
        if found.tenant.is_empty() {
            found.tenant = found.instance.origin.ciam_tenant().unwrap_or_default();
        }
        let malformed = reader.given(&at("TenantId")).is_some() || reader.given(&at("Authority")).is_some();
        if found.tenant.is_empty() && !malformed && !is_b2c {
            reader.problem(
                &at("TenantId"),
                "is not set: expected the tenant's id (a GUID) or domain name, or common, organizations or consumers",
            );
        }
        return found;
    };

    if reader.origin(&at("Instance")).is_some() && found.instance.origin != authority.origin {
        reader.warn(&at("Instance"), "not used, since Authority names another host");
    }
    found.query = authority
        .query
        .as_deref()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let plain = |text| percent::decode_form(text).map_or_else(|_| str::to_owned(text), Cow::into_owned);
            Some((plain(name), plain(value)))
        })
        .collect();
    for name in found.query.keys() {
        if let Err(expected) = syntax::token_parameter(name) {
            reader.problem(&at("Authority"), &format!("the query parameter {}: expected {expected}", quote(name)));
        }
    }
    let path = authority.base_path();
    let path = path.strip_suffix("/v2.0").unwrap_or(path);
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    found.instance = authority.with_path("/");
    match segments.as_slice() {
        [] => match authority.origin.ciam_tenant() {
            Some(tenant) => {
                found.other = Some(authority.with_path(&format!("/{tenant}")));
                if found.tenant.is_empty() {
                    found.tenant = tenant;
                }
            }
            None if found.tenant.is_empty() => found.other = Some(authority.with_path("/")),
            None => {}
        },
        [tenant] if syntax::tenant(tenant).is_ok() && authority.origin.ciam_tenant().is_none() => {
            let tenant = syntax::tenant(tenant).unwrap_or_default();
            if !found.tenant.is_empty() && found.tenant != tenant {
                reader.problem(
                    &at("TenantId"),
                    "contradicts Authority, which names another tenant: expected one of them",
                );
            }
            found.tenant = tenant;
        }
        rest => {
            let b2c = rest.strip_prefix(&["tfp"]).unwrap_or(rest);
            if let [domain, policy] = b2c
                && (b2c.len() < rest.len() || policy.to_ascii_lowercase().starts_with("b2c_"))
            {
                found.domain = Some((*domain).to_owned());
                found.policy = Some((*policy).to_owned());
            }
            if found.tenant.is_empty() {
                found.tenant = b2c.first().and_then(|tenant| syntax::tenant(tenant).ok()).unwrap_or_default();
            }
            found.other = Some(authority.with_path(path));
        }
    }
    found
}

/// Entra's client ids are GUIDs. Other OpenID providers use any text.
fn client_id(reader: &mut Reader<'_>, section: &str, authority: &Authority) -> String {
    let key = format!("{section}:ClientId");
    let Some(said) = reader.given(&key).map(|text| text.trim().to_owned()) else {
        reader.problem(&key, "is not set: expected the application (client) id of the app registration, a GUID");
        return String::new();
    };
    match guid::parse(&said) {
        Ok(guid) => guid,
        Err(_) if authority.other.as_ref().is_some_and(|url| url.origin.ciam_tenant().is_none()) => said,
        Err(_) => {
            reader.refuse(&key, &said, "the application (client) id, a GUID");
            said
        }
    }
}

/// An operator must not believe that tokens are validated when they are not.
fn cannot_be_switched_off(reader: &mut Reader<'_>, section: &str) {
    for name in ["ValidateAudience", "ValidateLifetime", "RequireSignedTokens"] {
        let key = format!("{section}:TokenValidationParameters:{name}");
        if !reader.flag(&key) {
            reader.problem(&key, "false: expected true, since this check cannot be switched off");
        }
    }
    for name in ["ValidateIssuer", "RequireExpirationTime"] {
        let key = format!("{section}:TokenValidationParameters:{name}");
        if !reader.flag(&key) {
            reader.warn(&key, "false weakens the validation of tokens");
        }
    }
}

fn with_slash(url: &Url) -> Url {
    let path = url.base_path();
    let path = path.strip_suffix("/tfp").unwrap_or(path);
    url.with_path(&format!("{path}/"))
}

fn public_cloud() -> Url {
    let origin = crate::value::url::Origin::new(true, "login.microsoftonline.com", 443);
    Url { origin, path: "/".to_owned(), query: None }
}
