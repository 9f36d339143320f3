//! Continuous access evaluation: an API that wants claims gets a token with them, once.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use local_tenant::directory::Condition;
use local_tenant::{Action, Answer, Fault, Kind};
use serde_json::{Value, json};

use super::raw_upstream::{Act, RawUpstream, ok};
use super::support::{Scene, Sidecar, eventually};

const DOWN: &str = "/DownstreamApi/Down";
const APP: &str = "/DownstreamApiUnauthenticated/App";
/// In base64 it has `+` or `-`, `/` or `_`, and padding.
const CLAIMS: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1700000000"},"x":{"value":"~~?>"}}}"#;

/// An API that answers 401 with these fields unless the path is asked for a second time.
fn challenging(fields: Vec<String>, forever: bool) -> (RawUpstream, Scene) {
    let asked = std::sync::Mutex::new(std::collections::HashSet::new());
    let api = RawUpstream::start(move |request| {
        if !asked.lock().unwrap().insert(request.target().to_owned()) && !forever {
            return ok("welcome");
        }
        let index: usize = request.target().trim_start_matches('/').parse().unwrap_or(0);
        let head = fields[index].split('\n').map(|field| format!("{field}\r\n")).collect::<Vec<_>>().concat();
        Act::Keep(format!("HTTP/1.1 401 Unauthorized\r\n{head}Content-Length: 2\r\n\r\nno").into_bytes())
    });
    let base = format!("http://{}/", api.address);
    let scene = Scene::new().with("DownstreamApis:App:BaseUrl", &base).with("DownstreamApis:Down:BaseUrl", &base);
    (api, scene)
}

fn bearer(claims: &str) -> String {
    format!("WWW-Authenticate: Bearer realm=\"\", error=\"insufficient_claims\", claims=\"{claims}\"")
}

fn status(sidecar: &Sidecar, target: &str) -> Value {
    sidecar.get(target).expect(200).json()["statusCode"].clone()
}

#[test]
fn a_challenge_is_found_however_it_is_written() {
    let coded = STANDARD.encode(CLAIMS);
    let fields = vec![
        bearer(&coded),
        bearer(&STANDARD_NO_PAD.encode(CLAIMS)),
        bearer(&URL_SAFE.encode(CLAIMS)),
        bearer(&URL_SAFE_NO_PAD.encode(CLAIMS)),
        bearer(&CLAIMS.replace('"', "\\\"")),
        format!("www-authenticate:bearer error=insufficient_claims,claims={coded}"),
        format!("WWW-Authenticate: BEARER CLAIMS=\"{coded}\",ERROR=\"insufficient_claims\""),
        format!("WWW-Authenticate: Bearer claims = \"{coded}\" , error = \"insufficient_claims\""),
        format!(
            "WWW-Authenticate: Basic realm=\"x, Bearer error=no\", Bearer error=\"insufficient_claims\", claims=\"{coded}\""
        ),
        format!(
            "WWW-Authenticate: Negotiate abc==, Bearer error=\"insufficient_claims\", claims=\"{coded}\", Digest a=b"
        ),
        format!("WWW-Authenticate: Bearer error=\"invalid_token\"\n{}", bearer(&coded)),
        format!("WWW-Authenticate: Basic\n{}", bearer(&coded)),
        format!(
            "WWW-Authenticate: Bearer authorization_uri=\"https://login.windows.net/common/oauth2/authorize\",\
             error=\"insufficient_claims\",error_description=\"a \\\"quoted\\\", claims=\\\"e30=\\\"\",claims=\"{coded}\""
        ),
    ];
    let count = fields.len();
    let (api, scene) = challenging(fields, false);
    let sidecar = scene.start();
    for index in 0..count {
        let tokens = scene.tenant.journal().count(Kind::Token);
        let target = format!("{APP}?optionsOverride.RelativePath={index}");
        assert_eq!(status(&sidecar, &target), json!(200), "{index}");
        let asked = scene.tenant.journal().of(Kind::Token);
        let claims: Value = serde_json::from_str(asked.last().unwrap().field("claims").unwrap()).unwrap();
        assert_eq!(claims, serde_json::from_str::<Value>(CLAIMS).unwrap(), "{index}");
        // The very first call needs a token for a start.
        assert_eq!(asked.len() - tokens, if index == 0 { 2 } else { 1 }, "{index}");
    }
    assert_eq!(api.received().len(), 2 * count);
}

#[test]
fn what_is_no_challenge_for_claims_is_the_answer() {
    let coded = STANDARD.encode(CLAIMS);
    let fields = vec![
        "X: y".to_owned(),
        "WWW-Authenticate: Bearer".to_owned(),
        format!("WWW-Authenticate: Bearer error=\"invalid_token\", claims=\"{coded}\""),
        format!("WWW-Authenticate: Basic error=\"insufficient_claims\", claims=\"{coded}\""),
        format!("WWW-Authenticate: Bearer realm=\"error=insufficient_claims, claims={coded}\""),
        format!("WWW-Authenticate: Bearer error=\"insufficient_claims\", Basic claims=\"{coded}\""),
        bearer("not base64!"),
        bearer("W10="),
        bearer(""),
    ];
    let count = fields.len();
    let (api, scene) = challenging(fields, false);
    let sidecar = scene.start();
    for index in 0..count {
        assert_eq!(status(&sidecar, &format!("{APP}?optionsOverride.RelativePath={index}")), json!(401), "{index}");
    }
    assert_eq!((api.received().len(), scene.tenant.journal().count(Kind::Token)), (count, 1));
}

#[test]
fn a_challenge_that_comes_again_is_the_answer() {
    let (api, scene) = challenging(vec![bearer(&STANDARD.encode(CLAIMS))], true);
    let sidecar = scene.start();
    let result = sidecar.get(APP).expect(200).json();
    assert_eq!((&result["statusCode"], &result["content"]), (&json!(401), &json!("no")));
    assert!(result["headers"]["www-authenticate"].as_str().unwrap().contains("insufficient_claims"));
    assert_eq!((api.received().len(), scene.tenant.journal().count(Kind::Token)), (2, 2));
}

#[test]
fn the_token_with_the_claims_serves_the_next_requests_too() {
    let (api, scene) = challenging(vec![bearer(&STANDARD.encode(CLAIMS))], false);
    let sidecar = scene.start();
    for _ in 0..3 {
        assert_eq!(status(&sidecar, APP), json!(200));
    }
    let tokens: Vec<_> = api.received().iter().map(|request| request.header("authorization")[0].to_owned()).collect();
    assert!(tokens[0] != tokens[1] && tokens[1..].iter().all(|token| *token == tokens[1]));
    assert_eq!(scene.tenant.journal().count(Kind::Token), 2);
}

#[test]
fn the_body_goes_along_again() {
    let (api, scene) = challenging(vec![bearer(&STANDARD.encode(CLAIMS))], false);
    let sidecar = scene.start();
    super::support::Request::new("POST", APP).body("a/b", "body").send(sidecar.address).expect(200);
    let bodies: Vec<_> = api.received().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [b"body", b"body"]);
}

#[test]
fn a_demand_for_interaction_is_passed_on_as_a_challenge() {
    let (_api, scene) = challenging(vec![bearer(&STANDARD.encode(CLAIMS))], true);
    let sidecar = scene.start().with_keys();
    let token = scene.user("alice");
    sidecar.get_as(&token, DOWN).expect(200);
    // Entra's own challenge, which may hold more than the API's.
    scene.tenant.directory(|directory| {
        directory.users.iter_mut().for_each(|user| user.condition = Condition::NeedsMfa);
    });
    let problem = sidecar.get_as(&token, DOWN).expect(500).json();
    assert_eq!(problem["extensions"]["errorCode"], json!("interaction_required"), "{problem}");
    assert!(problem["extensions"]["claims"].as_str().unwrap().contains("access_token"), "{problem}");
    // And the API's where Entra says no more than that it wants interaction.
    for error in ["interaction_required", "invalid_grant"] {
        let refusal = Answer::json(400, &json!({"error": error, "error_description": "AADSTS50076: more is needed"}));
        scene.tenant.fail(Fault::once(Kind::Token, Action::Answer(Box::new(refusal))));
        let problem = sidecar.get_as(&token, DOWN).expect(500).json();
        assert_eq!(problem["extensions"]["claims"], json!(CLAIMS), "{problem}");
    }
    let refusal = Answer::json(400, &json!({"error": "invalid_client", "error_description": "AADSTS7000215: no"}));
    scene.tenant.fail(Fault::once(Kind::Token, Action::Answer(Box::new(refusal))));
    let problem = sidecar.get_as(&token, DOWN).expect(500).json();
    assert_eq!(problem["extensions"].get("claims"), None, "no user can mend this: {problem}");
}

#[test]
fn where_entra_is_down_the_retry_is_503() {
    let (_api, scene) = challenging(vec![bearer(&STANDARD.encode(CLAIMS))], true);
    let sidecar = scene.start();
    sidecar.get(APP).expect(200);
    scene.tenant.fail(Fault::always(Kind::Token, Action::CutBeforeAnswer));
    sidecar.get(APP).problem(503, "Failed to acquire token for downstream API");
}

/// Who wants claims does not take the token that somebody else is just getting without them.
#[test]
fn another_callers_token_is_none_with_the_claims() {
    let scene = Scene::new();
    let sidecar = scene.start();
    sidecar.get(APP).expect(200);
    scene.tenant.fail(Fault::once(Kind::Token, Action::Hold));
    let path = local_tenant::message::percent_encode("x?_challenge=1700000000");
    let target = format!("{APP}?optionsOverride.RelativePath={path}");
    std::thread::scope(|threads| {
        let forced = "/AuthorizationHeaderUnauthenticated/App?optionsOverride.AcquireTokenOptions.ForceRefresh=true";
        let other = threads.spawn(|| sidecar.get(forced).expect(200));
        eventually("the other's token request is held", || scene.tenant.journal().count(Kind::Token) == 2);
        let challenged = threads.spawn(|| status(&sidecar, &target));
        eventually("the challenge is on its way", || {
            sidecar.log().iter().any(|line| line.contains("wants further claims"))
        });
        scene.tenant.faults().release();
        assert_eq!(challenged.join().unwrap(), json!(200));
        other.join().unwrap();
    });
    assert_eq!(scene.tenant.journal().count(Kind::Token), 3);
}
