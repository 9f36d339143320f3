//! Agent identities: docs/scenarios.md, "Agents", and
//! <https://learn.microsoft.com/entra/agent-id/agent-oauth-protocols>.

use local_tenant::directory::{
    AGENT_ID, APP_ID, OTHER_AGENT_ID, OTHER_APP_ID, OTHER_TENANT_DOMAIN, OTHER_TENANT_ID, TENANT_DOMAIN, TENANT_ID,
};
use local_tenant::{Action, Answer, Fault, Kind, Record};
use serde_json::json;

use super::support::{Request, Scene, claims};
use super::wire::{ASSERTION_TYPE, ON_BEHALF_OF, acquire, is_exactly, is_exactly_in, last, requests, t1_fields};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";
const DOWN: &str = "/AuthorizationHeader/Down";
/// The same API without a user's token.
const OPEN: &str = "/AuthorizationHeaderUnauthenticated/Down";

const ACCOUNT: &str = "agent-user@contoso.onmicrosoft.com";
const ACCOUNT_ID: &str = "0b1ec700-0000-4000-8000-000000000006";
const OTHER_ACCOUNT: &str = "other-agent-user@contoso.onmicrosoft.com";

const USER_SCOPE: (&str, &str) = ("scope", "api://downstream/read offline_access openid profile");

fn t1(record: &Record) -> &str {
    let token = record.field("client_assertion").unwrap();
    let content = claims(token);
    assert_eq!(content["azp"], APP_ID, "the blueprint's token");
    assert_eq!(content["xms_fmipath"], record.field("client_id").unwrap(), "for this agent");
    token
}

fn t2(record: &Record) -> &str {
    let token = record.field("user_federated_identity_credential").unwrap();
    assert_eq!(claims(token)["azp"], record.field("client_id").unwrap(), "the agent's own token");
    token
}

fn mailbox(user: &str) -> (&'static str, &str) {
    ("x-anchormailbox", user)
}

#[test]
fn an_autonomous_agent_costs_two_requests() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let content = claims(&sidecar.get(&format!("{APP}?AgentIdentity={AGENT_ID}")).token());
    assert_eq!((&content["azp"], &content["xms_par_app_azp"]), (&json!(AGENT_ID), &json!(APP_ID)));
    assert_eq!((&content["idtyp"], content.get("cnf")), (&json!("app"), None));

    let sent = requests(&scene.tenant);
    assert_eq!(sent.len(), 2);
    is_exactly(&sent[0], &t1_fields(), &[]);
    let fields = [
        ("client_id", AGENT_ID),
        ASSERTION_TYPE,
        ("client_assertion", t1(&sent[1])),
        ("scope", "api://downstream/.default"),
        ("grant_type", "client_credentials"),
        ("client_info", "2"),
    ];
    is_exactly(&sent[1], &fields, &[]);
}

/// A configured or asked-for application token, or an application as the caller.
#[test]
fn every_way_to_ask_for_an_autonomous_agent_gives_one_token() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let agent = format!("AgentIdentity={AGENT_ID}");
    let token = sidecar.get(&format!("{APP}?{agent}")).token();
    let (alice, other_app) = (scene.user("alice"), scene.tenant.mint_app(OTHER_APP_ID).token());
    let default = "optionsOverride.Scopes=api://downstream/.default";
    for (caller, target) in [
        (&alice, format!("/AuthorizationHeader/App?{agent}")),
        (&alice, format!("{DOWN}?{agent}&{default}&optionsOverride.RequestAppToken=true")),
        (&other_app, format!("{DOWN}?{agent}&{default}")),
        (&alice, format!("/authorizationheader/app?agentidentity={}", AGENT_ID.to_uppercase())),
    ] {
        assert_eq!(sidecar.get_as(caller, &target).token(), token, "{target}");
    }
    assert_eq!(requests(&scene.tenant).len(), 2);
}

#[test]
fn another_api_costs_an_agent_one_request_and_another_agent_two() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let agent = format!("{APP}?AgentIdentity={AGENT_ID}");
    let token = sidecar.get(&agent).token();
    let graph = "optionsOverride.Scopes=https://graph.microsoft.com/.default";
    assert_ne!(sidecar.get(&format!("{agent}&{graph}")).token(), token);
    assert_eq!(requests(&scene.tenant).len(), 3);
    let other = claims(&sidecar.get(&format!("{APP}?AgentIdentity={OTHER_AGENT_ID}")).token());
    assert_eq!((&other["azp"], requests(&scene.tenant).len()), (&json!(OTHER_AGENT_ID), 5));
}

#[test]
fn an_application_and_its_agents_have_tokens_of_their_own() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let alice = scene.user("alice");
    for (query, expected) in [(String::new(), APP_ID), (format!("?AgentIdentity={AGENT_ID}"), AGENT_ID)] {
        assert_eq!(claims(&sidecar.get(&format!("{APP}{query}")).token())["azp"], expected);
        assert_eq!(claims(&sidecar.get_as(&alice, &format!("{DOWN}{query}")).token())["azp"], expected);
    }
}

#[test]
fn an_agent_acts_for_the_callers_user_with_the_callers_token() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let target = format!("{DOWN}?AgentIdentity={AGENT_ID}");
    let alice = scene.user("alice");
    let token = sidecar.get_as(&alice, &target).token();
    assert_eq!(sidecar.get_as(&alice, &target).token(), token);
    let content = claims(&token);
    assert_eq!((&content["azp"], &content["name"]), (&json!(AGENT_ID), &json!("alice")));

    let sent = requests(&scene.tenant);
    assert_eq!(sent.len(), 2);
    is_exactly(&sent[0], &t1_fields(), &[]);
    let fields = [
        ("client_id", AGENT_ID),
        ASSERTION_TYPE,
        ("client_assertion", t1(&sent[1])),
        USER_SCOPE,
        ("client_info", "1"),
        ON_BEHALF_OF,
        ("assertion", &alice),
        ("requested_token_use", "on_behalf_of"),
    ];
    let anchor = format!("oid:{}@{TENANT_ID}", claims(&alice)["oid"].as_str().unwrap());
    is_exactly(&sent[1], &fields, &[mailbox(&anchor)]);
}

#[test]
fn an_agents_exchange_token_serves_every_user() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let target = format!("{DOWN}?AgentIdentity={AGENT_ID}");
    let token = sidecar.get_as(&scene.user("alice"), &target).token();
    assert_eq!(claims(&sidecar.get_as(&scene.user("bob"), &target).token())["name"], "bob");
    assert_ne!(sidecar.get_as(&scene.user("alice"), &target).token(), token, "another token of the same user");
    assert_eq!(requests(&scene.tenant).len(), 4, "each of the three costs one request beside the exchange token's");
}

/// The account by its name, and by its object id.
fn by_name() -> String {
    account(AGENT_ID, ACCOUNT)
}

fn by_id(id: &str) -> String {
    format!("{OPEN}?AgentIdentity={AGENT_ID}&AgentUserId={id}")
}

/// The request for the account's token, after those for T1 and T2.
#[track_caller]
fn is_last_leg(sent: &Record, account: (&str, &str), anchor: &str) {
    let fields = [
        ("client_id", AGENT_ID),
        ASSERTION_TYPE,
        ("client_assertion", t1(sent)),
        USER_SCOPE,
        ("client_info", "1"),
        ("grant_type", "user_fic"),
        ("user_federated_identity_credential", t2(sent)),
        account,
    ];
    is_exactly(sent, &fields, &[mailbox(anchor)]);
}

#[test]
fn an_agents_account_costs_three_requests() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let token = sidecar.get(&by_name()).token();
    assert_eq!(sidecar.get(&by_name()).token(), token);
    let content = claims(&token);
    assert_eq!((&content["azp"], &content["oid"]), (&json!(AGENT_ID), &json!(ACCOUNT_ID)));

    let sent = requests(&scene.tenant);
    assert_eq!(sent.len(), 3);
    is_exactly(&sent[0], &t1_fields(), &[]);
    let fields = [
        ("client_id", AGENT_ID),
        ASSERTION_TYPE,
        ("client_assertion", t1(&sent[1])),
        ("scope", "api://AzureADTokenExchange/.default"),
        ("grant_type", "client_credentials"),
        ("client_info", "2"),
    ];
    is_exactly(&sent[1], &fields, &[]);
    is_last_leg(&sent[2], ("username", ACCOUNT), &format!("upn:{ACCOUNT}"));
    assert_eq!(t1(&sent[2]), t1(&sent[1]));
}

/// The caller's own token has no part in it, nor has a configured application token.
#[test]
fn an_agents_account_is_one_account_whoever_calls() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let token = sidecar.get(&by_name()).token();
    let authenticated = by_name().replace("Unauthenticated", "");
    assert_eq!(sidecar.get_as(&scene.user("alice"), &authenticated).token(), token);
    let configured = by_name().replace("/Down?", "/App?optionsOverride.Scopes=api://downstream/read&");
    assert_eq!(sidecar.get(&configured).token(), token);
    assert_eq!(requests(&scene.tenant).len(), 3);
}

/// It goes out with dashes in lower case.
#[test]
fn an_object_id_is_one_id_in_every_spelling() {
    let scene = Scene::new();
    let sidecar = scene.start();
    sidecar.get(&by_name()).expect(200);
    for id in [ACCOUNT_ID.to_owned(), ACCOUNT_ID.replace('-', "").to_uppercase(), format!("%7B{ACCOUNT_ID}%7D")] {
        assert_eq!(claims(&sidecar.get(&by_id(&id)).token())["oid"], ACCOUNT_ID);
    }
    assert_eq!(requests(&scene.tenant).len(), 4, "a second name for the account costs the last leg alone");
    is_last_leg(&last(&scene.tenant), ("user_id", ACCOUNT_ID), &format!("oid:{ACCOUNT_ID}@{TENANT_ID}"));
}

#[test]
fn the_exchange_tokens_outlive_a_forced_renewal() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let token = sidecar.get(&by_name()).token();
    let forced = sidecar.get(&format!("{}&{}", by_name(), acquire("ForceRefresh", "true"))).token();
    assert_ne!(forced, token);
    assert_eq!(sidecar.get(&by_name()).token(), forced);
    assert_eq!(requests(&scene.tenant).len(), 4);
}

#[test]
fn whom_an_agent_is_to_be_is_settled_before_anybody_is_asked() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let alice = scene.user("alice");
    let agent = format!("AgentIdentity={AGENT_ID}");
    let id = ACCOUNT_ID;
    let exclusive = "AgentUsername and AgentUserId are mutually exclusive";
    let no_guid = "AgentUserId must be a valid GUID";
    for (query, detail) in [
        ("AgentUsername=u@x".to_owned(), "AgentUsername requires AgentIdentity to be specified"),
        ("AgentId=x".to_owned(), "AgentId is unknown; did you mean AgentUserId?"),
        (format!("AgentIdentiy={AGENT_ID}"), "AgentIdentiy is unknown; did you mean AgentIdentity?"),
        (format!("{agent}&agentuser={ACCOUNT}"), "agentuser is unknown; did you mean AgentUserId?"),
        (format!("AgentIdentity=&AgentUsername={ACCOUNT}"), "AgentUsername requires AgentIdentity to be specified"),
        (format!("AgentUserId={id}"), "AgentUserId requires AgentIdentity to be specified"),
        ("AgentUserId=x".to_owned(), "AgentUserId requires AgentIdentity to be specified"),
        (format!("{agent}&AgentUsername={ACCOUNT}&AgentUserId={id}"), exclusive),
        (format!("{agent}&AgentUsername={ACCOUNT}&agentuserid=x"), exclusive),
        (format!("{agent}&AgentUserId=x"), no_guid),
        (format!("{agent}&AgentUserId={ACCOUNT}"), no_guid),
    ] {
        for target in [DOWN, OPEN, "/DownstreamApi/Down"] {
            sidecar.get_as(&alice, &format!("{target}?{query}")).problem(400, detail);
        }
    }
    for query in [
        format!("{agent}&{agent}"),
        format!("{agent}&agentIDENTITY={OTHER_AGENT_ID}"),
        format!("{agent}&AgentUsername={ACCOUNT}&AgentUsername={OTHER_ACCOUNT}"),
        format!("{agent}&AgentUserId={id}&AgentUserId={id}"),
        format!("{agent}&AgentUsername={ACCOUNT}&optionsOverride.RequestAppToken=true"),
        format!("{agent}&AgentUserId={id}&optionsOverride.RequestAppToken=true"),
        "AgentIdentity=%20".to_owned(),
        "AgentIdentity=a%0d%0ab".to_owned(),
    ] {
        sidecar.get_as(&alice, &format!("{DOWN}?{query}")).expect(400);
    }
    let journal = scene.tenant.journal();
    assert_eq!((journal.count(Kind::Token), journal.count(Kind::Downstream)), (0, 0));
}

/// The application's own token is no substitute.
#[test]
fn where_agents_are_switched_off_they_are_refused() {
    let switch = "Sidecar:AllowOverrides:CallDownstreamApiUnauthenticated";
    let scene = Scene::new().with(switch, "false");
    let refused = scene.start().get(&format!("/DownstreamApiUnauthenticated/App?AgentIdentity={AGENT_ID}")).expect(403);
    let detail = refused.json()["detail"].clone();
    assert!(detail.as_str().unwrap().contains(switch), "{detail}");
    let journal = scene.tenant.journal();
    assert_eq!((journal.count(Kind::Token), journal.count(Kind::Downstream)), (0, 0));
}

#[test]
fn a_requested_tenant_is_asked_on_every_leg() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let autonomous = format!("{APP}?AgentIdentity={AGENT_ID}");
    let account = format!("{OPEN}?AgentIdentity={AGENT_ID}&AgentUsername={ACCOUNT}");
    let elsewhere =
        |target: &str, tenant: &str| sidecar.get(&format!("{target}&{}", acquire("Tenant", tenant))).token();
    for (target, legs) in [(&autonomous, 2), (&account, 2)] {
        let own = claims(&sidecar.get(target).token());
        assert_eq!(own["tid"], TENANT_ID);
        let before = requests(&scene.tenant).len();
        let token = elsewhere(target, OTHER_TENANT_ID);
        assert_eq!(claims(&token)["tid"], OTHER_TENANT_ID);
        assert_eq!(elsewhere(target, &OTHER_TENANT_ID.to_uppercase()), token);
        let sent = requests(&scene.tenant).split_off(before);
        // The account's third leg is the autonomous agent's first: T1 is there.
        assert_eq!(sent.len(), legs, "{target}");
        for request in sent {
            assert_eq!(request.request.path, format!("/{OTHER_TENANT_ID}/oauth2/v2.0/token"));
        }
    }
}

/// All legs go to it, whatever is known of the tenant by its id.
#[test]
fn a_domain_is_asked_on_every_leg() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let in_tenant = |tenant: &str| format!("{}&{}", by_name(), acquire("Tenant", tenant));
    sidecar.get(&in_tenant(OTHER_TENANT_ID)).expect(200);
    let before = requests(&scene.tenant).len();
    assert_eq!(claims(&sidecar.get(&in_tenant(OTHER_TENANT_DOMAIN)).token())["tid"], OTHER_TENANT_ID);
    let sent = requests(&scene.tenant).split_off(before);
    assert_eq!(sent.len(), 3);
    is_exactly_in(&sent[0], OTHER_TENANT_DOMAIN, &t1_fields(), &[]);
    assert!(sent.iter().all(|sent| sent.request.path == format!("/{OTHER_TENANT_DOMAIN}/oauth2/v2.0/token")));
    assert_eq!(sent[2].request.header("x-anchormailbox"), Some(format!("upn:{ACCOUNT}").as_str()));
}

#[test]
fn a_users_agent_is_asked_for_in_the_requested_tenant() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let target = format!("{DOWN}?AgentIdentity={AGENT_ID}&{}", acquire("Tenant", TENANT_DOMAIN));
    sidecar.get_as(&scene.user("alice"), &target).expect(200);
    let sent = requests(&scene.tenant);
    is_exactly_in(&sent[0], TENANT_DOMAIN, &t1_fields(), &[]);
    assert_eq!(sent[1].request.path, format!("/{TENANT_DOMAIN}/oauth2/v2.0/token"));
}

#[test]
fn an_agent_needs_one_tenant() {
    let scene = Scene::new();
    let sidecar = scene.start();
    for tenant in ["common", "organizations"] {
        sidecar.get(&format!("{APP}?AgentIdentity={AGENT_ID}&{}", acquire("Tenant", tenant))).expect(400);
    }
    assert_eq!(requests(&scene.tenant).len(), 0);
}

#[test]
fn claims_go_with_the_last_leg_only() {
    let demand = r#"{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}"#;
    let capabilities = json!({"access_token": {"xms_cc": {"values": ["cp1"]}}});
    for (target, legs) in [
        (format!("{APP}?AgentIdentity={AGENT_ID}"), 2),
        (format!("{OPEN}?AgentIdentity={AGENT_ID}&AgentUserId={ACCOUNT_ID}"), 3),
        (format!("{DOWN}?AgentIdentity={AGENT_ID}"), 2),
    ] {
        let scene = Scene::new().with("AzureAd:ClientCapabilities:0", "cp1");
        let sidecar = scene.start().with_keys();
        let alice = scene.user("alice");
        let path = acquire("FmiPath", "not-for-agents");
        let ask = |more: &str| sidecar.get_as(&alice, &format!("{target}&{path}{more}")).token();
        let plain = ask("");
        let demanding = ask(&format!("&{}", acquire("Claims", demand)));
        assert_ne!(demanding, plain);
        assert_eq!(ask(""), demanding, "the entry is replaced");
        let sent = requests(&scene.tenant);
        assert_eq!(sent.len(), legs + 1, "{target}");
        let claims: Vec<_> = sent.iter().map(|sent| sent.field("claims")).collect();
        assert_eq!(serde_json::from_str::<serde_json::Value>(claims[0].unwrap()).unwrap(), capabilities);
        assert!(claims[1..legs].iter().all(Option::is_none), "{claims:?}");
        assert_eq!(claims[legs], Some(demand));
        assert!(sent[1..].iter().all(|sent| sent.field("fmi_path").is_none()));
    }
}

#[test]
fn a_challenge_to_an_agent_is_met_on_its_last_leg() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let target = format!(
        "/DownstreamApiUnauthenticated/Down?AgentIdentity={AGENT_ID}&AgentUsername={ACCOUNT}\
         &optionsOverride.RelativePath=x%3F_challenge%3D1700000000"
    );
    assert_eq!(sidecar.get(&target).expect(200).json()["statusCode"], 200);
    let sent = requests(&scene.tenant);
    assert_eq!(sent.len(), 4);
    let demanded: Vec<_> = sent.iter().map(|sent| sent.field("claims").is_some()).collect();
    assert_eq!(demanded, [false, false, false, true]);
}

fn account(agent: &str, name: &str) -> String {
    format!("{OPEN}?AgentIdentity={agent}&AgentUsername={name}")
}

#[test]
fn a_leg_that_is_refused_is_told_and_the_others_are_kept() {
    let scene = Scene::new();
    let refusal = |leg: &str| {
        let body = json!({"error": "invalid_grant", "error_description": format!("AADSTS50034: leg {leg}")});
        Action::Answer(Box::new(Answer::json(400, &body)))
    };
    for (leg, (field, value), legs) in [
        ("1", ("fmi_path", AGENT_ID), 1),
        ("2", ("scope", "api://AzureADTokenExchange/.default"), 2),
        ("3", ("grant_type", "user_fic"), 3),
    ] {
        let sidecar = scene.start();
        let before = requests(&scene.tenant).len();
        let fault = Fault::once(Kind::Token, refusal(leg));
        scene.tenant.fail(if leg == "2" {
            fault.with_field("client_id", AGENT_ID)
        } else {
            fault.with_field(field, value)
        });
        let detail = format!("MSAL.NetCore.invalid_grant: AADSTS50034: leg {leg}");
        for _ in 0..2 {
            sidecar.get(&account(AGENT_ID, ACCOUNT)).problem(500, &detail);
        }
        assert_eq!(requests(&scene.tenant).len() - before, legs, "remembered, not asked again");
        sidecar.get(&account(OTHER_AGENT_ID, OTHER_ACCOUNT)).expect(200);
    }
}

/// An agent of nobody's, and an account of another agent's.
#[test]
fn entras_refusals_of_an_agent_are_told() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let stranger = sidecar.get(&format!("{APP}?AgentIdentity={OTHER_APP_ID}")).expect(500).json();
    assert_eq!(stranger["extensions"]["errorCode"], "invalid_client", "{stranger}");
    let foreign = sidecar.get(&account(AGENT_ID, OTHER_ACCOUNT)).expect(500).json();
    assert_eq!(foreign["extensions"]["errorCodes"], json!([82_004]), "{foreign}");
}

#[test]
fn a_leg_that_fails_for_now_makes_the_whole_503() {
    let scene = Scene::new();
    let down = Answer::status(503).header("Retry-After", "60");
    let fault = Fault::always(Kind::Token, Action::Answer(Box::new(down)));
    scene.tenant.fail(fault.with_field("fmi_path", AGENT_ID));
    let sidecar = scene.start();
    let response = sidecar.get(&account(AGENT_ID, ACCOUNT)).problem(503, "Failed to acquire token for downstream API");
    assert_eq!(response.header("Retry-After"), Some("60"));
}

#[test]
fn one_correlation_id_goes_with_every_leg() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let id = "5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab";
    let target = format!("{OPEN}?AgentIdentity={AGENT_ID}&AgentUsername={ACCOUNT}");
    Request::get(&target).header("x-ms-client-request-id", id).send(sidecar.address).expect(200);
    let asked = "11111111-2222-4333-8444-555555555555";
    sidecar.get(&format!("{APP}?AgentIdentity={OTHER_AGENT_ID}&{}", acquire("CorrelationId", asked))).expect(200);
    let ids: Vec<_> = requests(&scene.tenant)
        .iter()
        .map(|sent| sent.request.header("client-request-id").unwrap().to_owned())
        .collect();
    assert_eq!(ids, [id, id, id, asked, asked]);
}

#[test]
fn without_a_user_the_agent_acts_only_where_allowed() {
    let agent = format!("{DOWN}?AgentIdentity={AGENT_ID}&optionsOverride.Scopes=api://downstream/.default");
    let scene = Scene::new();
    scene.start().with_keys().get(&agent).expect(401);
    let scene = scene.with("Sidecar:AllowAppTokenWithoutUser", "true");
    let sidecar = scene.start().with_keys();
    let content = claims(&sidecar.get(&agent).token());
    assert_eq!((&content["azp"], &content["idtyp"]), (&json!(AGENT_ID), &json!("app")));
    // A token that is there is judged, whatever would do without it.
    let before = requests(&scene.tenant).len();
    for token in ["a.b.c", &scene.tenant.mint_user("alice").expires_in(-3600).token()] {
        sidecar.get_as(token, &agent).expect(401);
    }
    assert_eq!(requests(&scene.tenant).len(), before);
}
