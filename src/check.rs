//! The `check` command: finds mistakes before the first request does. Each finding is a line that
//! begins with its key. Good ones go to standard output, others to standard error.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use crate::app;
use crate::clock::{Clock, SystemClock};
use crate::config::{Api, Config, Registration};
use crate::credentials::{Client, Credentials, Inspection};
use crate::jwks::{self, Issuer, Keys};
use crate::options::{Effective, Flow, Inbound, OptionsError, Overrides, Target};
use crate::outbound::Exchange;
use crate::routes::admit::CallerToken;
use crate::shr::RequestSigner;
use crate::token::{Acquirer, TokenRequest};
use crate::value::bound_key::BoundKey;
use crate::value::guid;

/// Tries every credential that needs no network. With `online`, also fetches the metadata and
/// acquires a token for each API that can have one without a user.
pub fn check(config: &Config, online: bool) -> ExitCode {
    let mut findings = Findings { good: true };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    for registration in registrations(config) {
        credentials(registration, clock.unix(), &mut findings);
    }
    let signer = match &config.sidecar.signed_http_request_key {
        Some(path) => RequestSigner::from_file(path),
        None => RequestSigner::generate(),
    };
    if let Err(error) = &signer {
        findings.bad(error);
    }
    if let Some(path) = &config.sidecar.caller_token_file
        && let Err(error) = CallerToken::new(path.clone()).current()
    {
        findings.bad(&format!("Sidecar:CallerTokenFile: {error}"));
    }
    #[cfg(feature = "shared-cache")]
    shared_cache(config, online, &mut findings);
    for api in &config.apis {
        good(&line(config, api));
        if let Err(refused) = without_overrides(api, config.registration(api), config.sidecar.allow_overrides.any()) {
            let every = format!("DownstreamApis:{}: every request without overrides is refused: {refused}", api.name);
            if config.sidecar.allow_overrides.any() {
                odd(&every);
            } else {
                findings.bad(&every);
            }
        }
    }
    match app::exchange(config, &app::metrics(), &mut |warning| odd(&warning)) {
        Err(problem) => findings.bad(&problem),
        Ok((exchange, _)) if online => {
            let signer = signer.ok();
            let acquisition = Acquisition {
                config,
                // What others know would prove nothing.
                acquirer: app::acquirer(config, &exchange, &clock, None),
                own_key: signer.as_ref().map(RequestSigner::bound_key),
            };
            self::online(&acquisition, &exchange, &clock, &mut findings);
        }
        Ok(_) => {}
    }
    if findings.good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Findings {
    good: bool,
}

impl Findings {
    fn bad(&mut self, line: &str) {
        let _ = writeln!(std::io::stderr(), "entra-sidecar: {line}");
        self.good = false;
    }

    /// Reports the result of a check of this key; true if it passed.
    fn report(&mut self, key: &str, verdict: Result<impl Display, impl Display>) -> bool {
        let passed = verdict.is_ok();
        match verdict {
            Ok(verdict) => good(&format!("{key}: {verdict}")),
            Err(problem) => self.bad(&format!("{key}: {problem}")),
        }
        passed
    }
}

// If these cannot be written, the verdict stays the same.
fn good(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn odd(line: &str) {
    let _ = writeln!(std::io::stderr(), "entra-sidecar: warning: {line}");
}

fn registrations(config: &Config) -> impl Iterator<Item = &Arc<Registration>> {
    std::iter::once(&config.azure_ad).chain(config.registrations.values())
}

fn credentials(registration: &Registration, now: u64, findings: &mut Findings) {
    let lists = [
        ("ClientCredentials", &registration.credentials),
        ("TokenDecryptionCredentials", &registration.decryption_credentials),
    ];
    for (list, descriptions) in lists {
        for Inspection { index, source_type, needs_network, result, .. } in Credentials::new(descriptions).inspect(now)
        {
            let key = format!("{}:{list}:{index} ({source_type})", registration.section);
            findings
                .report(&key, result.map(|()| if needs_network { "not tried, needs the network" } else { "usable" }));
        }
    }
}

/// The key file, and with `online` the store.
#[cfg(feature = "shared-cache")]
fn shared_cache(config: &Config, online: bool, findings: &mut Findings) {
    let settings = &config.sidecar.shared_cache;
    let (Some(key_file), Some(_)) = (&settings.key_file, &settings.url) else { return };
    if !findings.report("Sidecar:SharedCache:KeyFile", crate::shared_cache::judge(key_file)) || !online {
        return;
    }
    // The certificates are judged for all upstreams.
    match app::shared_store(config, &mut |_| ()) {
        Ok(Some(store)) => {
            findings.report("Sidecar:SharedCache:Url", store.probe());
        }
        Ok(None) => {}
        Err(problem) => findings.bad(&problem),
    }
}

/// What a request that says nothing of its own gets: whose token, from which registration, for which scopes.
fn line(config: &Config, api: &Api) -> String {
    let (none, options) = (Overrides::default(), &api.options);
    let flow = match Effective::merge(api, &none).as_ref().map(flow) {
        Ok(Flow::ManagedIdentity(Some(id))) => format!("managed identity {id}"),
        Ok(Flow::ManagedIdentity(None)) => "managed identity of this machine".to_owned(),
        Ok(Flow::ClientCredentials) => "client credentials".to_owned(),
        Ok(Flow::Session(_)) => "long-running session".to_owned(),
        // Without scopes there is no flow yet.
        _ if options.request_app_token == Some(true) => "client credentials".to_owned(),
        _ => "on-behalf-of (client credentials on unauthenticated endpoints)".to_owned(),
    };
    let bound = if options.is_bound() { ", bound to a key (PoP)" } else { "" };
    let scopes = if options.scopes.is_empty() { "none".to_owned() } else { options.scopes.join(" ") };
    let section = &config.registration(api).section;
    format!("DownstreamApis:{}: {flow}{bound}; registration {section}; scopes {scopes}", api.name)
}

/// Checks whether a request without overrides can be served, as far as the options show.
fn without_overrides(api: &Api, registration: &Registration, overridable: bool) -> Result<(), OptionsError> {
    let none = Overrides::default();
    match Effective::merge(api, &none) {
        // Callers may have to name the scopes.
        Err(OptionsError::NoScopes(_)) if overridable => Ok(()),
        effective => {
            let effective = effective?;
            flow(&effective).scopes(&effective, registration)?;
            if effective.options.signs_requests() { Target::new(&effective).map(drop) } else { Ok(()) }
        }
    }
}

/// The endpoint decides whose token is used. A user is assumed here unless the configuration asks
/// for an app token.
fn flow<'a>(effective: &Effective<'a>) -> Flow<'a, ()> {
    let inbound = if effective.options.request_app_token { Inbound::None } else { Inbound::User(()) };
    Flow::select(effective, true, inbound)
}

struct Acquisition<'a> {
    config: &'a Config,
    acquirer: Arc<Acquirer>,
    /// The key that tokens are bound to if the API requires bound tokens and names no key.
    own_key: Option<&'a BoundKey>,
}

fn online(
    acquisition: &Acquisition<'_>,
    exchange: &Arc<dyn Exchange>,
    clock: &Arc<dyn Clock>,
    findings: &mut Findings,
) {
    let config = acquisition.config;
    match jwks::KeySettings::of(config).map(|settings| Keys::probe(&settings, &**exchange)) {
        Some(Ok(set)) => {
            let issuers: Vec<&str> = set.issuers().iter().map(Issuer::as_str).collect();
            good(&format!("AzureAd: {} signing keys, issuer {}", set.len(), issuers.join(" or ")));
        }
        Some(Err(error)) => findings.bad(&format!("AzureAd:Instance: {error}")),
        None => findings.bad("AzureAd:TenantId: expected a tenant, or an AzureAd:Authority"),
    }
    for api in &config.apis {
        let key = format!("DownstreamApis:{}", api.name);
        let verdict = match token(acquisition, api) {
            None => Ok("needs a user's token, so none was requested".to_owned()),
            Some(outcome) => outcome.map(|expires_at| {
                format!("acquired a token, expires in {} s", expires_at.saturating_sub(clock.unix()))
            }),
        };
        findings.report(&key, verdict);
    }
}

/// When the token expires, in Unix seconds. `None`: the API needs a user's token.
fn token(acquisition: &Acquisition<'_>, api: &Api) -> Option<Result<u64, String>> {
    let none = Overrides::default();
    match Effective::merge(api, &none) {
        Ok(effective) if flow(&effective).is_app_token() => Some(app_token(acquisition, api, &effective)),
        Ok(_) => None,
        Err(invalid) => Some(Err(invalid.to_string())),
    }
}

fn app_token(acquisition: &Acquisition<'_>, api: &Api, effective: &Effective<'_>) -> Result<u64, String> {
    let subject = Flow::select(effective, true, Inbound::None).with_session(|_| Err("a session is a user's"))?;
    let registration = acquisition.config.registration(api);
    let scopes = subject.scopes(effective, registration).map_err(|invalid| invalid.to_string())?;
    let credentials = Credentials::new(&registration.credentials);
    let client = Arc::new(Client { registration: Arc::clone(registration), credentials });
    let correlation_id = guid::random();
    let options = &effective.options;
    let wanted = TokenRequest::new(&client, subject, &scopes, correlation_id.as_str(), acquisition.own_key, options);
    let token = acquisition.acquirer.acquire_in_place(&wanted);
    token.map(|token| token.expires_at).map_err(|error| error.to_string())
}
