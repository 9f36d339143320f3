//! Which host and path a token request goes to, in each cloud and kind of tenant
//! (<https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud>). A proxy notes the names of the
//! hosts and connects all of them to the local tenant.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use local_tenant::certificate::CLIENT_1;
use local_tenant::directory::{AGENT_ID, OTHER_TENANT_DOMAIN, TENANT_DOMAIN, TENANT_ID};

use super::support::{Scene, Sidecar, claims, free_port};
use super::wire::{acquire, requests};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";

/// Passes every connection on to one address, and notes for which host it was (RFC 9112 §3.2.2).
struct Proxy {
    address: SocketAddr,
    hosts: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), hosts: Arc::default() };
        let hosts = Arc::clone(&proxy.hosts);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let hosts = Arc::clone(&hosts);
                // A connection that breaks is its ends' to notice.
                thread::spawn(move || pass_on(client, to, &hosts).ok());
            }
        });
        proxy
    }
}

fn pass_on(client: TcpStream, to: SocketAddr, hosts: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut requests = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    requests.read_line(&mut line)?;
    let host = line.split_once("http://").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default();
    hosts.lock().unwrap().push(host.trim_end_matches(":80").to_owned());
    let mut server = TcpStream::connect(to)?;
    server.write_all(line.as_bytes())?;
    let (mut answers, mut back) = (server.try_clone()?, client);
    thread::spawn(move || io::copy(&mut answers, &mut back));
    io::copy(&mut requests, &mut server).map(drop)
}

struct World {
    scene: Scene,
    proxy: Proxy,
}

impl World {
    /// A sidecar's settings with these in place of instance and tenant.
    fn new(settings: &[(&str, &str)]) -> Self {
        let mut scene = Scene::new().with("Sidecar:AllowInsecureUpstream", "true");
        for name in ["AzureAd:Instance", "AzureAd:TenantId"] {
            scene.settings.remove(name);
        }
        let proxy = Proxy::start(scene.tenant.address());
        let scene = settings.iter().fold(scene, |scene, (key, value)| scene.with(key, value));
        Self { scene, proxy }
    }

    fn start(&self, variables: &[(&str, &str)]) -> Sidecar {
        let proxy = format!("http://{}", self.proxy.address);
        self.scene.start_with(&[&[("HTTP_PROXY", proxy.as_str())], variables].concat())
    }

    /// Host and path of each token request.
    fn asked(&self) -> Vec<String> {
        let sent = requests(&self.scene.tenant);
        let url = |sent: &local_tenant::Record| {
            let host = sent.request.header("host").unwrap().trim_end_matches(":80").to_owned();
            let called = self.proxy.hosts.lock().unwrap();
            assert!(called.contains(&host), "{host} is no host that was called: {called:?}");
            let path = sent.request.path.strip_suffix("/oauth2/v2.0/token").unwrap();
            let query = if sent.request.query.is_empty() { "" } else { "?" };
            format!("{host}{path}{query}{}", sent.request.query)
        };
        sent.iter().map(url).collect()
    }
}

#[test]
fn every_cloud_directory_and_spelling_has_its_token_endpoint() {
    let instance = |host: &'static str| vec![("AzureAd:Instance", host), ("AzureAd:TenantId", TENANT_ID)];
    let public = format!("login.microsoftonline.com/{TENANT_ID}");
    let government = format!("login.microsoftonline.us/{TENANT_ID}");
    let china = format!("login.partner.microsoftonline.cn/{TENANT_ID}");
    let authority = format!("http://login.microsoftonline.com/{TENANT_ID}/v2.0");
    let authority_with_query = format!("{authority}?dc=TEST-SLICE");
    for (settings, expected) in [
        (instance("http://login.microsoftonline.com/"), public.as_str()),
        (instance("http://LOGIN.microsoftonline.com"), &public),
        (instance("http://login.windows.net/"), &public),
        (instance("http://login.microsoft.com/"), &public),
        (instance("http://sts.windows.net/"), &public),
        (instance("http://login.microsoftonline.us/"), &government),
        (instance("http://login.usgovcloudapi.net/"), &government),
        (instance("http://login.partner.microsoftonline.cn/"), &china),
        (instance("http://login.chinacloudapi.cn/"), &china),
        (instance("http://login.sovcloud-identity.fr/"), &format!("login.sovcloud-identity.fr/{TENANT_ID}")),
        (
            vec![("AzureAd:Instance", "http://login.windows.net/"), ("AzureAd:TenantId", TENANT_DOMAIN)],
            &format!("login.microsoftonline.com/{TENANT_DOMAIN}"),
        ),
        (vec![("AzureAd:Authority", &authority)], &public),
        (vec![("AzureAd:Authority", authority.trim_end_matches("/v2.0"))], &public),
        (vec![("AzureAd:Authority", &authority_with_query)], &format!("{public}?dc=TEST-SLICE")),
        (
            vec![
                ("AzureAd:Instance", "http://contoso.b2clogin.com/"),
                ("AzureAd:Domain", TENANT_DOMAIN),
                ("AzureAd:SignUpSignInPolicyId", "B2C_1_susi"),
            ],
            &format!("contoso.b2clogin.com/tfp/{TENANT_DOMAIN}/B2C_1_susi"),
        ),
        (
            vec![("AzureAd:Authority", "http://contoso.b2clogin.com/tfp/contoso.onmicrosoft.com/B2C_1_susi/v2.0")],
            &format!("contoso.b2clogin.com/tfp/{TENANT_DOMAIN}/B2C_1_susi"),
        ),
        (
            vec![("AzureAd:Instance", "http://contoso.ciamlogin.com/")],
            &format!("contoso.ciamlogin.com/{TENANT_DOMAIN}"),
        ),
        (
            vec![("AzureAd:Authority", "http://contoso.ciamlogin.com/")],
            &format!("contoso.ciamlogin.com/{TENANT_DOMAIN}"),
        ),
        (
            vec![("AzureAd:Instance", "http://contoso.ciamlogin.com/"), ("AzureAd:TenantId", TENANT_ID)],
            &format!("contoso.ciamlogin.com/{TENANT_ID}"),
        ),
    ] {
        let world = World::new(&settings);
        world.start(&[]).get(APP).expect(200);
        assert_eq!(world.asked(), [expected], "{settings:?}");
    }
}

#[test]
fn a_user_flow_takes_the_place_of_the_registrations_policy() {
    let flow = ("DownstreamApis:Flow:AcquireTokenOptions:UserFlow", "B2C_1_edit");
    let domain = ("AzureAd:Domain", TENANT_DOMAIN);
    let instance = ("AzureAd:Instance", "http://contoso.b2clogin.com/");
    let authority = "http://contoso.b2clogin.com/tfp/contoso.onmicrosoft.com/B2C_1_susi/v2.0";
    for settings in
        [vec![instance, domain, ("AzureAd:SignUpSignInPolicyId", "B2C_1_susi")], vec![("AzureAd:Authority", authority)]]
    {
        let scopes = ("DownstreamApis:Flow:Scopes", "api://downstream/.default");
        let world = World::new(&[settings, vec![flow, scopes]].concat());
        let sidecar = world.start(&[]);
        let own = sidecar.get(&APP.replace("/App", "/Flow")).token();
        let other = sidecar.get(APP).token();
        let endpoint = |policy: &str| format!("contoso.b2clogin.com/tfp/{TENANT_DOMAIN}/{policy}");
        assert_eq!(world.asked(), [endpoint("B2C_1_edit"), endpoint("B2C_1_susi")]);
        // Two policies, two tokens.
        assert_ne!(own, other);
        assert_eq!(sidecar.get(&APP.replace("/App", "/Flow")).token(), own);
    }
}

#[test]
fn a_customer_directory_has_one_tenant_whatever_is_asked_for() {
    let world = World::new(&[("AzureAd:Instance", "http://contoso.ciamlogin.com/")]);
    let sidecar = world.start(&[]);
    sidecar.get(&format!("{APP}?{}", acquire("Tenant", OTHER_TENANT_DOMAIN))).expect(200);
    assert_eq!(world.asked(), [format!("contoso.ciamlogin.com/{TENANT_DOMAIN}")]);
}

#[test]
fn an_assertion_is_addressed_to_the_region_that_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.pem");
    std::fs::write(&path, CLIENT_1.pem()).unwrap();
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    for (instance, region, variables, expected) in [
        ("http://login.microsoftonline.com/", "westus2", &[][..], "westus2.login.microsoft.com"),
        ("http://login.microsoftonline.us/", "usgovvirginia", &[], "usgovvirginia.login.microsoftonline.us"),
        (
            "http://login.microsoftonline.com/",
            "TryAutoDetect",
            &[("REGION_NAME", "West Europe")],
            "westeurope.login.microsoft.com",
        ),
        (
            "http://login.microsoftonline.com/",
            "TryAutoDetect",
            &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &nowhere)],
            "login.microsoftonline.com",
        ),
    ] {
        let mut world = World::new(&[
            ("AzureAd:Instance", instance),
            ("AzureAd:TenantId", TENANT_ID),
            ("AzureAd:AzureRegion", region),
            ("AzureAd:ClientCredentials:0:SourceType", "Path"),
            ("AzureAd:ClientCredentials:0:CertificateDiskPath", path.to_str().unwrap()),
        ]);
        world.scene.settings.remove("AzureAd:ClientCredentials:0:ClientSecret");
        let sidecar = world.start(variables);
        sidecar.get(APP).expect(200);
        assert_eq!(world.asked(), [format!("{expected}/{TENANT_ID}")], "{instance} {region}");
        let assertion = claims(requests(&world.scene.tenant)[0].field("client_assertion").unwrap());
        assert_eq!(assertion["aud"], format!("http://{expected}/{TENANT_ID}/oauth2/v2.0/token"));
    }
}

/// Here the agent's account's, after two tokens of applications.
#[test]
fn a_users_token_is_asked_of_the_global_endpoint() {
    let world = World::new(&[
        ("AzureAd:Instance", "http://login.microsoftonline.com/"),
        ("AzureAd:TenantId", TENANT_ID),
        ("AzureAd:AzureRegion", "westus2"),
    ]);
    let account = "AgentUsername=agent-user@contoso.onmicrosoft.com";
    let target = format!("/AuthorizationHeaderUnauthenticated/Down?AgentIdentity={AGENT_ID}&{account}");
    world.start(&[]).get(&target).expect(200);
    let (region, global) = ("westus2.login.microsoft.com", "login.microsoftonline.com");
    assert_eq!(world.asked(), [region, region, global].map(|host| format!("{host}/{TENANT_ID}")));
}

#[test]
fn agents_exchange_their_tokens_for_the_audience_of_their_cloud() {
    for (host, audience) in [
        ("login.microsoftonline.com", "api://AzureADTokenExchange"),
        ("login.windows.net", "api://AzureADTokenExchange"),
        ("login.microsoftonline.us", "api://AzureADTokenExchangeUSGov"),
        ("login.usgovcloudapi.net", "api://AzureADTokenExchangeUSGov"),
        ("login.partner.microsoftonline.cn", "api://AzureADTokenExchangeChina"),
        ("login.chinacloudapi.cn", "api://AzureADTokenExchangeChina"),
        ("login.sovcloud-identity.fr", "api://AzureADTokenExchangeFrance"),
        ("login.sovcloud-identity.de", "api://AzureADTokenExchangeGermany"),
    ] {
        let instance = format!("http://{host}/");
        let world = World::new(&[("AzureAd:Instance", &instance), ("AzureAd:TenantId", TENANT_ID)]);
        let account = "AgentUsername=agent-user@contoso.onmicrosoft.com";
        let target = format!("/AuthorizationHeaderUnauthenticated/Down?AgentIdentity={AGENT_ID}&{account}");
        world.start(&[]).get(&target).expect(200);
        let sent = requests(&world.scene.tenant);
        let scopes: Vec<_> = sent.iter().map(|sent| sent.field("scope").unwrap()).collect();
        let exchange = format!("{audience}/.default");
        assert_eq!(scopes, [&exchange, &exchange, "api://downstream/read offline_access openid profile"], "{host}");
    }
}

#[test]
fn several_tenants_need_one_to_be_named_for_application_tokens() {
    let public = ("AzureAd:Instance", "http://login.microsoftonline.com/");
    let world = World::new(&[public, ("AzureAd:TenantId", "organizations"), ("AzureAd:AppHomeTenantId", TENANT_ID)]);
    let sidecar = world.start(&[]);
    sidecar.get(APP).expect(200);
    sidecar.get(&format!("{APP}?{}", acquire("Tenant", OTHER_TENANT_DOMAIN))).expect(200);
    let expected = [TENANT_ID, OTHER_TENANT_DOMAIN].map(|tenant| format!("login.microsoftonline.com/{tenant}"));
    assert_eq!(world.asked(), expected);
}
