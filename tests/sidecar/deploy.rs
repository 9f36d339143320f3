//! What lies in deploy/ names metrics and settings that exist.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::support::{Scene, command};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(deploy(path)).unwrap()
}

/// The words of a text that may be names of metrics.
fn metrics_in(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("entra_sidecar_") || word.starts_with("process_"))
}

/// What a label is compared with.
fn matched<'a>(text: &'a str, label: &str) -> impl Iterator<Item = &'a str> {
    let label = label.to_owned();
    text.match_indices(['{', ',']).filter_map(move |(at, _)| {
        let rest = text[at + 1..].strip_prefix(label.as_str())?.trim_start_matches(['=', '!', '~']);
        rest.strip_prefix('"')?.split('"').next()
    })
}

#[test]
fn dashboard_and_alerts_use_metrics_that_exist() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let metrics = sidecar.get("/metrics").expect(200).body;
    let types: Vec<(&str, &str)> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let exists = |name: &str| {
        types.iter().any(|(own, kind)| {
            let part = |suffix: &str| name.strip_suffix(suffix) == Some(*own);
            if *kind == "histogram" { ["_bucket", "_sum", "_count"].into_iter().any(part) } else { name == *own }
        })
    };
    for file in ["prometheus/alerts.yaml", "grafana/entra-sidecar.json"] {
        let text = read(file);
        let named: Vec<&str> = text
            .lines()
            // An alert's prose may name the family of a histogram.
            .filter(|line| !line.trim_start().starts_with("description:"))
            .flat_map(metrics_in)
            .collect();
        let unknown: Vec<_> = named.iter().filter(|name| !exists(name)).collect();
        assert!(unknown.is_empty() && named.len() > 8, "{file}: {unknown:?}");
        // A misspelt value of a label selects nothing, for ever.
        let text = text.replace("\\\"", "\"");
        for label in ["kind", "outcome", "result", "state"] {
            for values in matched(&text, label) {
                for value in values.split('|') {
                    assert!(metrics.contains(&format!("{label}=\"{value}\"")), "{file}: {label}={value}");
                }
            }
        }
    }
    let dashboard: Value = serde_json::from_str(&read("grafana/entra-sidecar.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.iter().all(|panel| panel["targets"][0]["expr"].is_string()), "a panel shows nothing");
}

/// The variables that a manifest sets for the sidecar: `- name: KEY` above `value: VALUE`, or `KEY: VALUE`, or `Environment=KEY=VALUE`.
fn variables(text: &str) -> Vec<(String, String)> {
    let plain = |text: &str| text.trim().trim_matches('"').to_owned();
    let mut name = None;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with("# ") || line.contains(": \"")) {
        let line = line.trim_start_matches("# ");
        if let Some(key) = line.strip_prefix("- name: ") {
            name = Some(plain(key));
        } else if let Some(value) = line.strip_prefix("value: ") {
            found.extend(name.take().map(|name| (name, plain(value))));
        } else if let Some((key, value)) = line.strip_prefix("Environment=").and_then(|line| line.split_once('=')) {
            found.push((plain(key), plain(value)));
        } else if let Some((key, value)) = line.split_once(": ") {
            found.push((plain(key), plain(value)));
        }
    }
    found.retain(|(key, _)| key.contains("__") || ["ASPNETCORE_URLS", "AllowedHosts"].contains(&key.as_str()));
    // `${NAME:-default}` of compose files.
    for (_, value) in &mut found {
        if let Some((_, default)) = value.clone().strip_suffix('}').and_then(|text| text.split_once(":-")) {
            default.clone_into(value);
        }
    }
    found
}

/// A stand-in for a file that is mounted there.
fn mounted(path: &str) -> String {
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/local-tenant/keys");
    match path {
        "/certificate/tls.crt" => format!("{keys}/client-1.crt.pem"),
        "/certificate/tls.key" => format!("{keys}/client-1.pem"),
        path if path.starts_with("/run/secrets/") || path.starts_with("/var/run/secrets/") => {
            format!("{}/{}", env!("CARGO_TARGET_TMPDIR"), path.rsplit('/').next().unwrap())
        }
        other => other.to_owned(),
    }
}

fn assert_good(file: &str, check: &mut std::process::Command) {
    let output = check.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !told.contains("warning"), "{file}: {told}");
}

#[test]
fn the_settings_of_every_manifest_are_known_and_good() {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/local-tenant/keys");
    let pem = |name: &str| fs::read_to_string(keys.join(name)).unwrap();
    fs::write(scratch.join("certificate"), pem("client-1.crt.pem") + &pem("client-1.pem")).unwrap();
    fs::write(scratch.join("sidecar-token"), "a shared secret").unwrap();
    let token = Scene::new().user("alice");
    fs::write(scratch.join("azure-identity-token"), token).unwrap();
    for (file, least) in
        [("kubernetes/native-sidecar.yaml", 8), ("docker-compose.yaml", 11), ("systemd/entra-sidecar.service", 1)]
    {
        let variables = variables(&read(file));
        assert!(variables.len() >= least, "{file}: {variables:?}");
        let mut check = command();
        check.arg("check").envs(variables.into_iter().map(|(key, value)| (key, mounted(&value))));
        if file.starts_with("systemd") {
            // Its settings are a file that the operator writes.
            check
                .envs([("AzureAd__TenantId", "common"), ("AzureAd__ClientId", "00000000-0000-4000-8000-000000000002")]);
        }
        assert_good(file, &mut check);
    }
}

#[test]
fn the_settings_file_of_the_classic_manifest_is_known_and_good() {
    let manifest = read("kubernetes/classic-sidecar.yaml");
    let (_, rest) = manifest.split_once("appsettings.json: |\n").unwrap();
    let (json, _) = rest.split_once("---").unwrap();
    let mut json = json.to_owned();
    for path in ["/certificate/tls.crt", "/certificate/tls.key"] {
        assert!(json.contains(path));
        json = json.replace(path, &mounted(path));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("appsettings.json");
    fs::write(&file, json).unwrap();
    assert_good("classic-sidecar.yaml", command().arg("check").arg("--config").arg(&file));
}
