use std::collections::BTreeMap;

use super::super::AgentUser;
use super::*;
use crate::config::ManagedIdentity;
use crate::value::bound_key::BoundKey;
use crate::value::url::Url;

fn parse(query: &str) -> Result<Overrides, String> {
    Overrides::parse(Some(query)).map_err(|invalid| invalid.to_string())
}

/// The error for `optionsOverride.<pair>`.
fn refused(pair: &str) -> String {
    parse(&format!("optionsOverride.{pair}")).expect_err(pair)
}

const TOKEN_FIELD: &str =
    "a parameter other than the fields of the token request (client_id, scope, grant_type and the like)";

#[test]
fn every_key_is_read_in_any_case() {
    let guid = "5F0A5B1C-8A3E-4D0B-9B1E-0123456789AB";
    let query = format!(
        "OptionsOverride.Scopes=User.Read&optionsoverride.SCOPES=Mail.Read&optionsOverride.requestapptoken=TRUE\
         &optionsOverride.BaseUrl=https://graph.microsoft.com/beta&optionsOverride.RelativePath=users%3F%24top%3D3\
         &optionsOverride.HttpMethod=Patch&optionsOverride.AcceptHeader=text/csv&optionsOverride.ContentType=text/plain\
         &optionsOverride.CustomHeader.Prefer=x&optionsOverride.ExtraHeaderParameters.X-Two=2\
         &optionsOverride.ExtraQueryParameters.$Top=3&optionsOverride.AcquireTokenOptions.Tenant=contoso.com\
         &optionsOverride.AcquireTokenOptions.ForceRefresh=true&optionsOverride.AcquireTokenOptions.Claims=%7B%7D\
         &optionsOverride.AcquireTokenOptions.CorrelationId={guid}\
         &optionsOverride.AcquireTokenOptions.AuthenticationScheme=pop\
         &optionsOverride.AcquireTokenOptions.PopPublicKey=%7B%22kid%22:%22k%22%7D&optionsOverride.AcquireTokenOptions.PopClaim=%7B%7D\
         &optionsOverride.AcquireTokenOptions.FmiPath=a/b\
         &optionsOverride.AcquireTokenOptions.LongRunningWebApiSessionKey=k\
         &optionsOverride.AcquireTokenOptions.ManagedIdentity.UserAssignedClientId=5F0A5B1C-8A3E-4D0B-9B1E-0123456789AB\
         &optionsOverride.AcquireTokenOptions.ExtraQueryParameters.dc=x&agentidentity=a&AGENTUSERID={guid}"
    );
    let map = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let options = ApiOptions {
        scopes: vec!["User.Read".into(), "Mail.Read".into()],
        request_app_token: Some(true),
        base_url: Url::parse("https://graph.microsoft.com/beta").ok(),
        relative_path: Some("users?$top=3".into()),
        http_method: Some("PATCH".into()),
        accept: Some("text/csv".into()),
        content_type: Some("text/plain".into()),
        extra_headers: [("prefer".into(), "x".into()), ("x-two".into(), "2".into())].into(),
        extra_query: map("$Top", "3"),
        tenant: Some("contoso.com".into()),
        force_refresh: Some(true),
        claims: Some("{}".into()),
        correlation_id: Some(guid.to_lowercase()),
        pop: Some(true),
        pop_public_key: Some(BoundKey::from_kid("k".into())),
        pop_claims: Some("{}".into()),
        fmi_path: Some("a/b".into()),
        session_key: Some("k".into()),
        managed_identity: Some(ManagedIdentity { client_id: Some("5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab".into()) }),
        token_query: map("dc", "x"),
        ..ApiOptions::default()
    };
    let agent = Some(Agent { identity: "a".into(), user: Some(AgentUser::Id(guid.to_lowercase())) });
    assert_eq!(parse(&query), Ok(Overrides { agent, options }));
}

#[test]
fn nothing_given_is_empty() {
    assert!(Overrides::parse(None).unwrap().is_empty());
    for query in
        ["", "&", "a=b", "optionsOverrides.Scopes=x", "optionsOverride=x", "optionsOverride.Scopes=", "AgentIdentity"]
    {
        assert!(parse(query).unwrap().is_empty(), "{query}");
    }
    for query in ["AgentIdentity=a", "optionsOverride.Scopes=x", "optionsOverride.RequestAppToken=false"] {
        assert!(!parse(query).unwrap().is_empty(), "{query}");
    }
}

#[test]
fn the_last_value_of_a_repeated_key_counts() {
    let parsed = parse(
        "optionsOverride.HttpMethod=GET&optionsOverride.HttpMethod=PUT&optionsOverride.HttpMethod=\
         &optionsOverride.CustomHeader.X=1&optionsOverride.ExtraHeaderParameters.x=2",
    )
    .unwrap()
    .options;
    assert_eq!(parsed.http_method.as_deref(), Some("PUT"));
    assert_eq!(parsed.extra_headers, BTreeMap::from([("x".into(), "2".into())]));
}

#[test]
fn a_value_that_does_not_count_may_be_malformed() {
    for (key, malformed, good) in [
        ("RequestAppToken", "bogus", "true"),
        ("HttpMethod", "TRACE", "PUT"),
        ("RelativePath", "../x", "x"),
        ("CustomHeader.x", "%0A", "y"),
        ("AcquireTokenOptions.Tenant", "a%2Fb", "contoso.com"),
    ] {
        let twice =
            |first: &str, last: &str| parse(&format!("optionsOverride.{key}={first}&optionsOverride.{key}={last}"));
        assert_eq!(twice(malformed, good), parse(&format!("optionsOverride.{key}={good}")), "{key}");
        assert!(twice(good, malformed).is_err(), "{key}");
    }
}

#[test]
fn blanks_come_as_plus_or_encoded_and_separate_scopes() {
    let parsed =
        parse("optionsOverride.Scopes=a+b%20c&optionsOverride.Scopes=d&optionsOverride.CustomHeader.X=a+b%2Bc");
    let parsed = parsed.unwrap().options;
    assert_eq!(parsed.scopes, ["a", "b", "c", "d"]);
    assert_eq!(parsed.extra_headers["x"], "a b+c");
}

#[test]
fn an_unknown_override_is_named_with_its_nearest_neighbour() {
    for (pair, nearest) in [
        ("Scope=x", "Scopes"),
        ("RelativPath=x", "RelativePath"),
        ("AcquireTokenOptions.Tenat=x", "AcquireTokenOptions.Tenant"),
        ("AcquireTokenOptions.AuthenticationOptionsName=x", "AcquireTokenOptions.AuthenticationScheme"),
        ("CustomHeader=x", "CustomHeader.<Name>"),
        ("CustomHeader[X]=x", "CustomHeader.<Name>"),
        // A match of the last segment beats a smaller distance.
        ("Tenant=x", "AcquireTokenOptions.Tenant"),
        ("claims=x", "AcquireTokenOptions.Claims"),
        ("AcquireTokenOption.FmiPath=x", "AcquireTokenOptions.FmiPath"),
        ("ManagedIdentity.UserAssignedClientId=x", "AcquireTokenOptions.ManagedIdentity.UserAssignedClientId"),
        ("AcquireTokenOptions.Scopes=x", "Scopes"),
        // A name without dots is compared with last segments.
        ("Tenat=x", "AcquireTokenOptions.Tenant"),
        ("CorrelationID2=x", "AcquireTokenOptions.CorrelationId"),
        ("Scope=", "Scopes"),
    ] {
        let key = pair.split('=').next().unwrap_or_default();
        assert_eq!(refused(pair), format!("optionsOverride.{key} is unknown; did you mean optionsOverride.{nearest}?"));
    }
}

#[test]
fn an_unknown_agent_key_never_ends_in_another_identity() {
    for (query, key, nearest) in [
        ("AgentId=x", "AgentId", "AgentUserId"),
        ("AgentIdentiy=x", "AgentIdentiy", "AgentIdentity"),
        ("AgentIdentity=a&AgentUser=u", "AgentUser", "AgentUserId"),
        ("AGENTUSERNAM=u", "AGENTUSERNAM", "AgentUsername"),
        ("AgentIdentity=a&agent=", "agent", "AgentUserId"),
        ("Agent%49d=x", "AgentId", "AgentUserId"),
        ("+AgentIdentity=x", " AgentIdentity", "AgentIdentity"),
        ("optionsOverride.AgentIdentity=x", "optionsOverride.AgentIdentity", "AgentIdentity"),
        ("other=1&Agent-Identity", "Agent-Identity", "AgentIdentity"),
    ] {
        assert_eq!(parse(query), Err(format!("{key} is unknown; did you mean {nearest}?")), "{query}");
    }
    assert!(parse("agen=x&user-agent=y").unwrap().is_empty());
}

#[test]
fn a_malformed_override_names_its_key_and_what_was_expected() {
    for (pair, expected) in [
        ("RequestAppToken=1", "true or false"),
        ("RequestAppToken=yes", "true or false"),
        ("AcquireTokenOptions.ForceRefresh=tru", "true or false"),
        ("AcquireTokenOptions.CorrelationId=x", "a GUID"),
        ("AcquireTokenOptions.Tenant=a%2Fb", "a tenant's GUID or domain name, common, organizations or consumers"),
        ("AcquireTokenOptions.Tenant=contoso", "a tenant's GUID or domain name, common, organizations or consumers"),
        ("AcquireTokenOptions.ManagedIdentity.UserAssignedClientId=m", "a GUID"),
        ("AcquireTokenOptions.ExtraQueryParameters.Client_ID=x", TOKEN_FIELD),
        ("AcquireTokenOptions.ExtraQueryParameters.grant_type=x", TOKEN_FIELD),
        ("AcquireTokenOptions.Claims=%7B", "a JSON object"),
        ("AcquireTokenOptions.Claims=[]", "a JSON object"),
        ("AcquireTokenOptions.PopClaims=x", "a JSON object"),
        ("AcquireTokenOptions.PopClaim=1", "a JSON object"),
        ("AcquireTokenOptions.AuthenticationScheme=Basic", "Bearer or PoP"),
        ("AcquireTokenOptions.FmiPath=a%00", "text of at most 2 KiB without control characters"),
        ("AcquireTokenOptions.ExtraQueryParameters.=x", "a parameter's name after the dot"),
        ("ExtraQueryParameters.=x", "a parameter's name after the dot"),
        ("HttpMethod=GET%20/", "the name of an HTTP method"),
        ("HttpMethod=connect", "an HTTP method other than CONNECT and TRACE"),
        ("HttpMethod=TRACE", "an HTTP method other than CONNECT and TRACE"),
        ("ContentType=json", "a media type such as application/json"),
        ("AcceptHeader=a%0D%0AX:y", "a header value of at most 8 KiB of visible ASCII characters"),
        ("CustomHeader.=x", "an HTTP header name after the dot"),
        ("BaseUrl=graph.microsoft.com", "an absolute http:// or https:// URL"),
        ("BaseUrl=https://a/?x", "a URL without a query"),
        ("BaseUrl=https://a/b/../c", "a path without the segments . and .."),
        ("BaseUrl=https://a@b/", "a URL without user name or password"),
        ("Scopes=a%0Ab", "a scope of visible ASCII characters"),
        ("Scopes=a%22b", "a scope of visible ASCII characters"),
    ] {
        let key = pair.split('=').next().unwrap_or_default();
        assert_eq!(refused(pair), format!("optionsOverride.{key}: expected {expected}"));
    }
}

#[test]
fn agent_parameters_are_given_once() {
    for key in ["AgentIdentity", "AgentUsername", "AgentUserId"] {
        let twice = format!("AgentIdentity=a&{key}=x&{}=x", key.to_uppercase());
        assert_eq!(parse(&twice), Err(format!("{key} may be given once only")));
    }
    assert_eq!(parse("AgentIdentity=&AgentIdentity=a").unwrap().agent.unwrap().identity, "a");
    assert_eq!(parse("AgentUsername=u"), Err("AgentUsername requires AgentIdentity to be specified".into()));
    assert!(parse("AgentIdentity=a%0Ab").is_err());
    assert!(parse("AgentIdentity=%20").is_err());
}

#[test]
fn encoding_is_strict_where_it_matters() {
    for query in [
        "optionsOverride.Scopes=%", "optionsOverride.Scopes=%ff", "AgentIdentity=%c3", "%zz=1", "optionsOverride.%ff=1",
    ] {
        assert!(parse(query).unwrap_err().ends_with("is not percent-encoded UTF-8"), "{query}");
    }
    // The value of an unrelated key is not decoded.
    assert!(parse("other=%").unwrap().is_empty());
    // A key may be percent-encoded too.
    assert_eq!(parse("optionsOverride%2EScopes=x").unwrap().options.scopes, ["x"]);
}

#[test]
fn the_query_has_a_budget() {
    let of_length = |length: usize| format!("a={}", "x".repeat(length - 2));
    assert!(parse(&of_length(MAX_QUERY)).is_ok());
    assert_eq!(parse(&of_length(MAX_QUERY + 1)), Err(format!("The query is longer than {MAX_QUERY} bytes")));
    let of_count = |count: usize| vec!["a=b"; count].join("&");
    assert!(parse(&of_count(MAX_PARAMETERS)).is_ok());
    let refused = format!("The query has more than {MAX_PARAMETERS} parameters");
    assert_eq!(parse(&of_count(MAX_PARAMETERS + 1)), Err(refused));
}

#[test]
fn the_header_of_options_says_what_the_request_does_not() {
    let header = |values: &[&str]| Overrides::parse_header(&mut values.iter().map(|value| value.as_bytes()));
    let text = "AgentIdentity=5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab&optionsOverride.Scopes=a&optionsOverride.RequestAppToken=true";
    assert_eq!(header(&[text]), Overrides::parse(Some(text)));
    assert_eq!(header(&[]), Ok(Overrides::default()));
    assert_eq!(header(&[" "]), Ok(Overrides::default()));
    assert_eq!(header(&["", ""]), Err(OptionsError::Repeated("X-Sidecar-Options")));
    for name in [
        "BaseUrl", "RelativePath", "HttpMethod", "ContentType", "AcceptHeader", "CustomHeader.X",
        "ExtraHeaderParameters.X", "ExtraQueryParameters.x",
    ] {
        let refused = header(&[&format!("optionsOverride.{name}=x")]);
        assert_eq!(refused, Err(OptionsError::NotInHeader(name.to_owned())), "{name}");
    }
    assert!(matches!(header(&["optionsOverride.Scope=a"]), Err(OptionsError::UnknownKey(..))));
}
