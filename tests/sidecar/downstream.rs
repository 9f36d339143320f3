//! `/DownstreamApi*`: see docs/endpoints.md.

use local_tenant::{Kind, LocalTenant};
use serde_json::{Value, json};

use super::support::{Request, Response, Scene, Sidecar, free_port};

const DOWN: &str = "/DownstreamApi/Down";
const APP: &str = "/DownstreamApiUnauthenticated/App";

fn result(response: Response) -> Value {
    response.expect(200).json()
}

/// What the API says that it received.
fn echo(response: Response) -> Value {
    let result = result(response);
    assert_eq!(result["statusCode"], json!(200), "{result}");
    serde_json::from_str(result["content"].as_str().unwrap()).unwrap()
}

fn with_path(sidecar: &Sidecar, path: &str) -> Response {
    let path = local_tenant::message::percent_encode(path);
    sidecar.get(&format!("{APP}?optionsOverride.RelativePath={path}"))
}

fn last(tenant: &LocalTenant) -> local_tenant::Record {
    tenant.journal().of(Kind::Downstream).pop().unwrap()
}

#[test]
fn the_answer_is_told_with_its_status_and_headers_in_this_order() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let response =
        with_path(&sidecar, "x?_status=404&_body=text&_header=X-One:a&_header=X-One:b&_header=Set-Cookie:c=d");
    assert!(response.body.starts_with(r#"{"statusCode":404,"headers":{"#), "{}", response.body);
    let result = result(response);
    assert_eq!(result["headers"]["x-one"], json!("a, b"));
    assert!(result["headers"].get("set-cookie").is_none());
    assert!(result["content"].is_string());
}

#[test]
fn content_is_text_or_base64_or_null() {
    let scene = Scene::new();
    let sidecar = scene.start();
    assert_eq!(result(with_path(&sidecar, "x?_body=empty"))["content"], Value::Null);
    assert_eq!(result(with_path(&sidecar, "x?_status=204&_body=empty"))["content"], Value::Null);
    assert_eq!(result(with_path(&sidecar, "x?_body=binary"))["contentEncoding"], json!("base64"));
    let text = result(with_path(&sidecar, "x?_body=text&_framing=chunked"));
    assert!(text["content"].is_string() && text.get("contentEncoding").is_none());
}

#[test]
fn arrays_are_given_where_the_operator_wants_them() {
    let scene = Scene::new().with("Sidecar:DownstreamHeaderValues", "Array");
    let sidecar = scene.start();
    let result = result(with_path(&sidecar, "x?_header=Set-Cookie:a=b&_header=Set-Cookie:c=d"));
    assert_eq!(result["headers"]["set-cookie"], json!(["a=b", "c=d"]));
}

#[test]
fn only_the_body_of_a_request_is_passed_on_unchanged() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let body: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let response = Request::new("PUT", DOWN)
        .bearer(&scene.user("alice"))
        .header("Cookie", "a=b")
        .header("X-Mine", "1")
        .header("x-ms-client-request-id", "my-own-id")
        .body("application/x-things", body.clone())
        .send(sidecar.address);
    assert_eq!(response.header("x-ms-client-request-id"), Some("my-own-id"));
    result(response);
    let received = last(&scene.tenant).request;
    assert_eq!((received.method.as_str(), &received.body), ("PUT", &body));
    assert_eq!(received.header("content-type"), Some("application/x-things"));
    assert_eq!(received.header("x-ms-client-request-id"), Some("my-own-id"));
    assert_eq!(received.header("accept-encoding"), Some("identity"));
    assert_eq!((received.header("cookie"), received.header("x-mine")), (None, None));
}

#[test]
fn the_method_follows_override_inbound_and_configuration() {
    let scene = Scene::new().with("DownstreamApis:Patch:HttpMethod", "patch");
    let api = scene.settings["DownstreamApis:App:BaseUrl"].clone();
    let scene = scene
        .with("DownstreamApis:Patch:BaseUrl", &api)
        .with("DownstreamApis:Patch:Scopes", "api://downstream/.default");
    let sidecar = scene.start();
    for (inbound, target, body, outbound) in [
        ("GET", APP.to_owned(), "", "GET"),
        ("POST", APP.to_owned(), "", "GET"),
        ("POST", APP.to_owned(), "{}", "POST"),
        ("PUT", APP.to_owned(), "{}", "PUT"),
        ("DELETE", "/DownstreamApiUnauthenticated/Patch".to_owned(), "", "DELETE"),
        ("POST", "/DownstreamApiUnauthenticated/Patch".to_owned(), "{}", "PATCH"),
        ("GET", format!("{APP}?optionsOverride.HttpMethod=Post"), "", "POST"),
        ("POST", format!("{APP}?optionsOverride.HttpMethod=get"), "{}", "GET"),
    ] {
        let request = Request::new(inbound, &target);
        let request = if body.is_empty() { request } else { request.body("application/json", body) };
        result(request.send(sidecar.address));
        let received = last(&scene.tenant).request;
        assert_eq!(received.method, outbound, "{inbound} {target} {body}");
        assert!(outbound != "GET" || received.body.is_empty(), "a GET never carries a body");
    }
    sidecar.get(&format!("{APP}?optionsOverride.HttpMethod=TRACE")).expect(400);
}

#[test]
fn a_path_is_appended_below_the_base_and_nowhere_else() {
    let scene = Scene::new();
    let sidecar = scene.start();
    for (path, received) in [
        ("me/messages?$top=10", "/api/me/messages"),
        ("/me", "/api/me"),
        ("me/drive/root:/reports/report.pdf:/content", "/api/me/drive/root:/reports/report.pdf:/content"),
    ] {
        assert_eq!(echo(with_path(&sidecar, path))["path"], json!(received));
    }
    let before = scene.tenant.journal().count(Kind::Downstream);
    for path in [
        "../x", "a/../../x", "%2e%2e/x", "a/%2E%2E%2fx", "//evil.example/", "https://evil.example/", "a#b", "a\\b",
        "a\r\nX: y", "..%5cx", "./x", "a\u{0}b",
    ] {
        with_path(&sidecar, path).expect(400);
    }
    sidecar.get(&format!("{APP}?optionsOverride.BaseUrl=https://evil.example/")).expect(400);
    assert_eq!(scene.tenant.journal().count(Kind::Downstream), before);
}

#[test]
fn a_challenge_for_claims_is_met_once_with_a_new_token() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let token = scene.user("alice");
    let path = local_tenant::message::percent_encode("x?_challenge=1700000000");
    let response = sidecar.get_as(&token, &format!("{DOWN}?optionsOverride.RelativePath={path}"));
    assert_eq!(result(response)["statusCode"], json!(200));
    assert_eq!(scene.tenant.journal().count(Kind::Downstream), 2);
    let tokens = scene.tenant.journal().of(Kind::Token);
    assert!(tokens.len() == 2 && tokens[1].field("claims").unwrap().contains("1700000000"));
}

#[test]
fn redirects_are_told_and_not_followed() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let result = result(with_path(&sidecar, "x?_redirect=https://evil.example/"));
    assert_eq!(result["statusCode"], json!(302));
    assert_eq!(result["headers"]["location"], json!("https://evil.example/"));
}

#[test]
fn an_unreachable_api_is_502_or_504_without_its_query() {
    let scene =
        Scene::new().with("DownstreamApis:Gone:BaseUrl", &format!("http://127.0.0.1:{}/x?secret=1", free_port()));
    let scene = scene
        .with("DownstreamApis:Gone:Scopes", "api://downstream/.default")
        .with("Sidecar:Limits:DownstreamTimeout", "0.3")
        .with("Sidecar:Limits:DownstreamBodyBytes", "1000");
    let sidecar = scene.start();
    let gone = sidecar.get("/DownstreamApiUnauthenticated/Gone").expect(502);
    assert!(gone.body.contains("'Gone'") && !gone.body.contains("secret"), "{}", gone.body);
    with_path(&sidecar, "x?_delay_ms=3000").expect(504);
    with_path(&sidecar, "x?_body=size:1001").expect(502);
    with_path(&sidecar, "x?_body=size:1000").expect(200);
}
