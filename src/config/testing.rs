//! A registration for tests of other modules.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Registration;
use crate::value::url::Url;

/// The client `c1`, with defaults for all other settings.
pub fn registration(instance: &str, tenant: &str) -> Registration {
    Registration {
        section: "AzureAd".into(),
        instance: Url::parse(instance).unwrap(),
        tenant: tenant.into(),
        client_id: "c1".into(),
        authority: None,
        metadata_address: None,
        audiences: Vec::new(),
        valid_issuers: Vec::new(),
        validate_issuer: true,
        require_expiration: true,
        role_claim: "roles".into(),
        clock_skew: Duration::from_mins(5),
        include_error_details: true,
        challenge: "Bearer".into(),
        key_refresh: Duration::from_hours(12),
        key_refresh_minimum: Duration::from_secs(30),
        metadata_timeout: Duration::from_mins(1),
        scopes: Vec::new(),
        allow_acl: true,
        client_capabilities: Vec::new(),
        azure_region: None,
        send_x5c: false,
        extra_query: BTreeMap::new(),
        app_home_tenant: None,
        domain: None,
        policy: None,
        managed_identity_client_id: None,
        credentials: Vec::new(),
        decryption_credentials: Vec::new(),
    }
}
