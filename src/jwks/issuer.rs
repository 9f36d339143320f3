//! The accepted issuers of tokens: literal issuers, or templates with `{tenantid}`.
//!
//! Entra's issuer depends on the version of the token:
//!
//! - v2: the `issuer` of the v2 document. A national cloud's host has aliases, and a token may use
//!   any of them.
//! - v1: the `issuer` of the v1 document. If that cannot be fetched, a rule predicts it.
//!
//! B2C, CIAM and other providers use exactly the issuer in their metadata.

use crate::value::guid::is_guid;

const TENANT: &str = "{tenantid}";

/// The hosts of a national cloud, and the hosts in its v1 tokens.
struct Cloud {
    hosts: &'static [&'static str],
    v1: &'static [&'static str],
}

/// From the known instances in Microsoft's libraries; the v1 hosts of the sovereign clouds are not
/// public.
#[rustfmt::skip] // A row is a line.
const CLOUDS: &[Cloud] = &[
    Cloud { hosts: &["login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"], v1: &["sts.windows.net"] },
    Cloud { hosts: &["login.partner.microsoftonline.cn", "login.chinacloudapi.cn"], v1: &["sts.chinacloudapi.cn"] },
    Cloud { hosts: &["login.microsoftonline.de"], v1: &["sts.microsoftonline.de"] },
    Cloud { hosts: &["login.microsoftonline.us", "login.usgovcloudapi.net"], v1: &["sts.windows.net", "sts.microsoftonline.us"] },
    Cloud { hosts: &["login-us.microsoftonline.com"], v1: &["sts.windows.net"] },
    Cloud { hosts: &["login.windows-ppe.net", "sts.windows-ppe.net", "login.microsoft-ppe.com"], v1: &["sts.windows-ppe.net"] },
    Cloud { hosts: &["login.sovcloud-identity.fr"], v1: &[] },
    Cloud { hosts: &["login.sovcloud-identity.de"], v1: &[] },
    Cloud { hosts: &["login.sovcloud-identity.sg"], v1: &[] },
];

fn cloud_of(host: &str) -> Option<&'static Cloud> {
    CLOUDS.iter().find(|cloud| cloud.hosts.contains(&host))
}

/// True if both hosts belong to the same national cloud.
pub fn same_cloud(one: &str, other: &str) -> bool {
    cloud_of(one).is_some_and(|cloud| cloud.hosts.contains(&other))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer(String);

impl Issuer {
    /// From the metadata or the configuration.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Including the placeholder.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if a token with this `iss` and `tid` matches. Comparison is exact, including a trailing
    /// slash. A template needs `tid`; a literal issuer that contains a tenant must agree with it.
    pub fn matches(&self, iss: &str, tid: Option<&str>) -> bool {
        if let Some((before, after)) = self.0.split_once(TENANT) {
            tid.is_some_and(|tid| {
                is_plain(tid) && iss.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)) == Some(tid)
            })
        } else {
            let agrees = |tid: &str| tenant_in(iss).is_none_or(|tenant| tenant.eq_ignore_ascii_case(tid));
            iss == self.0 && tid.is_none_or(agrees)
        }
    }

    pub fn of_tenant(&self, tid: &str) -> String {
        self.0.replace(TENANT, tid)
    }
}

/// What is known of v1 tokens: the location of the document with their issuer, or the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum V1<T> {
    /// The authority issues none (B2C, CIAM, other providers).
    None,
    /// The document cannot be located (`MetadataAddress`) or fetched, so the cloud's rule applies.
    Unknown,
    Known(T),
}

/// All issuers accepted for the `issuer` in the metadata.
pub fn accepted(issuer: &str, v1: V1<&str>) -> Vec<Issuer> {
    let mut all = v2_forms(issuer);
    match v1 {
        // A server without versions answers with its v2 document, which adds nothing.
        V1::Known(v1) if v1 != issuer => all.push(Issuer::new(v1)),
        V1::Known(_) | V1::Unknown => all.extend(v1_rule(issuer)),
        V1::None => {}
    }
    all
}

/// Keeps a tenant id within its segment of the template.
fn is_plain(tid: &str) -> bool {
    !tid.is_empty() && tid.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

/// The tenant in an issuer's path: the first segment that is a GUID (B2C may put `tfp` before it).
fn tenant_in(iss: &str) -> Option<&str> {
    let (_, rest) = iss.split_once("://")?;
    rest.split('/').skip(1).find(|segment| is_guid(segment))
}

/// The v2 issuer and its aliases in the same cloud.
fn v2_forms(issuer: &str) -> Vec<Issuer> {
    let mut forms = vec![Issuer::new(issuer)];
    if let Some((host, path)) = https_parts(issuer) {
        let aliases = cloud_of(host).map_or(&[][..], |cloud| cloud.hosts);
        let others = aliases.iter().filter(|alias| **alias != host);
        forms.extend(others.map(|alias| Issuer::new(format!("https://{alias}{path}"))));
    }
    forms
}

/// Predicts the v1 issuers from the v2 issuer: `https://{v1 host}/{tenant}/` for each host of the
/// cloud. An unknown host is a stand-in for Entra (a proxy, a test), and gets the rule of the
/// public cloud. Empty for an issuer without a tenant, and for B2C and CIAM, which have no v1
/// tokens.
fn v1_rule(issuer: &str) -> Vec<Issuer> {
    let Some(rest) = issuer.strip_prefix("https://").or_else(|| issuer.strip_prefix("http://")) else {
        return Vec::new();
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let Some(tenant) = path.split('/').find(|segment| *segment == TENANT || is_guid(segment)) else {
        return Vec::new();
    };
    if host.ends_with(".ciamlogin.com") || host.ends_with(".b2clogin.com") {
        return Vec::new();
    }
    let hosts = cloud_of(host).map_or(CLOUDS[0].v1, |cloud| cloud.v1);
    hosts.iter().map(|host| Issuer::new(format!("https://{host}/{tenant}/"))).collect()
}

fn https_parts(issuer: &str) -> Option<(&str, &str)> {
    let rest = issuer.strip_prefix("https://")?;
    Some(rest.split_at(rest.find('/').unwrap_or(rest.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: &str = "11111111-2222-3333-4444-555555555555";
    const U: &str = "99999999-2222-3333-4444-555555555555";

    fn any(forms: &[Issuer], iss: &str, tid: Option<&str>) -> bool {
        forms.iter().any(|form| form.matches(iss, tid))
    }

    #[test]
    fn a_template_takes_exactly_the_tenant_of_the_token() {
        let template = Issuer::new("https://login.microsoftonline.com/{tenantid}/v2.0");
        let iss = format!("https://login.microsoftonline.com/{T}/v2.0");
        assert!(template.matches(&iss, Some(T)));
        assert!(!template.matches(&iss, Some(U)), "another tenant");
        assert!(!template.matches(&iss, None), "no tenant");
        assert!(!template.matches(&format!("{iss}/"), Some(T)), "trailing slash");
        assert!(!template.matches("https://login.microsoftonline.com//v2.0", Some("")), "empty tenant");
        assert!(!template.matches("https://login.microsoftonline.com/a/b/v2.0", Some("a/b")), "two segments");
    }

    #[test]
    fn a_literal_issuer_is_compared_exactly() {
        let literal = Issuer::new(format!("https://contoso.b2clogin.com/tfp/{T}/b2c_1_susi/v2.0/"));
        assert!(literal.matches(literal.as_str(), None));
        assert!(literal.matches(literal.as_str(), Some(&T.to_uppercase())));
        assert!(!literal.matches(literal.as_str(), Some(U)));
        assert!(!literal.matches(literal.as_str().trim_end_matches('/'), None));
    }

    #[test]
    fn aliases_stay_within_their_cloud() {
        let public = v2_forms("https://login.microsoftonline.com/{tenantid}/v2.0");
        for host in ["login.microsoftonline.com", "login.windows.net", "login.microsoft.com"] {
            assert!(any(&public, &format!("https://{host}/{T}/v2.0"), Some(T)), "{host}");
        }
        for host in ["login.microsoftonline.us", "login.chinacloudapi.cn", "login.windows.net.example"] {
            assert!(!any(&public, &format!("https://{host}/{T}/v2.0"), Some(T)), "{host}");
        }
        assert_eq!(v2_forms("http://127.0.0.1:8080/x/v2.0").len(), 1);
        assert!(same_cloud("login.windows.net", "login.microsoftonline.com"));
        assert!(!same_cloud("login.microsoftonline.us", "login.microsoftonline.com"));
        assert!(!same_cloud("a.example", "a.example"), "no cloud at all");
    }

    #[test]
    fn a_v1_document_that_is_the_v2_document_teaches_nothing() {
        let v2 = "https://login.microsoftonline.com/{tenantid}/v2.0";
        let v1 = "https://sts.windows.net/{tenantid}/";
        let last = |known| accepted(v2, known).last().map(|issuer| issuer.as_str().to_owned());
        assert_eq!(last(V1::Unknown).as_deref(), Some(v1));
        assert_eq!(last(V1::Known(v2)).as_deref(), Some(v1));
        assert_eq!(last(V1::Known("https://v1.example/")).as_deref(), Some("https://v1.example/"));
        assert_ne!(last(V1::None).as_deref(), Some(v1));
    }

    #[test]
    fn the_v1_rule_follows_the_cloud() {
        let rule = |issuer: &str| v1_rule(issuer).iter().map(|form| form.as_str().to_owned()).collect::<Vec<_>>();
        assert_eq!(rule("https://login.microsoftonline.com/{tenantid}/v2.0"), ["https://sts.windows.net/{tenantid}/"]);
        assert_eq!(
            rule(&format!("https://login.microsoftonline.us/{T}/v2.0")),
            [format!("https://sts.windows.net/{T}/"), format!("https://sts.microsoftonline.us/{T}/")]
        );
        assert_eq!(
            rule("https://login.partner.microsoftonline.cn/{tenantid}/v2.0"),
            ["https://sts.chinacloudapi.cn/{tenantid}/"]
        );
        assert_eq!(rule(&format!("http://127.0.0.1:1/{T}/v2.0")), [format!("https://sts.windows.net/{T}/")]);
        for none in [
            &format!("https://{T}.ciamlogin.com/{T}/v2.0"),
            &format!("https://contoso.b2clogin.com/{T}/v2.0/"),
            "https://accounts.example/",
            "urn:issuer",
        ] {
            assert!(rule(none).is_empty(), "{none}");
        }
    }
}
