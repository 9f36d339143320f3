//! Azure OpenAI and Microsoft Graph.

mod support;

use local_tenant::client::Response;
use local_tenant::directory::{APP_ID, COGNITIVE_SERVICES, GRAPH};
use local_tenant::{Kind, LocalTenant, Options};
use serde_json::{Value, json};
use support::{app_fields, call, token};

const CHAT: &str = "/openai/v1/chat/completions";

fn start(resource: &str) -> (LocalTenant, String) {
    let tenant = LocalTenant::start(Options::default());
    let scope = format!("{resource}/.default");
    let token = token(&tenant, &app_fields(&[("scope", &scope)])).json();
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
    (tenant, bearer)
}

fn question(changes: &Value) -> Value {
    let mut body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Who is it?"}]});
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    body
}

fn ask(tenant: &LocalTenant, target: &str, bearer: &str, body: &Value) -> Response {
    let headers = [("Authorization", bearer), ("Content-Type", "application/json")];
    call(tenant, "POST", target, &headers, body.to_string().as_bytes())
}

#[test]
fn a_completion_says_who_asked_what() {
    let (tenant, bearer) = start(COGNITIVE_SERVICES);
    for target in [CHAT, "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"] {
        let answer = ask(&tenant, target, &bearer, &question(&json!({}))).json();
        assert_eq!(answer["choices"][0]["message"]["content"], format!("{APP_ID} asked: Who is it?"));
    }
    assert_eq!(tenant.journal().count(Kind::OpenAi), 2);
}

#[test]
fn a_streamed_completion_ends_with_done() {
    let (tenant, bearer) = start(COGNITIVE_SERVICES);
    let body = question(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let answer = ask(&tenant, CHAT, &bearer, &body);
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let events: Vec<&str> = answer.body.split_terminator("\n\n").map(|event| &event["data: ".len()..]).collect();
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(*done, "[DONE]");
    let chunks: Vec<Value> = chunks.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect();
    let said: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, format!("{APP_ID} asked: Who is it?"));
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 5);
}

#[test]
fn chat_refuses_what_azure_openai_refuses() {
    let (tenant, bearer) = start(COGNITIVE_SERVICES);
    for (target, changes, status, code) in [
        (CHAT, json!({"model": "other"}), 404, "DeploymentNotFound"),
        (CHAT, json!({"model": null}), 400, "missing_required_parameter"),
        (CHAT, json!({"messages": []}), 400, "invalid_type"),
        (CHAT, json!({"messages": [{"role": "nobody", "content": "x"}]}), 400, "invalid_type"),
        (CHAT, json!({"optionsOverride": 1}), 400, "unknown_parameter"),
        (CHAT, json!({"model": "gpt-4o-busy"}), 429, "429"),
        ("/openai/deployments/gpt-4o/chat/completions", json!({}), 404, "404"),
        ("/openai/v1/other", json!({}), 404, "404"),
    ] {
        let answer = ask(&tenant, target, &bearer, &question(&changes));
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (status, Some(code)),
            "{target} {changes}"
        );
    }
    let body = question(&json!({})).to_string();
    let json = ("Content-Type", "application/json");
    for headers in [
        vec![json],
        vec![json, ("Authorization", "Bearer none")],
        vec![json, ("Authorization", &bearer), ("api-key", "unused")],
    ] {
        assert_eq!(call(&tenant, "POST", CHAT, &headers, body.as_bytes()).status, 401, "{headers:?}");
    }
    let (other, bearer) = start(GRAPH);
    assert_eq!(ask(&other, CHAT, &bearer, &question(&json!({}))).status, 401);
}

#[test]
fn graph_gives_users_page_by_page() {
    let (tenant, bearer) = start(GRAPH);
    let get = |target: &str| call(&tenant, "GET", target, &[("Authorization", &bearer)], b"");
    let mut target = "/v1.0/users?$top=3&$select=id".to_owned();
    let mut sizes = Vec::new();
    loop {
        let page = get(&target).json();
        sizes.push(page["value"].as_array().unwrap().len());
        assert_eq!(page["value"][0].as_object().unwrap().len(), 1);
        let Some(next) = page["@odata.nextLink"].as_str() else { break };
        next.strip_prefix(GRAPH).unwrap().clone_into(&mut target);
    }
    assert_eq!(sizes, [3, 3, 1]);
    assert_eq!(get("/v1.0/users/bob@contoso.onmicrosoft.com").json()["displayName"], "bob");
    for (target, status, code) in [
        ("/v1.0/users/nobody", 404, "Request_ResourceNotFound"),
        ("/v1.0/users?$other=1", 400, "BadRequest"),
        ("/v1.0/me", 400, "BadRequest"),
    ] {
        let answer = get(target);
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (status, Some(code)), "{target}");
    }
    let code = call(&tenant, "GET", "/v1.0/users", &[], b"").json()["error"]["code"].clone();
    assert_eq!(code, "InvalidAuthenticationToken");
}
