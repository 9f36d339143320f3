//! The command line. Accepts the spellings of .NET's configuration (`--AzureAd:TenantId=x`,
//! `/AzureAd:TenantId x`, `AzureAd__TenantId=x`) by turning them into `--set` before `argh` parses.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use argh::FromArgs;
use zeroize::Zeroizing;

use crate::allocator;
use crate::config::{self, Config, Invocation, LoadError, Loaded};
use crate::oneshot::{self, Acquisition, Output, Source};
use crate::{app, check, healthcheck, log, openapi};

/// Exit code for a wrong command line.
const USAGE: u8 = 2;

#[derive(FromArgs)]
#[argh(
    description = "Validates bearer tokens, acquires tokens and calls web APIs for the application beside it.",
    note = "Any setting may be given as --KEY=VALUE too, e.g. --AzureAd:TenantId=contoso.com",
    error_code(0, "good"),
    error_code(1, "the configuration is wrong, or the start, the check or the command failed"),
    error_code(2, "the command line is wrong")
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own on the command line")]
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
    #[argh(switch, hidden_help)]
    all: bool,
    #[argh(switch, hidden_help)]
    online: bool,
    #[argh(switch, hidden_help)]
    explain: bool,
    #[argh(option, hidden_help)]
    user_token: Vec<String>,
    #[argh(option, hidden_help, long = "override")]
    overrides: Vec<String>,
    #[argh(option, hidden_help)]
    output: Vec<String>,
    /// print the version
    #[argh(switch)]
    version: bool,
    /// what to do, and to what
    #[argh(positional, hidden_help)]
    command: Vec<String>,
}

/// A command, for people.
struct Described {
    name: &'static str,
    /// What it works on, where it takes something.
    operand: &'static str,
    does: &'static str,
    /// Options that belong to it.
    own: &'static [&'static str],
    example: &'static str,
}

#[rustfmt::skip] // A row is a line.
const COMMANDS: [Described; 7] = [
    Described { name: "serve", operand: "", does: "serve until SIGTERM or SIGINT (default)", own: &[], example: "entra-sidecar serve --urls http://127.0.0.1:5000" },
    Described { name: "check", operand: "", does: "judge configuration and credentials, and print what would run", own: &["all", "online"], example: "entra-sidecar check --online" },
    Described { name: "healthcheck", operand: "", does: "ask the running sidecar's /healthz, with the same configuration", own: &[], example: "HEALTHCHECK CMD [\"/entra-sidecar\", \"healthcheck\"]" },
    Described { name: "token", operand: " API", does: "acquire a token for a configured API, and print it", own: ACQUIRING, example: "entra-sidecar token graph --override optionsOverride.AcquireTokenOptions.Tenant=contoso.com" },
    Described { name: "header", operand: " API", does: "acquire a token for a configured API, and print it as a header line", own: ACQUIRING, example: "curl -H \"$(entra-sidecar header graph)\" https://graph.microsoft.com/v1.0/organization" },
    Described { name: "validate", operand: " [FILE]", does: "judge a token in a file or on standard input, as /Validate would", own: &["explain"], example: "entra-sidecar validate --explain token.txt" },
    Described { name: "openapi", operand: "", does: "print the OpenAPI document", own: &[], example: "entra-sidecar openapi > openapi.json" },
];

const ACQUIRING: &[&str] = &["user-token", "override", "output"];

/// An option of some commands: name, value, what it is for, and whether it is given.
type OwnOption = (&'static str, &'static str, &'static str, fn(&Words) -> bool);

const OWN: [OwnOption; 6] = [
    ("all", "", "show settings at their default too", |words| words.all),
    ("online", "", "call Entra as well: metadata, and a token for each API that can have one", |words| words.online),
    ("explain", "", "name each check: what was looked at, expected and found", |words| words.explain),
    ("user-token", " FILE", "on behalf of the user whose token this is; - is standard input", |words| {
        !words.user_token.is_empty()
    }),
    ("override", " KEY=VALUE", "a key of the query of /AuthorizationHeader; repeatable", |words| {
        !words.overrides.is_empty()
    }),
    ("output", " FORM", "token, header, json or exec-credential (what kubectl reads)", |words| {
        !words.output.is_empty()
    }),
];

impl Described {
    /// What `--help` prints.
    fn help(&self) -> String {
        let mut options = String::new();
        for (name, value, does, _) in OWN.iter().filter(|(name, ..)| self.own.contains(name)) {
            let _ = writeln!(options, "  {:<24}{does}", format!("--{name}{value}"));
        }
        let Self { name, operand, does, example, .. } = self;
        format!(
            "Usage: entra-sidecar {name}{operand} [options]\n\n{name}: {does}.\n\nOptions:\n{options}  \
             and those of every command: entra-sidecar --help\n\nExample:\n  {example}"
        )
    }
}

/// The command and its settings.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Serve,
    Check { online: bool, all: bool },
    Healthcheck,
    OpenApi,
    Acquire(Acquisition),
    Validate { token: Source, explain: bool },
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
    crate::value::text::escape(&problem, &mut line);
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
    let (normal, help) = normalise(words).map_err(Stop::Usage)?;
    let normal: Vec<&str> = normal.iter().map(|word| word.as_str()).collect();
    // Every word was looked at already: nothing is left to be wrong.
    let words = Words::from_args(&["entra-sidecar"], &normal)
        .map_err(|_| Stop::Usage("expected a command and options".to_owned()))?;
    let mut given = words.command.iter().map(String::as_str);
    let named = given.next();
    let described = COMMANDS.iter().find(|known| known.name == named.unwrap_or("serve"));
    if help {
        return Err(Stop::Shown(described.filter(|_| named.is_some()).map_or_else(overview, Described::help)));
    }
    if words.version {
        return Err(Stop::Shown(format!("entra-sidecar {}", env!("CARGO_PKG_VERSION"))));
    }
    let known = || COMMANDS.map(|known| known.name).join(", ");
    let described = described.ok_or_else(|| Stop::Usage(format!("unknown command: expected one of {}", known())))?;
    let foreign = OWN.iter().find(|(name, .., given)| given(&words) && !described.own.contains(name));
    if let Some((name, ..)) = foreign {
        let owners: Vec<&str> = COMMANDS.iter().filter(|known| known.own.contains(name)).map(|own| own.name).collect();
        return Err(Stop::Usage(format!("--{name} belongs to {}", owners.join(" and "))));
    }
    let operand = given.next().map(str::to_owned);
    if given.next().is_some() || (operand.is_some() && described.operand.is_empty()) {
        return Err(Stop::Usage(format!(
            "too many arguments: expected entra-sidecar {}{}",
            described.name, described.operand
        )));
    }
    let command = match described.name {
        "check" => Command::Check { online: words.online, all: words.all },
        "healthcheck" => Command::Healthcheck,
        "openapi" => Command::OpenApi,
        "validate" => {
            Command::Validate { token: operand.as_deref().map_or(Source::Input, Source::named), explain: words.explain }
        }
        "token" | "header" => Command::Acquire(Acquisition {
            api: operand.ok_or_else(|| Stop::Usage(format!("expected an API: {} API", described.name)))?,
            user_token: words.user_token.last().map(|name| Source::named(name)),
            overrides: pairs("--override", words.overrides)?,
            output: match words.output.last() {
                Some(form) => Output::parse(form).map_err(Stop::Usage)?,
                None if described.name == "token" => Output::Token,
                None => Output::Header,
            },
        }),
        _ => Command::Serve,
    };
    let invocation = Invocation {
        config_file: words.config.into_iter().next_back(),
        environment: words.environment.into_iter().next_back(),
        urls: words.urls.into_iter().next_back(),
        settings: pairs("--set", words.set)?,
        variables: Vec::new(),
    };
    Ok((command, invocation))
}

/// What `--help` prints without a command.
fn overview() -> String {
    let options = Words::from_args(&["entra-sidecar"], &["--help"]).err().map_or_else(String::new, |exit| exit.output);
    let commands =
        COMMANDS.map(|Described { name, operand, does, .. }| format!("  {:<18}{does}\n", format!("{name}{operand}")));
    let options = options.split_once('\n').map_or("", |(_, rest)| rest);
    let commands = commands.concat();
    format!("Usage: entra-sidecar [command] [options]\n{options}\nCommands, each with a --help of its own:\n{commands}")
}

/// Words of the form KEY=VALUE.
fn pairs(option: &str, words: Vec<String>) -> Result<Vec<(String, Zeroizing<String>)>, Stop> {
    let pair = |word: String| {
        let (key, value) = word.split_once('=').filter(|(key, _)| !key.is_empty())?;
        Some((key.to_owned(), Zeroizing::new(value.to_owned())))
    };
    words
        .into_iter()
        .map(|word| pair(word).ok_or_else(|| Stop::Usage(format!("{option}: expected KEY=VALUE"))))
        .collect()
}

/// Turns every accepted spelling into `--option value` and `--set KEY=VALUE`, with plain words behind them, and says whether help
/// is wanted.
fn normalise(words: &[String]) -> Result<(Vec<Zeroizing<String>>, bool), String> {
    let (mut normal, mut plain, mut help) = (Vec::new(), Vec::new(), false);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, given) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
        let mut value =
            || given.or_else(|| words.next().map(String::as_str)).ok_or_else(|| format!("{name}: expected a value"));
        if let Some(option) = name.strip_prefix("--") {
            let lower = option.to_ascii_lowercase();
            match lower.as_str() {
                "config" | "environment" | "urls" | "set" | "user-token" | "override" | "output" => {
                    let value = value()?.to_owned();
                    normal.extend([Zeroizing::new(format!("--{lower}")), Zeroizing::new(value)]);
                }
                "help" if given.is_none() => help = true,
                "online" | "all" | "explain" | "version" if given.is_none() => {
                    normal.push(Zeroizing::new(format!("--{lower}")));
                }
                _ if is_key(option) => normal.extend(set(option, value()?)),
                _ => return Err(format!("unknown option {}", crate::value::text::quote(name))),
            }
        } else if let Some(key) = name.strip_prefix('/').filter(|key| is_key(key)) {
            normal.extend(set(key, value()?));
        } else if word == "-h" || (word == "help" && plain.is_empty()) {
            help = true;
        } else if word == "-V" {
            normal.push(Zeroizing::new("--version".to_owned()));
        } else if name != "-" && name.starts_with('-') {
            return Err(format!("{}: a key is given with two dashes, --KEY=VALUE", crate::value::text::quote(name)));
        } else if let Some(value) = given {
            if !is_key(name) {
                return Err(format!("unknown setting {}", crate::value::text::quote(name)));
            }
            normal.extend(set(name, value));
        } else {
            plain.push(Zeroizing::new(word.clone()));
        }
    }
    // What no option is to be taken for may look like one.
    normal.push(Zeroizing::new("--".to_owned()));
    normal.extend(plain);
    Ok((normal, help))
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
        assert!(COMMANDS.iter().all(|known| known.own.iter().all(|own| OWN.iter().any(|(name, ..)| name == own))));
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
