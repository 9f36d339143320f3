//! What depends on a cloud's own host names. The tenant plays the HTTP proxy through which they are reached, so that the
//! names on the wire are the real ones (<https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud>).

use local_tenant::directory::{APP_ID, APP_SUBJECT, Api, TENANT_ID};
use local_tenant::{Kind, LocalTenant};

use super::credentials::{CREDENTIAL, key, refused, scene};
use super::support::{Scene, Sidecar, eventually};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";

/// Everything outside goes to the tenant.
fn through_the_tenant(scene: Scene) -> Scene {
    scene.with("Sidecar:AllowInsecureUpstream", "true")
}

fn start(scene: &Scene, variables: &[(&str, &str)]) -> Sidecar {
    let base = scene.tenant.base_url();
    let own = [("HTTP_PROXY", base), ("AZURE_POD_IDENTITY_AUTHORITY_HOST", base)];
    scene.start_with(&[&own, variables].concat())
}

fn says(sidecar: &Sidecar, words: &str) -> bool {
    sidecar.log().iter().any(|line| line.contains(words))
}

/// Host and path of the newest token request.
fn endpoint(tenant: &LocalTenant) -> String {
    let request = tenant.journal().of(Kind::Token).pop().unwrap().request;
    format!("{}{}", request.header("host").unwrap(), request.path)
}

fn at(instance: &str) -> Scene {
    through_the_tenant(Scene::new()).with("AzureAd:Instance", instance)
}

#[test]
fn the_regions_endpoint_serves_application_tokens() {
    for (instance, configured, host) in [
        ("http://login.microsoftonline.com/", "westus2", "westus2.login.microsoft.com"),
        ("http://login.windows.net/", "WestUS2", "westus2.login.microsoft.com"),
        ("http://login.microsoftonline.us/", "usgovvirginia", "usgovvirginia.login.microsoftonline.us"),
        ("http://login.microsoftonline.com/", "", "login.microsoftonline.com"),
    ] {
        // The tenant verifies the assertion's audience, which is the region's endpoint too.
        let (certificate, private) = (key("client-1.crt.pem"), key("client-1.pem"));
        let fields = [
            ("SourceType", "Path"),
            ("CertificateDiskPath", certificate.as_str()),
            ("CertificateKeyDiskPath", &private),
        ];
        let scene = through_the_tenant(scene(&fields))
            .with("AzureAd:Instance", instance)
            .with("AzureAd:AzureRegion", configured);
        start(&scene, &[]).get(APP).expect(200);
        assert_eq!(endpoint(&scene.tenant), format!("{host}/{TENANT_ID}/oauth2/v2.0/token"));
    }
}

#[test]
fn a_region_is_taken_from_the_environment_first() {
    let scene = at("http://login.microsoftonline.com/").with("AzureAd:AzureRegion", "TryAutoDetect");
    let sidecar = start(&scene, &[("REGION_NAME", "North Europe")]);
    sidecar.get(APP).expect(200);
    assert_eq!(endpoint(&scene.tenant), format!("northeurope.login.microsoft.com/{TENANT_ID}/oauth2/v2.0/token"));
    assert_eq!(scene.tenant.journal().count(Kind::ManagedIdentity), 0);
}

#[test]
fn a_region_is_asked_of_the_machine_once() {
    let scene = at("http://login.microsoftonline.com/").with("AzureAd:AzureRegion", "TryAutoDetect");
    let sidecar = start(&scene, &[]);
    eventually("the region", || says(&sidecar, "detected the region \"westeurope\""));
    sidecar.get(APP).expect(200);
    assert_eq!(endpoint(&scene.tenant), format!("westeurope.login.microsoft.com/{TENANT_ID}/oauth2/v2.0/token"));
    let question = scene.tenant.journal().of(Kind::ManagedIdentity).remove(0).request;
    assert_eq!(
        (question.path.as_str(), question.query.as_str()),
        ("/metadata/instance/compute", "api-version=2021-02-01")
    );
    assert_eq!(question.header("metadata"), Some("true"));
    sidecar.signal("-HUP");
    eventually("the reload", || says(&sidecar, "configuration reloaded"));
    sidecar.get(APP).expect(200);
    assert_eq!(scene.tenant.journal().count(Kind::ManagedIdentity), 1, "it is asked once");
}

#[test]
fn without_a_region_the_global_endpoint_serves_at_once() {
    let scene = at("http://login.microsoftonline.com/").with("AzureAd:AzureRegion", "TryAutoDetect");
    scene.tenant.fail(local_tenant::Fault::once(Kind::ManagedIdentity, local_tenant::Action::Hold));
    let sidecar = start(&scene, &[]);
    sidecar.get(APP).expect(200);
    assert_eq!(endpoint(&scene.tenant), format!("login.microsoftonline.com/{TENANT_ID}/oauth2/v2.0/token"));
    scene.tenant.faults().release();
}

#[test]
fn a_managed_identity_vouches_with_the_audience_of_the_cloud() {
    for (instance, configured, audience) in [
        ("http://login.microsoftonline.com/", None, "api://AzureADTokenExchange"),
        ("http://login.microsoftonline.us/", None, "api://AzureADTokenExchangeUSGov"),
        ("http://login.partner.microsoftonline.cn/", None, "api://AzureADTokenExchangeChina"),
        ("http://login.sovcloud-identity.fr/", None, "api://AzureADTokenExchangeFrance"),
        ("http://login.sovcloud-identity.de/", None, "api://AzureADTokenExchangeGermany"),
        ("http://login.microsoftonline.com/", Some("api://own/.default"), "api://own"),
    ] {
        let scene = through_the_tenant(scene(&[("SourceType", "SignedAssertionFromManagedIdentity")]));
        let scene = scene.with("AzureAd:Instance", instance);
        let scene = match configured {
            Some(url) => scene.with(&format!("{CREDENTIAL}:TokenExchangeUrl"), url),
            None => scene,
        };
        scene.tenant.directory(|directory| {
            // Tokens of version 2 name an API by its own application.
            let exchange = "e0e0e0e0-0000-4000-8000-000000000000";
            directory.register_api(Api::new(audience, exchange, &[]));
            let mut app = directory.app(APP_ID).cloned().unwrap();
            app.federated.iter_mut().for_each(|trusted| exchange.clone_into(&mut trusted.audience));
            directory.register_app(app);
        });
        let sidecar = start(&scene, &[]);
        let answer = sidecar.get(APP);
        assert_eq!(answer.status, 200, "{audience}: {}", answer.body);
        let asked = scene.tenant.journal().of(Kind::ManagedIdentity).remove(0).request;
        assert_eq!(asked.query_value("resource").as_deref(), Some(audience), "{instance}");
        let shown = scene.tenant.journal().of(Kind::Token).remove(0);
        assert!(shown.field("client_assertion").is_some() && shown.field("client_secret").is_none());
    }
}

#[test]
fn a_vault_gets_a_token_for_its_own_service_alone() {
    let own = "https://vault.azure.net";
    for (host, resource, accepted) in [
        ("contoso.vault.azure.net", own, true),
        ("contoso.vault.azure.net", "https://management.azure.com", false),
        ("contoso.vault.azure.net.evil.example", own, false),
        ("contosovault.azure.net", own, false),
        ("contoso.vault.azure.net", "https://net", false),
    ] {
        let scene = through_the_tenant(scene(&[
            ("SourceType", "KeyVault"),
            ("KeyVaultUrl", &format!("http://{host}")),
            ("KeyVaultCertificateName", "client-pem"),
        ]));
        scene.tenant.settings(|settings| resource.clone_into(&mut settings.vault_resource));
        let sidecar = start(&scene, &[]);
        let vault = || scene.tenant.journal().of(Kind::Vault);
        if accepted {
            sidecar.get(APP).expect(200);
            let token: Vec<_> = vault().iter().map(|record| record.request.header("authorization").is_some()).collect();
            assert_eq!(token, [false, true, true], "the challenge, the certificate and its secret");
        } else {
            assert_eq!(refused(&sidecar).0, 500, "{host} {resource}");
            eventually("the log says why", || says(&sidecar, "asked for a token for another service"));
            assert_eq!(vault().len(), 1, "{host} {resource}");
            assert_eq!(scene.tenant.journal().count(Kind::ManagedIdentity), 0);
        }
    }
}

#[test]
fn the_files_subject_is_the_one_that_the_registration_trusts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    for (subject, status) in [(APP_SUBJECT, 200), ("system:serviceaccount:default:other", 500)] {
        let scene = scene(&[
            ("SourceType", "SignedAssertionFilePath"),
            ("SignedAssertionFileDiskPath", file.to_str().unwrap()),
        ]);
        std::fs::write(&file, scene.tenant.federated_assertion(subject, 3600)).unwrap();
        scene.start().get(APP).expect(status);
    }
}
