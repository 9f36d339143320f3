//! The URL of the token endpoint.
//! <https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud>

use crate::config::Registration;
use crate::value::percent::encode_component;
use crate::value::syntax::is_meta_tenant;
use crate::value::url::{Origin, Url};

/// Aliases of the clouds' hosts, and the host that receives token requests.
const PREFERRED: &[(&str, &str)] = &[
    ("login.windows.net", "login.microsoftonline.com"),
    ("login.microsoft.com", "login.microsoftonline.com"),
    ("sts.windows.net", "login.microsoftonline.com"),
    ("login.chinacloudapi.cn", "login.partner.microsoftonline.cn"),
    ("login.usgovcloudapi.net", "login.microsoftonline.us"),
];

/// The tenant for an application's own token: the requested one, else the configured one. If the
/// latter is not a single tenant, `AppHomeTenantId` replaces it.
pub fn app_tenant<'a>(registration: &'a Registration, requested: Option<&'a str>) -> &'a str {
    let configured = match &registration.app_home_tenant {
        Some(home) if is_meta_tenant(&registration.tenant) => home,
        _ => &registration.tenant,
    };
    // A customer directory is a single tenant.
    let single = registration.instance.origin.ciam_tenant().is_some();
    requested.filter(|tenant| !tenant.is_empty() && !single).unwrap_or(configured)
}

/// The tenant for a user's token: the requested one, else the user's own, else the configured one.
pub fn user_tenant<'a>(registration: &'a Registration, requested: Option<&'a str>, own: Option<&'a str>) -> &'a str {
    requested.or(own).filter(|tenant| !tenant.is_empty()).unwrap_or(&registration.tenant)
}

pub fn is_detected(configured: &str) -> bool {
    configured.eq_ignore_ascii_case("TryAutoDetect")
}

/// The region of the endpoint: the configured or, with `TryAutoDetect`, the detected one. An
/// invalid name is ignored, which means the global endpoint.
pub fn region(configured: &str, own: Option<&str>) -> Option<String> {
    let region = if is_detected(configured) { own? } else { configured };
    let region = region.replace(' ', "").to_ascii_lowercase();
    (!region.is_empty() && region.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(region)
}

/// The URL of the token endpoint. Only application tokens use a region.
pub fn token_endpoint(registration: &Registration, tenant: &str, region: Option<&str>) -> Url {
    const SUFFIX: &str = "/oauth2/v2.0/token";
    if let Some(authority) = &registration.authority {
        return authority.with_path(&format!("{}{SUFFIX}", authority.base_path()));
    }
    let instance = &registration.instance;
    let host = instance.origin.host();
    let path = match (&registration.policy, &registration.domain, instance.origin.ciam_tenant()) {
        (Some(policy), Some(domain), _) => format!("/tfp/{}/{}", encode_component(domain), encode_component(policy)),
        (.., Some(own)) if tenant.is_empty() => format!("/{own}"),
        _ => format!("/{}", encode_component(tenant)),
    };
    let origin = Origin::new(instance.origin.https, &request_host(host, region), instance.origin.port);
    Url { origin, path: format!("{}{path}{SUFFIX}", instance.base_path()), query: None }
}

/// Resolves the cloud's aliases and adds the region.
fn request_host(host: &str, region: Option<&str>) -> String {
    let preferred = PREFERRED.iter().find(|(alias, _)| *alias == host).map_or(host, |(_, preferred)| preferred);
    match region {
        Some(region) if preferred == "login.microsoftonline.com" => format!("{region}.login.microsoft.com"),
        Some(region) if preferred.starts_with("login.") => format!("{region}.{preferred}"),
        _ => preferred.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::registration;
    use super::*;

    fn endpoint(instance: &str, tenant: &str, region: Option<&str>) -> String {
        let registration = Registration { instance: Url::parse(instance).unwrap(), ..registration() };
        token_endpoint(&registration, tenant, region).to_string()
    }

    #[test]
    fn the_hosts_of_the_clouds_are_preferred() {
        for (instance, host) in [
            ("https://login.microsoftonline.com/", "login.microsoftonline.com"),
            ("https://login.windows.net", "login.microsoftonline.com"),
            ("https://login.chinacloudapi.cn/", "login.partner.microsoftonline.cn"),
            ("https://login.usgovcloudapi.net/", "login.microsoftonline.us"),
            ("https://login.sovcloud-identity.fr/", "login.sovcloud-identity.fr"),
        ] {
            assert_eq!(endpoint(instance, "t1", None), format!("https://{host}/t1/oauth2/v2.0/token"));
        }
    }

    #[test]
    fn a_region_changes_the_host_alone() {
        let public = endpoint("https://login.microsoftonline.com/", "t1", Some("westus2"));
        assert_eq!(public, "https://westus2.login.microsoft.com/t1/oauth2/v2.0/token");
        let government = endpoint("https://login.microsoftonline.us/", "t1", Some("usgovvirginia"));
        assert_eq!(government, "https://usgovvirginia.login.microsoftonline.us/t1/oauth2/v2.0/token");
        assert_eq!(endpoint("http://127.0.0.1:9/", "t1", Some("westus2")), "http://127.0.0.1:9/t1/oauth2/v2.0/token");
    }

    #[test]
    fn customer_directories_have_one_tenant() {
        assert_eq!(
            endpoint("https://contoso.ciamlogin.com/", "", None),
            "https://contoso.ciamlogin.com/contoso.onmicrosoft.com/oauth2/v2.0/token"
        );
        let instance = Url::parse("https://contoso.ciamlogin.com/").unwrap();
        let ciam = Registration { instance, tenant: "own".into(), ..registration() };
        assert_eq!(app_tenant(&ciam, Some("other")), "own");
    }

    #[test]
    fn b2c_asks_the_policy() {
        let registration = Registration {
            instance: Url::parse("https://contoso.b2clogin.com/").unwrap(),
            domain: Some("contoso.onmicrosoft.com".into()),
            policy: Some("B2C_1_in".into()),
            ..registration()
        };
        assert_eq!(
            token_endpoint(&registration, "", None).to_string(),
            "https://contoso.b2clogin.com/tfp/contoso.onmicrosoft.com/B2C_1_in/oauth2/v2.0/token"
        );
    }

    #[test]
    fn no_tenant_leaves_its_segment() {
        assert_eq!(
            endpoint("https://login.microsoftonline.com/", "../evil?x#y", None),
            "https://login.microsoftonline.com/..%2Fevil%3Fx%23y/oauth2/v2.0/token"
        );
    }

    #[test]
    fn the_home_tenant_stands_in_for_a_class_of_tenants() {
        let multi = Registration { tenant: "common".into(), app_home_tenant: Some("home".into()), ..registration() };
        assert_eq!(app_tenant(&multi, None), "home");
        assert_eq!(app_tenant(&multi, Some("asked")), "asked");
        assert_eq!(user_tenant(&multi, None, Some("users")), "users");
        assert_eq!(user_tenant(&multi, None, None), "common");
    }
}
