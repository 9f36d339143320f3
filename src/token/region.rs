//! The region whose token endpoint answers for applications: the configured one, or with `TryAutoDetect` the one
//! that the machine is in (protocol page, section 8.6).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::outbound::{Exchange, OutRequest, OutResponse, Upstream};

/// Where a virtual machine's metadata service is.
const METADATA: &str = "http://169.254.169.254";

/// The interface's version that is asked for first.
const VERSION: &str = "2021-02-01";

/// Of one question. It is on the machine, or it is not there.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The answer describes the whole machine.
const MAX_ANSWER: usize = 256 * 1024;

/// Tells regions. What the machine says, also nothing, holds as long as the process.
pub struct Regions {
    /// `REGION_NAME`.
    named: Option<String>,
    metadata: String,
    exchange: Arc<dyn Exchange>,
    found: OnceLock<Option<String>>,
}

impl Regions {
    /// Reads the environment; asks nothing yet.
    pub fn new(environment: impl Fn(&str) -> Option<String>, exchange: Arc<dyn Exchange>) -> Self {
        let variable = |name| environment(name).filter(|value| !value.is_empty());
        let host = variable("AZURE_POD_IDENTITY_AUTHORITY_HOST").unwrap_or_else(|| METADATA.to_owned());
        Self {
            named: variable("REGION_NAME"),
            metadata: format!("{}/metadata/instance/compute", host.trim_end_matches('/')),
            exchange,
            found: OnceLock::new(),
        }
    }

    /// The region for a setting. Where none is known the global endpoint answers.
    pub fn of(&self, configured: &str) -> Option<String> {
        if configured.eq_ignore_ascii_case("TryAutoDetect") {
            self.found.get_or_init(|| self.detect()).clone()
        } else {
            name(configured)
        }
    }

    fn detect(&self) -> Option<String> {
        let region = match &self.named {
            Some(named) => name(named),
            None => self.ask(),
        };
        match &region {
            Some(region) => log::info!("the region of this machine is {region}"),
            None => log::warn!("AzureRegion is TryAutoDetect, and this machine's region is not known"),
        }
        region
    }

    fn ask(&self) -> Option<String> {
        let mut answer = self.request(VERSION)?;
        if answer.status == 400 {
            let known: Value = serde_json::from_slice(&answer.body).ok()?;
            answer = self.request(known["newest-versions"][0].as_str().filter(|text| is_version(text))?)?;
        }
        let machine: Value = serde_json::from_slice(&answer.body).ok().filter(|_| answer.status == 200)?;
        name(machine["location"].as_str()?)
    }

    fn request(&self, version: &str) -> Option<OutResponse> {
        let request = OutRequest {
            upstream: Upstream::ManagedIdentity,
            method: "GET".to_owned(),
            url: format!("{}?api-version={version}", self.metadata),
            headers: vec![("metadata".to_owned(), Zeroizing::new("true".to_owned()))],
            body: None,
            timeout: TIMEOUT,
            max_body: MAX_ANSWER,
            pooled: true,
        };
        self.exchange.send(request).ok()
    }
}

/// A region's name, which becomes part of a host's: letters and digits alone.
fn name(text: &str) -> Option<String> {
    let name = text.replace(' ', "").to_ascii_lowercase();
    (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(name)
}

fn is_version(text: &str) -> bool {
    text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::outbound::OutError;

    /// Answers by version, and notes what it was asked.
    struct Machine(Mutex<Vec<String>>, fn(&str) -> (u16, &'static str));

    impl Exchange for Machine {
        fn send(&self, request: OutRequest) -> Result<OutResponse, OutError> {
            let (status, body) = (self.1)(request.url.rsplit('=').next().unwrap_or_default());
            self.0.lock().unwrap().push(request.url);
            match status {
                0 => Err(OutError::Timeout("2 s".into())),
                _ => Ok(OutResponse { status, headers: Vec::new(), body: body.as_bytes().to_vec() }),
            }
        }
    }

    fn regions(region_name: Option<&str>, answer: fn(&str) -> (u16, &'static str)) -> (Regions, Arc<Machine>) {
        let machine = Arc::new(Machine(Mutex::default(), answer));
        let environment = |name: &str| region_name.filter(|_| name == "REGION_NAME").map(str::to_owned);
        (Regions::new(environment, Arc::clone(&machine) as Arc<dyn Exchange>), machine)
    }

    #[test]
    fn a_region_is_configured_or_told_by_the_environment() {
        for (configured, told, expected) in [
            ("westus2", None, Some("westus2")),
            ("West US 2", None, Some("westus2")),
            ("TryAutoDetect", Some("West Europe"), Some("westeurope")),
            ("TryAutoDetect", Some("evil.example/"), None),
            ("evil.example/", None, None),
            ("", None, None),
        ] {
            let (regions, machine) = regions(told, |_| panic!("nobody is to be asked"));
            assert_eq!(regions.of(configured).as_deref(), expected, "{configured}");
            assert!(machine.0.lock().unwrap().is_empty());
        }
    }

    #[test]
    fn else_the_machine_is_asked_once_whatever_it_says() {
        type Case = (fn(&str) -> (u16, &'static str), Option<&'static str>, usize);
        let cases: [Case; 8] = [
            (|_| (200, r#"{"location":"westeurope"}"#), Some("westeurope"), 1),
            (|_| (200, r#"{"location":"a.b"}"#), None, 1),
            (|_| (200, r#"{"location":""}"#), None, 1),
            (|_| (200, "<html>"), None, 1),
            (|_| (404, r#"{"location":"westeurope"}"#), None, 1),
            (|_| (0, ""), None, 1),
            (
                |version| match version {
                    VERSION => (400, r#"{"newest-versions":["2099-01-01"]}"#),
                    _ => (200, r#"{"location":"westeurope"}"#),
                },
                Some("westeurope"),
                2,
            ),
            (|_| (400, r#"{"newest-versions":["1&x=/"]}"#), None, 1),
        ];
        for (answer, expected, requests) in cases {
            let (regions, machine) = regions(None, answer);
            for _ in 0..2 {
                assert_eq!(regions.of("tryautodetect").as_deref(), expected);
            }
            let asked = machine.0.lock().unwrap();
            assert_eq!(asked.len(), requests, "{asked:?}");
            assert_eq!(asked[0], "http://169.254.169.254/metadata/instance/compute?api-version=2021-02-01");
        }
    }
}
