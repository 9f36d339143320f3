//! A managed identity as the direct source of tokens, on each kind of host
//! (<https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>).

use local_tenant::directory::USER_IDENTITY_CLIENT_ID;
use local_tenant::managed_identity::{ARC_KEY, HEADER_SECRET};
use local_tenant::{Action, Answer, ExpiresOn, Fault, Kind};
use serde_json::Value;

use super::support::{PATIENCE, Scene, Sidecar, claims, eventually, free_port};

pub const MACHINE: &str = "/AuthorizationHeaderUnauthenticated/Machine";
const CORRELATION: &str = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";

/// With an API whose token is the machine's, of this client id or the system-assigned identity.
pub fn scene(client_id: Option<&str>) -> Scene {
    let options = "DownstreamApis:Machine:AcquireTokenOptions";
    let scene = Scene::new()
        .with("DownstreamApis:Machine:Scopes", "api://downstream/.default")
        .with(&format!("{options}:CorrelationId"), CORRELATION);
    match client_id {
        Some(id) => scene.with(&format!("{options}:ManagedIdentity:UserAssignedClientId"), id),
        None => scene.with(&format!("{options}:ManagedIdentity"), ""),
    }
}

/// What the environment of a host says, with the tenant's URL in place of `@`.
pub type Host<'a> = &'a [(&'a str, &'a str)];

const IMDS: Host<'_> = &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", "@/replaced?too")];
const APP_SERVICE: Host<'_> =
    &[("IDENTITY_ENDPOINT", "@/managed-identity/app-service"), ("IDENTITY_HEADER", HEADER_SECRET)];
pub const SERVICE_FABRIC: Host<'_> = &[
    ("IDENTITY_ENDPOINT", "@/managed-identity/service-fabric"),
    ("IDENTITY_HEADER", HEADER_SECRET),
    ("IDENTITY_SERVER_THUMBPRINT", "0123456789abcdef0123456789abcdef01234567"),
];
const MACHINE_LEARNING: Host<'_> =
    &[("MSI_ENDPOINT", "@/managed-identity/machine-learning"), ("MSI_SECRET", HEADER_SECRET)];
const MACHINE_LEARNING_DEFAULT: Host<'_> = &[
    ("MSI_ENDPOINT", "@/managed-identity/machine-learning"),
    ("MSI_SECRET", HEADER_SECRET),
    ("DEFAULT_IDENTITY_CLIENT_ID", USER_IDENTITY_CLIENT_ID),
];
const CLOUD_SHELL: Host<'_> = &[("MSI_ENDPOINT", "@/managed-identity/cloud-shell")];
const ARC: Host<'_> = &[("IDENTITY_ENDPOINT", "@/managed-identity/arc"), ("IMDS_ENDPOINT", "@")];

pub fn start(scene: &Scene, host: Host<'_>) -> Sidecar {
    let variables: Vec<_> =
        host.iter().map(|(name, value)| (*name, value.replace('@', scene.tenant.base_url()))).collect();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    scene.start_with(&variables)
}

/// Requests as method and path, query, headers beside those of every request, and body.
pub fn asked(scene: &Scene) -> Vec<String> {
    let every = ["host", "user-agent", "connection", "content-length", "accept-encoding"];
    let write = |record: local_tenant::journal::Record| {
        let request = record.request;
        let mut headers: Vec<_> = request
            .headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .filter(|(name, _)| !every.contains(&name.as_str()))
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        headers.sort();
        let query = request.query_pairs().into_iter().map(|(name, value)| format!("{name}={value}"));
        let first = format!("{} {} {}", request.method, request.path, query.collect::<Vec<_>>().join("&"));
        let body = String::from_utf8(request.body).unwrap();
        [vec![first.trim_end().to_owned()], headers, vec![body]].concat().join("\n").trim_end().to_owned()
    };
    scene.tenant.journal().of(Kind::ManagedIdentity).into_iter().map(write).collect()
}

fn says(sidecar: &Sidecar, words: &str) -> bool {
    sidecar.log().iter().any(|line| line.contains(words))
}

#[test]
fn each_host_is_asked_in_its_own_way_and_its_token_is_kept() {
    let id = format!("x-ms-client-request-id: {CORRELATION}");
    let secret = format!("secret: {HEADER_SECRET}");
    let user = USER_IDENTITY_CLIENT_ID;
    let imds = "GET /metadata/identity/oauth2/token api-version=2018-02-01&resource=api://downstream";
    let app_service = "GET /managed-identity/app-service api-version=2019-08-01&resource=api://downstream";
    let learning = "GET /managed-identity/machine-learning api-version=2017-09-01&resource=api://downstream";
    let cases: [(Host<'_>, Option<&str>, String); 8] = [
        (IMDS, None, format!("{imds}\nmetadata: true\n{id}")),
        (IMDS, Some(user), format!("{imds}&client_id={user}\nmetadata: true\n{id}")),
        (APP_SERVICE, None, format!("{app_service}\nx-identity-header: {HEADER_SECRET}\n{id}")),
        (APP_SERVICE, Some(user), format!("{app_service}&client_id={user}\nx-identity-header: {HEADER_SECRET}\n{id}")),
        (
            SERVICE_FABRIC,
            None,
            format!(
                "GET /managed-identity/service-fabric api-version=2020-05-01&resource=api://downstream\n{secret}\n{id}"
            ),
        ),
        (MACHINE_LEARNING, Some(user), format!("{learning}&clientid={user}\nmetadata: true\n{secret}\n{id}")),
        (MACHINE_LEARNING_DEFAULT, None, format!("{learning}&clientid={user}\nmetadata: true\n{secret}\n{id}")),
        (
            CLOUD_SHELL,
            None,
            format!(
                "POST /managed-identity/cloud-shell\ncontent-type: application/x-www-form-urlencoded\nmetadata: true\n{id}\n\
                 resource=api%3A%2F%2Fdownstream"
            ),
        ),
    ];
    for (host, client_id, expected) in cases {
        let scene = scene(client_id);
        let sidecar = start(&scene, host);
        let token = sidecar.get(MACHINE).token();
        assert_eq!(sidecar.get(MACHINE).token(), token);
        assert_eq!(asked(&scene), [expected]);
        assert_eq!(scene.tenant.journal().count(Kind::Token), 0, "no token endpoint has a part in it");
        assert!(claims(&token)["aud"].is_string());
    }
}

#[test]
fn an_identity_a_host_cannot_name_is_refused_unsent() {
    for (host, client_id, words) in [
        (SERVICE_FABRIC, Some(USER_IDENTITY_CLIENT_ID), "Service Fabric"),
        (CLOUD_SHELL, Some(USER_IDENTITY_CLIENT_ID), "Cloud Shell"),
        (MACHINE_LEARNING, None, "DEFAULT_IDENTITY_CLIENT_ID"),
    ] {
        let scene = scene(client_id);
        let answer = start(&scene, host).get(MACHINE).expect(500).json();
        assert_eq!(answer["extensions"]["errorCode"], "managed_identity_request_failed");
        assert!(answer["detail"].as_str().unwrap().contains(words), "{answer}");
        assert_eq!(asked(&scene).len(), 0);
    }
}

#[test]
fn a_hosts_refusal_is_passed_on_without_our_secret() {
    for host in [IMDS, APP_SERVICE, MACHINE_LEARNING] {
        let scene = scene(Some("00000000-0000-4000-8000-00000000beef"));
        let answer = start(&scene, host).get(MACHINE).expect(500).json();
        assert_eq!(answer["extensions"]["errorCode"], "managed_identity_request_failed");
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.starts_with("MSAL.NetCore.managed_identity_request_failed: "), "{detail}");
        assert!(detail.ends_with("Identity not found"), "{detail}");
        assert_eq!(asked(&scene).len(), 1, "it is asked once");
    }
    for (host, kind) in [(APP_SERVICE, "App Service"), (SERVICE_FABRIC, "Service Fabric"), (CLOUD_SHELL, "Cloud Shell")]
    {
        let scene = scene(None);
        // Of Cloud Shell's the sidecar knows no secret that it could quote.
        let quoted = if host == CLOUD_SHELL { "it" } else { HEADER_SECRET };
        let body = format!("{{\"error\":{{\"code\":\"c\",\"message\":\"{quoted} is wrong\"}}}}");
        let body: Value = serde_json::from_str(&body).unwrap();
        scene.tenant.fail(Fault::once(Kind::ManagedIdentity, Action::Answer(Box::new(Answer::json(401, &body)))));
        let sidecar = start(&scene, host);
        let answer = sidecar.get(MACHINE).expect(500);
        assert!(answer.body.contains(kind), "{}", answer.body);
        assert!(!answer.body.contains(HEADER_SECRET), "{}", answer.body);
        assert!(!says(&sidecar, HEADER_SECRET));
    }
}

#[test]
fn arc_can_name_no_file_outside_the_agents_folder() {
    for (named, words) in [
        ("/etc/hostname", "names a file other than /var/opt/azcmagent/tokens/NAME.key"),
        ("/var/opt/azcmagent/tokens/../../../../etc/passwd.key", "names a file other than"),
        ("/var/opt/azcmagent/tokens/absent.key", "No such file"),
    ] {
        let scene = scene(None);
        scene.tenant.settings(|settings| settings.arc_key_path = named.to_owned());
        let answer = start(&scene, ARC).get(MACHINE).expect(500);
        assert!(answer.json()["detail"].as_str().unwrap().contains(words), "{}", answer.body);
        let expected = format!(
            "GET /managed-identity/arc api-version=2020-06-01&resource=api://downstream\nmetadata: true\n\
             x-ms-client-request-id: {CORRELATION}"
        );
        assert_eq!(asked(&scene), [expected], "{named}");
    }
}

#[test]
fn arc_is_answered_with_the_key_file_it_names() {
    let scene = scene(Some(USER_IDENTITY_CLIENT_ID));
    let name = format!("/var/opt/azcmagent/tokens/test-{}.key", std::process::id());
    scene.tenant.settings(|settings| settings.arc_key_path.clone_from(&name));
    // The agent's folder is root's. Who is not cannot lay a key there; the unit tests use another folder.
    if scene.tenant.write_arc_key().is_err() {
        eprintln!("not proven: {name} cannot be written");
        return;
    }
    let sidecar = start(&scene, ARC);
    let token = sidecar.get(MACHINE).token();
    assert_eq!(sidecar.get(MACHINE).token(), token);
    let requests = asked(&scene);
    assert_eq!(requests.len(), 2);
    assert!(requests[1].contains(&format!("authorization: Basic {ARC_KEY}\n")), "{}", requests[1]);
    assert!(requests[1].contains(&format!("client_id={USER_IDENTITY_CLIENT_ID}")), "{}", requests[1]);
    assert!(!says(&sidecar, ARC_KEY));
    std::fs::write(&name, "k".repeat(4097)).unwrap();
    let forced = format!("{MACHINE}?optionsOverride.AcquireTokenOptions.ForceRefresh=true");
    let answer = sidecar.get(&forced).expect(500);
    std::fs::remove_file(&name).unwrap();
    assert!(answer.body.contains("longer than 4096 bytes"), "{}", answer.body);
}

#[test]
fn what_passes_by_itself_is_asked_again() {
    for host in [IMDS, APP_SERVICE] {
        let scene = scene(None);
        scene.tenant.fail(Fault::once(Kind::ManagedIdentity, Action::Answer(Box::new(Answer::status(503)))));
        start(&scene, host).get(MACHINE).expect(200);
        assert_eq!(asked(&scene).len(), 2);
    }
}

#[test]
fn a_busy_host_that_asks_for_patience_is_503_at_once() {
    let scene = scene(None);
    let busy = Answer::status(429).header("Retry-After", "60");
    scene.tenant.fail(Fault::once(Kind::ManagedIdentity, Action::Answer(Box::new(busy))));
    let sidecar = start(&scene, APP_SERVICE);
    let answer = sidecar.get(MACHINE).problem(503, "Failed to acquire token for downstream API");
    assert_eq!(answer.json()["extensions"]["retryable"], true);
    assert!(answer.header("Retry-After").is_some());
    assert_eq!(asked(&scene).len(), 1);
}

#[test]
fn no_redirect_is_followed_with_a_secret_header() {
    let scene = scene(None);
    let elsewhere = format!("{}/api/stolen", scene.tenant.base_url());
    for status in [301, 302, 307, 308] {
        let answer = Answer::status(status).header("Location", &elsewhere);
        scene.tenant.fail(Fault::once(Kind::ManagedIdentity, Action::Answer(Box::new(answer))));
        let forced = format!("{MACHINE}?optionsOverride.AcquireTokenOptions.ForceRefresh=true");
        start(&scene, APP_SERVICE).get(&forced).expect(500);
    }
    assert_eq!(asked(&scene).len(), 4);
    assert_eq!(scene.tenant.journal().count(Kind::Downstream), 0);
}

#[test]
fn no_proxy_is_between_the_program_and_its_host() {
    let scene = scene(None);
    let proxy = format!("http://127.0.0.1:{}", free_port());
    let host = [IMDS, &[("HTTP_PROXY", proxy.as_str()), ("http_proxy", &proxy), ("ALL_PROXY", &proxy)]].concat();
    start(&scene, &host).get(MACHINE).expect(200);
}

#[test]
fn off_azure_it_is_said_that_nothing_answers_and_what_is_wanted() {
    let scene = scene(None);
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let sidecar = start(&scene, &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &endpoint)]);
    let answer = sidecar.get(MACHINE).problem(503, "Failed to acquire token for downstream API");
    assert_eq!(answer.json()["extensions"]["retryable"], true);
    let words = format!("the managed identity endpoint of IMDS at {endpoint} does not answer");
    eventually(&words, || says(&sidecar, &words) && says(&sidecar, "does this run on Azure"));
    sidecar.get("/healthz").expect(200);
}

#[test]
fn one_request_answers_all_who_wait_for_it() {
    let scene = scene(None);
    let sidecar = start(&scene, IMDS);
    scene.tenant.fail(Fault::once(Kind::ManagedIdentity, Action::Hold));
    let address = sidecar.address;
    let callers: Vec<_> = (0..8)
        .map(|_| std::thread::spawn(move || super::support::Request::get(MACHINE).send(address).token()))
        .collect();
    assert!(scene.tenant.faults().wait_held(1, PATIENCE));
    eventually("the others are parked", || {
        sidecar.get("/metrics").body.contains("entra_sidecar_connections{state=\"parked\"} 7")
    });
    scene.tenant.faults().release();
    let tokens: std::collections::BTreeSet<_> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    assert_eq!((tokens.len(), asked(&scene).len()), (1, 1));
}

#[test]
fn an_expiry_is_understood_in_every_spelling() {
    for spelling in [ExpiresOn::Text, ExpiresOn::Number, ExpiresOn::Date] {
        let scene = scene(None);
        scene.tenant.settings(|settings| settings.expires_on = spelling);
        let sidecar = start(&scene, APP_SERVICE);
        sidecar.get(MACHINE).expect(200);
        sidecar.get(MACHINE).expect(200);
        assert_eq!(asked(&scene).len(), 1, "{spelling:?}");
        // Within the last five minutes it is not served from the cache.
        scene.tenant.settings(|settings| settings.managed_identity_expires_in = 299);
        let forced = format!("{MACHINE}?optionsOverride.AcquireTokenOptions.ForceRefresh=true");
        sidecar.get(&forced).expect(200);
        sidecar.get(MACHINE).expect(200);
        assert_eq!(asked(&scene).len(), 3, "{spelling:?}");
    }
}

#[test]
fn the_environment_decides_in_a_fixed_order() {
    let all = [SERVICE_FABRIC, MACHINE_LEARNING_DEFAULT, &[("IMDS_ENDPOINT", "@")], IMDS].concat();
    for (without, path) in [
        (&[][..], "/managed-identity/service-fabric"),
        (&["IDENTITY_SERVER_THUMBPRINT"], "/managed-identity/service-fabric api-version=2019-08-01"),
        (&["IDENTITY_HEADER"], "/managed-identity/machine-learning"),
        (&["IDENTITY_ENDPOINT", "MSI_ENDPOINT"], "/metadata/identity/oauth2/token"),
    ] {
        let scene = scene(None);
        let host: Vec<_> = all.iter().copied().filter(|(name, _)| !without.contains(name)).collect();
        start(&scene, &host).get(MACHINE);
        assert!(asked(&scene)[0].starts_with(&format!("GET {path}")), "{without:?}: {:?}", asked(&scene));
    }
}
