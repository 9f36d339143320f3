//! Against a scripted endpoint: complete requests, their number, and error messages.

use std::sync::Mutex;

use super::*;
use crate::clock::ManualClock;
use crate::outbound::{HeaderFields, Upstream};
use crate::secret::Secret;

const START: u64 = 1_767_225_600;
const GOOD: &str =
    r#"{"access_token":"AT","expires_on":"1767312000","expires_in":"86400","resource":"r","token_type":"Bearer"}"#;
const CLIENT: &str = "9f3a2b1c-0000-4000-8000-000000000001";

/// Environment, client id, expected request.
type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>, &'a str);
type Answers = Vec<Result<OutResponse, OutError>>;

/// Answers in order and records the requests. An attempt that times out takes its time.
struct Script {
    clock: Arc<ManualClock>,
    answers: Mutex<Answers>,
    requests: Mutex<Vec<String>>,
}

impl Exchange for Script {
    fn send(&self, request: OutRequest) -> Result<OutResponse, OutError> {
        assert_eq!(request.upstream, Upstream::ManagedIdentity);
        assert!(request.timeout <= ATTEMPT && !request.timeout.is_zero());
        let headers = request.headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)));
        let body = request.body.as_ref().map(|body| String::from_utf8(body.current().to_vec()).unwrap());
        let lines: Vec<_> =
            [format!("{} {}", request.method, request.url)].into_iter().chain(headers).chain(body).collect();
        self.requests.lock().unwrap().push(lines.join("\n"));
        let answer = self.answers.lock().unwrap().remove(0);
        if matches!(answer, Err(OutError::Timeout(_))) {
            self.clock.advance(request.timeout.min(Duration::from_secs(2)));
        }
        answer
    }
}

struct Machine {
    script: Arc<Script>,
    identities: ManagedIdentities,
}

impl Machine {
    fn new(variables: &[(&str, &str)], answers: Answers) -> Self {
        let clock = Arc::new(ManualClock::at(START));
        let script =
            Arc::new(Script { clock: Arc::clone(&clock), answers: answers.into(), requests: Mutex::default() });
        let environment =
            |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
        let mut identities = ManagedIdentities::new(environment, Arc::clone(&script) as Arc<dyn Exchange>, clock);
        identities.source = IdentitySource::detect(environment, false);
        Self { script, identities }
    }

    fn token(&self, client_id: Option<&str>) -> Result<IdentityToken, Failure> {
        self.revoking(client_id, &[], None)
    }

    fn revoking(
        &self,
        client_id: Option<&str>,
        capabilities: &[String],
        revoked: Option<&Secret<String>>,
    ) -> Result<IdentityToken, Failure> {
        let wanted = IdentityRequest {
            client_id: client_id.map(str::to_owned),
            resource: "https://vault.azure.net".to_owned(),
            capabilities: capabilities.to_vec(),
            correlation_id: "cid".to_owned(),
        };
        self.identities.token(&wanted, revoked)
    }

    fn requests(&self) -> Vec<String> {
        self.script.requests.lock().unwrap().clone()
    }

    fn seconds(&self) -> u64 {
        self.script.clock.unix() - START
    }
}

#[expect(clippy::unnecessary_wraps, reason = "stands for an exchange, which may fail")]
fn answer(status: u16, body: &str) -> Result<OutResponse, OutError> {
    Ok(OutResponse { status, headers: HeaderFields::default(), body: body.as_bytes().to_vec() })
}

#[expect(clippy::unnecessary_wraps, reason = "stands for an exchange, which may fail")]
fn with_header(status: u16, name: &str, value: &str) -> Result<OutResponse, OutError> {
    Ok(OutResponse { status, headers: HeaderFields::from([(name, value)]), body: Vec::new() })
}

fn timeout() -> Result<OutResponse, OutError> {
    Err(OutError::Timeout("http://169.254.169.254: no connection within 2s".into()))
}

const APP_SERVICE: [(&str, &str); 2] =
    [("IDENTITY_ENDPOINT", "http://127.0.0.1:41/msi/token"), ("IDENTITY_HEADER", "hunter2")];
const MACHINE_LEARNING: [(&str, &str); 2] = [("MSI_ENDPOINT", "http://127.0.0.1:42/ml"), ("MSI_SECRET", "s3")];
const CLOUD_SHELL: [(&str, &str); 1] = [("MSI_ENDPOINT", "http://localhost:50342/oauth2/token")];
const ARC: [(&str, &str); 2] = [
    ("IDENTITY_ENDPOINT", "http://127.0.0.1:40342/metadata/identity/oauth2/token"),
    ("IMDS_ENDPOINT", "http://127.0.0.1:40342"),
];

#[test]
fn each_endpoint_is_asked_in_its_own_way() {
    let fabric = [&APP_SERVICE[..], &[("IDENTITY_SERVER_THUMBPRINT", "ab")]].concat();
    let learning = [&MACHINE_LEARNING[..], &[("DEFAULT_IDENTITY_CLIENT_ID", "d")]].concat();
    let cases: [Case<'_>; 9] = [
        (
            &[],
            None,
            "GET http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net\nx-ms-client-request-id: cid\nmetadata: true",
        ),
        (
            &[],
            Some(CLIENT),
            "GET http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net&client_id=9f3a2b1c-0000-4000-8000-000000000001\nx-ms-client-request-id: cid\nmetadata: true",
        ),
        (
            &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9/x?y")],
            None,
            "GET http://127.0.0.1:9/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net\nx-ms-client-request-id: cid\nmetadata: true",
        ),
        (
            &APP_SERVICE,
            None,
            "GET http://127.0.0.1:41/msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fvault.azure.net\nx-ms-client-request-id: cid\nx-identity-header: hunter2",
        ),
        (
            &APP_SERVICE,
            Some(CLIENT),
            "GET http://127.0.0.1:41/msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fvault.azure.net&client_id=9f3a2b1c-0000-4000-8000-000000000001\nx-ms-client-request-id: cid\nx-identity-header: hunter2",
        ),
        (
            &fabric,
            None,
            "GET http://127.0.0.1:41/msi/token?api-version=2020-05-01&resource=https%3A%2F%2Fvault.azure.net\nx-ms-client-request-id: cid\nsecret: hunter2",
        ),
        (
            &MACHINE_LEARNING,
            Some(CLIENT),
            "GET http://127.0.0.1:42/ml?api-version=2017-09-01&resource=https%3A%2F%2Fvault.azure.net&clientid=9f3a2b1c-0000-4000-8000-000000000001\nx-ms-client-request-id: cid\nmetadata: true\nsecret: s3",
        ),
        (
            &learning,
            None,
            "GET http://127.0.0.1:42/ml?api-version=2017-09-01&resource=https%3A%2F%2Fvault.azure.net&clientid=d\nx-ms-client-request-id: cid\nmetadata: true\nsecret: s3",
        ),
        (
            &CLOUD_SHELL,
            None,
            "POST http://localhost:50342/oauth2/token\nx-ms-client-request-id: cid\nmetadata: true\ncontent-type: application/x-www-form-urlencoded\nresource=https%3A%2F%2Fvault.azure.net",
        ),
    ];
    for (variables, client_id, expected) in cases {
        let machine = Machine::new(variables, vec![answer(200, GOOD)]);
        let token = machine.token(client_id).unwrap();
        assert_eq!(token.access_token.expose(), "AT");
        assert_eq!((token.expires_at, token.refresh_at), (START + 86_400, Some(START + 43_200)));
        assert_eq!(machine.requests(), [expected]);
    }
}

#[test]
fn only_service_fabric_gets_capabilities_and_revoked_hashes() {
    let fabric = [&APP_SERVICE[..], &[("IDENTITY_SERVER_THUMBPRINT", "ab")]].concat();
    let capabilities = ["cp1".to_owned(), "other".to_owned()];
    // The example of FIPS 180-4.
    let revoked = Secret::new("abc".to_owned());
    let told = "&xms_cc=cp1%2Cother&token_sha256_to_refresh=\
                ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";
    for (variables, expected) in [(&fabric[..], true), (&APP_SERVICE, false), (&[], false)] {
        let machine = Machine::new(variables, vec![answer(200, GOOD)]);
        machine.revoking(None, &capabilities, Some(&revoked)).unwrap();
        let request = machine.requests().remove(0);
        assert_eq!(request.contains(told), expected, "{request}");
        assert_eq!(request.contains("xms_cc"), expected, "{request}");
    }
}

#[test]
fn the_first_source_whose_variables_are_there_is_it() {
    let all = [
        ("IDENTITY_ENDPOINT", "http://a/"),
        ("IDENTITY_HEADER", "h"),
        ("IDENTITY_SERVER_THUMBPRINT", "t"),
        ("MSI_SECRET", "s"),
        ("MSI_ENDPOINT", "http://b/"),
        ("IMDS_ENDPOINT", "http://c/"),
    ];
    let name = |without: &[&str], agent| {
        let variable = |name: &str| {
            let set = all.iter().filter(|(own, _)| !without.contains(own));
            Some(set.clone().find(|(own, _)| *own == name).map_or(String::new(), |(_, value)| (*value).to_owned()))
        };
        IdentitySource::detect(variable, agent).unwrap().name()
    };
    assert_eq!(name(&[], true), "Service Fabric");
    assert_eq!(name(&["IDENTITY_SERVER_THUMBPRINT"], true), "App Service");
    assert_eq!(name(&["IDENTITY_HEADER"], true), "Azure Machine Learning");
    assert_eq!(name(&["IDENTITY_HEADER", "MSI_SECRET"], true), "Cloud Shell");
    assert_eq!(name(&["IDENTITY_HEADER", "MSI_ENDPOINT"], false), "Azure Arc");
    assert_eq!(name(&["IDENTITY_HEADER", "MSI_ENDPOINT", "IMDS_ENDPOINT"], false), "IMDS");
    assert_eq!(name(&["IDENTITY_HEADER", "MSI_ENDPOINT", "IMDS_ENDPOINT"], true), "Azure Arc");
    assert_eq!(name(&["IDENTITY_ENDPOINT", "MSI_ENDPOINT"], false), "IMDS");
}

#[test]
fn a_malformed_endpoint_is_an_error_and_not_another_source() {
    let machine = Machine::new(&[("MSI_ENDPOINT", "not a url")], Vec::new());
    let Err(Failure::Unusable(reason)) = machine.token(None) else { panic!("unusable") };
    assert!(reason.contains("MSI_ENDPOINT"), "{reason}");
}

#[test]
fn an_identity_that_cannot_be_named_is_refused_unsent() {
    let fabric = [&APP_SERVICE[..], &[("IDENTITY_SERVER_THUMBPRINT", "ab")]].concat();
    for (variables, client_id) in [(&fabric[..], Some(CLIENT)), (&CLOUD_SHELL, Some(CLIENT)), (&MACHINE_LEARNING, None)]
    {
        let machine = Machine::new(variables, Vec::new());
        assert!(matches!(machine.token(client_id), Err(Failure::Unusable(_))));
        assert_eq!(machine.requests().len(), 0);
    }
}

#[test]
fn arc_is_answered_with_the_key_that_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("a1.key");
    std::fs::write(&key, "raw key").unwrap();
    let challenge = || with_header(401, "www-authenticate", &format!("Basic realm={}", key.display()));
    let mut machine = Machine::new(&ARC, vec![challenge(), answer(200, GOOD)]);
    machine.identities.arc_keys = folder.path().into();
    assert!(machine.token(None).is_ok());
    let first = "GET http://127.0.0.1:40342/metadata/identity/oauth2/token?api-version=2020-06-01&resource=https%3A%2F%2Fvault.azure.net\nx-ms-client-request-id: cid\nmetadata: true";
    assert_eq!(machine.requests(), [first.to_owned(), format!("{first}\nauthorization: Basic raw key")]);

    let machine = Machine::new(&ARC, vec![challenge()]);
    let Err(Failure::Unusable(reason)) = machine.token(None) else { panic!("a key elsewhere is not read") };
    assert!(reason.contains("/var/opt/azcmagent/tokens/NAME.key"), "{reason}");
    assert_eq!(machine.requests().len(), 1);
}

#[test]
fn arc_must_confirm_the_identity_that_was_asked_for() {
    let of = |client_id: &str| answer(200, &GOOD.replace('{', &format!(r#"{{"client_id":"{client_id}","#)));
    let machine = Machine::new(&ARC, vec![of(&CLIENT.to_uppercase())]);
    assert!(machine.token(Some(CLIENT)).is_ok());
    assert!(machine.requests()[0].contains(&format!("&client_id={CLIENT}\n")));
    for other in [answer(200, GOOD), of("9f3a2b1c-0000-4000-8000-000000000002"), of("")] {
        let machine = Machine::new(&ARC, vec![other]);
        let Err(Failure::Unusable(reason)) = machine.token(Some(CLIENT)) else { panic!("another's token") };
        assert!(reason.contains("Azure Arc") && reason.contains(CLIENT), "{reason}");
    }
}

#[test]
fn imds_is_asked_three_times_more_with_growing_pauses() {
    for status in [404, 408, 410, 429, 500, 502, 503, 504, 599] {
        let failure = || answer(status, "");
        let first = if status == 410 { answer(503, "") } else { failure() };
        let machine = Machine::new(&[], vec![first, failure(), failure(), failure(), answer(200, GOOD)]);
        assert!(machine.token(None).is_err(), "{status}");
        assert_eq!((machine.requests().len(), machine.seconds()), (4, 7), "{status}");
        let machine = Machine::new(&[], vec![answer(503, ""), failure(), failure(), answer(200, GOOD)]);
        assert!(machine.token(None).is_ok(), "{status}");
    }
}

#[test]
fn other_endpoints_are_asked_three_times_more_every_second() {
    for status in [404, 408, 429, 500, 503, 504] {
        let failure = || answer(status, "");
        let machine = Machine::new(&APP_SERVICE, vec![failure(), failure(), failure(), failure(), answer(200, GOOD)]);
        assert!(machine.token(None).is_err(), "{status}");
        assert_eq!((machine.requests().len(), machine.seconds()), (4, 3), "{status}");
    }
    for status in [302, 400, 401, 403, 410, 501, 502] {
        let machine = Machine::new(&APP_SERVICE, vec![answer(status, ""), answer(200, GOOD)]);
        assert!(machine.token(None).is_err(), "{status}");
        assert_eq!(machine.requests().len(), 1, "{status}");
    }
}

#[test]
fn retry_after_is_heeded_within_the_budget() {
    for (advice, waited) in [("0", Some(1)), ("14", Some(14)), ("15", None), ("Thu, 01 Jan 2026 00:00:05 GMT", Some(5))]
    {
        let machine = Machine::new(&APP_SERVICE, vec![with_header(429, "retry-after", advice), answer(200, GOOD)]);
        assert_eq!(machine.token(None).is_ok(), waited.is_some(), "{advice}");
        assert_eq!(machine.seconds(), waited.unwrap_or(0), "{advice}");
    }
}

#[test]
fn imds_that_is_gone_for_an_upgrade_is_waited_for() {
    let gone = |times: usize| (0..times).map(|_| answer(410, "")).collect::<Vec<_>>();
    for (answers, good, waited) in [
        ([gone(1), vec![answer(200, GOOD)]].concat(), true, 10),
        ([gone(7), vec![answer(200, GOOD)]].concat(), true, 70),
        ([gone(8), vec![answer(200, GOOD)]].concat(), false, 70),
        (vec![answer(410, ""), timeout(), timeout(), answer(200, GOOD)], true, 34),
        ([vec![answer(503, "")], gone(3), vec![answer(200, GOOD)]].concat(), false, 7),
    ] {
        let machine = Machine::new(&[], answers);
        let outcome = machine.token(None);
        assert_eq!((outcome.is_ok(), machine.seconds()), (good, waited));
        assert!(good || matches!(outcome, Err(Failure::Unavailable(_))));
    }
}

#[test]
fn off_azure_it_fails_within_seconds_and_says_so() {
    let machine = Machine::new(&[], vec![timeout(), timeout(), answer(200, GOOD)]);
    let Err(Failure::Unavailable(reason)) = machine.token(None) else { panic!("unavailable") };
    assert!(reason.contains("169.254.169.254") && reason.contains("on Azure"), "{reason}");
    assert_eq!((machine.requests().len(), machine.seconds()), (2, 5));
    let machine = Machine::new(&[], vec![Err(OutError::Connect("refused".into())), answer(200, GOOD)]);
    assert!(machine.token(None).is_ok());
}

#[test]
fn a_lasting_refusal_carries_the_endpoints_words_once() {
    let body = r#"{"error":"invalid_request","error_description":"Identity not found\r\nhelp"}"#;
    let machine = Machine::new(&[], vec![answer(400, body), answer(200, GOOD)]);
    let Err(Failure::Unusable(reason)) = machine.token(None) else { panic!("unusable") };
    assert_eq!(reason, "the managed identity endpoint of IMDS answered 400: invalid_request: Identity not found");
    assert_eq!(machine.requests().len(), 1);

    let machine = Machine::new(&APP_SERVICE, vec![answer(401, r#"{"message":"hunter2 is wrong"}"#)]);
    let Err(Failure::Unusable(reason)) = machine.token(None) else { panic!("unusable") };
    assert!(reason.ends_with("[redacted] is wrong"), "{reason}");
}

#[test]
fn an_answer_that_is_no_token_is_a_failure_of_the_endpoint() {
    let machine = Machine::new(&[], vec![answer(200, "<html>")]);
    assert!(matches!(machine.token(None), Err(Failure::Unavailable(_))));
}
