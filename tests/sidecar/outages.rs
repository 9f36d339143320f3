//! Entra fails, throttles, hangs or refuses (docs/endpoints.md, "Errors"; RFC 6749 §5.2; RFC 9110 §10.2.3, `Retry-After`).

use std::fs::File;
use std::io::Write;

use local_tenant::certificate::{CLIENT_1, CLIENT_2};
use local_tenant::directory::{APP_ID, APP_SECRET};
use local_tenant::{Action, Answer, Fault, Kind, Record};
use serde_json::{Value, json};

use super::support::{Response, Scene, Sidecar, claims, eventually, free_port};
use super::wire::{acquire, last, requests};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";
const DOWN: &str = "/AuthorizationHeader/Down";
const NO_TOKEN: &str = "Failed to acquire token for downstream API";

pub fn answer(status: u16) -> Answer {
    Answer::status(status)
}

fn advised(status: u16, seconds: &str) -> Answer {
    answer(status).header("Retry-After", seconds)
}

pub fn refusal(error: &str, code: u32) -> Answer {
    let text = format!("AADSTS{code}: no.\r\nTrace ID: t");
    Answer::json(400, &json!({"error": error, "error_description": text, "error_codes": [code]}))
}

pub fn instead(answer: Answer) -> Action {
    Action::Answer(Box::new(answer))
}

/// Each case has a cache key of its own, by its `fmi_path`.
pub fn cold(name: &str) -> String {
    format!("{APP}?{}", acquire("FmiPath", name))
}

fn asked(scene: &Scene, name: &str) -> usize {
    requests(&scene.tenant).iter().filter(|sent| sent.field("fmi_path") == Some(name)).count()
}

#[test]
fn what_passes_is_tried_once_more_and_nothing_else_is() {
    let scene = Scene::new().with("Sidecar:Limits:TokenRequestTimeout", "2").with("Sidecar:Limits:Workers", "64");
    let sidecar = scene.start();
    let cases = [
        ("once 500", instead(answer(500)), 1, 200, None, 2),
        ("once 502", instead(answer(502)), 1, 200, None, 2),
        ("once 503", instead(answer(503)), 1, 200, None, 2),
        ("once 504", instead(answer(504)), 1, 200, None, 2),
        ("once 408", instead(answer(408)), 1, 200, None, 2),
        (
            "503 with an OAuth error",
            instead(Answer { status: 503, ..refusal("temporarily_unavailable", 90_033) }),
            1,
            200,
            None,
            2,
        ),
        ("always 500", instead(answer(500)), 9, 503, Some("5"), 2),
        ("always 408", instead(answer(408)), 9, 503, Some("5"), 2),
        ("back at once", instead(advised(503, "0")), 1, 200, None, 2),
        ("back soon", instead(advised(503, "1")), 1, 200, None, 2),
        ("back late", instead(advised(503, "6")), 1, 503, Some("6"), 1),
        ("throttled", instead(answer(429)), 1, 503, Some("5"), 1),
        ("throttled with advice", instead(advised(429, "17")), 1, 503, Some("17"), 1),
        (
            "throttled in OAuth's words",
            instead(Answer { status: 429, ..refusal("invalid_request", 90_055) }),
            1,
            503,
            Some("5"),
            1,
        ),
        ("cut before the answer", Action::CutBeforeAnswer, 1, 200, None, 2),
        ("cut after the work", Action::CutAfterWork, 1, 200, None, 2),
        ("half a head", Action::Truncate(40), 1, 200, None, 2),
        ("half a body", Action::Truncate(900), 1, 200, None, 2),
        ("silent", Action::Hold, 1, 503, Some("5"), 1),
        ("redirected", instead(answer(302).header("Location", "/elsewhere")), 1, 503, Some("5"), 1),
        ("refused", instead(refusal("invalid_grant", 65_001)), 1, 500, None, 1),
        ("refused for now", instead(refusal("temporarily_unavailable", 90_033)), 1, 503, Some("5"), 1),
        ("refused without a word", instead(answer(400)), 1, 503, Some("5"), 1),
    ];
    std::thread::scope(|threads| {
        for (name, action, times, status, retry_after, expected) in cases {
            let (scene, sidecar) = (&scene, &sidecar);
            threads.spawn(move || {
                scene.tenant.fail(Fault::times(Kind::Token, times, action).with_field("fmi_path", name));
                let response = sidecar.get(&cold(name));
                let seen = (response.status, response.header("Retry-After"), asked(scene, name));
                assert_eq!(seen, (status, retry_after, expected), "{name}: {}", response.body);
                if status == 503 {
                    let response = response.problem(503, NO_TOKEN);
                    assert_eq!(response.json()["extensions"], json!({"retryable": true}), "{name}");
                }
            });
        }
    });
    scene.tenant.faults().clear();
    assert_eq!(requests(&scene.tenant).iter().filter(|sent| sent.request.path.contains("elsewhere")).count(), 0);
    // None of it is remembered where nobody said for how long.
    for name in ["always 500", "throttled", "silent"] {
        sidecar.get(&cold(name)).expect(200);
    }
}

#[test]
fn a_broken_connection_is_replaced_once_new_or_pooled() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    scene.tenant.fail(Fault::always(Kind::Token, Action::CutBeforeAnswer));
    for name in ["from the pool", "new"] {
        sidecar.get(&cold(name)).problem(503, NO_TOKEN);
        assert_eq!(asked(&scene, name), 2, "{name}");
    }
}

#[test]
fn a_retry_repeats_the_request() {
    let scene = Scene::new();
    let sidecar = scene.start();
    scene.tenant.fail(Fault::once(Kind::Token, instead(answer(503))));
    sidecar.get(APP).expect(200);
    let sent = requests(&scene.tenant);
    assert_eq!((&sent[0].form, sent.len()), (&sent[1].form, 2));
    let id = |at: usize| sent[at].request.header("client-request-id");
    assert_eq!(id(0), id(1));
}

#[test]
fn a_retry_proves_itself_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.pem");
    std::fs::write(&path, format!("{}{}", CLIENT_1.certificate_pem, CLIENT_1.key_pem)).unwrap();
    let mut scene = Scene::new()
        .with("AzureAd:ClientCredentials:0:SourceType", "Path")
        .with("AzureAd:ClientCredentials:0:CertificateDiskPath", path.to_str().unwrap());
    scene.settings.remove("AzureAd:ClientCredentials:0:ClientSecret");
    let sidecar = scene.start();
    // The tenant takes an assertion once, and has taken the first one though nobody learns of it.
    scene.tenant.fail(Fault::once(Kind::Token, Action::CutAfterWork));
    sidecar.get(APP).expect(200);
    let id = |sent: &Record| claims(sent.field("client_assertion").unwrap())["jti"].clone();
    let sent = requests(&scene.tenant);
    assert_eq!(sent.len(), 2);
    assert_ne!(id(&sent[0]), id(&sent[1]));
}

#[test]
fn an_entra_that_is_not_there_is_503_and_names_nothing_of_it() {
    let scene = Scene::new().with("AzureAd:Instance", &format!("http://127.0.0.1:{}/", free_port()));
    let sidecar = scene.start();
    for _ in 0..2 {
        let response = sidecar.get(APP).problem(503, NO_TOKEN);
        assert_eq!((response.header("Retry-After"), response.body.contains("127.0.0.1")), (Some("5"), false));
    }
    sidecar.get("/healthz").expect(200);
}

#[test]
fn a_throttle_is_its_keys_own_and_nobody_can_force_past_it() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let (alice, bob) = (scene.user("alice"), scene.user("bob"));
    let throttle = Fault::once(Kind::Token, instead(advised(429, "3600"))).with_field("assertion", &alice);
    scene.tenant.fail(throttle);
    let forced = format!("{DOWN}?{}", acquire("ForceRefresh", "true"));
    let claims = format!("{DOWN}?{}", acquire("Claims", "{\"access_token\":{}}"));
    for target in [DOWN, DOWN, &forced, &claims] {
        let response = sidecar.get_as(&alice, target).problem(503, NO_TOKEN);
        assert_eq!(response.header("Retry-After"), Some("3600"));
    }
    assert_eq!(requests(&scene.tenant).len(), 1);
    sidecar.get_as(&bob, DOWN).expect(200);
    sidecar.get_as(&alice, &format!("{DOWN}?optionsOverride.Scopes=api://downstream/write")).expect(200);
    sidecar.get(APP).expect(200);
}

#[test]
fn a_refusal_concerns_its_own_user_and_yields_to_force() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let (mfa, alice) = (scene.user("mfa"), scene.user("alice"));
    for _ in 0..3 {
        sidecar.get_as(&mfa, DOWN).expect(500);
    }
    assert_eq!(requests(&scene.tenant).len(), 1);
    sidecar.get_as(&alice, DOWN).expect(200);
    sidecar.get_as(&mfa, &format!("{DOWN}?{}", acquire("ForceRefresh", "true"))).expect(500);
    assert_eq!(requests(&scene.tenant).len(), 3);
}

#[test]
fn a_refusals_challenge_once_met_gives_a_token_that_is_kept() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let mfa = scene.user("mfa");
    let challenge = sidecar.get_as(&mfa, DOWN).expect(500).json()["extensions"]["claims"].clone();
    let met = sidecar.get_as(&mfa, &format!("{DOWN}?{}", acquire("Claims", challenge.as_str().unwrap()))).token();
    assert_eq!(last(&scene.tenant).field("claims"), challenge.as_str());
    assert_eq!(sidecar.get_as(&mfa, DOWN).token(), met);
    assert_eq!(requests(&scene.tenant).len(), 2);
}

#[test]
fn a_refusal_is_told_in_entras_words_cut_to_the_first_line() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let id = "5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab";
    let body = json!({
        "error": "invalid_grant", "error_description": "AADSTS50076: more.\r\nTrace ID: t", "error_codes": [50_076, 7],
        "timestamp": "2026-01-01 00:00:00Z", "trace_id": "t", "correlation_id": id, "suberror": "basic_action",
        "claims": "{\"access_token\":{}}", "error_uri": "https://login.example/error"
    });
    scene.tenant.fail(Fault::once(Kind::Token, instead(Answer::json(400, &body))));
    let answer = sidecar.get(APP).problem(500, "MSAL.NetCore.invalid_grant: AADSTS50076: more.").json();
    let expected = json!({
        "errorCode": "invalid_grant", "correlationId": id, "traceId": "t", "timestamp": "2026-01-01 00:00:00Z",
        "errorCodes": [50_076, 7], "suberror": "basic_action", "claims": "{\"access_token\":{}}", "retryable": false
    });
    assert_eq!(answer["extensions"], expected);
    assert_eq!(answer["title"], "Internal Server Error");
    // Whatever has another shape than it should is left out, and the refusal is one nonetheless.
    let odd = json!({
        "error": "invalid_scope", "error_description": 7, "error_codes": ["70011", 70_011, -1], "timestamp": {},
        "trace_id": null, "suberror": ["x"], "claims": {"access_token": {}}, "correlation_id": ""
    });
    scene.tenant.fail(Fault::once(Kind::Token, instead(Answer::json(400, &odd))));
    let answer = sidecar.get(&cold("odd")).expect(500).json();
    assert_eq!(answer["extensions"], json!({"errorCode": "invalid_scope", "errorCodes": [70_011], "retryable": false}));
}

/// A scene whose credential is this file.
fn with_file(path: &std::path::Path) -> Scene {
    let scene = Scene::new()
        .with("AzureAd:ClientCredentials:0:SourceType", "Path")
        .with("AzureAd:ClientCredentials:0:CertificateDiskPath", path.to_str().unwrap());
    let mut settings = scene.settings.clone();
    settings.remove("AzureAd:ClientCredentials:0:ClientSecret");
    Scene { settings, ..scene }
}

fn thumbprint(assertion: &str) -> Value {
    let decoded = local_tenant::jwt::Decoded::of(assertion).unwrap();
    assert_eq!(decoded.header["alg"], "PS256");
    decoded.header["x5t#S256"].clone()
}

#[test]
fn a_certificate_that_entra_no_longer_knows_is_read_again_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.pem");
    let (first, second) = (CLIENT_1.pem(), CLIENT_2.pem());
    let length = first.len().max(second.len());
    let padded = |text: &str| format!("{text}{}", "\n".repeat(length - text.len()));
    std::fs::write(&path, padded(&first)).unwrap();
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    let scene = with_file(&path);
    let sidecar = scene.start();
    sidecar.get(&cold("before")).expect(200);
    // Rotated so that no look at the file tells: same inode, length and time.
    let mut file = File::options().write(true).open(&path).unwrap();
    file.write_all(padded(&second).as_bytes()).unwrap();
    file.set_modified(modified).unwrap();
    scene.tenant.directory(|directory| {
        let mut app = directory.app(APP_ID).unwrap().clone();
        app.certificates.retain(|known| known.sha256() != CLIENT_1.certificate().sha256());
        directory.register_app(app);
    });
    sidecar.get(&cold("after")).expect(200);
    let sent = requests(&scene.tenant);
    let prints: Vec<_> = sent.iter().map(|sent| thumbprint(sent.field("client_assertion").unwrap())).collect();
    assert_eq!((prints.len(), &prints[0]), (3, &prints[1]));
    assert_ne!(prints[1], prints[2]);
    let id = |at: usize| claims(sent[at].field("client_assertion").unwrap())["jti"].clone();
    assert!(id(0) != id(1) && id(1) != id(2), "an assertion is used once");
}

#[test]
fn a_reload_forgets_refusals_of_the_old_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("appsettings.json");
    let write = |secret: &str| {
        let content =
            json!({"AzureAd": {"ClientCredentials": [{"SourceType": "ClientSecret", "ClientSecret": secret}]}});
        std::fs::write(&file, content.to_string()).unwrap();
    };
    let scene = Scene::new().with("contentRoot", folder.path().to_str().unwrap());
    let mut settings = scene.settings.clone();
    settings.retain(|key, _| !key.starts_with("AzureAd:ClientCredentials:0:"));
    write(APP_SECRET);
    let sidecar = Sidecar::start(&settings, &[]);
    let token = sidecar.get(APP).token();
    let reload = |secret: &str, times: usize| {
        write(secret);
        sidecar.signal("-HUP");
        let done = |line: &&String| line.contains("configuration reloaded");
        eventually("the reload", || sidecar.log().iter().filter(done).count() == times);
    };
    reload("no longer the secret", 1);
    sidecar.get(&cold("a")).expect(500);
    reload(APP_SECRET, 2);
    sidecar.get(&cold("a")).expect(200);
    assert_eq!(sidecar.get(APP).token(), token, "what was had before is good still");
}

#[test]
fn a_refused_certificate_is_tried_twice_and_a_secret_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.pem");
    std::fs::write(&path, CLIENT_1.pem()).unwrap();
    let ask = |sidecar: &Sidecar| -> Response { sidecar.get(APP).expect(500) };
    for (scene, code, expected) in
        [(with_file(&path), 700_027, 2), (with_file(&path), 7_000_215, 1), (Scene::new(), 7_000_215, 1)]
    {
        let body = Answer { status: 401, ..refusal("invalid_client", code) };
        scene.tenant.fail(Fault::always(Kind::Token, instead(body)));
        let sidecar = scene.start();
        for _ in 0..2 {
            assert_eq!(ask(&sidecar).json()["extensions"]["errorCode"], "invalid_client");
        }
        assert_eq!(requests(&scene.tenant).len(), expected, "{code}");
    }
}
