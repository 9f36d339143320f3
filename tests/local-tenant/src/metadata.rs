//! OpenID metadata of both versions, the signing keys, and instance discovery
//! (OpenID Connect Discovery 1.0 §4).

use serde_json::{Value, json};

use crate::directory::CONSUMERS_TENANT_ID;
use crate::message::{Answer, Request};
use crate::refusal::Refusal;
use crate::state::State;
use crate::{random, time};

/// Answers a metadata or key request.
pub fn answer(state: &State, request: &Request) -> Option<Answer> {
    let segments = request.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    // B2C puts the policy behind the tenant, and may put `tfp` before it.
    let segments = segments.strip_prefix(&["tfp"]).unwrap_or(&segments);
    let (prefix, rest) = match segments {
        [tenant, policy, rest @ ..] if is_policy(policy) => (Prefix { tenant, policy: Some(policy) }, rest),
        [tenant, rest @ ..] => (Prefix { tenant, policy: None }, rest),
        [] => return None,
    };
    let known = match rest {
        ["v2.0", ".well-known", "openid-configuration"] => {
            prefix.issuer(state, 2).map(|issuer| prefix.document(state, &issuer, 2))
        }
        [".well-known", "openid-configuration"] => {
            prefix.issuer(state, 1).map(|issuer| prefix.document(state, &issuer, 1))
        }
        ["discovery", "v2.0", "keys"] | ["discovery", "keys"] => {
            prefix.issuer(state, 2).map(|issuer| state.keys.read().unwrap().document(&issuer))
        }
        ["discovery", "instance"] => Some(instance_discovery(state, request)),
        _ => return None,
    };
    Some(known.map_or_else(|| unknown_tenant(state, prefix.tenant), |document| Answer::json(200, &document)))
}

fn is_policy(segment: &str) -> bool {
    segment.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("b2c_1_"))
}

struct Prefix<'a> {
    tenant: &'a str,
    policy: Option<&'a str>,
}

impl Prefix<'_> {
    /// The issuer of this version; none for a tenant that does not exist.
    fn issuer(&self, state: &State, version: u8) -> Option<String> {
        let id = match self.tenant.to_ascii_lowercase().as_str() {
            "common" | "organizations" => "{tenantid}".to_owned(),
            "consumers" => CONSUMERS_TENANT_ID.to_owned(),
            name => state.directory.read().unwrap().tenant(name)?.id.clone(),
        };
        if let Some(issuer) = state.settings().issuer {
            return Some(issuer);
        }
        Some(match (version, self.policy) {
            (_, Some(_)) => format!("{}/{id}/v2.0/", state.base),
            (2, None) => format!("{}/{id}/v2.0", state.base),
            _ => format!("https://sts.windows.net/{id}/"),
        })
    }

    fn document(&self, state: &State, issuer: &str, version: u8) -> Value {
        let mut authority = format!("{}/{}", state.base, self.tenant);
        if let Some(policy) = self.policy {
            authority = format!("{authority}/{policy}");
        }
        let (oauth, keys) =
            if version == 2 { ("oauth2/v2.0", "discovery/v2.0/keys") } else { ("oauth2", "discovery/keys") };
        json!({
            "token_endpoint": format!("{authority}/{oauth}/token"),
            "token_endpoint_auth_methods_supported":
                ["client_secret_post", "private_key_jwt", "client_secret_basic", "self_signed_tls_client_auth"],
            "jwks_uri": format!("{authority}/{keys}"),
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "issuer": issuer,
            "authorization_endpoint": format!("{authority}/{oauth}/authorize"),
            "claims_supported": ["sub", "iss", "aud", "exp", "iat", "tid", "ver", "oid"],
            "tenant_region_scope": "EU",
            "cloud_instance_name": "microsoftonline.com",
        })
    }
}

fn instance_discovery(state: &State, request: &Request) -> Value {
    let host = state.base.trim_start_matches("http://");
    let endpoint = request.query_value("authorization_endpoint").unwrap_or_default();
    json!({
        "tenant_discovery_endpoint": endpoint.replace("/oauth2/v2.0/authorize", "/v2.0/.well-known/openid-configuration"),
        "api-version": "1.1",
        "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
    })
}

fn unknown_tenant(state: &State, tenant: &str) -> Answer {
    Refusal::other(
        "invalid_tenant",
        90_002,
        format!("Tenant '{tenant}' not found at {}.", time::timestamp(time::now())),
    )
    .answer(&state.base, &random::guid(), state.settings().error_lines)
}
