//! The command line. Accepts the spellings of .NET's configuration (`--AzureAd:TenantId=x`,
//! `/AzureAd:TenantId x`, `AzureAd__TenantId=x`) by turning them into `--set` before `argh` parses.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use argh::FromArgs;
use zeroize::Zeroizing;

use crate::allocator;
use crate::config::{self, Invocation, LoadError, Loaded};
use crate::{app, check, healthcheck, log, openapi};

/// Exit code for a wrong command line.
const USAGE: u8 = 2;

#[derive(FromArgs)]
#[argh(
    description = "Validates bearer tokens, acquires tokens and calls web APIs for the application beside it.",
    note = "Commands:
  serve        serve until SIGTERM or SIGINT (default)
  check        judge configuration and credentials, and print what would run;
               with --online also fetch metadata and tokens
  healthcheck  ask the running sidecar's /healthz
  openapi      print the OpenAPI document

Any setting may be given as --KEY=VALUE too, e.g. --AzureAd:TenantId=contoso.com",
    error_code(0, "good"),
    error_code(1, "the configuration is wrong, or the start or the check failed"),
    error_code(2, "the command line is wrong")
)]
struct Words {
    /// settings file instead of appsettings.json; must exist
    #[argh(option, arg_name = "file")]
    config: Vec<PathBuf>,
    /// name of the environment, e.g. Development
    #[argh(option, arg_name = "name")]
    environment: Vec<String>,
    /// where to listen, e.g. "http://127.0.0.1:5000;unix:/run/entra-sidecar.sock"
    #[argh(option, arg_name = "list")]
    urls: Vec<String>,
    /// one setting, KEY=VALUE; repeatable
    #[argh(option, arg_name = "key=value")]
    set: Vec<String>,
    /// with check: call Entra as well
    #[argh(switch)]
    online: bool,
    /// print the version
    #[argh(switch)]
    version: bool,
    /// serve, check, healthcheck or openapi
    #[argh(positional)]
    command: Option<String>,
}

/// The command and its settings.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Serve,
    Check { online: bool },
    Healthcheck,
    OpenApi,
}

/// Why no command runs.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// Text to print, such as the help.
    Shown(String),
    /// The command line is wrong. Never holds a value, which may be a secret.
    Usage(String),
}

/// Runs the program with the words after its name.
pub fn run(words: impl Iterator<Item = OsString>, variables: impl Iterator<Item = (OsString, OsString)>) -> ExitCode {
    let words: Result<Vec<String>, OsString> = words.map(OsString::into_string).collect();
    let parsed =
        words.map_err(|_| Stop::Usage("an argument is not valid UTF-8".to_owned())).and_then(|words| parse(&words));
    let (command, mut invocation) = match parsed {
        Ok(parsed) => parsed,
        Err(Stop::Shown(text)) => {
            print(&text);
            return ExitCode::SUCCESS;
        }
        Err(Stop::Usage(message)) => {
            complain(&format!("{message} (see entra-sidecar --help)"));
            return ExitCode::from(USAGE);
        }
    };
    invocation.variables = variables.collect();
    match command {
        Command::Serve => {
            allocator::settle();
            serve(invocation)
        }
        Command::Check { online } => check(&invocation, online),
        Command::Healthcheck => match load(&invocation).map(|loaded| healthcheck::healthcheck(&loaded.config)) {
            Err(code) => code,
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(cause)) => {
                complain(&format!("unhealthy: {cause}"));
                ExitCode::FAILURE
            }
        },
        Command::OpenApi => {
            print(&openapi::document());
            ExitCode::SUCCESS
        }
    }
}

fn serve(invocation: Invocation) -> ExitCode {
    let loaded = match load(&invocation) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let rust_log = invocation.variables.iter().find(|(name, _)| name == "RUST_LOG");
    let rust_log = rust_log.and_then(|(_, value)| value.to_str()).map(str::to_owned);
    let log = Arc::new(log::start(&loaded.config.logging, rust_log));
    warn(&loaded);
    let reloaded = Arc::clone(&log);
    let code = app::serve(
        loaded,
        &(Box::new(move || {
            let loaded = config::load(&invocation)?;
            reloaded.apply(&loaded.config.logging);
            warn(&loaded);
            Ok(loaded)
        }) as app::Reload),
    );
    log.flush();
    code
}

fn warn(loaded: &Loaded) {
    for warning in &loaded.warnings {
        ::log::warn!(target: "entra_sidecar::config", "{warning}");
    }
}

fn check(invocation: &Invocation, online: bool) -> ExitCode {
    let loaded = config::load(invocation);
    print(&config::describe(invocation, loaded.as_ref().ok().map(|loaded| &loaded.config)));
    match loaded {
        Err(rejected) => report(&rejected),
        Ok(loaded) => {
            for warning in &loaded.warnings {
                complain(&format!("warning: {warning}"));
            }
            check::check(&loaded.config, online)
        }
    }
}

fn load(invocation: &Invocation) -> Result<Loaded, ExitCode> {
    config::load(invocation).map_err(|rejected| report(&rejected))
}

/// Prints every problem and warning, a line each.
fn report(rejected: &LoadError) -> ExitCode {
    for problem in &rejected.problems {
        complain(&problem.to_string());
    }
    for warning in &rejected.warnings {
        complain(&format!("warning: {warning}"));
    }
    ExitCode::FAILURE
}

/// A closed standard output is not an error.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush());
}

fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "entra-sidecar: {line}");
}

fn parse(words: &[String]) -> Result<(Command, Invocation), Stop> {
    let normal = normalise(words).map_err(Stop::Usage)?;
    let normal: Vec<&str> = normal.iter().map(|word| word.as_str()).collect();
    let words = Words::from_args(&["entra-sidecar"], &normal).map_err(|exit| match exit.status {
        Ok(()) => Stop::Shown(exit.output),
        // Only positional arguments remain to be wrong, and a wrong first one is reported by name.
        Err(()) => Stop::Usage("too many arguments: expected one of serve, check, healthcheck, openapi".to_owned()),
    })?;
    if words.version {
        return Err(Stop::Shown(format!("entra-sidecar {}", env!("CARGO_PKG_VERSION"))));
    }
    let command = match words.command.as_deref() {
        None | Some("serve") => Command::Serve,
        Some("check") => Command::Check { online: words.online },
        Some("healthcheck") => Command::Healthcheck,
        Some("openapi") => Command::OpenApi,
        Some(_) => {
            return Err(Stop::Usage("unknown command: expected serve, check, healthcheck or openapi".to_owned()));
        }
    };
    if words.online && command != (Command::Check { online: true }) {
        return Err(Stop::Usage("--online belongs to check".to_owned()));
    }
    let mut settings = Vec::new();
    for word in words.set {
        let (key, value) = word.split_once('=').ok_or_else(|| Stop::Usage("--set: expected KEY=VALUE".to_owned()))?;
        if key.is_empty() {
            return Err(Stop::Usage("--set: expected KEY=VALUE".to_owned()));
        }
        settings.push((key.to_owned(), Zeroizing::new(value.to_owned())));
    }
    let invocation = Invocation {
        config_file: words.config.into_iter().next_back(),
        environment: words.environment.into_iter().next_back(),
        urls: words.urls.into_iter().next_back(),
        settings,
        variables: Vec::new(),
    };
    Ok((command, invocation))
}

/// Turns every accepted spelling into `--option value`, `--set KEY=VALUE` and plain words.
fn normalise(words: &[String]) -> Result<Vec<Zeroizing<String>>, String> {
    let mut normal = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, given) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
        let mut value =
            || given.or_else(|| words.next().map(String::as_str)).ok_or_else(|| format!("{name}: expected a value"));
        if let Some(option) = name.strip_prefix("--") {
            let lower = option.to_ascii_lowercase();
            match lower.as_str() {
                "config" | "environment" | "urls" | "set" => {
                    let value = value()?.to_owned();
                    normal.extend([Zeroizing::new(format!("--{lower}")), Zeroizing::new(value)]);
                }
                "online" | "version" | "help" if given.is_none() => normal.push(Zeroizing::new(format!("--{lower}"))),
                _ if is_key(option) => normal.extend(set(option, value()?)),
                _ => return Err(format!("unknown option {}", crate::value::text::quote(name))),
            }
        } else if let Some(key) = name.strip_prefix('/').filter(|key| is_key(key)) {
            normal.extend(set(key, value()?));
        } else if word == "-h" || word == "-V" {
            normal.push(Zeroizing::new(if word == "-h" { "--help" } else { "--version" }.to_owned()));
        } else if name.starts_with('-') {
            return Err(format!("{}: a key is given with two dashes, --KEY=VALUE", crate::value::text::quote(name)));
        } else if let Some(value) = given {
            if !is_key(name) {
                return Err(format!("unknown setting {}", crate::value::text::quote(name)));
            }
            normal.extend(set(name, value));
        } else {
            normal.push(Zeroizing::new(word.clone()));
        }
    }
    Ok(normal)
}

fn set(key: &str, value: &str) -> [Zeroizing<String>; 2] {
    [Zeroizing::new("--set".to_owned()), Zeroizing::new(format!("{key}={value}"))]
}

/// True for the key of a setting: a path, or a known key without a section.
fn is_key(word: &str) -> bool {
    let path = word.replace("__", ":");
    (path.contains(':') && !path.starts_with(':')) || config::find_key(&path, &[]).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(Command, Invocation), Stop> {
        parse(&line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_stand_before_or_after_the_command_in_either_form() {
        for line in
            ["--config f --environment=E check --urls u --online", "check --online --URLS=u --Config=f --environment E"]
        {
            let (command, invocation) = parsed(line).unwrap();
            assert_eq!(command, Command::Check { online: true }, "{line}");
            assert_eq!(invocation.config_file, Some("f".into()), "{line}");
            assert_eq!(
                (invocation.environment.as_deref(), invocation.urls.as_deref()),
                (Some("E"), Some("u")),
                "{line}"
            );
        }
        assert_eq!(parsed("").unwrap().0, Command::Serve);
    }

    #[test]
    fn settings_come_in_every_spelling_of_dotnet() {
        let line = "--set A:B=1=2 --A:B=2 --A__B 3 /A:B=4 /A:B --5 A:B=6 --AllowedHosts=* --set A:B=";
        let (_, invocation) = parsed(line).unwrap();
        let settings: Vec<String> =
            invocation.settings.iter().map(|(key, value)| format!("{key}={}", **value)).collect();
        assert_eq!(settings, ["A:B=1=2", "A:B=2", "A__B=3", "A:B=4", "A:B=--5", "A:B=6", "AllowedHosts=*", "A:B="]);
    }

    #[test]
    fn a_wrong_line_says_what_was_expected_and_repeats_no_value() {
        for line in [
            "launch",
            "serve check",
            "--bogus",
            "--bogus=s3cret",
            "-A:B=s3cret",
            "--set s3cret",
            "--set =s3cret",
            "--config",
            "--A:B",
            "--online",
            "serve --online",
            "--version=1",
            "bogus=s3cret",
            "serve s3cret",
            "s3cret",
            "-x",
            "--",
            "--=s3cret",
        ] {
            match parsed(line) {
                Err(Stop::Usage(message)) => {
                    assert!(!message.contains("s3cret") && !message.contains('\n'), "{line}: {message}");
                }
                other => panic!("{line}: {:?}", other.map(|(command, _)| command)),
            }
        }
    }

    #[test]
    fn help_and_version_are_shown() {
        for (line, start) in [
            ("--help", "Usage: entra-sidecar"),
            ("check --help", "Usage"),
            ("-h", "Usage"),
            ("--version", "entra-sidecar 0."),
        ] {
            assert!(matches!(parsed(line), Err(Stop::Shown(text)) if text.starts_with(start)), "{line}");
        }
    }
}
