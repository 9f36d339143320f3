//! Tokens that grow old: renewed in the background, before their end, and served while no other can be had
//! (docs/design.md, "Tokens: cache and single flight").

use local_tenant::{Action, Fault, Kind};

use super::outages::{answer, cold, instead, refusal};
use super::support::{PATIENCE, Scene, eventually};
use super::wire::{acquire, requests};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";
const DOWN: &str = "/AuthorizationHeader/Down";

#[test]
fn a_token_that_is_due_is_served_while_one_request_renews_it() {
    let scene = Scene::new();
    scene.tenant.settings(|settings| settings.refresh_in = Some(0));
    let sidecar = scene.start().with_keys();
    let alice = scene.user("alice");
    for (who, target) in [(None, APP), (Some(&alice), DOWN)] {
        let ask = || who.map_or_else(|| sidecar.get(target), |token| sidecar.get_as(token, target)).token();
        scene.tenant.settings(|settings| settings.refresh_in = Some(0));
        scene.tenant.journal().clear();
        let old = ask();
        scene.tenant.settings(|settings| settings.refresh_in = None);
        scene.tenant.fail(Fault::once(Kind::Token, Action::Hold));
        for _ in 0..20 {
            assert_eq!(ask(), old, "at once, and nobody waits");
        }
        assert!(scene.tenant.faults().wait_held(1, PATIENCE));
        assert_eq!(scene.tenant.journal().count(Kind::Token), 2);
        scene.tenant.faults().release();
        eventually("the new token", || ask() != old);
        ask();
        let sent = requests(&scene.tenant);
        assert_eq!((sent.len(), &sent[0].form), (2, &sent[1].form));
    }
    let metrics = sidecar.get("/metrics").body;
    assert!(metrics.contains("entra_sidecar_token_cache_requests_total{result=\"refreshed\"} 2"), "{metrics}");
}

#[test]
fn a_failed_renewal_keeps_the_token_and_is_not_repeated() {
    for failure in [answer(503), refusal("invalid_grant", 50_057)] {
        let scene = Scene::new();
        scene.tenant.settings(|settings| settings.refresh_in = Some(0));
        let sidecar = scene.start();
        let token = sidecar.get(APP).token();
        let attempts = if failure.status == 503 { 2 } else { 1 };
        scene.tenant.fail(Fault::always(Kind::Token, instead(failure)));
        assert_eq!(sidecar.get(APP).token(), token);
        eventually("the failed renewal", || {
            sidecar.log().iter().any(|line| line.contains("failed to acquire a token ("))
        });
        for _ in 0..20 {
            assert_eq!(sidecar.get(APP).token(), token);
        }
        assert_eq!(requests(&scene.tenant).len(), 1 + attempts);
    }
}

#[test]
fn an_expiring_token_is_served_only_while_entra_is_down() {
    let scene = Scene::new();
    scene.tenant.settings(|settings| settings.expires_in = 299);
    let sidecar = scene.start();
    let old = sidecar.get(APP).token();
    let newer = sidecar.get(APP).token();
    assert_ne!(newer, old, "five minutes before its end a token is as good as spent");
    for failure in [instead(answer(500)), Action::CutBeforeAnswer] {
        scene.tenant.fail(Fault::always(Kind::Token, failure));
        let before = requests(&scene.tenant).len();
        for _ in 0..5 {
            assert_eq!(sidecar.get(APP).token(), newer);
        }
        assert!(requests(&scene.tenant).len() - before <= 2, "one caller tries for all");
        sidecar.get(&format!("{APP}?{}", acquire("ForceRefresh", "true"))).expect(503);
        scene.tenant.faults().clear();
    }
    // Over is over.
    scene.tenant.settings(|settings| settings.expires_in = 0);
    let spent = sidecar.get(&cold("spent")).token();
    assert_ne!(sidecar.get(&cold("spent")).token(), spent);
    scene.tenant.fail(Fault::always(Kind::Token, Action::CutBeforeAnswer));
    sidecar.get(&cold("spent")).expect(503);
}

#[test]
fn the_token_that_was_not_used_for_longest_leaves_first() {
    let scene = Scene::new().with("Sidecar:Limits:TokenCacheEntries", "2");
    let sidecar = scene.start();
    let ask = |name: &str| sidecar.get(&cold(name)).token();
    let (first, second) = (ask("a"), ask("b"));
    assert_eq!(ask("a"), first);
    ask("c");
    assert_eq!((ask("a"), requests(&scene.tenant).len()), (first, 3));
    assert_ne!(ask("b"), second);
    assert_eq!(requests(&scene.tenant).len(), 4);
    let metrics = sidecar.get("/metrics").body;
    for line in ["entra_sidecar_token_cache_entries 2", "entra_sidecar_token_cache_evictions_total 2"] {
        assert!(metrics.lines().any(|own| own == line), "{line}: {metrics}");
    }
}
