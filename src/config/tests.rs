//! Tests of whole configurations.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use log::LevelFilter;

use super::*;

const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const CLIENT: &str = "22222222-2222-2222-2222-222222222222";

/// Loads a tenant, a client and these variables.
fn read(variables: &[(&str, &str)]) -> Result<Loaded, LoadError> {
    let base = [("AzureAd__TenantId", TENANT), ("AzureAd__ClientId", CLIENT)];
    let variables = base.iter().chain(variables).map(|(name, value)| (OsString::from(name), OsString::from(value)));
    // No appsettings.json is there.
    let empty = ("DOTNET_CONTENTROOT".into(), "/nonexistent".into());
    load(&Invocation { variables: variables.chain([empty]).collect(), ..Invocation::default() })
}

fn good(variables: &[(&str, &str)]) -> Config {
    read(variables).unwrap_or_else(|rejected| panic!("{rejected:?}")).config
}

/// The key and message of the only problem.
fn problem(variables: &[(&str, &str)]) -> (String, String) {
    match read(variables) {
        Err(LoadError { problems, .. }) if problems.len() == 1 => {
            (problems[0].key.clone(), problems[0].message.clone())
        }
        other => panic!("{variables:?}: {:?}", other.map(|loaded| loaded.warnings)),
    }
}

fn warnings(variables: &[(&str, &str)]) -> Vec<String> {
    read(variables).unwrap().warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn by_default_it_listens_on_loopback_for_production() {
    let config = good(&[]);
    assert_eq!(config.environment, "Production");
    assert_eq!(config.listen, [Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 5000)))]);
    assert_eq!(config.sidecar.allowed_callers, AllowedCallers::Networks(Vec::new()));
    assert!(config.sidecar.metrics && !config.sidecar.allow_insecure_upstream);
    assert!(config.sidecar.allow_overrides.downstream_api_unauthenticated);
}

#[test]
fn the_default_registration_is_of_the_public_cloud() {
    let config = good(&[]);
    assert_eq!(config.azure_ad.instance.to_string(), "https://login.microsoftonline.com/");
    assert!(config.azure_ad.allow_acl && config.azure_ad.credentials.is_empty() && config.apis.is_empty());
    assert_eq!(config.azure_ad.clock_skew, Duration::from_mins(5));
}

#[test]
fn default_limits_of_callers() {
    let limits = good(&[]).limits;
    assert!(limits.workers >= 2);
    assert_eq!((limits.connections, limits.head_bytes, limits.headers), (4096, 32 << 10, 100));
    assert_eq!((limits.head_timeout, limits.idle_timeout), (Duration::from_secs(10), Duration::from_mins(2)));
    assert_eq!((limits.body_bytes, limits.body_memory), (30 << 20, 64 << 20));
    assert_eq!((limits.token_bytes, limits.shutdown_timeout), (64 << 10, Duration::from_secs(30)));
}

#[test]
fn default_limits_of_upstream_calls() {
    let limits = good(&[]).limits;
    let secs = Duration::from_secs;
    assert_eq!((limits.upstream_calls, limits.queue_timeout), (768, secs(5)));
    assert_eq!((limits.connect_timeout, limits.token_request_timeout), (secs(5), secs(15)));
    assert_eq!((limits.downstream_timeout, limits.downstream_body_bytes), (secs(100), 30 << 20));
}

#[test]
fn default_limits_of_caches() {
    let limits = good(&[]).limits;
    assert_eq!((limits.token_cache_entries, limits.token_cache_bytes), (10_000, 64 << 20));
    assert_eq!((limits.validated_tokens, limits.sessions), (10_000, 10_000));
}

#[test]
fn the_default_log_is_information_without_access_lines() {
    let logging = good(&[]).logging;
    assert_eq!((logging.default, logging.access, logging.json), (LevelFilter::Info, LevelFilter::Warn, false));
}

#[test]
fn each_malformed_value_is_one_problem_with_key_and_reason() {
    for (key, value, expected) in [
        ("AzureAd:TenantId", "my tenant", "a tenant"),
        ("AzureAd:ClientId", "my-app", "a GUID"),
        ("AzureAd:Instance", "login.microsoftonline.com", "URL"),
        ("AzureAd:SendX5C", "yes", "true or false"),
        ("AzureAd:AzureRegion", "west europe", "letters and digits"),
        ("AzureAd:TokenValidationParameters:ClockSkew", "5 min", "a duration"),
        ("AzureAd:UserAssignedManagedIdentityClientId", "x", "a GUID"),
        ("DownstreamApis:Graph:BaseUrl", "ftp://x", "URL"),
        ("DownstreamApis:Graph:AllowedBaseUrls:1", "nothing", "URL"),
        ("DownstreamApis:Graph:HttpMethod", "TRACE", "an HTTP method other than"),
        ("DownstreamApis:Graph:RelativePath", "../x", "a path"),
        ("DownstreamApis:Graph:RequestAppToken", "1", "true or false"),
        ("DownstreamApis:Graph:ProtocolScheme", "MTLS", "mutual TLS"),
        ("DownstreamApis:Graph:ExtraHeaderParameters:Authorization", "x", ""),
        ("DownstreamApis:Graph:ExtraHeaderParameters:X Y", "x", "header name"),
        ("DownstreamApis:Graph:AcquireTokenOptions:Claims", "[]", "a JSON object"),
        ("DownstreamApis:Graph:AcquireTokenOptions:CorrelationId", "x", "a GUID"),
        ("DownstreamApis:Graph:AcquireTokenOptions:Tenant", "a/b", "a tenant"),
        (
            "DownstreamApis:Graph:AcquireTokenOptions:AuthenticationOptionsName",
            "Missing",
            "the name of another section",
        ),
        ("DownstreamApis:Graph:AcquireTokenOptions:AuthenticationScheme", "Missing", "Bearer, PoP"),
        ("Sidecar:AllowedCallers", "10.0.0.0/33", "a network"),
        ("Sidecar:AllowedCallers", "10.0.0.0/0", "0.0.0.0/0 for the whole network, 10.0.0.0/32 for the address"),
        ("Sidecar:DownstreamHeaderValues", "List", "String, Array"),
        ("Sidecar:TokenErrorStatus", "401", "Original, Semantic"),
        ("Sidecar:Limits:Workers", "0", "from 1"),
        ("Sidecar:Limits:BodyMemory", "1MiB", "at least the 31457280 bytes of Sidecar:Limits:RequestBodyBytes"),
        ("Sidecar:Limits:HeadTimeout", "0", "a duration"),
        ("Sidecar:Limits:RequestBodyBytes", "30MB", "a size"),
        ("Logging:LogLevel:Default", "Verbose", "a level"),
        ("Logging:Format", "xml", "text, json"),
        ("AllowedHosts", "http://x", "a host name"),
        ("urls", "https://localhost:5001", "https is not served"),
        ("http_ports", "0", "from 1"),
    ] {
        let (named, message) = problem(&[(&key.replace(':', "__"), value)]);
        assert_eq!(named, key);
        assert!(message.contains(expected), "{key}: {message}");
        assert!(message.contains(value) || key.contains("ExtraHeader"), "{key}: {message}");
        assert!(message.contains("expected "), "{key}: {message}");
    }
}

#[test]
fn what_is_configured_is_refused_in_the_words_of_the_override() {
    let pop = "AcquireTokenOptions.PopClaims";
    let signed = ("AcquireTokenOptions.AuthenticationScheme", "PoP");
    for (key, value, beside) in [
        ("RelativePath", "a%zz/b", None),
        ("RelativePath", "..;/x", None),
        ("RelativePath", "a%00b", None),
        ("RelativePath", "a%0ab", None),
        ("RelativePath", "%2fevil", None),
        ("RelativePath", "a?%zz", None),
        ("RelativePath", "a\\b", None),
        ("RelativePath", "https:evil", None),
        ("BaseUrl", "https://host/a/../b", None),
        ("BaseUrl", "https://a..b/", None),
        ("HttpMethod", "TRACE", None),
        ("HttpMethod", "GET /", None),
        ("AcceptHeader", "a\u{e9}", None),
        ("ContentType", "json", None),
        ("Scopes", "a\"b", None),
        ("RequestAppToken", "1", None),
        ("ExtraHeaderParameters.Authorization", "x", None),
        ("ExtraHeaderParameters.X Y", "x", None),
        ("ExtraHeaderParameters.X", "a\nb", None),
        ("AcquireTokenOptions.Tenant", "a/b", None),
        ("AcquireTokenOptions.ForceRefresh", "yes", None),
        ("AcquireTokenOptions.Claims", "[]", None),
        ("AcquireTokenOptions.CorrelationId", "x", None),
        ("AcquireTokenOptions.FmiPath", "a\nb", None),
        ("AcquireTokenOptions.LongRunningWebApiSessionKey", "a\u{1}b", None),
        ("AcquireTokenOptions.ManagedIdentity.UserAssignedClientId", "x", None),
        ("AcquireTokenOptions.ExtraQueryParameters.client_id", "x", None),
        ("AcquireTokenOptions.ExtraQueryParameters.Client_Assertion", "x", None),
        ("AcquireTokenOptions.PopClaims", "1", None),
        (pop, "{\"at\":1}", Some(signed)),
    ] {
        let variable = |key: &str| format!("DownstreamApis__X__{}", key.replace('.', "__"));
        let beside: Vec<_> = beside.into_iter().map(|(key, value)| (variable(key), value)).collect();
        let mut variables = vec![(variable(key), value)];
        variables.extend(beside.iter().cloned());
        let (named, message) =
            problem(&variables.iter().map(|(key, value)| (key.as_str(), *value)).collect::<Vec<_>>());
        assert_eq!(named, format!("DownstreamApis:X:{}", key.replace('.', ":")));
        let configured = message.rsplit_once("expected ").unwrap().1.to_owned();

        let coded = crate::value::percent::encode_component(value);
        let also = if beside.is_empty() { "" } else { "&optionsOverride.AcquireTokenOptions.AuthenticationScheme=PoP" };
        let query = format!("optionsOverride.{}={coded}{also}", crate::value::percent::encode_component(key));
        let options = ApiOptions { scopes: vec!["s".into()], ..ApiOptions::default() };
        let api = Api { options, ..Api::default() };
        let refused = crate::options::Overrides::parse(Some(&query))
            .and_then(|overrides| crate::options::Effective::merge(&api, &overrides).map(drop))
            .unwrap_err()
            .to_string();
        assert_eq!(refused, format!("optionsOverride.{key}: expected {configured}"));
    }
    let (key, message) = problem(&[("DownstreamApis__X__AcquireTokenOptions__PopPublicKey", "notakey")]);
    assert_eq!(key, "DownstreamApis:X:AcquireTokenOptions:PopPublicKey");
    assert!(message.ends_with(crate::value::bound_key::BoundKey::parse("notakey").unwrap_err()), "{message}");
}

#[test]
fn no_extra_parameter_competes_with_the_token_request() {
    let expected = "expected a parameter other than the fields of the token request";
    let authority = format!("https://login.microsoftonline.com/{TENANT}?dc=x&client%5Fid=y");
    for (key, value) in [
        ("AzureAd__ExtraQueryParameters__client_id", "s3cret"),
        ("AzureAd__ExtraQueryParameters__GRANT_TYPE", "s3cret"),
        ("DownstreamApis__X__AcquireTokenOptions__ExtraQueryParameters__scope", "s3cret"),
        ("AzureAd__Authority", &authority),
    ] {
        let (named, message) = problem(&[(key, value)]);
        assert_eq!(named, key.replace("__", ":"));
        assert!(message.contains(expected) && !message.contains("s3cret"), "{message}");
    }
    good(&[("AzureAd__ExtraQueryParameters__dc", "x"), ("AzureAd__ExtraQueryParameters__client_ids", "x")]);
}

#[test]
fn a_user_flow_needs_a_b2c_registration() {
    let flow = ("DownstreamApis__X__AcquireTokenOptions__UserFlow", "B2C_1_edit");
    let (key, message) = problem(&[flow]);
    assert_eq!(key, "DownstreamApis:X:AcquireTokenOptions:UserFlow");
    assert!(message.contains("AzureAd:Domain"), "{message}");
    let config = good(&[flow, ("AzureAd__Domain", "contoso.onmicrosoft.com")]);
    assert_eq!(config.apis[0].options.user_flow.as_deref(), Some("B2C_1_edit"));
    for (authority, with_flow) in [
        ("https://c.b2clogin.com/tfp/c.onmicrosoft.com/B2C_1_in/v2.0", "/tfp/c.onmicrosoft.com/B2C_1_edit"),
        ("https://c.b2clogin.com/c.onmicrosoft.com/B2C_1_in", "/c.onmicrosoft.com/B2C_1_edit"),
    ] {
        let config = good(&[flow, ("AzureAd__Authority", authority)]);
        let changed = config.azure_ad.with_policy("B2C_1_edit");
        assert_eq!(changed.authority.map(|url| url.path).as_deref(), Some(with_flow));
    }
}

#[test]
fn the_identity_endpoints_api_is_one_that_can_serve_it() {
    let expected = |expected| ("Sidecar:IdentityEndpoint:Api".to_owned(), format!("\"a\": expected {expected}"));
    let (name, scopes) = (("Sidecar__IdentityEndpoint__Api", "a"), ("DownstreamApis__A__Scopes", "api://a/.default"));
    assert_eq!(problem(&[name]), expected("the name of an API under DownstreamApis"));
    let bound = ("DownstreamApis__A__AcquireTokenOptions__AuthenticationScheme", "PoP");
    assert_eq!(problem(&[name, scopes, bound]), expected("an API whose tokens are not bound to a key"));
    let resources = ("Sidecar__IdentityEndpoint__Resources", "https://a//.default; *");
    let config = good(&[name, scopes, resources]);
    assert_eq!(config.sidecar.identity_endpoint.resources, ["https://a/", "*"]);
}

#[test]
fn lists_of_scopes_that_are_one_text_are_warned_of() {
    for (key, value) in [
        ("DownstreamApis__X__Scopes", "User.Read,Mail.Read"),
        ("DownstreamApis__X__Scopes", "User.Read, Mail.Read"),
        ("DownstreamApis__X__Scopes__0", "User.Read,Mail.Read"),
        ("DownstreamApis__X__Scopes", "[\"User.Read\", \"Mail.Read\"]"),
        ("DownstreamApis__X__Scopes", "[]"),
        ("AzureAd__Scopes", "access_as_user,other"),
    ] {
        let found = warnings(&[(key, value)]);
        assert!(matches!(&found[..], [one] if one.starts_with(&key.replace("__", ":"))), "{value}: {found:?}");
    }
    assert_eq!(warnings(&[("DownstreamApis__X__Scopes", "User.Read Mail.Read")]), [""; 0]);
}

#[test]
fn a_protection_that_is_blank_is_told() {
    for blank in ["", " ", "\t"] {
        let (key, message) = problem(&[("Sidecar__CallerTokenFile", blank)]);
        assert_eq!((key.as_str(), message.contains("expected a file")), ("Sidecar:CallerTokenFile", true));
        let found = warnings(&[("Sidecar__AllowedTenants", blank)]);
        assert!(matches!(&found[..], [one] if one.starts_with("Sidecar:AllowedTenants: is blank")), "{found:?}");
    }
}

#[test]
fn wide_doors_are_warned_of() {
    let development = ("ASPNETCORE_ENVIRONMENT", "Development");
    let starts = |variables: &[(&str, &str)], key: &str| {
        warnings(variables).iter().filter(|warning| warning.starts_with(key)).count()
    };
    for (url, expected) in [
        ("http://127.0.0.1:1", 0),
        ("http://localhost:1", 0),
        ("unix:/s", 0),
        ("http://+:1", 1),
        ("http://0.0.0.0:1", 1),
        ("http://10.0.0.1:1;http://[::]:1", 1),
    ] {
        assert_eq!(starts(&[development, ("urls", url)], "ASPNETCORE_ENVIRONMENT: Development on"), expected, "{url}");
        assert_eq!(starts(&[("urls", url)], "ASPNETCORE_ENVIRONMENT"), 0, "{url}");
    }
    assert_eq!(starts(&[("AllowedHosts", "a;*")], "AllowedHosts: "), 1);
    assert_eq!(starts(&[("AllowedHosts", "*.a")], "AllowedHosts: "), 0);
}

#[test]
fn all_problems_come_at_once() {
    let problems =
        read(&[("AzureAd__SendX5C", "x"), ("Sidecar__Metrics", "y"), ("urls", "z"), ("AzureAd__ClientId", "")])
            .unwrap_err()
            .problems;
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["AzureAd:SendX5C", "Sidecar:Metrics", "AzureAd:ClientId", "urls"]);
}

#[test]
fn http_is_for_loopback_unless_insecure_upstreams_are_allowed() {
    for key in [
        "AzureAd__Instance", "AzureAd__MetadataAddress", "DownstreamApis__X__BaseUrl",
        "DownstreamApis__X__AllowedBaseUrls__0",
    ] {
        good(&[(key, "http://127.0.0.1:8080/")]);
        good(&[(key, "http://localhost/")]);
        good(&[(key, "http://api.example/"), ("Sidecar__AllowInsecureUpstream", "True")]);
        let (_, message) = problem(&[(key, "http://api.example/")]);
        assert!(message.contains("Sidecar:AllowInsecureUpstream"), "{message}");
    }
}

#[test]
fn authorities_are_told_apart() {
    let read = |authority| {
        let registration = good(&[("AzureAd__TenantId", ""), ("AzureAd__Authority", authority)]).azure_ad;
        let other = registration.authority.as_ref().map(ToString::to_string);
        (registration.instance.to_string(), registration.tenant.clone(), other)
    };
    let known = |instance: &str, tenant: &str, other: Option<&str>| {
        (instance.to_owned(), tenant.to_owned(), other.map(str::to_owned))
    };
    for (authority, expected) in [
        (
            "https://login.microsoftonline.us/Contoso.com/v2.0/",
            known("https://login.microsoftonline.us/", "contoso.com", None),
        ),
        ("https://login.microsoftonline.com/common", known("https://login.microsoftonline.com/", "common", None)),
        (
            "https://contoso.ciamlogin.com/",
            known(
                "https://contoso.ciamlogin.com/",
                "contoso.onmicrosoft.com",
                Some("https://contoso.ciamlogin.com/contoso.onmicrosoft.com"),
            ),
        ),
        (
            "https://contoso.b2clogin.com/tfp/contoso.onmicrosoft.com/B2C_1_x/v2.0",
            known(
                "https://contoso.b2clogin.com/",
                "contoso.onmicrosoft.com",
                Some("https://contoso.b2clogin.com/tfp/contoso.onmicrosoft.com/B2C_1_x"),
            ),
        ),
        ("https://idp.example/realms/x", known("https://idp.example/", "", Some("https://idp.example/realms/x"))),
    ] {
        assert_eq!(read(authority), expected, "{authority}");
    }
    let policy = |authority| good(&[("AzureAd__Authority", authority)]).azure_ad.policy.clone();
    assert_eq!(policy("https://x.b2clogin.com/x.onmicrosoft.com/b2c_1_in").as_deref(), Some("b2c_1_in"));
    assert_eq!(policy("https://idp.example/realms/x"), None);
    let (key, _) = problem(&[("AzureAd__Authority", "https://login.microsoftonline.com/contoso.com")]);
    assert_eq!(key, "AzureAd:TenantId");
}

#[test]
fn the_query_of_an_authority_belongs_to_its_requests() {
    let config = good(&[
        ("AzureAd__Authority", "https://login.microsoftonline.com/11111111-1111-1111-1111-111111111111?dc=x&slice=y"),
        ("AzureAd__ExtraQueryParameters__slice", "z"),
    ]);
    assert_eq!(
        config.azure_ad.extra_query,
        BTreeMap::from([("dc".to_owned(), "x".to_owned()), ("slice".to_owned(), "z".to_owned())])
    );
}

fn credential(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields
        .iter()
        .map(|(field, value)| (format!("AzureAd__ClientCredentials__0__{field}"), (*value).to_owned()))
        .collect()
}

fn as_pairs(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn credentials_are_known_by_name_by_number_or_by_their_fields() {
    for (fields, kind, warned) in [
        (&[("SourceType", "clientsecret"), ("ClientSecret", "x")][..], "ClientSecret", 0),
        (&[("SourceType", "6"), ("ClientSecret", "x")], "ClientSecret", 0),
        (&[("ClientSecret", "x")], "ClientSecret", 1),
        (&[("SourceType", "Certificate"), ("ClientSecret", "x")], "ClientSecret", 1),
        (&[("CertificateDiskPath", "x.pem"), ("CertificatePassword", "x")], "Path", 1),
        (&[("Base64EncodedValue", "x")], "Base64Encoded", 1),
        (&[("KeyVaultUrl", "https://v.vault.azure.net"), ("KeyVaultCertificateName", "c")], "KeyVault", 1),
        (&[("SignedAssertionFilePath", "x")], "SignedAssertionFilePath", 1),
        (
            &[("SourceType", "4"), ("CertificateThumbprint", "00:11 22:33445566778899aabbccddeeff00112233")],
            "StoreWithThumbprint",
            0,
        ),
        (&[("SourceType", "13"), ("CertificateSubjectName", "app")], "StoreWithSubjectName", 0),
        (&[("SourceType", "SignedAssertionFromManagedIdentity")], "SignedAssertionFromManagedIdentity", 0),
    ] {
        let fields = credential(fields);
        let loaded = read(&as_pairs(&fields)).unwrap();
        assert_eq!(loaded.config.azure_ad.credentials[0].kind, kind);
        assert_eq!(loaded.warnings.len(), warned, "{:?}", loaded.warnings);
    }
}

#[test]
fn a_credential_that_cannot_be_meant_is_a_problem() {
    for (fields, key) in [
        (&[("SourceType", "ClientSecret")][..], "ClientSecret"),
        (&[("SourceType", "Secret"), ("ClientSecret", "hunter2")], "SourceType"),
        (&[("SourceType", "14")], "SourceType"),
        (&[("SourceType", "CustomSignedAssertion")], "SourceType"),
        (&[("CertificatePassword", "hunter2")], "SourceType"),
        (
            &[("SourceType", "Path"), ("CertificateDiskPath", "x"), ("CertificateDistinguishedName", "CN=x")],
            "CertificateDistinguishedName",
        ),
        (&[("SourceType", "Path"), ("CertificateDiskPath", "x"), ("ClientSecret", "hunter2")], "ClientSecret"),
        (&[("SourceType", "KeyVault"), ("KeyVaultUrl", "https://v")], "KeyVaultCertificateName"),
        (&[("SourceType", "SignedAssertionFilePath")], "SignedAssertionFileDiskPath"),
        (&[("SourceType", "4"), ("CertificateThumbprint", "12")], "CertificateThumbprint"),
        (
            &[("SourceType", "ClientSecret"), ("ClientSecret", "hunter2"), ("UseBoundCredential", "true")],
            "UseBoundCredential",
        ),
    ] {
        let fields = credential(fields);
        let (named, message) = problem(&as_pairs(&fields));
        assert_eq!(named, format!("AzureAd:ClientCredentials:0:{key}"));
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn older_spellings_of_credentials_work() {
    let kinds = |variables: &[(&str, &str)]| -> Vec<String> {
        good(variables).azure_ad.credentials.iter().map(|one| format!("{} {}", one.key, one.kind)).collect()
    };
    assert_eq!(kinds(&[("AzureAd__ClientSecret", "x")]), ["AzureAd:ClientSecret ClientSecret"]);
    assert_eq!(
        kinds(&[
            ("AzureAd__ClientCertificates__0__SourceType", "Path"),
            ("AzureAd__ClientCertificates__0__CertificateDiskPath", "x")
        ]),
        ["AzureAd:ClientCertificates:0 Path"]
    );
    assert_eq!(
        kinds(&[("AzureAd__ClientCredentialsUsingManagedIdentity__IsEnabled", "true")]),
        ["AzureAd:ClientCredentialsUsingManagedIdentity SignedAssertionFromManagedIdentity"]
    );
    assert_eq!(kinds(&[("AZURE_FEDERATED_TOKEN_FILE", "/t")]), ["AZURE_FEDERATED_TOKEN_FILE SignedAssertionFilePath"]);
    let (key, message) = problem(&[
        ("AzureAd__ClientSecret", "x"),
        ("AzureAd__ClientCredentials__0__SourceType", "SignedAssertionFromManagedIdentity"),
    ]);
    assert_eq!(key, "AzureAd:ClientSecret");
    assert!(message.contains("IDW10110"), "{message}");
}

#[test]
fn entries_that_are_skipped_are_left_out() {
    let fields =
        [("AzureAd__ClientCredentials__0__Skip", "true"), ("AzureAd__ClientCredentials__1__ClientSecret", "x")];
    let config = good(&fields);
    assert_eq!(config.azure_ad.credentials[0].key, "AzureAd:ClientCredentials:1");
    assert_eq!(config.azure_ad.credentials.len(), 1);
}

#[test]
fn only_certificates_decrypt() {
    let (key, _) = problem(&[
        ("AzureAd__TokenDecryptionCredentials__0__SourceType", "6"),
        ("AzureAd__TokenDecryptionCredentials__0__ClientSecret", "x"),
    ]);
    assert_eq!(key, "AzureAd:TokenDecryptionCredentials:0:SourceType");
    let config = good(&[
        ("AzureAd__TokenDecryptionCertificates__0__SourceType", "3"),
        ("AzureAd__TokenDecryptionCertificates__0__CertificateDiskPath", "x"),
    ]);
    assert_eq!(config.azure_ad.decryption_credentials.len(), 1);
}

#[test]
fn apis_keep_their_names_and_split_their_scopes() {
    let config = good(&[
        ("DownstreamApis__Graph__Scopes", "User.Read  Mail.Read"),
        ("downstreamapis__GRAPH__HttpMethod", "post"),
        ("DownstreamApis__Files__Scopes__0", "a b"),
        ("DownstreamApis__Files__Scopes__1", "c"),
        ("DownstreamApis__Files__AcceptHeader", ""),
        ("DownstreamApis__Files__AcquireTokenOptions__ManagedIdentity__UserAssignedClientId", ""),
    ]);
    let [files, graph] = config.apis.as_slice() else { panic!("{:?}", config.apis) };
    assert_eq!((files.name.as_str(), graph.name.as_str()), ("Files", "Graph"));
    assert_eq!(graph.options.scopes, ["User.Read", "Mail.Read"]);
    assert_eq!(files.options.scopes, ["a", "b", "c"]);
    assert_eq!((graph.options.http_method.as_deref(), files.options.http_method.as_deref()), (Some("POST"), None));
    assert_eq!(
        (graph.options.accept.as_deref(), files.options.accept.as_deref()),
        (Some("application/json"), Some(""))
    );
    assert_eq!(
        (&graph.options.managed_identity, &files.options.managed_identity),
        (&None, &Some(ManagedIdentity { client_id: None }))
    );
}

#[test]
fn an_api_may_acquire_with_another_registration() {
    for name in ["AuthenticationOptionsName", "AuthenticationScheme"] {
        let key = format!("DownstreamApis__X__AcquireTokenOptions__{name}");
        let config = good(&[
            (&key, "Second"),
            ("Second__TenantId", "common"),
            ("Second__ClientId", CLIENT),
            ("Second__TenentId", "x"),
        ]);
        assert_eq!(config.apis[0].registration.as_deref(), Some("second"));
        assert_eq!(
            (config.registrations["second"].tenant.as_str(), config.registrations["second"].section.as_str()),
            ("common", "Second")
        );
        let (named, _) = problem(&[(&key, "Second"), ("Second__TenantId", "common")]);
        assert_eq!(named, "Second:ClientId");
        problem(&[(&key, "Sidecar"), ("Sidecar__Metrics", "true")]);
    }
    for (scheme, pop) in [("bearer", false), ("PoP", true), ("pop", true)] {
        let config = good(&[("DownstreamApis__X__AcquireTokenOptions__AuthenticationScheme", scheme)]);
        assert_eq!(
            (config.apis[0].options.pop.unwrap_or(false), config.apis[0].registration.as_deref()),
            (pop, None),
            "{scheme}"
        );
    }
}

#[test]
fn unknown_keys_of_ours_are_warnings_that_name_the_nearest_one() {
    for (key, nearest) in [
        ("AzureAd__TenentId", "AzureAd:TenantId"),
        ("DownstreamApis__Graph__Scope", "DownstreamApis:Graph:Scopes"),
        ("Sidecar__Limits__Conections", "Sidecar:Limits:Connections"),
        ("Logging__Fromat", "Logging:Format"),
        ("DownstreamApi__Graph__Scopes", "DownstreamApis"),
    ] {
        let warnings = warnings(&[(key, "hunter2")]);
        assert!(
            warnings.len() == 1 && warnings[0].ends_with(nearest) && !warnings[0].contains("hunter2"),
            "{warnings:?}"
        );
    }
    assert!(
        warnings(&[
            ("SIDECAR_URL", "x"),
            ("Logging__Debug__LogLevel__Default", "x"),
            ("Foo__Bar", "x"),
            ("AzureAd__ClientName", "x")
        ])
        .is_empty()
    );
}

#[test]
fn a_value_where_keys_belong_names_one_of_them() {
    let warnings = warnings(&[("DownstreamApis__Graph", "https://graph.microsoft.com")]);
    let expected = "DownstreamApis:Graph: expected keys below it, such as DownstreamApis:Graph:";
    assert!(warnings.len() == 1 && warnings[0].starts_with(expected), "{warnings:?}");
}

#[test]
fn credentials_without_an_index_are_told_to_be_a_list() {
    let entry =
        [("AzureAd__ClientCredentials__ClientSecret", "hush"), ("AzureAd__ClientCredentials__SourceType", "Path")];
    let list = "AzureAd:ClientCredentials".to_owned();
    assert_eq!(problem(&entry), (list, "expected a list, whose first entry is AzureAd:ClientCredentials:0".to_owned()));
    // An entry that is a text is in a list, but has no fields.
    let (key, said) = problem(&[("AzureAd__ClientCredentials__0", "hush")]);
    assert_eq!(key, "AzureAd:ClientCredentials:0:SourceType");
    assert!(said.starts_with("is not set: expected one of ClientSecret, "), "{said}");
}

#[test]
fn only_supported_kinds_of_credential_are_offered() {
    for (list, kind) in [("ClientCredentials", "Secret"), ("TokenDecryptionCredentials", "AutoDecryptKeys")] {
        let (_, said) = problem(&[(&format!("AzureAd__{list}__0__SourceType"), kind)]);
        let offered = said.split_once("expected one of ").map(|(_, offered)| offered.to_owned()).unwrap_or_default();
        assert!(offered.contains("KeyVault") && !offered.contains("AutoDecryptKeys"), "{said}");
        assert_eq!(offered.contains("ClientSecret"), list == "ClientCredentials", "{said}");
    }
}

#[test]
fn wider_callers_take_overrides_from_unauthenticated_endpoints() {
    let unauthenticated = |variables: &[(&str, &str)]| {
        let sidecar = good(variables).sidecar;
        (
            sidecar.allow_overrides.authorization_header_unauthenticated,
            sidecar.allow_overrides.downstream_api_unauthenticated,
        )
    };
    let development = ("ASPNETCORE_ENVIRONMENT", "development");
    assert_eq!(unauthenticated(&[]), (true, true));
    assert_eq!(unauthenticated(&[("Sidecar__AllowedCallers", "127.0.0.1")]), (true, true));
    assert_eq!(unauthenticated(&[("Sidecar__AllowedCallers", "*")]), (false, false));
    assert_eq!(unauthenticated(&[("Sidecar__AllowedCallers__0", "10.0.0.0/8")]), (false, false));
    assert_eq!(unauthenticated(&[development, ("Sidecar__AllowedCallers", "*")]), (true, true));
    let said = ("Sidecar__AllowOverrides__CallDownstreamApiUnauthenticated", "true");
    assert_eq!(unauthenticated(&[("Sidecar__AllowedCallers", "*"), said]), (false, true));
    assert_eq!(good(&[development]).sidecar.allowed_callers, AllowedCallers::Any);
}

#[test]
fn a_key_of_another_kind_of_credential_is_told_its_own() {
    // A quick start of Microsoft's mixes them so.
    let entry = "AzureAd__ClientCredentials__0";
    let mixed = read(&[
        (&format!("{entry}__SourceType"), "Path"),
        (&format!("{entry}__CertificateStorePath"), "CurrentUser/My"),
        (&format!("{entry}__CertificateDistinguishedName"), "CN=app"),
    ]);
    let problems = mixed.unwrap_err().problems;
    let told = |field: &str| {
        let key = format!("AzureAd:ClientCredentials:0:{field}");
        problems.iter().find(|problem| problem.key == key).map(|problem| problem.message.as_str()).unwrap()
    };
    let own = "but SourceType is Path: expected only CertificateDiskPath, CertificateKeyDiskPath, CertificatePassword";
    assert_eq!(
        told("CertificateDistinguishedName"),
        format!("belongs to SourceType StoreWithDistinguishedName (it comes from environment), {own}")
    );
    let stores = "StoreWithThumbprint or StoreWithDistinguishedName or StoreWithSubjectName";
    assert_eq!(
        told("CertificateStorePath"),
        format!("belongs to SourceType {stores} (it comes from environment), {own}")
    );
    assert_eq!(told("CertificateDiskPath"), "is not set: expected a value, because SourceType is Path");
}

#[test]
fn limits_of_kestrel_hold_unless_the_sidecars_own_are_given() {
    let kestrel = [
        ("Kestrel__Limits__MaxRequestBodySize", "1000000"),
        ("Kestrel__Limits__MaxRequestHeaderCount", "50"),
        ("Kestrel__Limits__KeepAliveTimeout", "00:02:10"),
        ("ASPNETCORE_SHUTDOWNTIMEOUTSECONDS", "7"),
    ];
    let limits = |own: &[(&str, &str)]| good(&[&kestrel, own].concat()).limits;
    let seen = limits(&[]);
    assert_eq!((seen.body_bytes, seen.headers), (1_000_000, 50));
    assert_eq!((seen.idle_timeout, seen.shutdown_timeout), (Duration::from_secs(130), Duration::from_secs(7)));
    let seen = limits(&[("Sidecar__Limits__RequestBodyBytes", "5"), ("Sidecar__Limits__ShutdownTimeout", "3")]);
    assert_eq!((seen.body_bytes, seen.headers, seen.shutdown_timeout), (5, 50, Duration::from_secs(3)));
    let (key, _) = problem(&[("Kestrel__Limits__MaxRequestBodySize", "much")]);
    assert_eq!(key, "Kestrel:Limits:MaxRequestBodySize");
    assert!(warnings(&[("Kestrel__Limits__MaxRequestLineSize", "8192")]).is_empty());
}

#[test]
fn listening_follows_the_precedence_of_asp_net_core() {
    let ports = |variables: &[(&str, &str)]| -> Vec<u16> {
        let port = |listen: &Listen| if let Listen::Tcp(address) = listen { address.port() } else { 0 };
        good(variables).listen.iter().map(port).collect()
    };
    let (http_ports, urls) = (("ASPNETCORE_HTTP_PORTS", "1;2"), ("ASPNETCORE_URLS", "http://127.0.0.1:3;http://+:4"));
    let kestrel = ("Kestrel__Endpoints__Http__Url", "http://127.0.0.1:5");
    assert_eq!(ports(&[http_ports]), [1, 2]);
    assert_eq!(ports(&[http_ports, urls]), [3, 4]);
    assert!(warnings(&[http_ports, urls]).is_empty(), "what an image presets may be overridden");
    assert_eq!(warnings(&[("HTTP_PORTS", "1"), urls]).len(), 1);
    assert_eq!(ports(&[http_ports, urls, ("URLS", "http://127.0.0.1:6")]), [6]);
    assert_eq!(ports(&[http_ports, urls, kestrel]), [5]);
    let variables = [("AzureAd__TenantId", TENANT), ("AzureAd__ClientId", CLIENT), kestrel];
    let invocation = Invocation {
        variables: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        urls: Some("http://127.0.0.1:7".to_owned()),
        ..Invocation::default()
    };
    assert_eq!(load(&invocation).unwrap().config.listen, [Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 7)))]);
}

#[test]
fn checks_of_tokens_cannot_be_switched_off() {
    for name in ["ValidateAudience", "ValidateLifetime", "RequireSignedTokens"] {
        problem(&[(&format!("AzureAd__TokenValidationParameters__{name}"), "false")]);
    }
    assert_eq!(warnings(&[("AzureAd__TokenValidationParameters__ValidateIssuer", "false")]).len(), 1);
}

#[test]
fn levels_come_from_logging_and_the_console_wins() {
    let config = good(&[
        ("Logging__LogLevel__Default", "warning"),
        ("Logging__LogLevel__Microsoft.AspNetCore", "Debug"),
        ("Logging__Console__LogLevel__Default", "Error"),
        ("Logging__Console__FormatterName", "json"),
    ]);
    assert_eq!(
        (config.logging.default, config.logging.access, config.logging.json),
        (LevelFilter::Error, LevelFilter::Warn, true)
    );
    assert!(config.logging.categories.contains(&("Microsoft.AspNetCore".to_owned(), LevelFilter::Debug)));
    let config = good(&[
        ("DOTNET_ENVIRONMENT", "Development"),
        ("Logging__Format", "text"),
        ("Logging__Console__FormatterName", "json"),
    ]);
    assert_eq!((config.logging.access, config.logging.json), (LevelFilter::Info, false));
    assert_eq!(good(&[("Logging__LogLevel__access", "Trace")]).logging.access, LevelFilter::Trace);
}

#[test]
fn forwarded_headers_are_never_trusted() {
    let warnings = warnings(&[("ASPNETCORE_FORWARDEDHEADERS_ENABLED", "true")]);
    assert!(warnings.len() == 1 && warnings[0].contains("never believed"), "{warnings:?}");
}

#[test]
fn values_in_messages_show_no_password_and_no_line_break() {
    let (_, message) = problem(&[("Sidecar__Metrics", "a\nERROR\u{1b}[31m")]);
    assert!(message.starts_with("\"a\\nERROR\\u{1b}[31m\""), "{message}");
    let (_, message) = problem(&[("DownstreamApis__X__BaseUrl", "https://user:hunter2@host/")]);
    assert!(!message.contains("hunter2"), "{message}");
}

const STORE: (&str, &str) = ("Sidecar__SharedCache__Url", "redis://127.0.0.1");
const STORE_KEY: (&str, &str) = ("Sidecar__SharedCache__KeyFile", "/run/secrets/key");

#[cfg(not(feature = "shared-cache"))]
#[test]
fn a_build_without_the_shared_cache_says_so() {
    for (variables, key) in [
        (&[STORE, STORE_KEY][..], "Sidecar:SharedCache:KeyFile"),
        (&[STORE], "Sidecar:SharedCache:Url"),
        (&[("Sidecar__SharedCache__Prefix", "x:")], "Sidecar:SharedCache:Prefix"),
    ] {
        let (named, message) = problem(variables);
        assert_eq!(named, key);
        assert!(message.starts_with("this build has no shared cache: expected one made with the feature"), "{message}");
    }
    good(&[("Sidecar__SharedCache__Url", "")]);
}

#[cfg(feature = "shared-cache")]
#[test]
fn a_shared_cache_has_an_address_and_a_key() {
    let shared = good(&[STORE, STORE_KEY]).sidecar.shared_cache;
    assert_eq!(shared.prefix.as_deref(), Some("entra-sidecar:"));
    assert_eq!((shared.timeout, shared.session_lifetime), (Duration::from_millis(100), Duration::from_hours(7 * 24)));
    assert_eq!(problem(&[STORE]).0, "Sidecar:SharedCache:KeyFile");
    let (key, message) = problem(&[("Sidecar__SharedCache__Url", "cache.example:hunter2@6379"), STORE_KEY]);
    assert!(key == "Sidecar:SharedCache:Url" && !message.contains("hunter2"), "{message}");
    let nothing = "Sidecar:SharedCache:KeyFile: nothing is shared without Sidecar:SharedCache:Url";
    assert_eq!(warnings(&[STORE_KEY]), [nothing]);
}

#[cfg(feature = "shared-cache")]
#[test]
fn a_store_beyond_loopback_and_without_tls_is_a_warning() {
    for (url, warned) in [
        ("redis://:hunter2@cache.example", 1),
        ("rediss://:hunter2@cache.example", 0),
        ("redis://localhost", 0),
        ("unix:/run/redis.sock", 0),
    ] {
        let warnings = warnings(&[("Sidecar__SharedCache__Url", url), STORE_KEY]);
        assert_eq!(warnings.len(), warned, "{warnings:?}");
        assert!(!warnings.concat().contains("hunter2"));
    }
}

/// A last segment and a value that this kind of option accepts, and ones that it refuses.
fn samples(kind: &row::Kind) -> ((&'static str, &'static str), Option<(&'static str, &'static str)>) {
    use row::Kind;
    let of_value = |good, bad| (("X", good), Some(("X", bad)));
    match kind {
        Kind::Parameter => (("X", "v"), None),
        Kind::Bool => of_value("true", "1"),
        Kind::Url | Kind::BaseUrl => of_value("https://graph.microsoft.com/v1", "https://a@b/"),
        Kind::Guid => of_value(TENANT, "x"),
        Kind::Tenant => of_value("contoso.com", "a/b"),
        Kind::Method => of_value("PUT", "TRACE"),
        Kind::Header => (("X", "v"), Some(("Authorization", "v"))),
        Kind::HeaderValue => of_value("text/csv", "a\u{e9}"),
        Kind::MediaType => of_value("text/csv", "csv"),
        Kind::TokenParameter => (("X", "v"), Some(("client_id", "v"))),
        Kind::Scope => of_value("User.Read", "a\"b"),
        Kind::Scheme => of_value("PoP", "Basic"),
        Kind::PublicKey => of_value(r#"{"kid":"k"}"#, "nokey"),
        Kind::Json => of_value("{}", "[]"),
        Kind::RelativePath => of_value("me", "../x"),
        Kind::Plain => of_value("a/b", "a\u{1}b"),
        Kind::Token => of_value("B2C_1_edit", "a b"),
        Kind::Choice(..) => of_value("Cookie", "Via"),
        other => panic!("no option is of the kind {other:?}"),
    }
}

/// The options that one setting produces, or the error text.
type Outcome = Result<ApiOptions, String>;

fn outcome_of_settings(invocation: &Invocation) -> Outcome {
    match load(invocation) {
        Ok(loaded) => Ok(loaded.config.apis[0].options.clone()),
        Err(LoadError { problems, .. }) => Err(problems[0].message.rsplit_once("expected ").unwrap().1.to_owned()),
    }
}

fn outcome_of_file(key: &str, value: &str) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("appsettings.json");
    let settings = serde_json::json!({
        "AzureAd:TenantId": TENANT, "AzureAd:ClientId": CLIENT, "AzureAd:Domain": "contoso.onmicrosoft.com", key: value,
    });
    std::fs::write(&file, settings.to_string()).unwrap();
    outcome_of_settings(&Invocation { config_file: Some(file), ..Invocation::default() })
}

fn outcome_of_variables(key: &str, value: &str) -> Outcome {
    let base =
        [("AzureAd__TenantId", TENANT), ("AzureAd__ClientId", CLIENT), ("AzureAd__Domain", "contoso.onmicrosoft.com")];
    let own = (key.replace(':', "__"), value);
    let variables = base.iter().map(|(name, value)| ((*name).to_owned(), *value)).chain([own]);
    let variables = variables.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let empty = ("DOTNET_CONTENTROOT".into(), "/nonexistent".into());
    outcome_of_settings(&Invocation { variables: variables.chain([empty]).collect(), ..Invocation::default() })
}

fn outcome_of_query(name: &str, value: &str) -> Outcome {
    let query = format!(
        "optionsOverride.{}={}",
        crate::value::percent::encode_component(name),
        crate::value::percent::encode_component(value)
    );
    match crate::options::Overrides::parse(Some(&query)) {
        Ok(overrides) => Ok(overrides.options),
        Err(refused) => Err(refused.to_string().rsplit_once("expected ").unwrap().1.to_owned()),
    }
}

#[test]
fn every_option_is_one_option_wherever_it_is_said() {
    const ALSO_A_SECTION: &str = "Bearer, PoP, or the name of another section with the keys of AzureAd";
    for row in options::ROWS {
        let slot::Field::Api(field) = row.field else { continue };
        let (good, bad) = samples(&row.kind);
        for (last, value) in std::iter::once(good).chain(bad) {
            let key = |last: &str| {
                let key = row.pattern.replacen('*', "Api", 1);
                key.strip_suffix('*').map(|stem| format!("{stem}{last}")).unwrap_or(key)
            };
            let key = key(last);
            let mut outcomes = Vec::new();
            if row.is_setting() {
                outcomes.extend([outcome_of_file(&key, value), outcome_of_variables(&key, value)]);
            }
            if row.is_override() {
                let name = key.trim_start_matches("DownstreamApis:Api:").replace(':', ".");
                outcomes.push(outcome_of_query(&name, value));
            }
            for outcome in &mut outcomes {
                assert_eq!(outcome.is_ok(), (last, value) == good, "{key}: {outcome:?}");
                match outcome {
                    // Settings also bring the defaults of other options.
                    Ok(options) => {
                        let untouched = field(options) == field(&mut ApiOptions::default());
                        assert!(!untouched, "{key} went nowhere");
                        let mut same = outcome_of_variables(&key, value).unwrap_or_else(|_| options.clone());
                        assert!(!row.is_setting() || field(options) == field(&mut same), "{key}");
                    }
                    // Settings also accept the name of a section.
                    Err(words) => *words = words.replace(ALSO_A_SECTION, "Bearer or PoP"),
                }
            }
            let words: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
            assert!(words.windows(2).all(|pair| pair[0] == pair[1]), "{key}: {words:?}");
        }
    }
}

#[test]
fn options_of_the_request_itself_are_not_in_the_header() {
    let refused: Vec<String> = Override::all().filter(|option| !option.in_header()).map(Override::name).collect();
    assert_eq!(
        refused,
        [
            "BaseUrl", "RelativePath", "HttpMethod", "AcceptHeader", "ContentType", "CustomHeader.<Name>",
            "ExtraHeaderParameters.<Name>", "ExtraQueryParameters.<Name>"
        ]
    );
}

#[test]
fn every_row_is_read_and_nothing_else() {
    // `keys::row` asserts that nothing else is read.
    keys::tests::READ.take();
    let variables = [
        ("urls", ""),
        ("AzureAd__ClientCredentials__0__ClientSecret", "s"),
        ("AzureAd__ClientCredentialsUsingManagedIdentity__IsEnabled", "true"),
        ("AzureAd__ExtraQueryParameters__dc", "x"),
        ("DownstreamApis__X__Scopes", "s"),
        ("Kestrel__Endpoints__Http__Url", "http://127.0.0.1:5"),
        ("HTTP_PORTS", ""),
        ("Logging__LogLevel__Default", "Warning"),
        ("Logging__LogLevel__Access", "Warning"),
        ("Logging__LogLevel__Other", "Warning"),
        ("Logging__Console__LogLevel__Other", "Warning"),
        ("Logging__Console__FormatterName", "json"),
        ("Logging__Format", "json"),
    ];
    good(&variables);
    let read = keys::tests::READ.take();
    // `Sidecar:AllowInsecureUpstream` decides instead.
    let without_effect = ["AzureAd:RequireHttpsMetadata"];
    let unread: Vec<_> = table::rows()
        .filter(|row| {
            row.is_setting() && !matches!(row.kind, row::Kind::Unused) && !without_effect.contains(&row.pattern)
        })
        .map(|row| row.pattern)
        .filter(|pattern| !read.contains(pattern))
        .collect();
    assert!(unread.is_empty(), "{unread:?}");
}

/// A misspelt key in a branch that no test reaches would pass the test above.
#[test]
fn every_key_in_a_call_of_the_reader_is_known() {
    const VARIABLES: [&str; 4] =
        ["ASPNETCORE_ENVIRONMENT", "AZURE_FEDERATED_TOKEN_FILE", "SSL_CERT_DIR", "SSL_CERT_FILE"];
    let mut seen = 0;
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for call in text.split("reader.").skip(1) {
            let (method, rest) = call.split_once('(').unwrap_or_default();
            let Some(rest) = rest.trim_start().strip_prefix('"') else { continue };
            let key = rest.split('"').next().unwrap();
            let known = keys::find(key, &[]).is_some() || keys::is_section(key, &[]) || VARIABLES.contains(&key);
            assert!(known, "reader.{method}({key:?})");
            seen += 1;
        }
    }
    assert!(seen > 20, "found {seen} calls");
}
