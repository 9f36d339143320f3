//! The program's command line and configuration, driven from outside: what it says and how it exits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::path::Path;
use std::process::{Command, Output};

use program::program;
use tempfile::TempDir;

#[path = "sidecar/program.rs"]
mod program;

const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const CLIENT: &str = "22222222-2222-2222-2222-222222222222";

/// A working directory with these files, and the program in it with these variables and nothing else.
struct Sidecar {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

impl Sidecar {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), variables: Vec::new() }
    }

    /// With a tenant and a client in the environment.
    fn configured() -> Self {
        Self::new().variable("AzureAd__TenantId", TENANT).variable("AzureAd__ClientId", CLIENT)
    }

    fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.folder.path().join(name), text).unwrap();
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn run(&self, words: &[&str]) -> Answer {
        let mut command = Command::new(program());
        command.args(words).current_dir(self.folder.path()).env_clear();
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        Answer::from(command.output().unwrap())
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

struct Answer {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Answer {
    /// The line of `check` for a key, without it.
    fn shows(&self, key: &str) -> &str {
        let line = self.out.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        line.unwrap_or_else(|| panic!("{key} is not shown:\n{}{}", self.out, self.err))
    }
}

#[test]
fn a_good_configuration_exits_with_0() {
    let answer = Sidecar::configured().run(&["check"]);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
}

#[test]
fn a_wrong_command_line_exits_with_2_and_one_line() {
    for words in [
        &["launch"][..],
        &["--bogus"],
        &["check", "serve"],
        &["--config"],
        &["--set", "x"],
        &["-a=b"],
        &["serve", "--online"],
    ] {
        let answer = Sidecar::configured().run(words);
        assert_eq!(
            (answer.code, answer.err.lines().count(), answer.out.as_str()),
            (2, 1, ""),
            "{words:?} {}",
            answer.err
        );
    }
}

#[test]
fn help_and_version_need_no_configuration() {
    for words in [["--help"], ["--version"]] {
        let answer = Sidecar::new().run(&words);
        assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{words:?}");
        assert!(answer.out.contains("entra-sidecar"), "{}", answer.out);
    }
}

#[test]
fn a_missing_file_is_an_error_only_when_it_was_named() {
    let sidecar = Sidecar::configured();
    assert_eq!(sidecar.run(&["check"]).code, 0);
    let answer = sidecar.run(&["check", "--config", "absent.json"]);
    assert_eq!(answer.code, 1);
    assert!(answer.err.starts_with("entra-sidecar: absent.json: "), "{}", answer.err);
}

#[test]
fn every_problem_is_reported_at_once_on_a_line_of_its_own() {
    for command in ["serve", "check", "healthcheck"] {
        let sidecar = Sidecar::new()
            .variable("AzureAd__Instance", "not a url")
            .variable("AzureAd__SendX5C", "maybe")
            .variable("AzureAd__ClientCredentials__0__SourceType", "Magic")
            .variable("DownstreamApis__Graph__BaseUrl", "http://graph.example/")
            .variable("Sidecar__Limits__Workers", "0");
        let answer = sidecar.run(&[command]);
        assert_eq!(answer.code, 1);
        for key in [
            "AzureAd:TenantId", "AzureAd:ClientId", "AzureAd:Instance", "AzureAd:SendX5C",
            "AzureAd:ClientCredentials:0:SourceType", "DownstreamApis:Graph:BaseUrl", "Sidecar:Limits:Workers",
        ] {
            let start = format!("entra-sidecar: {key}: ");
            assert_eq!(answer.err.lines().filter(|line| line.starts_with(&start)).count(), 1, "{key}\n{}", answer.err);
        }
        assert_eq!(answer.err.lines().count(), 7, "{}", answer.err);
    }
}

#[test]
fn later_sources_win() {
    let key = "Sidecar:Limits:Connections";
    let json = |number: u32| format!("{{\"Sidecar\": {{\"Limits\": {{\"Connections\": {number}}}}}}}");
    let mut sidecar = Sidecar::configured();
    assert_eq!(sidecar.run(&["check", "--all"]).shows(key), "\"4096\" (default)");
    assert!(!sidecar.run(&["check"]).out.contains("(default)"), "what was said comes first");
    sidecar = sidecar.variable("ASPNETCORE_Sidecar__Limits__Connections", "1");
    assert_eq!(sidecar.run(&["check"]).shows(key), "\"1\" (environment)");
    sidecar = sidecar.file("appsettings.json", &json(2));
    assert_eq!(sidecar.run(&["check"]).shows(key), "\"2\" (appsettings.json)");
    sidecar = sidecar.file("appsettings.Staging.json", &json(3));
    assert_eq!(sidecar.run(&["check"]).shows(key), "\"2\" (appsettings.json)");
    sidecar = sidecar.variable("ASPNETCORE_ENVIRONMENT", "Staging");
    assert_eq!(sidecar.run(&["check"]).shows(key), "\"3\" (appsettings.Staging.json)");
    assert_eq!(sidecar.run(&["check", "--environment=Other"]).shows(key), "\"2\" (appsettings.json)");
    sidecar = sidecar.variable("SIDECAR__LIMITS__CONNECTIONS", "4");
    assert_eq!(sidecar.run(&["check"]).shows(key), "\"4\" (environment)");
    assert_eq!(sidecar.run(&["check", "--sidecar:limits:connections=5"]).shows(key), "\"5\" (command line)");
    assert_eq!(
        sidecar
            .run(&["--set", "Sidecar:Limits:Connections=5", "check", "--Sidecar__Limits__Connections", "6"])
            .shows(key),
        "\"6\" (command line)"
    );
}

#[test]
fn the_shipped_style_of_appsettings_is_read() {
    let sidecar = Sidecar::new().file(
        "appsettings.json",
        &format!(
            "\u{feff}{{\n  /* the tenant */ \"azuread\": {{\n    \"TENANTID\": \"{TENANT}\", // a comment\n    \"ClientId\": \"{CLIENT}\",\n  }},\n  \
             \"DownstreamApis\": {{ \"Graph\": {{ \"Scopes\": [\"User.Read\",], \"RequestAppToken\": false, }}, }},\n}}\n"
        ),
    );
    let answer = sidecar.run(&["check"]);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
    assert_eq!(answer.shows("DownstreamApis:Graph:Scopes:0"), "\"User.Read\" (appsettings.json)");
}

#[test]
fn errors_in_a_file_name_file_line_and_column() {
    for (text, position) in
        [("{\n  \"A\": }", "2:8"), ("{\n  \"A\": 1,\n  \"a\": 2\n}", "3:"), ("[]", "1:"), ("{ /*", "1:3")]
    {
        // Nothing is said of what the file might have set.
        let answer = Sidecar::new().file("appsettings.json", text).run(&["check"]);
        assert_eq!((answer.code, answer.err.lines().count()), (1, 1), "{text}: {}", answer.err);
        assert!(
            answer.err.starts_with(&format!("entra-sidecar: appsettings.json:{position}")),
            "{text}: {}",
            answer.err
        );
    }
}

#[test]
fn check_tells_each_api_by_flow_registration_and_scopes() {
    let sidecar = Sidecar::configured().file(
        "appsettings.json",
        r#"{ "Partner": { "TenantId": "contoso.com", "ClientId": "33333333-3333-4333-8333-333333333333" },
             "DownstreamApis": {
               "Graph": { "Scopes": "User.Read Mail.Read" },
               "App": { "Scopes": "api://x/.default", "RequestAppToken": true,
                        "AcquireTokenOptions": { "AuthenticationOptionsName": "Partner" } },
               "Bound": { "Scopes": "api://x/.default", "RequestAppToken": true,
                          "AcquireTokenOptions": { "AuthenticationScheme": "PoP" } },
               "Machine": { "Scopes": "api://x", "AcquireTokenOptions": { "ManagedIdentity": {} } },
               "Job": { "Scopes": "api://x/y", "AcquireTokenOptions": { "LongRunningWebApiSessionKey": "job" } },
               "None": {} } }"#,
    );
    let answer = sidecar.run(&["check"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    for line in [
        "Graph: on-behalf-of (client credentials on unauthenticated endpoints); registration AzureAd; scopes User.Read Mail.Read",
        "App: client credentials; registration Partner; scopes api://x/.default",
        "Bound: client credentials, bound to a key (PoP); registration AzureAd; scopes api://x/.default",
        "Machine: managed identity of this machine; registration AzureAd; scopes api://x",
        "Job: long-running session; registration AzureAd; scopes api://x/y",
    ] {
        assert!(answer.out.contains(&format!("DownstreamApis:{line}\n")), "{line}\n{}", answer.out);
    }
}

#[test]
fn a_named_file_has_its_overlay_beside_it() {
    let sidecar = Sidecar::configured();
    let folder = sidecar.path().join("etc");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("appsettings.json"), "{}").unwrap();
    std::fs::write(folder.join("appsettings.Production.json"), "{\"Sidecar\": {\"Metrics\": false}}").unwrap();
    let answer = sidecar.run(&["check", "--config", "etc/appsettings.json"]);
    assert!(answer.shows("Sidecar:Metrics").starts_with("\"False\""), "{}", answer.out);
}

#[test]
fn a_secret_is_shown_nowhere() {
    let secret = "hunter2-hunter2";
    let shown = |sidecar: &Sidecar, words: &[&str]| {
        let answer = sidecar.run(words);
        assert!(
            !answer.out.contains(secret) && !answer.err.contains(secret),
            "{words:?}\n{}{}",
            answer.out,
            answer.err
        );
        answer.code
    };
    let sidecar = Sidecar::configured()
        .variable("AzureAd__ClientCredentials__0__SourceType", "ClientSecret")
        .variable("AzureAd__ClientCredentials__0__ClientSecret", secret)
        .variable("AzureAd__ClientCredentials__0__ClientSecrt", secret)
        .variable("DownstreamApis__X__ExtraHeaderParameters__Api-Key", secret)
        .variable("DownstreamApis__X__BaseUrl", &format!("https://host.example/api?code={secret}"))
        .variable("DownstreamApis__X__RelativePath", &format!("me?sig={secret}"));
    assert_eq!(shown(&sidecar, &["check"]), 0);
    let both = Sidecar::configured()
        .variable("AzureAd__ClientSecret", secret)
        .variable("AzureAd__ClientCredentials__0__ClientSecret", secret)
        .variable("AzureAd__ClientCredentials__0__CertificateDiskPath", "x")
        .variable("DownstreamApis__X__ExtraHeaderParameters__Bad Name", secret)
        .variable("DownstreamApis__X__BaseUrl", &format!("host.example/api?code={secret}"))
        .variable("DownstreamApis__X__RelativePath", &format!("../me?sig={secret}"))
        .variable("DownstreamApis__X__ExtraHeaderParameters__Line", &format!("{secret}\n{secret}"));
    assert_eq!(shown(&both, &["check"]), 1);
    let set = format!("AzureAd:ClientSecret={secret}");
    assert_eq!(shown(&Sidecar::configured(), &["check", "--set", &set]), 0);
    for words in [&["--set", secret][..], &[secret], &["check", secret], &["-x=hunter2-hunter2"]] {
        assert_eq!(shown(&Sidecar::configured(), words), 2);
    }
}

#[test]
fn a_proxy_that_is_no_url_stops_start_and_check() {
    for (variable, value) in [
        ("HTTPS_PROXY", "http://proxy.corp:notaport"),
        ("https_proxy", "http://user:hunter2@proxy.corp:65536"),
        ("HTTP_PROXY", "proxy.corp:70000"),
        ("ALL_PROXY", "socks5://proxy.corp"),
    ] {
        let sidecar = Sidecar::configured().variable(variable, value).variable("URLS", "http://127.0.0.1:0");
        for command in ["serve", "check"] {
            let answer = sidecar.run(&[command]);
            let start = format!("entra-sidecar: {variable}: expected ");
            assert_eq!((answer.code, answer.err.lines().count()), (1, 1), "{value} {}", answer.err);
            assert!(answer.err.starts_with(&start) && !answer.err.contains("hunter2"), "{}", answer.err);
        }
    }
    for value in ["proxy.corp:3128", "http://proxy.corp:3128/", "https://user:pw@proxy.corp"] {
        let answer = Sidecar::configured().variable("HTTPS_PROXY", value).run(&["check"]);
        assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{value}");
    }
}

#[test]
fn a_caller_token_file_that_admits_nobody_is_a_problem_of_check() {
    let sidecar = Sidecar::configured().file("empty", "\n").file("good", "\u{feff}secret\r\n");
    std::fs::create_dir(sidecar.path().join("folder")).unwrap();
    for (file, reason) in [("absent", "No such file"), ("empty", "is empty"), ("folder", "not a file")] {
        let answer = sidecar.run(&["check", "--set", &format!("Sidecar:CallerTokenFile={file}")]);
        assert_eq!(answer.code, 1, "{file}");
        assert!(
            answer.err.starts_with(&format!("entra-sidecar: Sidecar:CallerTokenFile: {file}: {reason}")),
            "{}",
            answer.err
        );
    }
    assert_eq!(sidecar.run(&["check", "--set", "Sidecar:CallerTokenFile=good"]).code, 0);
    for command in ["serve", "check"] {
        let answer = sidecar.run(&[command, "--set", "Sidecar:CallerTokenFile= "]);
        assert_eq!(answer.code, 1);
        assert!(answer.err.starts_with("entra-sidecar: Sidecar:CallerTokenFile: is blank"), "{}", answer.err);
    }
}

#[test]
fn a_broken_certificate_of_a_bundle_is_a_warning() {
    let root = include_str!("data/tls/root.pem");
    let broken = root.replacen("MII", "!!!", 1);
    let line = root.lines().count() + 1;
    let sidecar = Sidecar::configured().file("roots.pem", &format!("\u{feff}{root}{broken}"));
    let answer = sidecar.variable("SSL_CERT_FILE", "roots.pem").run(&["check"]);
    assert_eq!(answer.code, 0);
    assert!(answer.err.starts_with(&format!("entra-sidecar: warning: roots.pem:{line}: ")), "{}", answer.err);
}

#[test]
fn an_api_that_would_refuse_every_request_is_a_warning() {
    for (key, value, reason) in [
        ("Scopes", "User.Read", "needs a single scope that ends in '/.default'"),
        ("AcquireTokenOptions__Tenant", "consumers", "is issued by one tenant"),
        ("AcquireTokenOptions__AuthenticationScheme", "PoP", "DownstreamApis:X:BaseUrl is not configured"),
    ] {
        let answer = Sidecar::configured()
            .variable("DownstreamApis__X__RequestAppToken", "true")
            .variable("DownstreamApis__X__Scopes", "api://x/.default")
            .variable(&format!("DownstreamApis__X__{key}"), value)
            .run(&["check"]);
        assert_eq!(answer.code, 0);
        let start = "entra-sidecar: warning: DownstreamApis:X: every request without overrides is refused: ";
        assert!(answer.err.starts_with(start) && answer.err.contains(reason), "{}", answer.err);
    }
}

#[test]
fn an_api_that_refuses_every_request_is_a_problem() {
    let closed = |scopes: &str| {
        let all =
            ["GetAuthorizationHeader", "CallDownstreamApi"].map(|name| format!("Sidecar__AllowOverrides__{name}"));
        let sidecar = Sidecar::configured()
            .variable("DownstreamApis__X__RequestAppToken", "true")
            .variable("DownstreamApis__X__Scopes", scopes);
        all.iter().fold(sidecar, |sidecar, name| {
            sidecar.variable(name, "false").variable(&format!("{name}Unauthenticated"), "false")
        })
    };
    for scopes in ["", "User.Read"] {
        let answer = closed(scopes).run(&["check"]);
        assert_eq!(answer.code, 1);
        let start = "entra-sidecar: DownstreamApis:X: every request without overrides is refused: ";
        assert!(answer.err.starts_with(start), "{}", answer.err);
        assert!(answer.out.contains("DownstreamApis:X: client credentials; "), "{}", answer.out);
    }
    assert_eq!(closed("api://x/.default").run(&["check"]).code, 0);
}

#[test]
fn urls_that_name_no_address_stop_the_start() {
    let answer = Sidecar::configured().run(&["--urls", ";"]);
    assert_eq!(answer.code, 1);
    assert!(answer.err.starts_with("entra-sidecar: urls: names no address: expected http://"), "{}", answer.err);
}

#[test]
fn an_unknown_key_is_a_warning_with_the_nearest_known_one() {
    let answer = Sidecar::configured().variable("AzureAd__TenentId", "x").run(&["check"]);
    assert_eq!(answer.code, 0);
    assert_eq!(
        answer.err,
        "entra-sidecar: warning: AzureAd:TenentId: unknown key, ignored; the nearest known one is AzureAd:TenantId\n"
    );
}

#[test]
fn nobody_reading_the_output_is_no_failure() {
    let sidecar = Sidecar::configured();
    let mut command = Command::new("/bin/sh");
    let line = format!("'{}' check 2>&- | true; '{0}' --help >&-", program().display());
    command.args(["-c", &line]).current_dir(sidecar.path()).env_clear();
    command.envs(sidecar.variables.iter().map(|(name, value)| (name, value)));
    assert!(command.status().unwrap().success());
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let sidecar = Sidecar::configured();
    for words in [&["check"][..], &["openapi"], &["--help"], &["--version"]] {
        let mut command = Command::new(program());
        command.args(words).current_dir(sidecar.path()).env_clear();
        command.envs(sidecar.variables.iter().map(|(name, value)| (name, value)));
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {err}");
        assert_eq!(err, "entra-sidecar: standard output: No space left on device (os error 28)\n", "{words:?}");
    }
}

#[test]
fn a_taken_address_stops_the_start_and_names_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    let answer = Sidecar::configured().run(&["--urls", &url]);
    assert_eq!(answer.code, 1);
    // The words between are the C library's.
    let start = format!("entra-sidecar: urls: {url}: Address ");
    let end = "in use (os error 98): another program listens there\n";
    assert!(answer.err.starts_with(&start) && answer.err.ends_with(end), "{}", answer.err);
}

#[test]
fn the_healthcheck_of_a_sidecar_that_does_not_run_fails() {
    let sidecar = Sidecar::configured();
    let socket = format!("unix:{}", sidecar.path().join("s.sock").display());
    let answer = sidecar.run(&["healthcheck", "--urls", &socket]);
    assert_eq!((answer.code, answer.err.lines().count()), (1, 1), "{}", answer.err);
}

#[test]
fn a_credential_that_needs_the_network_is_not_called_usable() {
    for (kind, said) in
        [("SignedAssertionFromManagedIdentity", "not tried, needs the network"), ("ClientSecret", "usable")]
    {
        let answer = Sidecar::configured()
            .variable("AzureAd__ClientCredentials__0__SourceType", kind)
            .variable("AzureAd__ClientCredentials__0__ClientSecret", if kind == "ClientSecret" { "s" } else { "" })
            .run(&["check"]);
        let line = format!("AzureAd:ClientCredentials:0 ({kind}): {said}\n");
        assert!(answer.out.contains(&line), "{}{}", answer.out, answer.err);
    }
}
