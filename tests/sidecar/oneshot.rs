//! Commands that ask once, without a server ("One-shot commands" in docs/endpoints.md).

use std::io::Write as _;
use std::process::{Output, Stdio};

use entra_sidecar::internal::value::to_rfc3339_seconds;
#[cfg(feature = "jwe")]
use local_tenant::certificate::CLIENT_1;
use local_tenant::directory::AGENT_ID;
use local_tenant::{Action, Fault, Kind};
use serde_json::Value;

use super::secrecy::leaked;
use super::support::{Scene, claims, command};

/// The audience of tokens for the API.
const DOWNSTREAM_ID: &str = "d0d0d0d0-1111-4222-8333-444455556666";

/// What a command prints and how it ends. No secret is in what it says beside its answer.
fn run(scene: &Scene, words: &[&str], input: &str) -> (i32, String, String) {
    let mut command = command();
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", scene.tenant.base_url());
    for (key, value) in &scene.settings {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    let mut child = command.spawn().unwrap();
    // Whoever reads no input may be gone.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let [out, err] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(leaked(&err), None, "{err}");
    assert!(!err.contains(" INFO ") && !err.contains(" DEBUG "), "the log is quiet: {err}");
    (status.code().unwrap(), out, err)
}

/// The answer of a command that succeeds without a word.
fn answer(scene: &Scene, words: &[&str], input: &str) -> String {
    let (code, out, err) = run(scene, words, input);
    assert_eq!((code, err.as_str()), (0, ""), "{words:?}");
    out.strip_suffix('\n').unwrap().to_owned()
}

fn failure(scene: &Scene, words: &[&str], input: &str) -> String {
    let (code, out, err) = run(scene, words, input);
    assert_eq!((code, out.as_str()), (1, ""), "{words:?} {err}");
    err.lines().last().unwrap().strip_prefix("entra-sidecar: ").unwrap().to_owned()
}

#[test]
fn a_token_is_printed_in_the_form_asked_for() {
    let scene = Scene::new();
    let token = answer(&scene, &["token", "App"], "");
    assert_eq!(claims(&token)["aud"], DOWNSTREAM_ID);
    let header = answer(&scene, &["header", "app"], "");
    let token = header.strip_prefix("Authorization: Bearer ").unwrap();
    assert_eq!(answer(&scene, &["header", "App", "--output", "token"], "").len(), token.len());
    let json: Value = serde_json::from_str(&answer(&scene, &["token", "App", "--output=json"], "")).unwrap();
    let sent = json["authorizationHeader"].as_str().unwrap().strip_prefix("Bearer ").unwrap();
    let expires = claims(sent)["exp"].as_u64().unwrap();
    // The cache counts from the answer's `expires_in`.
    let near = (expires - 2..=expires + 2).map(to_rfc3339_seconds).any(|moment| json["expiresOn"] == *moment);
    assert!(near, "{expires} {json}");
    assert_eq!(json.as_object().unwrap().len(), 2);
}

#[test]
fn kubectl_is_given_its_own_object() {
    let answer = answer(&Scene::new(), &["token", "App", "--output", "exec-credential"], "");
    let object: Value = serde_json::from_str(&answer).unwrap();
    // https://kubernetes.io/docs/reference/config-api/client-authentication.v1/: every required field, none that is unknown.
    assert_eq!(
        (&object["apiVersion"], &object["kind"]),
        (&"client.authentication.k8s.io/v1".into(), &"ExecCredential".into())
    );
    assert_eq!(object["spec"], serde_json::json!({ "interactive": false }));
    let status = object["status"].as_object().unwrap();
    assert_eq!(status.keys().collect::<Vec<_>>(), ["expirationTimestamp", "token"]);
    assert_eq!(claims(status["token"].as_str().unwrap())["aud"], DOWNSTREAM_ID);
    assert_eq!(object.as_object().unwrap().len(), 4);
}

#[test]
fn a_users_token_makes_it_the_users() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let scene = Scene::new();
    let user = scene.user("alice");
    std::fs::write(&file, format!("\u{feff}{user}\r\n")).unwrap();
    let of_file = answer(&scene, &["token", "Down", "--user-token", file.to_str().unwrap()], "");
    for input in [user.clone(), format!("Bearer {user}\n"), format!("Authorization: Bearer {user}")] {
        let of_input = answer(&scene, &["token", "Down", "--user-token", "-"], &input);
        assert_eq!(claims(&of_input)["oid"], claims(&of_file)["oid"]);
        assert_eq!(claims(&of_input)["oid"], claims(&user)["oid"]);
    }
    assert_eq!(
        failure(&scene, &["token", "Down"], ""),
        "An app token for the API 'Down' needs a single scope that ends in '/.default'"
    );
    let expired = scene.tenant.mint_user("alice").expires_in(-3600).token();
    let reason = failure(&scene, &["token", "Down", "--user-token", "-"], &expired);
    assert!(reason.starts_with("The token expired at "), "{reason}");
    assert_eq!(
        failure(&scene, &["token", "Down", "--user-token", "-"], " \n"),
        "standard input: expected a token, and it is empty"
    );
}

#[test]
fn overrides_are_those_of_the_query_and_bind_no_operator() {
    let scene = Scene::new()
        .with("Sidecar:AllowOverrides:GetAuthorizationHeaderUnauthenticated", "false")
        .with("Sidecar:CallerTokenFile", "/nowhere/at/all");
    let agent = ["token", "App", "--override", &format!("AgentIdentity={AGENT_ID}")].map(str::to_owned);
    let agent: Vec<&str> = agent.iter().map(String::as_str).collect();
    let token = claims(&answer(&scene, &agent, ""));
    assert_eq!(token["azp"], AGENT_ID);
    let scopes = ["token", "Down", "--override", "optionsOverride.Scopes=api://downstream/.default"];
    assert_eq!(claims(&answer(&scene, &scopes, ""))["aud"], DOWNSTREAM_ID);
    assert_eq!(
        claims(&answer(&scene, &["token", "Down", "--override", "Scopes=api://downstream"], ""))["aud"],
        DOWNSTREAM_ID
    );
    for (given, reason) in [
        ("Scope=x", "optionsOverride.Scope is unknown; did you mean optionsOverride.Scopes?"),
        ("AgentIdentit=x", "AgentIdentit is unknown; did you mean AgentIdentity?"),
        ("RequestAppToken=perhaps", "optionsOverride.RequestAppToken: expected true or false"),
    ] {
        assert_eq!(failure(&scene, &["token", "App", "--override", given], ""), reason);
    }
}

#[test]
fn what_fails_is_one_line_with_the_services_own_words() {
    let scene = Scene::new();
    let unknown = failure(&scene, &["token", "Nothing"], "");
    assert!(unknown.starts_with("Downstream API 'Nothing' not configured: expected one of App, "), "{unknown}");
    let scene = scene.with("AzureAd:ClientCredentials:0:ClientSecret", "hush-hush-wrong");
    let reason = failure(&scene, &["header", "App"], "");
    assert!(reason.starts_with("MSAL.NetCore.invalid_client: AADSTS7000215: "), "{reason}");
    let down = Scene::new();
    down.tenant.fail(Fault::always(Kind::Token, Action::CutBeforeAnswer));
    assert_eq!(failure(&down, &["header", "App"], ""), "Failed to acquire token for downstream API");
}

#[test]
fn no_keys_are_fetched_for_a_token_of_ones_own() {
    let scene = Scene::new();
    answer(&scene, &["token", "App"], "");
    let asked: Vec<String> = scene.tenant.journal().all().iter().map(|entry| entry.request.path.clone()).collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
}

#[test]
fn a_good_token_gets_the_answer_of_validate() {
    let scene = Scene::new();
    let user = scene.user("alice");
    let sidecar = scene.start().with_keys();
    assert_eq!(answer(&scene, &["validate"], &user), sidecar.get_as(&user, "/Validate").body);
}

#[test]
fn a_bad_token_gets_the_check_that_failed() {
    let scene = Scene::new().with("AzureAd:IncludeErrorDetails", "false");
    let foreign = scene.tenant.mint_user("alice").audience("api://somebody-else").token();
    for (token, reason) in [
        (foreign.as_str(), "The audience 'api://somebody-else' is invalid"),
        ("a.b", "The token is malformed: it does not have the three parts of a JWS"),
        ("", "standard input: expected a token, and it is empty"),
    ] {
        assert_eq!(failure(&scene, &["validate"], token), reason);
    }
    assert_eq!(
        failure(&scene, &["validate", "/nowhere/token"], ""),
        "/nowhere/token: No such file or directory (os error 2)"
    );
    let scene = scene.with("AzureAd:Scopes", "other");
    assert_eq!(failure(&scene, &["validate"], &scene.user("alice")), "The scope 'other' is required");
}

/// The checks by name, each with how it ended.
fn checks(err: &str) -> Vec<(&str, &str)> {
    let lines = err.lines().filter_map(|line| line.strip_prefix("entra-sidecar: "));
    let checks = lines.filter(|line| line.contains("; expected ") && line.contains("; found "));
    checks
        .filter_map(|line| line.split_once(": ").map(|(name, rest)| (name, rest.split(':').next().unwrap())))
        .collect()
}

#[test]
fn each_check_is_named_in_its_order() {
    let scene = Scene::new();
    let (code, out, err) = run(&scene, &["validate", "--explain"], &scene.user("alice"));
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with(r#"{"protocol":"Bearer","token":"#), "{out}");
    let names = ["size", "structure", "header", "key", "signature", "issuer", "audience", "lifetime", "permission"];
    assert_eq!(checks(&err), names.map(|name| (name, "passed")));
    let minted = || scene.tenant.mint_user("alice");
    for (token, failed) in [
        ("x".repeat(70_000), "size"),
        ("a.b".to_owned(), "structure"),
        (minted().algorithm("none").token(), "header"),
        (minted().header("kid", "unknown").token(), "key"),
        (minted().token() + "AAAA", "signature"),
        (minted().claim("iss", "https://evil.example/").token(), "issuer"),
        (minted().audience("api://x").token(), "audience"),
        (minted().expires_in(-3600).token(), "lifetime"),
        (minted().claim("scp", 7).token(), "permission"),
    ] {
        let (code, out, err) = run(&scene, &["validate", "--explain"], &token);
        assert_eq!((code, out.as_str()), (1, ""), "{failed} {err}");
        let at = names.iter().position(|name| *name == failed).unwrap();
        let ended = |place: usize| match place.cmp(&at) {
            std::cmp::Ordering::Less => "passed",
            std::cmp::Ordering::Equal => "FAILED",
            std::cmp::Ordering::Greater => "not reached",
        };
        let expected: Vec<_> = names.iter().enumerate().map(|(place, name)| (*name, ended(place))).collect();
        assert_eq!(checks(&err), expected, "{failed}: {err}");
    }
}

#[test]
fn without_keys_it_goes_as_far_as_it_can() {
    let scene = Scene::new();
    scene.tenant.fail(Fault::always(Kind::Metadata, Action::CutBeforeAnswer));
    let (code, _, err) = run(&scene, &["validate", "--explain"], &scene.user("alice"));
    assert_eq!(code, 1);
    assert!(checks(&err).contains(&("key", "FAILED")), "{err}");
    assert!(err.ends_with("entra-sidecar: Signing keys are not available\n"), "{err}");
}

#[cfg(feature = "jwe")]
#[test]
fn an_encrypted_token_is_opened_with_a_key_from_a_vault() {
    let decryption = "AzureAd:TokenDecryptionCredentials:0";
    let scene = Scene::new().with(&format!("{decryption}:SourceType"), "KeyVault");
    let url = scene.tenant.base_url().to_owned();
    let scene = scene.with(&format!("{decryption}:KeyVaultUrl"), &url);
    let scene = scene.with(&format!("{decryption}:KeyVaultCertificateName"), "client-pem");
    let sealed =
        scene.tenant.mint_user("alice").encrypted(&CLIENT_1.signing_key().public(), "any", "RSA-OAEP", "A256GCM");
    let (code, _, err) = run(&scene, &["validate", "--explain"], &sealed);
    assert_eq!(code, 0, "{err}");
    assert_eq!(checks(&err)[..3], [("size", "passed"), ("decryption", "passed"), ("structure", "passed")]);
}
