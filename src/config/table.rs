//! The one table of settings: name, type, default, whether it is secret, and what it is for. Type checks,
//! defaults, warnings about unknown keys, the output of `check` and `docs/configuration.md` all come from it. The rows
//! of an API, which requests may override, are in [`options`].

use super::keys::{Key, Kind, Split, key};
use super::options;
use super::slot::Slot;

#[rustfmt::skip]
/// Names and numbers of the kinds of credential; which of them are usable is decided where one is read.
const SOURCE_TYPES: &[&str] = &[
    "KeyVault", "Base64Encoded", "Path", "StoreWithThumbprint", "StoreWithDistinguishedName", "ClientSecret",
    "SignedAssertionFromManagedIdentity", "SignedAssertionFilePath", "SignedAssertionFromVault", "StoreWithSubjectName",
    "Certificate", "AutoDecryptKeys", "CustomSignedAssertion", "ManagedCertificate",
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13",
];

/// One hour.
const HOUR: u64 = 3_600_000;
/// From 10 ms to an hour.
const TIMEOUT: Kind = Kind::Duration(10..=HOUR);
/// Up to ten million entries.
const ENTRIES: Kind = Kind::Count(1..=10_000_000);
/// Up to 2 GiB.
const BODY: Kind = Kind::Size(0..=1 << 31);

/// Every row, in the order of the documentation.
pub fn rows() -> impl Iterator<Item = &'static Key> {
    HOST.iter().chain(options::ROWS).chain(OWN)
}

#[rustfmt::skip] // A row is a line.
const HOST: &[Key] = &[
    key("urls", Kind::Text, "Where to listen: `http://host:port` or `unix:/path`. Also `ASPNETCORE_URLS` and `--urls`.").list(Split::Semicolon).or("http://127.0.0.1:5000"),
    key("http_ports", Kind::Count(1..=65_535), "Ports to listen on at every address, where no URLs are given. Also `ASPNETCORE_HTTP_PORTS`.").list(Split::Semicolon),
    key("https_ports", Kind::Unused, "Refused: the sidecar speaks plain HTTP to its own machine.").list(Split::Semicolon),
    key("contentRoot", Kind::Text, "Folder of `appsettings.json`; `ASPNETCORE_CONTENTROOT` or the command line.").or("."),
    key("environment", Kind::Text, "`ASPNETCORE_ENVIRONMENT`, `DOTNET_ENVIRONMENT` or `--environment`; `Development` relaxes who may call.").or("Production"),
    key("shutdownTimeoutSeconds", Kind::Duration(0..=HOUR), "`ASPNETCORE_SHUTDOWNTIMEOUTSECONDS`: older name of `Sidecar:Limits:ShutdownTimeout`."),
    key("forwardedHeaders_Enabled", Kind::Unused, "Never believed; a warning says so."),
    key("AllowedHosts", Kind::Host, "Values of `Host` that are accepted beside loopback names: names, `*.domain`, or `*` for any.").list(Split::Semicolon),
    key("Kestrel:Endpoints:*:Url", Kind::Text, "Where to listen; wins over `URLS`, not over `--urls`."),
    key("Kestrel:Endpoints:*:Protocols", Kind::Unused, "HTTP/1.1 is spoken whatever this says."),

    key("AzureAd:Instance", Kind::Url, "The cloud.").or("https://login.microsoftonline.com/"),
    key("AzureAd:TenantId", Kind::Tenant, "GUID, domain, `common`, `organizations` or `consumers`. Required where no `Authority` says it."),
    key("AzureAd:ClientId", Kind::Text, "The app registration. Required; a GUID, unless `Authority` is no Entra tenant."),
    key("AzureAd:Authority", Kind::Url, "Instead of `Instance` and `TenantId`; needed for CIAM and B2C custom domains."),
    key("AzureAd:Audience", Kind::Text, "Accepted `aud`; without any, `ClientId` and `api://ClientId`."),
    key("AzureAd:Audiences", Kind::Text, "Further accepted `aud` values.").list(Split::Either),
    key("AzureAd:Scopes", Kind::Text, "Scopes of which an inbound token must have one.").list(Split::Space),
    key("AzureAd:AllowWebApiToBeAuthorizedByACL", Kind::Bool, "Whether app tokens without scopes and roles are accepted.").or("true"),
    key("AzureAd:TokenValidationParameters:ValidAudience", Kind::Text, "Another spelling of `Audience`."),
    key("AzureAd:TokenValidationParameters:ValidAudiences", Kind::Text, "Another spelling of `Audiences`.").list(Split::Either),
    key("AzureAd:TokenValidationParameters:ValidIssuer", Kind::Text, "Accepted `iss`; `{tenantid}` stands for the token's tenant."),
    key("AzureAd:TokenValidationParameters:ValidIssuers", Kind::Text, "Further accepted `iss` values.").list(Split::Either),
    key("AzureAd:TokenValidationParameters:ValidateIssuer", Kind::Bool, "`false` accepts tokens of any issuer whose key is in the set.").or("true"),
    key("AzureAd:TokenValidationParameters:ValidateAudience", Kind::Bool, "Cannot be switched off.").or("true"),
    key("AzureAd:TokenValidationParameters:ValidateLifetime", Kind::Bool, "Cannot be switched off.").or("true"),
    key("AzureAd:TokenValidationParameters:RequireSignedTokens", Kind::Bool, "Cannot be switched off.").or("true"),
    key("AzureAd:TokenValidationParameters:ValidateIssuerSigningKey", Kind::Unused, "Always done."),
    key("AzureAd:TokenValidationParameters:RequireExpirationTime", Kind::Bool, "Whether a token without `exp` is refused.").or("true"),
    key("AzureAd:TokenValidationParameters:ClockSkew", Kind::Duration(0..=HOUR), "Tolerance for `exp` and `nbf`.").or("00:05:00"),
    key("AzureAd:TokenValidationParameters:NameClaimType", Kind::Unused, "Nothing here has a name."),
    key("AzureAd:TokenValidationParameters:RoleClaimType", Kind::Text, "The claim that holds an app token's roles.").or("roles"),
    key("AzureAd:MetadataAddress", Kind::Url, "The OpenID document, where it does not follow from the authority."),
    key("AzureAd:RequireHttpsMetadata", Kind::Bool, "Without effect: `Sidecar:AllowInsecureUpstream` decides about `http://`."),
    key("AzureAd:IncludeErrorDetails", Kind::Bool, "Whether a 401 says in `error_description` which check failed.").or("true"),
    key("AzureAd:Challenge", Kind::Token, "The scheme word of `WWW-Authenticate`.").or("Bearer"),
    key("AzureAd:AutomaticRefreshInterval", Kind::Duration(300_000..=7 * 24 * HOUR), "How often signing keys are fetched ahead of need.").or("12:00:00"),
    key("AzureAd:RefreshInterval", Kind::Duration(1_000..=24 * HOUR), "Least time between fetches for unknown keys.").or("00:00:30"),
    key("AzureAd:BackchannelTimeout", TIMEOUT, "For one fetch of metadata or keys.").or("00:01:00"),
    key("AzureAd:ClientSecret", Kind::Text, "Older form of a `ClientSecret` credential; not together with `ClientCredentials`.").secret(),
    key("AzureAd:ClientCredentials:*:SourceType", Kind::Choice(SOURCE_TYPES), "The kind of credential; inferred with a warning where it is missing. The same fields hold for `ClientCertificates`, `TokenDecryptionCredentials` and `TokenDecryptionCertificates`."),
    key("AzureAd:ClientCredentials:*:ClientSecret", Kind::Text, "`ClientSecret`: the secret.").secret(),
    key("AzureAd:ClientCredentials:*:CertificateDiskPath", Kind::Text, "`Path`: a PEM or PFX file."),
    key("AzureAd:ClientCredentials:*:CertificateKeyDiskPath", Kind::Text, "`Path`: the PEM key where it has its own file."),
    key("AzureAd:ClientCredentials:*:CertificatePassword", Kind::Text, "`Path`, `Base64Encoded`: the PFX password.").secret(),
    key("AzureAd:ClientCredentials:*:Base64EncodedValue", Kind::Text, "`Base64Encoded`: a PFX.").secret(),
    key("AzureAd:ClientCredentials:*:KeyVaultUrl", Kind::Url, "`KeyVault`, `SignedAssertionFromVault`: the vault."),
    key("AzureAd:ClientCredentials:*:KeyVaultCertificateName", Kind::Token, "`KeyVault`, `SignedAssertionFromVault`: the certificate's name."),
    key("AzureAd:ClientCredentials:*:CertificateStorePath", Kind::Text, "`StoreWith…`: the .NET store.").or("CurrentUser/My"),
    key("AzureAd:ClientCredentials:*:CertificateThumbprint", Kind::Thumbprint, "`StoreWithThumbprint`: SHA-1, hex."),
    key("AzureAd:ClientCredentials:*:CertificateDistinguishedName", Kind::Text, "`StoreWithDistinguishedName`: e.g. `CN=app`."),
    key("AzureAd:ClientCredentials:*:CertificateSubjectName", Kind::Text, "`StoreWithSubjectName`: a part of the subject."),
    key("AzureAd:ClientCredentials:*:ManagedIdentityClientId", Kind::Guid, "The user-assigned identity, for managed identity and vault; without it the system-assigned one."),
    key("AzureAd:ClientCredentials:*:TokenExchangeUrl", Kind::Text, "`SignedAssertionFromManagedIdentity`: the audience, where it does not follow from the cloud."),
    key("AzureAd:ClientCredentials:*:TokenExchangeAuthority", Kind::Unused, "Follows from the registration."),
    key("AzureAd:ClientCredentials:*:SignedAssertionFileDiskPath", Kind::Text, "`SignedAssertionFilePath`: the file; without it `AZURE_FEDERATED_TOKEN_FILE`."),
    key("AzureAd:ClientCredentials:*:SignedAssertionFilePath", Kind::Text, "Another spelling of `SignedAssertionFileDiskPath`."),
    key("AzureAd:ClientCredentials:*:Skip", Kind::Bool, "Leaves the entry out.").or("false"),
    key("AzureAd:ClientCredentials:*:UseBoundCredential", Kind::Bool, "Tokens bound to mutual TLS are not supported: `true` is refused.").or("false"),
    key("AzureAd:ClientCredentials:*:Algorithm", Kind::Unused, "Read and ignored: assertions are signed with PS256."),
    key("AzureAd:ClientCredentialsUsingManagedIdentity:IsEnabled", Kind::Bool, "Older form of `SignedAssertionFromManagedIdentity`.").or("false"),
    key("AzureAd:ClientCredentialsUsingManagedIdentity:ManagedIdentityClientId", Kind::Guid, "Its user-assigned identity."),
    key("AzureAd:UserAssignedManagedIdentityClientId", Kind::Guid, "The default managed identity of vault credentials."),
    key("AzureAd:SendX5C", Kind::Bool, "Sends the certificate chain in assertions (subject name and issuer authentication).").or("false"),
    key("AzureAd:AzureRegion", Kind::Alphanumeric, "Regional token endpoint for app tokens; `TryAutoDetect` asks the machine."),
    key("AzureAd:ClientCapabilities", Kind::Text, "E.g. `cp1`: this client understands claims challenges.").list(Split::Either),
    key("AzureAd:ExtraQueryParameters:*", Kind::TokenParameter, "Added to the token endpoint's URL; not the fields of the token request (`client_id`, `scope` and the like).").secret(),
    key("AzureAd:AppHomeTenantId", Kind::Tenant, "The tenant of app tokens where `TenantId` names several."),
    key("AzureAd:Domain", Kind::Text, "B2C only."),
    key("AzureAd:SignUpSignInPolicyId", Kind::Token, "B2C only."),
    key("AzureAd:ResetPasswordPolicyId", Kind::Unused, "No effect on tokens."),
    key("AzureAd:EditProfilePolicyId", Kind::Unused, "No effect on tokens."),
    key("AzureAd:LegacyCacheCompatibilityEnabled", Kind::Unused, "Internal to the original."),
    key("AzureAd:EnableCacheSynchronization", Kind::Unused, "Internal to the original."),
    key("AzureAd:UseFastUnboundedCache", Kind::Unused, "Internal to the original."),
    key("AzureAd:PartitionAppTokenCacheByAudience", Kind::Unused, "Internal to the original."),
    key("AzureAd:ClientName", Kind::Unused, "No effect."),
    key("AzureAd:ClientVersion", Kind::Unused, "No effect."),
    key("AzureAd:RedirectUri", Kind::Unused, "No effect."),
    key("AzureAd:CallbackPath", Kind::Unused, "No effect."),
    key("AzureAd:ShowPII", Kind::Unused, "Personal data is never logged."),
    key("AzureAd:EnablePiiLogging", Kind::Unused, "Personal data is never logged."),
    key("AzureAd:LogLevel", Kind::Unused, "`Logging:LogLevel` decides."),
    key("AzureAd:SaveToken", Kind::Unused, "No effect."),
];

#[rustfmt::skip]
const OWN: &[Key] = &[
    key("Sidecar:AllowedCallers", Kind::Network, "Networks (`10.0.0.0/8`, without bits beyond the prefix) whose callers are served beside loopback and the unix socket; `*` = any, the default in Development.").list(Split::Semicolon),
    key("Sidecar:CallerTokenFile", Kind::Text, "`X-Sidecar-Token` must equal this file's content. A file that is missing, empty or unreadable admits nobody; a blank setting stops the start.").sidecar(|sidecar| Slot::File(&mut sidecar.caller_token_file)),
    key("Sidecar:AllowOverrides:GetAuthorizationHeader", Kind::Bool, "Whether `/AuthorizationHeader` takes overrides and agent parameters.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.allow_overrides.authorization_header)),
    key("Sidecar:AllowOverrides:GetAuthorizationHeaderUnauthenticated", Kind::Bool, "The same for `/AuthorizationHeaderUnauthenticated`. Default: true, but false once `AllowedCallers` goes beyond loopback outside Development.").sidecar(|sidecar| Slot::Flag(&mut sidecar.allow_overrides.authorization_header_unauthenticated)),
    key("Sidecar:AllowOverrides:CallDownstreamApi", Kind::Bool, "The same for `/DownstreamApi` and `/Proxy`.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.allow_overrides.downstream_api)),
    key("Sidecar:AllowOverrides:CallDownstreamApiUnauthenticated", Kind::Bool, "The same for `/DownstreamApiUnauthenticated` and `/ProxyUnauthenticated`, with the default of the other unauthenticated endpoint.").sidecar(|sidecar| Slot::Flag(&mut sidecar.allow_overrides.downstream_api_unauthenticated)),
    key("Sidecar:AllowAppTokenWithoutUser", Kind::Bool, "Whether the authenticated acquisition endpoints act as the application where no token comes.").or("false").sidecar(|sidecar| Slot::Flag(&mut sidecar.allow_app_token_without_user)),
    key("Sidecar:AllowInsecureUpstream", Kind::Bool, "Whether `http://` is accepted for Entra, vaults and downstream APIs beyond loopback.").or("false").sidecar(|sidecar| Slot::Flag(&mut sidecar.allow_insecure_upstream)),
    key("Sidecar:AllowOutboundRedirects", Kind::Bool, "Whether downstream redirects are followed; never with the token to another origin, and never to an address that is not public unless it is the API's own.").or("false").sidecar(|sidecar| Slot::Flag(&mut sidecar.allow_outbound_redirects)),
    key("Sidecar:DownstreamHeaderValues", Kind::Choice(&["String", "Array"]), "The form of header values in answers of `/DownstreamApi*`.").or("String").sidecar(|sidecar| Slot::Flag(&mut sidecar.header_values_as_arrays)),
    key("Sidecar:TokenErrorStatus", Kind::Choice(&["Original", "Semantic"]), "What Entra's refusals are answered with: 500 as the original does, or 403 where the user must act, 401 where the user's token is no longer good, 424 where the operator must mend something.").or("Original").sidecar(|sidecar| Slot::Flag(&mut sidecar.semantic_token_errors)),
    key("Sidecar:Proxy", Kind::Bool, "Whether `/Proxy*` answers.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.proxy)),
    key("Sidecar:Metrics", Kind::Bool, "Whether `/metrics` answers.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.metrics)),
    key("Sidecar:TrustedCertificates", Kind::Text, "PEM file or folder instead of the built-in roots. Also `SSL_CERT_FILE`, `SSL_CERT_DIR`. A certificate in it that cannot be read is a warning with file and line.").sidecar(|sidecar| Slot::Files(&mut sidecar.trusted_certificates)).restart(),
    key("Sidecar:AllowedTenants", Kind::Guid, "Tenants that a multi-tenant authority accepts, by their ids, since tokens hold no names; without any, every one.").list(Split::Either).sidecar(|sidecar| Slot::List(&mut sidecar.allowed_tenants)),
    key("Sidecar:SignedHttpRequests:KeyFile", Kind::Text, "PEM key (RSA or P-256) for signed HTTP requests; without it a P-256 key is made at start.").sidecar(|sidecar| Slot::File(&mut sidecar.signed_http_request_key)),
    key("Sidecar:PopValidation:ValidateM", Kind::Bool, "Inbound signed requests: the method.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.pop_validation.method)),
    key("Sidecar:PopValidation:ValidateU", Kind::Bool, "The host.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.pop_validation.host)),
    key("Sidecar:PopValidation:ValidateP", Kind::Bool, "The path.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.pop_validation.path)),
    key("Sidecar:PopValidation:ValidateQ", Kind::Bool, "The query.").or("false").sidecar(|sidecar| Slot::Flag(&mut sidecar.pop_validation.query)),
    key("Sidecar:PopValidation:AcceptUnsignedQueryParameters", Kind::Bool, "Query parameters that `q` does not name.").or("true").sidecar(|sidecar| Slot::Flag(&mut sidecar.pop_validation.accept_unsigned_query)),
    key("Sidecar:PopValidation:ValidatePresentClaims", Kind::Bool, "Checks claims where they are present only.").or("false").sidecar(|sidecar| Slot::Flag(&mut sidecar.pop_validation.present_claims)),
    key("Sidecar:PopValidation:ClaimsToValidateWhenPresent", Kind::Choice(&["m", "u", "p", "q"]), "Which.").list(Split::Either).or("m p").sidecar(|sidecar| Slot::List(&mut sidecar.pop_validation.claims_when_present)),
    key("Sidecar:PopValidation:SignedHttpRequestLifetime", Kind::Duration(1_000..=24 * HOUR), "How far `ts` may be off.").or("00:05:00").sidecar(|sidecar| Slot::Duration(&mut sidecar.pop_validation.lifetime)),
    key("Sidecar:PopValidation:RejectReplays", Kind::Bool, "Accepts each signed request once, also across a reload.").or("false").sidecar(|sidecar| Slot::Flag(&mut sidecar.pop_validation.reject_replays)),
    key("Sidecar:PopValidation:RejectBoundAsBearer", Kind::Bool, "Refuses a token that is bound to a key (`cnf`) where it comes as `Bearer`.").or("false").sidecar(|sidecar| Slot::Flag(&mut sidecar.pop_validation.reject_bound_as_bearer)),

    key("Sidecar:Limits:Workers", Kind::Count(1..=4_096), "Worker threads, which never wait. Default: one per core, at least 2.").limit(|limits| Slot::Number(&mut limits.workers)).restart(),
    key("Sidecar:Limits:UpstreamCalls", Kind::Count(1..=65_536), "Calls to Entra, vaults, managed identity endpoints and APIs at once; one origin may have three quarters of them.").or("768").limit(|limits| Slot::Number(&mut limits.upstream_calls)).restart(),
    key("Sidecar:Limits:QueueTimeout", TIMEOUT, "How long a request may wait for its turns to call upstreams, and for memory for its body.").or("5").limit(|limits| Slot::Duration(&mut limits.queue_timeout)).restart(),
    key("Sidecar:Limits:BodyMemory", Kind::Size(0..=1 << 40), "All bodies held at once, requests and answers together. At least `RequestBodyBytes` and `DownstreamBodyBytes`.").or("64MiB").limit(|limits| Slot::Number(&mut limits.body_memory)).restart(),
    key("Sidecar:Limits:Connections", Kind::Count(1..=1_000_000), "Open connections.").or("4096").limit(|limits| Slot::Number(&mut limits.connections)).restart(),
    key("Sidecar:Limits:RequestHeadBytes", Kind::Size(256..=1 << 20), "A request's head.").or("32KiB").limit(|limits| Slot::Number(&mut limits.request_head_bytes)).restart(),
    key("Sidecar:Limits:RequestHeaders", Kind::Count(1..=1_000), "Header fields of a request.").or("100").limit(|limits| Slot::Number(&mut limits.request_headers)).restart(),
    key("Sidecar:Limits:HeadTimeout", TIMEOUT, "For a whole head.").or("10").limit(|limits| Slot::Duration(&mut limits.head_timeout)).restart(),
    key("Sidecar:Limits:BodyTimeout", TIMEOUT, "Without progress of a body.").or("10").limit(|limits| Slot::Duration(&mut limits.body_timeout)).restart(),
    key("Sidecar:Limits:WriteTimeout", TIMEOUT, "Without progress of an answer.").or("10").limit(|limits| Slot::Duration(&mut limits.write_timeout)).restart(),
    key("Sidecar:Limits:IdleTimeout", TIMEOUT, "Between requests.").or("120").limit(|limits| Slot::Duration(&mut limits.idle_timeout)).restart(),
    key("Sidecar:Limits:RequestBodyBytes", BODY, "A request's body.").or("30MiB").limit(|limits| Slot::Number(&mut limits.request_body_bytes)).restart(),
    key("Sidecar:Limits:TokenBytes", Kind::Size(1..=1 << 20), "An inbound token.").or("64KiB").limit(|limits| Slot::Number(&mut limits.token_bytes)),
    key("Sidecar:Limits:ConnectTimeout", TIMEOUT, "An upstream connection.").or("5").limit(|limits| Slot::Duration(&mut limits.connect_timeout)).restart(),
    key("Sidecar:Limits:TokenRequestTimeout", TIMEOUT, "A token request.").or("15").limit(|limits| Slot::Duration(&mut limits.token_request_timeout)).restart(),
    key("Sidecar:Limits:DownstreamTimeout", TIMEOUT, "A downstream call.").or("100").limit(|limits| Slot::Duration(&mut limits.downstream_timeout)),
    key("Sidecar:Limits:DownstreamBodyBytes", BODY, "A downstream answer's body.").or("30MiB").limit(|limits| Slot::Number(&mut limits.downstream_body_bytes)),
    key("Sidecar:Limits:ProxyFirstByteTimeout", TIMEOUT, "From the last byte of a request that is passed through to the head of the API's answer.").or("600").limit(|limits| Slot::Duration(&mut limits.proxy_first_byte_timeout)),
    key("Sidecar:Limits:ProxyIdleTimeout", TIMEOUT, "Between two pieces of an answer that is passed through.").or("300").limit(|limits| Slot::Duration(&mut limits.proxy_idle_timeout)),
    key("Sidecar:Limits:TokenCacheEntries", ENTRIES, "Cached tokens.").or("10000").limit(|limits| Slot::Number(&mut limits.token_cache_entries)).restart(),
    key("Sidecar:Limits:TokenCacheBytes", Kind::Size(1..=1 << 40), "Bytes of cached tokens and remembered refusals. Long-running sessions may take as many.").or("64MiB").limit(|limits| Slot::Number(&mut limits.token_cache_bytes)).restart(),
    key("Sidecar:Limits:ValidatedTokens", ENTRIES, "Remembered validations.").or("10000").limit(|limits| Slot::Number(&mut limits.validated_tokens)),
    key("Sidecar:Limits:Sessions", ENTRIES, "Long-running sessions. A refresh token of more than 16 KiB is not kept.").or("10000").limit(|limits| Slot::Number(&mut limits.sessions)).restart(),
    key("Sidecar:Limits:ShutdownTimeout", Kind::Duration(0..=HOUR), "For requests in flight at the end.").or("30").limit(|limits| Slot::Duration(&mut limits.shutdown_timeout)).restart(),

    key("Logging:LogLevel:Default", Kind::Level, "What is logged unless a category says otherwise.").or("Information"),
    key("Logging:LogLevel:Access", Kind::Level, "The access log. Default: Warning, in Development Information."),
    key("Logging:LogLevel:*", Kind::Level, "A category, of .NET or of this program: see below."),
    key("Logging:Console:LogLevel:*", Kind::Level, "The same; wins over `Logging:LogLevel`."),
    key("Logging:Console:FormatterName", Kind::Choice(&["simple", "json", "systemd"]), "`json` is another spelling of `Logging:Format=json`."),
    key("Logging:Console:FormatterOptions:*", Kind::Unused, "One line each, time in UTC."),
    key("Logging:Format", Kind::Choice(&["text", "json"]), "One line of text or one JSON object a record.").or("text"),
];
