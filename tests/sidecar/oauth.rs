//! OAuth's own endpoints (docs/endpoints.md, "OAuth's own endpoints"): tokens and introspection for clients that know
//! nothing of the sidecar.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use local_tenant::directory::{AGENT_ID, TENANT_ID};
use local_tenant::message::percent_encode;
use local_tenant::{Action, Answer, Fault, Kind};
use serde_json::{Value, json};

use super::secrecy::HUSH;
use super::support::{Client, Request, Response, Scene, Sidecar, claims};
use super::wire::acquire;

const APP: &str = "/oauth2/token/App";
const DOWN: &str = "/oauth2/token/Down";
const INTROSPECT: &str = "/oauth2/introspect";
const IDENTITY: &str = "/identity/token?resource=api://downstream&api-version=2019-08-01";
const FORM: &str = "application/x-www-form-urlencoded";
const CLIENT: (&str, &str) = ("grant_type", "client_credentials");
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

fn form(fields: &[(&str, &str)]) -> String {
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", percent_encode(value))).collect();
    fields.join("&")
}

fn request(target: &str, fields: &[(&str, &str)]) -> Request {
    Request::new("POST", target).body(FORM, form(fields))
}

fn post(sidecar: &Sidecar, target: &str, fields: &[(&str, &str)]) -> Response {
    request(target, fields).send(sidecar.address)
}

fn exchange<'a>(token: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
    [&[grant, ("subject_token", token), ("subject_token_type", ACCESS_TOKEN)], more].concat()
}

/// Refused in OAuth's form, with this name: the answer's body.
#[track_caller]
fn refused(response: &Response, status: u16, error: &str) -> Value {
    let body = response.json();
    assert_eq!((response.status, body["error"].as_str()), (status, Some(error)), "{body}");
    assert_eq!(response.header("Content-Type"), Some("application/json; charset=utf-8"));
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
    let challenge = (status == 401).then_some("Basic realm=\"entra-sidecar\"");
    assert_eq!(response.header("WWW-Authenticate"), challenge);
    assert_eq!(response.header("Retry-After").is_some(), status == 503);
    let description = body["error_description"].as_str().unwrap();
    let clean = |c| (' '..='~').contains(&c) && !matches!(c, '"' | '\\');
    assert!(!description.is_empty() && description.chars().all(clean), "{description}");
    body
}

fn access_token(response: Response) -> String {
    response.expect(200).json()["access_token"].as_str().unwrap().to_owned()
}

#[test]
fn client_credentials_give_the_applications_token() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let answer = post(&sidecar, APP, &[CLIENT, ("client_id", "any"), ("client_secret", "thing")]).expect(200);
    assert_eq!(answer.header("Content-Type"), Some("application/json; charset=utf-8"));
    assert!(answer.header("Cache-Control").unwrap().contains("no-store"));
    let body = answer.json();
    let left = body["expires_in"].as_i64().unwrap();
    assert!((3500..=3600).contains(&left), "{left}");
    assert_eq!((&body["token_type"], &body["scope"]), (&json!("Bearer"), &json!("api://downstream/.default")));
    assert!(answer.body.starts_with(r#"{"access_token":"eyJ"#), "{body}");
    assert_eq!(body.as_object().unwrap().len(), 4, "{body}");
    assert_eq!(claims(body["access_token"].as_str().unwrap())["idtyp"], "app");
}

#[test]
fn an_exchange_gives_the_users_token() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let alice = scene.user("alice");
    let body = post(&sidecar, DOWN, &exchange(&alice, &[("requested_token_type", ACCESS_TOKEN)])).expect(200).json();
    assert_eq!(body["issued_token_type"], ACCESS_TOKEN);
    assert_eq!(body["scope"], "api://downstream/read");
    assert_eq!(claims(body["access_token"].as_str().unwrap())["oid"], claims(&alice)["oid"]);
    let jwt = ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt");
    let fields = [exchange(&alice, &[])[..2].to_vec(), vec![jwt]].concat();
    assert_eq!(access_token(post(&sidecar, DOWN, &fields)), body["access_token"].as_str().unwrap());
    // Through an agent, which the query names.
    let delegated = access_token(post(&sidecar, &format!("{DOWN}?AgentIdentity={AGENT_ID}"), &exchange(&alice, &[])));
    assert_eq!(claims(&delegated)["azp"], AGENT_ID);
}

#[test]
fn every_door_shares_one_cached_token() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let alice = scene.user("alice");
    let tokens = [
        sidecar.get_as(&alice, "/AuthorizationHeader/Down").token(),
        Request::new("POST", "/AuthorizationHeader/Down").bearer(&alice).bytes("x").send(sidecar.address).token(),
        access_token(post(&sidecar, DOWN, &exchange(&alice, &[]))),
        access_token(post(&sidecar, DOWN, &exchange(&alice, &[("scope", "api://downstream/read")]))),
        access_token(post(&sidecar, DOWN, &exchange(&alice, &[("scope", "openid api://downstream/read profile")]))),
    ];
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    sidecar.get_as(&alice, "/DownstreamApi/Down").expect(200);
    let passed = sidecar.get_as(&alice, "/Proxy/Down/items").expect(200).json();
    assert_eq!(passed["token"], claims(&tokens[0]));
    assert_eq!(scene.tenant.journal().count(Kind::Token), 1);
    let tokens = [
        sidecar.get("/AuthorizationHeaderUnauthenticated/App").token(),
        Request::new("POST", "/AuthorizationHeaderUnauthenticated/App").send(sidecar.address).token(),
        access_token(post(&sidecar, APP, &[CLIENT])),
        access_token(post(&sidecar, APP, &[CLIENT, ("scope", "api://downstream/.default")])),
        access_token(Request::get(IDENTITY).header("X-IDENTITY-HEADER", "any").send(sidecar.address)),
    ];
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    sidecar.get("/DownstreamApiUnauthenticated/App").expect(200);
    let passed = sidecar.get("/ProxyUnauthenticated/App/items").expect(200).json();
    assert_eq!(passed["token"], claims(&tokens[0]));
    assert_eq!(scene.tenant.journal().count(Kind::Token), 2);
}

#[test]
fn scopes_replace_the_configured_ones_and_are_told_again() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let graph = "https://graph.microsoft.com";
    let body = post(&sidecar, APP, &[CLIENT, ("scope", &format!("openid {graph}"))]).expect(200).json();
    assert_eq!(body["scope"], graph, "as the caller gave them, and none of OpenID Connect's");
    let alice = scene.user("alice");
    let scope = format!("{graph}/User.Read offline_access  {graph}/Mail.Read");
    let body = post(&sidecar, DOWN, &exchange(&alice, &[("scope", &scope)])).expect(200).json();
    assert_eq!(body["scope"], format!("{graph}/User.Read {graph}/Mail.Read"));
    let query = format!("{APP}?optionsOverride.Scopes={graph}");
    assert_eq!(post(&sidecar, &query, &[CLIENT]).expect(200).json()["scope"], graph);
    // Only OpenID Connect's, and nothing: as if absent.
    for scope in ["openid profile offline_access", ""] {
        let body = post(&sidecar, APP, &[CLIENT, ("scope", scope)]).expect(200).json();
        assert_eq!(body["scope"], "api://downstream/.default");
    }
    for scope in ["a\tb", "\u{e9}", "a\"b", "api://downstream/a api://downstream/b", "api://downstream/read"] {
        refused(&post(&sidecar, APP, &[CLIENT, ("scope", scope)]), 400, "invalid_scope");
    }
}

#[test]
fn scopes_and_queries_are_overrides() {
    let mut scene = Scene::new();
    for endpoint in ["GetAuthorizationHeader", "GetAuthorizationHeaderUnauthenticated"] {
        scene = scene.with(&format!("Sidecar:AllowOverrides:{endpoint}"), "false");
    }
    let sidecar = scene.start().with_keys();
    let alice = scene.user("alice");
    let graph = ("scope", "https://graph.microsoft.com/.default");
    let refresh = acquire("ForceRefresh", "true");
    for (response, setting) in [
        (post(&sidecar, APP, &[CLIENT, graph]), "GetAuthorizationHeaderUnauthenticated"),
        (post(&sidecar, &format!("{APP}?{refresh}"), &[CLIENT]), "GetAuthorizationHeaderUnauthenticated"),
        (post(&sidecar, DOWN, &exchange(&alice, &[graph])), "GetAuthorizationHeader"),
        (post(&sidecar, &format!("{DOWN}?AgentIdentity={AGENT_ID}"), &exchange(&alice, &[])), "GetAuthorizationHeader"),
    ] {
        let body = refused(&response, 403, "access_denied");
        let setting = format!("Sidecar:AllowOverrides:{setting} is false");
        assert!(body["error_description"].as_str().unwrap().ends_with(&setting), "{body}");
    }
    post(&sidecar, APP, &[CLIENT, ("scope", "openid api://downstream/.default")]).expect(200);
    post(&sidecar, DOWN, &exchange(&alice, &[("scope", "api://downstream/read")])).expect(200);
}

#[test]
fn a_request_that_is_none_is_refused_in_oauths_words() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let alice = scene.user("alice");
    let bad = |fields: &[(&str, &str)], error| refused(&post(&sidecar, APP, fields), 400, error);
    bad(&[], "invalid_request");
    bad(&[("grant_type", "")], "invalid_request");
    bad(&[("Grant_Type", "client_credentials")], "invalid_request");
    bad(&[("grant_type", "password")], "unsupported_grant_type");
    bad(&[CLIENT, CLIENT], "invalid_request");
    bad(&[CLIENT, ("x", "1"), ("x", "1")], "invalid_request");
    for (name, instead) in [("resource", "scope"), ("audience", "scope"), ("actor_token", "AgentIdentity")] {
        for fields in [vec![CLIENT, (name, "x")], exchange(&alice, &[(name, "x")])] {
            let body = bad(&fields, "invalid_request");
            assert!(body["error_description"].as_str().unwrap().contains(instead), "{body}");
        }
        post(&sidecar, APP, &[CLIENT, (name, "")]).expect(200);
    }
    let id_token = "urn:ietf:params:oauth:token-type:id_token";
    bad(&exchange(&alice, &[("requested_token_type", id_token)]), "invalid_request");
    bad(&exchange(&alice, &[])[..2], "invalid_request");
    bad(&exchange(&alice, &[])[..1], "invalid_request");
    bad(&[&exchange(&alice, &[])[..2], &[("subject_token_type", id_token)]].concat(), "invalid_request");
    for query in ["optionsOverride.Scope=x", "AgentUserId=x", "optionsOverride.RequestAppToken=maybe", "%zz=a"] {
        let status = post(&sidecar, &format!("{APP}?{query}"), &[CLIENT]);
        refused(&status, 400, "invalid_request");
    }
    let json = Request::new("POST", APP).body("application/json", "grant_type=client_credentials");
    refused(&json.send(sidecar.address), 400, "invalid_request");
    refused(&post(&sidecar, "/oauth2/token/Nope", &[CLIENT]), 404, "invalid_request");
    refused(&post(&sidecar, "/oauth2/token/", &[CLIENT]), 400, "invalid_request");
    for path in ["/oauth2/", "/oauth2/tokens/App", "/oauth2/token/App/x", "/OAuth2/authorize"] {
        refused(&post(&sidecar, path, &[CLIENT]), 404, "invalid_request");
    }
    for path in [APP, INTROSPECT] {
        let response = sidecar.get(path);
        assert_eq!(response.header("Allow"), Some("POST"));
        refused(&response, 405, "invalid_request");
        for (name, value) in [("Host", "evil.example"), ("Origin", "http://localhost")] {
            refused(&request(path, &[CLIENT]).header(name, value).send(sidecar.address), 403, "access_denied");
        }
        let twice = request(path, &[CLIENT]).header("Authorization", "Basic eDp5\r\nAuthorization: Basic eDp5");
        refused(&twice.send(sidecar.address), 400, "invalid_request");
    }
    refused(&post(&sidecar, INTROSPECT, &[("token_type_hint", "access_token")]), 400, "invalid_request");
}

#[test]
fn a_subject_token_that_is_not_good_is_an_invalid_request() {
    let scene = Scene::new().with("AzureAd:Scopes", "access_as_user");
    let sidecar = scene.start().with_keys();
    let expired = scene.tenant.mint_user("alice").expires_in(-400).token();
    for (token, check) in [(expired.as_str(), "expired"), ("nonsense", "malformed")] {
        let body = refused(&post(&sidecar, DOWN, &exchange(token, &[])), 400, "invalid_request");
        assert!(body["error_description"].as_str().unwrap().contains(check), "{body}");
    }
    let other = scene.tenant.mint_user("alice").scopes("other").token();
    let body = refused(&post(&sidecar, DOWN, &exchange(&other, &[])), 400, "invalid_scope");
    assert_eq!(body["error_description"], "The scope 'access_as_user' is required");
    assert_eq!(scene.tenant.journal().count(Kind::Token), 0);
}

#[test]
fn entras_refusals_have_their_place_among_oauths_errors() {
    let scene = Scene::new().with("Sidecar:TokenErrorStatus", "Semantic");
    let sidecar = scene.start().with_keys();
    let body = refused(&post(&sidecar, DOWN, &exchange(&scene.user("mfa"), &[])), 400, "invalid_grant");
    assert_eq!(body["error_codes"], json!([50076]));
    assert_eq!(body["suberror"], "basic_action");
    assert!(body["claims"].as_str().unwrap().contains("access_token"), "{body}");
    assert!(body["correlation_id"].is_string(), "{body}");
    let app = scene.tenant.mint_app(local_tenant::directory::CALLER_ID).token();
    refused(&post(&sidecar, DOWN, &exchange(&app, &[])), 400, "invalid_grant");
    let unknown = [("scope", "api://downstream/nothing")];
    refused(&post(&sidecar, DOWN, &exchange(&scene.user("alice"), &unknown)), 400, "invalid_scope");
    let answers = [
        (r#"{"error":"invalid_client","error_description":"AADSTS7000222: \"spent\""}"#, 401, 500, "server_error"),
        (r#"{"error":"unauthorized_client","error_description":"AADSTS700016: x"}"#, 400, 500, "server_error"),
        (r#"{"error":"invalid_grant","error_description":"AADSTS65001: x"}"#, 400, 400, "invalid_grant"),
        (r#"{"error":"invalid_scope","error_description":"AADSTS70011: x"}"#, 400, 400, "invalid_scope"),
        (r#"{"error":"invalid_resource","error_description":"AADSTS500011: x"}"#, 400, 400, "invalid_scope"),
        (r#"{"error":"invalid_request","error_description":"AADSTS90002: x"}"#, 400, 400, "invalid_request"),
        (r#"{"error":"temporarily_unavailable"}"#, 400, 503, "temporarily_unavailable"),
    ];
    for (at, (answer, sent, status, error)) in answers.into_iter().enumerate() {
        let answer = Answer::of(sent, "application/json", answer);
        let path = at.to_string();
        let fault = Fault::always(Kind::Token, Action::Answer(Box::new(answer))).with_field("fmi_path", &path);
        scene.tenant.fail(fault);
        refused(&post(&sidecar, &format!("{APP}?{}", acquire("FmiPath", &path)), &[CLIENT]), status, error);
    }
    let session = acquire("LongRunningWebApiSessionKey", &format!("{HUSH}none"));
    refused(&post(&sidecar, &format!("{DOWN}?{session}"), &[CLIENT]), 400, "invalid_grant");
}

#[test]
fn an_operators_fault_is_a_server_error() {
    let scene = Scene::new().with("AzureAd:ClientCredentials:0:SourceType", "SignedAssertionFilePath");
    let mut scene = scene.with("AzureAd:ClientCredentials:0:SignedAssertionFileDiskPath", "/nowhere");
    scene.settings.remove("AzureAd:ClientCredentials:0:ClientSecret");
    let sidecar = scene.start();
    refused(&post(&sidecar, APP, &[CLIENT]), 500, "server_error");
}

#[test]
fn oauths_clients_prove_themselves_as_they_are_used_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, format!("{HUSH}a+b%20:c\n")).unwrap();
    let scene = Scene::new().with("Sidecar:CallerTokenFile", path.to_str().unwrap());
    let sidecar = scene.start().with_keys();
    let secret = format!("{HUSH}a+b%20:c");
    let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("client:{password}")));
    let send = |target: &str, more: &[(&str, &str)], header: (&str, &str)| {
        let fields = [&[CLIENT, ("token", "x")], more].concat();
        request(target, &fields).header(header.0, header.1).send(sidecar.address)
    };
    let nothing = ("X-Nothing", "x");
    for target in [APP, INTROSPECT] {
        send(target, &[("client_secret", &secret)], nothing).expect(200);
        send(target, &[], ("Authorization", &basic(&secret))).expect(200);
        send(target, &[], ("authorization", &basic(&percent_encode(&secret)))).expect(200);
        send(target, &[("client_secret", "any")], ("X-Sidecar-Token", &secret)).expect(200);
        for (more, header) in [
            (vec![], nothing),
            (vec![("client_secret", "wrong")], nothing),
            (vec![("client_secret", secret.as_str()), ("client_secret", "x")], nothing),
            (vec![], ("Authorization", &*basic("wrong"))),
            (vec![], ("Authorization", &*format!("Bearer {secret}"))),
            (vec![], ("X-Sidecar-Token", "wrong")),
        ] {
            refused(&send(target, &more, header), 401, "invalid_client");
        }
    }
    // Whoever has not proved itself learns nothing of what is configured.
    refused(&post(&sidecar, "/oauth2/token/Nope", &[CLIENT]), 401, "invalid_client");
    refused(&post(&sidecar, "/oauth2/token/", &[]), 401, "invalid_client");
    refused(&request(APP, &[]).header("Host", "evil.example").send(sidecar.address), 403, "access_denied");
    std::fs::remove_file(&path).unwrap();
    refused(&send(APP, &[("client_secret", &secret)], nothing), 401, "invalid_client");
}

#[test]
fn a_form_is_64_kib_at_most_however_it_comes() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let fitting = format!("{}&x=", form(&[CLIENT]));
    let filled = |length: usize| format!("{fitting}{}", "x".repeat(length - fitting.len()));
    Request::new("POST", APP).body(FORM, filled(64 * 1024)).send(sidecar.address).expect(200);
    let head = format!("POST {APP} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\n");
    let mut client = Client::connect(sidecar.address);
    client.send(format!("{head}Content-Length: 65537\r\nExpect: 100-continue\r\n\r\n"));
    refused(&client.answer(), 413, "invalid_request");
    for (length, expected) in [(64 * 1024, 200), (64 * 1024 + 1, 413)] {
        let mut client = Client::connect(sidecar.address);
        client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
        let body = filled(length);
        for piece in body.as_bytes().chunks(1000) {
            client.send(format!("{:x}\r\n", piece.len())).send(piece).send("\r\n");
        }
        let answer = client.send("0\r\n\r\n").answer();
        if expected == 200 { drop(answer.expect(200)) } else { drop(refused(&answer, expected, "invalid_request")) }
    }
}

#[test]
fn oauths_endpoints_can_be_switched_off() {
    let scene = Scene::new().with("Sidecar:OAuth:Enabled", "false");
    let sidecar = scene.start();
    for path in [APP, INTROSPECT] {
        refused(&post(&sidecar, path, &[CLIENT]), 404, "invalid_request");
        refused(&sidecar.get(path), 404, "invalid_request");
    }
}

#[test]
fn introspection_tells_the_claims_of_a_good_token_alone() {
    let scene = Scene::new().with("AzureAd:Scopes", "access_as_user");
    let sidecar = scene.start().with_keys();
    let alice = scene.tenant.mint_user("alice").claim("active", false).claim("nested", json!({"a": [1.5]})).token();
    let answer = post(&sidecar, INTROSPECT, &[("token", &alice), ("token_type_hint", "refresh_token")]).expect(200);
    assert!(answer.body.starts_with(r#"{"active":true,"#), "{}", answer.body);
    let (told, own) = (answer.json(), claims(&alice));
    for (name, value) in own.as_object().unwrap().iter().filter(|(name, _)| *name != "active") {
        assert_eq!(told[name], *value, "{name}");
    }
    assert_eq!((&told["scope"], &told["token_type"]), (&own["scp"], &json!("Bearer")));
    assert_eq!((&told["client_id"], &told["username"]), (&own["azp"], &own["preferred_username"]));
    assert_eq!(told["tid"], TENANT_ID);
    let expired = scene.tenant.mint_user("alice").expires_in(-400).token();
    let unscoped = scene.tenant.mint_user("alice").scopes("other").token();
    for token in [expired.as_str(), &unscoped, "nonsense", ""] {
        assert_eq!(post(&sidecar, INTROSPECT, &[("token", token)]).expect(200).body, r#"{"active":false}"#);
    }
}

#[test]
fn without_keys_nothing_is_said_of_a_token() {
    let scene = Scene::new();
    scene.tenant.fail(Fault::always(Kind::Jwks, Action::Answer(Box::new(Answer::status(500)))));
    let sidecar = scene.start();
    let alice = scene.user("alice");
    for response in [post(&sidecar, INTROSPECT, &[("token", &alice)]), post(&sidecar, DOWN, &exchange(&alice, &[]))] {
        let body = refused(&response, 503, "temporarily_unavailable");
        assert_eq!(body["error_description"], "Signing keys are not available");
    }
}

#[test]
fn bound_tokens_and_sessions_come_through_oauth_as_well() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let signed = format!("{APP}?{}", acquire("AuthenticationScheme", "PoP"));
    let body = post(&sidecar, &signed, &[CLIENT]).expect(200).json();
    assert_eq!(body["token_type"], "PoP");
    // What is sent to ask for a token says nothing of the call that it is for.
    assert_eq!(claims(body["access_token"].as_str().unwrap())["m"], "GET");
    let header = format!("/AuthorizationHeaderUnauthenticated/App?{}", acquire("AuthenticationScheme", "PoP"));
    let header = Request::new("POST", &header).body("text/plain", "ignored").send(sidecar.address).token();
    assert_eq!(claims(&header)["m"], "GET");
    let session = format!("{DOWN}?{}", acquire("LongRunningWebApiSessionKey", "AllocateForMe"));
    let started = post(&sidecar, &session, &exchange(&scene.user("alice"), &[])).expect(200);
    let key = started.header("X-Long-Running-Session-Key").unwrap().to_owned();
    let session = format!("{DOWN}?{}", acquire("LongRunningWebApiSessionKey", &key));
    assert_eq!(access_token(post(&sidecar, &session, &[CLIENT])), access_token(started));
}
