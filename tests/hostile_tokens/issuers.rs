//! Issuer and audience: what is configured, what the metadata then says, what a token says, and whether that is accepted.

use std::path::PathBuf;

use entra_sidecar::internal::config::{self, Invocation};
use entra_sidecar::internal::jwks::{KeySet, V1, accepted_issuers, document};
use entra_sidecar::internal::jwt::{Policy, verify};
use serde_json::json;
use zeroize::Zeroizing;

use crate::mint::{CLIENT, NOW, OTHER_TENANT, PERSONAL, TENANT, jwk, with_claims};

const COMMON: &str = "https://login.microsoftonline.com/{tenantid}/v2.0";

/// A sidecar's configuration and the documents of its authority.
struct Authority {
    policy: Policy,
    keys: KeySet,
}

/// `T` stands for the tenant, `U` for another one, `C` for the client.
fn full(text: &str) -> String {
    text.replace('T', TENANT).replace('U', OTHER_TENANT).replace('C', CLIENT)
}

impl Authority {
    fn new(settings: &[(&str, &str)], metadata_issuer: &str, v1: V1<&str>) -> Self {
        let set = |(key, value): &(&str, &str)| ((*key).to_owned(), Zeroizing::new(full(value)));
        let mut all = vec![("AzureAd:ClientId".to_owned(), Zeroizing::new(CLIENT.to_owned()))];
        all.extend(settings.iter().map(set));
        let nowhere = tempfile::tempdir().unwrap();
        let file = nowhere.path().join("appsettings.json");
        std::fs::write(&file, "{}").unwrap();
        let invocation = Invocation { config_file: Some(PathBuf::from(&file)), settings: all, ..Invocation::default() };
        let config = config::load(&invocation).unwrap().config;
        let policy = Policy::of(&config.azure_ad, &config.sidecar.allowed_tenants, config.limits.token_bytes);
        let issuer = full(metadata_issuer);
        let (keys, _) = document::keys(json!({ "keys": [jwk("rsa")] }).to_string().as_bytes()).unwrap();
        Self { policy, keys: KeySet::new(keys, &issuer, accepted_issuers(&issuer, v1)) }
    }

    /// One tenant of the public cloud, with more settings.
    fn one_tenant(more: &[(&str, &str)]) -> Self {
        let settings = [&[("AzureAd:TenantId", "T")], more].concat();
        Self::new(&settings, "https://login.microsoftonline.com/T/v2.0", V1::Unknown)
    }

    /// `organizations` in the public cloud, with more settings.
    fn organizations(more: &[(&str, &str)]) -> Self {
        Self::new(&[&[("AzureAd:TenantId", "organizations")], more].concat(), COMMON, V1::Unknown)
    }

    /// What becomes of a token of this issuer, version, audience and tenant. An empty one is left out.
    fn judge(&self, iss: &str, ver: &str, aud: &str, tid: &str) -> Result<(), &'static str> {
        let value = |text: &str| if text.is_empty() { String::new() } else { format!("\"{}\"", full(text)) };
        let [iss, ver, aud, tid] = [iss, ver, aud, tid].map(value);
        let token = with_claims(&[("iss", &iss), ("ver", &ver), ("aud", &aud), ("tid", &tid)]);
        verify(&token, &self.keys, &self.policy, NOW).map(|_| ()).map_err(|rejection| rejection.code())
    }
}

const V2_T: &str = "https://login.microsoftonline.com/T/v2.0";
const V2_U: &str = "https://login.microsoftonline.com/U/v2.0";
const V1_T: &str = "https://sts.windows.net/T/";
const V1_U: &str = "https://sts.windows.net/U/";
const ISSUER: Result<(), &str> = Err("issuer_invalid");
const AUDIENCE: Result<(), &str> = Err("audience_invalid");

#[test]
fn one_tenant_accepts_its_own_tokens_of_both_versions() {
    let authority = Authority::one_tenant(&[]);
    for (iss, ver, aud, tid, outcome) in [
        (V2_T, "2.0", "C", "T", Ok(())),
        // Both names mean this registration, so either is taken in either version.
        (V2_T, "2.0", "api://C", "T", Ok(())),
        (V1_T, "1.0", "api://C", "T", Ok(())),
        (V1_T, "1.0", "C", "T", Ok(())),
        (V2_T, "", "C", "T", Ok(())),
        (V2_T, "1.0", "C", "T", Ok(())),
        (V2_T, "2.0", "api://other", "T", AUDIENCE),
        (V2_T, "2.0", "", "T", AUDIENCE),
        (V2_U, "2.0", "C", "U", ISSUER),
        (V1_U, "1.0", "api://C", "U", ISSUER),
        (V2_U, "2.0", "C", "T", ISSUER),
        (V2_T, "2.0", "C", "U", ISSUER),
        (V1_T, "1.0", "C", "U", ISSUER),
        ("https://login.windows.net/T/v2.0", "2.0", "C", "T", Ok(())),
        ("https://login.microsoftonline.us/T/v2.0", "2.0", "C", "T", ISSUER),
        ("https://sts.chinacloudapi.cn/T/", "1.0", "C", "T", ISSUER),
        (COMMON, "2.0", "C", "T", ISSUER),
    ] {
        assert_eq!(authority.judge(iss, ver, aud, tid), outcome, "{iss} {ver} {aud} {tid}");
    }
}

#[test]
fn organizations_accept_every_tenant_of_their_cloud() {
    let authority = Authority::organizations(&[]);
    for (iss, tid, outcome) in [
        (V2_U, "U", Ok(())),
        (V2_T, "T", Ok(())),
        (V1_U, "U", Ok(())),
        (V2_U, "T", ISSUER),
        (V1_U, "T", ISSUER),
        (V2_U, "", ISSUER),
        ("https://login.microsoftonline.us/U/v2.0", "U", ISSUER),
        ("https://login.partner.microsoftonline.cn/U/v2.0", "U", ISSUER),
        ("https://sts.microsoftonline.us/U/", "U", ISSUER),
        ("https://U.ciamlogin.com/U/v2.0", "U", ISSUER),
    ] {
        assert_eq!(authority.judge(iss, "2.0", "C", tid), outcome, "{iss} {tid}");
    }
}

#[test]
fn allowed_tenants_narrow_a_multi_tenant_authority() {
    let authority = Authority::organizations(&[("Sidecar:AllowedTenants", "T")]);
    assert_eq!(authority.judge(V2_T, "2.0", "C", "T"), Ok(()));
    assert_eq!(authority.judge(V1_T, "1.0", "C", "T"), Ok(()));
    assert_eq!(authority.judge(V2_U, "2.0", "C", "U"), Err("tenant_not_allowed"));
    assert_eq!(authority.judge(V1_U, "1.0", "C", "U"), Err("tenant_not_allowed"));
    assert_eq!(authority.judge(V2_U, "2.0", "C", "T"), ISSUER, "the tenant alone lets nobody in");
}

#[test]
fn a_configured_audience_replaces_the_default() {
    for key in ["AzureAd:Audience", "AzureAd:Audiences:0", "AzureAd:TokenValidationParameters:ValidAudiences:0"] {
        let authority = Authority::one_tenant(&[(key, "api://x")]);
        for (aud, outcome) in [
            ("api://x", Ok(())),
            ("api://x/", Ok(())),
            ("api://x//", AUDIENCE),
            ("api://X", AUDIENCE),
            ("api://x/y", AUDIENCE),
            ("C", AUDIENCE),
            ("api://C", AUDIENCE),
        ] {
            assert_eq!(authority.judge(V2_T, "2.0", aud, "T"), outcome, "{key} {aud}");
            assert_eq!(authority.judge(V1_T, "1.0", aud, "T"), outcome, "{key} {aud}");
        }
    }
}

#[test]
fn each_national_cloud_has_its_own_issuers() {
    for (instance, own, foreign) in [
        (
            "https://login.microsoftonline.us/",
            &[
                "https://login.microsoftonline.us/T/v2.0",
                "https://login.usgovcloudapi.net/T/v2.0",
                V1_T,
                "https://sts.microsoftonline.us/T/",
            ][..],
            &[V2_T, "https://login.partner.microsoftonline.cn/T/v2.0", "https://sts.chinacloudapi.cn/T/"][..],
        ),
        (
            "https://login.partner.microsoftonline.cn/",
            &[
                "https://login.partner.microsoftonline.cn/T/v2.0",
                "https://login.chinacloudapi.cn/T/v2.0",
                "https://sts.chinacloudapi.cn/T/",
            ],
            &[V2_T, V1_T, "https://login.microsoftonline.us/T/v2.0", "https://sts.microsoftonline.us/T/"],
        ),
        (
            "https://login.microsoftonline.com/",
            &[V2_T, V1_T, "https://login.windows.net/T/v2.0", "https://login.microsoft.com/T/v2.0"],
            &[
                "https://login.microsoftonline.us/T/v2.0",
                "https://sts.microsoftonline.us/T/",
                "https://sts.chinacloudapi.cn/T/",
            ],
        ),
    ] {
        let settings = [("AzureAd:Instance", instance), ("AzureAd:TenantId", "T")];
        let authority = Authority::new(&settings, &format!("{instance}T/v2.0"), V1::Unknown);
        for iss in own {
            assert_eq!(authority.judge(iss, "2.0", "C", "T"), Ok(()), "{instance} {iss}");
        }
        for iss in foreign {
            assert_eq!(authority.judge(iss, "2.0", "C", "T"), ISSUER, "{instance} {iss}");
        }
    }
}

#[test]
fn a_v1_issuer_that_was_learnt_is_the_only_one() {
    let settings = [("AzureAd:TenantId", "T")];
    let authority = Authority::new(&settings, V2_T, V1::Known("https://sts.example/1/"));
    assert_eq!(authority.judge("https://sts.example/1/", "1.0", "C", "T"), Ok(()));
    assert_eq!(authority.judge(V1_T, "1.0", "C", "T"), ISSUER);
}

#[test]
fn b2c_and_ciam_have_one_issuer_and_no_v1() {
    let b2c = "https://contoso.b2clogin.com/T/v2.0/";
    let policy = [
        ("AzureAd:Instance", "https://contoso.b2clogin.com/"),
        ("AzureAd:Domain", "contoso.onmicrosoft.com"),
        ("AzureAd:SignUpSignInPolicyId", "b2c_1_susi"),
    ];
    let authority = Authority::new(&policy, b2c, V1::None);
    assert_eq!(authority.judge(b2c, "1.0", "C", ""), Ok(()), "B2C writes no tid");
    assert_eq!(authority.judge(b2c, "1.0", "C", "T"), Ok(()));
    assert_eq!(authority.judge(b2c, "1.0", "C", "U"), ISSUER);
    for iss in ["https://contoso.b2clogin.com/T/v2.0", "https://fabrikam.b2clogin.com/T/v2.0/", V1_T, V2_T] {
        assert_eq!(authority.judge(iss, "1.0", "C", "T"), ISSUER, "{iss}");
    }

    let ciam = "https://T.ciamlogin.com/T/v2.0";
    let settings = [("AzureAd:Authority", "https://contoso.ciamlogin.com/")];
    let authority = Authority::new(&settings, ciam, V1::None);
    assert_eq!(authority.judge(ciam, "2.0", "C", "T"), Ok(()));
    assert_eq!(authority.judge(ciam, "2.0", "C", "U"), ISSUER);
    for iss in ["https://U.ciamlogin.com/U/v2.0", "https://T.ciamlogin.com/T/v2.0/", V1_T, V2_T] {
        assert_eq!(authority.judge(iss, "2.0", "C", "T"), ISSUER, "{iss}");
    }
}

#[test]
fn the_key_of_personal_accounts_signs_for_no_organization() {
    let mut key = jwk("rsa");
    key["issuer"] = format!("https://login.microsoftonline.com/{PERSONAL}/v2.0").into();
    let (keys, _) = document::keys(json!({ "keys": [key] }).to_string().as_bytes()).unwrap();
    let mut authority = Authority::organizations(&[]);
    authority.keys = KeySet::new(keys, COMMON, accepted_issuers(COMMON, V1::Unknown));
    assert_eq!(authority.judge(V2_U, "2.0", "C", "U"), Err("key_issuer_invalid"));
    assert_eq!(authority.judge(V1_U, "1.0", "C", "U"), Err("key_issuer_invalid"));
    let own = format!("https://login.microsoftonline.com/{PERSONAL}/v2.0");
    assert_eq!(authority.judge(&own, "2.0", "C", PERSONAL), Ok(()));
}
