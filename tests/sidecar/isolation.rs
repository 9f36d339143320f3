//! Nobody is ever answered with another's token: every identity, tenant, key and API in every combination, all at
//! once, with each token saying whose it is.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use local_tenant::directory::{AGENT_ID, APP_ID, OTHER_AGENT_ID, OTHER_TENANT_ID, TENANT_ID};
use local_tenant::jwt::Decoded;
use local_tenant::keys::SigningKey;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use super::support::{Request, Response, Scene, Sidecar, claims};
use super::wire::acquire;

const THREADS: usize = 8;

/// Whom a request makes the token out to, and how it says so.
#[derive(Clone, Debug)]
struct Identity {
    /// Without the user's own token the endpoint is an unauthenticated one.
    caller: Option<&'static str>,
    query: String,
    client: &'static str,
    /// None is an application's token.
    user: Option<&'static str>,
    tenants: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    None,
    Callers(usize),
    Sidecars,
}

/// One request; all that shares it shares a token, and nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Wish {
    identity: usize,
    tenant: usize,
    key: Key,
    graph: bool,
}

const BOTH: &[&str] = &[TENANT_ID, OTHER_TENANT_ID];
/// The tenant follows from the user.
const HOME: &[&str] = &[TENANT_ID];
const ABROAD: &[&str] = &[OTHER_TENANT_ID];

fn identities() -> Vec<Identity> {
    let of = |caller, query: &str, client, user, tenants| Identity {
        caller,
        query: query.to_owned(),
        client,
        user,
        tenants,
    };
    let mut all = vec![
        of(None, "", APP_ID, None, BOTH),
        of(Some("alice"), "", APP_ID, Some("alice"), HOME),
        of(Some("bob"), "", APP_ID, Some("bob"), HOME),
        of(Some("frank"), "", APP_ID, Some("frank"), ABROAD),
    ];
    for (agent, account, id) in [(AGENT_ID, "agent-user", 6), (OTHER_AGENT_ID, "other-agent-user", 7)] {
        let acting = format!("&AgentIdentity={agent}");
        all.push(of(None, &acting, agent, None, BOTH));
        for (user, tenants) in [("alice", HOME), ("bob", HOME), ("frank", ABROAD)] {
            all.push(of(Some(user), &acting, agent, Some(user), tenants));
        }
        let named = format!("{acting}&AgentUsername={account}@contoso.onmicrosoft.com");
        all.push(of(None, &named, agent, Some(account), BOTH));
        let numbered = format!("{acting}&AgentUserId=0b1ec700-0000-4000-8000-{id:012}");
        all.push(of(None, &numbered, agent, Some(account), BOTH));
        // The same key, through an agent: another session.
        let session = format!("{acting}&{}", acquire("LongRunningWebApiSessionKey", "hush-hush-shared"));
        all.push(of(Some("bob"), &session, agent, Some("bob"), HOME));
    }
    for (user, key, tenants) in
        [("alice", "hush-hush-shared", HOME), ("bob", "hush-hush-bobs", HOME), ("frank", "hush-hush-franks", ABROAD)]
    {
        let session = format!("&{}", acquire("LongRunningWebApiSessionKey", key));
        all.push(of(Some(user), &session, APP_ID, Some(user), tenants));
    }
    all
}

struct World {
    sidecar: Sidecar,
    identities: Vec<Identity>,
    users: HashMap<&'static str, String>,
    keys: [SigningKey; 2],
    scene: Scene,
}

impl World {
    fn new() -> Self {
        let scene = Scene::new()
            .with("AzureAd:TenantId", "organizations")
            .with("AzureAd:AppHomeTenantId", TENANT_ID)
            .with("Sidecar:Limits:Workers", "32");
        let sidecar = scene.start().with_keys();
        let users = ["alice", "bob", "frank"].map(|name| (name, scene.user(name))).into();
        let keys = [SigningKey::p256("1"), SigningKey::numbered(2)];
        Self { sidecar, identities: identities(), users, keys, scene }
    }

    fn wishes(&self) -> Vec<Wish> {
        let mut all = Vec::new();
        for (identity, who) in self.identities.iter().enumerate() {
            for tenant in 0..who.tenants.len() {
                for key in [Key::None, Key::Callers(0), Key::Callers(1), Key::Sidecars] {
                    all.extend([false, true].map(|graph| Wish { identity, tenant, key, graph }));
                }
            }
        }
        all
    }

    fn send(&self, wish: Wish, more: &str) -> Response {
        let who = &self.identities[wish.identity];
        let resource = if wish.graph { "https://graph.microsoft.com" } else { "api://downstream" };
        let scope = match (who.user, wish.graph) {
            (None, _) => ".default",
            (Some(_), false) => "read",
            (Some(_), true) => "User.Read",
        };
        let key = match wish.key {
            Key::None => String::new(),
            Key::Callers(number) => {
                format!("&{}", acquire("PopPublicKey", &self.keys[number].public().jwk().to_string()))
            }
            Key::Sidecars => format!("&{}", acquire("AuthenticationScheme", "PoP")),
        };
        // Where the tenant does not follow from the user, it is asked for.
        let tenant = match who.tenants {
            BOTH => format!("&{}", acquire("Tenant", who.tenants[wish.tenant])),
            _ => String::new(),
        };
        let open = if who.caller.is_some() { "" } else { "Unauthenticated" };
        let query = format!("optionsOverride.Scopes={resource}/{scope}{}{key}{tenant}{more}", who.query);
        let request = Request::get(&format!("/AuthorizationHeader{open}/Down?{query}"));
        let request = who.caller.iter().fold(request, |request, name| request.bearer(&self.users[name]));
        request.send(self.sidecar.address)
    }

    /// The token's number, after it was found to be what was wished for.
    fn ask(&self, wish: Wish, more: &str) -> u64 {
        let who = &self.identities[wish.identity];
        let response = self.send(wish, more);
        assert_eq!(response.status, 200, "{wish:?} {who:?}: {}", response.body);
        let header = response.json()["authorizationHeader"].as_str().unwrap().to_owned();
        let (scheme, mut token) = header.split_once(' ').map(|(scheme, token)| (scheme, token.to_owned())).unwrap();
        assert_eq!(scheme, if wish.key == Key::None { "Bearer" } else { "PoP" });
        let bound_to = match wish.key {
            Key::None => None,
            Key::Callers(number) => Some(self.keys[number].public().thumbprint()),
            Key::Sidecars => {
                let signed = Decoded::of(&token).unwrap();
                signed.text("at").unwrap().clone_into(&mut token);
                signed.header_text("kid").map(str::to_owned)
            }
        };
        let seen = claims(&token);
        let text = |name: &str| seen[name].as_str();
        let content = (
            text("azp").or(text("appid")),
            text("name"),
            text("tid"),
            seen["cnf"]["kid"].as_str(),
            text("aud").map(|audience| audience.contains("graph")),
        );
        let tenant = Some(who.tenants[wish.tenant]);
        let expected = (Some(who.client), who.user, tenant, bound_to.as_deref(), Some(wish.graph));
        assert_eq!(content, expected, "{wish:?} {who:?}: {seen}");
        seen["marker"].as_u64().unwrap()
    }

    /// All of them at once; which token each got.
    fn ask_all(&self, wishes: &[(Wish, String)]) -> Vec<(Wish, u64)> {
        let got = Mutex::new(Vec::new());
        let keep = &got;
        std::thread::scope(|threads| {
            for chunk in wishes.chunks(wishes.len().div_ceil(THREADS)) {
                threads.spawn(move || {
                    for (wish, more) in chunk {
                        let token = self.ask(*wish, more);
                        keep.lock().unwrap().push((*wish, token));
                    }
                });
            }
        });
        got.into_inner().unwrap()
    }
}

#[test]
fn every_combination_has_one_token_and_shares_it_with_no_other() {
    let world = World::new();
    let wishes = world.wishes();
    // Each three times: on its first request, beside it, and from the cache.
    let order = prop::collection::vec(any::<u64>(), wishes.len() * 3);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let order = order.new_tree(&mut runner).unwrap().current();
    let mut shuffled: Vec<_> = wishes.iter().cycle().copied().zip(order).collect();
    shuffled.sort_by_key(|(_, place)| *place);
    let all: Vec<_> = shuffled.into_iter().map(|(wish, _)| (wish, String::new())).collect();
    let mut tokens: HashMap<Wish, HashSet<u64>> = HashMap::new();
    for (wish, token) in world.ask_all(&all) {
        tokens.entry(wish).or_default().insert(token);
    }
    assert_eq!(tokens.len(), wishes.len());
    let mut owners: HashMap<u64, Wish> = HashMap::new();
    for (wish, own) in &tokens {
        assert_eq!(own.len(), 1, "{wish:?} was asked for more than once");
        for token in own {
            if let Some(other) = owners.insert(*token, *wish) {
                panic!("{wish:?} and {other:?} share a token");
            }
        }
    }
    // The sessions by their keys alone, and nobody else's by another's token.
    for (user, key, other) in [
        ("alice", "hush-hush-shared", "bob"),
        ("bob", "hush-hush-bobs", "frank"),
        ("frank", "hush-hush-franks", "alice"),
    ] {
        let session = acquire("LongRunningWebApiSessionKey", key);
        let target = format!("/AuthorizationHeaderUnauthenticated/Down?{session}");
        assert_eq!(claims(&world.sidecar.get(&target).token())["name"], user);
        let target = format!("/AuthorizationHeader/Down?{session}");
        world.sidecar.get_as(&world.users[other], &target).expect(403);
    }
    // One request to Entra for each, and one for each exchange token: per agent, tenant, and account.
    let exchange_tokens = 2 * 2 * 2;
    assert_eq!(world.scene.tenant.journal().count(local_tenant::Kind::Token), wishes.len() + exchange_tokens);
}

#[test]
fn renewals_and_refusals_never_mix_up_tokens() {
    let world = World::new();
    let wishes = world.wishes();
    let claims = |value: &str| {
        let claims = format!(r#"{{"access_token":{{"nbf":{{"essential":true,"value":"{value}"}}}}}}"#);
        format!("&{}", acquire("Claims", &claims))
    };
    let more =
        [String::new(), String::new(), format!("&{}", acquire("ForceRefresh", "true")), claims("1"), claims("2")];
    let one = (0..wishes.len(), 0..more.len());
    let mut runner = TestRunner::new(Config { cases: 4, failure_persistence: None, ..Config::default() });
    runner
        .run(&prop::collection::vec(one, 200..300), |picks| {
            let picks: Vec<_> = picks.iter().map(|(wish, how)| (wishes[*wish], more[*how].clone())).collect();
            world.ask_all(&picks);
            Ok(())
        })
        .unwrap();
    // What a request demanded is what its token was asked for with.
    let demanding = |value: &str| {
        let response = world.send(wishes[0], &claims(value));
        let seen: Value = super::support::claims(&response.token());
        assert_eq!(seen["requested_claims"]["access_token"]["nbf"]["value"], value);
    };
    std::thread::scope(|threads| {
        for value in ["1", "2", "3", "4"] {
            threads.spawn(move || (0..5).for_each(|_| demanding(value)));
        }
    });
}
