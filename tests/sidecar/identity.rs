//! Whose token it is: what a token does not say proves nothing.

use local_tenant::directory::{AGENT_ID, APP_ID, OTHER_APP_ID, OTHER_APP_SECRET, OTHER_TENANT_ID};

use super::support::{Request, Scene, claims, eventually};

/// What a browser gets at sign-in: for the application, about the user, and no permission to call anything.
fn id_token(scene: &Scene) -> String {
    scene.tenant.mint_user("alice").without("scp").claim("nonce", "n").token()
}

#[test]
fn an_id_token_does_not_pass_for_an_application() {
    let scene = Scene::new().with("AzureAd:Scopes", "access_as_user");
    let sidecar = scene.start().with_keys();
    sidecar.get_as(&id_token(&scene), "/Validate").problem(403, "The scope 'access_as_user' is required");
    sidecar.get_as(&scene.user("alice"), "/Validate").expect(200);
    for app in [
        scene.tenant.mint_app(APP_ID),
        scene.tenant.mint_app(APP_ID).without("idtyp"),
        scene.tenant.mint_app(APP_ID).without("oid"),
    ] {
        sidecar.get_as(&app.token(), "/Validate").expect(200);
    }
}

#[test]
fn an_id_token_gets_no_token_of_the_agent_itself() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let target = format!("/AuthorizationHeader/Down?AgentIdentity={AGENT_ID}");
    let response = sidecar.get_as(&id_token(&scene), &target);
    if response.status == 200 {
        assert_eq!(claims(&response.token())["name"].as_str(), Some("alice"), "on behalf of the user");
    }
    let own = sidecar.get_as(&scene.tenant.mint_app(APP_ID).token(), &target.replace("/Down", "/App")).token();
    assert_eq!(claims(&own)["idtyp"].as_str(), Some("app"));
}

#[test]
fn a_session_needs_a_user_that_can_be_told_apart() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let key = "optionsOverride.AcquireTokenOptions.LongRunningWebApiSessionKey";
    let target = format!("/AuthorizationHeader/Down?{key}=a-key-of-some-length-1");
    let nobody = scene.tenant.mint_user("alice").without("oid").without("sub").token();
    sidecar.get_as(&nobody, &target).problem(400, "A token with neither oid nor sub starts no long-running session");
    sidecar.get_as(&scene.user("alice"), &target).expect(200);
    let alice = claims(&scene.user("alice"))["oid"].as_str().unwrap().to_owned();
    let thief = scene.tenant.mint_user("bob").without("oid").claim("sub", alice).token();
    sidecar.get_as(&thief, &target).problem(403, "This long-running session belongs to another user");
}

#[test]
fn a_session_ends_when_the_client_becomes_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("appsettings.json");
    let mut scene = Scene::new().with("contentRoot", folder.path().to_str().unwrap());
    for key in ["AzureAd:ClientId", "AzureAd:ClientCredentials:0:ClientSecret"] {
        scene.settings.remove(key);
    }
    let secret = local_tenant::directory::APP_SECRET;
    let write = |client: &str, secret: &str| {
        let credential = serde_json::json!([{ "ClientSecret": secret }]);
        let settings = serde_json::json!({ "AzureAd": { "ClientId": client, "Audience": APP_ID, "ClientCredentials": credential } });
        std::fs::write(&path, settings.to_string()).unwrap();
    };
    write(APP_ID, secret);
    let sidecar = scene.start().with_keys();
    let key = "optionsOverride.AcquireTokenOptions.LongRunningWebApiSessionKey=a-key-of-some-length-2";
    sidecar.get_as(&scene.user("alice"), &format!("/AuthorizationHeader/Down?{key}")).expect(200);
    let by_key = format!("/AuthorizationHeaderUnauthenticated/Down?{key}");
    sidecar.get(&by_key).expect(200);
    write(OTHER_APP_ID, OTHER_APP_SECRET);
    sidecar.signal("-HUP");
    eventually("it is reloaded", || sidecar.log().iter().any(|line| line.contains("configuration reloaded")));
    sidecar.get(&by_key).problem(401, "No long-running session for this key");
}

#[test]
fn one_tenant_accepts_no_other_whatever_the_metadata_serves() {
    let scene = Scene::new();
    let metadata = format!("{}/common/v2.0/.well-known/openid-configuration", scene.tenant.base_url());
    let scene = scene.with("AzureAd:MetadataAddress", &metadata);
    let sidecar = scene.start().with_keys();
    sidecar.get_as(&scene.user("alice"), "/Validate").expect(200);
    let foreign = scene.tenant.mint_user("alice").in_tenant(OTHER_TENANT_ID).token();
    sidecar.get_as(&foreign, "/Validate").expect(401);
}

#[test]
fn challenges_stand_beside_the_400s_of_validate() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let missing = sidecar.get("/Validate");
    assert_eq!(missing.header("WWW-Authenticate"), Some("Bearer"));
    missing.problem(400, "No token found");
    let unusable =
        Request::get("/Validate").header("Authorization", "PoP e30.e30.e30").send(sidecar.address).expect(400);
    assert_eq!(unusable.header("WWW-Authenticate"), Some("PoP error=\"invalid_token\""));
}
