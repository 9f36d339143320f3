//! The log: levels per module from `Logging` or `RUST_LOG`, one line per record on standard error.
//!
//! A worker formats its record and pushes the line to a bounded queue; one thread writes. A reader
//! that stalls can neither block a worker nor grow the memory: lines are dropped, and a later line
//! says how many.

mod line;
mod queue;

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use env_logger::{Builder, Target};
use log::{LevelFilter, Log, Metadata, Record};

use crate::config::Logging;
use crate::sync::RwLock;
use crate::value::text::strip_prefix;
use line::CRATE;
use queue::{Queue, Sink};

pub const ACCESS: &str = "access";

/// The program's modules, and the .NET categories that set their level if the module itself is not
/// configured.
const MODULES: [(&str, &[&str]); 14] = [
    ("app", &["Microsoft.Hosting.Lifetime"]),
    ("config", &["Microsoft.Extensions.Configuration"]),
    ("http", &["Microsoft.AspNetCore.Server.Kestrel"]),
    ("routes", &["Microsoft.AspNetCore.Routing"]),
    ("options", &["Microsoft.Identity.Web"]),
    ("jwt", &["Microsoft.IdentityModel.JsonWebTokens", "Microsoft.AspNetCore.Authentication"]),
    ("jwks", &["Microsoft.IdentityModel.Protocols"]),
    ("token", &["Microsoft.Identity.Web.TokenAcquisition", "Microsoft.Identity.Client"]),
    ("credentials", &["Microsoft.Identity.Web.Credentials"]),
    ("shared_cache", &["Microsoft.Extensions.Caching"]),
    ("shr", &["Microsoft.IdentityModel.Protocols.SignedHttpRequest"]),
    ("outbound", &["Microsoft.Identity.Client", "System.Net.Http"]),
    ("metrics", &["Microsoft.AspNetCore.Diagnostics"]),
    ("refresh", &["Microsoft.Identity.Web"]),
];

/// Beyond this level, records of other crates may contain what they send and receive.
const OTHERS: LevelFilter = LevelFilter::Info;

/// Dropping the handle waits up to a second for the last lines.
pub struct Handle {
    queue: Arc<Queue>,
    logger: &'static Reloadable,
    rust_log: Option<String>,
}

/// Installs the logger. Only the first call in a process takes effect.
pub fn start(logging: &Logging, rust_log: Option<String>) -> Handle {
    let queue = Queue::start(std::io::stderr());
    let logger = Box::leak(Box::new(Reloadable(RwLock::new(build(logging, rust_log.as_deref(), &queue)))));
    if log::set_logger(logger).is_ok() {
        log::set_max_level(logger.level());
    }
    Handle { queue, logger, rust_log }
}

impl Handle {
    pub fn apply(&self, logging: &Logging) {
        let logger = build(logging, self.rust_log.as_deref(), &self.queue);
        *self.logger.0.write() = logger;
        log::set_max_level(self.logger.level());
    }

    /// Waits until every line is written, for at most a second.
    pub fn flush(&self) {
        self.queue.flush(Duration::from_secs(1));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A logger that can be replaced while in use.
struct Reloadable(RwLock<env_logger::Logger>);

impl Reloadable {
    fn level(&self) -> LevelFilter {
        self.0.read().filter()
    }
}

impl Log for Reloadable {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let other = metadata.target() != ACCESS && !metadata.target().starts_with(CRATE);
        !(other && metadata.level() > OTHERS) && self.0.read().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.read().log(record);
        }
    }

    fn flush(&self) {}
}

fn build(logging: &Logging, rust_log: Option<&str>, queue: &Arc<Queue>) -> env_logger::Logger {
    let mut builder = Builder::new();
    for (target, level) in filters(logging, rust_log.is_some_and(|text| !text.trim().is_empty())) {
        builder.filter(target.as_deref(), level);
    }
    if let Some(filters) = rust_log {
        builder.parse_filters(filters);
    }
    let format = if logging.json { line::json } else { line::text };
    builder.format(move |buffer, record| std::io::Write::write_all(buffer, format(record).as_bytes()));
    builder.target(Target::Pipe(Box::new(Sink(Arc::clone(queue)))));
    builder.build()
}

/// Levels per target. `RUST_LOG` replaces everything except the access log, which follows its own
/// category.
fn filters(logging: &Logging, rust_log: bool) -> Vec<(Option<String>, LevelFilter)> {
    let access = (Some(ACCESS.to_owned()), logging.access);
    if rust_log {
        return vec![access];
    }
    let mut filters = vec![(None, logging.default), access];
    for (module, categories) in MODULES {
        let own = logging.categories.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(module));
        let level = own.map(|(_, level)| *level).or_else(|| {
            // A module that maps to several categories takes the most verbose level of them.
            categories.iter().filter_map(|category| longest_prefix(logging, category)).max()
        });
        if let Some(level) = level {
            filters.push((Some(format!("{CRATE}::{module}")), level));
        }
    }
    // Paths of this program, as in `RUST_LOG`.
    let paths = logging.categories.iter().filter(|(name, _)| name.starts_with(CRATE));
    filters.extend(paths.map(|(name, level)| (Some(name.clone()), *level)));
    filters
}

/// The level of the longest configured prefix of a category. Of two equal ones, the later comes
/// from the console's section and wins.
fn longest_prefix(logging: &Logging, category: &str) -> Option<LevelFilter> {
    let lies_in = |name: &str| {
        let name = name.strip_suffix(".*").or_else(|| name.strip_suffix('*')).unwrap_or(name);
        strip_prefix(category, name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let known = logging.categories.iter().filter(|(name, _)| !name.is_empty() && lies_in(name));
    known.max_by_key(|(name, _)| name.len()).map(|(_, level)| *level)
}

/// The category mapping in Markdown, for docs/configuration.md.
pub fn categories() -> String {
    let mut out = String::from(
        "\n## Log categories\n\n\
         `Default` applies to everything without a category of its own. The longest matching category\n\
         applies, so `Microsoft.Identity` includes `Microsoft.Identity.Web`. A module's own name beats both.\n\
         `Access` is the access log. `RUST_LOG`, for instance `RUST_LOG=info,entra_sidecar::token=debug`,\n\
         replaces all except `Access`.\n\n\
         | module | takes the level of |\n|---|---|\n",
    );
    for (module, categories) in MODULES {
        let names: Vec<String> = categories.iter().map(|category| format!("`{category}`")).collect();
        let _ = writeln!(out, "| `{module}` | {} |", names.join(", "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logging(categories: &[(&str, LevelFilter)]) -> Logging {
        Logging {
            default: LevelFilter::Info,
            access: LevelFilter::Warn,
            categories: categories.iter().map(|(name, level)| ((*name).to_owned(), *level)).collect(),
            json: false,
        }
    }

    fn level(logging: &Logging, target: &str) -> LevelFilter {
        let target = if target == ACCESS { ACCESS.to_owned() } else { format!("{CRATE}::{target}") };
        let filters = filters(logging, false);
        let level = |wanted: Option<&str>| {
            filters.iter().rev().find(|(own, _)| own.as_deref() == wanted).map(|(_, level)| *level)
        };
        level(Some(&target)).or_else(|| level(None)).unwrap()
    }

    #[test]
    fn categories_of_dotnet_set_modules() {
        let all = logging(&[
            ("Microsoft", LevelFilter::Error),
            ("Microsoft.AspNetCore", LevelFilter::Warn),
            ("microsoft.identity.web", LevelFilter::Debug),
            ("Microsoft.IdentityModel.*", LevelFilter::Trace),
            ("Microsoft.Ident", LevelFilter::Off),
            ("jwks", LevelFilter::Off),
        ]);
        for (target, expected) in [
            ("http", LevelFilter::Warn),
            ("routes", LevelFilter::Warn),
            ("options", LevelFilter::Debug),
            ("token", LevelFilter::Debug),
            ("outbound", LevelFilter::Error),
            ("jwt", LevelFilter::Trace),
            ("jwks", LevelFilter::Off),
            ("elsewhere", LevelFilter::Info),
            (ACCESS, LevelFilter::Warn),
        ] {
            assert_eq!(level(&all, target), expected, "{target}");
        }
    }

    #[test]
    fn rust_log_leaves_the_access_log_alone() {
        let filters = filters(&logging(&[("http", LevelFilter::Trace)]), true);
        assert_eq!(filters, [(Some(ACCESS.to_owned()), LevelFilter::Warn)]);
    }

    #[test]
    fn other_crates_never_log_their_traffic() {
        let queue = Queue::start(std::io::sink());
        let logger = Reloadable(RwLock::new(build(&logging(&[]), Some("trace"), &queue)));
        let enabled = |target: &str, level| logger.enabled(&Metadata::builder().target(target).level(level).build());
        assert!(enabled("entra_sidecar::token", log::Level::Trace));
        assert!(enabled("ureq::run", log::Level::Info));
        assert!(!enabled("ureq::run", log::Level::Debug));
        assert!(!enabled(ACCESS, log::Level::Info));
    }
}
