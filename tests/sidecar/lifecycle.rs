//! Start, health, reload and shutdown.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use local_tenant::{Action, Fault, Kind};

use super::support::{Client, PATIENCE, Request, Scene, Sidecar, claims, command, eventually};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";

#[test]
fn a_term_signal_lets_requests_finish_and_health_says_so() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    scene.tenant.fail(Fault::once(Kind::Token, Action::Hold));
    let mut idle = Client::connect(sidecar.address);
    assert_eq!(idle.get("/healthz").answer().status, 200);
    let address = sidecar.address;
    let slow = std::thread::spawn(move || Request::get(APP).send(address));
    assert!(scene.tenant.faults().wait_held(1, PATIENCE));
    sidecar.signal("-TERM");
    eventually("the listener is closed", || std::net::TcpStream::connect(address).is_err());
    let health = idle.get("/healthz").answer();
    assert_eq!((health.status, health.body.lines().next()), (503, Some("Unhealthy")));
    scene.tenant.faults().release();
    slow.join().unwrap().expect(200);
    assert_eq!(sidecar.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    scene.tenant.fail(Fault::once(Kind::Token, Action::Hold));
    let address = sidecar.address;
    let mut slow = Client::connect(address);
    slow.get(APP);
    assert!(scene.tenant.faults().wait_held(1, PATIENCE));
    sidecar.signal("-TERM");
    eventually("the listener is closed", || std::net::TcpStream::connect(address).is_err());
    sidecar.signal("-INT");
    sidecar.wait();
    assert!(slow.ends(), "the request was cut");
    scene.tenant.faults().release();
}

#[test]
fn a_reload_takes_only_a_good_configuration() {
    let scene = Scene::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("appsettings.json");
    let write = |apis: &str| std::fs::write(&path, format!("{{\"DownstreamApis\":{{{apis}}}}}")).unwrap();
    let api = |name: &str| format!("\"{name}\":{{\"Scopes\":[\"api://downstream/.default\"]}}");
    write(&api("One"));
    let scene = scene.with("contentRoot", folder.path().to_str().unwrap());
    let sidecar = scene.start();
    let has = |name: &str| sidecar.get(&format!("/AuthorizationHeaderUnauthenticated/{name}")).status == 200;
    assert!(has("One") && !has("Two"));
    write(&format!("{},{}", api("One"), api("Two")));
    sidecar.signal("-HUP");
    eventually("the new API is known", || has("Two"));
    write("\"Two\":{\"BaseUrl\":\"nonsense\"}");
    sidecar.signal("-HUP");
    eventually("the bad one is reported", || sidecar.log().iter().any(|line| line.contains("not reloaded")));
    assert!(has("One") && has("Two"));
}

#[test]
fn a_reload_gives_each_user_a_token_of_the_new_scopes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("appsettings.json");
    let write = |scope: &str| {
        std::fs::write(&path, format!("{{\"DownstreamApis\":{{\"One\":{{\"Scopes\":[\"{scope}\"]}}}}}}")).unwrap();
    };
    write("api://downstream/read");
    let scene = Scene::new().with("contentRoot", folder.path().to_str().unwrap());
    let sidecar = scene.start().with_keys();
    let users = ["alice", "bob"].map(|name| scene.user(name));
    let tokens = || users.each_ref().map(|user| sidecar.get_as(user, "/AuthorizationHeader/One").token());
    let told = |name: &str| tokens().map(|token| claims(&token)[name].clone());
    let before = tokens();
    assert_eq!(tokens(), before, "from the cache");
    assert_eq!(told("oid"), users.each_ref().map(|user| claims(user)["oid"].clone()));
    let audiences = told("aud");
    write("https://graph.microsoft.com/User.Read");
    sidecar.signal("-HUP");
    eventually("the new scope is in use", || told("aud").iter().zip(&audiences).all(|(new, old)| new != old));
    assert_eq!(told("oid"), users.each_ref().map(|user| claims(user)["oid"].clone()));
}

#[test]
fn a_reload_that_finds_no_usable_credential_keeps_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("certificate.pem");
    let keys = format!("{}/tests/local-tenant/keys", env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(format!("{keys}/{name}")).unwrap();
    std::fs::write(&path, read("client-1.crt.pem") + &read("client-1.pem")).unwrap();
    let mut scene = Scene::new()
        .with("AzureAd:ClientCredentials:0:SourceType", "Path")
        .with("AzureAd:ClientCredentials:0:CertificateDiskPath", path.to_str().unwrap());
    scene.settings.remove("AzureAd:ClientCredentials:0:ClientSecret");
    let sidecar = scene.start();
    sidecar.get(APP).expect(200);
    std::fs::write(&path, "no certificate").unwrap();
    sidecar.signal("-HUP");
    let told = |line: &String| line.contains("not reloaded") && line.contains("0 (Path)");
    eventually("the bad one is reported", || sidecar.log().iter().any(told));
    sidecar.get(&format!("{APP}?optionsOverride.AcquireTokenOptions.ForceRefresh=true")).expect(200);
    sidecar.get("/healthz").expect(200);
}

#[test]
fn a_reload_names_what_only_a_restart_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("appsettings.json");
    let write = |bytes: u32| {
        std::fs::write(&path, format!("{{\"Sidecar\":{{\"Limits\":{{\"RequestBodyBytes\":{bytes}}}}}}}")).unwrap();
    };
    write(1000);
    let scene = Scene::new().with("contentRoot", folder.path().to_str().unwrap());
    let sidecar = scene.start();
    write(2000);
    sidecar.signal("-HUP");
    let told = |line: &String| line.contains("Sidecar:Limits:RequestBodyBytes") && line.contains("restart");
    eventually("it is named", || sidecar.log().iter().any(told));
    let others = |line: &String| line.contains("restart") && !told(line);
    assert!(!sidecar.log().iter().any(others), "and nothing else, whatever other spelling it has");
    // Nor is it in force in part, whatever tells the length of a body.
    let path = "/AuthorizationHeaderUnauthenticated/App";
    Request::new("POST", path).body("text/plain", vec![b'a'; 1500]).send(sidecar.address).expect(413);
    let mut client = Client::connect(sidecar.address);
    client.send(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5dc\r\n"));
    client.send(vec![b'a'; 1500]);
    client.send("\r\n0\r\n\r\n");
    client.answer().expect(413);
}

#[test]
fn a_reload_that_permits_what_never_fits_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("appsettings.json");
    let write = |memory: &str, body: &str| {
        let limits =
            format!("{{\"BodyMemory\":\"{memory}\",\"RequestBodyBytes\":\"1MiB\",\"DownstreamBodyBytes\":\"{body}\"}}");
        std::fs::write(&path, format!("{{\"Sidecar\":{{\"Limits\":{limits}}}}}")).unwrap();
    };
    write("2MiB", "1MiB");
    let scene = Scene::new().with("contentRoot", folder.path().to_str().unwrap());
    let sidecar = scene.start();
    write("8MiB", "4MiB");
    sidecar.signal("-HUP");
    let told = "not reloaded: Sidecar:Limits:BodyMemory: expected at least the 4194304 bytes of Sidecar:Limits:DownstreamBodyBytes";
    eventually("it is refused", || sidecar.log().iter().any(|line| line.contains(told)));
}

#[test]
fn a_missing_certificate_is_unhealthy_and_named() {
    let scene = Scene::new().with("AzureAd:ClientCredentials:0:SourceType", "Path");
    let mut settings = scene.with("AzureAd:ClientCredentials:0:CertificateDiskPath", "/absent.pem").settings;
    settings.remove("AzureAd:ClientCredentials:0:ClientSecret");
    let sidecar = Sidecar::start(&settings, &[]);
    let health = sidecar.get("/healthz").expect(503);
    assert_eq!(health.body, "Unhealthy\nno usable credential in AzureAd\n");
    let body = sidecar.get(APP).problem(500, "Failed to acquire token for downstream API").json();
    assert_eq!(body["extensions"]["errorCode"], "invalid_client_credential");
    assert_eq!(body["extensions"]["credentials"][0]["sourceType"], "Path");
    let told =
        |line: &String| line.contains("AzureAd:ClientCredentials: none can be used") && line.contains("/absent.pem");
    assert!(sidecar.log().iter().take_while(|line| !line.contains("is ready")).any(told), "it is told at the start");
}

#[test]
fn health_is_plain_text() {
    let scene = Scene::new();
    let health = scene.start().get("/healthz").expect(200);
    assert_eq!((health.body.as_str(), health.header("Content-Type")), ("Healthy", Some("text/plain")));
}

#[test]
fn health_and_metrics_answer_head() {
    let scene = Scene::new();
    let sidecar = scene.start();
    for target in ["/healthz", "/metrics"] {
        Request::new("HEAD", target).send(sidecar.address).expect(200);
    }
}

#[test]
fn metrics_are_of_requests_caches_upstreams_and_the_process() {
    let scene = Scene::new();
    let sidecar = scene.start();
    sidecar.get(APP).expect(200);
    let metrics = sidecar.get("/metrics").expect(200).body;
    for name in [
        "http_requests_total{",
        "http_request_duration_seconds_bucket{",
        "token_cache_requests_total{",
        "token_cache_entries ",
        "token_cache_bytes ",
        "token_cache_evictions_total ",
        "upstream_requests_total{",
        "upstream_request_duration_seconds_bucket{",
        "token_validations_total{",
        "workers{",
        "connections{",
        "panics_total ",
        "build_info{",
    ] {
        assert!(metrics.contains(&format!("\nentra_sidecar_{name}")), "{name}");
    }
    for name in ["process_start_time_seconds ", "process_resident_memory_bytes ", "process_open_fds "] {
        assert!(metrics.contains(&format!("\n{name}")), "{name}");
    }
}

#[test]
fn metrics_can_be_switched_off() {
    let scene = Scene::new().with("Sidecar:Metrics", "false");
    scene.start().get("/metrics").expect(404);
}

#[test]
fn the_openapi_document_is_for_development_alone() {
    let scene = Scene::new();
    let production = scene.start();
    for method in ["GET", "POST", "DELETE"] {
        Request::new(method, "/openapi/v1.json").send(production.address).expect(404);
    }
    let sidecar = scene.with("environment", "Development").start();
    assert_eq!(sidecar.get("/openapi/v1.json").expect(200).json()["openapi"], "3.0.3");
}

#[test]
fn a_unix_socket_is_0660_and_replaces_a_stale_one() {
    let scene = Scene::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sidecar.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut child = command();
    child.arg("--urls").arg(format!("unix:{}", path.display()));
    for (key, value) in &scene.settings {
        child.arg("--set").arg(format!("{key}={value}"));
    }
    let mut child = child.stderr(std::process::Stdio::null()).spawn().unwrap();
    eventually("the socket answers", || UnixStream::connect(&path).is_ok());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_access_log_holds_the_route_and_never_the_query() {
    let scene = Scene::new();
    let sidecar = scene.start();
    Request::get(&format!("{APP}?optionsOverride.AcquireTokenOptions.FmiPath=hidden"))
        .header("x-ms-client-request-id", "id-of-mine")
        .send(sidecar.address)
        .expect(200);
    eventually("the line is there", || sidecar.log().iter().any(|line| line.contains("id-of-mine")));
    let log = sidecar.log();
    let line = log.iter().find(|line| line.contains("access") && line.contains("id-of-mine")).unwrap();
    assert!(line.contains("GET /AuthorizationHeaderUnauthenticated/{serviceName} 200"), "{line}");
    assert!(!log.iter().any(|line| line.contains("access") && line.contains("hidden")));
}

#[test]
fn check_judges_online_what_can_be_had_without_a_user() {
    let scene = Scene::new();
    let check = |settings: &super::support::Settings| {
        let mut command = command();
        command.args(["check", "--online"]);
        for (key, value) in settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.output().unwrap()
    };
    let good = check(&scene.settings);
    let text = String::from_utf8_lossy(&good.stdout).into_owned();
    assert_eq!(good.status.code(), Some(0), "{}", String::from_utf8_lossy(&good.stderr));
    assert!(text.contains("DownstreamApis:App: acquired a token") && text.contains("needs a user"), "{text}");
    assert!(!text.contains(local_tenant::directory::APP_SECRET));
    let scene = scene.with("AzureAd:ClientCredentials:0:ClientSecret", "wrong");
    let bad = check(&scene.settings);
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("DownstreamApis:App: "));
}
