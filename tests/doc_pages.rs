//! What the pages say can be followed: links lead to a file and a heading, and settings have the names of the table.

#![expect(clippy::unwrap_used, reason = "what cannot be read is a failed test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Each page with its text, blocks of code left out.
fn pages() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for folder in ["", "docs", "docs/examples", "deploy"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = prose(&std::fs::read_to_string(&path).unwrap());
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 12, "the pages are not where they were");
    found
}

fn prose(text: &str) -> String {
    let mut inside = false;
    let kept = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    kept.collect::<Vec<_>>().join("\n")
}

/// The targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

/// The names by which sites render the headings of a page as anchors.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut broken = Vec::new();
    for (page, text) in pages() {
        for target in links(&text).filter(|target| !target.contains("://") && !target.starts_with("mailto:")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            let there = match anchor {
                "" => path.exists(),
                _ => std::fs::read_to_string(&path).is_ok_and(|text| anchors(&prose(&text)).contains(anchor)),
            };
            if !there {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The spans of code in a text that name a setting, up to its value.
fn settings(text: &str) -> impl Iterator<Item = &str> {
    let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    spans.map(|span| span.split(['=', ' ']).next().unwrap_or_default()).filter(|key| {
        ["AzureAd:", "DownstreamApis:", "Sidecar:", "Logging:", "Kestrel:"].iter().any(|ours| key.starts_with(ours))
    })
}

/// Whether a key, or a section where it ends early or in `*`, stands in the table; an index, a name or `…` fits anything.
fn known(key: &str, table: &[Vec<&str>]) -> bool {
    let named: Vec<&str> = key.split(':').filter(|part| !part.is_empty()).collect();
    table.iter().any(|row| {
        named.len() <= row.len()
            && named
                .iter()
                .zip(row)
                .all(|(named, known)| *known == "*" || *named == "*" || named.contains('…') || named == known)
    })
}

#[test]
fn every_setting_has_the_name_of_the_table() {
    let documentation = entra_sidecar::internal::config::documentation();
    let keys = documentation.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let table: Vec<Vec<&str>> = keys.map(|key| key.split(':').collect()).collect();
    assert!(
        known("Sidecar:Limits:Workers", &table) && !known("Sidecar:Limits:Worker", &table),
        "the table is not read"
    );
    let mut strange = Vec::new();
    for (page, text) in pages() {
        strange
            .extend(settings(&text).filter(|key| !known(key, &table)).map(|key| format!("{}: {key}", page.display())));
    }
    assert!(strange.is_empty(), "{strange:#?}");
}

#[test]
fn the_sdks_named_are_the_versions_that_are_run() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let (page, script) = (read("docs/sdk.md"), read("scripts/clients.sh"));
    let table = page.split("## Versions").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    let named: Vec<[&str; 2]> = rows.map(|row| [1, 2].map(|at| row.split('|').nth(at).unwrap().trim())).collect();
    assert!(named.len() > 5, "the table is not read");
    for [sdk, version] in named {
        let name = sdk.split(' ').next().unwrap();
        let run = ["==", "@"].map(|sign| format!("{name}{sign}{version}"));
        assert!(run.iter().any(|package| script.contains(package.as_str())), "{sdk} {version}");
    }
}

#[test]
fn the_recipes_remove_the_clients_identity() {
    let page = std::fs::read_to_string(root().join("docs/reverse-proxy.md")).unwrap();
    let named = ["Subject", "Object-Id", "Tenant", "Client", "Name", "User", "Scopes", "Roles", "Kind"];
    let nginx =
        named.map(|name| format!("proxy_set_header X-Auth-{name} $auth_{};", name.to_lowercase().replace('-', "_")));
    let caddy = format!("copy_headers X-Auth-{}", named.join(" X-Auth-"));
    for (proxy, parts) in [
        ("nginx", nginx.each_ref().map(String::as_str).as_slice()),
        ("nginx", &["X-Auth-Claims \"\"", "X-Sidecar-Options \"\"", "underscores_in_headers off", "Host localhost"]),
        ("Caddy 2", &["request_header -X-Auth*", "request_header -X_Auth*", "header_up Host localhost", &caddy]),
        ("HAProxy", &["del-header x-auth -m beg", "del-header x_auth -m beg", "[\"host\"] = { \"localhost\" }"]),
        ("Traefik", &["(?i)^X[-_]Auth", "http://localhost:5000/ForwardAuth?", "authRequestHeaders: [Authorization]"]),
        (
            "Envoy",
            &["key_matcher: { prefix: x-auth,", "key_matcher: { prefix: x_auth,", "host_rewrite_literal: localhost"],
        ),
    ] {
        let section = page.split(&format!("\n## {proxy}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
        for part in parts {
            assert!(section.contains(part), "{proxy}: {part}");
        }
    }
    assert!(page.contains("treat a request without `X-Auth-Kind` as one without identity"));
}
