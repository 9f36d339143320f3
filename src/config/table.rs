//! The table of settings: name, type, default, secrecy and purpose. Type checks, defaults, warnings
//! of unknown keys, the output of `check` and `docs/configuration.md` follow from it. The options
//! of an API, which requests may override, are in [`options`].

use super::options;
use super::row::{Kind, Row, Split, key};
use super::slot::Slot;

/// The kinds of credential that are supported, in the order in which they are offered.
pub const SOURCE_TYPES: &[&str] = &[
    "ClientSecret", "Path", "Base64Encoded", "KeyVault", "StoreWithThumbprint", "StoreWithDistinguishedName",
    "StoreWithSubjectName", "SignedAssertionFromManagedIdentity", "SignedAssertionFilePath",
    "SignedAssertionFromVault",
];

#[rustfmt::skip]
/// All kinds in Microsoft.Identity.Web, each at its number, and these numbers. `credential` refuses
/// those that are not supported.
pub const KNOWN_SOURCE_TYPES: &[&str] = &[
    "Certificate", "KeyVault", "Base64Encoded", "Path", "StoreWithThumbprint", "StoreWithDistinguishedName",
    "ClientSecret", "SignedAssertionFromManagedIdentity", "SignedAssertionFilePath", "SignedAssertionFromVault",
    "AutoDecryptKeys", "CustomSignedAssertion", "ManagedCertificate", "StoreWithSubjectName",
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13",
];

/// In milliseconds.
const HOUR: u64 = 3_600_000;
/// 10 ms to one hour.
const TIMEOUT: Kind = Kind::Duration(10..=HOUR);
const ENTRIES: Kind = Kind::Count(1..=10_000_000);
/// At most 2 GiB.
const BODY: Kind = Kind::Size(0..=1 << 31);

/// All rows, in the order of the documentation.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    HOST.iter().chain(options::ROWS).chain(OWN)
}

#[rustfmt::skip] // A row is a line.
const HOST: &[Row] = &[
    key("urls", Kind::Text, "Addresses to listen on: `http://host:port` or `unix:/path`. Also `ASPNETCORE_URLS` and `--urls`.").list(Split::Semicolon).or("http://127.0.0.1:5000"),
    key("http_ports", Kind::Count(1..=65_535), "Ports to listen on, on every address, if there are no URLs. Also `ASPNETCORE_HTTP_PORTS`.").list(Split::Semicolon),
    key("https_ports", Kind::Unused, "Refused: the sidecar serves plain HTTP to its own machine.").list(Split::Semicolon),
    key("contentRoot", Kind::Text, "Folder of `appsettings.json`. Set by `ASPNETCORE_CONTENTROOT` or the command line.").or("."),
    key("environment", Kind::Text, "Set by `ASPNETCORE_ENVIRONMENT`, `DOTNET_ENVIRONMENT` or `--environment`. `Development` admits every caller.").or("Production"),
    key("shutdownTimeoutSeconds", Kind::Duration(0..=HOUR), "`ASPNETCORE_SHUTDOWNTIMEOUTSECONDS`: an older name of `Sidecar:Limits:ShutdownTimeout`.").limit(|limits| Slot::Duration(&mut limits.shutdown_timeout)).restart().alias_of("Sidecar:Limits:ShutdownTimeout"),
    key("forwardedHeaders_Enabled", Kind::Unused, "No effect, with a warning: forwarded headers are never trusted."),
    key("AllowedHosts", Kind::Host, "Values of `Host` to accept besides loopback names: names, `*.domain`, or `*` for any.").list(Split::Semicolon),
    key("Kestrel:Endpoints:*:Url", Kind::Text, "Addresses to listen on. Beats `URLS`, but not `--urls`."),
    key("Kestrel:Limits:MaxConcurrentConnections", Kind::Count(1..=1_000_000), "Another spelling of `Sidecar:Limits:Connections`.").limit(|limits| Slot::Number(&mut limits.connections)).restart().alias_of("Sidecar:Limits:Connections"),
    key("Kestrel:Limits:MaxRequestHeadersTotalSize", Kind::Size(256..=1 << 20), "Another spelling of `Sidecar:Limits:RequestHeadBytes`.").limit(|limits| Slot::Number(&mut limits.head_bytes)).restart().alias_of("Sidecar:Limits:RequestHeadBytes"),
    key("Kestrel:Limits:MaxRequestHeaderCount", Kind::Count(1..=1_000), "Another spelling of `Sidecar:Limits:RequestHeaders`.").limit(|limits| Slot::Number(&mut limits.headers)).restart().alias_of("Sidecar:Limits:RequestHeaders"),
    key("Kestrel:Limits:RequestHeadersTimeout", TIMEOUT, "Another spelling of `Sidecar:Limits:HeadTimeout`.").limit(|limits| Slot::Duration(&mut limits.head_timeout)).restart().alias_of("Sidecar:Limits:HeadTimeout"),
    key("Kestrel:Limits:KeepAliveTimeout", TIMEOUT, "Another spelling of `Sidecar:Limits:IdleTimeout`.").limit(|limits| Slot::Duration(&mut limits.idle_timeout)).restart().alias_of("Sidecar:Limits:IdleTimeout"),
    key("Kestrel:Limits:MaxRequestBodySize", BODY, "Another spelling of `Sidecar:Limits:RequestBodyBytes`.").limit(|limits| Slot::Number(&mut limits.body_bytes)).restart().alias_of("Sidecar:Limits:RequestBodyBytes"),
    key("Kestrel:Limits:*", Kind::Unused, "No effect: a request line has the limit of the head, and bodies a minimum rate of their own."),
    key("Kestrel:Endpoints:*:Protocols", Kind::Unused, "No effect: only HTTP/1.1 is served."),

    key("AzureAd:Instance", Kind::Url, "The cloud's authority host.").or("https://login.microsoftonline.com/"),
    key("AzureAd:TenantId", Kind::Tenant, "GUID, domain, `common`, `organizations` or `consumers`. Required unless `Authority` contains it."),
    key("AzureAd:ClientId", Kind::Text, "The application (client) id. Required. A GUID, unless `Authority` is not an Entra tenant."),
    key("AzureAd:Authority", Kind::Url, "Replaces `Instance` and `TenantId`. Needed for CIAM and B2C custom domains."),
    key("AzureAd:Audience", Kind::Text, "Accepted `aud`. Default: `ClientId` and `api://ClientId`."),
    key("AzureAd:Audiences", Kind::Text, "Further accepted `aud` values.").list(Split::Either),
    key("AzureAd:Scopes", Kind::Text, "An inbound token must have one of these scopes.").list(Split::Space),
    key("AzureAd:AllowWebApiToBeAuthorizedByACL", Kind::Bool, "Whether app tokens without scopes and roles are accepted.").or("true"),
    key("AzureAd:TokenValidationParameters:ValidAudience", Kind::Text, "Another spelling of `Audience`."),
    key("AzureAd:TokenValidationParameters:ValidAudiences", Kind::Text, "Another spelling of `Audiences`.").list(Split::Either),
    key("AzureAd:TokenValidationParameters:ValidIssuer", Kind::Text, "Accepted `iss`. `{tenantid}` is replaced by the token's tenant."),
    key("AzureAd:TokenValidationParameters:ValidIssuers", Kind::Text, "Further accepted `iss` values.").list(Split::Either),
    key("AzureAd:TokenValidationParameters:ValidateIssuer", Kind::Bool, "`false` accepts tokens of any issuer with a key in the key set.").or("true"),
    key("AzureAd:TokenValidationParameters:ValidateAudience", Kind::Bool, "Cannot be switched off.").or("true"),
    key("AzureAd:TokenValidationParameters:ValidateLifetime", Kind::Bool, "Cannot be switched off.").or("true"),
    key("AzureAd:TokenValidationParameters:RequireSignedTokens", Kind::Bool, "Cannot be switched off.").or("true"),
    key("AzureAd:TokenValidationParameters:ValidateIssuerSigningKey", Kind::Unused, "Always done."),
    key("AzureAd:TokenValidationParameters:RequireExpirationTime", Kind::Bool, "Whether a token without `exp` is refused.").or("true"),
    key("AzureAd:TokenValidationParameters:ClockSkew", Kind::Duration(0..=HOUR), "Tolerance for `exp` and `nbf`.").or("00:05:00"),
    key("AzureAd:TokenValidationParameters:NameClaimType", Kind::Unused, "No effect."),
    key("AzureAd:TokenValidationParameters:RoleClaimType", Kind::Text, "The claim that holds an app token's roles.").or("roles"),
    key("AzureAd:MetadataAddress", Kind::Url, "The OpenID document, if its address does not follow from the authority."),
    key("AzureAd:RequireHttpsMetadata", Kind::Bool, "No effect: `Sidecar:AllowInsecureUpstream` decides about `http://`."),
    key("AzureAd:IncludeErrorDetails", Kind::Bool, "Whether a 401 has an `error_description` with the failed check.").or("true"),
    key("AzureAd:Challenge", Kind::Token, "The scheme in `WWW-Authenticate`.").or("Bearer"),
    key("AzureAd:AutomaticRefreshInterval", Kind::Duration(300_000..=7 * 24 * HOUR), "How often signing keys are fetched ahead of need.").or("12:00:00"),
    key("AzureAd:RefreshInterval", Kind::Duration(1_000..=24 * HOUR), "Minimum time between fetches for unknown keys.").or("00:00:30"),
    key("AzureAd:BackchannelTimeout", TIMEOUT, "Timeout for one fetch of metadata or keys.").or("00:01:00"),
    key("AzureAd:ClientSecret", Kind::Text, "Older form of a `ClientSecret` credential. Not together with `ClientCredentials`.").secret(),
    key("AzureAd:ClientCredentials:*:SourceType", Kind::Choice(SOURCE_TYPES, KNOWN_SOURCE_TYPES), "The kind of credential, by name or by its number in Microsoft.Identity.Web. If missing, inferred with a warning. The same fields exist in `ClientCertificates`, `TokenDecryptionCredentials` and `TokenDecryptionCertificates`."),
    key("AzureAd:ClientCredentials:*:ClientSecret", Kind::Text, "`ClientSecret`: the secret.").secret(),
    key("AzureAd:ClientCredentials:*:CertificateDiskPath", Kind::Text, "`Path`: a PEM or PFX file."),
    key("AzureAd:ClientCredentials:*:CertificateKeyDiskPath", Kind::Text, "`Path`: the PEM key, if it is in a separate file."),
    key("AzureAd:ClientCredentials:*:CertificatePassword", Kind::Text, "`Path`, `Base64Encoded`: the PFX password.").secret(),
    key("AzureAd:ClientCredentials:*:Base64EncodedValue", Kind::Text, "`Base64Encoded`: a PFX.").secret(),
    key("AzureAd:ClientCredentials:*:KeyVaultUrl", Kind::Url, "`KeyVault`, `SignedAssertionFromVault`: the vault."),
    key("AzureAd:ClientCredentials:*:KeyVaultCertificateName", Kind::Token, "`KeyVault`, `SignedAssertionFromVault`: the certificate's name."),
    key("AzureAd:ClientCredentials:*:CertificateStorePath", Kind::Text, "`StoreWith…`: the .NET store.").or("CurrentUser/My"),
    key("AzureAd:ClientCredentials:*:CertificateThumbprint", Kind::Thumbprint, "`StoreWithThumbprint`: SHA-1, hex."),
    key("AzureAd:ClientCredentials:*:CertificateDistinguishedName", Kind::Text, "`StoreWithDistinguishedName`: e.g. `CN=app`."),
    key("AzureAd:ClientCredentials:*:CertificateSubjectName", Kind::Text, "`StoreWithSubjectName`: part of the subject."),
    key("AzureAd:ClientCredentials:*:ManagedIdentityClientId", Kind::Guid, "The user-assigned identity, for managed identity and vault. Default: the system-assigned one."),
    key("AzureAd:ClientCredentials:*:TokenExchangeUrl", Kind::Text, "`SignedAssertionFromManagedIdentity`: the audience, if it is not the cloud's default."),
    key("AzureAd:ClientCredentials:*:TokenExchangeAuthority", Kind::Unused, "No effect: follows from the registration."),
    key("AzureAd:ClientCredentials:*:SignedAssertionFileDiskPath", Kind::Text, "`SignedAssertionFilePath`: the file. Default: `AZURE_FEDERATED_TOKEN_FILE`."),
    key("AzureAd:ClientCredentials:*:SignedAssertionFilePath", Kind::Text, "Another spelling of `SignedAssertionFileDiskPath`."),
    key("AzureAd:ClientCredentials:*:Skip", Kind::Bool, "Skips the entry.").or("false"),
    key("AzureAd:ClientCredentials:*:UseBoundCredential", Kind::Bool, "Tokens bound to mutual TLS are not supported: `true` is refused.").or("false"),
    key("AzureAd:ClientCredentials:*:Algorithm", Kind::Unused, "No effect: assertions are signed with PS256."),
    key("AzureAd:ClientCredentialsUsingManagedIdentity:IsEnabled", Kind::Bool, "Older form of `SignedAssertionFromManagedIdentity`.").or("false"),
    key("AzureAd:ClientCredentialsUsingManagedIdentity:ManagedIdentityClientId", Kind::Guid, "Its user-assigned identity."),
    key("AzureAd:UserAssignedManagedIdentityClientId", Kind::Guid, "The default managed identity of vault credentials."),
    key("AzureAd:SendX5C", Kind::Bool, "Sends the certificate chain in assertions (subject name and issuer authentication).").or("false"),
    key("AzureAd:AzureRegion", Kind::Alphanumeric, "Region of the token endpoint for app tokens. `TryAutoDetect` detects it."),
    key("AzureAd:ClientCapabilities", Kind::Text, "E.g. `cp1`: the client can handle claims challenges.").list(Split::Either),
    key("AzureAd:ExtraQueryParameters:*", Kind::TokenParameter, "Added to the token endpoint's URL. Must not be fields of the token request (`client_id`, `scope` and the like).").secret(),
    key("AzureAd:AppHomeTenantId", Kind::Tenant, "The tenant for app tokens, if `TenantId` stands for several."),
    key("AzureAd:Domain", Kind::Text, "B2C only."),
    key("AzureAd:SignUpSignInPolicyId", Kind::Token, "B2C only."),
    key("AzureAd:ResetPasswordPolicyId", Kind::Unused, "No effect on tokens."),
    key("AzureAd:EditProfilePolicyId", Kind::Unused, "No effect on tokens."),
    key("AzureAd:LegacyCacheCompatibilityEnabled", Kind::Unused, "No effect."),
    key("AzureAd:EnableCacheSynchronization", Kind::Unused, "No effect."),
    key("AzureAd:UseFastUnboundedCache", Kind::Unused, "No effect."),
    key("AzureAd:PartitionAppTokenCacheByAudience", Kind::Unused, "No effect."),
    key("AzureAd:ClientName", Kind::Unused, "No effect."),
    key("AzureAd:ClientVersion", Kind::Unused, "No effect."),
    key("AzureAd:RedirectUri", Kind::Unused, "No effect."),
    key("AzureAd:CallbackPath", Kind::Unused, "No effect."),
    key("AzureAd:ShowPII", Kind::Unused, "Personal data is never logged."),
    key("AzureAd:EnablePiiLogging", Kind::Unused, "Personal data is never logged."),
    key("AzureAd:LogLevel", Kind::Unused, "No effect: `Logging:LogLevel` decides."),
    key("AzureAd:SaveToken", Kind::Unused, "No effect."),
];

#[rustfmt::skip]
const OWN: &[Row] = &[
    key("Sidecar:AllowedCallers", Kind::Network, "Networks (`10.0.0.0/8`, without bits beyond the prefix) whose callers are admitted besides loopback and the unix socket. `*` means any, and is the default in Development.").list(Split::Semicolon),
    key("Sidecar:CallerTokenFile", Kind::Text, "`X-Sidecar-Token` must equal this file's content. If the file is missing, empty or unreadable, no caller is admitted. A blank setting prevents the start.").sidecar(|sidecar| Slot::File(&mut sidecar.caller_token_file)),
    key("Sidecar:AllowOverrides:GetAuthorizationHeader", Kind::Bool, "Whether `/AuthorizationHeader` accepts overrides and agent parameters.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.allow_overrides.authorization_header)),
    key("Sidecar:AllowOverrides:GetAuthorizationHeaderUnauthenticated", Kind::Bool, "The same for `/AuthorizationHeaderUnauthenticated`. Default: true, but false if `AllowedCallers` goes beyond loopback outside Development.").sidecar(|sidecar| Slot::Flag(&mut sidecar.allow_overrides.authorization_header_unauthenticated)),
    key("Sidecar:AllowOverrides:CallDownstreamApi", Kind::Bool, "The same for `/DownstreamApi` and `/Proxy`.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.allow_overrides.downstream_api)),
    key("Sidecar:AllowOverrides:CallDownstreamApiUnauthenticated", Kind::Bool, "The same for `/DownstreamApiUnauthenticated` and `/ProxyUnauthenticated`, with the default of the other unauthenticated endpoint.").sidecar(|sidecar| Slot::Flag(&mut sidecar.allow_overrides.downstream_api_unauthenticated)),
    key("Sidecar:AllowAppTokenWithoutUser", Kind::Bool, "Whether the authenticated acquisition endpoints act as the application if no token is sent.").or("false").sidecar(|sidecar| Slot::Flag(&mut sidecar.allow_app_token_without_user)),
    key("Sidecar:AllowInsecureUpstream", Kind::Bool, "Whether `http://` is accepted for Entra, vaults and downstream APIs beyond loopback.").or("false").sidecar(|sidecar| Slot::Flag(&mut sidecar.allow_insecure_upstream)),
    key("Sidecar:AllowOutboundRedirects", Kind::Bool, "Whether downstream redirects are followed. The token is never sent to another origin, and only public addresses and the API's own are called.").or("false").sidecar(|sidecar| Slot::Flag(&mut sidecar.allow_outbound_redirects)),
    key("Sidecar:DownstreamHeaderValues", Kind::Choice(&["String", "Array"], &[]), "The form of header values in answers of `/DownstreamApi*`.").or("String").sidecar(|sidecar| Slot::Flag(&mut sidecar.header_values_as_arrays)),
    key("Sidecar:TokenErrorStatus", Kind::Choice(&["Original", "Semantic"], &[]), "Status of errors from Entra. `Original`: 500. `Semantic`: 403 if the user must act, 401 if the user's token is no longer valid, 424 if the operator must fix something.").or("Original").sidecar(|sidecar| Slot::Flag(&mut sidecar.semantic_token_errors)),
    key("Sidecar:Proxy", Kind::Bool, "Whether `/Proxy*` answers.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.proxy)),
    key("Sidecar:Metrics", Kind::Bool, "Whether `/metrics` answers.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.metrics)),
    key("Sidecar:OAuth:Enabled", Kind::Bool, "Whether `/oauth2/token` and `/oauth2/introspect` answer.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.oauth)),
    key("Sidecar:TrustedCertificates", Kind::Text, "PEM file or folder that replaces the built-in roots. Also `SSL_CERT_FILE`, `SSL_CERT_DIR`. An unreadable certificate in it causes a warning with file and line.").sidecar(|sidecar| Slot::Files(&mut sidecar.trusted_certificates)).restart(),
    key("Sidecar:AllowedTenants", Kind::Guid, "Ids of the tenants that a multi-tenant authority accepts (tokens contain no names). Default: all.").list(Split::Either).sidecar(|sidecar| Slot::List(&mut sidecar.allowed_tenants)),
    key("Sidecar:SignedHttpRequests:KeyFile", Kind::Text, "PEM key (RSA or P-256) for signed HTTP requests. Default: a P-256 key generated at startup.").sidecar(|sidecar| Slot::File(&mut sidecar.signed_http_request_key)),
    key("Sidecar:ForwardAuth:Enabled", Kind::Bool, "Whether `/ForwardAuth` answers.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.forward_auth.enabled)),
    key("Sidecar:ForwardAuth:Headers:*", Kind::ClaimHeader, "The claim that a header of `/ForwardAuth`'s answer holds, by the header's name: beside the default headers, or in the place of one.").sidecar(|sidecar| Slot::Headers(&mut sidecar.forward_auth.headers)),
    key("Sidecar:ForwardAuth:Claims", Kind::Bool, "Whether `/ForwardAuth` answers with `X-Auth-Claims`, the token's payload in base64url.").or("false").sidecar(|sidecar| Slot::Flag(&mut sidecar.forward_auth.claims)),
    key("Sidecar:IdentityEndpoint:Enabled", Kind::Bool, "Whether `/identity/token` answers.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.identity_endpoint.enabled)),
    key("Sidecar:IdentityEndpoint:Resources", Kind::Resource, "Resources that `/identity/token` gives tokens for beside those of the configured APIs' scopes: absolute URIs or GUIDs; `*` = any.").list(Split::Either).sidecar(|sidecar| Slot::List(&mut sidecar.identity_endpoint.resources)),
    key("Sidecar:IdentityEndpoint:Api", Kind::Text, "The API whose registration, tenant and options `/identity/token` uses. Default: of the APIs of the resource the first by name, else `AzureAd`.").sidecar(|sidecar| Slot::Text(&mut sidecar.identity_endpoint.api)),
    key("Sidecar:SharedCache:Url", Kind::Store, "Redis or Valkey, where replicas share tokens and long-running sessions: `redis://`, `rediss://` (TLS) with `user:password@host:port/database`, or `unix:/path?user=…&pass=…&db=…`. Only in a build with the feature `shared-cache`; any other refuses the settings of this section. Plain `redis://` beyond loopback causes a warning.").secret().sidecar(|sidecar| Slot::Store(&mut sidecar.shared_cache.url)).restart(),
    key("Sidecar:SharedCache:KeyFile", Kind::Text, "The key that seals what is shared: 32 random bytes in base64 (`openssl rand -base64 32`), the same for all replicas. A second line is the previous key, which is still read. Read again when it changes. Required with `Url`.").sidecar(|sidecar| Slot::File(&mut sidecar.shared_cache.key_file)).restart(),
    key("Sidecar:SharedCache:Prefix", Kind::Plain, "Begins all names in the store.").or("entra-sidecar:").sidecar(|sidecar| Slot::Text(&mut sidecar.shared_cache.prefix)).restart(),
    key("Sidecar:SharedCache:Timeout", TIMEOUT, "Time for all commands of one request together.").or("0.1").sidecar(|sidecar| Slot::Duration(&mut sidecar.shared_cache.timeout)).restart(),
    key("Sidecar:SharedCache:SessionLifetime", Kind::Duration(1_000..=365 * 24 * HOUR), "How long a shared session is kept after its last use.").or("7.00:00:00").sidecar(|sidecar| Slot::Duration(&mut sidecar.shared_cache.session_lifetime)).restart(),
    key("Sidecar:PopValidation:ValidateM", Kind::Bool, "Whether the method of an inbound signed request must match `m`.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.pop_validation.method)),
    key("Sidecar:PopValidation:ValidateU", Kind::Bool, "The same for the host, `u`.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.pop_validation.host)),
    key("Sidecar:PopValidation:ValidateP", Kind::Bool, "The same for the path, `p`.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.pop_validation.path)),
    key("Sidecar:PopValidation:ValidateQ", Kind::Bool, "The same for the query, `q`.").or("false").sidecar(|sidecar| Slot::Flag(&mut sidecar.pop_validation.query)),
    key("Sidecar:PopValidation:AcceptUnsignedQueryParameters", Kind::Bool, "Whether query parameters that `q` does not name are accepted.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.pop_validation.accept_unsigned_query)),
    key("Sidecar:PopValidation:ValidatePresentClaims", Kind::Bool, "Whether claims are checked only if they are present.").or("false").sidecar(|sidecar| Slot::Flag(&mut sidecar.pop_validation.present_claims)),
    key("Sidecar:PopValidation:ClaimsToValidateWhenPresent", Kind::Choice(&["m", "u", "p", "q"], &[]), "The claims for `ValidatePresentClaims`.").list(Split::Either).or("m p").sidecar(|sidecar| Slot::List(&mut sidecar.pop_validation.claims_when_present)),
    key("Sidecar:PopValidation:SignedHttpRequestLifetime", Kind::Duration(1_000..=24 * HOUR), "Tolerance for `ts`.").or("00:05:00").sidecar(|sidecar| Slot::Duration(&mut sidecar.pop_validation.lifetime)),
    key("Sidecar:PopValidation:RejectReplays", Kind::Bool, "Whether each signed request is accepted only once, also across a reload.").or("false").sidecar(|sidecar| Slot::Flag(&mut sidecar.pop_validation.reject_replays)),
    key("Sidecar:PopValidation:RejectBoundAsBearer", Kind::Bool, "Whether a token bound to a key (`cnf`) is refused if it is sent as `Bearer`.").or("false").sidecar(|sidecar| Slot::Flag(&mut sidecar.pop_validation.reject_bound_as_bearer)),

    key("Sidecar:Limits:Workers", Kind::Count(1..=4_096), "Worker threads, which never block. Default: one per core, at least 2.").limit(|limits| Slot::Number(&mut limits.workers)).restart(),
    key("Sidecar:Limits:UpstreamCalls", Kind::Count(1..=65_536), "Concurrent calls to Entra, vaults, managed identity endpoints and APIs. One origin may use three quarters of them.").or("768").limit(|limits| Slot::Number(&mut limits.upstream_calls)).restart(),
    key("Sidecar:Limits:QueueTimeout", TIMEOUT, "How long a request may wait for turns to call upstreams and for memory for its body, in total.").or("5").limit(|limits| Slot::Duration(&mut limits.queue_timeout)).restart(),
    key("Sidecar:Limits:BodyMemory", Kind::Size(0..=1 << 40), "Memory for all bodies of requests and answers. At least `RequestBodyBytes` and `DownstreamBodyBytes`.").or("64MiB").limit(|limits| Slot::Number(&mut limits.body_memory)).restart(),
    key("Sidecar:Limits:Connections", Kind::Count(1..=1_000_000), "Open connections.").or("4096").limit(|limits| Slot::Number(&mut limits.connections)).restart(),
    key("Sidecar:Limits:RequestHeadBytes", Kind::Size(256..=1 << 20), "Size of a request head.").or("32KiB").limit(|limits| Slot::Number(&mut limits.head_bytes)).restart(),
    key("Sidecar:Limits:RequestHeaders", Kind::Count(1..=1_000), "Number of header fields of a request.").or("100").limit(|limits| Slot::Number(&mut limits.headers)).restart(),
    key("Sidecar:Limits:HeadTimeout", TIMEOUT, "Time for a complete request head.").or("10").limit(|limits| Slot::Duration(&mut limits.head_timeout)).restart(),
    key("Sidecar:Limits:BodyTimeout", TIMEOUT, "Time without progress of a request body.").or("10").limit(|limits| Slot::Duration(&mut limits.body_timeout)).restart(),
    key("Sidecar:Limits:WriteTimeout", TIMEOUT, "Time without progress of an answer.").or("10").limit(|limits| Slot::Duration(&mut limits.write_timeout)).restart(),
    key("Sidecar:Limits:IdleTimeout", TIMEOUT, "Time between requests.").or("120").limit(|limits| Slot::Duration(&mut limits.idle_timeout)).restart(),
    key("Sidecar:Limits:RequestBodyBytes", BODY, "Size of a request body.").or("30MiB").limit(|limits| Slot::Number(&mut limits.body_bytes)).restart(),
    key("Sidecar:Limits:TokenBytes", Kind::Size(1..=1 << 20), "Size of an inbound token.").or("64KiB").limit(|limits| Slot::Number(&mut limits.token_bytes)),
    key("Sidecar:Limits:ConnectTimeout", TIMEOUT, "Time to connect to an upstream.").or("5").limit(|limits| Slot::Duration(&mut limits.connect_timeout)).restart(),
    key("Sidecar:Limits:TokenRequestTimeout", TIMEOUT, "Time for a token request.").or("15").limit(|limits| Slot::Duration(&mut limits.token_request_timeout)).restart(),
    key("Sidecar:Limits:DownstreamTimeout", TIMEOUT, "Time for a downstream call.").or("100").limit(|limits| Slot::Duration(&mut limits.downstream_timeout)),
    key("Sidecar:Limits:DownstreamBodyBytes", BODY, "Size of the body of an API's answer.").or("30MiB").limit(|limits| Slot::Number(&mut limits.downstream_body_bytes)),
    key("Sidecar:Limits:ProxyFirstByteTimeout", TIMEOUT, "From the last byte of a request that is passed through to the head of the API's answer.").or("600").limit(|limits| Slot::Duration(&mut limits.proxy_first_byte_timeout)),
    key("Sidecar:Limits:ProxyIdleTimeout", TIMEOUT, "Between two pieces of an answer that is passed through.").or("300").limit(|limits| Slot::Duration(&mut limits.proxy_idle_timeout)),
    key("Sidecar:Limits:TokenCacheEntries", ENTRIES, "Cached tokens.").or("10000").limit(|limits| Slot::Number(&mut limits.token_cache_entries)).restart(),
    key("Sidecar:Limits:TokenCacheBytes", Kind::Size(1..=1 << 40), "Bytes of cached tokens and errors. Long-running sessions may use as many.").or("64MiB").limit(|limits| Slot::Number(&mut limits.token_cache_bytes)).restart(),
    key("Sidecar:Limits:ValidatedTokens", ENTRIES, "Cached validations.").or("10000").limit(|limits| Slot::Number(&mut limits.validated_tokens)),
    key("Sidecar:Limits:Sessions", ENTRIES, "Long-running sessions. Refresh tokens of more than 16 KiB are not kept.").or("10000").limit(|limits| Slot::Number(&mut limits.sessions)).restart(),
    key("Sidecar:Limits:ShutdownTimeout", Kind::Duration(0..=HOUR), "Time for requests in flight at shutdown.").or("30").limit(|limits| Slot::Duration(&mut limits.shutdown_timeout)).restart(),

    key("Logging:LogLevel:Default", Kind::Level, "The level of everything without a category of its own.").or("Information"),
    key("Logging:LogLevel:Access", Kind::Level, "The access log. Default: Warning, or Information in Development."),
    key("Logging:LogLevel:*", Kind::Level, "A category of .NET or of this program: see [log categories](#log-categories)."),
    key("Logging:Console:LogLevel:*", Kind::Level, "The same. Beats `Logging:LogLevel`."),
    key("Logging:Console:FormatterName", Kind::Choice(&["simple", "json", "systemd"], &[]), "`json` is another spelling of `Logging:Format=json`."),
    key("Logging:Console:FormatterOptions:*", Kind::Unused, "No effect: one line per record, times in UTC."),
    key("Logging:Format", Kind::Choice(&["text", "json"], &[]), "One line of text or one JSON object per record.").or("text"),
];
