//! The manifests of deploy/ set what the program knows.

use std::fs;
use std::path::{Path, PathBuf};

use super::support::{Scene, command};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

pub fn read(path: &str) -> String {
    fs::read_to_string(deploy(path)).unwrap()
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
        [("kubernetes/native-sidecar.yaml", 8), ("docker-compose.yaml", 10), ("systemd/entra-sidecar.service", 1)]
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

#[cfg(feature = "shared-cache")]
#[test]
fn the_settings_of_the_shared_cache_are_known_and_good() {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for name in ["key", "shared-cache-key"] {
        fs::write(scratch.join(name), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    }
    for file in ["kubernetes/shared-cache.yaml", "docker-compose.shared-cache.yaml"] {
        let variables = variables(&read(file));
        assert_eq!(variables.len(), 2, "{file}: {variables:?}");
        let mut check = command();
        check.arg("check").envs(variables.into_iter().map(|(key, value)| (key, mounted(&value))));
        check.envs([("AzureAd__TenantId", "common"), ("AzureAd__ClientId", "00000000-0000-4000-8000-000000000002")]);
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

#[test]
fn the_settings_file_of_the_package_is_known_and_good() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/debian/appsettings.json");
    assert_good("debian/appsettings.json", command().arg("check").arg("--config").arg(file));
}

/// The image presets a port, which manifests may say otherwise without a word in the log.
#[test]
fn the_image_listens_where_it_says() {
    let image = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Dockerfile.scratch")).unwrap();
    let line = |start: &str| image.lines().rev().find_map(|line| line.strip_prefix(start)).unwrap();
    let preset = line("ENV ").strip_prefix("ASPNETCORE_HTTP_PORTS=").unwrap();
    assert_eq!(line("EXPOSE "), preset);
    let scene = Scene::new().with("Sidecar:AllowedCallers", "10.0.0.0/8");
    let sidecar = scene.start_with(&[("ASPNETCORE_HTTP_PORTS", preset)]);
    sidecar.get("/AuthorizationHeaderUnauthenticated/App").expect(200);
    assert!(!sidecar.log().iter().any(|line| line.contains("HTTP_PORTS") || line.contains("http_ports")));
}

/// A size or a number of a manifest, as bytes.
fn amount(text: &str, name: &str) -> u64 {
    let (_, rest) = text.split_once(&format!("Sidecar__Limits__{name}\n")).unwrap();
    let value = rest.lines().next().unwrap().trim().strip_prefix("value: ").unwrap().trim_matches('"');
    match value.strip_suffix("MiB") {
        Some(mebibytes) => mebibytes.parse::<u64>().unwrap() << 20,
        None => value.parse().unwrap(),
    }
}

#[test]
fn the_limits_of_the_manifest_fit_its_memory() {
    let manifest = read("kubernetes/native-sidecar.yaml");
    let amount = |name| amount(&manifest, name);
    let program = 6 << 20;
    let connections = (amount("Connections") + amount("UpstreamCalls")) * (64 << 10);
    let most = program
        + 2 * amount("TokenCacheBytes")
        + amount("BodyMemory")
        + connections
        + amount("ValidatedTokens") * (3 << 10);
    assert!(manifest.contains(&format!("{} MiB. Usual", most.div_ceil(1 << 20))), "the comment says {most}");
    let (_, limit) = manifest.split_once("limits:\n              memory: ").unwrap();
    let limit: u64 = limit.lines().next().unwrap().strip_suffix("Mi").unwrap().parse().unwrap();
    assert!(most < limit << 20);
}
