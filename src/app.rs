//! Builds the program from its configuration, runs it, and shuts it down. The only file that knows
//! every part.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::clock::{Clock, SystemClock};
use crate::config::{Config, LoadError, Loaded};
use crate::descriptors;
use crate::http::{self, Budget, Monitor, Server};
use crate::jwks::{self, Keys};
use crate::jwt::Rejection;
use crate::memory::BodyMemory;
use crate::metrics::{Measured, Metrics};
use crate::notify::{Notifier, ServiceState};
use crate::outbound::{self, Exchange, InTurn, Proxies, Roots, SystemResolver, Thumbprint, UreqExchange};
use crate::routes::route::Endpoint;
use crate::routes::{Once, Recent, Routes, Service, Shared};
#[cfg(feature = "shared-cache")]
use crate::shared_cache::{self, SharedCache};
use crate::token::{self, Acquirer};
use crate::turns::{Bounds, Turns};

pub type Reload<'a> = &'a dyn Fn() -> Result<Loaded, LoadError>;

/// Serves until SIGTERM or SIGINT. A second signal exits at once.
pub fn serve(loaded: Loaded, reload: Reload<'_>) -> ExitCode {
    match start(loaded.config) {
        Ok((routes, server, signals)) => run(&routes, server, signals, reload),
        Err(problem) => {
            eprintln!("entra-sidecar: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn start(config: Config) -> Result<(Arc<Routes>, http::Running, Signals), String> {
    // Before any thread starts, so that an early signal cannot kill a half-built process.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|error| format!("signals: {error}"))?;
    let mut limits = config.limits.clone();
    limits.connections = descriptors::provide_for(limits.connections, limits.upstream_calls);
    let server = Server::bind(&config.listen, &limits).map_err(|error| format!("urls: {error}"))?;
    let (shared, service) = build(config, server.monitor(), true)?;
    let budget = shared.budget.clone();
    for address in server.local_addrs() {
        log::info!("listening on http://{address}");
    }
    for problem in service.unusable_credentials(shared.clock.unix()) {
        log::error!("{problem}");
    }
    let routes = Arc::new(Routes::new(shared, service));
    let server = server.start(Arc::clone(&routes), budget).map_err(|error| format!("threads: {error}"))?;
    Ok((routes, server, signals))
}

/// What answers requests, and what lives longer than a configuration. `fetches` signing keys, where anybody validates.
fn build(config: Config, monitor: Monitor, fetches: bool) -> Result<(Shared, Service), String> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = metrics();
    let (exchange, connections) = exchange(&config, &metrics, &mut |warning| log::warn!("{warning}"))?;
    let acquirer = acquirer(&config, &exchange, &clock, shared_cache(&config)?);
    let keys = keys(&config, &exchange, &clock, fetches)?;
    let recent = config.is_development().then(Arc::<Recent>::default);
    let shared = Shared { exchange, connections, clock, budget: budget(&config), acquirer, metrics, monitor, recent };
    let service = Service::new(config, keys)?;
    Ok((shared, service))
}

/// The same without a front door, for a command that asks once.
pub(crate) fn once(config: Config, fetches: bool) -> Result<Once, String> {
    let nowhere = Server::bind(&[], &config.limits).map_err(|error| error.to_string())?;
    build(config, nowhere.monitor(), fetches).map(|(shared, service)| Once::new(shared, service))
}

fn run(routes: &Routes, server: http::Running, mut signals: Signals, reload: Reload<'_>) -> ExitCode {
    let manager = Notifier::new(std::env::var_os("NOTIFY_SOCKET").as_deref());
    log::info!("entra-sidecar {} is ready", env!("CARGO_PKG_VERSION"));
    manager.tell(ServiceState::Ready { refused: false });
    for signal in &mut signals {
        if signal == SIGHUP {
            manager.tell(ServiceState::Reloading);
            let taken = reload_into(routes, reload);
            manager.tell(ServiceState::Ready { refused: !taken });
        } else {
            break;
        }
    }
    manager.tell(ServiceState::Stopping);
    log::info!("shutting down; requests in flight finish");
    server.shutdown();
    let handle = signals.handle();
    // A second signal skips the wait for requests in flight.
    let second = thread::Builder::new().name("second-signal".to_owned()).spawn(move || {
        if signals.forever().any(|signal| signal != SIGHUP) {
            log::warn!("second signal: exiting at once");
            std::process::exit(1);
        }
    });
    let finished = server.join();
    handle.close();
    if let Ok(second) = second {
        let _ = second.join();
    }
    routes.service().keys.stop();
    if !finished {
        log::warn!("cut off requests that did not finish within Sidecar:Limits:ShutdownTimeout");
    }
    ExitCode::SUCCESS
}

/// Reloads the configuration and returns whether it was accepted. A bad configuration is reported
/// and changes nothing.
fn reload_into(routes: &Routes, reload: Reload<'_>) -> bool {
    let loaded = match reload() {
        Ok(loaded) => loaded,
        Err(LoadError { problems, .. }) => {
            for problem in problems {
                log::error!("not reloaded: {problem}");
            }
            return false;
        }
    };
    if let Err(problem) = replace(routes, loaded.config) {
        log::error!("not reloaded: {problem}");
        return false;
    }
    log::info!("configuration reloaded");
    true
}

fn replace(routes: &Routes, mut config: Config) -> Result<(), String> {
    let (shared, old) = (routes.shared(), routes.service());
    let fixed = old.config.keep_in(&mut config);
    if let Some((size, name)) = config.limits.too_large_a_body() {
        let memory = config.limits.body_memory;
        return Err(format!(
            "Sidecar:Limits:BodyMemory: expected at least the {size} bytes of Sidecar:Limits:{name}; it stays at {memory} \
             until a restart"
        ));
    }
    let same_keys = jwks::KeySettings::of(&config) == jwks::KeySettings::of(&old.config);
    let keys = if same_keys { Arc::clone(&old.keys) } else { keys(&config, &shared.exchange, &shared.clock, true)? };
    let service = Service::replacing(&old, config, keys)?;
    if let Some(problem) = service.unusable_credentials(shared.clock.unix()).next() {
        return Err(problem);
    }
    for key in fixed {
        log::warn!("{key}: changed, but read only at start; restart to apply it");
    }
    routes.replace(service);
    shared.acquirer.forget_refusals();
    Ok(())
}

fn keys(
    config: &Config,
    exchange: &Arc<dyn Exchange>,
    clock: &Arc<dyn Clock>,
    fetches: bool,
) -> Result<Arc<Keys>, String> {
    let settings =
        jwks::KeySettings::of(config).ok_or("AzureAd:TenantId: expected a tenant, or an AzureAd:Authority")?;
    let (exchange, clock) = (Arc::clone(exchange), Arc::clone(clock));
    let keys = if fetches { Keys::start(settings, exchange, clock) } else { Ok(Keys::idle(settings, exchange, clock)) };
    keys.map(Arc::new).map_err(|error| format!("threads: {error}"))
}

pub(crate) fn acquirer(
    config: &Config,
    exchange: &Arc<dyn Exchange>,
    clock: &Arc<dyn Clock>,
    shared: Option<token::Shared>,
) -> Arc<Acquirer> {
    Acquirer::new(&config.limits, Arc::clone(exchange), Arc::clone(clock), variable, shared)
}

/// What other replicas know, where that is configured.
#[cfg(feature = "shared-cache")]
fn shared_cache(config: &Config) -> Result<Option<token::Shared>, String> {
    let store = shared_store(config, &mut |_| ())?;
    if let (Some(_), Some(key_file)) = (&store, &config.sidecar.shared_cache.key_file)
        && let Err(problem) = shared_cache::judge(key_file)
    {
        log::error!("Sidecar:SharedCache:KeyFile: {problem}");
    }
    Ok(store.map(|store| token::Shared::new(store, config.sidecar.shared_cache.session_lifetime)))
}

#[cfg(not(feature = "shared-cache"))]
#[expect(clippy::unnecessary_wraps, reason = "with the feature it may fail")]
const fn shared_cache(_: &Config) -> Result<Option<token::Shared>, String> {
    Ok(None)
}

/// The store that replicas share. `warn` receives each trusted certificate that cannot be read.
#[cfg(feature = "shared-cache")]
pub(crate) fn shared_store(config: &Config, warn: &mut dyn FnMut(String)) -> Result<Option<SharedCache>, String> {
    let settings = &config.sidecar.shared_cache;
    let (Some(url), Some(key_file)) = (&settings.url, &settings.key_file) else { return Ok(None) };
    let roots = Roots::load(&config.sidecar.trusted_certificates, warn).map_err(|error| error.to_string())?;
    SharedCache::new(url.clone(), key_file, settings, &roots).map(Some)
}

pub(crate) fn metrics() -> Arc<Metrics> {
    let endpoints = Endpoint::ALL.map(|(_, pattern, _)| pattern);
    let mut outcomes = vec!["valid"];
    outcomes.extend(Rejection::CODES);
    Arc::new(Metrics::new(&endpoints, &outcomes))
}

/// The HTTP client: for complete answers, and its connections for proxied requests. `warn` receives
/// each trusted certificate that cannot be read.
pub(crate) fn exchange(
    config: &Config,
    metrics: &Arc<Metrics>,
    warn: &mut dyn FnMut(String),
) -> Result<(Arc<dyn Exchange>, Arc<UreqExchange>), String> {
    let proxy = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let settings = outbound::ExchangeSettings {
        connect_timeout: config.limits.connect_timeout,
        roots: Roots::load(&config.sidecar.trusted_certificates, warn).map_err(|error| error.to_string())?,
        proxies: Proxies::from_environment(proxy).map_err(|error| error.to_string())?,
        resolver: Arc::new(SystemResolver),
        machine: match variable(Thumbprint::VARIABLE).filter(|text| !text.is_empty()) {
            Some(text) => Some(Thumbprint::parse(&text)?),
            None => None,
        },
    };
    let connections = Arc::new(UreqExchange::new(settings).map_err(|error| error.to_string())?);
    let inner = Arc::<UreqExchange>::clone(&connections);
    let measured = Measured { inner, metrics: Arc::clone(metrics) };
    Ok((Arc::new(InTurn(Box::new(measured))), connections))
}

fn budget(config: &Config) -> Budget {
    // At most half of the processors, so that garbage that looks encrypted cannot starve other
    // requests.
    let decryptions = thread::available_parallelism().map_or(1, usize::from) / 2;
    let bounds = Bounds { calls: config.limits.upstream_calls, decryptions };
    Budget { turns: Turns::new(bounds), memory: BodyMemory::new(config.limits.body_memory) }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
