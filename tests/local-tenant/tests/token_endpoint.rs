//! The token endpoint issues what Entra would issue and refuses what Entra would refuse.

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use local_tenant::certificate::{CLIENT_1, CLIENT_2, CLIENT_EXPIRED, ClientCertificate};
use local_tenant::client::Response;
use local_tenant::directory::{
    AGENT_ID, APP_ID, APP_SECRET_EXPIRED, APP_SUBJECT, EXCHANGE, GRAPH, OTHER_AGENT_ID, OTHER_APP_ID, OTHER_APP_SECRET,
    OTHER_TENANT_ID, TENANT_DOMAIN, TENANT_ID,
};
use local_tenant::jwt::{Claims, Decoded, sign};
use local_tenant::time::now;
use local_tenant::{Condition, Kind, LocalTenant, Options, random};
use serde_json::{Value, json};
use support::{ASSERTION_TYPE, app_fields, call, form, token, token_at, user_fields};

fn start() -> LocalTenant {
    LocalTenant::start(Options::default())
}

fn claims(reply: &Response) -> Value {
    let body = reply.json();
    let token = body["access_token"].as_str().unwrap_or_else(|| panic!("no token: {body}"));
    Value::Object(Decoded::of(token).unwrap().payload)
}

#[test]
fn a_secret_buys_an_app_token_of_its_own_each_time() {
    let tenant = start();
    let (first, second) = (token(&tenant, &app_fields(&[])), token(&tenant, &app_fields(&[])));
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(first.json()["token_type"], "Bearer");
    assert_eq!(first.json()["expires_in"], 3599);
    assert!(first.json().get("refresh_token").is_none());
    let claims_of_first = claims(&first);
    assert_eq!(claims_of_first["tid"], TENANT_ID);
    assert_eq!(claims_of_first["azp"], APP_ID);
    assert_eq!(claims_of_first["idtyp"], "app");
    assert_eq!(claims_of_first["roles"], json!(["Data.Read.All"]));
    assert!(claims_of_first.get("scp").is_none());
    assert_ne!(claims_of_first["marker"], claims(&second)["marker"]);
    assert_eq!(tenant.journal().count(Kind::Token), 2);
}

#[test]
fn the_tenant_goes_by_its_domain_too() {
    let tenant = start();
    assert_eq!(claims(&token_at(&tenant, TENANT_DOMAIN, &app_fields(&[])))["tid"], TENANT_ID);
    assert_eq!(claims(&token_at(&tenant, OTHER_TENANT_ID, &app_fields(&[])))["tid"], OTHER_TENANT_ID);
    assert_eq!(token_at(&tenant, "nowhere.example", &app_fields(&[])).code(), 90_002);
    assert_eq!(token_at(&tenant, "common", &app_fields(&[])).code(), 50_059);
}

#[test]
fn a_refusal_has_every_member_that_entra_s_has() {
    let tenant = start();
    let reply = token(&tenant, &app_fields(&[("client_secret", "wrong")]));
    assert_eq!(reply.status, 401);
    let body = reply.json();
    assert_eq!(body["error"], "invalid_client");
    assert_eq!(body["error_codes"], json!([7_000_215]));
    let description = body["error_description"].as_str().unwrap();
    assert!(description.starts_with("AADSTS7000215: Invalid client secret provided."));
    let tail = format!(
        "Trace ID: {} Correlation ID: {} Timestamp: {}",
        body["trace_id"].as_str().unwrap(),
        body["correlation_id"].as_str().unwrap(),
        body["timestamp"].as_str().unwrap()
    );
    assert!(description.ends_with(&tail), "{description}");
    assert!(tenant.journal().all()[0].note.as_ref().unwrap().starts_with("AADSTS7000215"));
}

#[test]
fn every_wrong_field_of_an_app_token_request_is_refused() {
    let tenant = start();
    for (change, code) in [
        (("client_id", ""), 900_144),
        (("client_id", "00000000-0000-4000-8000-000000000000"), 700_016),
        (("client_secret", ""), 7_000_218),
        (("client_secret", APP_SECRET_EXPIRED), 7_000_222),
        (("grant_type", ""), 900_144),
        (("grant_type", "password"), 70_003),
        (("scope", ""), 900_144),
        (("scope", "api://downstream/read"), 1_002_012),
        (("scope", "api://downstream/.default openid"), 70_011),
        (("scope", "api://unknown/.default"), 500_011),
        (("client_info", "1"), 9_000_411),
        (("claims", "{not json"), 9_000_410),
        (("claims", "[]"), 9_000_410),
        (("assertion", "x"), 9_000_411),
        (("surprise", "x"), 9_000_411),
        (("client_assertion", "a.b.c"), 9_000_411),
        (("token_type", "pop"), 900_144),
        (("fmi_path", "no-agent"), 200),
    ] {
        let reply = token(&tenant, &app_fields(&[change]));
        let outcome = if reply.status == 200 { 200 } else { reply.code() };
        assert_eq!(outcome, code, "{change:?}");
    }
}

#[test]
fn duplicated_fields_other_methods_and_types_are_refused() {
    let tenant = start();
    let target = format!("/{TENANT_ID}/oauth2/v2.0/token");
    let mut fields = app_fields(&[]);
    fields.push(("scope", "api://downstream/.default"));
    assert_eq!(token(&tenant, &fields).code(), 9_000_411);
    let body = form(&app_fields(&[]));
    let of_type = |content_type| call(&tenant, "POST", &target, &[("Content-Type", content_type)], body.as_bytes());
    assert_eq!(of_type("application/json").code(), 900_144);
    assert_eq!(of_type("application/x-www-form-urlencoded; charset=utf-8").status, 200);
    assert_eq!(call(&tenant, "GET", &target, &[], b"").code(), 900_561);
}

#[test]
fn the_client_s_request_id_comes_back() {
    let tenant = start();
    let id = random::guid();
    let reply = call(
        &tenant,
        "POST",
        &format!("/{TENANT_ID}/oauth2/v2.0/token"),
        &[
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("client-request-id", &id),
            ("return-client-request-id", "true"),
        ],
        form(&app_fields(&[("client_secret", "wrong")])).as_bytes(),
    );
    assert_eq!(reply.header("client-request-id"), Some(id.as_str()));
    assert_eq!(reply.json()["correlation_id"], id.as_str());
}

/// A good client assertion
/// (<https://learn.microsoft.com/entra/identity-platform/certificate-credentials>), before the changes of a test.
struct Assertion {
    header: Claims,
    payload: Claims,
    certificate: ClientCertificate,
}

impl Assertion {
    fn new(tenant: &LocalTenant, certificate: ClientCertificate) -> Self {
        let mut header = Claims::default();
        header.set("alg", "PS256");
        header.set("typ", "JWT");
        header.set("x5t#S256", URL_SAFE_NO_PAD.encode(certificate.certificate().sha256()));
        let mut payload = Claims::default();
        payload.set("aud", tenant.token_url(TENANT_ID));
        payload.set("iss", APP_ID);
        payload.set("sub", APP_ID);
        payload.set("jti", random::guid());
        payload.set("nbf", now());
        payload.set("exp", now() + 600);
        Self { header, payload, certificate }
    }

    fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.set(name, value);
        self
    }

    fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.payload.set(name, value);
        self
    }

    fn send(&self, tenant: &LocalTenant) -> Response {
        let assertion = sign(&self.header, self.payload.text().as_bytes(), &self.certificate.signing_key());
        with_assertion(tenant, &assertion)
    }
}

fn with_assertion(tenant: &LocalTenant, assertion: &str) -> Response {
    let changes = [("client_secret", ""), ("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion)];
    token(tenant, &app_fields(&changes))
}

#[test]
fn a_certificate_s_assertion_is_accepted_in_both_forms() {
    let tenant = start();
    let modern = Assertion::new(&tenant, CLIENT_1);
    assert_eq!(modern.send(&tenant).status, 200);
    let mut old = Assertion::new(&tenant, CLIENT_2).header("alg", "RS256");
    old.header.remove("x5t#S256");
    let old = old.header("x5t", URL_SAFE_NO_PAD.encode(CLIENT_2.certificate().sha1()));
    assert_eq!(old.send(&tenant).status, 200);
}

#[test]
fn every_defect_of_a_certificate_s_assertion_is_refused() {
    let tenant = start();
    let fresh = || Assertion::new(&tenant, CLIENT_1);
    let thumbprint_of_2 = URL_SAFE_NO_PAD.encode(CLIENT_2.certificate().sha256());
    let other_tenant = tenant.token_url(OTHER_TENANT_ID);
    for (name, assertion, code) in [
        ("expired certificate", Assertion::new(&tenant, CLIENT_EXPIRED), 700_027),
        ("another key's thumbprint", fresh().header("x5t#S256", thumbprint_of_2), 700_027),
        ("RS256 with the SHA-256 thumbprint", fresh().header("alg", "RS256"), 700_027),
        ("another tenant's endpoint", fresh().claim("aud", other_tenant), 700_023),
        ("issuer", fresh().claim("iss", OTHER_APP_ID), 700_021),
        ("subject", fresh().claim("sub", OTHER_APP_ID), 700_021),
        ("expired", fresh().claim("nbf", now() - 1000).claim("exp", now() - 301), 700_024),
        ("not valid yet", fresh().claim("nbf", now() + 400).claim("exp", now() + 900), 700_024),
        ("too long a life", fresh().claim("exp", now() + 700), 700_024),
        (
            "x5c of another certificate",
            fresh().header("x5c", json!([STANDARD.encode(CLIENT_2.certificate().der)])),
            700_027,
        ),
    ] {
        assert_eq!(assertion.send(&tenant).code(), code, "{name}");
    }
    let once = fresh();
    assert_eq!(once.send(&tenant).status, 200);
    assert_eq!(once.send(&tenant).code(), 700_025, "replayed");
}

#[test]
fn a_regional_host_is_the_audience_of_its_own_requests() {
    let tenant = start();
    let host = "westeurope.login.microsoft.com";
    let url = format!("http://{host}/{TENANT_ID}/oauth2/v2.0/token");
    let ask = |audience: &str| {
        let assertion = Assertion::new(&tenant, CLIENT_1).claim("aud", audience);
        let assertion = sign(&assertion.header, assertion.payload.text().as_bytes(), &CLIENT_1.signing_key());
        let changes = [
            ("client_secret", ""),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion.as_str()),
        ];
        let headers = [("Host", host), ("Content-Type", "application/x-www-form-urlencoded")];
        let target = format!("/{TENANT_ID}/oauth2/v2.0/token");
        call(&tenant, "POST", &target, &headers, form(&app_fields(&changes)).as_bytes())
    };
    assert_eq!(ask(&url).status, 200);
    assert_eq!(ask(&tenant.token_url(TENANT_ID)).code(), 700_023);
}

#[test]
fn trust_by_name_wants_the_certificate_itself() {
    let tenant = start();
    tenant.directory(|directory| {
        directory.apps.iter_mut().find(|app| app.client_id == APP_ID).unwrap().requires_x5c = true;
    });
    assert_eq!(Assertion::new(&tenant, CLIENT_1).send(&tenant).code(), 700_027);
    let leaf = STANDARD.encode(CLIENT_1.certificate().der);
    assert_eq!(Assertion::new(&tenant, CLIENT_1).header("x5c", json!([leaf])).send(&tenant).status, 200);
    assert_eq!(Assertion::new(&tenant, CLIENT_1).header("x5c", leaf.as_str()).send(&tenant).status, 200);
}

#[test]
fn a_trusted_issuer_s_assertion_is_accepted_and_no_other() {
    let tenant = start();
    assert_eq!(with_assertion(&tenant, &tenant.federated_assertion(APP_SUBJECT, 3600)).status, 200);
    assert_eq!(with_assertion(&tenant, &tenant.federated_assertion("system:other", 3600)).code(), 700_213);
    assert_eq!(with_assertion(&tenant, &tenant.federated_assertion(APP_SUBJECT, -400)).code(), 700_024);
    assert_eq!(with_assertion(&tenant, &tenant.mint_user("alice").claim("iss", "https://x").token()).code(), 700_211);
}

#[test]
fn an_exchange_token_is_an_assertion_in_its_own_cloud() {
    let tenant = start();
    let present = |scope: &str| {
        let fields = [("client_id", OTHER_APP_ID), ("client_secret", OTHER_APP_SECRET), ("scope", scope)];
        let body = token(&tenant, &app_fields(&fields)).json();
        with_assertion(&tenant, body["access_token"].as_str().unwrap())
    };
    assert_eq!(present("api://AzureADTokenExchange/.default").status, 200);
    assert_eq!(present("api://AzureADTokenExchangeUSGov/.default").code(), 7_002_206);
}

#[test]
fn on_behalf_of_issues_a_token_of_the_same_user() {
    let tenant = start();
    let inbound = tenant.mint_user("alice").token();
    let reply = token(&tenant, &user_fields(&inbound, &[]));
    assert_eq!(reply.status, 200, "{}", reply.body);
    let (body, claims) = (reply.json(), claims(&reply));
    assert_eq!(claims["scp"], "read");
    assert_eq!(claims["preferred_username"], "alice@contoso.onmicrosoft.com");
    assert_eq!(claims["azp"], APP_ID);
    assert_eq!(body["scope"], "openid offline_access profile api://downstream/read");
    let info: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body["client_info"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!(info, json!({"uid": claims["oid"], "utid": TENANT_ID}));
    assert!(body["id_token"].is_string() && body["refresh_token"].is_string());
    // Graph's tokens are of version 1.
    let graph =
        self::claims(&token(&tenant, &user_fields(&inbound, &[("scope", "User.Read openid profile offline_access")])));
    assert_eq!((&graph["ver"], &graph["aud"]), (&"1.0".into(), &GRAPH.into()));
    assert_eq!(graph["appid"], APP_ID);
}

#[test]
fn every_defect_of_an_on_behalf_of_request_is_refused() {
    let tenant = start();
    let inbound = tenant.mint_user("alice").token();
    let app_only = tenant.mint_app(OTHER_APP_ID).token();
    let expired = tenant.mint_user("alice").expires_in(-1).token();
    let foreign = tenant.mint_user("alice").audience("api://other").token();
    let elsewhere = tenant.mint_user("frank").token();
    let broken = format!("{}AAAA", &inbound[..inbound.len() - 4]);
    let reserved = "openid offline_access profile";
    for (change, code) in [
        (("assertion", app_only.as_str()), 7_000_114),
        (("assertion", &expired), 500_133),
        (("assertion", &foreign), 500_131),
        (("assertion", &elsewhere), 50_020),
        (("assertion", &broken), 50_013),
        (("requested_token_use", ""), 900_144),
        (("requested_token_use", "other"), 9_000_411),
        (("client_info", "2"), 9_000_411),
        (("scope", "api://downstream/read"), 70_011),
        (("scope", reserved), 70_011),
        (("scope", &format!("{reserved} Mail.Send")), 65_001),
        (("scope", &format!("{reserved} User.Read api://downstream/read")), 28_000),
        (("scope", &format!("{reserved} api://downstream/none")), 650_053),
        (("fmi_path", AGENT_ID), 9_000_411),
    ] {
        assert_eq!(token(&tenant, &user_fields(&inbound, &[change])).code(), code, "{change:?}");
    }
}

#[test]
fn conditional_access_asks_for_interaction_with_claims() {
    let tenant = start();
    let inbound = tenant.mint_user("mfa").token();
    let reply = token(&tenant, &user_fields(&inbound, &[]));
    assert_eq!(reply.code(), 50_076);
    let body = reply.json();
    assert_eq!((&body["error"], &body["suberror"]), (&"interaction_required".into(), &"basic_action".into()));
    let claims = body["claims"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(claims).unwrap()["access_token"].is_object());
    assert_eq!(token(&tenant, &user_fields(&inbound, &[("claims", claims)])).status, 200);
    tenant.directory(|directory| {
        directory.users.iter_mut().for_each(|user| user.condition = Condition::Disabled);
    });
    assert_eq!(token(&tenant, &user_fields(&inbound, &[])).code(), 50_057);
}

#[test]
fn a_refresh_token_serves_its_own_client_until_it_is_revoked() {
    let tenant = start();
    let inbound = tenant.mint_user("alice").token();
    let first = token(&tenant, &user_fields(&inbound, &[])).json();
    let refresh = first["refresh_token"].as_str().unwrap();
    let own =
        [("grant_type", "refresh_token"), ("assertion", ""), ("requested_token_use", ""), ("refresh_token", refresh)];
    let again = token(&tenant, &user_fields("", &own));
    assert_eq!(again.status, 200, "{}", again.body);
    assert_ne!(again.json()["refresh_token"], refresh);
    let other = [&own[..], &[("client_id", OTHER_APP_ID), ("client_secret", OTHER_APP_SECRET)]].concat();
    assert_eq!(token(&tenant, &user_fields("", &other)).code(), 70_000);
    tenant.revoke_refresh_tokens();
    assert_eq!(token(&tenant, &user_fields("", &own)).code(), 70_008);
}

#[test]
fn capabilities_and_bound_keys_show_in_the_token() {
    let tenant = start();
    let request = r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#;
    assert_eq!(claims(&token(&tenant, &app_fields(&[("claims", request)])))["xms_cc"], json!(["cp1"]));
    let kid = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
    let confirmation = URL_SAFE_NO_PAD.encode(json!({ "kid": kid }).to_string());
    let pop = [("token_type", "pop"), ("req_cnf", confirmation.as_str())];
    let reply = token(&tenant, &app_fields(&pop));
    assert_eq!(reply.json()["token_type"], "pop");
    assert_eq!(claims(&reply)["cnf"]["kid"], kid);
    tenant.settings(|settings| settings.ignores_pop = true);
    assert_eq!(token(&tenant, &app_fields(&pop)).json()["token_type"], "Bearer");
    let key = URL_SAFE_NO_PAD.encode(r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#);
    assert_eq!(token(&tenant, &app_fields(&[("token_type", "pop"), ("req_cnf", &key)])).code(), 9_000_411);
}

#[test]
fn lifetimes_are_as_set() {
    let tenant = start();
    tenant.settings(|settings| {
        settings.expires_in = 7200;
        settings.refresh_in = Some(3600);
        settings.numbers_as_strings = true;
    });
    let body = token(&tenant, &app_fields(&[])).json();
    assert_eq!((&body["expires_in"], &body["refresh_in"]), (&"7200".into(), &"3600".into()));
}

/// T1 for this agent, from the blueprint.
fn exchange_token(tenant: &LocalTenant, directory: &str, agent: &str) -> String {
    let scope = format!("{EXCHANGE}/.default");
    let reply = token_at(tenant, directory, &app_fields(&[("scope", scope.as_str()), ("fmi_path", agent)]));
    reply.json()["access_token"].as_str().unwrap_or_else(|| panic!("{}", reply.body)).to_owned()
}

fn agent_fields<'a>(assertion: &'a str, changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let own = [
        ("client_id", AGENT_ID),
        ("client_secret", ""),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion),
    ];
    app_fields(&[&own[..], changes].concat())
}

#[test]
fn an_agent_acts_for_itself_with_its_blueprint_s_exchange_token() {
    let tenant = start();
    let t1 = exchange_token(&tenant, TENANT_ID, AGENT_ID);
    let reply = token(&tenant, &agent_fields(&t1, &[("scope", "https://graph.microsoft.com/.default")]));
    let claims = claims(&reply);
    assert_eq!((&claims["appid"], &claims["xms_par_app_azp"]), (&AGENT_ID.into(), &APP_ID.into()));
    assert_eq!(claims["roles"], json!(["Agent.Read.All"]));
    let of_other = exchange_token(&tenant, TENANT_ID, OTHER_AGENT_ID);
    let of_other_tenant = exchange_token(&tenant, OTHER_TENANT_ID, AGENT_ID);
    for wrong in [&of_other, &of_other_tenant, &tenant.mint_app(APP_ID).token()] {
        assert!(token(&tenant, &agent_fields(wrong, &[])).status == 401);
    }
    let scope = format!("{EXCHANGE}/.default");
    assert_eq!(token(&tenant, &app_fields(&[("scope", &scope), ("fmi_path", "nobody")])).code(), 82_001);
}

#[test]
fn an_agent_acts_on_behalf_of_a_user() {
    let tenant = start();
    let t1 = exchange_token(&tenant, TENANT_ID, AGENT_ID);
    let inbound = tenant.mint_user("alice").token();
    let own = [
        ("client_id", AGENT_ID),
        ("client_secret", ""),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", t1.as_str()),
    ];
    let claims = claims(&token(&tenant, &user_fields(&inbound, &own)));
    assert_eq!((&claims["azp"], &claims["scp"]), (&AGENT_ID.into(), &"read".into()));
}

#[test]
fn an_agent_s_user_needs_both_exchange_tokens_each_in_its_place() {
    let tenant = start();
    let t1 = exchange_token(&tenant, TENANT_ID, AGENT_ID);
    let scope = format!("{EXCHANGE}/.default");
    let t2 =
        token(&tenant, &agent_fields(&t1, &[("scope", &scope)])).json()["access_token"].as_str().unwrap().to_owned();
    let leg = |changes: &[(&str, &str)]| {
        let own = [
            ("grant_type", "user_fic"),
            ("client_info", "1"),
            ("scope", "openid offline_access profile https://graph.microsoft.com/.default"),
            ("user_federated_identity_credential", t2.as_str()),
            ("username", "agent-user@contoso.onmicrosoft.com"),
        ];
        token(&tenant, &agent_fields(&t1, &[&own[..], changes].concat()))
    };
    let reply = leg(&[]);
    let claims = claims(&reply);
    assert_eq!((&claims["appid"], &claims["xms_sub_fct"]), (&AGENT_ID.into(), &"13".into()));
    let oid = claims["oid"].as_str().unwrap();
    assert_eq!(leg(&[("username", ""), ("user_id", oid)]).status, 200);
    for (changes, code) in [
        (&[("user_id", oid)][..], 9_000_411),
        (&[("username", "")], 900_144),
        (&[("username", ""), ("user_id", "{0B1EC700-0000-4000-8000-000000000006}")], 9_000_411),
        (&[("username", "nobody@contoso.onmicrosoft.com")], 50_034),
        (&[("username", "other-agent-user@contoso.onmicrosoft.com")], 82_004),
        (&[("user_federated_identity_credential", t1.as_str())], 50_013),
        (&[("client_assertion", t2.as_str())], 700_213),
        (&[("requested_token_use", "on_behalf_of")], 9_000_411),
    ] {
        assert_eq!(leg(changes).code(), code, "{changes:?}");
    }
    let body = reply.json();
    let refresh = [
        ("grant_type", "refresh_token"),
        ("client_info", "1"),
        ("scope", "openid offline_access profile User.Read"),
        ("refresh_token", body["refresh_token"].as_str().unwrap()),
    ];
    assert_eq!(token(&tenant, &agent_fields(&t1, &refresh)).status, 200);
}
