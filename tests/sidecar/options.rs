//! Which registration, tenant, scopes and extras a token is asked for with: docs/endpoints.md,
//! "Query parameters".

use local_tenant::directory::{
    AGENT_ID, APP_ID, APP_SECRET, OTHER_APP_ID, OTHER_APP_SECRET, OTHER_TENANT_DOMAIN, OTHER_TENANT_ID, TENANT_ID,
    USER_IDENTITY_CLIENT_ID,
};
use local_tenant::message::percent_encode;
use local_tenant::{Kind, LocalTenant, Options};
use serde_json::{Value, json};

use super::support::{Request, Scene, Sidecar, claims};
use super::wire::{acquire, is_exactly, last, requests};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";
const DOWN: &str = "/AuthorizationHeader/Down";
const OPEN: &str = "/AuthorizationHeaderUnauthenticated/Down";

/// APIs of three registrations: the usual one, `Partner`, and `Abroad` in another tenant.
fn with_registrations() -> (Scene, LocalTenant) {
    let (scene, elsewhere) = (Scene::new(), LocalTenant::start(Options::default()));
    let own = scene.settings["AzureAd:Instance"].clone();
    let scene = scene
        .with("Partner:Instance", &own)
        .with("Partner:TenantId", TENANT_ID)
        .with("Partner:ClientId", OTHER_APP_ID)
        .with("Partner:ClientSecret", OTHER_APP_SECRET)
        .with("Abroad:Instance", &format!("{}/", elsewhere.base_url()))
        .with("Abroad:TenantId", OTHER_TENANT_ID)
        .with("Abroad:ClientId", APP_ID)
        .with("Abroad:ClientSecret", APP_SECRET)
        .with("DownstreamApis:Partner:Scopes", "api://downstream/.default")
        .with("DownstreamApis:Partner:AcquireTokenOptions:AuthenticationOptionsName", "Partner")
        .with("DownstreamApis:Abroad:Scopes", "api://downstream/.default")
        .with("DownstreamApis:Abroad:AcquireTokenOptions:AuthenticationOptionsName", "abroad")
        .with("DownstreamApis:Same:Scopes", "api://downstream/.default")
        .with("DownstreamApis:Same:AcquireTokenOptions:AuthenticationOptionsName", "AzureAd");
    (scene, elsewhere)
}

#[test]
fn an_api_acquires_through_the_registration_that_it_names() {
    let (scene, elsewhere) = with_registrations();
    let sidecar = scene.start();
    let get = |api: &str| sidecar.get(&APP.replace("/App", api)).token();
    let client = |token: &str| claims(token)["azp"].clone();
    let (app, partner, abroad) = (get("/App"), get("/Partner"), get("/Abroad"));
    assert_eq!((client(&app), client(&partner), client(&abroad)), (json!(APP_ID), json!(OTHER_APP_ID), json!(APP_ID)));
    assert_eq!((get("/Same"), get("/Partner"), get("/Abroad")), (app, partner, abroad.clone()));
    assert_eq!((requests(&scene.tenant).len(), requests(&elsewhere).len()), (2, 1));
    assert_eq!(claims(&abroad)["tid"], OTHER_TENANT_ID);
    let fields = [
        ("client_id", OTHER_APP_ID),
        ("client_secret", OTHER_APP_SECRET),
        ("scope", "api://downstream/.default"),
        ("grant_type", "client_credentials"),
        ("client_info", "2"),
    ];
    is_exactly(&last(&scene.tenant), &fields, &[]);
}

/// Callers are the first registration's: Entra says so.
#[test]
fn a_callers_token_is_no_proof_to_another_registration() {
    let (scene, _elsewhere) = with_registrations();
    let sidecar = scene.start().with_keys();
    let user = "optionsOverride.Scopes=api://downstream/read&optionsOverride.RequestAppToken=false";
    let alice = scene.user("alice");
    let answer = sidecar.get_as(&alice, &format!("/AuthorizationHeader/Partner?{user}")).expect(500).json();
    assert_eq!(answer["extensions"]["errorCodes"], json!([500_131]), "{answer}");
}

#[test]
fn an_agents_blueprint_is_the_named_registration() {
    let (scene, _elsewhere) = with_registrations();
    let sidecar = scene.start();
    sidecar.get(&format!("{}?AgentIdentity={AGENT_ID}", APP.replace("/App", "/Partner"))).expect(500);
    let sent = last(&scene.tenant);
    assert_eq!((sent.field("client_id"), sent.field("fmi_path")), (Some(OTHER_APP_ID), Some(AGENT_ID)));
}

#[test]
fn no_caller_chooses_the_registration() {
    let (scene, _elsewhere) = with_registrations();
    scene.start().get(&format!("{APP}?{}", acquire("AuthenticationOptionsName", "Partner"))).expect(400);
}

#[test]
fn capabilities_are_said_once_whatever_the_caller_demands() {
    let scene = Scene::new().with("AzureAd:ClientCapabilities:0", "cp1").with("AzureAd:ClientCapabilities:1", "cp2");
    let sidecar = scene.start().with_keys();
    let own = r#"{"access_token":{"xms_cc":{"values":["cp1","cp2"]}}}"#;
    for (demand, sent) in [
        ("{}", own),
        (
            r#"{"access_token":{"xms_cc":{"values":["cp2","cp3"]}}}"#,
            r#"{"access_token":{"xms_cc":{"values":["cp1","cp2","cp3"]}}}"#,
        ),
        (
            r#"{"access_token":null,"id_token":{"a":null}}"#,
            r#"{"access_token":{"xms_cc":{"values":["cp1","cp2"]}},"id_token":{"a":null}}"#,
        ),
        (
            r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#,
            r#"{"access_token":{"xms_cc":{"values":["cp1","cp2"]},"nbf":{"essential":true,"value":"1"}}}"#,
        ),
    ] {
        sidecar.get(&format!("{APP}?{}", acquire("Claims", demand))).expect(200);
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(parse(last(&scene.tenant).field("claims").unwrap()), parse(sent), "{demand}");
    }
    // Capabilities alone do not keep a token from being served again.
    let alice = scene.user("alice");
    assert_eq!(sidecar.get_as(&alice, DOWN).token(), sidecar.get_as(&alice, DOWN).token());
    assert_eq!(last(&scene.tenant).field("claims"), Some(own));
    assert_eq!(requests(&scene.tenant).len(), 5);
    for demand in ["[]", "x", "{", "null", "\"a\"", "{}{}"] {
        let body = sidecar.get(&format!("{APP}?{}", acquire("Claims", demand))).expect(400).body;
        assert!(body.contains("AcquireTokenOptions.Claims: expected a JSON object"), "{body}");
    }
}

/// With extras of the registration and of the API `App`.
fn with_extras() -> Scene {
    Scene::new()
        .with("AzureAd:ExtraQueryParameters:dc", "slice")
        .with("AzureAd:ExtraQueryParameters:who", "registration")
        .with("DownstreamApis:App:AcquireTokenOptions:ExtraQueryParameters:who", "the api")
        .with("DownstreamApis:App:AcquireTokenOptions:ExtraHeadersParameters:X-Extra", "one")
}

/// Extras of the caller, and the query to Entra that they make.
fn more() -> (String, &'static str) {
    let more = [("ExtraQueryParameters.who", "a&b=c"), ("ExtraQueryParameters.x", "\u{e9}")];
    (more.map(|(name, value)| acquire(name, value)).join("&"), "dc=slice&who=a%26b%3Dc&x=%C3%A9")
}

#[test]
fn extra_fields_come_from_registration_api_and_caller() {
    let scene = with_extras();
    let sidecar = scene.start();
    let configured = sidecar.get(APP).token();
    assert_eq!(sidecar.get(APP).token(), configured);
    let sent = last(&scene.tenant).request;
    assert_eq!((sent.query.as_str(), sent.header("x-extra")), ("dc=slice&who=the%20api", Some("one")));
    let (more, query) = more();
    let overridden = sidecar.get(&format!("{APP}?{more}")).token();
    assert_ne!(overridden, configured, "another request of Entra is another token");
    assert_eq!(sidecar.get(&format!("{APP}?{more}")).token(), overridden);
    assert_eq!(last(&scene.tenant).request.query, query);
    assert_eq!(requests(&scene.tenant).len(), 2);
}

#[test]
fn a_callers_extra_fields_go_with_the_last_leg_only() {
    let scene = with_extras();
    let (more, query) = more();
    scene
        .start()
        .get(&format!("{OPEN}?AgentIdentity={AGENT_ID}&AgentUsername=agent-user@contoso.onmicrosoft.com&{more}"))
        .expect(200);
    let queries: Vec<_> = requests(&scene.tenant).into_iter().map(|sent| sent.request.query).collect();
    let own = "dc=slice&who=registration";
    assert_eq!(queries, [own, own, query]);
}

#[test]
fn an_extra_field_needs_a_name() {
    let scene = Scene::new();
    scene.start().get(&format!("{APP}?{}", acquire("ExtraQueryParameters.", "x"))).expect(400);
}

#[test]
fn an_override_replaces_its_own_key_and_leaves_the_others() {
    let scene = Scene::new()
        .with("DownstreamApis:Down:AcquireTokenOptions:CorrelationId", "11111111-2222-4333-8444-555555555555")
        .with("DownstreamApis:App:AcquireTokenOptions:Tenant", OTHER_TENANT_DOMAIN);
    let sidecar = scene.start().with_keys();
    let alice = scene.user("alice");
    let scopes = "optionsOverride.Scopes";
    for (target, scope, tenant) in [
        (DOWN.to_owned(), "api://downstream/read offline_access openid profile", TENANT_ID),
        (
            format!("{DOWN}?{scopes}=api://downstream/write&OPTIONSOVERRIDE.SCOPES=api://downstream/read"),
            "api://downstream/read api://downstream/write offline_access openid profile",
            TENANT_ID,
        ),
        (
            format!("{DOWN}?{scopes}=OpenID&{scopes}=https://graph.microsoft.com/User.Read"),
            "https://graph.microsoft.com/User.Read offline_access openid profile",
            TENANT_ID,
        ),
        // Empty is as if absent.
        (
            format!(
                "{DOWN}?{scopes}=&optionsOverride.RequestAppToken=&{}&{scopes}=api://downstream/write&{scopes}=",
                acquire("Tenant", "")
            ),
            "api://downstream/write offline_access openid profile",
            TENANT_ID,
        ),
        ("/AuthorizationHeader/App".to_owned(), "api://downstream/.default", OTHER_TENANT_DOMAIN),
        (
            format!("/AuthorizationHeader/App?{}&{}", acquire("Tenant", "a.example"), acquire("Tenant", TENANT_ID)),
            "api://downstream/.default",
            TENANT_ID,
        ),
        (
            format!("/AuthorizationHeader/App?optionsOverride.RequestAppToken=False&{}", acquire("Tenant", TENANT_ID)),
            "api://downstream/.default offline_access openid profile",
            TENANT_ID,
        ),
        (
            format!(
                "{DOWN}?optionsOverride.RequestAppToken=false&optionsOverride.RequestAppToken=TRUE&{scopes}=https://graph.microsoft.com/.default"
            ),
            "https://graph.microsoft.com/.default",
            TENANT_ID,
        ),
    ] {
        let before = requests(&scene.tenant).len();
        sidecar.get_as(&alice, &target).expect(200);
        let sent = requests(&scene.tenant).split_off(before);
        assert_eq!((sent.len(), sent[0].field("scope")), (1, Some(scope)), "{target}");
        assert_eq!(sent[0].request.path, format!("/{tenant}/oauth2/v2.0/token"), "{target}");
        let id = sent[0].request.header("client-request-id").unwrap();
        assert_eq!(id == "11111111-2222-4333-8444-555555555555", target.starts_with(DOWN), "{target}");
    }
}

#[test]
fn scopes_are_a_set_without_order_or_case() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let alice = scene.user("alice");
    for scopes in
        [["api://downstream/write", "api://downstream/read"], ["api://downstream/read", "API://downstream/WRITE"]]
    {
        let scopes = scopes.map(|scope| format!("optionsOverride.Scopes={scope}")).join("&");
        sidecar.get_as(&alice, &format!("{DOWN}?{scopes}")).expect(200);
    }
    assert_eq!(requests(&scene.tenant).len(), 1);
}

#[test]
fn what_is_malformed_is_named_and_asks_nobody() {
    let scene = Scene::new();
    let sidecar = scene.start();
    for (query, key) in [
        (acquire("Tenant", "a/../b"), "AcquireTokenOptions.Tenant: expected a tenant's GUID or domain name"),
        (acquire("Tenant", "common?x"), "AcquireTokenOptions.Tenant: expected"),
        (acquire("Tenant", "common"), "AcquireTokenOptions.Tenant: expected"),
        (acquire("Tenant", "Organizations"), "AcquireTokenOptions.Tenant: expected"),
        (acquire("Tenant", "consumers"), "AcquireTokenOptions.Tenant: expected"),
        (acquire("ExtraQueryParameters.client_id", "x"), "a parameter other than the fields of the token request"),
        (acquire("ManagedIdentity.UserAssignedClientId", "x"), "UserAssignedClientId: expected a GUID"),
        ("optionsOverride.Tenant=x".to_owned(), "did you mean optionsOverride.AcquireTokenOptions.Tenant?"),
        (acquire("ForceRefresh", "yes"), "AcquireTokenOptions.ForceRefresh: expected true or false"),
        (acquire("CorrelationId", "x"), "AcquireTokenOptions.CorrelationId: expected a GUID"),
        (acquire("FmiPath", "a\nb"), "AcquireTokenOptions.FmiPath: expected"),
        (acquire("LongRunningWebApiSessionKey", "a\tb"), "AcquireTokenOptions.LongRunningWebApiSessionKey: expected"),
        (acquire("AuthenticationScheme", "Basic"), "AcquireTokenOptions.AuthenticationScheme: expected Bearer or PoP"),
        (acquire("ClientId", "x"), "AcquireTokenOptions.ClientId is unknown; did you mean optionsOverride."),
        ("optionsOverride.Scopes=a%22b".to_owned(), "Scopes: expected a scope"),
        ("optionsOverride.Scopes=%ff".to_owned(), "is not percent-encoded UTF-8"),
        ("optionsOverride.BaseUrl=x".to_owned(), "BaseUrl: expected"),
        ("optionsOverride.=x".to_owned(), "is unknown"),
    ] {
        let detail = sidecar.get(&format!("{APP}?{query}")).expect(400).json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(key), "{query}: {detail}");
    }
    assert_eq!(requests(&scene.tenant).len(), 0);
}

/// With these scopes in place of the configured ones.
fn with_scopes(target: &str, scopes: &[&str]) -> String {
    let scopes = scopes.iter().map(|scope| format!("&optionsOverride.Scopes={}", percent_encode(scope)));
    let separator = if target.contains('?') { "" } else { "?" };
    format!("{target}{separator}{}", scopes.collect::<String>())
}

/// An API of a managed identity, beside the usual two.
fn with_machine() -> (Scene, Sidecar) {
    let identity = "DownstreamApis:Machine:AcquireTokenOptions:ManagedIdentity:UserAssignedClientId";
    let scene =
        Scene::new().with(identity, USER_IDENTITY_CLIENT_ID).with("DownstreamApis:Machine:Scopes", "api://downstream");
    let sidecar = scene.start_with(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", scene.tenant.base_url())]);
    (scene, sidecar)
}

#[test]
fn an_application_token_is_for_one_resource_as_a_whole() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let agent = format!("{APP}?AgentIdentity={AGENT_ID}");
    for (scope, sent) in [
        ("api://downstream/.default", "api://downstream/.default"),
        ("api://downstream", "api://downstream/.default"),
        ("https://graph.microsoft.com", "https://graph.microsoft.com/.default"),
        ("https://graph.microsoft.com/", "https://graph.microsoft.com//.default"),
        ("d0d0d0d0-1111-4222-8333-444455556666", "d0d0d0d0-1111-4222-8333-444455556666/.default"),
    ] {
        for target in [APP, &agent] {
            sidecar.get(&with_scopes(target, &[scope])).expect(200);
        }
        assert!(requests(&scene.tenant).iter().any(|request| request.field("scope") == Some(sent)), "{scope}");
    }
}

#[test]
fn a_managed_identitys_token_is_for_a_bare_resource() {
    let (scene, sidecar) = with_machine();
    sidecar.get(&APP.replace("/App", "/Machine")).expect(200);
    let machine = scene.tenant.journal().of(Kind::ManagedIdentity).pop().unwrap().request;
    assert_eq!(machine.query_value("resource").as_deref(), Some("api://downstream"));
}

#[test]
fn scopes_of_an_application_token_that_are_no_resource_are_400() {
    let (scene, sidecar) = with_machine();
    let agent = format!("{APP}?AgentIdentity={AGENT_ID}");
    let detail = "An app token for the API 'App' needs a single scope that ends in '/.default'";
    for scopes in [
        &["User.Read"][..],
        &["api://downstream/read"],
        &["/.default"],
        &[".default"],
        &["https://graph.microsoft.com//"],
        &["api://downstream/.default", "https://graph.microsoft.com/.default"],
        &["api://downstream/.default api://downstream/read"],
    ] {
        let machine = with_scopes(&APP.replace("/App", "/Machine"), scopes);
        sidecar.get(&with_scopes(APP, scopes)).problem(400, detail);
        sidecar.get(&with_scopes(&agent, scopes)).problem(400, detail);
        sidecar.get(&machine).problem(400, &detail.replace("App'", "Machine'"));
    }
    let journal = scene.tenant.journal();
    assert_eq!((journal.count(Kind::Token), journal.count(Kind::ManagedIdentity)), (0, 0));
}

#[test]
fn an_api_without_scopes_is_400() {
    let scene = Scene::new().with("DownstreamApis:None:BaseUrl", "https://api.example/");
    let sidecar = scene.start();
    for target in
        ["/AuthorizationHeaderUnauthenticated/none", "/DownstreamApiUnauthenticated/None?optionsOverride.Scopes=%20"]
    {
        sidecar.get(target).problem(400, "No scopes found for the API 'None' or in optionsOverride");
    }
    assert_eq!(scene.tenant.journal().count(Kind::Token), 0);
}

#[test]
fn what_is_switched_off_is_refused_and_names_its_switch() {
    let targets = [
        ("GetAuthorizationHeader", "/AuthorizationHeader/App"),
        ("GetAuthorizationHeaderUnauthenticated", APP),
        ("CallDownstreamApi", "/DownstreamApi/App"),
        ("CallDownstreamApiUnauthenticated", "/DownstreamApiUnauthenticated/App"),
    ];
    let ask =
        |sidecar: &Sidecar, token: &str, target: &str, query: &str| sidecar.get_as(token, &format!("{target}?{query}"));
    let query = acquire("FmiPath", "x");
    for (switch, off) in targets {
        let scene = Scene::new().with(&format!("Sidecar:AllowOverrides:{switch}"), "false");
        let sidecar = scene.start().with_keys();
        let alice = scene.user("alice");
        for (_, target) in targets {
            let status = ask(&sidecar, &alice, target, &query).status;
            assert_eq!(status, if target == off { 403 } else { 200 }, "{switch} {target}");
        }
        let refused = |query: &str| {
            let detail = ask(&sidecar, &alice, off, query).expect(403).json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains(&format!("Sidecar:AllowOverrides:{switch} is false")), "{detail}");
        };
        refused(&format!("AgentIdentity={AGENT_ID}"));
        refused("optionsOverride.Scopes=api://downstream/.default");
        refused("optionsOverride.RequestAppToken=false");
        // Nothing is asked for with these.
        ask(&sidecar, &alice, off, "optionsOverride.Scopes=&AgentIdentity=&other=1").expect(200);
        // Syntax and the API's name come first.
        ask(&sidecar, &alice, off, "optionsOverride.Scops=x").expect(400);
        ask(&sidecar, &alice, &off.replace("App", "Nope").replace("NopeiUn", "ApiUn"), &query).expect(404);
    }
}

#[test]
fn beyond_loopback_strangers_choose_nothing_unless_they_may() {
    let scene = Scene::new().with("Sidecar:AllowedCallers", "127.0.0.0/8;10.0.0.0/8");
    let query = acquire("FmiPath", "x");
    for (scene, status) in [(scene, 403), (Scene::new().with("Sidecar:AllowedCallers", "127.0.0.0/8"), 200)] {
        let sidecar = scene.start().with_keys();
        for target in [APP, "/DownstreamApiUnauthenticated/App"] {
            sidecar.get(target).expect(200);
            sidecar.get(&format!("{target}?{query}")).expect(status);
        }
        sidecar.get_as(&scene.user("alice"), &format!("{DOWN}?{query}")).expect(200);
        let scene = scene.with("Sidecar:AllowOverrides:GetAuthorizationHeaderUnauthenticated", "true");
        scene.start().get(&format!("{APP}?{query}")).expect(200);
    }
    let open = Scene::new().with("Sidecar:AllowedCallers", "*");
    open.start_with(&[("ASPNETCORE_ENVIRONMENT", "Development")]).get(&format!("{APP}?{query}")).expect(200);
}

#[test]
fn an_authority_says_instance_and_tenant_in_one() {
    let scene = Scene::new();
    let authority = format!("{}/{TENANT_ID}/v2.0", scene.tenant.base_url());
    let mut scene = scene.with("AzureAd:Authority", &authority);
    for name in ["AzureAd:Instance", "AzureAd:TenantId"] {
        scene.settings.remove(name);
    }
    let sidecar = scene.start().with_keys();
    sidecar.get(APP).expect(200);
    sidecar.get_as(&scene.user("alice"), DOWN).expect(200);
    let forms = requests(&scene.tenant);
    assert!(forms.iter().all(|sent| sent.request.path == format!("/{TENANT_ID}/oauth2/v2.0/token")));
    sidecar.get(&format!("{APP}?{}", acquire("Tenant", OTHER_TENANT_ID))).expect(200);
    assert_eq!(last(&scene.tenant).request.path, format!("/{OTHER_TENANT_ID}/oauth2/v2.0/token"));
}

#[test]
fn a_name_is_one_in_any_case_and_encoding() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let token = sidecar.get(APP).token();
    for name in ["app", "APP", "%61pp", "A%70%70"] {
        assert_eq!(sidecar.get(&APP.replace("/App", &format!("/{name}"))).token(), token, "{name}");
    }
    let response = Request::get(APP).header("Authorization", "Bearer not-even-a-token").send(sidecar.address);
    assert_eq!(response.token(), token, "where none is expected, none is looked at");
}
