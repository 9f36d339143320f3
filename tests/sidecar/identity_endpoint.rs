//! `/identity/token`, as the clients of App Service's managed identity endpoint use it (docs/endpoints.md).

use local_tenant::directory::{
    AGENT_ID, APP_ID, DOWNSTREAM, GRAPH, OTHER_APP_ID, OTHER_APP_SECRET, TENANT_ID, USER_IDENTITY_CLIENT_ID, VAULT,
};
use local_tenant::{Fault, Kind};
use serde_json::json;

use super::outages::{answer, instead, refusal};
use super::support::{Request, Response, Scene, Sidecar, claims};
use super::wire::last;

fn target(resource: &str) -> String {
    format!("/identity/token?resource={resource}&api-version=2019-08-01")
}

fn ask(sidecar: &Sidecar, target: &str) -> Response {
    Request::get(target).header("X-IDENTITY-HEADER", "any").send(sidecar.address)
}

/// The token of a success.
fn token(response: &Response) -> String {
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()["access_token"].as_str().unwrap().to_owned()
}

/// That a refusal has the form which these clients read, and what it says.
#[track_caller]
fn refused(response: &Response, status: u16, message: &str) {
    let expected = format!("{{\"statusCode\":{status},\"message\":{}}}", json!(message));
    assert_eq!((response.status, response.body.as_str()), (status, expected.as_str()));
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
}

#[test]
fn an_azure_sdk_gets_the_applications_token() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let response = ask(&sidecar, &target(DOWNSTREAM)).expect(200);
    let (body, got) = (response.json(), token(&response));
    let expires = claims(&got)["exp"].as_u64().unwrap();
    assert!(body["expires_on"].as_str().unwrap().parse::<u64>().unwrap().abs_diff(expires) < 5);
    assert_eq!(
        response.body,
        format!(
            "{{\"access_token\":\"{got}\",\"expires_on\":{},\"resource\":\"{DOWNSTREAM}\",\"token_type\":\"Bearer\",\
             \"client_id\":\"{APP_ID}\"}}",
            body["expires_on"]
        )
    );
    assert_eq!(response.header("Content-Type"), Some("application/json; charset=utf-8"));
    assert_eq!(response.header("Cache-Control"), Some("no-cache, no-store, must-revalidate"));
    assert_eq!(last(&scene.tenant).field("scope"), Some("api://downstream/.default"));
    // The same token through every door, whatever the spelling.
    assert_eq!(sidecar.get("/AuthorizationHeaderUnauthenticated/App").token(), got);
    for target in [
        target("api%3A%2F%2Fdownstream/.default"),
        format!("/Identity/Token?API-VERSION=2019-08-01&Resource={DOWNSTREAM}&x=%zz&client_id={APP_ID}&object_id="),
    ] {
        assert_eq!(token(&ask(&sidecar, &target)), got);
    }
    assert_eq!(scene.tenant.journal().count(Kind::Token), 1);
}

#[test]
fn only_resources_that_the_operator_named_are_served() {
    let scene = Scene::new().with("DownstreamApis:V1:Scopes", "https://v1.example//.default");
    let sidecar = scene.start();
    let other = "The resource belongs to no configured API and is not in Sidecar:IdentityEndpoint:Resources";
    for resource in [VAULT, "api://Downstream", "api://downstream/", "https://v1.example", "api://downstream/read"] {
        refused(&ask(&sidecar, &target(resource)), 403, other);
    }
    assert_eq!(scene.tenant.journal().count(Kind::Token), 0);
    ask(&sidecar, &target("https://v1.example/"));
    assert_eq!(last(&scene.tenant).field("scope"), Some("https://v1.example//.default"));
    let listed = Scene::new().with("Sidecar:IdentityEndpoint:Resources", &format!("{GRAPH} {VAULT}/.default"));
    let sidecar = listed.start();
    token(&ask(&sidecar, &target(VAULT)));
    token(&ask(&sidecar, &target(GRAPH)));
    refused(&ask(&sidecar, &target("https://storage.azure.com")), 403, other);
    let any = Scene::new().with("Sidecar:IdentityEndpoint:Resources:0", "*");
    assert_eq!(ask(&any.start(), &target(VAULT)).expect(200).json()["resource"], VAULT);
}

#[test]
fn the_first_api_of_the_resource_says_how_it_is_acquired() {
    let scene = Scene::new();
    let instance = scene.settings["AzureAd:Instance"].clone();
    let scene = scene
        .with("Partner:Instance", &instance)
        .with("Partner:TenantId", TENANT_ID)
        .with("Partner:ClientId", OTHER_APP_ID)
        .with("Partner:ClientSecret", OTHER_APP_SECRET)
        .with("DownstreamApis:aa:Scopes", "api://downstream/.default")
        .with("DownstreamApis:aa:AcquireTokenOptions:AuthenticationOptionsName", "Partner")
        .with("DownstreamApis:aa:AcquireTokenOptions:LongRunningWebApiSessionKey", "a-session-of-some-user")
        .with("Sidecar:IdentityEndpoint:Resources", "*");
    let body = ask(&scene.start(), &target(DOWNSTREAM)).expect(200).json();
    assert_eq!(body["client_id"], OTHER_APP_ID);
    assert_eq!(claims(body["access_token"].as_str().unwrap())["azp"], OTHER_APP_ID);
    // Of no API: the registration AzureAd. By name: that API, for every resource.
    assert_eq!(ask(&scene.start(), &target(VAULT)).expect(200).json()["client_id"], APP_ID);
    let scene = scene.with("Sidecar:IdentityEndpoint:Api", "AA");
    assert_eq!(ask(&scene.start(), &target(VAULT)).expect(200).json()["client_id"], OTHER_APP_ID);
    let scene = scene.with("Sidecar:IdentityEndpoint:Api", "App");
    assert_eq!(ask(&scene.start(), &target(DOWNSTREAM)).expect(200).json()["client_id"], APP_ID);
}

#[test]
fn an_identity_is_the_applications_an_agents_or_refused() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let with = |parameters: &str| ask(&sidecar, &format!("{}&{parameters}", target(DOWNSTREAM)));
    let body = with(&format!("client_id={}", AGENT_ID.to_uppercase())).expect(200).json();
    assert_eq!(
        (&body["client_id"], &claims(body["access_token"].as_str().unwrap())["azp"]),
        (&json!(AGENT_ID), &json!(AGENT_ID))
    );
    refused(&with("client_id=me"), 400, "client_id: expected that of the application, or of an agent");
    refused(&with(&format!("client_id={APP_ID}&client_id={AGENT_ID}")), 400, "client_id may be given once only");
    for name in ["principal_id", "object_id", "mi_res_id"] {
        let message = format!("{name}: expected the identity in client_id, or none");
        refused(&with(&format!("{name}={APP_ID}")), 400, &message);
    }
    let setting = "Sidecar:AllowOverrides:GetAuthorizationHeaderUnauthenticated";
    let scene = scene.with(setting, "false");
    let sidecar = scene.start();
    let with = |parameters: &str| ask(&sidecar, &format!("{}&{parameters}", target(DOWNSTREAM)));
    let message = format!("Overrides and agent parameters are not allowed here: {setting} is false");
    refused(&with(&format!("client_id={AGENT_ID}")), 403, &message);
    token(&with(&format!("client_id={APP_ID}")));
}

#[test]
fn a_machines_identity_is_not_mistaken_for_an_agents() {
    let scene = Scene::new()
        .with("DownstreamApis:App:AcquireTokenOptions:ManagedIdentity:UserAssignedClientId", USER_IDENTITY_CLIENT_ID);
    let host = scene.tenant.base_url().to_owned();
    let sidecar = scene.start_with(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &host)]);
    let body = ask(&sidecar, &target(DOWNSTREAM)).expect(200).json();
    assert_eq!(body["client_id"], USER_IDENTITY_CLIENT_ID);
    assert_eq!(scene.tenant.journal().count(Kind::Token), 0);
    let other = ask(&sidecar, &format!("{}&client_id={AGENT_ID}", target(DOWNSTREAM)));
    refused(&other, 400, "client_id: expected that of the application, or of an agent");
}

#[test]
fn a_token_that_was_revoked_is_not_served_again() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let with = |hash: &str| token(&ask(&sidecar, &format!("{}&token_sha256_to_refresh={hash}", target(DOWNSTREAM))));
    let hash = |token: &str| -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        digest.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    };
    let first = with("");
    assert_eq!((with("ab"), with(&hash("another"))), (first.clone(), first.clone()));
    let second = with(&hash(&first));
    assert_ne!(second, first);
    assert_eq!((with(&hash(&first)), with("")), (second.clone(), second.clone()));
    assert_ne!(with(&hash(&second).to_uppercase()), second);
    assert_eq!(scene.tenant.journal().count(Kind::Token), 3);
}

#[test]
fn the_identity_header_is_demanded_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let scene = Scene::new();
    let sidecar = scene.start();
    let target = target(DOWNSTREAM);
    refused(&sidecar.get(&target), 401, "The X-IDENTITY-HEADER header is required");
    Request::get(&target).header("X-IDENTITY-HEADER", "").send(sidecar.address).expect(200);
    let scene = scene.with("Sidecar:CallerTokenFile", path.to_str().unwrap());
    let sidecar = scene.start();
    refused(&ask(&sidecar, &target), 403, "The file that Sidecar:CallerTokenFile names cannot be read");
    std::fs::write(&path, "any\n").unwrap();
    ask(&sidecar, &target).expect(200);
    let wrong = "The X-IDENTITY-HEADER header must hold the content of Sidecar:CallerTokenFile";
    for value in ["", "Any", "any "] {
        // Blanks around a value are no part of it.
        let status = if value == "any " { 200 } else { 401 };
        let response = Request::get(&target).header("X-IDENTITY-HEADER", value).send(sidecar.address).expect(status);
        if status == 401 {
            refused(&response, 401, wrong);
        }
    }
    Request::get(&target).header("X-Sidecar-Token", "any").send(sidecar.address).expect(401);
    let twice = Request::get(&target).header("X-IDENTITY-HEADER", "any\r\nX-IDENTITY-HEADER: any");
    refused(&twice.send(sidecar.address), 401, wrong);
}

#[test]
fn every_refusal_under_identity_has_the_form_its_clients_read() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let with = |method: &str, target: &str, name: &str, value: &str| {
        Request::new(method, target).header("X-IDENTITY-HEADER", "x").header(name, value).send(sidecar.address)
    };
    let good = target(DOWNSTREAM);
    let host = "The Host header must be a loopback name or listed in AllowedHosts; if Sidecar:AllowedCallers goes beyond loopback, an IP address or a name of one label is enough";
    refused(&with("GET", &good, "Host", "evil.example"), 403, host);
    let origin = "Requests with an Origin header are refused: no web page may use the sidecar";
    refused(&with("GET", "/identity/nowhere", "Origin", "null"), 403, origin);
    refused(&with("GET", "/identity/token/x", "X", "x"), 404, "Not Found");
    refused(&with("GET", "/identity", "X", "x"), 404, "Not Found");
    let method = with("POST", &good, "X", "x");
    refused(&method, 405, "Method Not Allowed");
    assert_eq!(method.header("Allow"), Some("GET"));
    let long = "a".repeat(33 * 1024);
    refused(
        &with("GET", &good, "X", &long),
        431,
        "The request head is longer than 32768 bytes (Sidecar:Limits:RequestHeadBytes)",
    );
    let twice = with("GET", &good, "Authorization", "Bearer x\r\nAuthorization: Bearer x");
    refused(&twice, 400, "Authorization is repeated");
    refused(&with("GET", "/identity/%00", "X", "x"), 400, "The path holds a NUL");
    refused(&with("GET", &good, "Expect", "x"), 417, "The only supported expectation is 100-continue");
    for (query, message) in [
        ("", "api-version: expected 2019-08-01"),
        ("resource=api://downstream&api-version=2018-02-01", "api-version: expected 2019-08-01"),
        ("api-version=2019-08-01", "resource: expected an absolute URI or a GUID"),
        ("api-version=2019-08-01&resource=graph", "resource: expected an absolute URI or a GUID"),
        ("api-version=2019-08-01&resource=api://a%20b", "resource: expected an absolute URI or a GUID"),
        ("api-version=2019-08-01&resource=%zz", "The query parameter 'resource' is not percent-encoded UTF-8"),
    ] {
        refused(&with("GET", &format!("/identity/token?{query}"), "X", "x"), 400, message);
    }
    let scene = scene.with("Sidecar:IdentityEndpoint:Enabled", "false");
    let sidecar = scene.start();
    refused(&ask(&sidecar, &good), 404, "Not Found");
    refused(&Request::new("POST", &good).send(sidecar.address), 404, "Not Found");
}

#[test]
fn what_entra_refuses_is_told_in_that_form() {
    let scene = Scene::new().with("Sidecar:TokenErrorStatus", "Semantic");
    let sidecar = scene.start();
    scene.tenant.fail(Fault::once(Kind::Token, instead(refusal("invalid_client", 7_000_215))));
    refused(&ask(&sidecar, &target(DOWNSTREAM)), 500, "MSAL.NetCore.invalid_client: AADSTS7000215: no.");
    let scene = Scene::new();
    let sidecar = scene.start();
    scene.tenant.fail(Fault::times(Kind::Token, 2, instead(answer(503))));
    let response = ask(&sidecar, &target(DOWNSTREAM));
    refused(&response, 503, "Failed to acquire token for downstream API");
    assert!(response.header("Retry-After").is_some());
}

#[test]
fn a_bound_token_is_not_given_to_who_cannot_prove_its_key() {
    let scene = Scene::new().with("DownstreamApis:App:AcquireTokenOptions:AuthenticationScheme", "PoP");
    // Another API of the resource serves in its place, where there is one.
    assert_eq!(ask(&scene.start(), &target(DOWNSTREAM)).expect(200).json()["token_type"], "Bearer");
    scene.tenant.journal().clear();
    let scene = scene.with("DownstreamApis:Down:AcquireTokenOptions:AuthenticationScheme", "PoP");
    let scene = scene.with("DownstreamApis:App:Scopes", "api://other/.default");
    let response = ask(&scene.start(), &target(DOWNSTREAM)).expect(500);
    assert!(response.body.contains("'Down' are bound to a key"), "{}", response.body);
    assert_eq!(scene.tenant.journal().count(Kind::Token), 0);
}
