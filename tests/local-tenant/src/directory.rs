//! What the tenant knows: tenants, app registrations, users, web APIs and who may not do what.

use crate::certificate::{CLIENT_1, CLIENT_2, CLIENT_EXPIRED, Certificate};

/// The tenant of the ready-made registrations.
pub const TENANT_ID: &str = "5e1f0c1a-7c1e-4b57-9d2a-3f6c0a7e1b01";
/// Its domain name.
pub const TENANT_DOMAIN: &str = "contoso.onmicrosoft.com";
/// A second tenant, in which the multi-tenant registrations exist too.
pub const OTHER_TENANT_ID: &str = "8a2d4e6f-1b3c-4d5e-8f70-6172839405a6";
/// The second tenant's domain name.
pub const OTHER_TENANT_DOMAIN: &str = "fabrikam.onmicrosoft.com";
/// The tenant of personal accounts, as in Entra.
pub const CONSUMERS_TENANT_ID: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// The registration that the sidecar runs as; also the blueprint of [`AGENT_ID`].
pub const APP_ID: &str = "b7a1f0de-52c3-4f0c-a6d8-0d9f1e2c3b4a";
/// Its secret: with characters that a form must encode.
pub const APP_SECRET: &str = "s=cret+with/odd & chars~%";
/// A secret of it whose time has passed.
pub const APP_SECRET_EXPIRED: &str = "the-secret-of-last-year";
/// The subject of its trusted federated assertions.
pub const APP_SUBJECT: &str = "system:serviceaccount:default:sidecar";
/// A second registration with a secret of its own.
pub const OTHER_APP_ID: &str = "0f9e8d7c-6b5a-4c3d-9e2f-1a0b9c8d7e6f";
/// The second registration's secret.
pub const OTHER_APP_SECRET: &str = "another-secret";
/// The application that users sign in to and that calls the sidecar.
pub const CALLER_ID: &str = "c0ffee00-1234-4abc-8def-0123456789ab";
/// An agent identity under [`APP_ID`].
pub const AGENT_ID: &str = "a9e27000-aaaa-4bbb-8ccc-000000000001";
/// A second agent identity under [`APP_ID`].
pub const OTHER_AGENT_ID: &str = "a9e27000-aaaa-4bbb-8ccc-000000000002";
/// The object id of the managed identity that the host has of its own.
pub const SYSTEM_IDENTITY_ID: &str = "d1d1d1d1-0000-4000-8000-000000000001";
/// The client id of the user-assigned managed identity.
pub const USER_IDENTITY_CLIENT_ID: &str = "d1d1d1d1-0000-4000-8000-000000000002";
/// The object id of the user-assigned managed identity.
pub const USER_IDENTITY_ID: &str = "d1d1d1d1-0000-4000-8000-000000000003";
/// What assertions are exchanged for in the public cloud.
pub const EXCHANGE: &str = "api://AzureADTokenExchange";
/// Microsoft Graph.
pub const GRAPH: &str = "https://graph.microsoft.com";
/// A web API of one's own.
pub const DOWNSTREAM: &str = "api://downstream";
/// Key Vault.
pub const VAULT: &str = "https://vault.azure.net";
/// Azure OpenAI.
pub const COGNITIVE_SERVICES: &str = "https://cognitiveservices.azure.com";
/// Blob storage.
pub const STORAGE: &str = "https://storage.azure.com";

/// A tenant.
#[derive(Clone, Debug)]
pub struct TenantEntry {
    /// The GUID.
    pub id: String,
    /// The domain name.
    pub domain: String,
}

/// A trusted issuer and subject (a federated identity credential).
#[derive(Clone, Debug)]
pub struct Federated {
    /// The expected `iss`; one that starts with `/` is relative to the tenant's base URL.
    pub issuer: String,
    /// The expected `sub`.
    pub subject: String,
    /// The expected `aud`.
    pub audience: String,
}

/// An app registration, an agent identity or a managed identity.
#[derive(Clone, Debug, Default)]
pub struct App {
    /// The client id.
    pub client_id: String,
    /// The service principal's object id.
    pub object_id: String,
    /// Whether it exists in every tenant.
    pub multi_tenant: bool,
    /// Secrets, and whether each has expired.
    pub secrets: Vec<(String, bool)>,
    /// Trusted certificates.
    pub certificates: Vec<Certificate>,
    /// Whether certificates are trusted by name, so that `x5c` must be sent.
    pub requires_x5c: bool,
    /// Trusted federated assertions.
    pub federated: Vec<Federated>,
    /// App roles that were granted: resource and role.
    pub roles: Vec<(String, String)>,
    /// The blueprint that this agent identity belongs to.
    pub blueprint: Option<String>,
}

impl App {
    /// A registration without credentials.
    pub fn new(client_id: &str) -> Self {
        Self { client_id: client_id.into(), object_id: crate::random::guid(), ..Self::default() }
    }

    /// Adds a secret.
    #[must_use]
    pub fn secret(mut self, secret: &str) -> Self {
        self.secrets.push((secret.into(), false));
        self
    }

    /// Adds a secret that has expired.
    #[must_use]
    pub fn expired_secret(mut self, secret: &str) -> Self {
        self.secrets.push((secret.into(), true));
        self
    }

    /// Trusts a certificate.
    #[must_use]
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificates.push(certificate);
        self
    }

    /// Trusts assertions of this issuer about this subject.
    #[must_use]
    pub fn federated(mut self, issuer: &str, subject: &str) -> Self {
        let (issuer, subject) = (issuer.to_owned(), subject.to_owned());
        self.federated.push(Federated { issuer, subject, audience: EXCHANGE.into() });
        self
    }

    /// Grants an app role of an API.
    #[must_use]
    pub fn role(mut self, resource: &str, role: &str) -> Self {
        self.roles.push((resource.into(), role.into()));
        self
    }

    /// Makes it exist in every tenant.
    #[must_use]
    pub fn multi_tenant(mut self) -> Self {
        self.multi_tenant = true;
        self
    }

    /// Makes it an agent identity of this blueprint.
    #[must_use]
    pub fn agent_of(mut self, blueprint: &str) -> Self {
        self.blueprint = Some(blueprint.into());
        self
    }
}

/// What a sign-in of this user meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing: it succeeds.
    #[default]
    None,
    /// The account is disabled (AADSTS50057).
    Disabled,
    /// Multi-factor authentication is wanted (AADSTS50076, with claims).
    NeedsMfa,
    /// A policy refuses (AADSTS53003, with claims).
    Blocked,
}

/// A user.
#[derive(Clone, Debug)]
pub struct User {
    /// The object id.
    pub oid: String,
    /// The user principal name.
    pub upn: String,
    /// The display name.
    pub name: String,
    /// The home tenant.
    pub tenant: String,
    /// What a sign-in meets.
    pub condition: Condition,
    /// The agent identity that this account belongs to.
    pub agent: Option<String>,
}

impl User {
    /// A user of the first tenant.
    pub fn new(oid: &str, upn: &str) -> Self {
        let name = upn.split('@').next().unwrap_or(upn).to_owned();
        Self {
            oid: oid.into(),
            upn: upn.into(),
            name,
            tenant: TENANT_ID.into(),
            condition: Condition::None,
            agent: None,
        }
    }
}

/// A web API.
#[derive(Clone, Debug)]
pub struct Api {
    /// The application id URI.
    pub resource: String,
    /// The app id, which is the audience of its version 2 tokens.
    pub app_id: String,
    /// Delegated scopes.
    pub scopes: Vec<String>,
    /// Which version its access tokens have.
    pub version: u8,
}

impl Api {
    /// An API with tokens of version 2.
    pub fn new(resource: &str, app_id: &str, scopes: &[&str]) -> Self {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        Self { resource: resource.into(), app_id: app_id.into(), scopes, version: 2 }
    }

    /// The same API with tokens of version 1.
    #[must_use]
    pub fn version_1(mut self) -> Self {
        self.version = 1;
        self
    }

    /// Whether its tokens are exchanged for others: in the public cloud or, with its name behind, in another.
    pub fn is_exchange(&self) -> bool {
        self.resource.starts_with(EXCHANGE)
    }

    /// The `aud` of its tokens.
    pub fn audience(&self) -> &str {
        if self.version == 1 { &self.resource } else { &self.app_id }
    }
}

/// Everything that is registered.
#[derive(Clone, Debug)]
pub struct Directory {
    /// The tenants.
    pub tenants: Vec<TenantEntry>,
    /// The registrations.
    pub apps: Vec<App>,
    /// The users.
    pub users: Vec<User>,
    /// The web APIs.
    pub apis: Vec<Api>,
    /// Consents that are missing: client id, resource and scope; every other consent is given.
    pub missing_consents: Vec<(String, String, String)>,
}

impl Directory {
    /// A tenant by GUID or domain name.
    pub fn tenant(&self, name: &str) -> Option<&TenantEntry> {
        self.tenants.iter().find(|t| t.id.eq_ignore_ascii_case(name) || t.domain.eq_ignore_ascii_case(name))
    }

    /// A registration by its client id.
    pub fn app(&self, client_id: &str) -> Option<&App> {
        self.apps.iter().find(|app| app.client_id.eq_ignore_ascii_case(client_id))
    }

    /// A user by object id or principal name.
    pub fn user(&self, name: &str) -> Option<&User> {
        let bare = |user: &User| user.upn.split('@').next().is_some_and(|bare| bare.eq_ignore_ascii_case(name));
        self.users
            .iter()
            .find(|u| u.oid == name || u.upn.eq_ignore_ascii_case(name))
            .or_else(|| self.users.iter().find(|user| bare(user)))
    }

    /// An API by its URI or app id; one trailing slash more or less makes no difference.
    pub fn api(&self, resource: &str) -> Option<&Api> {
        let resource = resource.strip_suffix('/').unwrap_or(resource);
        self.apis.iter().find(|api| api.resource == resource || api.app_id == resource)
    }

    /// Adds or replaces a registration.
    pub fn register_app(&mut self, app: App) {
        self.apps.retain(|other| other.client_id != app.client_id);
        self.apps.push(app);
    }

    /// Adds or replaces a user.
    pub fn register_user(&mut self, user: User) {
        self.users.retain(|other| other.oid != user.oid);
        self.users.push(user);
    }

    /// Adds or replaces an API.
    pub fn register_api(&mut self, api: Api) {
        self.apis.retain(|other| other.resource != api.resource);
        self.apis.push(api);
    }
}

impl Default for Directory {
    fn default() -> Self {
        let tenant = |id: &str, domain: &str| TenantEntry { id: id.into(), domain: domain.into() };
        let user = |number: u8, upn: &str, condition| User {
            condition,
            ..User::new(&format!("0b1ec700-0000-4000-8000-{number:012}"), upn)
        };
        let app = App::new(APP_ID)
            .multi_tenant()
            .secret(APP_SECRET)
            .expired_secret(APP_SECRET_EXPIRED)
            .certificate(CLIENT_1.certificate())
            .certificate(CLIENT_2.certificate())
            .certificate(CLIENT_EXPIRED.certificate())
            .federated("/federated", APP_SUBJECT)
            .federated(&format!("/{TENANT_ID}/v2.0"), SYSTEM_IDENTITY_ID)
            .federated(&format!("/{TENANT_ID}/v2.0"), USER_IDENTITY_ID)
            .federated(&format!("/{TENANT_ID}/v2.0"), OTHER_APP_ID)
            .role(DOWNSTREAM, "Data.Read.All")
            .role(GRAPH, "User.Read.All");
        let agent = |id: &str| App::new(id).multi_tenant().agent_of(APP_ID).role(GRAPH, "Agent.Read.All");
        let agent_user =
            |number, upn: &str, agent: &str| User { agent: Some(agent.into()), ..user(number, upn, Condition::None) };
        Self {
            tenants: vec![
                tenant(TENANT_ID, TENANT_DOMAIN),
                tenant(OTHER_TENANT_ID, OTHER_TENANT_DOMAIN),
                tenant(CONSUMERS_TENANT_ID, "consumers.invalid"),
            ],
            apps: vec![
                app,
                App::new(OTHER_APP_ID).multi_tenant().secret(OTHER_APP_SECRET).role(DOWNSTREAM, "Data.Write.All"),
                App::new(CALLER_ID).multi_tenant().secret("caller-secret"),
                agent(AGENT_ID),
                agent(OTHER_AGENT_ID),
            ],
            users: vec![
                user(1, "alice@contoso.onmicrosoft.com", Condition::None),
                user(2, "bob@contoso.onmicrosoft.com", Condition::None),
                user(3, "mfa@contoso.onmicrosoft.com", Condition::NeedsMfa),
                user(4, "blocked@contoso.onmicrosoft.com", Condition::Blocked),
                user(5, "disabled@contoso.onmicrosoft.com", Condition::Disabled),
                agent_user(6, "agent-user@contoso.onmicrosoft.com", AGENT_ID),
                agent_user(7, "other-agent-user@contoso.onmicrosoft.com", OTHER_AGENT_ID),
                User { tenant: OTHER_TENANT_ID.into(), ..user(8, "frank@fabrikam.onmicrosoft.com", Condition::None) },
            ],
            apis: vec![
                Api::new(
                    GRAPH,
                    "00000003-0000-0000-c000-000000000000",
                    &["User.Read", "User.ReadBasic.All", "Mail.Read", "Mail.Send", "Calendars.Read"],
                )
                .version_1(),
                Api::new(DOWNSTREAM, "d0d0d0d0-1111-4222-8333-444455556666", &["read", "write", "access_as_user"]),
                Api::new(VAULT, "cfa8b339-82a2-471a-a3c9-0fc0be7a4093", &["user_impersonation"]).version_1(),
                Api::new(COGNITIVE_SERVICES, "7d312290-28c8-473c-a0ed-8e53749b6d6d", &["user_impersonation"])
                    .version_1(),
                Api::new(STORAGE, "e406a681-f3d4-42a8-90b6-c2b029497af1", &["user_impersonation"]).version_1(),
                Api::new("https://management.azure.com", "797f4846-ba00-4fd7-ba43-dac1f8f63013", &[]).version_1(),
                Api::new(&format!("api://{APP_ID}"), APP_ID, &["access_as_user", "read"]),
                Api::new(EXCHANGE, "fb60f99c-7a34-4190-8149-302f77469936", &[]),
                Api::new("api://AzureADTokenExchangeUSGov", "fb60f99c-7a34-4190-8149-302f77469937", &[]),
                Api::new("api://AzureADTokenExchangeChina", "fb60f99c-7a34-4190-8149-302f77469938", &[]),
                Api::new("api://AzureADTokenExchangeFrance", "fb60f99c-7a34-4190-8149-302f77469939", &[]),
                Api::new("api://AzureADTokenExchangeGermany", "fb60f99c-7a34-4190-8149-302f7746993a", &[]),
            ],
            missing_consents: vec![(APP_ID.into(), GRAPH.into(), "Mail.Send".into())],
        }
    }
}
