//! The cache that replicas share, with a real server: docs/scale.md.

use std::collections::HashSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use local_tenant::directory::{AGENT_ID, APP_ID, TENANT_ID};
use local_tenant::{Action, Fault, Kind};
use redis::Connection;

use super::outages::{instead, refusal};
use super::raw_upstream::ROOT;
use super::secrecy::HUSH;
use super::support::{PATIENCE, Scene, Sidecar, claims, command, eventually, free_port};
use super::wire::{acquire, last, requests};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";
const DOWN: &str = "/AuthorizationHeader/Down";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

/// A `redis-server`, which ends with this.
struct Store {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
    arguments: Vec<String>,
}

impl Store {
    /// `None`, where there is no such program.
    fn start(arguments: &[&str]) -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("skipped: redis-server is not here");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut all: Vec<String> = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--dir"]
            .into_iter()
            .chain([folder.path().to_str().unwrap(), "--unixsocket"])
            .map(str::to_owned)
            .collect();
        all.push(folder.path().join("redis.sock").to_str().unwrap().to_owned());
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let port = free_port();
        fs::write(folder.path().join("key"), KEY).unwrap();
        let child = Self::spawn(port, &all);
        let store = Self { child, folder, port, arguments: all };
        store.is_up();
        Some(store)
    }

    fn spawn(port: u16, arguments: &[String]) -> Child {
        let mut command = Command::new("redis-server");
        if !arguments.iter().any(|argument| argument == "--tls-port") {
            command.args(["--port", &port.to_string()]);
        }
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn is_up(&self) {
        eventually("the store answers", || {
            let Ok(mut socket) = UnixStream::connect(self.socket()) else { return false };
            // Pong, or that it wants its password.
            let mut first = [0];
            socket.write_all(b"PING\r\n").and_then(|()| socket.read_exact(&mut first)).is_ok()
        });
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn key_file(&self) -> String {
        self.folder.path().join("key").to_str().unwrap().to_owned()
    }

    fn connect(&self) -> Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut self.connect()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        self.ask(&["KEYS", "*"])
    }

    fn get(&self, name: &str) -> Vec<u8> {
        self.ask(&["GET", name])
    }

    fn set(&self, name: &str, value: &[u8]) {
        redis::cmd("SET").arg(name).arg(value).arg("EX").arg(1000).exec(&mut self.connect()).unwrap();
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn start_again(&mut self) {
        let _ = fs::remove_file(self.socket());
        self.child = Self::spawn(self.port, &self.arguments);
        self.is_up();
    }

    /// A scene whose sidecars share this store.
    fn scene(&self) -> Scene {
        self.share(Scene::new(), &self.url())
    }

    fn share(&self, scene: Scene, url: &str) -> Scene {
        // A busy machine makes everything slow.
        scene
            .with("Sidecar:SharedCache:Url", url)
            .with("Sidecar:SharedCache:KeyFile", &self.key_file())
            .with("Sidecar:SharedCache:Timeout", "2")
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
    }
}

fn own(key: &str) -> String {
    format!("{DOWN}?{}", acquire("LongRunningWebApiSessionKey", &format!("{HUSH}{key}")))
}

fn open(key: &str) -> String {
    own(key).replace("/AuthorizationHeader/", "/AuthorizationHeaderUnauthenticated/")
}

fn counted(sidecar: &Sidecar, result: &str) -> u64 {
    let metrics = sidecar.get("/metrics").body;
    let name = format!("entra_sidecar_shared_cache_requests_total{{result=\"{result}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

fn complaints(sidecar: &Sidecar) -> usize {
    sidecar.log().iter().filter(|line| line.contains("shared cache") && line.contains("going on without it")).count()
}

#[test]
fn three_replicas_with_a_cold_key_cost_one_token_request() {
    let Some(store) = Store::start(&[]) else { return };
    let scene = store.scene();
    let sidecars: Vec<_> = (0..3).map(|_| scene.start()).collect();
    scene.tenant.fail(Fault::always(Kind::Token, Action::Delay(Duration::from_millis(300))));
    let start = Instant::now();
    let tokens: HashSet<String> = thread::scope(|threads| {
        let callers: Vec<_> = (0..150)
            .map(|number| {
                let sidecar = &sidecars[number % 3];
                threads.spawn(|| sidecar.get(APP).token())
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    eprintln!("150 callers of 3 replicas, answered within {:?}", start.elapsed());
    assert_eq!((tokens.len(), requests(&scene.tenant).len()), (1, 1));
    let hits: u64 = sidecars.iter().map(|sidecar| counted(sidecar, "hit")).sum();
    assert_eq!(hits, 2);
    assert!(sidecars[0].get("/metrics").body.contains("entra_sidecar_shared_cache_request_duration_seconds_count 1\n"));
}

#[test]
fn what_one_replica_got_serves_another_and_after_a_restart() {
    let Some(store) = Store::start(&[]) else { return };
    let scene = store.scene();
    let alice = scene.user("alice");
    let agent = format!("{APP}?AgentIdentity={AGENT_ID}");
    let ask =
        |sidecar: &Sidecar| [sidecar.get(APP), sidecar.get(&agent), sidecar.get_as(&alice, DOWN)].map(|r| r.token());
    let (first, second) = (scene.start().with_keys(), scene.start().with_keys());
    let tokens = ask(&first);
    let before = requests(&scene.tenant).len();
    assert_eq!(ask(&second), tokens);
    drop((first, second));
    assert_eq!(ask(&scene.start().with_keys()), tokens);
    assert_eq!(requests(&scene.tenant).len(), before);
}

#[test]
fn the_store_learns_neither_token_nor_name_nor_id() {
    let Some(store) = Store::start(&[]) else { return };
    let scene = store.scene();
    let sidecar = scene.start().with_keys();
    let alice = scene.user("alice");
    sidecar.get(APP).expect(200);
    sidecar.get(&format!("{APP}?AgentIdentity={AGENT_ID}")).expect(200);
    sidecar.get_as(&alice, DOWN).expect(200);
    sidecar.get_as(&alice, &own("k")).expect(200);
    let names = store.names();
    // Of the application, the agent, its credential, the user and the session, and the session itself.
    assert_eq!(names.len(), 6, "{names:?}");
    let oid = claims(&alice)["oid"].as_str().unwrap().to_owned();
    for name in &names {
        let value = String::from_utf8(store.get(name)).unwrap();
        assert!(name.starts_with("entra-sidecar:") && name.len() == "entra-sidecar:".len() + 43, "{name}");
        let lifetime: u64 = store.ask(&["TTL", name]);
        assert!(lifetime <= 3600 || lifetime == 7 * 24 * 3600 || lifetime == 7 * 24 * 3600 - 1, "{lifetime}");
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &value).unwrap();
        let decoded = String::from_utf8_lossy(&bytes).into_owned();
        for word in [
            "eyJ0eXAi", "Bearer", "alice", "refresh", "object_id", TENANT_ID, APP_ID, AGENT_ID, &oid, HUSH,
            "downstream",
        ] {
            assert!(!name.contains(word) && !value.contains(word) && !decoded.contains(word), "{word} in {name}");
        }
    }
}

#[test]
fn a_session_goes_on_at_another_replica_and_after_a_restart() {
    let Some(store) = Store::start(&[]) else { return };
    let scene = store.scene();
    scene.tenant.settings(|settings| settings.expires_in = 200);
    let (first, second) = (scene.start().with_keys(), scene.start().with_keys());
    second.get(&open("k")).expect(401);
    first.get_as(&scene.user("alice"), &own("k")).expect(200);
    let mut used = HashSet::new();
    for sidecar in [&second, &first, &second] {
        assert_eq!(claims(&sidecar.get(&open("k")).token())["name"], "alice");
        let sent = last(&scene.tenant);
        assert!(used.insert(sent.field("refresh_token").unwrap().to_owned()), "each replica has the latest one");
    }
    drop((first, second));
    let third = scene.start().with_keys();
    third.get(&open("k")).expect(200);
    assert!(used.insert(last(&scene.tenant).field("refresh_token").unwrap().to_owned()));
    third.get(&open("K")).expect(401);
    third.get(&format!("{}&AgentIdentity={AGENT_ID}", open("k"))).expect(401);
}

#[test]
fn no_refresh_token_that_another_replica_got_is_lost() {
    let Some(mut store) = Store::start(&[]) else { return };
    let scene = store.scene();
    scene.tenant.settings(|settings| settings.expires_in = 200);
    let [first, second, third] = [(); 3].map(|()| scene.start().with_keys());
    first.get_as(&scene.user("alice"), &own("k")).expect(200);
    scene.tenant.fail(Fault::once(Kind::Token, Action::Hold).with_field("grant_type", "refresh_token"));
    thread::scope(|threads| {
        let late = threads.spawn(|| first.get(&open("k")).expect(200));
        assert!(scene.tenant.faults().wait_held(1, PATIENCE));
        let graph = "optionsOverride.Scopes=https://graph.microsoft.com/User.Read";
        second.get(&format!("{}&{graph}", open("k"))).expect(200);
        scene.tenant.faults().release();
        late.join().unwrap();
    });
    let refresh_token = || last(&scene.tenant).field("refresh_token").unwrap().to_owned();
    third.get(&open("k")).expect(200);
    let of_store = refresh_token();
    // Without the store each goes on with what it knows.
    store.kill();
    for sidecar in [&second, &first] {
        sidecar.get(&open("k")).expect(200);
        assert_eq!(refresh_token(), of_store);
    }
}

#[test]
fn a_session_is_its_users_alone_on_every_replica() {
    let Some(store) = Store::start(&[]) else { return };
    let scene = store.scene();
    let (first, second) = (scene.start().with_keys(), scene.start().with_keys());
    let token = first.get_as(&scene.user("alice"), &own("k")).token();
    second.get_as(&scene.user("bob"), &own("k")).expect(403);
    assert_eq!(second.get_as(&scene.user("alice"), &own("k")).token(), token);
    assert_eq!(second.get(&open("k")).token(), token);
    assert_eq!(requests(&scene.tenant).len(), 1);
}

#[test]
fn one_user_starts_a_session_at_three_replicas_with_one_request() {
    let Some(store) = Store::start(&[]) else { return };
    let scene = store.scene();
    let alice = scene.user("alice");
    let sidecars: Vec<_> = (0..3).map(|_| scene.start().with_keys()).collect();
    scene.tenant.fail(Fault::always(Kind::Token, Action::Delay(Duration::from_millis(300))));
    let tokens: HashSet<String> = thread::scope(|threads| {
        let starts = sidecars.iter().map(|sidecar| threads.spawn(|| sidecar.get_as(&alice, &own("k")).token()));
        starts.collect::<Vec<_>>().into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert_eq!((tokens.len(), requests(&scene.tenant).len()), (1, 1));
}

#[test]
fn an_unused_session_is_kept_for_its_lifetime_only() {
    let Some(store) = Store::start(&[]) else { return };
    let scene = store.scene().with("Sidecar:SharedCache:SessionLifetime", "4");
    let (sidecar, second) = (scene.start().with_keys(), scene.start().with_keys());
    sidecar.get_as(&scene.user("alice"), &own("k")).expect(200);
    let start = Instant::now();
    // Used from memory, it lives on in the store.
    while start.elapsed() < Duration::from_secs(6) {
        sidecar.get(&open("k")).expect(200);
        thread::sleep(Duration::from_millis(100));
    }
    second.get(&open("k")).expect(200);
    eventually("the store forgets it", || store.names().len() == 1);
    sidecar.get(&open("k")).expect(401);
}

#[test]
fn what_is_of_one_machine_or_process_is_not_shared() {
    let Some(store) = Store::start(&[]) else { return };
    let scene = store
        .scene()
        .with("DownstreamApis:Bound:Scopes", "api://downstream/.default")
        .with("DownstreamApis:Bound:RequestAppToken", "true")
        .with("DownstreamApis:Bound:ProtocolScheme", "PoP")
        .with("DownstreamApis:Bound:BaseUrl", "http://127.0.0.1/")
        .with("DownstreamApis:Machine:BaseUrl", "http://127.0.0.1/")
        .with("DownstreamApis:Machine:Scopes", "api://downstream/.default")
        .with("DownstreamApis:Machine:RequestAppToken", "true")
        .with("DownstreamApis:Machine:AcquireTokenOptions:ManagedIdentity", "");
    let host = scene.tenant.base_url().to_owned();
    let imds = [("AZURE_POD_IDENTITY_AUTHORITY_HOST", host.as_str())];
    let sidecar = scene.start_with(&imds);
    sidecar.get(&APP.replace("App", "Bound")).expect(200);
    sidecar.get(&APP.replace("App", "Machine"));
    assert_eq!(store.names(), Vec::<String>::new());
    // The same key for all replicas is another matter.
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/local-tenant/keys/client-1.pem");
    let scene = scene.with("Sidecar:SignedHttpRequests:KeyFile", key);
    scene.start_with(&imds).get(&APP.replace("App", "Bound")).expect(200);
    assert_eq!(store.names().len(), 1);
}

#[test]
fn forced_requests_pass_the_store_by_and_replace_its_token() {
    let Some(store) = Store::start(&[]) else { return };
    let scene = store.scene();
    let first = scene.start();
    let old = first.get(APP).token();
    let second = scene.start();
    let claims = acquire("Claims", r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#);
    for anew in [acquire("ForceRefresh", "true"), claims] {
        let new = second.get(&format!("{APP}?{anew}")).token();
        assert_ne!(new, old);
        assert_eq!(scene.start().get(APP).token(), new);
    }
    assert_eq!(requests(&scene.tenant).len(), 3);
    assert_eq!((counted(&second, "hit"), counted(&second, "miss")), (0, 0));
}

#[test]
fn whoever_serves_a_token_that_is_due_renews_it() {
    let Some(store) = Store::start(&[]) else { return };
    let scene = store.scene();
    scene.tenant.settings(|settings| settings.refresh_in = Some(0));
    let old = scene.start().get(APP).token();
    scene.tenant.settings(|settings| settings.refresh_in = None);
    // The renewal's answer must expire later to be the newer one.
    scene.tenant.settings(|settings| settings.expires_in = 7200);
    let second = scene.start();
    assert_eq!(second.get(APP).token(), old);
    eventually("the renewal", || requests(&scene.tenant).len() == 2);
    eventually("the new token", || second.get(APP).token() != old);
    assert_eq!(scene.start().get(APP).token(), second.get(APP).token());
    assert_eq!(requests(&scene.tenant).len(), 2);
}

#[test]
fn a_refusal_is_shared_with_nobody() {
    let Some(store) = Store::start(&[]) else { return };
    let scene = store.scene();
    scene.tenant.fail(Fault::once(Kind::Token, instead(refusal("invalid_grant", 50_057))));
    scene.start().get(APP).expect(500);
    assert_eq!(store.names(), Vec::<String>::new(), "not even a lock");
    scene.start().get(APP).expect(200);
}

#[test]
fn foreign_swapped_cut_and_old_values_are_no_values() {
    let Some(store) = Store::start(&[]) else { return };
    let scene = store.scene();
    let other = "/AuthorizationHeaderUnauthenticated/Down";
    let scene = scene
        .with("DownstreamApis:Down:RequestAppToken", "true")
        .with("DownstreamApis:Down:Scopes", "https://graph.microsoft.com/.default");
    let first = scene.start();
    first.get(APP).expect(200);
    let name = store.names().pop().unwrap();
    let good = store.get(&name);
    first.get(other).expect(200);
    let swapped = store.get(store.names().iter().find(|own| **own != name).unwrap());
    let half = &good[..good.len() / 2];
    let mut changed = good.clone();
    changed[30] = if changed[30] == b'A' { b'B' } else { b'A' };
    let long = vec![b'x'; 300 * 1024];
    let values: [&[u8]; 7] =
        [b"foreign", &swapped, half, &changed, b"*1\r\n*1\r\n", &long, &[&good[..], b"A"].concat()];
    for value in values {
        store.set(&name, value);
        let (sidecar, before) = (scene.start(), requests(&scene.tenant).len());
        sidecar.get(APP).expect(200);
        assert_eq!(requests(&scene.tenant).len(), before + 1, "{}", value.len());
        assert_eq!((counted(&sidecar, "error"), complaints(&sidecar)), (1, 1), "{}", value.len());
        // A value says nothing of the server.
        let again = scene.start();
        again.get(APP).expect(200);
        assert_eq!((counted(&again, "hit"), requests(&scene.tenant).len()), (1, before + 1), "it was replaced");
        sidecar.get(other).expect(200);
        assert_eq!(counted(&sidecar, "hit"), 1, "the store is asked on");
    }
    let _: i64 = store.ask(&["DEL", &name]);
    let _: i64 = store.ask(&["RPUSH", &name, "x"]);
    let sidecar = scene.start();
    sidecar.get(APP).expect(200);
    assert_eq!(counted(&sidecar, "error"), 1);
    // Over is over, whatever the store says.
    scene.tenant.settings(|settings| settings.expires_in = 1);
    let _: i64 = store.ask(&["DEL", &name]);
    scene.start().get(APP).expect(200);
    let old = store.get(&name);
    thread::sleep(Duration::from_millis(1100));
    store.set(&name, &old);
    let before = requests(&scene.tenant).len();
    scene.start().get(APP).expect(200);
    assert_eq!(requests(&scene.tenant).len(), before + 1);
}

#[test]
fn a_changed_key_is_taken_and_the_previous_one_still_reads() {
    let Some(store) = Store::start(&[]) else { return };
    let scene = store.scene();
    let sidecar = scene.start().with_keys();
    let token = sidecar.get(APP).token();
    sidecar.get_as(&scene.user("alice"), &own("k")).expect(200);
    fs::write(store.key_file(), format!("{OTHER_KEY}\n{KEY}\n")).unwrap();
    let second = scene.start().with_keys();
    assert_eq!(second.get(APP).token(), token);
    second.get(&open("k")).expect(200);
    let before = store.names().len();
    let newer = sidecar.get(&format!("{APP}?{}", acquire("ForceRefresh", "true"))).token();
    assert_eq!(store.names().len(), before + 1, "written under the new key, without a restart");
    assert_eq!(scene.start().get(APP).token(), newer);
    fs::write(store.key_file(), OTHER_KEY).unwrap();
    assert_eq!(scene.start().get(APP).token(), newer);
    scene.start().with_keys().get(&open("k")).expect(401);
}

#[test]
fn without_its_store_a_sidecar_goes_on_and_comes_back() {
    let Some(mut store) = Store::start(&[]) else { return };
    let scene = store.scene();
    let sidecar = scene.start();
    let token = sidecar.get(APP).token();
    store.kill();
    assert_eq!(sidecar.get(APP).token(), token);
    for _ in 0..5 {
        sidecar
            .get(&format!("{APP}?optionsOverride.AcquireTokenOptions.FmiPath=a{}", counted(&sidecar, "error")))
            .expect(200);
    }
    assert_eq!((counted(&sidecar, "error"), complaints(&sidecar)), (1, 1), "left alone");
    store.start_again();
    let mut number = 0;
    eventually("the store is used again", || {
        number += 1;
        sidecar.get(&format!("{APP}?optionsOverride.AcquireTokenOptions.FmiPath=b{number}")).expect(200);
        !store.names().is_empty()
    });
    assert_eq!(complaints(&sidecar), 1, "once a minute");
}

#[test]
fn a_stopped_store_costs_its_timeout_once() {
    let Some(store) = Store::start(&[]) else { return };
    let scene = store.scene().with("Sidecar:SharedCache:Timeout", "0.5");
    let sidecar = scene.start().with_keys();
    let token = sidecar.get(APP).token();
    store.signal("-STOP");
    assert_eq!(sidecar.get(APP).token(), token);
    let start = Instant::now();
    sidecar.get_as(&scene.user("alice"), &own("k")).expect(200);
    assert!(start.elapsed() >= Duration::from_millis(500), "it was waited for");
    assert_eq!(counted(&sidecar, "error"), 1);
    sidecar.get_as(&scene.user("bob"), DOWN).expect(200);
    assert_eq!((counted(&sidecar, "error"), complaints(&sidecar)), (1, 1));
    store.signal("-CONT");
}

#[test]
fn a_full_store_is_as_good_as_none() {
    let Some(store) = Store::start(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]) else { return };
    let scene = store.scene();
    let sidecar = scene.start();
    sidecar.get(APP).expect(200);
    assert_eq!((counted(&sidecar, "error"), complaints(&sidecar)), (1, 1));
    assert!(sidecar.log().iter().any(|line| line.contains("the server answered OOM")));
}

#[test]
fn a_leader_that_died_is_waited_for_no_longer_than_its_lock() {
    let Some(store) = Store::start(&[]) else { return };
    let scene = store.scene();
    let (mut first, second) = (scene.start(), scene.start());
    scene.tenant.fail(Fault::once(Kind::Token, Action::Hold));
    let mut caller = super::support::Client::connect(first.address);
    caller.get(APP);
    eventually("the first one leads", || requests(&scene.tenant).len() + scene.tenant.faults().held() >= 1);
    first.signal("-KILL");
    first.wait();
    let start = Instant::now();
    second.get(APP).expect(200);
    eprintln!("answered after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(10));
    scene.tenant.faults().release();
}

#[test]
fn a_store_is_reached_by_tls_password_socket_and_database() {
    let (certificate, key) = (ROOT.replace("root.pem", "server.pem"), ROOT.replace("root.pem", "server.key"));
    let password = format!("{HUSH}p@ss");
    let port = free_port().to_string();
    let tls = ["--port", "0", "--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let further = ["--tls-ca-cert-file", ROOT, "--tls-auth-clients", "no", "--requirepass", &password];
    // The least that its user must be permitted: docs/scale.md.
    let secret = format!(">{password}");
    let user = ["--user", "sidecar", "on", &secret, "~entra-sidecar:*", "-@all", "+get", "+set", "+del", "+pexpire"];
    let arguments = [&tls[..], &further, &user, &["+eval", "+select"]].concat();
    let Some(store) = Store::start(&arguments) else { return };
    let encoded = local_tenant::message::percent_encode(&password);
    let socket = store.socket().display().to_string();
    let mut tokens = HashSet::new();
    for (url, trusted) in [
        (format!("rediss://:{encoded}@localhost:{port}/3"), true),
        (format!("rediss://sidecar:{encoded}@localhost:{port}/3"), true),
        (format!("unix:{socket}?pass={encoded}&db=3"), false),
        (format!("unix://{socket}?user=default&pass={encoded}&db=3"), false),
    ] {
        let mut scene = store.share(Scene::new(), &url);
        if trusted {
            scene = scene.with("Sidecar:TrustedCertificates", ROOT);
        }
        let sidecar = scene.start();
        // Each scene has a tenant of its own, and so has each of its tokens.
        let token = sidecar.get(APP).token();
        assert_eq!(scene.start().get(APP).token(), token, "{url}");
        assert!(tokens.insert(token));
        assert_eq!(requests(&scene.tenant).len(), 1, "{url}");
        assert_eq!(counted(&sidecar, "error"), 0, "{url}");
    }
    for url in [
        format!("rediss://:{HUSH}wrong@localhost:{port}"),
        format!("rediss://:{encoded}@127.0.0.1:{port}"),
        format!("redis://:{encoded}@localhost:{port}"),
        format!("unix:{socket}"),
    ] {
        let scene = store.share(Scene::new(), &url).with("Sidecar:TrustedCertificates", ROOT);
        let sidecar = scene.start();
        sidecar.get(APP).expect(200);
        assert_eq!((counted(&sidecar, "error"), complaints(&sidecar)), (1, 1), "{url}");
    }
}

#[test]
fn check_judges_the_key_file_and_asks_the_store() {
    let Some(mut store) = Store::start(&[]) else { return };
    let scene = store.scene();
    let check = |further: &[&str]| {
        let mut command = command();
        command.arg("check").args(further);
        for (key, value) in &scene.settings {
            command.args(["--set", &format!("{key}={value}")]);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.success(), text)
    };
    let (good, text) = check(&["--online"]);
    assert!(good && text.contains("Sidecar:SharedCache:KeyFile: usable\n"), "{text}");
    assert!(
        text.contains(&format!("Sidecar:SharedCache:Url: redis://127.0.0.1:{}/0 answers, in ", store.port)),
        "{text}"
    );
    fs::write(store.key_file(), format!("{KEY}\n{OTHER_KEY}\n")).unwrap();
    assert!(check(&[]).1.contains("Sidecar:SharedCache:KeyFile: usable, with a previous key\n"));
    fs::write(store.key_file(), "secret").unwrap();
    let (good, text) = check(&[]);
    assert!(!good && text.contains("Sidecar:SharedCache:KeyFile: ") && text.contains("32 random bytes"), "{text}");
    fs::write(store.key_file(), KEY).unwrap();
    store.kill();
    let (good, text) = check(&["--online"]);
    assert!(!good && text.contains("Sidecar:SharedCache:Url: "), "{text}");
}
