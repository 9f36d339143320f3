//! `check`: what can be found wrong before anybody calls. Every finding is a line that begins with its key;
//! what is good goes to standard output, what is not to standard error.

use std::process::ExitCode;
use std::sync::Arc;

use crate::app;
use crate::clock::{Clock, SystemClock};
use crate::config::{Api, Config, Registration};
use crate::credentials::{Client, Credentials};
use crate::jwks::{self, Issuer, Keys};
use crate::options::{Effective, Flow, Inbound, Invalid, Overrides};
use crate::outbound::Exchange;
use crate::routes::admit::CallerToken;
use crate::shr::RequestSigner;
use crate::token::{Acquirer, Wanted};
use crate::value::bound_key::BoundKey;
use crate::value::guid;

/// Tries every credential that needs no network, and with `online` the metadata and a token for each API
/// that can have one without a user.
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
        findings.bad(&error.to_string());
    }
    if let Some(path) = &config.sidecar.caller_token_file
        && let Err(error) = CallerToken::new(path.clone()).current()
    {
        findings.bad(&format!("Sidecar:CallerTokenFile: {error}"));
    }
    for api in &config.apis {
        if let Err(refused) = without_overrides(api) {
            findings.odd(&format!("DownstreamApis:{}: every request without overrides is 400: {refused}", api.name));
        }
    }
    match app::exchange(config, &app::metrics(), &mut |warning| findings.odd(&warning)) {
        Err(problem) => findings.bad(&problem),
        Ok((exchange, _)) if online => {
            let signer = signer.ok();
            let bench = Bench {
                config,
                acquirer: app::acquirer(config, &exchange, &clock),
                own_key: signer.as_ref().map(RequestSigner::bound_key),
            };
            self::online(&bench, &exchange, &clock, &mut findings);
        }
        Ok(_) => {}
    }
    if findings.good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Findings {
    good: bool,
}

impl Findings {
    #[expect(clippy::unused_self, reason = "reads as the other one does")]
    fn good(&self, line: &str) {
        println!("{line}");
    }

    #[expect(clippy::unused_self, reason = "reads as the other ones do")]
    fn odd(&self, line: &str) {
        eprintln!("entra-sidecar: warning: {line}");
    }

    fn bad(&mut self, line: &str) {
        eprintln!("entra-sidecar: {line}");
        self.good = false;
    }
}

fn registrations(config: &Config) -> impl Iterator<Item = &Arc<Registration>> {
    std::iter::once(&config.azure_ad).chain(config.registrations.values())
}

fn credentials(registration: &Registration, now: u64, findings: &mut Findings) {
    let lists = [
        ("ClientCredentials", &registration.credentials),
        ("TokenDecryptionCredentials", &registration.decryption_credentials),
    ];
    let inspections = lists.into_iter().flat_map(|(list, descriptions)| {
        let inspections = Credentials::new(descriptions).inspect(now);
        inspections.into_iter().map(move |inspection| (list, inspection))
    });
    for (list, inspection) in inspections {
        let key = format!("{}:{list}:{}", registration.section, inspection.index);
        match inspection.result {
            Ok(()) => findings.good(&format!("{key} ({}): usable", inspection.source_type)),
            Err(reason) => findings.bad(&format!("{key} ({}): {reason}", inspection.source_type)),
        }
    }
}

/// Whether a request that says nothing of its own can be served, as far as the options tell.
fn without_overrides(api: &Api) -> Result<(), Invalid> {
    let none = Overrides::default();
    match Effective::merge(api, &none) {
        // Callers may be meant to name them.
        Err(Invalid::NoScopes { .. }) => Ok(()),
        effective => {
            let effective = effective?;
            flow(&effective).scopes(&effective).map(drop)
        }
    }
}

/// Whose token it is depends on the endpoint; the application's own is asked for wherever the configuration says so.
fn flow<'a>(effective: &Effective<'a>) -> Flow<'a, ()> {
    let inbound = if effective.options.request_app_token { Inbound::None } else { Inbound::User(()) };
    Flow::select(effective, true, inbound)
}

/// What tokens are acquired with.
struct Bench<'a> {
    config: &'a Config,
    acquirer: Arc<Acquirer>,
    /// The sidecar's key, which tokens are bound to where the API wants bound ones and names no key.
    own_key: Option<&'a BoundKey>,
}

fn online(bench: &Bench<'_>, exchange: &Arc<dyn Exchange>, clock: &Arc<dyn Clock>, findings: &mut Findings) {
    let config = bench.config;
    match jwks::Settings::of(config).map(|settings| Keys::probe(&settings, &**exchange, clock.unix())) {
        Some(Ok(set)) => {
            let issuers: Vec<&str> = set.issuers().iter().map(Issuer::as_str).collect();
            findings.good(&format!("AzureAd: {} signing keys, issuer {}", set.len(), issuers.join(" or ")));
        }
        Some(Err(error)) => findings.bad(&format!("AzureAd:Instance: {error}")),
        None => findings.bad("AzureAd:TenantId: expected a tenant, or an AzureAd:Authority"),
    }
    for api in &config.apis {
        let key = format!("DownstreamApis:{}", api.name);
        match token(bench, api) {
            None => findings.good(&format!("{key}: needs a user's token, so none was acquired")),
            Some(Ok(expires_at)) => {
                let seconds = expires_at.saturating_sub(clock.unix());
                findings.good(&format!("{key}: a token was acquired that expires in {seconds} s"));
            }
            Some(Err(reason)) => findings.bad(&format!("{key}: {reason}")),
        }
    }
}

/// Unix seconds at which the token expires; nothing for an API whose token is a user's.
fn token(bench: &Bench<'_>, api: &Api) -> Option<Result<u64, String>> {
    let none = Overrides::default();
    match Effective::merge(api, &none) {
        Ok(effective) if flow(&effective).is_app_token() => Some(app_token(bench, api, &effective)),
        Ok(_) => None,
        Err(invalid) => Some(Err(invalid.to_string())),
    }
}

fn app_token(bench: &Bench<'_>, api: &Api, effective: &Effective<'_>) -> Result<u64, String> {
    let subject = Flow::select(effective, true, Inbound::None).with_session(|_| Err("a session is a user's"))?;
    let scopes = subject.scopes(effective).map_err(|invalid| invalid.to_string())?;
    let registration = bench.config.registration(api);
    let credentials = Credentials::new(&registration.credentials);
    let client = Arc::new(Client { registration: Arc::clone(registration), credentials });
    let correlation_id = guid::random();
    let options = &effective.options;
    let wanted = Wanted::new(&client, subject, &scopes, correlation_id.as_str(), bench.own_key, options);
    let token = bench.acquirer.acquire_in_place(&wanted);
    token.map(|token| token.expires_at).map_err(|error| error.to_string())
}
