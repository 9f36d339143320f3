//! Long-running sessions: docs/endpoints.md, "Long-running sessions".

use std::collections::HashSet;

use local_tenant::directory::{
    AGENT_ID, APP_ID, APP_SECRET, OTHER_AGENT_ID, OTHER_APP_ID, OTHER_APP_SECRET, TENANT_ID,
};
use local_tenant::{Action, Answer, Fault, Kind};
use serde_json::{Value, json};

use super::secrecy::HUSH;
use super::support::{PATIENCE, Response, Scene, Sidecar, claims, eventually};
use super::wire::{ASSERTION_TYPE, ON_BEHALF_OF, acquire, is_exactly, last, requests};

const NONE: &str = "No long-running session for this key";
const SCOPE: (&str, &str) = ("scope", "api://downstream/read offline_access openid profile");

/// With the user's token: starts or continues a session.
fn own(key: &str) -> String {
    // Short keys are made up here, and kept.
    let key = if key.len() < 10 { format!("{HUSH}{key}") } else { key.to_owned() };
    format!("/AuthorizationHeader/Down?{}", acquire("LongRunningWebApiSessionKey", &key))
}

/// By the key alone.
fn open(key: &str) -> String {
    own(key).replace("/AuthorizationHeader/", "/AuthorizationHeaderUnauthenticated/")
}

/// Access tokens that are served only while no other can be had, so that each request shows what renews them.
fn short_lived() -> Scene {
    let scene = Scene::new();
    scene.tenant.settings(|settings| settings.expires_in = 200);
    scene
}

fn grants(scene: &Scene) -> Vec<String> {
    requests(&scene.tenant).iter().map(|sent| sent.field("grant_type").unwrap().to_owned()).collect()
}

fn none(response: Response) {
    response.problem(401, NONE);
}

#[test]
fn a_session_starts_with_a_user_token_and_is_served_by_key() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    none(sidecar.get(&open("k")));
    let alice = scene.user("alice");
    let response = sidecar.get_as(&alice, &own("k"));
    assert_eq!(response.header("X-Long-Running-Session-Key"), None, "the caller knows it");
    let token = response.token();
    let fields = [
        ("client_id", APP_ID),
        ("client_secret", APP_SECRET),
        SCOPE,
        ("client_info", "1"),
        ON_BEHALF_OF,
        ("assertion", &alice),
        ("requested_token_use", "on_behalf_of"),
    ];
    let anchor = format!("oid:{}@{TENANT_ID}", claims(&alice)["oid"].as_str().unwrap());
    is_exactly(&last(&scene.tenant), &fields, &[("x-anchormailbox", &anchor)]);
    assert_eq!(sidecar.get(&open("k")).token(), token);
    assert_eq!(requests(&scene.tenant).len(), 1);
}

/// The same user with any token, and whoever has the key.
#[test]
fn a_session_is_served_on_every_endpoint() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let alice = scene.user("alice");
    let token = sidecar.get_as(&alice, &own("k")).token();
    assert_eq!(sidecar.get_as(&scene.user("alice"), &own("k")).token(), token);
    for (target, caller) in [("/DownstreamApi/", Some(&alice)), ("/DownstreamApiUnauthenticated/", None)] {
        let target = open("k").replace("/AuthorizationHeaderUnauthenticated/", target);
        let response = caller.map_or_else(|| sidecar.get(&target), |caller| sidecar.get_as(caller, &target));
        let echo: Value = serde_json::from_str(response.expect(200).json()["content"].as_str().unwrap()).unwrap();
        assert_eq!(echo["token"]["marker"], claims(&token)["marker"]);
    }
    assert_eq!(requests(&scene.tenant).len(), 1);
}

#[test]
fn on_behalf_of_without_a_key_is_no_session() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let alice = scene.user("alice");
    let token = sidecar.get_as(&alice, &own("k")).token();
    assert_ne!(sidecar.get_as(&alice, "/AuthorizationHeader/Down").token(), token);
}

#[test]
fn session_keys_are_compared_as_they_are() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    sidecar.get_as(&scene.user("alice"), &own("k")).expect(200);
    none(sidecar.get(&open("K")));
    none(sidecar.get(&open("AllocateForMe")));
}

#[test]
fn a_spent_token_is_renewed_by_user_or_refresh_token() {
    let scene = short_lived();
    let sidecar = scene.start().with_keys();
    sidecar.get_as(&scene.user("alice"), &own("k")).expect(200);
    let again = scene.user("alice");
    sidecar.get_as(&again, &own("k")).expect(200);
    assert_eq!(last(&scene.tenant).field("assertion"), Some(again.as_str()));
    let mut used = Vec::new();
    for _ in 0..3 {
        assert_eq!(claims(&sidecar.get(&open("k")).token())["name"], "alice");
        let sent = last(&scene.tenant);
        let token = sent.field("refresh_token").unwrap().to_owned();
        let fields = [
            ("client_id", APP_ID),
            ("client_secret", APP_SECRET),
            SCOPE,
            ("client_info", "1"),
            ("grant_type", "refresh_token"),
            ("refresh_token", &token),
        ];
        is_exactly(&sent, &fields, &[]);
        assert!(!used.contains(&token), "each answer brought another one");
        used.push(token);
    }
    assert_eq!(requests(&scene.tenant).len(), 5);
}

#[test]
fn another_apis_token_comes_from_the_same_refresh_token() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    sidecar.get_as(&scene.user("alice"), &own("k")).expect(200);
    let graph = format!("{}&optionsOverride.Scopes=https://graph.microsoft.com/User.Read", open("k"));
    let token = sidecar.get(&graph).token();
    assert_eq!(claims(&token)["aud"], "https://graph.microsoft.com");
    assert_eq!(sidecar.get(&graph).token(), token);
    assert_eq!(
        last(&scene.tenant).field("scope"),
        Some("https://graph.microsoft.com/User.Read offline_access openid profile")
    );
}

#[test]
fn a_refused_refresh_token_is_told_and_the_user_can_go_on() {
    let scene = short_lived();
    let sidecar = scene.start().with_keys();
    sidecar.get_as(&scene.user("alice"), &own("k")).expect(200);
    scene.tenant.revoke_refresh_tokens();
    let before = requests(&scene.tenant).len();
    for _ in 0..2 {
        let body = sidecar.get(&open("k")).expect(500).json();
        assert_eq!(body["extensions"]["errorCode"], "invalid_grant", "{body}");
        assert_eq!(body["extensions"]["suberror"], "bad_token", "{body}");
    }
    assert_eq!(requests(&scene.tenant).len() - before, 1, "the refusal is remembered");
    let force = acquire("ForceRefresh", "true");
    sidecar.get_as(&scene.user("alice"), &format!("{}&{force}", own("k"))).expect(200);
    sidecar.get(&open("k")).expect(200);
}

#[test]
fn without_a_refresh_token_a_session_ends_with_its_token() {
    for (lifetime, status, asked) in [(3600, 200, 1), (200, 401, 1), (0, 401, 1)] {
        let scene = Scene::new();
        let sidecar = scene.start().with_keys();
        let bare = json!({"token_type": "Bearer", "expires_in": lifetime, "access_token": "AT"});
        let answer = Answer::json(200, &bare);
        scene.tenant.fail(Fault::once(Kind::Token, Action::Answer(Box::new(answer))));
        assert_eq!(sidecar.get_as(&scene.user("alice"), &own("k")).token(), "AT");
        let response = sidecar.get(&open("k"));
        if status == 200 {
            assert_eq!(response.token(), "AT", "{lifetime}");
        } else {
            none(response);
        }
        let forced = format!("{}&{}", open("k"), acquire("ForceRefresh", "true"));
        none(sidecar.get(&forced));
        assert_eq!(requests(&scene.tenant).len(), asked, "there is nothing to ask with");
    }
}

#[test]
fn an_answer_without_a_refresh_token_keeps_the_old_one() {
    let scene = short_lived();
    let sidecar = scene.start().with_keys();
    sidecar.get_as(&scene.user("alice"), &own("k")).expect(200);
    let bare = json!({"token_type": "Bearer", "expires_in": 200, "access_token": "AT"});
    let fault = Fault::once(Kind::Token, Action::Answer(Box::new(Answer::json(200, &bare))));
    scene.tenant.fail(fault.with_field("grant_type", "refresh_token"));
    assert_eq!(sidecar.get(&open("k")).token(), "AT");
    let first = last(&scene.tenant).field("refresh_token").unwrap().to_owned();
    assert_ne!(sidecar.get(&open("k")).token(), "AT");
    assert_eq!(last(&scene.tenant).field("refresh_token"), Some(first.as_str()));
}

#[test]
fn an_allocated_session_key_differs_each_time() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let alice = scene.user("alice");
    let allocate = |target: &str| {
        let response = sidecar.get_as(&alice, target).expect(200);
        let key = response.header("X-Long-Running-Session-Key").unwrap().to_owned();
        assert_eq!(key.len(), 43, "256 bits in base64url");
        key
    };
    let keys = [
        allocate(&own("AllocateForMe")),
        allocate(&own("AllocateForMe")),
        allocate(&own("AllocateForMe").replace("/AuthorizationHeader/", "/DownstreamApi/")),
    ];
    assert_eq!(requests(&scene.tenant).len(), 3, "each is a session of its own");
    let tokens = keys.each_ref().map(|key| sidecar.get(&open(key)).token());
    assert!(tokens[0] != tokens[1] && tokens[1] != tokens[2] && tokens[0] != tokens[2]);
    sidecar.get_as(&alice, &own(&keys[0])).expect(200);
    sidecar.get_as(&scene.user("bob"), &own(&keys[0])).expect(403);
    // Nobody's: without a user there is nobody to allocate for.
    none(sidecar.get(&open("AllocateForMe")));
    // A refusal allocates nothing.
    let refused = sidecar.get_as(&scene.user("mfa"), &own("AllocateForMe")).expect(500);
    assert_eq!(refused.header("X-Long-Running-Session-Key"), None);
}

#[test]
fn a_session_is_its_users_alone() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let token = sidecar.get_as(&scene.user("alice"), &own("k")).token();
    let bob = scene.user("bob");
    let forced = format!("{}&{}", own("k"), acquire("ForceRefresh", "true"));
    for target in [&own("k"), &forced, &own("k").replace("/AuthorizationHeader/", "/DownstreamApi/")] {
        let detail = sidecar.get_as(&bob, target).expect(403).json()["detail"].clone();
        assert_eq!(detail, "This long-running session belongs to another user");
    }
    assert_eq!(requests(&scene.tenant).len(), 1, "nobody was asked for bob");
    assert_eq!(sidecar.get(&open("k")).token(), token, "and alice's is untouched");
    assert_eq!(claims(&sidecar.get_as(&bob, &own("k2")).token())["name"], "bob");
}

#[test]
fn a_refused_start_leaves_the_key_free() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    sidecar.get_as(&scene.user("mfa"), &own("free")).expect(500);
    none(sidecar.get(&open("free")));
    assert_eq!(claims(&sidecar.get_as(&scene.user("bob"), &own("free")).token())["name"], "bob");
}

/// Entra says so.
#[test]
fn an_application_cannot_have_a_session() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let body = sidecar.get_as(&scene.tenant.mint_app(OTHER_APP_ID).token(), &own("app")).expect(500).json();
    assert!(body["detail"].as_str().unwrap().starts_with("MSAL.NetCore."), "{body}");
}

#[test]
fn a_session_through_an_agent_is_reached_with_that_agent_alone() {
    let scene = short_lived();
    let sidecar = scene.start().with_keys();
    let with = |target: String, agent: &str| format!("{target}&AgentIdentity={agent}");
    let alice = scene.user("alice");
    let token = sidecar.get_as(&alice, &with(own("k"), AGENT_ID)).token();
    assert_eq!(claims(&token)["azp"], AGENT_ID);
    none(sidecar.get(&open("k")));
    none(sidecar.get(&with(open("k"), OTHER_AGENT_ID)));
    sidecar.get_as(&scene.user("bob"), &with(own("k"), AGENT_ID)).expect(403);
    // Without it, or with another one, the same key is another session, even another user's.
    assert_eq!(claims(&sidecar.get_as(&scene.user("bob"), &own("k")).token())["azp"], APP_ID);
    let token = sidecar.get(&with(open("k"), &AGENT_ID.to_uppercase())).token();
    assert_eq!((&claims(&token)["azp"], &claims(&token)["name"]), (&json!(AGENT_ID), &json!("alice")));
    let sent = last(&scene.tenant);
    let (t1, refresh) = (sent.field("client_assertion").unwrap(), sent.field("refresh_token").unwrap());
    assert_eq!(claims(t1)["xms_fmipath"], AGENT_ID);
    let fields = [
        ("client_id", AGENT_ID),
        ASSERTION_TYPE,
        ("client_assertion", t1),
        SCOPE,
        ("client_info", "1"),
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh),
    ];
    is_exactly(&sent, &fields, &[]);
}

#[test]
fn an_agents_account_has_no_session() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let with = |target: String, agent: &str| format!("{target}&AgentIdentity={agent}");
    sidecar.get_as(&scene.user("alice"), &with(own("k"), AGENT_ID)).expect(200);
    let account = "AgentUsername=agent-user@contoso.onmicrosoft.com";
    let token = sidecar.get(&format!("{}&{account}", with(open("k"), AGENT_ID))).token();
    assert_eq!(claims(&token)["name"], "agent-user");
}

#[test]
fn sessions_beyond_the_limit_are_forgotten_and_can_restart() {
    let scene = Scene::new().with("Sidecar:Limits:Sessions", "2");
    let sidecar = scene.start().with_keys();
    let alice = scene.user("alice");
    let start = |sidecar: &Sidecar, key: &str| sidecar.get_as(&alice, &own(key)).token();
    let first = start(&sidecar, "1");
    start(&sidecar, "2");
    assert_eq!(sidecar.get(&open("1")).token(), first, "used last");
    start(&sidecar, "3");
    none(sidecar.get(&open("2")));
    sidecar.get(&open("1")).expect(200);
    sidecar.get(&open("3")).expect(200);
    // The forgotten session's access token is cached still; a session needs its refresh token too.
    start(&sidecar, "2");
    sidecar.get(&open("2")).expect(200);
    let forced = format!("{}&{}", open("2"), acquire("ForceRefresh", "true"));
    sidecar.get(&forced).expect(200);
    let on_behalf_of = ON_BEHALF_OF.1;
    assert_eq!(grants(&scene), [on_behalf_of, on_behalf_of, on_behalf_of, on_behalf_of, "refresh_token"]);
    none(sidecar.get(&open("1")));
}

#[test]
fn a_session_belongs_to_the_registration_that_it_went_through() {
    let scene = Scene::new();
    let instance = scene.settings["AzureAd:Instance"].clone();
    let scene = scene
        .with("Other:Instance", &instance)
        .with("Other:TenantId", TENANT_ID)
        .with("Other:ClientId", OTHER_APP_ID)
        .with("Other:ClientSecret", OTHER_APP_SECRET)
        .with("DownstreamApis:Elsewhere:Scopes", "api://downstream/read")
        .with("DownstreamApis:Elsewhere:AcquireTokenOptions:AuthenticationOptionsName", "Other");
    let sidecar = scene.start().with_keys();
    sidecar.get_as(&scene.user("alice"), &own("k")).expect(200);
    none(sidecar.get(&open("k").replace("/Down?", "/Elsewhere?")));
}

#[test]
fn a_configured_key_and_a_switched_off_override_hold() {
    let scene = Scene::new()
        .with("DownstreamApis:Job:Scopes", "api://downstream/read")
        .with("DownstreamApis:Job:AcquireTokenOptions:LongRunningWebApiSessionKey", "configured")
        .with("Sidecar:AllowOverrides:GetAuthorizationHeaderUnauthenticated", "false");
    let sidecar = scene.start().with_keys();
    none(sidecar.get("/AuthorizationHeaderUnauthenticated/Job"));
    let token = sidecar.get_as(&scene.user("alice"), "/AuthorizationHeader/Job").token();
    assert_eq!(sidecar.get("/AuthorizationHeaderUnauthenticated/Job").token(), token);
    sidecar.get(&open("configured")).expect(403);
    assert_eq!(requests(&scene.tenant).len(), 1);
}

#[test]
fn while_entra_is_down_a_session_is_served_from_what_is_valid() {
    let scene = short_lived();
    let sidecar = scene.start().with_keys();
    let token = sidecar.get_as(&scene.user("alice"), &own("k")).token();
    scene.tenant.fail(Fault::always(Kind::Token, Action::CutBeforeAnswer));
    assert_eq!(sidecar.get(&open("k")).token(), token);
    assert_eq!(sidecar.get_as(&scene.user("alice"), &own("k")).token(), token);
    let other = sidecar.get_as(&scene.user("alice"), &own("another")).expect(503);
    assert!(other.header("Retry-After").is_some());
    none(sidecar.get(&open("another")));
}

#[test]
fn many_starts_of_one_session_are_one_request() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let alice = scene.user("alice");
    scene.tenant.fail(Fault::once(Kind::Token, Action::Hold));
    std::thread::scope(|threads| {
        let starts: Vec<_> = (0..30).map(|_| threads.spawn(|| sidecar.get_as(&alice, &own("k")).token())).collect();
        assert!(scene.tenant.faults().wait_held(1, PATIENCE));
        eventually("the others are parked", || {
            sidecar.get("/metrics").body.contains("entra_sidecar_connections{state=\"parked\"} 29")
        });
        none(sidecar.get(&open("k")));
        scene.tenant.faults().release();
        let tokens: HashSet<_> = starts.into_iter().map(|start| start.join().unwrap()).collect();
        assert_eq!((tokens.len(), requests(&scene.tenant).len()), (1, 1));
        assert!(tokens.contains(&sidecar.get(&open("k")).token()));
    });
}
