//! Acquisition from a token service in memory.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::key::KnownRequests;
use super::*;
use crate::clock::ManualClock;
use crate::config::{CredentialDescription, CredentialSource, Registration};
use crate::credentials::{Client, Credentials};
use crate::options::AgentUser;
use crate::outbound::{HeaderFields, OutError, OutRequest, OutResponse};
use crate::value::bound_key::BoundKey;

/// Tenant `t1`, client `c1`, with a secret.
pub fn registration() -> Registration {
    let secret = CredentialSource::ClientSecret(Secret::new("s=cret".into()));
    Registration {
        credentials: vec![CredentialDescription {
            key: "AzureAd:ClientCredentials:0".into(),
            kind: "ClientSecret",
            source: secret,
        }],
        ..crate::config::testing::registration("https://login.microsoftonline.com/", "t1")
    }
}

fn client(registration: Registration) -> Arc<Client> {
    let credentials = Credentials::new(&registration.credentials);
    Arc::new(Client { registration: Arc::new(registration), credentials })
}

type Answer = Box<dyn Fn(&str, &BTreeMap<String, String>) -> Result<OutResponse, OutError> + Send + Sync>;

/// Records every request, and answers with a fixed rule.
struct Service {
    requests: Mutex<Vec<(String, BTreeMap<String, String>)>>,
    answer: Answer,
}

impl Service {
    fn new(
        answer: impl Fn(&str, &BTreeMap<String, String>) -> Result<OutResponse, OutError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { requests: Mutex::default(), answer: Box::new(answer) })
    }

    /// Its tokens state their tenant and scope.
    fn telling() -> Arc<Self> {
        Self::new(|url, form| {
            let field = |name: &str| form.get(name).map_or("-", String::as_str);
            let token = [
                url,
                field("client_id"),
                field("scope"),
                field("assertion"),
                field("username"),
                field("user_id"),
                field("fmi_path"),
                field("client_assertion"),
                field("req_cnf"),
            ]
            .join("~")
            .replace(' ', "+");
            let kind = if form.contains_key("req_cnf") { "pop" } else { "Bearer" };
            ok(&format!(r#"{{"token_type":"{kind}","expires_in":3600,"refresh_in":1800,"access_token":"{token}"}}"#))
        })
    }

    fn requests(&self) -> Vec<(String, BTreeMap<String, String>)> {
        self.requests.lock().unwrap().clone()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "stands for an exchange, which may fail")]
fn ok(body: &str) -> Result<OutResponse, OutError> {
    Ok(OutResponse { status: 200, headers: HeaderFields::default(), body: body.as_bytes().to_vec() })
}

impl Exchange for Service {
    fn send(&self, request: OutRequest) -> Result<OutResponse, OutError> {
        let url = request.url.to_string();
        let Some(body) = request.body else {
            self.requests.lock().unwrap().push((url.clone(), BTreeMap::new()));
            return (self.answer)(&url, &BTreeMap::new());
        };
        let body = String::from_utf8(body.current().to_vec()).unwrap();
        let decode = |text: &str| {
            let mut bytes = Vec::new();
            let mut rest = text.bytes();
            while let Some(byte) = rest.next() {
                bytes.push(match byte {
                    b'+' => b' ',
                    b'%' => {
                        let hex = [rest.next().unwrap(), rest.next().unwrap()];
                        u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
                    }
                    other => other,
                });
            }
            String::from_utf8(bytes).unwrap()
        };
        let form: BTreeMap<String, String> = body
            .split('&')
            .map(|field| field.split_once('=').map(|(name, value)| (decode(name), decode(value))).unwrap())
            .collect();
        // Extra URL parameters must not share a name with any field that is sent.
        for name in form.keys() {
            assert!(crate::value::syntax::token_parameter(name).is_err(), "{name}");
        }
        self.requests.lock().unwrap().push((url.clone(), form.clone()));
        (self.answer)(&url, &form)
    }
}

struct Bench {
    service: Arc<Service>,
    clock: Arc<ManualClock>,
    acquirer: Arc<Acquirer>,
}

fn bench(service: Arc<Service>) -> Bench {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let limits = Limits {
        token_request_timeout: Duration::from_secs(15),
        token_cache_entries: 100,
        token_cache_bytes: 1 << 20,
        sessions: 10,
        ..Limits::default()
    };
    let acquirer = Acquirer::new(&limits, Arc::clone(&service) as _, Arc::clone(&clock) as _, |_| None, None);
    Bench { service, clock, acquirer }
}

fn wanted<'a>(client: &'a Arc<Client>, subject: Subject<'a>, scopes: &'a [String]) -> TokenRequest<'a> {
    TokenRequest::plain(client, subject, scopes, "11111111-2222-4333-8444-555555555555")
}

impl Bench {
    fn get(&self, wanted: &TokenRequest<'_>) -> Result<Arc<AccessToken>, Error> {
        match self.acquirer.acquire(wanted, None, || Box::new(|| {}))? {
            Step::Done(token) => Ok(token),
            Step::Lead(lead, _) => self.acquirer.lead(wanted, lead),
            Step::Wait(_) => panic!("nobody else asks"),
        }
    }
}

fn user<'a>(token: &'a str, tenant: &'a str) -> UserAssertion<'a> {
    UserAssertion::unverified(token, tenant)
}

fn scopes(list: &[&str]) -> Vec<String> {
    list.iter().map(|scope| (*scope).to_owned()).collect()
}

#[test]
fn an_application_token_request_has_exactly_these_fields() {
    let bench = bench(Service::telling());
    let (client, scopes) = (client(registration()), scopes(&["https://graph.microsoft.com/.default"]));
    let wanted = wanted(&client, Subject::ClientCredentials, &scopes);
    let first = bench.get(&wanted).unwrap();
    assert!(Arc::ptr_eq(&first, &bench.get(&wanted).unwrap()));
    let requests = bench.service.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].0, "https://login.microsoftonline.com/t1/oauth2/v2.0/token");
    let expected = [
        ("client_id", "c1"),
        ("client_secret", "s=cret"),
        ("scope", "https://graph.microsoft.com/.default"),
        ("client_info", "2"),
        ("grant_type", "client_credentials"),
    ];
    assert_eq!(requests[0].1, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[test]
fn a_generic_authoritys_token_endpoint_is_discovered_once() {
    const METADATA: &str = "https://login.contoso.example/custom-path/v2.0/.well-known/openid-configuration";
    let asked = |endpoint: &'static str| {
        let bench = bench(Service::new(move |url, _| {
            let document = format!(
                r#"{{"issuer":"https://login.contoso.example","jwks_uri":"https://login.contoso.example/keys",
                    "token_endpoint":"{endpoint}"}}"#
            );
            if url == METADATA {
                ok(&document)
            } else {
                ok(r#"{"token_type":"Bearer","expires_in":1,"access_token":"t"}"#)
            }
        }));
        let authority = Url::parse("https://login.contoso.example/custom-path").ok();
        let (client, scopes) =
            (client(Registration { authority, tenant: String::new(), ..registration() }), scopes(&["a/.default"]));
        let wanted = TokenRequest { force_refresh: true, ..wanted(&client, Subject::ClientCredentials, &scopes) };
        let outcomes = [bench.get(&wanted).is_ok(), bench.get(&wanted).is_ok()];
        let urls: Vec<_> = bench.service.requests().into_iter().map(|(url, _)| url).collect();
        (outcomes, urls)
    };
    let endpoint = "https://login.contoso.example/custom/oauth2/v2.0/token";
    assert_eq!(asked(endpoint), ([true, true], vec![METADATA.into(), endpoint.into(), endpoint.into()]));
    let (outcomes, urls) = asked("https://elsewhere.example/token");
    assert_eq!(outcomes, [false, false], "credentials go to nobody else");
    assert!(urls.iter().all(|url| url == METADATA), "{urls:?}");
}

#[test]
fn on_behalf_of_presents_the_users_token_at_the_users_tenant() {
    let bench = bench(Service::telling());
    let (client, scopes) = (client(registration()), scopes(&["User.Read", "openid"]));
    bench.get(&wanted(&client, Subject::OnBehalfOf(user("h.p.s", "home")), &scopes)).unwrap();
    let (url, form) = &bench.service.requests()[0];
    assert_eq!(url, "https://login.microsoftonline.com/home/oauth2/v2.0/token");
    let expected = [
        ("client_id", "c1"),
        ("client_secret", "s=cret"),
        ("scope", "offline_access openid profile User.Read"),
        ("client_info", "1"),
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("assertion", "h.p.s"),
        ("requested_token_use", "on_behalf_of"),
    ];
    assert_eq!(*form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[test]
fn the_legs_of_an_agents_user_are_three_and_cached_each() {
    let bench = bench(Service::telling());
    let (client, scopes) = (client(registration()), scopes(&["User.Read"]));
    let account = AgentUser::Username("agent@contoso.com".into());
    let mut wanted = wanted(&client, Subject::AgentUser("a1", &account), &scopes);
    bench.get(&wanted).unwrap();
    let requests = bench.service.requests();
    assert_eq!(requests.len(), 3);
    let field = |leg: usize, name: &str| requests[leg].1.get(name).map(String::as_str);
    assert_eq!((field(0, "client_id"), field(0, "fmi_path")), (Some("c1"), Some("a1")));
    assert_eq!((field(1, "client_id"), field(1, "fmi_path")), (Some("a1"), None));
    assert_eq!(field(1, "scope"), Some("api://AzureADTokenExchange/.default"));
    assert_eq!((field(2, "client_id"), field(2, "grant_type")), (Some("a1"), Some("user_fic")));
    assert_eq!(field(2, "username"), Some("agent@contoso.com"));
    assert_eq!(field(1, "client_assertion"), field(2, "client_assertion"));
    assert_ne!(field(2, "client_assertion"), field(2, "user_federated_identity_credential"));
    assert_eq!((field(2, "requested_token_use"), field(2, "client_info")), (None, Some("1")));
    wanted.force_refresh = true;
    bench.get(&wanted).unwrap();
    assert_eq!(bench.service.requests().len(), 4, "the exchange tokens are cached");
    wanted.tenant = Some("t2");
    bench.get(&wanted).unwrap();
    assert_eq!(bench.service.requests().len(), 7, "every leg belongs to its tenant");
}

#[test]
fn whatever_tells_tokens_apart_tells_cache_entries_apart() {
    let (own, other) = (client(registration()), client(Registration { section: "Other".into(), ..registration() }));
    let (a, b) = (scopes(&["a"]), scopes(&["b"]));
    let keys =
        ["k1", "k2"].map(|kid| BoundKey { req_cnf: kid.replace('k', "r"), ..BoundKey::from_kid(kid.to_owned()) });
    let names = [AgentUser::Username("u1".into()), AgentUser::Username("u2".into()), AgentUser::Id("u1".into())];
    let mut seen = std::collections::HashSet::new();
    let mut total = 0;
    for client in [&own, &other] {
        for tenant in [None, Some("t2"), Some("t3")] {
            for scopes in [&a, &b] {
                for bound_key in [None, Some(&keys[0]), Some(&keys[1])] {
                    for fmi_path in [None, Some("f")] {
                        let subjects = [
                            Subject::ClientCredentials,
                            Subject::OnBehalfOf(user("x", "h")),
                            Subject::OnBehalfOf(user("y", "h")),
                            Subject::AgentAutonomous("a1"),
                            Subject::AgentAutonomous("a2"),
                            Subject::AgentOnBehalfOf("a1", user("x", "h")),
                            Subject::AgentOnBehalfOf("a2", user("x", "h")),
                            Subject::AgentOnBehalfOf("a1", user("y", "h")),
                            Subject::AgentUser("a1", &names[0]),
                            Subject::AgentUser("a1", &names[1]),
                            Subject::AgentUser("a1", &names[2]),
                            Subject::AgentUser("a2", &names[0]),
                        ];
                        for subject in subjects {
                            let wanted =
                                TokenRequest { tenant, bound_key, fmi_path, ..wanted(client, subject, scopes) };
                            total += 1;
                            seen.insert(wanted.key());
                        }
                    }
                }
            }
        }
    }
    assert_eq!(seen.len(), total);
}

#[test]
fn a_known_request_has_the_same_key_as_before() {
    let (client, scopes) = (client(registration()), scopes(&["a"]));
    let known = KnownRequests::default();
    let subjects = [
        Subject::ClientCredentials,
        Subject::OnBehalfOf(user("x", "h")),
        Subject::OnBehalfOf(user("y", "h")),
        Subject::AgentAutonomous("a1"),
        Subject::AgentOnBehalfOf("a1", user("x", "h")),
    ];
    let mut seen = std::collections::HashSet::new();
    for subject in subjects {
        let first = wanted(&client, subject, &scopes);
        let again = TokenRequest { known: Some(&known), ..first };
        for _ in 0..2 {
            assert_eq!(again.key(), first.key());
        }
        seen.insert(first.key());
    }
    assert_eq!(seen.len(), subjects.len());
}

#[test]
fn a_token_that_is_not_bound_as_asked_is_never_passed_on() {
    let bench = bench(Service::new(|_, _| ok(r#"{"token_type":"Bearer","expires_in":3600,"access_token":"AT"}"#)));
    let (client, scopes) = (client(registration()), scopes(&["x/.default"]));
    let key = BoundKey { req_cnf: "r".into(), ..BoundKey::from_kid("k".into()) };
    let wanted = TokenRequest { bound_key: Some(&key), ..wanted(&client, Subject::ClientCredentials, &scopes) };
    assert!(matches!(bench.get(&wanted), Err(Error::TokenType { expected: "PoP" })));
}

#[test]
fn a_token_is_renewed_in_the_background_from_refresh_in() {
    let bench = bench(Service::telling());
    let (client, scopes) = (client(registration()), scopes(&["x/.default"]));
    let wanted = wanted(&client, Subject::ClientCredentials, &scopes);
    bench.get(&wanted).unwrap();
    bench.clock.advance(Duration::from_mins(30));
    bench.get(&wanted).unwrap();
    while bench.acquirer.results.refreshed.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(bench.service.requests().len(), 2);
    bench.clock.advance(Duration::from_secs(1799));
    bench.get(&wanted).unwrap();
    assert_eq!(bench.service.requests().len(), 2, "the renewed token is fresh again");
}

#[test]
fn whoever_asks_meanwhile_waits_for_the_one_answer() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let bench = bench(Service::new(move |_, _| {
        wait.lock().unwrap().recv().unwrap();
        ok(r#"{"token_type":"Bearer","expires_in":100,"access_token":"AT"}"#)
    }));
    let (client, scopes) = (client(registration()), scopes(&["x/.default"]));
    let wanted = wanted(&client, Subject::ClientCredentials, &scopes);
    std::thread::scope(|threads| {
        let leader = threads.spawn(|| bench.get(&wanted).unwrap());
        while bench.service.requests().is_empty() {
            std::thread::yield_now();
        }
        let (woken, woke) = std::sync::mpsc::channel();
        let mut tickets = Vec::new();
        for _ in 0..1000 {
            let woken = woken.clone();
            let step = bench.acquirer.acquire(&wanted, None, || Box::new(move || woken.send(()).unwrap()));
            let Ok(Step::Wait(ticket)) = step else { panic!("expected to wait") };
            tickets.push(ticket);
        }
        go.send(()).unwrap();
        let token = leader.join().unwrap();
        assert_eq!(woke.iter().take(1000).count(), 1000);
        for ticket in tickets {
            // The token lives shorter than the margin, so the cache would not serve it.
            let Ok(Step::Done(own)) = bench.acquirer.acquire(&wanted, Some(ticket), || Box::new(|| {})) else {
                panic!("expected the token")
            };
            assert!(Arc::ptr_eq(&own, &token));
        }
    });
    assert_eq!(bench.service.requests().len(), 1);
}

#[test]
fn no_credential_is_named_as_such() {
    let bench = bench(Service::telling());
    let client = client(Registration { credentials: Vec::new(), ..registration() });
    let scopes = scopes(&["x/.default"]);
    let error = bench.get(&wanted(&client, Subject::ClientCredentials, &scopes)).unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error}");
    assert!(bench.service.requests().is_empty());
}

#[test]
fn a_session_renews_with_the_users_or_the_refresh_token() {
    let bench = bench(Service::new(|_, form| {
        let grant = form["grant_type"].as_str();
        let next = if grant == "refresh_token" { "rt2" } else { "rt1" };
        ok(&format!(r#"{{"token_type":"Bearer","expires_in":3600,"access_token":"AT","refresh_token":"{next}"}}"#))
    }));
    let (client, scopes) = (client(registration()), scopes(&["User.Read"]));
    let id = session::SessionId::new(&registration(), None, "k");
    let owner = session::Owner { tenant: "home".into(), user: session::User::ObjectId("o1".into()) };
    let subject = |renewal| {
        Subject::Session(SessionSubject {
            id: &id,
            owner: &owner,
            agent: None,
            renewal,
            starts: false,
            spent: Duration::ZERO,
        })
    };
    let first = user("h.p.s", "home");
    bench.get(&wanted(&client, subject(Renewal::User(first)), &scopes)).unwrap();
    let other = user("another.token.ofthesameuser", "home");
    bench.get(&wanted(&client, subject(Renewal::User(other)), &scopes)).unwrap();
    let kept = bench.acquirer.sessions().find(&id, bench.clock.unix()).unwrap().refresh_token.unwrap();
    assert_eq!(kept.expose(), "rt1");
    bench.get(&wanted(&client, subject(Renewal::RefreshToken(&kept)), &scopes)).unwrap();
    assert_eq!(bench.service.requests().len(), 1, "the session's token serves all of them");
    bench.clock.advance(Duration::from_hours(1));
    bench.get(&wanted(&client, subject(Renewal::RefreshToken(&kept)), &scopes)).unwrap();
    let (url, form) = &bench.service.requests()[1];
    assert_eq!(url, "https://login.microsoftonline.com/home/oauth2/v2.0/token");
    assert_eq!((form["grant_type"].as_str(), form["refresh_token"].as_str()), ("refresh_token", "rt1"));
    let kept = bench.acquirer.sessions().find(&id, bench.clock.unix()).unwrap().refresh_token.unwrap();
    assert_eq!(kept.expose(), "rt2");
}
