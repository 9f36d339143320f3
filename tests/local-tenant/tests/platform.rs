//! Managed identity endpoints, Key Vault and signed requests.

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use local_tenant::certificate::{CLIENT_1, CLIENT_1_PFX};
use local_tenant::client::Response;
use local_tenant::directory::{DOWNSTREAM, EXCHANGE, GRAPH, SYSTEM_IDENTITY_ID, USER_IDENTITY_CLIENT_ID, VAULT};
use local_tenant::jwt::{Claims, Decoded};
use local_tenant::keys::SigningKey;
use local_tenant::managed_identity::{ARC_KEY, HEADER_SECRET, USER_IDENTITY_RESOURCE};
use local_tenant::message::percent_encode;
use local_tenant::time::now;
use local_tenant::{ExpiresOn, Kind, LocalTenant, Options, shr};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use support::{ASSERTION_TYPE, app_fields, call, get, token};

const METADATA: (&str, &str) = ("Metadata", "true");
const IMDS: &str = "/metadata/identity/oauth2/token?api-version=2018-02-01";

fn start() -> LocalTenant {
    LocalTenant::start(Options::default())
}

fn resource(name: &str) -> String {
    format!("&resource={}", percent_encode(name))
}

fn imds(tenant: &LocalTenant, query: &str) -> Response {
    get(tenant, &format!("{IMDS}{query}"), &[METADATA])
}

fn claims(reply: &Response) -> Value {
    Value::Object(Decoded::of(reply.json()["access_token"].as_str().unwrap()).unwrap().payload)
}

#[test]
fn imds_gives_the_identity_that_was_asked_for() {
    let tenant = start();
    let own = imds(&tenant, &resource(GRAPH));
    assert_eq!(own.status, 200, "{}", own.body);
    assert_eq!(claims(&own)["oid"], SYSTEM_IDENTITY_ID);
    assert_eq!((&own.json()["expires_in"], &own.json()["resource"]), (&"86399".into(), &GRAPH.into()));
    for query in [
        format!("&client_id={USER_IDENTITY_CLIENT_ID}"),
        format!("&msi_res_id={}", percent_encode(USER_IDENTITY_RESOURCE)),
        "&object_id=d1d1d1d1-0000-4000-8000-000000000003".into(),
    ] {
        let user = imds(&tenant, &(resource(GRAPH) + &query));
        assert_eq!(user.json()["client_id"], USER_IDENTITY_CLIENT_ID, "{query}");
    }
    assert_eq!(tenant.journal().count(Kind::ManagedIdentity), 4);
}

#[test]
fn imds_refuses_what_the_real_one_refuses() {
    let tenant = start();
    let graph = resource(GRAPH);
    let refused = |reply: Response| (reply.status, reply.json()["error"].as_str().unwrap_or_default().to_owned());
    let invalid = (400, "invalid_request".to_owned());
    assert_eq!(refused(get(&tenant, &format!("{IMDS}{graph}"), &[])), (400, "bad_request_102".into()));
    let forwarded = get(&tenant, &format!("{IMDS}{graph}"), &[METADATA, ("X-Forwarded-For", "1.2.3.4")]);
    assert_eq!(refused(forwarded), invalid);
    for query in [
        String::new(),
        format!("{graph}&client_id=00000000-0000-4000-8000-000000000000"),
        format!("{graph}&clientid={USER_IDENTITY_CLIENT_ID}"),
        format!("{graph}&mi_res_id={}", percent_encode(USER_IDENTITY_RESOURCE)),
        format!("{graph}&client_id={USER_IDENTITY_CLIENT_ID}&object_id=x"),
        format!("{graph}{graph}"),
    ] {
        assert_eq!(refused(imds(&tenant, &query)), invalid, "{query}");
    }
    let default = resource(&format!("{GRAPH}/.default"));
    assert_eq!(refused(imds(&tenant, &default)), (400, "invalid_resource".into()));
    let unversioned = "/metadata/identity/oauth2/token?resource=https%3A%2F%2Fgraph.microsoft.com";
    assert_eq!(refused(get(&tenant, unversioned, &[METADATA])), invalid);
    tenant.settings(|settings| settings.system_identity = false);
    assert_eq!(imds(&tenant, &graph).json()["error_description"], "Identity not found");
}

#[test]
fn app_service_wants_its_own_header_and_names() {
    let tenant = start();
    let target = format!("/managed-identity/app-service?api-version=2019-08-01{}", resource(DOWNSTREAM));
    let secret = [("X-IDENTITY-HEADER", HEADER_SECRET)];
    tenant.settings(|settings| settings.expires_on = ExpiresOn::Date);
    let reply = get(&tenant, &target, &secret);
    assert!(reply.json()["expires_on"].as_str().unwrap().ends_with('Z') && reply.json().get("expires_in").is_none());
    assert_eq!(get(&tenant, &format!("{target}&client_id={USER_IDENTITY_CLIENT_ID}"), &secret).status, 200);
    assert_eq!(get(&tenant, &format!("{target}&msi_res_id=x"), &secret).json()["statusCode"], 400);
    assert_eq!(get(&tenant, &target, &[METADATA]).status, 401);
}

#[test]
fn the_other_hosts_keep_to_their_dialects() {
    let tenant = start();
    let graph = resource(GRAPH);
    let fabric = format!("/managed-identity/service-fabric?api-version=2020-05-01{graph}");
    assert_eq!(get(&tenant, &fabric, &[("secret", HEADER_SECRET)]).status, 200);
    assert_eq!(get(&tenant, &format!("{fabric}&client_id=x"), &[("secret", HEADER_SECRET)]).status, 400);
    let ml = format!("/managed-identity/machine-learning?api-version=2017-09-01{graph}");
    let headers = [METADATA, ("secret", HEADER_SECRET)];
    assert_eq!(get(&tenant, &format!("{ml}&clientid={USER_IDENTITY_CLIENT_ID}"), &headers).status, 200);
    assert_eq!(get(&tenant, &ml, &headers).status, 400);
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let shell = |body: &str| call(&tenant, "POST", "/managed-identity/cloud-shell", &[METADATA, form], body.as_bytes());
    assert_eq!(shell(&graph[1..]).status, 200);
    assert!(shell(&format!("{}&client_id=x", &graph[1..])).json()["error"]["code"].is_string());
}

#[test]
fn arc_wants_proof_that_its_key_file_can_be_read() {
    let tenant = start();
    for path in ["/managed-identity/arc", "/metadata/identity/oauth2/token"] {
        let target = format!("{path}?api-version=2020-06-01{}", resource(GRAPH));
        let challenge = get(&tenant, &target, &[METADATA]);
        let realm = challenge.header("WWW-Authenticate").unwrap();
        assert_eq!((challenge.status, realm), (401, "Basic realm=/var/opt/azcmagent/tokens/local-tenant.key"));
        let with = |key: &str| get(&tenant, &target, &[METADATA, ("Authorization", &format!("Basic {key}"))]).status;
        assert_eq!((with(ARC_KEY), with(&STANDARD.encode(ARC_KEY))), (200, 401));
    }
}

#[test]
fn a_managed_identity_s_token_is_a_trusted_assertion() {
    let tenant = start();
    let body = imds(&tenant, &resource(EXCHANGE)).json();
    let assertion = body["access_token"].as_str().unwrap();
    let own = [("client_secret", ""), ("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion)];
    assert_eq!(token(&tenant, &app_fields(&own)).status, 200);
}

#[test]
fn the_vault_challenges_a_request_without_a_token() {
    let tenant = start();
    let challenge = get(&tenant, "/certificates/client-pfx/?api-version=7.5", &[]);
    let expected = format!(
        "Bearer authorization=\"{}/{}\", resource=\"https://vault.azure.net\"",
        tenant.base_url(),
        tenant.tenant_id()
    );
    assert_eq!((challenge.status, challenge.header("WWW-Authenticate")), (401, Some(expected.as_str())));
}

/// Reads with a token for the vault.
fn vault(tenant: &LocalTenant, path: &str) -> Response {
    get(tenant, &format!("/{path}?api-version=7.5"), &[("Authorization", &bearer_for(tenant, VAULT))])
}

fn bearer_for(tenant: &LocalTenant, resource_id: &str) -> String {
    let body = imds(tenant, &resource(resource_id)).json();
    format!("Bearer {}", body["access_token"].as_str().unwrap())
}

#[test]
fn the_vault_hands_out_what_may_leave() {
    let tenant = start();
    let read = |path: &str| vault(&tenant, path);
    let certificate = read("certificates/client-pfx/").json();
    assert_eq!(certificate["cer"], STANDARD.encode(CLIENT_1.certificate().der));
    assert_eq!(certificate["policy"]["key_props"]["exportable"], true);
    let secret_path =
        certificate["sid"].as_str().unwrap().strip_prefix(&format!("{}/", tenant.base_url())).unwrap().to_owned();
    let secret = read(&secret_path).json();
    assert_eq!(secret["contentType"], "application/x-pkcs12");
    assert_eq!(secret["value"], STANDARD.encode(CLIENT_1_PFX));
    assert_eq!(read("secrets/client-pem").json()["value"], CLIENT_1.pem());
    assert!(read("certificates/client-expired").json()["attributes"]["exp"].as_i64().unwrap() < now());
}

#[test]
fn the_vault_keeps_what_may_not_leave() {
    let tenant = start();
    let read = |path: &str| vault(&tenant, path);
    assert_eq!(read("certificates/client-sealed").json()["policy"]["key_props"]["exportable"], false);
    assert_eq!(read("secrets/client-disabled").status, 403);
    assert_eq!(read("certificates/none").json()["error"]["code"], "CertificateNotFound");
}

#[test]
fn the_vault_wants_a_version_and_a_token_of_its_own() {
    let tenant = start();
    let with = |target: &str, resource: &str| {
        get(&tenant, target, &[("Authorization", &bearer_for(&tenant, resource))]).status
    };
    assert_eq!(with("/secrets/client-pem", VAULT), 400, "no api-version");
    assert_eq!(with("/secrets/client-pem?api-version=7.5", GRAPH), 401, "a token for another API");
}

#[test]
fn the_vault_signs_with_a_key_that_stays() {
    let tenant = start();
    let bearer = bearer_for(&tenant, VAULT);
    let target = "/keys/client-sealed/0123456789abcdef0123456789abcdef/sign?api-version=7.5";
    let sign = |alg: &str, value: &str| {
        let body = json!({"alg": alg, "value": value}).to_string();
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        call(&tenant, "POST", target, &headers, body.as_bytes())
    };
    let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, b"message"));
    let signed = URL_SAFE_NO_PAD.decode(sign("PS256", &hash).json()["value"].as_str().unwrap()).unwrap();
    assert!(CLIENT_1.certificate().key.verifies("PS256", b"message", &signed));
    assert_eq!(sign("ES256", &hash).status, 400);
    assert_eq!(sign("PS256", "c2hvcnQ").status, 400);
}

#[test]
fn a_signed_request_is_verified_with_its_tokens_key() {
    let tenant = start();
    let host = tenant.address().to_string();
    let send = |key: &SigningKey, bound: &SigningKey, path: &str, changes: &[(&str, Value)]| {
        let token = tenant.mint_app(USER_IDENTITY_CLIENT_ID).audience(DOWNSTREAM).bound_to(bound).token();
        let changes: Claims = changes.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
        let signed = shr::sign(key, &token, ("GET", &host, path), &changes);
        get(&tenant, "/api/pop/x?q=1", &[("Authorization", &format!("PoP {signed}"))])
    };
    let (ec, rsa) = (SigningKey::p256("ec"), CLIENT_1.signing_key());
    for key in [&ec, &rsa] {
        let reply = send(key, key, "/api/pop/x", &[]);
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    assert_eq!(send(&ec, &ec, "/api/pop/x", &[("ts", (now() - 290).into())]).status, 200);
    assert_eq!(send(&ec, &rsa, "/api/pop/x", &[]).status, 401, "another key");
    assert_eq!(send(&ec, &ec, "/api/pop/y", &[]).status, 401, "another path");
    assert_eq!(send(&ec, &ec, "/api/pop/x", &[("m", "POST".into())]).status, 401, "another method");
    assert_eq!(send(&ec, &ec, "/api/pop/x", &[("u", "other:80".into())]).status, 401, "another host");
    assert_eq!(send(&ec, &ec, "/api/pop/x", &[("ts", (now() - 310).into())]).status, 401, "too old");
    assert_eq!(send(&ec, &ec, "/api/pop/x", &[("nonce", "".into())]).status, 401, "no nonce");
    let bearer = tenant.mint_app(USER_IDENTITY_CLIENT_ID).audience(DOWNSTREAM).token();
    assert_eq!(get(&tenant, "/api/pop/x", &[("Authorization", &format!("Bearer {bearer}"))]).status, 401);
}
