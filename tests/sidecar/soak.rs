//! Mixed load for minutes while everything around the sidecar fails now and then. Run by `scripts/soak.sh`.
//!
//! Upstreams are slow for a part of the calls at all times, and in each calm a crowd comes, of many more callers than there are
//! turns. Each answer is checked: a token says whose and for what it is. Faults come in storms with calm between them; in a calm, from
//! a few seconds after its beginning on, every request must succeed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use local_tenant::certificate::{CLIENT_1, CLIENT_2};
use local_tenant::directory::{AGENT_ID, APP_ID};
use local_tenant::message::percent_encode;
use local_tenant::{Action, Answer, Fault, Kind};
use serde_json::{Value, json};

use super::support::{Client, Request, Response, Scene, Sidecar, claims, eventually};

const CALLERS: u64 = 16;
/// Of whom most need an upstream.
const CROWD: u64 = 200;
/// One origin, which everything here is, has three quarters of them.
const UPSTREAM_CALLS: &str = "32";
const SLOW_ONE_IN: u64 = 4;
const STORM: Duration = Duration::from_secs(6);
const CALM: Duration = Duration::from_secs(8);
/// What a storm may still cost after it: a throttle that was announced, a breaker, a retry under way.
const AFTERMATH: Duration = Duration::from_secs(4);
const USERS: [&str; 2] = ["alice", "bob"];
const AGENT_ACCOUNT: &str = "agent-user@contoso.onmicrosoft.com";

const STORMY: u8 = 0;
const SETTLING: u8 = 1;
const CALM_NOW: u8 = 2;

/// As even as it need be, and the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[derive(Default)]
struct Tally {
    /// By what was asked and what came.
    answers: Mutex<BTreeMap<(&'static str, u16), u64>>,
    faults: Mutex<BTreeMap<&'static str, u64>>,
    wrong: Mutex<Vec<String>>,
    /// Of `/healthz` and cached tokens, in microseconds.
    quick: Mutex<Vec<u64>>,
    asked: AtomicU64,
    /// Callers of a crowd who did not wait for their answer.
    left: AtomicU64,
    /// The most at once: threads, KiB resident, requests that wait for turns.
    most: Mutex<(usize, u64, usize)>,
}

impl Tally {
    fn most(&self, sidecar: &Sidecar) {
        let (resident, _, threads) = footprint(sidecar);
        let waiting = figure(sidecar, "upstream_calls{state=\"waiting\"}");
        let mut most = self.most.lock().unwrap();
        *most = (most.0.max(threads), most.1.max(resident), most.2.max(waiting));
    }

    fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap();
        if wrong.len() < 20 {
            wrong.push(what);
        }
    }
}

/// What one request is and what its answer must say.
struct Errand {
    name: &'static str,
    request: Request,
    /// Beside 200 and, in a storm, 503.
    expected: u16,
    /// Whether an upstream may be needed.
    upstream: bool,
    check: Box<dyn Fn(&Response) -> bool>,
}

fn says(name: &'static str, value: &str) -> Box<dyn Fn(&Response) -> bool> {
    let value = value.to_owned();
    Box::new(move |response| claims(&response.token())[name] == value.as_str())
}

fn errand(dice: &mut Dice, kind: u64, tokens: &[(usize, String)]) -> Errand {
    let size = dice.below(225);
    let (user, token) = &tokens[usize::try_from(dice.below(tokens.len() as u64)).unwrap()];
    let user = USERS[*user];
    let acquire =
        |name: &str, value: &str| format!("optionsOverride.AcquireTokenOptions.{name}={}", percent_encode(value));
    let app = "/AuthorizationHeaderUnauthenticated/App";
    let open = "/AuthorizationHeaderUnauthenticated/Down";
    let plain = |name, request, upstream, check| Errand { name, request, expected: 200, upstream, check };
    let call_api = |name, pad: u64| {
        let body = format!("{{\"n\":{},\"pad\":\"{}\"}}", dice.0, "p".repeat(usize::try_from(pad).unwrap()));
        let sent = body.clone();
        let request = Request::new("POST", "/DownstreamApi/Down?optionsOverride.RelativePath=echo");
        let check = move |response: &Response| {
            let told = response.json();
            let echo: Value =
                told["content"].as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
            // The API's own failures are told as they are.
            told["statusCode"] != json!(200) || echo["body"] == sent.as_str()
        };
        plain(name, request.bearer(token).body("application/json", body), true, Box::new(check))
    };
    match kind {
        0 => plain("health", Request::get("/healthz"), false, Box::new(|response| response.body == "Healthy")),
        1 | 2 => plain("application, cached", Request::get(app), true, says("azp", APP_ID)),
        3 => {
            let path = format!("soak/{}", dice.below(5000));
            let request = Request::get(&format!("{app}?{}", acquire("FmiPath", &path)));
            plain("application, one of 5,000 keys", request, true, says("xms_fmipath", &path))
        }
        4 | 5 => {
            let request = Request::get("/AuthorizationHeader/Down").bearer(token);
            plain("on behalf of a user", request, true, says("name", user))
        }
        6 => {
            let target = format!("/AuthorizationHeader/Down?{}", acquire("ForceRefresh", "true"));
            plain("on behalf of a user, forced", Request::get(&target).bearer(token), true, says("name", user))
        }
        7 => {
            let agent = format!("AgentIdentity={AGENT_ID}");
            plain("agent", Request::get(&format!("{app}?{agent}")), true, says("azp", AGENT_ID))
        }
        8 => {
            let target = format!("{open}?AgentIdentity={AGENT_ID}&AgentUsername={}", percent_encode(AGENT_ACCOUNT));
            plain("agent's user", Request::get(&target), true, says("preferred_username", AGENT_ACCOUNT))
        }
        9 => {
            let own = user.to_owned();
            let check = move |response: &Response| response.json()["claims"]["name"] == own.as_str();
            plain("validate", Request::get("/Validate").bearer(token), false, Box::new(check))
        }
        10 => {
            let mut bad = token.clone();
            let at = bad.len() - 20;
            let other = if bad.as_bytes()[at] == b'A' { "B" } else { "A" };
            bad.replace_range(at..=at, other);
            let request = Request::get("/Validate").bearer(&bad);
            Errand { name: "validate, forged", request, expected: 401, upstream: false, check: Box::new(|_| true) }
        }
        12 => call_api("downstream call, 32 to 256 KiB", 1024 * (32 + size)),
        _ => call_api("downstream call", 0),
    }
}

/// What waits for upstreams: keys that nobody asked for yet, forced tokens, and calls of the API.
const OF_A_CROWD: [u64; 4] = [3, 3, 6, 12];

/// One caller: requests one after the other on a connection that is opened anew now and then.
fn call(sidecar: &Sidecar, scene: &Scene, number: u64, tally: &Tally, weather: &AtomicU8, stop: &AtomicBool) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (number + 1));
    let fresh = |dice: &mut Dice| -> Vec<_> {
        let who = |at: usize| (at % USERS.len(), scene.user(USERS[at % USERS.len()]));
        (0..2 + usize::try_from(dice.below(4)).unwrap()).map(who).collect()
    };
    let mut tokens = fresh(&mut dice);
    let mut client: Option<Client> = None;
    while !stop.load(Ordering::Relaxed) {
        if dice.below(400) == 0 {
            tokens = fresh(&mut dice);
        }
        if dice.below(50) == 0 {
            client = None;
        }
        let kind = dice.below(13);
        let errand = errand(&mut dice, kind, &tokens);
        run(&errand, client.get_or_insert_with(|| Client::connect(sidecar.address)), tally, weather);
    }
}

/// Many callers at once, one request each. Some do not wait for the answer.
fn crowd(sidecar: &Sidecar, scene: &Scene, cycle: u64, tally: &Tally, weather: &AtomicU8) {
    let tokens: Vec<_> = USERS.iter().map(|user| scene.user(user)).enumerate().collect();
    thread::scope(|threads| {
        let caller = |number: u64| {
            let tokens = &tokens;
            threads.spawn(move || {
                let mut dice = Dice((cycle ^ (number + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let kind = OF_A_CROWD[usize::try_from(dice.below(4)).unwrap()];
                let errand = errand(&mut dice, kind, tokens);
                let mut client = Client::connect(sidecar.address);
                if dice.below(10) == 0 {
                    errand.request.begin_on(&mut client);
                    thread::sleep(Duration::from_millis(dice.below(100)));
                    tally.left.fetch_add(1, Ordering::Relaxed);
                } else {
                    run(&errand, &mut client, tally, weather);
                }
            })
        };
        let callers: Vec<_> = (0..CROWD).map(caller).collect();
        while callers.iter().any(|caller| !caller.is_finished()) {
            tally.most(sidecar);
            thread::sleep(Duration::from_millis(20));
        }
    });
}

/// One request, and whether its answer is as it must be.
fn run(errand: &Errand, client: &mut Client, tally: &Tally, weather: &AtomicU8) {
    let before = weather.load(Ordering::SeqCst);
    tally.asked.fetch_add(1, Ordering::Relaxed);
    let started = Instant::now();
    let response = errand.request.send_on(client);
    let took = started.elapsed();
    let calm = before == CALM_NOW && weather.load(Ordering::SeqCst) == CALM_NOW;
    *tally.answers.lock().unwrap().entry((errand.name, response.status)).or_default() += 1;
    if errand.name == "health" {
        tally.quick.lock().unwrap().push(u64::try_from(took.as_micros()).unwrap());
    }
    let excused = !calm && errand.upstream && matches!(response.status, 502..=504);
    if response.status == errand.expected {
        if !(errand.check)(&response) {
            tally.wrong(format!("{}: answered for somebody or something else: {}", errand.name, shown(&response)));
        }
    } else if !excused {
        tally.wrong(format!("{}: {} in {}", errand.name, shown(&response), if calm { "a calm" } else { "a storm" }));
    }
}

fn shown(response: &Response) -> String {
    let body: String = response.body.chars().take(300).collect();
    format!("{} {body}", response.status)
}

/// Brings one fault about.
fn fault(dice: &mut Dice, scene: &Scene, sidecar: &Sidecar, certificate: &std::path::Path) -> &'static str {
    let times = 1 + usize::try_from(dice.below(20)).unwrap();
    let answer = |answer: Answer| Action::Answer(Box::new(answer));
    let plan = |kind, action| scene.tenant.fail(Fault::times(kind, times, action));
    match dice.below(11) {
        0 => plan(Kind::Token, answer(Answer::status(500))),
        1 => {
            plan(Kind::Token, answer(Answer::status(429).header("Retry-After", "1")));
            return "token service throttles";
        }
        2 => {
            plan(Kind::Token, Action::Delay(Duration::from_millis(100 + dice.below(400))));
            return "token service slow";
        }
        3 => {
            plan(Kind::Token, Action::CutBeforeAnswer);
            return "token service cuts the connection";
        }
        4 => {
            plan(Kind::Token, Action::Truncate(300));
            return "token answer breaks off";
        }
        5 => {
            plan(Kind::Token, answer(Answer::text(200, "<html>maintenance</html>")));
            return "token answer is no JSON";
        }
        6 => {
            plan(Kind::Downstream, Action::CutAfterWork);
            return "API cuts the connection";
        }
        7 => {
            scene.tenant.cut_connections();
            return "every connection to upstreams cut";
        }
        8 => {
            plan(Kind::Jwks, answer(Answer::status(503)));
            return "keys cannot be fetched";
        }
        9 => {
            let pair = if dice.below(2) == 0 { &CLIENT_1 } else { &CLIENT_2 };
            fs::write(certificate, format!("{}{}", pair.certificate_pem, pair.key_pem)).unwrap();
            return "client certificate rotated";
        }
        _ => {
            sidecar.signal("-HUP");
            return "SIGHUP";
        }
    }
    "token service fails"
}

/// Resident KiB, open descriptors, threads.
fn footprint(sidecar: &Sidecar) -> (u64, usize, usize) {
    let process = format!("/proc/{}", sidecar.pid());
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident = resident.split_whitespace().next().unwrap().parse().unwrap();
    (resident, fs::read_dir(format!("{process}/fd")).unwrap().count(), sidecar.threads())
}

fn figure(sidecar: &Sidecar, name: &str) -> usize {
    let metrics = sidecar.get("/metrics").body;
    let line = metrics.lines().find(|line| line.starts_with(&format!("entra_sidecar_{name} "))).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// What is left when nobody has wanted anything for a while: threads for upstream calls end after ten seconds.
fn at_rest(sidecar: &Sidecar) -> (u64, usize, usize) {
    for name in [
        "connections{state=\"parked\"}", "upstream_calls{state=\"active\"}", "upstream_calls{state=\"waiting\"}",
        "body_memory_bytes",
    ] {
        eventually(name, || figure(sidecar, name) == 0);
    }
    let is_for_calls = |name: std::io::Result<String>| name.is_ok_and(|name| name.trim_end() == "upstream");
    eventually("no thread for upstream calls is left", || {
        let tasks = fs::read_dir(format!("/proc/{}/task", sidecar.pid())).unwrap();
        !tasks.flatten().any(|task| is_for_calls(fs::read_to_string(task.path().join("comm"))))
    });
    footprint(sidecar)
}

fn report(tally: &Tally, seconds: u64, footprints: &[(&str, (u64, usize, usize))]) -> String {
    let mut text = String::new();
    let answers = tally.answers.lock().unwrap();
    let total: u64 = answers.values().sum();
    writeln!(
        text,
        "{total} requests in {seconds} s by {CALLERS} callers\n\n| request | status | answers |\n|---|---|---|"
    )
    .unwrap();
    for ((name, status), count) in &*answers {
        writeln!(text, "| {name} | {status} | {count} |").unwrap();
    }
    writeln!(text, "\n| fault | times |\n|---|---|").unwrap();
    for (name, count) in &*tally.faults.lock().unwrap() {
        writeln!(text, "| {name} | {count} |").unwrap();
    }
    writeln!(text, "\n| | resident | descriptors | threads |\n|---|---|---|---|").unwrap();
    for (when, (resident, descriptors, threads)) in footprints {
        writeln!(text, "| {when} | {resident} KiB | {descriptors} | {threads} |").unwrap();
    }
    let (threads, resident, waiting) = *tally.most.lock().unwrap();
    writeln!(text, "| the most | {resident} KiB | | {threads} |").unwrap();
    let left = tally.left.load(Ordering::Relaxed);
    writeln!(
        text,
        "\nCrowds of {CROWD} with {UPSTREAM_CALLS} turns: {waiting} requests waited at once, {left} callers left before their answer"
    )
    .unwrap();
    let mut quick = tally.quick.lock().unwrap();
    quick.sort_unstable();
    let at = |share: usize| quick.get(quick.len() * share / 1000).copied().unwrap_or_default();
    writeln!(text, "\n`/healthz` throughout: p50 {} µs, p99 {} µs, p99.9 {} µs", at(500), at(990), at(999)).unwrap();
    text
}

#[test]
#[ignore = "takes minutes: scripts/soak.sh"]
fn nothing_is_wrong_lost_or_leaked_amid_failures() {
    let seconds: u64 = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(180);
    let folder = tempfile::tempdir().unwrap();
    let certificate = folder.path().join("client.pem");
    fs::write(&certificate, format!("{}{}", CLIENT_1.certificate_pem, CLIENT_1.key_pem)).unwrap();
    let mut scene = Scene::new()
        .with("AzureAd:ClientCredentials:0:SourceType", "Path")
        .with("AzureAd:ClientCredentials:0:CertificateDiskPath", certificate.to_str().unwrap())
        .with("Sidecar:Limits:TokenRequestTimeout", "2")
        .with("Sidecar:Limits:TokenCacheEntries", "1000")
        .with("Sidecar:Limits:UpstreamCalls", UPSTREAM_CALLS)
        .with("Logging:LogLevel:Default", "Information")
        .with("Logging:LogLevel:Access", "None");
    scene.settings.remove("AzureAd:ClientCredentials:0:ClientSecret");
    let sidecar = scene.start().with_keys();
    scene.tenant.settings(|settings| settings.slow_one_in = Some(SLOW_ONE_IN));
    let tally = Tally::default();
    let mut footprints = vec![("idle", footprint(&sidecar))];
    let mut dice = Dice(42);
    // One cycle fills the cache and starts what starts once: what is left after it is what has to be left at the end.
    for (length, when) in [(1, "at rest after the first cycle"), (seconds, "at rest at the end")] {
        load(&sidecar, &scene, &tally, &certificate, &mut dice, Duration::from_secs(length));
        footprints.push((when, at_rest(&sidecar)));
    }
    let metrics = sidecar.get("/metrics").body;
    println!("{}", report(&tally, seconds, &footprints));
    let wrong = tally.wrong.lock().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let answered: u64 = tally.answers.lock().unwrap().values().sum();
    assert_eq!(tally.asked.load(Ordering::Relaxed), answered, "every request was answered");
    assert!(metrics.contains("entra_sidecar_panics_total 0"));
    assert!(tally.most.lock().unwrap().2 > 50, "the queue for turns was hardly used");
    let ((before, _, threads), (after, descriptors, threads_after)) = (footprints[1].1, footprints[2].1);
    // The cache is full after the first cycle; what it holds differs in length.
    assert!(after < before + before / 5 + 2048, "resident memory grew from {before} to {after} KiB");
    assert!(descriptors < 64, "{descriptors} descriptors are open");
    assert_eq!(threads, threads_after);
}

/// Storms and calms for so long, at least one of each.
fn load(
    sidecar: &Sidecar,
    scene: &Scene,
    tally: &Tally,
    certificate: &std::path::Path,
    dice: &mut Dice,
    length: Duration,
) {
    let (weather, stop) = (AtomicU8::new(CALM_NOW), AtomicBool::new(false));
    thread::scope(|threads| {
        for number in 0..CALLERS {
            let (weather, stop) = (&weather, &stop);
            threads.spawn(move || call(sidecar, scene, number, tally, weather, stop));
        }
        let end = Instant::now() + length;
        let mut cycle: u64 = 0;
        while Instant::now() < end {
            cycle += 1;
            weather.store(STORMY, Ordering::SeqCst);
            let storm = Instant::now() + STORM;
            while Instant::now() < storm {
                *tally.faults.lock().unwrap().entry(fault(dice, scene, sidecar, certificate)).or_default() += 1;
                thread::sleep(Duration::from_millis(50 + dice.below(300)));
            }
            scene.tenant.faults().clear();
            // Not with every storm: an unknown key is asked for once in thirty seconds, and must be known at the first token.
            if cycle.is_multiple_of(2) {
                scene.tenant.rotate_keys();
                *tally.faults.lock().unwrap().entry("signing key rotated").or_default() += 1;
            }
            weather.store(SETTLING, Ordering::SeqCst);
            thread::sleep(AFTERMATH);
            weather.store(CALM_NOW, Ordering::SeqCst);
            let calm = Instant::now() + CALM;
            crowd(sidecar, scene, cycle << 32, tally, &weather);
            thread::sleep(calm.saturating_duration_since(Instant::now()));
            // The tenant would keep every request.
            scene.tenant.journal().clear();
        }
        stop.store(true, Ordering::SeqCst);
    });
}
