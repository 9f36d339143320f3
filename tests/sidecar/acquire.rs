//! `/AuthorizationHeader*`: see docs/endpoints.md.

use local_tenant::directory::{AGENT_ID, APP_ID, APP_SECRET, OTHER_APP_ID, TENANT_ID, USER_IDENTITY_CLIENT_ID};
use local_tenant::{Action, Answer, Fault, Kind};
use serde_json::json;

use super::support::{Request, Scene, Sidecar, claims};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";
const DOWN: &str = "/AuthorizationHeader/Down";

fn fields(scene: &Scene, at: usize) -> Vec<(String, String)> {
    let mut form = scene.tenant.journal().of(Kind::Token)[at].form.clone();
    form.sort();
    form
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    pairs.sort();
    pairs
}

#[test]
fn an_application_token_is_requested_once_with_these_fields() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let first = sidecar.get(APP).token();
    assert_eq!(sidecar.get(APP).token(), first);
    assert_eq!(sidecar.get("/authorizationheaderunauthenticated/app").token(), first);
    assert_eq!(scene.tenant.journal().count(Kind::Token), 1);
    let expected = [
        ("client_id", APP_ID),
        ("client_secret", APP_SECRET),
        ("scope", "api://downstream/.default"),
        ("grant_type", "client_credentials"),
        ("client_info", "2"),
    ];
    assert_eq!(fields(&scene, 0), pairs(&expected));
    let request = &scene.tenant.journal().of(Kind::Token)[0].request;
    assert_eq!(request.path, format!("/{TENANT_ID}/oauth2/v2.0/token"));
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(request.header("accept"), Some("application/json"));
    assert_eq!(request.header("return-client-request-id"), Some("true"));
}

#[test]
fn on_behalf_of_tokens_are_cached_for_the_callers_token() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let (alice, again) = (scene.user("alice"), scene.user("alice"));
    let first = sidecar.get_as(&alice, DOWN).token();
    assert_eq!(sidecar.get_as(&alice, DOWN).token(), first);
    assert_eq!(scene.tenant.journal().count(Kind::Token), 1);
    assert_ne!(sidecar.get_as(&again, DOWN).token(), first, "another token of the same user starts anew");
    assert_eq!(scene.tenant.journal().count(Kind::Token), 2);
    let expected = [
        ("client_id", APP_ID),
        ("client_secret", APP_SECRET),
        ("scope", "api://downstream/read offline_access openid profile"),
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("assertion", &alice),
        ("requested_token_use", "on_behalf_of"),
        ("client_info", "1"),
    ];
    assert_eq!(fields(&scene, 0), pairs(&expected));
}

#[test]
fn a_refusal_is_remembered_for_a_moment_in_entras_words() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let token = scene.user("mfa");
    let response = sidecar.get_as(&token, DOWN).expect(500);
    let body = response.json();
    let detail = body["detail"].as_str().unwrap();
    assert!(detail.starts_with("MSAL.NetCore.") && detail.contains("AADSTS50076"), "{detail}");
    assert!(body["extensions"]["claims"].is_string(), "{body}");
    assert_eq!(body["extensions"]["errorCodes"], json!([50076]));
    assert_eq!(body["extensions"]["retryable"], json!(false));
    sidecar.get_as(&token, DOWN).expect(500);
    assert_eq!(scene.tenant.journal().count(Kind::Token), 1);
}

#[test]
fn a_failing_service_is_asked_twice_and_then_unavailable() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let failing = |times| Fault::times(Kind::Token, times, Action::Answer(Box::new(Answer::status(503))));
    scene.tenant.fail(failing(1));
    sidecar.get(APP).expect(200);
    assert_eq!(scene.tenant.journal().count(Kind::Token), 2);
    scene.tenant.fail(failing(usize::MAX));
    let response = sidecar.get(&format!("{APP}?optionsOverride.AcquireTokenOptions.FmiPath=x"));
    let response = response.problem(503, "Failed to acquire token for downstream API");
    assert_eq!(response.json()["extensions"], json!({ "retryable": true }));
    assert!(response.header("Retry-After").is_some());
    sidecar.get(APP).expect(200);
}

#[test]
fn a_throttled_key_is_left_alone_for_as_long_as_it_was_told() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let answer = Answer::status(429).header("Retry-After", "7");
    scene.tenant.fail(Fault::once(Kind::Token, Action::Answer(Box::new(answer))));
    for _ in 0..3 {
        assert_eq!(sidecar.get(APP).expect(503).header("Retry-After"), Some("7"));
    }
    assert_eq!(scene.tenant.journal().count(Kind::Token), 1);
    sidecar.get(&format!("{APP}?optionsOverride.AcquireTokenOptions.FmiPath=x")).expect(200);
}

#[test]
fn force_refresh_and_claims_replace_the_cached_token() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let old = sidecar.get(APP).token();
    let new = sidecar.get(&format!("{APP}?optionsOverride.AcquireTokenOptions.ForceRefresh=true")).token();
    assert_ne!(old, new);
    assert_eq!(sidecar.get(APP).token(), new);
    let claims = "%7B%22access_token%22%3A%7B%7D%7D";
    let newer = sidecar.get(&format!("{APP}?optionsOverride.AcquireTokenOptions.Claims={claims}")).token();
    assert_eq!(sidecar.get(APP).token(), newer);
    assert_eq!(scene.tenant.journal().count(Kind::Token), 3);
    assert_eq!(scene.tenant.journal().of(Kind::Token)[2].field("claims"), Some(r#"{"access_token":{}}"#));
}

#[test]
fn what_a_caller_may_not_ask_is_400_and_says_why() {
    let scene = Scene::new();
    let sidecar = scene.start();
    for (query, detail) in [
        ("AgentUsername=a@b", "AgentUsername requires AgentIdentity to be specified"),
        ("AgentUserId=x", "AgentUserId requires AgentIdentity to be specified"),
        ("AgentIdentity=a&AgentUsername=b&AgentUserId=c", "AgentUsername and AgentUserId are mutually exclusive"),
        ("AgentIdentity=a&AgentUserId=c", "AgentUserId must be a valid GUID"),
        ("optionsOverride.Scops=a", "optionsOverride.Scops is unknown; did you mean optionsOverride.Scopes?"),
        ("optionsOverride.RequestAppToken=1", "optionsOverride.RequestAppToken: expected true or false"),
        (
            "optionsOverride.BaseUrl=http://evil.example/",
            "optionsOverride.BaseUrl: expected the origin of the configured BaseUrl or one of \
             DownstreamApis:App:AllowedBaseUrls",
        ),
    ] {
        sidecar.get(&format!("{APP}?{query}")).problem(400, detail);
    }
    sidecar.get("/AuthorizationHeaderUnauthenticated/").problem(400, "Service name is required");
    sidecar.get("/AuthorizationHeaderUnauthenticated/Nope").problem(404, "Downstream API 'Nope' not configured");
    assert_eq!(scene.tenant.journal().count(Kind::Token), 0);
}

#[test]
fn the_order_of_checks_is_query_then_token_then_name() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    sidecar.get("/AuthorizationHeader/Nope?optionsOverride.RequestAppToken=1").expect(400);
    sidecar.get("/AuthorizationHeader/Nope?optionsOverride.AcquireTokenOptions.PopPublicKey=none").expect(400);
    sidecar.get("/AuthorizationHeader/Nope").expect(401);
    sidecar.get_as(&scene.user("alice"), "/AuthorizationHeader/Nope").expect(404);
    Request::new("POST", "/AuthorizationHeader/Nope").header("Host", "evil.example").send(sidecar.address).expect(403);
    let response = Request::new("PUT", "/AuthorizationHeader/Nope").send(sidecar.address).expect(405);
    assert_eq!(response.header("Allow"), Some("GET, POST"));
}

#[test]
fn agents_act_as_themselves_for_their_user_and_for_the_caller() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let autonomous = claims(&sidecar.get(&format!("{APP}?AgentIdentity={AGENT_ID}")).token());
    assert_eq!((autonomous["azp"].as_str(), autonomous["idtyp"].as_str()), (Some(AGENT_ID), Some("app")));
    let scope = "optionsOverride.Scopes=api://downstream/read";
    let user = "AgentUsername=agent-user@contoso.onmicrosoft.com";
    let account = claims(&sidecar.get(&format!("{APP}?AgentIdentity={AGENT_ID}&{user}&{scope}")).token());
    assert_eq!((account["azp"].as_str(), account["name"].as_str()), (Some(AGENT_ID), Some("agent-user")));
    let delegated = sidecar.get_as(&scene.user("alice"), &format!("{DOWN}?AgentIdentity={AGENT_ID}"));
    let delegated = claims(&delegated.token());
    assert_eq!((delegated["azp"].as_str(), delegated["name"].as_str()), (Some(AGENT_ID), Some("alice")));
}

#[test]
fn a_session_belongs_to_the_user_who_started_it() {
    let scene = Scene::new().with("DownstreamApis:Session:Scopes", "api://downstream/read");
    let sidecar = scene.start().with_keys();
    let key = "optionsOverride.AcquireTokenOptions.LongRunningWebApiSessionKey";
    let (own, open) = ("/AuthorizationHeader/Session", "/AuthorizationHeaderUnauthenticated/Session");
    sidecar.get(&format!("{open}?{key}=k1")).problem(401, "No long-running session for this key");
    let token = sidecar.get_as(&scene.user("alice"), &format!("{own}?{key}=k1")).token();
    assert_eq!(sidecar.get_as(&scene.user("alice"), &format!("{own}?{key}=k1")).token(), token);
    assert_eq!(sidecar.get(&format!("{open}?{key}=k1")).token(), token);
    sidecar.get_as(&scene.user("bob"), &format!("{own}?{key}=k1")).expect(403);
    sidecar.get(&format!("{open}?{key}=k1&AgentIdentity={AGENT_ID}")).expect(401);
    let renewed = sidecar.get(&format!("{open}?{key}=k1&optionsOverride.AcquireTokenOptions.ForceRefresh=true"));
    assert_ne!(renewed.token(), token);
    let last = scene.tenant.journal().of(Kind::Token).pop().unwrap();
    assert_eq!(last.field("grant_type"), Some("refresh_token"));
    let response = sidecar.get_as(&scene.user("bob"), &format!("{own}?{key}=AllocateForMe"));
    let allocated = response.header("X-Long-Running-Session-Key").unwrap().to_owned();
    assert_eq!(sidecar.get(&format!("{open}?{key}={allocated}")).token(), response.token());
}

#[test]
fn a_token_is_bound_to_the_callers_key_or_our_own() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let req_cnf = "eyJraWQiOiJOemJMc1hoOHVEQ2NkLTZNTndYRjRXXzdub1dYRlpBZkhreFpzUkdDOVhzIn0";
    let target = format!("{APP}?optionsOverride.AcquireTokenOptions.PopPublicKey={req_cnf}");
    let response = sidecar.get(&target).expect(200);
    assert!(response.json()["authorizationHeader"].as_str().unwrap().starts_with("PoP "));
    let request = scene.tenant.journal().of(Kind::Token).pop().unwrap();
    assert_eq!((request.field("token_type"), request.field("req_cnf")), (Some("pop"), Some(req_cnf)));
    // The tenant's own verifier insists on a signed request under this path.
    let target = "/DownstreamApiUnauthenticated/App?optionsOverride.RelativePath=pop/x\
                  &optionsOverride.AcquireTokenOptions.AuthenticationScheme=PoP";
    assert_eq!(sidecar.get(target).expect(200).json()["statusCode"], json!(200));
}

#[test]
fn app_only_callers_cannot_be_acted_for() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let token = scene.tenant.mint_app(OTHER_APP_ID).token();
    let body = sidecar.get_as(&token, DOWN).expect(500).json();
    assert!(body["detail"].as_str().unwrap().starts_with("MSAL.NetCore."), "{body}");
}

#[test]
fn without_a_user_the_application_acts_only_where_allowed() {
    let scene = Scene::new().with("DownstreamApis:Down:Scopes", "api://downstream/.default");
    let response = scene.start().with_keys().get(DOWN).expect(401);
    assert_eq!(response.header("WWW-Authenticate"), Some("Bearer"));
    let scene = scene.with("Sidecar:AllowAppTokenWithoutUser", "true");
    let sidecar = scene.start().with_keys();
    sidecar.get(DOWN).expect(200);
    sidecar.get_as("a.b.c", DOWN).expect(401);
}

#[test]
fn a_certificate_signs_the_assertion_that_the_tenant_verifies() {
    let scene = Scene::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.pem");
    std::fs::write(&path, local_tenant::certificate::CLIENT_1.pem()).unwrap();
    let scene = scene
        .with("AzureAd:ClientCredentials:0:SourceType", "Path")
        .with("AzureAd:ClientCredentials:0:CertificateDiskPath", path.to_str().unwrap());
    let mut settings = scene.settings.clone();
    settings.remove("AzureAd:ClientCredentials:0:ClientSecret");
    let sidecar = super::support::Sidecar::start(&settings, &[]);
    sidecar.get(APP).expect(200);
    let request = &scene.tenant.journal().of(Kind::Token)[0];
    assert!(request.field("client_assertion").is_some() && request.field("client_secret").is_none());
}

const MACHINE: &str = "/AuthorizationHeaderUnauthenticated/Machine";

/// With an API whose tokens come from a managed identity.
fn with_machine() -> (Scene, Sidecar) {
    let scene = Scene::new().with("DownstreamApis:Machine:Scopes", "api://downstream/.default").with(
        "DownstreamApis:Machine:AcquireTokenOptions:ManagedIdentity:UserAssignedClientId",
        USER_IDENTITY_CLIENT_ID,
    );
    let sidecar = scene.start_with(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", scene.tenant.base_url())]);
    (scene, sidecar)
}

#[test]
fn a_managed_identity_is_asked_once_at_the_hosts_endpoint() {
    let (scene, sidecar) = with_machine();
    let first = sidecar.get(MACHINE).token();
    assert_eq!(sidecar.get(MACHINE).token(), first);
    let requests = scene.tenant.journal().of(Kind::ManagedIdentity);
    assert_eq!((requests.len(), scene.tenant.journal().count(Kind::Token)), (1, 0));
    let request = &requests[0].request;
    assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/metadata/identity/oauth2/token"));
    assert_eq!(request.header("metadata"), Some("true"));
    assert_eq!(request.query_value("resource").as_deref(), Some("api://downstream"));
    assert_eq!(request.query_value("client_id").as_deref(), Some(USER_IDENTITY_CLIENT_ID));
}

#[test]
fn an_unknown_managed_identity_is_500() {
    let (_scene, sidecar) = with_machine();
    let unknown = format!(
        "{MACHINE}?optionsOverride.AcquireTokenOptions.ManagedIdentity.UserAssignedClientId=99999999-0000-4000-8000-000000000000"
    );
    let body = sidecar.get(&unknown).expect(500).json();
    assert_eq!(body["extensions"]["errorCode"], "managed_identity_request_failed", "{body}");
}

#[test]
fn a_managed_identitys_token_is_bound_to_no_key() {
    let (_scene, sidecar) = with_machine();
    sidecar.get(&format!("{MACHINE}?optionsOverride.AcquireTokenOptions.AuthenticationScheme=PoP")).expect(500);
}

#[test]
fn a_throttled_managed_identity_is_503() {
    let (scene, sidecar) = with_machine();
    let throttled = Answer::status(429).header("Retry-After", "60");
    scene.tenant.fail(Fault::always(Kind::ManagedIdentity, Action::Answer(Box::new(throttled))));
    sidecar.get(MACHINE).expect(503);
}
