//! Many callers at once, with Entra up and down: docs/design.md, "Tokens: cache and single flight".

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use local_tenant::{Action, Fault, Kind};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::support::{Client, PATIENCE, Scene, claims, eventually};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";

#[test]
fn a_thousand_callers_cost_one_request_and_no_thread() {
    // Longer than it takes until all wait, on any machine.
    let scene = Scene::new().with("Sidecar:Limits:TokenRequestTimeout", "60");
    // The fetch of keys opens the first connection, and that starts the thread which watches idle ones.
    let sidecar = scene.start().with_keys();
    scene.tenant.fail(Fault::once(Kind::Token, Action::Hold));
    let threads = sidecar.threads();
    let request = format!("GET {APP} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut clients: Vec<_> = (0..1000)
        .map(|_| {
            let mut client = Client::connect(sidecar.address);
            client.send(&request);
            client
        })
        .collect();
    assert!(scene.tenant.faults().wait_held(1, PATIENCE));
    eventually("all others are parked", || {
        sidecar.get("/metrics").body.contains("entra_sidecar_connections{state=\"parked\"} 999")
    });
    assert!(sidecar.threads() <= threads + 1, "one calls Entra");
    scene.tenant.faults().release();
    let tokens: HashSet<String> = clients.iter_mut().map(|client| client.answer().token()).collect();
    assert_eq!((tokens.len(), scene.tenant.journal().count(Kind::Token)), (1, 1));
}

#[test]
fn cached_tokens_and_keys_outlast_an_outage_of_entra() {
    let scene = Scene::new().with("Sidecar:Limits:TokenRequestTimeout", "1");
    let sidecar = scene.start().with_keys();
    let token = sidecar.get(APP).token();
    let user = scene.user("alice");
    for kind in [Kind::Token, Kind::Metadata, Kind::Jwks] {
        scene.tenant.fail(Fault::always(kind, Action::CutBeforeAnswer));
    }
    assert_eq!(sidecar.get(APP).token(), token);
    sidecar.get_as(&user, "/Validate").expect(200);
    for _ in 0..3 {
        let response = sidecar.get_as(&user, "/AuthorizationHeader/Down").expect(503);
        assert!(response.header("Retry-After").is_some());
    }
    sidecar.get("/healthz").expect(200);
    scene.tenant.faults().clear();
    sidecar.get_as(&user, "/AuthorizationHeader/Down").expect(200);
}

#[test]
fn half_open_connections_cost_no_thread_and_keep_nobody_waiting() {
    let scene = Scene::new();
    let sidecar = scene.start();
    sidecar.get(APP).expect(200);
    let threads = sidecar.threads();
    let silent: Vec<_> = (0..5000)
        .map(|number| {
            let mut client = Client::connect(sidecar.address);
            client.send(&b"GET /healthz HTTP/1.1\r\nHost: loc"[..number % 30]);
            client
        })
        .collect();
    for _ in 0..50 {
        sidecar.get(APP).expect(200);
    }
    assert_eq!(sidecar.threads(), threads);
    drop(silent);
}

/// Random users, APIs and overrides, all at once; every token says whose and what it is.
#[test]
fn one_callers_token_never_answers_another() {
    let scene = Scene::new().with("DownstreamApis:Graph:Scopes", "https://graph.microsoft.com/User.Read");
    let sidecar = Arc::new(scene.start().with_keys());
    let users = ["alice", "bob"];
    let tokens: Vec<String> = users.iter().cycle().take(6).map(|user| scene.user(user)).collect();
    let one = (0..tokens.len(), any::<bool>(), any::<bool>(), 0..3_u8);
    let mut runner = TestRunner::new(Config { cases: 6, failure_persistence: None, ..Config::default() });
    runner
        .run(&prop::collection::vec(one, 40..80), |requests| {
            let chunks: Vec<_> = requests.chunks(requests.len().div_ceil(8)).map(<[_]>::to_vec).collect();
            std::thread::scope(|threads| {
                let tasks: Vec<_> = chunks
                    .into_iter()
                    .map(|chunk| {
                        let (sidecar, tokens) = (Arc::clone(&sidecar), &tokens);
                        threads.spawn(move || {
                            for (who, graph, force, app) in chunk {
                                let (api, audience) = if graph { ("Graph", "graph") } else { ("Down", "d0d0d0d0") };
                                let force =
                                    if force { "?optionsOverride.AcquireTokenOptions.ForceRefresh=true" } else { "" };
                                if app == 0 {
                                    let own = claims(&sidecar.get(&format!("{APP}{force}")).token());
                                    assert_eq!(own["idtyp"].as_str(), Some("app"));
                                    continue;
                                }
                                let target = format!("/AuthorizationHeader/{api}{force}");
                                let own = claims(&sidecar.get_as(&tokens[who], &target).token());
                                assert_eq!(own["name"].as_str(), Some(users[who % 2]));
                                assert!(own["aud"].as_str().unwrap().contains(audience), "{own}");
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    task.join().unwrap();
                }
            });
            Ok(())
        })
        .unwrap();
}

#[test]
fn ready_at_once_though_entra_cannot_be_reached() {
    let scene = Scene::new();
    scene.tenant.fail(Fault::always(Kind::Metadata, Action::Delay(Duration::from_secs(5))));
    let sidecar = scene.start();
    sidecar.get("/healthz").expect(200);
    sidecar.get(APP).expect(200);
}
