use super::super::Overrides;
use super::*;
use crate::config::testing::registration;
use crate::config::{Api, ApiOptions, Registration};

fn api(scopes: &[&str]) -> Api {
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    Api { name: "Graph".into(), options: ApiOptions { scopes, ..ApiOptions::default() }, ..Api::default() }
}

/// The selected flow, with `RequestAppToken` as configured.
fn flow(configured: bool, query: &str, authenticated: bool, inbound: Inbound<()>) -> String {
    let mut api = api(&["s"]);
    api.options.request_app_token = Some(configured);
    let overrides = Overrides::parse(Some(query)).unwrap();
    let options = Effective::merge(&api, &overrides).unwrap();
    let flow = Flow::select(&options, authenticated, inbound);
    if matches!(flow, Flow::Session(SessionKey { user: Some(()), .. })) {
        return "SessionOnBehalfOf".to_owned();
    }
    let name = format!("{flow:?}");
    name.split([' ', '(']).next().unwrap_or_default().to_owned()
}

#[test]
fn every_row_of_the_flow_table() {
    use Inbound::None;
    let (app_only, by_user) = (Inbound::AppOnly(()), Inbound::User(()));
    let app = "optionsOverride.RequestAppToken=true";
    let user = "AgentIdentity=a&AgentUsername=u@x";
    let identity = "optionsOverride.AcquireTokenOptions.ManagedIdentity.UserAssignedClientId=\
                    5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab";
    let key = "optionsOverride.AcquireTokenOptions.LongRunningWebApiSessionKey=k";
    let agent_app = &format!("AgentIdentity=a&{app}");
    let agent_key = &format!("AgentIdentity=a&{key}");
    let app_key = &format!("{app}&{key}");
    let identity_agent = &format!("{user}&{identity}");
    let user_key = &format!("{user}&{key}");
    for (configured, query, authenticated, inbound, expected) in [
        (false, "", true, by_user, "OnBehalfOf"),
        (false, "", true, app_only, "OnBehalfOf"),
        (false, "", true, None, "ClientCredentials"),
        (false, "", false, None, "ClientCredentials"),
        (false, "", false, by_user, "ClientCredentials"),
        (true, "", true, by_user, "ClientCredentials"),
        (true, "", true, app_only, "ClientCredentials"),
        (true, "optionsOverride.RequestAppToken=false", true, by_user, "OnBehalfOf"),
        (false, app, true, by_user, "ClientCredentials"),
        (false, "AgentIdentity=a", true, by_user, "AgentOnBehalfOf"),
        (false, "AgentIdentity=a", true, app_only, "AgentAutonomous"),
        (false, "AgentIdentity=a", true, None, "AgentAutonomous"),
        (false, "AgentIdentity=a", false, by_user, "AgentAutonomous"),
        (true, "AgentIdentity=a", true, by_user, "AgentAutonomous"),
        (false, agent_app, true, by_user, "AgentAutonomous"),
        (false, user, true, by_user, "AgentUser"),
        (false, user, true, app_only, "AgentUser"),
        (false, user, false, None, "AgentUser"),
        (true, user, false, None, "AgentUser"),
        (false, identity, true, by_user, "ManagedIdentity"),
        (false, identity, false, None, "ManagedIdentity"),
        (false, identity_agent, true, by_user, "ManagedIdentity"),
        (false, key, true, by_user, "SessionOnBehalfOf"),
        (false, key, true, None, "Session"),
        (false, key, false, None, "Session"),
        (false, key, false, by_user, "Session"),
        (false, key, true, app_only, "OnBehalfOf"),
        (false, agent_key, true, by_user, "SessionOnBehalfOf"),
        (false, agent_key, false, None, "Session"),
        (false, agent_key, true, app_only, "AgentAutonomous"),
        (false, user_key, true, by_user, "AgentUser"),
        (false, app_key, true, by_user, "ClientCredentials"),
        (false, app_key, false, None, "ClientCredentials"),
        (true, key, false, None, "ClientCredentials"),
    ] {
        let case = format!("{configured} {query} {authenticated} {inbound:?}");
        assert_eq!(flow(configured, query, authenticated, inbound), expected, "{case}");
    }
}

fn one_tenant() -> Registration {
    registration("https://login.microsoftonline.com/", "contoso.com")
}

#[test]
fn an_app_token_is_for_one_default_scope() {
    let guid = "00000003-0000-0000-c000-000000000000";
    let asked = |scopes: &[&str]| {
        let api = api(scopes);
        let none = Overrides::default();
        let options = Effective::merge(&api, &none).unwrap();
        Flow::<()>::ClientCredentials.scopes(&options, &one_tenant()).map(Cow::into_owned)
    };
    for (scope, expected) in [
        ("https://graph.microsoft.com/.default", "https://graph.microsoft.com/.default"),
        ("https://graph.microsoft.com/.Default", "https://graph.microsoft.com/.Default"),
        ("api://app/.default", "api://app/.default"),
        ("https://management.azure.com//.default", "https://management.azure.com//.default"),
        ("https://graph.microsoft.com", "https://graph.microsoft.com/.default"),
        // The slash is part of the resource's audience.
        ("https://management.azure.com/", "https://management.azure.com//.default"),
        ("api://app/", "api://app//.default"),
        ("api://AzureADTokenExchange", "api://AzureADTokenExchange/.default"),
        (guid, &format!("{guid}/.default")),
    ] {
        assert_eq!(asked(&[scope]), Ok(vec![expected.to_owned()]));
    }
    for scopes in [
        &["User.Read"][..],
        &["/.default"],
        &[".default"],
        &["https://graph.microsoft.com/User.Read"],
        &["https://graph.microsoft.com//"],
        &["https://graph.microsoft.com/?x"],
        &["https://"],
        &["https:///"],
        &["://x"],
        &["graph.microsoft.com"],
        &["https://a/.default", "https://b/.default"],
        &["https://a/.default", "User.Read"],
        &["https://a/.defaultx"],
        &["\u{e9}/.defaul\u{e9}"],
    ] {
        let refused = asked(scopes).unwrap_err().to_string();
        let text = "An app token for the API 'Graph' needs a single scope that ends in '/.default'";
        assert_eq!(refused, text, "{scopes:?}");
    }
}

#[test]
fn an_app_token_is_issued_by_one_tenant() {
    let refused = |tenant: &str, user: bool| {
        let mut api = api(&["https://a/.default"]);
        api.options.tenant = Some(tenant.into());
        let none = Overrides::default();
        let options = Effective::merge(&api, &none).unwrap();
        let flow: Flow<()> = if user { Flow::OnBehalfOf(()) } else { Flow::ClientCredentials };
        flow.scopes(&options, &one_tenant()).is_err()
    };
    for tenant in ["common", "Organizations", "consumers"] {
        assert!(refused(tenant, false), "{tenant}");
        assert!(!refused(tenant, true), "{tenant}");
    }
    assert!(!refused("contoso.com", false));
    let api = api(&["https://a/.default"]);
    let none = Overrides::default();
    let options = Effective::merge(&api, &none).unwrap();
    let refused = |registration: &Registration| Flow::<()>::ClientCredentials.scopes(&options, registration).is_err();
    let several = registration("https://login.microsoftonline.com/", "common");
    let home = Registration { app_home_tenant: Some("contoso.com".to_owned()), ..several.clone() };
    assert_eq!((refused(&several), refused(&home), refused(&one_tenant())), (true, false, false));
}

#[test]
fn a_users_token_takes_the_scopes_as_they_are() {
    let api = api(&["User.Read", "Mail.Read"]);
    let none = Overrides::default();
    let options = Effective::merge(&api, &none).unwrap();
    assert_eq!(
        Flow::<()>::OnBehalfOf(()).scopes(&options, &one_tenant()).unwrap().as_ref(),
        ["User.Read", "Mail.Read"]
    );
}
