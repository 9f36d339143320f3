//! Keys from an authority in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::jwks::authority::Authority;
use crate::jwks::document::DocumentError;
use crate::jwks::schedule::LIFETIME;
use crate::jwks::testing::{RSA_A, RSA_B, registration};
use crate::outbound::{HeaderFields, OutError, OutRequest, OutResponse};

const INSTANCE: &str = "https://login.microsoftonline.com";
const METADATA: &str = "https://login.microsoftonline.com/t/v2.0/.well-known/openid-configuration";
const V1_METADATA: &str = "https://login.microsoftonline.com/t/.well-known/openid-configuration";
const JWKS: &str = "https://login.microsoftonline.com/t/discovery/v2.0/keys";

/// Answers from a map of addresses to status and body, and keeps a journal.
#[derive(Default)]
struct Entra {
    documents: Mutex<HashMap<String, (u16, String)>>,
    journal: Mutex<Vec<String>>,
}

impl Entra {
    fn new() -> Arc<Self> {
        let entra = Arc::new(Self::default());
        let metadata = format!(r#"{{"issuer":"{INSTANCE}/{{tenantid}}/v2.0","jwks_uri":"{JWKS}"}}"#);
        entra.publish(METADATA, 200, &metadata);
        entra.publish(V1_METADATA, 200, r#"{"issuer":"https://sts.example/{tenantid}/"}"#);
        entra.publish(JWKS, 200, &format!(r#"{{"keys":[{}]}}"#, RSA_A.jwk("one")));
        entra
    }

    fn publish(&self, url: &str, status: u16, body: &str) {
        self.documents.lock().insert(url.to_owned(), (status, body.to_owned()));
    }

    fn go_down(&self) {
        self.documents.lock().clear();
    }

    fn journal(&self) -> Vec<String> {
        std::mem::take(&mut self.journal.lock())
    }
}

impl Exchange for Entra {
    fn send(&self, request: OutRequest) -> Result<OutResponse, OutError> {
        assert_eq!((request.method.as_str(), request.body.is_none()), ("GET", true));
        self.journal.lock().push(request.url.to_string());
        match self.documents.lock().get(&request.url.to_string()) {
            Some((status, body)) => {
                Ok(OutResponse { status: *status, headers: HeaderFields::default(), body: body.clone().into_bytes() })
            }
            None => Err(OutError::Connect("login.microsoftonline.com: refused".into())),
        }
    }
}

const FORCED_INTERVAL: Duration = Duration::from_secs(30);

fn settings() -> KeySettings {
    let authority = Authority::of(&registration(&format!("{INSTANCE}/"), "t")).unwrap();
    let (refresh, minimum) = (Duration::from_hours(12), FORCED_INTERVAL);
    KeySettings { authority, allow_insecure: false, timeout: Duration::from_secs(15), refresh, minimum }
}

struct Scene {
    keys: Keys,
    entra: Arc<Entra>,
    clock: Arc<ManualClock>,
    woken: Arc<AtomicUsize>,
}

impl Scene {
    fn new() -> Self {
        let (entra, clock) = (Entra::new(), Arc::new(ManualClock::at(1_700_000_000)));
        let keys = Keys::idle(settings(), entra.clone(), clock.clone());
        Self { keys, entra, clock, woken: Arc::default() }
    }

    /// Fetches if due, as the thread would.
    fn turn(&self) -> bool {
        let due = self.keys.shared.state.lock().schedule.wait(self.clock.instant()).is_zero();
        if due {
            let (reason, known) = self.keys.shared.next().unwrap();
            self.keys.shared.fetch(reason, known.as_deref());
        }
        due
    }

    fn waker(&self) -> Waker {
        let woken = Arc::clone(&self.woken);
        Box::new(move || {
            woken.fetch_add(1, Ordering::SeqCst);
        })
    }

    fn woken(&self) -> usize {
        self.woken.swap(0, Ordering::SeqCst)
    }

    fn unknown(&self) -> RefreshAnswer {
        self.keys.on_unknown_kid(&self.keys.snapshot().unwrap(), self.waker())
    }
}

#[test]
fn keys_and_both_issuers_are_fetched_at_start() {
    let scene = Scene::new();
    assert!(scene.keys.snapshot().is_none());
    assert!(scene.turn());
    let set = scene.keys.snapshot().unwrap();
    assert_eq!((set.len(), set.skipped()), (1, 0));
    assert_eq!(scene.entra.journal(), [METADATA, JWKS, V1_METADATA]);
    let tenant = crate::jwks::testing::TENANT;
    let knows = |iss: String| set.issuers().iter().any(|issuer| issuer.matches(&iss, Some(tenant)));
    assert!(knows(format!("{INSTANCE}/{tenant}/v2.0")) && knows(format!("https://sts.example/{tenant}/")));
    assert!(!knows(format!("https://sts.windows.net/{tenant}/")), "the document says otherwise");
}

#[test]
fn without_a_v1_document_the_rule_holds() {
    let scene = Scene::new();
    scene.entra.publish(V1_METADATA, 404, "");
    scene.turn();
    let tenant = crate::jwks::testing::TENANT;
    let set = scene.keys.snapshot().unwrap();
    let iss = format!("https://sts.windows.net/{tenant}/");
    assert!(set.issuers().iter().any(|issuer| issuer.matches(&iss, Some(tenant))));
}

#[test]
fn requests_waiting_for_keys_wake_after_the_first_fetch() {
    let scene = Scene::new();
    assert_eq!(scene.keys.on_missing(scene.waker()), RefreshAnswer::Wait);
    assert_eq!(scene.woken(), 0);
    scene.turn();
    assert_eq!(scene.woken(), 1);
    assert_eq!(scene.keys.on_missing(scene.waker()), RefreshAnswer::Wait);
    assert_eq!(scene.woken(), 1, "they have come meanwhile: at once");
}

#[test]
fn no_caller_waits_while_the_authority_is_down() {
    let scene = Scene::new();
    scene.entra.go_down();
    assert_eq!(scene.keys.on_missing(scene.waker()), RefreshAnswer::Wait);
    scene.turn();
    assert_eq!(scene.woken(), 1);
    assert!(scene.keys.snapshot().is_none());
    assert_eq!(scene.keys.on_missing(scene.waker()), RefreshAnswer::NotNow);
    assert!(!scene.turn(), "not at once");
    *scene.entra.documents.lock() = std::mem::take(&mut Entra::new().documents.lock());
    scene.clock.advance(Duration::from_secs(1));
    assert!(scene.turn());
    assert!(scene.keys.snapshot().is_some());
}

#[test]
fn an_unknown_key_is_fetched_once_for_all_who_ask() {
    let scene = Scene::new();
    scene.turn();
    scene.entra.journal();
    let jwks = format!(r#"{{"keys":[{},{}]}}"#, RSA_A.jwk("one"), RSA_B.jwk("two"));
    scene.entra.publish(JWKS, 200, &jwks);
    let seen = scene.keys.snapshot().unwrap();
    assert_eq!([scene.unknown(), scene.unknown()], [RefreshAnswer::Wait; 2]);
    scene.turn();
    assert_eq!(scene.woken(), 2);
    assert_eq!(scene.entra.journal(), [METADATA, JWKS], "the v1 issuer is known");
    assert_eq!(scene.keys.snapshot().unwrap().find("two").len(), 1);
    assert_eq!(scene.unknown(), RefreshAnswer::NotNow);
    assert_eq!(scene.keys.on_unknown_kid(&seen, scene.waker()), RefreshAnswer::Wait, "judged by an older set");
    assert_eq!(scene.woken(), 1);
    assert!(!scene.turn());
    scene.clock.advance(FORCED_INTERVAL);
    assert_eq!(scene.unknown(), RefreshAnswer::Wait);
    assert!(scene.turn());
}

#[test]
fn the_last_good_set_is_kept_for_a_day() {
    let scene = Scene::new();
    scene.turn();
    scene.entra.go_down();
    let step = Duration::from_secs(3600);
    for _ in 0..23 {
        scene.clock.advance(step);
        scene.turn();
    }
    assert_eq!(scene.keys.age_seconds(), Some(23 * 3600));
    assert!(scene.keys.snapshot().is_some());
    scene.clock.advance(LIFETIME.checked_sub(step * 23).unwrap());
    assert!(scene.keys.snapshot().is_none());
}

#[test]
fn a_bad_answer_leaves_the_good_set() {
    let scene = Scene::new();
    scene.turn();
    let good = scene.keys.snapshot().unwrap();
    let foreign = format!(r#"{{"issuer":"{INSTANCE}/t/v2.0","jwks_uri":"https://evil.example/keys"}}"#);
    for (url, status, body) in [
        (METADATA, 302, ""),
        (METADATA, 200, "<html>"),
        (METADATA, 200, foreign.as_str()),
        (JWKS, 500, ""),
        (JWKS, 200, r#"{"keys":[]}"#),
    ] {
        *scene.entra.documents.lock() = std::mem::take(&mut Entra::new().documents.lock());
        scene.entra.publish(url, status, body);
        scene.clock.advance(FORCED_INTERVAL);
        assert_eq!(scene.unknown(), RefreshAnswer::Wait);
        scene.turn();
        assert!(Arc::ptr_eq(&good, &scene.keys.snapshot().unwrap()), "{url} {status} {body}");
    }
    assert!(!scene.entra.journal().iter().any(|url| url.contains("evil")), "never even asked");
}

#[test]
fn each_failure_is_named() {
    let entra = Entra::new();
    let fetch = |settings: &KeySettings| super::super::fetch::fetch(settings, &*entra, None).map(|_| ());
    entra.publish(METADATA, 503, "");
    assert_eq!(fetch(&settings()), Err(FetchError::Status(503)));
    entra.publish(METADATA, 200, "{}");
    assert_eq!(fetch(&settings()), Err(FetchError::Metadata(DocumentError::Malformed)));
    entra.go_down();
    assert!(matches!(fetch(&settings()), Err(FetchError::Unreachable(_))));
    let authority = Authority::of(&registration("http://entra.example/", "t")).unwrap();
    assert_eq!(
        fetch(&KeySettings { authority, ..settings() }),
        Err(FetchError::Insecure("http://entra.example".into()))
    );
}

#[test]
fn the_thread_fetches_by_itself_and_stops() {
    let entra = Entra::new();
    let keys = Keys::start(settings(), entra, Arc::new(SystemClock)).unwrap();
    let (sender, receiver) = mpsc::channel();
    let waker = move || sender.send(()).unwrap();
    assert_eq!(keys.on_missing(Box::new(waker)), RefreshAnswer::Wait);
    receiver.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(keys.snapshot().is_some());
    keys.stop();
    assert_eq!(keys.on_unknown_kid(&keys.snapshot().unwrap(), Box::new(|| ())), RefreshAnswer::NotNow);
}

#[test]
fn stopping_wakes_whoever_waits() {
    let scene = Scene::new();
    assert_eq!(scene.keys.on_missing(scene.waker()), RefreshAnswer::Wait);
    scene.keys.stop();
    assert_eq!(scene.woken(), 1);
    assert!(scene.keys.shared.next().is_none());
}
