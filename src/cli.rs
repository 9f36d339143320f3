//! The command line. Accepts the spellings of .NET's configuration (`--AzureAd:TenantId=x`,
//! `/AzureAd:TenantId x`, `AzureAd__TenantId=x`) as `--set`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::allocator;
use crate::config::{self, Config, Invocation, LoadError, Loaded};
use crate::oneshot::{self, Acquisition, Output, Source};
use crate::value::text::{escape, quote};
use crate::{app, check, healthcheck, log, openapi};

/// Exit code for a wrong command line.
const USAGE: u8 = 2;

struct Described {
    name: &'static str,
    /// What it works on, where it takes something.
    operand: &'static str,
    does: &'static str,
    example: &'static str,
}

#[rustfmt::skip] // A row is a line.
const COMMANDS: [Described; 7] = [
    Described { name: "serve", operand: "", does: "serve until SIGTERM or SIGINT (default)", example: "entra-sidecar serve --urls http://127.0.0.1:5000" },
    Described { name: "check", operand: "", does: "report problems of configuration and credentials, and print what would run", example: "entra-sidecar check --online" },
    Described { name: "healthcheck", operand: "", does: "ask the running sidecar's /healthz, with the same configuration", example: "HEALTHCHECK CMD [\"/entra-sidecar\", \"healthcheck\"]" },
    Described { name: "token", operand: " API", does: "acquire a token for a configured API, and print it", example: "entra-sidecar token graph --override optionsOverride.AcquireTokenOptions.Tenant=contoso.com" },
    Described { name: "header", operand: " API", does: "acquire a token for a configured API, and print it as a header line", example: "curl -H \"$(entra-sidecar header graph)\" https://graph.microsoft.com/v1.0/organization" },
    Described { name: "validate", operand: " [FILE]", does: "say whether a token in a file or on standard input is valid, as /Validate would", example: "entra-sidecar validate --explain token.txt" },
    Described { name: "openapi", operand: "", does: "print the OpenAPI document", example: "entra-sidecar openapi > openapi.json" },
];

struct Choice {
    name: &'static str,
    /// What follows it. Empty: a switch.
    value: &'static str,
    does: &'static str,
    /// The commands that take it. Empty: all.
    commands: &'static [&'static str],
}

const ACQUIRING: &[&str] = &["token", "header"];

#[rustfmt::skip] // A row is a line.
const OPTIONS: [Choice; 11] = [
    Choice { name: "config", value: " FILE", does: "settings file instead of appsettings.json; must exist", commands: &[] },
    Choice { name: "environment", value: " NAME", does: "name of the environment, e.g. Development", commands: &[] },
    Choice { name: "urls", value: " LIST", does: "where to listen, e.g.\n                      \"http://127.0.0.1:5000;unix:/run/entra-sidecar.sock\"", commands: &[] },
    Choice { name: "set", value: " KEY=VALUE", does: "one setting; repeatable", commands: &[] },
    Choice { name: "version", value: "", does: "print the version", commands: &[] },
    Choice { name: "all", value: "", does: "also show settings that have their default", commands: &["check"] },
    Choice { name: "online", value: "", does: "call Entra as well: metadata, and a token for each API that can have one", commands: &["check"] },
    Choice { name: "explain", value: "", does: "show each check: what was looked at, expected and found", commands: &["validate"] },
    Choice { name: "user-token", value: " FILE", does: "on behalf of the user whose token is in this file; - is standard input", commands: ACQUIRING },
    Choice { name: "override", value: " KEY=VALUE", does: "a query parameter of /AuthorizationHeader; repeatable", commands: ACQUIRING },
    Choice { name: "output", value: " FORM", does: "token, header, json or exec-credential (what kubectl reads)", commands: ACQUIRING },
];

impl Described {
    fn help(&self) -> String {
        let mut options = String::new();
        for Choice { name, value, does, .. } in OPTIONS.iter().filter(|option| option.commands.contains(&self.name)) {
            let _ = writeln!(options, "  {:<24}{does}", format!("--{name}{value}"));
        }
        let Self { name, operand, does, example } = self;
        format!(
            "Usage: entra-sidecar {name}{operand} [options]\n\n{name}: {does}.\n\nOptions:\n{options}  \
             those of every command: see entra-sidecar --help\n\nExample:\n  {example}"
        )
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Serve,
    Check { online: bool, all: bool },
    Healthcheck,
    OpenApi,
    Acquire(Acquisition),
    Validate { token: Source, explain: bool },
}

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
        Err(Stop::Shown(text)) => return shown(print(&text)),
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
        Command::Check { online, all } => check(&invocation, online, all),
        Command::Healthcheck => load(&invocation).map_or_else(
            |code| code,
            |loaded| shown(healthcheck::healthcheck(&loaded.config).map_err(|cause| format!("unhealthy: {cause}"))),
        ),
        Command::OpenApi => shown(print(&openapi::document())),
        Command::Acquire(wanted) => {
            once(&invocation, |config| oneshot::acquire(config, &wanted).and_then(|answer| print(answer.expose())))
        }
        Command::Validate { token, explain } => once(&invocation, |config| {
            let answer = oneshot::validate(config, &token, explain.then_some(&mut complain))?;
            print(&String::from_utf8_lossy(&answer))
        }),
    }
}

/// Does something with a configuration, once.
fn once(invocation: &Invocation, work: impl FnOnce(Config) -> Result<(), String>) -> ExitCode {
    let mut loaded = match load(invocation) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    oneshot::settle(&mut loaded.config);
    let log = log::start(&loaded.config.logging, rust_log(invocation));
    warn(&loaded);
    let done = work(loaded.config);
    log.flush();
    shown(done)
}

/// Success, or the problem on one line.
fn shown(done: Result<(), String>) -> ExitCode {
    let Err(problem) = done else { return ExitCode::SUCCESS };
    let mut line = String::new();
    escape(&problem, &mut line);
    complain(&line);
    ExitCode::FAILURE
}

fn rust_log(invocation: &Invocation) -> Option<String> {
    let (_, value) = invocation.variables.iter().find(|(name, _)| name == "RUST_LOG")?;
    value.to_str().map(str::to_owned)
}

fn serve(invocation: Invocation) -> ExitCode {
    let loaded = match load(&invocation) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let log = Arc::new(log::start(&loaded.config.logging, rust_log(&invocation)));
    warn(&loaded);
    let reloaded = Arc::clone(&log);
    let code = app::serve(loaded, &move || {
        let loaded = config::load(&invocation)?;
        reloaded.apply(&loaded.config.logging);
        warn(&loaded);
        Ok(loaded)
    });
    log.flush();
    code
}

fn warn(loaded: &Loaded) {
    for warning in &loaded.warnings {
        ::log::warn!(target: "entra_sidecar::config", "{warning}");
    }
}

fn check(invocation: &Invocation, online: bool, all: bool) -> ExitCode {
    let loaded = config::load(invocation);
    let described = print(&config::describe(invocation, loaded.as_ref().ok().map(|loaded| &loaded.config), all));
    match loaded {
        Ok(_) if described.is_err() => shown(described),
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

/// A reader that has gone is not an error. A full disk is: the answer is not where it was asked for.
fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush());
    written.or_else(|error| {
        if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(format!("standard output: {error}")) }
    })
}

fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "entra-sidecar: {line}");
}

fn parse(words: &[String]) -> Result<(Command, Invocation), Stop> {
    let line = Line::read(words).map_err(Stop::Usage)?;
    let mut plain = line.plain.iter();
    let named = plain.next();
    let described = COMMANDS.iter().find(|known| named.map_or("serve", String::as_str) == known.name);
    if line.help {
        return Err(Stop::Shown(described.filter(|_| named.is_some()).map_or_else(overview, Described::help)));
    }
    if line.has("version") {
        return Err(Stop::Shown(format!("entra-sidecar {}", env!("CARGO_PKG_VERSION"))));
    }
    let known = || COMMANDS.map(|known| known.name).join(", ");
    let described = described.ok_or_else(|| Stop::Usage(format!("unknown command: expected one of {}", known())))?;
    let own = |option: &Choice| option.commands.is_empty() || option.commands.contains(&described.name);
    if let Some(Choice { name, commands, .. }) = OPTIONS.iter().find(|option| line.has(option.name) && !own(option)) {
        return Err(Stop::Usage(format!("--{name} belongs to {}", commands.join(" and "))));
    }
    let operand = plain.next();
    if plain.next().is_some() || (operand.is_some() && described.operand.is_empty()) {
        return Err(Stop::Usage(format!(
            "too many arguments: expected entra-sidecar {}{}",
            described.name, described.operand
        )));
    }
    let source = |name: &str| Source::named(name);
    let command = match described.name {
        "check" => Command::Check { online: line.has("online"), all: line.has("all") },
        "healthcheck" => Command::Healthcheck,
        "openapi" => Command::OpenApi,
        "validate" => Command::Validate {
            token: operand.map_or(Source::Input, |name| source(name)),
            explain: line.has("explain"),
        },
        "token" | "header" => Command::Acquire(Acquisition {
            api: operand.ok_or_else(|| Stop::Usage(format!("expected an API: {} API", described.name)))?.clone(),
            user_token: line.last("user-token").map(source),
            overrides: line.pairs("override")?,
            output: match line.last("output") {
                Some(form) => Output::parse(form).map_err(Stop::Usage)?,
                None if described.name == "token" => Output::Token,
                None => Output::Header,
            },
        }),
        _ => Command::Serve,
    };
    let invocation = Invocation {
        config_file: line.last("config").map(PathBuf::from),
        environment: line.last("environment").map(str::to_owned),
        urls: line.last("urls").map(str::to_owned),
        settings: line.pairs("set")?,
        variables: Vec::new(),
    };
    Ok((command, invocation))
}

fn overview() -> String {
    let line = |name: String, does: &str| format!("  {name:<20}{does}\n");
    let options = OPTIONS.iter().filter(|option| option.commands.is_empty());
    let options: String =
        options.map(|option| line(format!("--{}{}", option.name, option.value), option.does)).collect();
    let help = line("--help, help".to_owned(), "print this help, or that of a command");
    let commands = COMMANDS.map(|known| line(format!("{}{}", known.name, known.operand), known.does)).concat();
    format!(
        "Usage: entra-sidecar [command] [options]\n\n\
         Validates bearer tokens, acquires tokens and calls web APIs for the application beside it.\n\n\
         Options:\n{options}{help}\n\
         Notes:\n  Any setting may be given as --KEY=VALUE too, e.g. --AzureAd:TenantId=contoso.com\n\n\
         Exit codes:\n  0 success\n  \
         1 the configuration is wrong, or the start, the check or the command failed\n  \
         2 the command line is wrong\n\n\
         Commands, each with a --help of its own:\n{commands}"
    )
}

/// The words of a command line, sorted.
#[derive(Default)]
struct Line {
    /// Options and their values, in order. Every spelling of a setting is a `set`.
    given: Vec<(&'static str, Zeroizing<String>)>,
    /// The command and what it works on.
    plain: Vec<String>,
    help: bool,
}

impl Line {
    fn read(words: &[String]) -> Result<Self, String> {
        let mut line = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (name, given) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
            let mut value = || {
                given.or_else(|| words.next().map(String::as_str)).ok_or_else(|| format!("{name}: expected a value"))
            };
            if let Some(option) = name.strip_prefix("--") {
                match OPTIONS.iter().find(|known| known.name.eq_ignore_ascii_case(option)) {
                    Some(known) if !known.value.is_empty() => line.add(known.name, value()?.to_owned()),
                    Some(known) if given.is_none() => line.add(known.name, String::new()),
                    _ if option.eq_ignore_ascii_case("help") && given.is_none() => line.help = true,
                    _ if is_key(option) => line.set(option, value()?),
                    _ => return Err(format!("unknown option {}", quote(name))),
                }
            } else if let Some(key) = name.strip_prefix('/').filter(|key| is_key(key)) {
                line.set(key, value()?);
            } else if word == "-h" || (word == "help" && line.plain.is_empty()) {
                line.help = true;
            } else if word == "-V" {
                line.add("version", String::new());
            } else if name != "-" && name.starts_with('-') {
                return Err(format!("{}: a key is given with two dashes, --KEY=VALUE", quote(name)));
            } else if let Some(value) = given {
                if !is_key(name) {
                    return Err(format!("unknown setting {}", quote(name)));
                }
                line.set(name, value);
            } else {
                line.plain.push(word.clone());
            }
        }
        Ok(line)
    }

    fn add(&mut self, option: &'static str, value: String) {
        self.given.push((option, Zeroizing::new(value)));
    }

    fn set(&mut self, key: &str, value: &str) {
        self.add("set", format!("{key}={value}"));
    }

    fn values(&self, option: &str) -> impl DoubleEndedIterator<Item = &str> {
        self.given.iter().filter(move |(name, _)| *name == option).map(|(_, value)| value.as_str())
    }

    fn has(&self, option: &str) -> bool {
        self.last(option).is_some()
    }

    fn last(&self, option: &str) -> Option<&str> {
        self.values(option).next_back()
    }

    /// The values of an option of the form KEY=VALUE.
    fn pairs(&self, option: &str) -> Result<Vec<(String, Zeroizing<String>)>, Stop> {
        let pair = |text: &str| {
            let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty())?;
            Some((key.to_owned(), Zeroizing::new(value.to_owned())))
        };
        let expected = || Stop::Usage(format!("--{option}: expected KEY=VALUE"));
        self.values(option).map(|text| pair(text).ok_or_else(expected)).collect()
    }
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
            assert_eq!(command, Command::Check { online: true, all: false }, "{line}");
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
            "launch", "serve check", "--bogus", "--bogus=s3cret", "-A:B=s3cret", "--set s3cret", "--set =s3cret",
            "--config", "--A:B", "--online", "serve --online", "--version=1", "token", "token a s3cret",
            "token a --output s3cret", "token a --override s3cret", "serve --all", "validate a s3cret",
            "check --explain", "validate --user-token s3cret", "bogus=s3cret", "serve s3cret", "s3cret", "-x", "--",
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
    fn commands_take_what_belongs_to_them() {
        let acquisition =
            |api: &str, output| Acquisition { api: api.to_owned(), user_token: None, overrides: Vec::new(), output };
        let validate = |token, explain| Command::Validate { token, explain };
        let file = |name: &str| Source::File(name.into());
        for (line, expected) in [
            ("token a", Command::Acquire(acquisition("a", Output::Token))),
            ("header serve", Command::Acquire(acquisition("serve", Output::Header))),
            ("--output exec-credential token a", Command::Acquire(acquisition("a", Output::ExecCredential))),
            ("validate", validate(Source::Input, false)),
            ("validate - --explain", validate(Source::Input, true)),
            ("validate --explain /tmp/t", validate(file("/tmp/t"), true)),
            (
                "token a --user-token - --override=A=b=c --Override C=",
                Command::Acquire(Acquisition {
                    user_token: Some(Source::Input),
                    overrides: [("A", "b=c"), ("C", "")].map(|(k, v)| (k.to_owned(), v.to_owned().into())).into(),
                    ..acquisition("a", Output::Token)
                }),
            ),
            ("check --all", Command::Check { online: false, all: true }),
        ] {
            assert_eq!(parsed(line).unwrap().0, expected, "{line}");
        }
    }

    #[test]
    fn each_command_has_help_with_an_example() {
        let known = |command: &&str| COMMANDS.iter().any(|known| known.name == *command);
        assert!(OPTIONS.iter().all(|option| option.commands.iter().all(known)));
        for Described { name, example, .. } in COMMANDS {
            let Err(Stop::Shown(text)) = parsed(&format!("{name} --help")) else { panic!("{name}") };
            assert!(text.starts_with(&format!("Usage: entra-sidecar {name}")) && text.contains(example), "{text}");
        }
    }

    #[test]
    fn help_and_version_are_shown() {
        for (line, start) in [
            ("--help", "Usage: entra-sidecar"),
            ("check --help", "Usage"),
            ("-h", "Usage"),
            ("help", "Usage: entra-sidecar [command]"),
            ("--version", "entra-sidecar 0."),
        ] {
            assert!(matches!(parsed(line), Err(Stop::Shown(text)) if text.starts_with(start)), "{line}");
        }
    }
}
