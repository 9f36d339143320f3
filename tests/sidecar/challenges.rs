//! Continuous access evaluation: the API wants claims that the token does not have
//! (<https://learn.microsoft.com/entra/identity-platform/claims-challenge>).

use local_tenant::{Action, Answer, Fault, Kind};
use serde_json::{Value, json};

use super::support::{PATIENCE, Response, Scene, eventually};
use super::wire::{acquire, last, requests};

const CHALLENGE: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}"#;
const APP: &str = "/DownstreamApiUnauthenticated/App";

fn challenged(target: &str) -> String {
    format!("{target}?optionsOverride.RelativePath=x%3F_challenge%3D1700000000")
}

fn status(response: Response) -> Value {
    response.expect(200).json()["statusCode"].clone()
}

#[test]
fn the_token_that_met_a_challenge_serves_from_then_on() {
    let scene = Scene::new().with("AzureAd:ClientCapabilities:0", "cp1");
    let sidecar = scene.start().with_keys();
    let alice = scene.user("alice");
    for _ in 0..2 {
        assert_eq!(status(sidecar.get_as(&alice, &challenged("/DownstreamApi/Down"))), 200);
    }
    let sent = requests(&scene.tenant);
    let claims: Vec<Value> =
        sent.iter().map(|sent| serde_json::from_str(sent.field("claims").unwrap()).unwrap()).collect();
    let own = json!({"xms_cc": {"values": ["cp1"]}});
    let both = json!({"xms_cc": {"values": ["cp1"]}, "nbf": {"essential": true, "value": "1700000000"}});
    assert_eq!(claims, [json!({"access_token": own}), json!({"access_token": both})]);
    assert_eq!(scene.tenant.journal().count(Kind::Downstream), 3);
}

#[test]
fn a_challenge_that_is_not_met_is_told_once() {
    let scene = Scene::new();
    let sidecar = scene.start();
    // The token is the same whatever is demanded.
    let token = json!({"token_type": "Bearer", "expires_in": 3600, "access_token": scene.tenant.mint_app("x").audience("api://downstream").token()});
    scene.tenant.fail(Fault::always(Kind::Token, Action::Answer(Box::new(Answer::json(200, &token)))));
    assert_eq!(status(sidecar.get(&challenged(APP))), 401);
    assert_eq!((scene.tenant.journal().count(Kind::Downstream), requests(&scene.tenant).len()), (2, 2));
}

#[test]
fn a_semantic_status_tells_callers_who_must_act() {
    let claims = r#"{"access_token":{"polids":{"essential":true}}}"#;
    for (error, code, claims, status, expected) in [
        (
            "interaction_required",
            50_076,
            Some(claims),
            403,
            "Bearer error=\"insufficient_claims\", claims=\"eyJhY2Nlc3NfdG9rZW4iOnsicG9saWRzIjp7ImVzc2VudGlhbCI6dHJ1ZX19fQ==\"",
        ),
        ("invalid_grant", 65_001, None, 403, "Bearer error=\"insufficient_claims\""),
        ("invalid_grant", 50_173, None, 401, "Bearer error=\"invalid_token\""),
        ("invalid_client", 7_000_215, None, 424, ""),
    ] {
        let scene = Scene::new().with("Sidecar:TokenErrorStatus", "semantic");
        let sidecar = scene.start().with_keys();
        let body = json!({"error": error, "error_description": "said", "error_codes": [code], "claims": claims});
        scene.tenant.fail(Fault::always(Kind::Token, Action::Answer(Box::new(Answer::json(400, &body)))));
        let alice = scene.user("alice");
        // The second is answered from memory.
        for _ in 0..2 {
            let answer = sidecar.get_as(&alice, "/DownstreamApi/Down").expect(status);
            assert_eq!(answer.header("www-authenticate").unwrap_or_default(), expected);
            let problem = answer.json();
            assert_eq!(problem["detail"], format!("MSAL.NetCore.{error}: said"));
            assert_eq!(problem["extensions"]["retryable"], false);
        }
        assert_eq!(requests(&scene.tenant).len(), 1);
    }
}

#[test]
fn where_entra_wants_interaction_the_caller_gets_the_challenge() {
    let own = json!({"access_token": {"polids": {"essential": true, "values": ["p"]}}}).to_string();
    for (error, claims, expected) in [
        ("interaction_required", Some(own.as_str()), Some(own.as_str())),
        ("interaction_required", None, Some(CHALLENGE)),
        ("invalid_grant", None, Some(CHALLENGE)),
        ("invalid_client", None, None),
    ] {
        let scene = Scene::new();
        let sidecar = scene.start();
        let body = json!({"error": error, "error_description": "AADSTS50076: more", "claims": claims});
        let refusal = Action::Answer(Box::new(Answer::json(400, &body)));
        scene.tenant.fail(Fault::always(Kind::Token, refusal).with_field("claims", CHALLENGE));
        let answer = sidecar.get(&challenged(APP)).expect(500).json();
        assert_eq!(answer["extensions"]["claims"].as_str(), expected, "{error}: {answer}");
        assert_eq!(last(&scene.tenant).field("claims"), Some(CHALLENGE));
        // It says nothing about the ordinary token.
        assert_eq!(status(sidecar.get(APP)), 200);
    }
}

#[test]
fn a_challenge_is_not_met_with_another_callers_request() {
    let scene = Scene::new();
    let sidecar = scene.start();
    assert_eq!(status(sidecar.get(APP)), 200);
    scene.tenant.fail(Fault::once(Kind::Token, Action::Hold));
    let forced = format!("/AuthorizationHeaderUnauthenticated/App?{}", acquire("ForceRefresh", "true"));
    std::thread::scope(|threads| {
        let other = threads.spawn(|| sidecar.get(&forced));
        assert!(scene.tenant.faults().wait_held(1, PATIENCE));
        let challenged = threads.spawn(|| sidecar.get(&challenged(APP)));
        eventually("the challenge", || {
            scene.tenant.journal().of(Kind::Downstream).iter().any(|call| call.status == Some(401))
        });
        // Time to get in line.
        for _ in 0..20 {
            sidecar.get("/healthz").expect(200);
        }
        scene.tenant.faults().release();
        other.join().unwrap().expect(200);
        assert_eq!(status(challenged.join().unwrap()), 200);
    });
    assert_eq!((requests(&scene.tenant).len(), last(&scene.tenant).field("claims")), (3, Some(CHALLENGE)));
}
