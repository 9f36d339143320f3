//! Token responses that are malformed (RFC 6749 §5.1).

use local_tenant::{Action, Answer, Fault, Framing, Kind};
use serde_json::json;

use super::support::{Scene, Sidecar};
use super::wire::{acquire, requests};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";
const NO_TOKEN: &str = "Failed to acquire token for downstream API";

fn cold(name: &str) -> String {
    format!("{APP}?{}", acquire("FmiPath", name))
}

fn plan(scene: &Scene, name: &str, answer: Answer) {
    let fault = Fault::once(Kind::Token, Action::Answer(Box::new(answer)));
    scene.tenant.fail(fault.with_field("fmi_path", name));
}

fn asked(scene: &Scene, name: &str) -> usize {
    requests(&scene.tenant).iter().filter(|sent| sent.field("fmi_path") == Some(name)).count()
}

/// A good token of the tenant's: nothing of the bad answer was kept.
fn recovers(scene: &Scene, sidecar: &Sidecar, name: &str) {
    assert_eq!(asked(scene, name), 1, "{name}: an answer that came whole is not asked for again");
    assert!(sidecar.get(&cold(name)).token().starts_with("eyJ"), "{name}");
}

#[test]
fn what_is_no_token_response_is_a_failure_of_the_service() {
    let scene = Scene::new();
    let sidecar = scene.start();
    for body in [
        "",
        " ",
        "<html><body>Sign in</body></html>",
        "null",
        "[]",
        "\"AT\"",
        "{}",
        r#"{"error":"invalid_grant"}"#,
        r#"{"token_type":"Bearer","expires_in":3600}"#,
        r#"{"token_type":"Bearer","expires_in":3600,"access_token":null}"#,
        r#"{"token_type":"Bearer","expires_in":3600,"access_token":""}"#,
        r#"{"token_type":"Bearer","expires_in":3600,"access_token":7}"#,
        r#"{"token_type":"Bearer","expires_in":3600,"access_token":["AT"]}"#,
        r#"{"token_type":"Bearer","expires_in":3600,"access_token":"A T"}"#,
        r#"{"token_type":"Bearer","expires_in":3600,"access_token":"AT\r\nX-Injected: 1"}"#,
        r#"{"token_type":"Bearer","expires_in":3600,"access_token":"ÄT"}"#,
        r#"{"token_type":"Bearer","expires_in":3600,"access_token":"A","access_token":"B"}"#,
        r#"{"expires_in":3600,"access_token":"AT"}"#,
        r#"{"token_type":7,"expires_in":3600,"access_token":"AT"}"#,
        r#"{"token_type":"Bearer","expires_in":"soon","access_token":"AT"}"#,
        r#"{"token_type":"Bearer","expires_in":-1,"access_token":"AT"}"#,
        r#"{"token_type":"Bearer","expires_in":true,"access_token":"AT"}"#,
        r#"{"token_type":"Bearer","expires_in":"18446744073709551616","access_token":"AT"}"#,
        r#"{"token_type":"Bearer","expires_in":3600,"refresh_in":{},"access_token":"AT"}"#,
        r#"{"token_type":"Bearer","expires_in":3600,"access_token":"AT"} trailing"#,
        r#"{"token_type":"Bearer","expires_in":3600,"access_token":"AT"#,
    ] {
        let name = &body[..body.len().min(200)].replace(['\r', '\n', ' '], "_");
        let name = if name.is_empty() { "empty" } else { name };
        plan(&scene, name, Answer::of(200, "application/json", body));
        let response = sidecar.get(&cold(name)).problem(503, NO_TOKEN);
        assert_eq!(response.json()["extensions"], json!({"retryable": true}), "{name}");
        recovers(&scene, &sidecar, name);
    }
}

#[test]
fn only_200_is_success() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let body = r#"{"token_type":"Bearer","expires_in":3600,"access_token":"AT"}"#;
    for status in [201, 202, 203, 206, 299, 304, 400, 404] {
        let name = status.to_string();
        plan(&scene, &name, Answer::of(status, "application/json", body));
        sidecar.get(&cold(&name)).problem(503, NO_TOKEN);
        recovers(&scene, &sidecar, &name);
    }
}

#[test]
fn a_token_of_another_type_is_never_passed_on() {
    let scene = Scene::new();
    let sidecar = scene.start();
    for token_type in ["pop", "PoP", "mac", "N_A", "", "Bearer "] {
        let name = format!("is {token_type:?}");
        let body = json!({"token_type": token_type, "expires_in": 3600, "access_token": "AT"});
        plan(&scene, &name, Answer::json(200, &body));
        let answer = sidecar.get(&cold(&name)).expect(500);
        assert_eq!(answer.json()["extensions"]["errorCode"], "token_type_mismatch", "{name}");
        recovers(&scene, &sidecar, &name);
    }
}

#[test]
fn numbers_come_as_strings_too_and_names_in_any_case() {
    let scene = Scene::new();
    scene.tenant.settings(|settings| settings.numbers_as_strings = true);
    scene.tenant.settings(|settings| settings.refresh_in = Some(1800));
    let sidecar = scene.start();
    assert_eq!(sidecar.get(APP).token(), sidecar.get(APP).token());
    for token_type in ["bearer", "BEARER"] {
        let body = json!({"token_type": token_type, "expires_in": "3600", "access_token": "AT", "x": [1], "scope": 7});
        plan(&scene, token_type, Answer::of(200, "text/plain", body.to_string()));
        for _ in 0..2 {
            assert_eq!(sidecar.get(&cold(token_type)).expect(200).json()["authorizationHeader"], "Bearer AT");
        }
        assert_eq!(asked(&scene, token_type), 1);
    }
}

#[test]
fn a_token_without_a_known_life_is_used_once() {
    let scene = Scene::new();
    let sidecar = scene.start();
    for (name, life) in [("none", json!({})), ("zero", json!({"expires_in": 0})), ("null", json!({"expires_in": null}))]
    {
        let mut body = json!({"token_type": "Bearer", "access_token": "AT"});
        body.as_object_mut().unwrap().extend(life.as_object().unwrap().clone());
        plan(&scene, name, Answer::json(200, &body));
        assert_eq!(sidecar.get(&cold(name)).token(), "AT");
        recovers(&scene, &sidecar, name);
    }
    // The end of time is as good a time as any.
    let body = json!({"token_type": "Bearer", "access_token": "AT", "expires_in": u64::MAX, "refresh_in": u64::MAX});
    plan(&scene, "for ever", Answer::json(200, &body));
    for _ in 0..2 {
        assert_eq!(sidecar.get(&cold("for ever")).token(), "AT");
    }
}

#[test]
fn an_answer_is_read_to_its_limit_in_any_framing() {
    const LIMIT: usize = 1024 * 1024;
    let scene = Scene::new();
    let sidecar = scene.start();
    let sized = |size: usize| {
        let start = r#"{"token_type":"Bearer","expires_in":3600,"access_token":"AT","x":""#;
        format!("{start}{}\"}}", "x".repeat(size - start.len() - 2))
    };
    for framing in [Framing::Length, Framing::Chunked, Framing::UntilClose] {
        for (size, status) in [(100, 200), (LIMIT, 200), (LIMIT + 1, 503), (4 * LIMIT, 503)] {
            let name = format!("{framing:?} {size}");
            plan(&scene, &name, Answer { framing, ..Answer::of(200, "application/json", sized(size)) });
            sidecar.get(&cold(&name)).expect(status);
            assert_eq!(asked(&scene, &name), 1, "{name}");
        }
    }
}
