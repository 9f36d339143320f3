//! A sidecar process beside a tenant.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use base64::Engine as _;
pub use local_tenant::client::{Client, PATIENCE, Request, Response, eventually};
use local_tenant::directory::{APP_ID, APP_SECRET, TENANT_ID};
use local_tenant::{LocalTenant, Options};
use serde_json::Value;

use super::program::program;
use super::secrecy::leaked;

/// Settings by key, as they are given on the command line.
pub type Settings = BTreeMap<String, String>;

/// A tenant and the settings of a sidecar that uses it, with two APIs: `Down` for users, `App` for the application.
pub struct Scene {
    pub tenant: LocalTenant,
    pub settings: Settings,
}

impl Scene {
    pub fn new() -> Self {
        let tenant = LocalTenant::start(Options::default());
        let api = format!("{}/api/", tenant.base_url());
        let settings = [
            ("AzureAd:Instance", format!("{}/", tenant.base_url())),
            ("AzureAd:TenantId", TENANT_ID.to_owned()),
            ("AzureAd:ClientId", APP_ID.to_owned()),
            ("AzureAd:ClientCredentials:0:SourceType", "ClientSecret".to_owned()),
            ("AzureAd:ClientCredentials:0:ClientSecret", APP_SECRET.to_owned()),
            ("DownstreamApis:Down:BaseUrl", api.clone()),
            ("DownstreamApis:Down:Scopes", "api://downstream/read".to_owned()),
            ("DownstreamApis:App:BaseUrl", api),
            ("DownstreamApis:App:Scopes", "api://downstream/.default".to_owned()),
            ("DownstreamApis:App:RequestAppToken", "true".to_owned()),
            ("Logging:LogLevel:Default", "Trace".to_owned()),
            ("Logging:LogLevel:Access", "Information".to_owned()),
        ];
        Self { tenant, settings: settings.map(|(key, value)| (key.to_owned(), value)).into() }
    }

    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.settings.insert(key.to_owned(), value.to_owned());
        self
    }

    pub fn start(&self) -> Sidecar {
        self.start_with(&[])
    }

    /// With environment variables.
    pub fn start_with(&self, variables: &[(&str, &str)]) -> Sidecar {
        Sidecar::start(&self.settings, variables)
    }

    /// A user's token for the sidecar's own application.
    pub fn user(&self, name: &str) -> String {
        self.tenant.mint_user(name).token()
    }
}

/// A running process, which ends with this.
pub struct Sidecar {
    child: Child,
    pub address: SocketAddr,
    pub log: Arc<Mutex<Vec<String>>>,
    /// What came on standard output, which is nothing.
    pub output: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

/// The command without anything of this process's environment that would change what it does.
pub fn command() -> Command {
    let mut command = Command::new(program());
    command.env_clear().stdin(Stdio::null());
    command
}

/// A port that nobody listens at.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

impl Sidecar {
    pub fn start(settings: &Settings, variables: &[(&str, &str)]) -> Self {
        let mut command = command();
        command.envs(variables.iter().copied());
        command.args(["--urls", "http://127.0.0.1:0"]).stderr(Stdio::piped()).stdout(Stdio::piped());
        for (key, value) in settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (stderr, lines) = (child.stderr.take().unwrap(), Arc::clone(&log));
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let output = Arc::new(Mutex::new(String::new()));
        let (mut stdout, text) = (child.stdout.take().unwrap(), Arc::clone(&output));
        let other_reader = thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stdout.read_to_end(&mut bytes);
            text.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes));
        });
        // Whole before it is waited for, so that a process that never gets ready ends with its test.
        let mut sidecar =
            Self { child, address: (Ipv4Addr::LOCALHOST, 0).into(), log, output, readers: vec![reader, other_reader] };
        // The kernel chose the port, so that no other test's process can have it. Once ready, it has started all its threads.
        eventually("the sidecar is ready", || sidecar.log().iter().any(|line| line.ends_with(" is ready")));
        let log = sidecar.log();
        let told = log.iter().find_map(|line| line.split_once("listening on http://"));
        sidecar.address = told.unwrap().1.parse().unwrap();
        sidecar
    }

    /// Waits until it has signing keys.
    pub fn with_keys(self) -> Self {
        eventually("signing keys", || self.log().iter().any(|line| line.contains("signing keys from")));
        self
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().count()
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.pid().to_string()]).status().unwrap().success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub fn get(&self, target: &str) -> Response {
        Request::get(target).send(self.address)
    }

    pub fn get_as(&self, token: &str, target: &str) -> Response {
        Request::get(target).bearer(token).send(self.address)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        if !thread::panicking() {
            for line in self.log() {
                assert_eq!(leaked(&line), None, "a secret in the log: {line}");
            }
            assert_eq!(*self.output.lock().unwrap(), "", "nothing belongs on standard output");
        }
    }
}

/// The payload of a token, unverified.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}
