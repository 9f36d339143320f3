//! Which documents tell the keys and issuers of a registration: protocol page, sections 6.1 and 6.4.

use std::time::Duration;

use crate::config::{Config, Registration};
use crate::url::{Url, escape};

/// The documents and how they are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The OpenID document that names issuer and keys.
    pub metadata: Url,
    /// The document of version 1, for the issuer of tokens of version 1 alone.
    pub metadata_v1: Option<Url>,
    /// Whether `http` is accepted beyond loopback.
    pub allow_insecure: bool,
    /// Of each fetch.
    pub timeout: Duration,
    /// Between planned fetches.
    pub refresh: Duration,
    /// Between fetches for unknown keys.
    pub minimum: Duration,
}

const WELL_KNOWN: &str = "/.well-known/openid-configuration";

impl Settings {
    /// Those of the section `AzureAd`.
    pub fn new(config: &Config) -> Self {
        let registration = &config.azure_ad;
        let (metadata, metadata_v1) = documents(registration);
        Self {
            metadata,
            metadata_v1,
            allow_insecure: config.sidecar.allow_insecure_upstream,
            timeout: registration.metadata_timeout,
            refresh: registration.key_refresh,
            minimum: registration.key_refresh_minimum,
        }
    }
}

fn documents(registration: &Registration) -> (Url, Option<Url>) {
    if let Some(address) = &registration.metadata_address {
        return (address.clone(), None);
    }
    let with_query = |mut url: Url| {
        let pairs = registration.extra_query.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value)));
        let query = pairs.collect::<Vec<_>>().join("&");
        url.query = (!query.is_empty()).then_some(query);
        url
    };
    let instance = &registration.instance;
    let (base, has_v1) = match (&registration.authority, &registration.domain, &registration.policy) {
        (Some(authority), ..) => (authority.with_path(authority.base_path()), false),
        (None, Some(domain), Some(policy)) => {
            (instance.with_path(&format!("{}/{}/{}", instance.base_path(), escape(domain), escape(policy))), false)
        }
        _ => {
            let ciam = instance.origin.host.strip_suffix(".ciamlogin.com");
            let tenant = match ciam {
                Some(name) if registration.tenant.is_empty() => format!("{name}.onmicrosoft.com"),
                _ => registration.tenant.clone(),
            };
            (instance.with_path(&format!("{}/{}", instance.base_path(), escape(&tenant))), ciam.is_none())
        }
    };
    let document =
        |base: &Url, version: &str| with_query(base.with_path(&format!("{}{version}{WELL_KNOWN}", base.path)));
    // `organizations` has no document of version 1 of its own: protocol page, section 6.4.
    let base_v1 = if registration.tenant.eq_ignore_ascii_case("organizations") {
        instance.with_path(&format!("{}/common", instance.base_path()))
    } else {
        base.clone()
    };
    (document(&base, "/v2.0"), has_v1.then(|| document(&base_v1, "")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tests::registration;

    fn of(change: impl FnOnce(&mut Registration)) -> (String, Option<String>) {
        let mut registration = registration();
        change(&mut registration);
        let (metadata, v1) = documents(&registration);
        (metadata.to_string(), v1.map(|url| url.to_string()))
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn the_documents_follow_from_the_authority() {
        let host = "https://login.microsoftonline.com";
        assert_eq!(of(|_| {}), (format!("{host}/t1/v2.0{WELL_KNOWN}"), Some(format!("{host}/t1{WELL_KNOWN}"))));
        assert_eq!(
            of(|registration| registration.tenant = "organizations".into()),
            (format!("{host}/organizations/v2.0{WELL_KNOWN}"), Some(format!("{host}/common{WELL_KNOWN}")))
        );
        assert_eq!(
            of(|registration| registration.authority = Some(url("https://id.example/realm"))),
            (format!("https://id.example/realm/v2.0{WELL_KNOWN}"), None)
        );
        assert_eq!(
            of(|registration| registration.metadata_address = Some(url("https://id.example/m"))),
            ("https://id.example/m".to_owned(), None)
        );
        assert_eq!(
            of(|registration| {
                registration.instance = url("https://contoso.ciamlogin.com/");
                registration.tenant = String::new();
            }),
            (format!("https://contoso.ciamlogin.com/contoso.onmicrosoft.com/v2.0{WELL_KNOWN}"), None)
        );
        assert_eq!(
            of(|registration| {
                registration.instance = url("https://contoso.b2clogin.com/");
                registration.domain = Some("contoso.onmicrosoft.com".into());
                registration.policy = Some("B2C_1_in".into());
                registration.extra_query.insert("dc".into(), "a b".into());
            }),
            (format!("https://contoso.b2clogin.com/contoso.onmicrosoft.com/B2C_1_in/v2.0{WELL_KNOWN}?dc=a%20b"), None)
        );
    }
}
