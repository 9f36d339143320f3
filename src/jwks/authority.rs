//! The location of a registration's metadata, and the servers trusted to host its keys.

use super::issuer::{V1, same_cloud};
use crate::config::Registration;
use crate::value::guid;
use crate::value::percent::{encode_component, encode_query};
use crate::value::url::{Origin, Url};

const DOCUMENT: &str = "/.well-known/openid-configuration";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The only source of `issuer` and `jwks_uri`.
    pub metadata: Url,
    /// The document with the issuer of v1 tokens.
    pub v1: V1<Url>,
    /// The only tenant whose tokens are accepted, if the registration names one by id.
    pub tenant: Option<String>,
    /// The configured instance or authority. With `MetadataAddress`, it may differ from the
    /// document's origin.
    origin: Origin,
}

impl Authority {
    /// `None` if neither a tenant nor an authority is configured.
    pub fn of(registration: &Registration) -> Option<Self> {
        let (base, v1) = if let Some(authority) = &registration.authority {
            (with_ciam_tenant(authority), V1::None)
        } else if let Some(policy) = &registration.policy {
            let domain = registration.domain.as_deref().unwrap_or(&registration.tenant);
            let path = format!(
                "{}/{}/{}",
                registration.instance.base_path(),
                encode_component(domain),
                encode_component(policy)
            );
            (registration.instance.with_path(&path), V1::None)
        } else if registration.tenant.is_empty() {
            (with_ciam_tenant(&registration.instance), V1::None)
        } else {
            let instance = &registration.instance;
            let of =
                |tenant: &str| instance.with_path(&format!("{}/{}", instance.base_path(), encode_component(tenant)));
            // Entra has no v1 document for `organizations`.
            let v1_tenant =
                if registration.tenant.eq_ignore_ascii_case("organizations") { "common" } else { &registration.tenant };
            let v1 = if instance.origin.ciam_tenant().is_some() {
                V1::None
            } else {
                V1::Known(document(&of(v1_tenant), "", registration))
            };
            (of(&registration.tenant), v1)
        };
        if base.base_path().is_empty() && registration.metadata_address.is_none() {
            return None;
        }
        let origin = base.origin.clone();
        let tenant = Some(registration.tenant.clone()).filter(|tenant| guid::is_guid(tenant));
        Some(match &registration.metadata_address {
            None => Self { metadata: document(&base, "/v2.0", registration), v1, tenant, origin },
            Some(address) => {
                let v1 = if v1 == V1::None { V1::None } else { V1::Unknown };
                Self { metadata: address.clone(), v1, tenant, origin }
            }
        })
    }

    /// True if keys may be fetched from this URL. A tampered document must not redirect to an
    /// attacker's keys, so they must come from the origin of the metadata or the authority, or from
    /// another host of the same operator.
    pub fn trusts(&self, keys: &Url) -> bool {
        let keys = &keys.origin;
        [&self.metadata.origin, &self.origin].into_iter().any(|own| {
            let kin = own.https
                && keys.https
                && keys.port == own.port
                && (same_cloud(own.host(), keys.host())
                    || (own.ciam_tenant().is_some() && keys.ciam_tenant().is_some()));
            own == keys || kin || (own.is_loopback() && keys.is_loopback())
        })
    }
}

/// True if a document may be fetched from here. Plain HTTP needs loopback or the operator's
/// consent.
pub fn is_safe(origin: &Origin, allow_insecure: bool) -> bool {
    origin.https || origin.is_loopback() || allow_insecure
}

fn with_ciam_tenant(authority: &Url) -> Url {
    match authority.origin.ciam_tenant() {
        Some(tenant) if authority.base_path().is_empty() => authority.with_path(&format!("/{tenant}")),
        _ => authority.clone(),
    }
}

fn document(base: &Url, version: &str, registration: &Registration) -> Url {
    let mut url = base.with_path(&format!("{}{version}{DOCUMENT}", base.base_path()));
    url.query = encode_query(&registration.extra_query);
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwks::testing::registration;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn metadata(registration: &Registration) -> String {
        Authority::of(registration).unwrap().metadata.to_string()
    }

    #[test]
    fn the_metadata_follows_from_instance_and_tenant() {
        let mut own = registration("https://login.microsoftonline.com/", "organizations");
        let authority = Authority::of(&own).unwrap();
        let v2 = "https://login.microsoftonline.com/organizations/v2.0/.well-known/openid-configuration";
        assert_eq!(authority.metadata.to_string(), v2);
        let v1 = url("https://login.microsoftonline.com/common/.well-known/openid-configuration");
        assert_eq!(authority.v1, V1::Known(v1));
        own.extra_query.insert("appid".into(), "a b".into());
        assert_eq!(metadata(&own), format!("{v2}?appid=a%20b"));
        own.metadata_address = Some(url("https://mirror.example/openid.json"));
        let authority = Authority::of(&own).unwrap();
        assert_eq!(
            (authority.metadata.to_string().as_str(), authority.v1),
            ("https://mirror.example/openid.json", V1::Unknown)
        );
        assert_eq!(Authority::of(&registration("https://login.microsoftonline.com/", "")), None);
    }

    #[test]
    fn b2c_ciam_and_others_have_their_own_form_and_no_v1() {
        let mut b2c = registration("https://contoso.b2clogin.com/", "");
        b2c.domain = Some("contoso.onmicrosoft.com".into());
        b2c.policy = Some("b2c_1_susi".into());
        let mut other = registration("https://login.microsoftonline.com/", "");
        other.authority = Some(url("https://idp.example/realms/one"));
        let mut ciam = registration("https://login.microsoftonline.com/", "");
        ciam.authority = Some(url("https://contoso.ciamlogin.com/"));
        for (registration, base) in [
            (b2c, "https://contoso.b2clogin.com/contoso.onmicrosoft.com/b2c_1_susi"),
            (other, "https://idp.example/realms/one"),
            (ciam, "https://contoso.ciamlogin.com/contoso.onmicrosoft.com"),
            (registration("https://contoso.ciamlogin.com/", "t"), "https://contoso.ciamlogin.com/t"),
            (
                registration("https://contoso.ciamlogin.com/", ""),
                "https://contoso.ciamlogin.com/contoso.onmicrosoft.com",
            ),
        ] {
            assert_eq!(metadata(&registration), format!("{base}/v2.0{DOCUMENT}"));
            assert_eq!(Authority::of(&registration).unwrap().v1, V1::None);
        }
    }

    #[test]
    fn keys_come_from_the_operator_of_the_authority() {
        for (instance, keys, trusted) in [
            (
                "https://login.microsoftonline.com/",
                "https://login.microsoftonline.com/common/discovery/v2.0/keys",
                true,
            ),
            ("https://login.microsoftonline.com/", "https://login.windows.net/keys", true),
            ("https://login.microsoftonline.com/", "https://login.microsoftonline.us/keys", false),
            ("https://login.microsoftonline.com/", "https://login.microsoftonline.com:444/keys", false),
            ("https://login.microsoftonline.com/", "http://login.microsoftonline.com/keys", false),
            ("https://login.microsoftonline.com/", "https://evil.example/keys", false),
            ("https://login.microsoftonline.com/", "http://127.0.0.1/keys", false),
            ("https://a.ciamlogin.com/", "https://b.ciamlogin.com/keys", true),
            ("https://a.ciamlogin.com/", "https://b.ciamlogin.com.evil.example/keys", false),
            ("http://localhost:1234/", "http://127.0.0.1:1234/keys", true),
            ("http://localhost:1234/", "https://evil.example/keys", false),
        ] {
            let authority = Authority::of(&registration(instance, "t")).unwrap();
            assert_eq!(authority.trusts(&url(keys)), trusted, "{instance} {keys}");
        }
    }

    #[test]
    fn plain_http_needs_a_reason() {
        let origin = |text| url(text).origin;
        assert!(is_safe(&origin("https://a.example/"), false));
        assert!(is_safe(&origin("http://localhost/"), false));
        assert!(!is_safe(&origin("http://a.example/"), false));
        assert!(is_safe(&origin("http://a.example/"), true));
    }
}
