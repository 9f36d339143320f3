//! Detects the Azure region for `AzureRegion=TryAutoDetect`. Nothing waits for the result: without
//! one, the global endpoint serves.
//! <https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service>

use std::sync::{Arc, Once, OnceLock};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::credentials::managed_identity::imds;
use crate::outbound::{Exchange, OutRequest, OutResponse, Upstream};
use crate::value::url::Url;

/// Of the metadata service's API. A host that does not support it lists its own versions.
const VERSION: &str = "2021-02-01";

/// A metadata service answers within milliseconds.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes; a machine's description takes a few kilobytes.
const MAX_ANSWER: usize = 256 * 1024;

pub struct Region {
    /// The metadata service, or the error in the variable that names it.
    service: Result<String, String>,
    found: Arc<OnceLock<String>>,
    asked: Once,
}

impl Region {
    /// `REGION_NAME` makes the request unnecessary.
    pub fn new(environment: impl Fn(&str) -> Option<String>) -> Self {
        let found = OnceLock::new();
        if let Some(name) = environment("REGION_NAME").filter(|name| !name.is_empty()) {
            found.get_or_init(|| name);
        }
        let service = imds(environment).map(|url| url.with_path("/metadata/instance/compute").to_string());
        Self { service, found: Arc::new(found), asked: Once::new() }
    }

    pub fn name(&self) -> Option<&str> {
        self.found.get().map(String::as_str)
    }

    pub fn find(&self, exchange: &Arc<dyn Exchange>) {
        if self.name().is_some() {
            return;
        }
        self.asked.call_once(|| {
            let (service, found, exchange) = (self.service.clone(), Arc::clone(&self.found), Arc::clone(exchange));
            let find = move || match service.and_then(|service| ask(&service, &*exchange)) {
                Ok(name) => {
                    log::info!("detected the region {name:?}");
                    found.get_or_init(|| name);
                }
                Err(reason) => log::warn!("failed to detect the region, using the global endpoint: {reason}"),
            };
            if let Err(error) = thread::Builder::new().name("region".to_owned()).spawn(find) {
                log::error!("failed to start the thread that detects the region: {error}");
            }
        });
    }
}

/// Asks with the preferred version, then with the host's newest one if it lists that.
fn ask(service: &str, exchange: &dyn Exchange) -> Result<String, String> {
    let mut answer = send(service, VERSION, exchange)?;
    if answer.status == 400
        && let Some(newest) = newest(&answer.body)
    {
        answer = send(service, &newest, exchange)?;
    }
    if answer.status != 200 {
        return Err(format!("the metadata service answered {}", answer.status));
    }
    let machine: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let location = machine["location"].as_str().filter(|name| !name.is_empty());
    location.map(str::to_owned).ok_or_else(|| "the metadata service sent no location".to_owned())
}

/// The first of `newest-versions`, if well formed.
fn newest(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let version = body["newest-versions"].get(0)?.as_str()?;
    version.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-').then(|| version.to_owned())
}

fn send(service: &str, version: &str, exchange: &dyn Exchange) -> Result<OutResponse, String> {
    let url = Url::parse(&format!("{service}?api-version={version}"))?;
    let request = OutRequest::new(Upstream::ManagedIdentity, "GET", url, TIMEOUT, MAX_ANSWER);
    exchange.send(request.header("metadata", "true")).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::outbound::HeaderFields;
    use crate::outbound::OutError;

    struct Machine {
        asked: Mutex<Vec<String>>,
        answers: Mutex<Vec<(u16, &'static str)>>,
    }

    impl Exchange for Machine {
        fn send(&self, request: OutRequest) -> Result<OutResponse, OutError> {
            assert_eq!((&*request.headers[0].0, &**request.headers[0].1), ("metadata", &b"true"[..]));
            self.asked.lock().unwrap().push(request.url.to_string());
            let (status, body) = self.answers.lock().unwrap().remove(0);
            Ok(OutResponse { status, headers: HeaderFields::default(), body: body.into() })
        }
    }

    fn asked(answers: &[(u16, &'static str)]) -> (Result<String, String>, Vec<String>) {
        let machine = Machine { asked: Mutex::default(), answers: Mutex::new(answers.to_vec()) };
        let region = ask("http://169.254.169.254/metadata/instance/compute", &machine);
        let versions = machine.asked.into_inner().unwrap();
        (region, versions.iter().map(|url| url.rsplit('=').next().unwrap().to_owned()).collect())
    }

    #[test]
    fn the_machine_tells_its_location() {
        let (region, versions) = asked(&[(200, r#"{"location":"westeurope"}"#)]);
        assert_eq!((region.as_deref(), &versions[..]), (Ok("westeurope"), &["2021-02-01".to_owned()][..]));
    }

    #[test]
    fn a_host_of_another_version_is_asked_in_its_own() {
        let other = r#"{"error":"Bad request.","newest-versions":["2030-01-01","2029-01-01"]}"#;
        let (region, versions) = asked(&[(400, other), (200, r#"{"location":"a"}"#)]);
        assert_eq!((region.as_deref(), versions[1].as_str()), (Ok("a"), "2030-01-01"));
    }

    #[test]
    fn what_tells_no_location_is_no_region() {
        for answer in [
            (400, ""),
            (400, r#"{"newest-versions":[]}"#),
            (400, r#"{"newest-versions":["2&x=y"]}"#),
            (404, r#"{"location":"a"}"#),
            (200, "{}"),
            (200, r#"{"location":""}"#),
            (200, "<html>"),
        ] {
            assert!(asked(&[answer]).0.is_err(), "{answer:?}");
        }
    }
}
