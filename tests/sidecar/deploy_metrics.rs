//! The dashboard and the alerts of deploy/ select series that a running sidecar has.

use std::collections::BTreeMap;

use serde_json::Value;

use super::deploy::read;
use super::support::Scene;

/// Labels that Prometheus itself gives.
const SCRAPED: [&str; 2] = ["job", "instance"];

type Labels<'a> = BTreeMap<&'a str, &'a str>;

/// The name and the matchers at the start of a text. No value of theirs contains a comma or a brace.
fn selector(text: &str) -> (&str, Vec<&str>) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let inner = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inner, _)| inner);
    (name, inner.split(',').filter(|part| !part.is_empty()).collect())
}

/// What stands where a metric of ours is named.
fn selectors(expression: &str) -> Vec<(&str, Vec<&str>)> {
    let mut starts: Vec<usize> = ["entra_sidecar_", "process_"]
        .iter()
        .flat_map(|prefix| expression.match_indices(prefix))
        .map(|it| it.0)
        .collect();
    starts.sort_unstable();
    starts.into_iter().map(|at| selector(&expression[at..])).collect()
}

/// The series of a scrape, by name.
fn series(metrics: &str) -> BTreeMap<&str, Vec<Labels<'_>>> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (series, _value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
        // A template's braces may be at the end of a value, but a quote follows them.
        let labels = labels.split("\",").filter_map(|label| label.trim_end_matches('"').split_once("=\""));
        found.entry(name).or_default().push(labels.collect());
    }
    found
}

/// A value, or as in `5..` with a dot for any character.
fn fits(pattern: &str, value: &str) -> bool {
    pattern.len() == value.len() && pattern.bytes().zip(value.bytes()).all(|(own, other)| own == b'.' || own == other)
}

/// Label names in `by (a, b)`, `{{a}}` and `{{ $labels.a }}`.
fn grouped(text: &str) -> Vec<&str> {
    let lists =
        text.split("by (").skip(1).filter_map(|rest| rest.split_once(')')).flat_map(|(list, _)| list.split(','));
    let shown = text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(name, _)| name.trim());
    let shown = shown.filter(|name| !name.starts_with("$value"));
    lists.chain(shown).map(|name| name.trim().trim_start_matches("$labels.")).collect()
}

/// What of an expression, and of the text that is shown with its result, would select nothing.
fn wrong(series: &BTreeMap<&str, Vec<Labels<'_>>>, expression: &str, shown: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut labels: Vec<&str> = SCRAPED.to_vec();
    for (name, matchers) in selectors(expression) {
        let Some(own) = series.get(name) else {
            problems.push(format!("there is no {name}"));
            continue;
        };
        labels.extend(own.iter().flat_map(BTreeMap::keys));
        for matcher in matchers {
            let (label, rest) = matcher.split_at(matcher.find(['=', '!']).unwrap());
            let values = rest.trim_start_matches(['=', '!', '~']).trim_matches('"');
            let known = |value: &str| own.iter().any(|labels| labels.get(label).is_some_and(|own| fits(value, own)));
            if !SCRAPED.contains(&label) && !values.split('|').all(known) {
                problems.push(format!("no {name} has {matcher}"));
            }
        }
    }
    let names = grouped(expression).into_iter().chain(grouped(shown));
    problems
        .extend(names.filter(|name| !labels.contains(name)).map(|name| format!("{name} is no label in {expression}")));
    problems
}

/// Expressions, each with the texts that name labels of its result.
fn alerts() -> Vec<(String, String)> {
    let text = read("prometheus/alerts.yaml");
    let rules = text.split("- alert: ").skip(1).map(|rule| {
        let (_, rule) = rule.split_once("expr: ").unwrap();
        // `for`, or `labels` where an alert waits for nothing, follows the expression.
        let end = ["\n        for:", "\n        labels:"].iter().filter_map(|next| rule.find(next)).min().unwrap();
        let (expression, shown) = rule.split_at(end);
        (expression.to_owned(), shown.to_owned())
    });
    rules.collect()
}

fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("grafana/entra-sidecar.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{} shows nothing", panel["title"]);
        targets.iter().map(|target| (text(&target["expr"]), text(&target["legendFormat"])))
    });
    let lists = [&dashboard["annotations"]["list"], &dashboard["templating"]["list"]];
    let asked = lists.into_iter().flat_map(|list| list.as_array().unwrap()).filter_map(|entry| {
        let query = entry["expr"].as_str().or_else(|| entry["query"]["query"].as_str())?;
        Some((query.to_owned(), text(&entry["titleFormat"])))
    });
    targets.chain(asked).collect()
}

#[test]
fn every_expression_selects_series_that_exist() {
    let credential = "AzureAd:ClientCredentials:0";
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/local-tenant/keys/client-1");
    let mut scene = Scene::new()
        .with(&format!("{credential}:SourceType"), "Path")
        .with(&format!("{credential}:CertificateDiskPath"), &format!("{keys}.crt.pem"))
        .with(&format!("{credential}:CertificateKeyDiskPath"), &format!("{keys}.pem"));
    scene.settings.remove(&format!("{credential}:ClientSecret"));
    let sidecar = scene.start().with_keys();
    sidecar.get("/AuthorizationHeaderUnauthenticated/App").expect(200);
    // A refusal of Entra, for there to be a status of 5xx.
    sidecar.get("/AuthorizationHeaderUnauthenticated/App?optionsOverride.Scopes=api://nobody/.default").expect(500);
    let metrics = sidecar.get("/metrics").expect(200).body;
    let series = series(&metrics);

    for (file, expressions, least) in [("alerts.yaml", alerts(), 10), ("the dashboard", panels(), 20)] {
        let ours = expressions.iter().filter(|(expression, _)| !selectors(expression).is_empty()).count();
        assert!(ours >= least && expressions.len() - ours <= 1, "{file}: {ours} of {}", expressions.len());
        let problems: Vec<_> = expressions.iter().flat_map(|(own, shown)| wrong(&series, own, shown)).collect();
        assert!(problems.is_empty(), "{file}: {problems:#?}");
    }
}

#[test]
fn what_selects_nothing_is_found() {
    let metrics =
        "# TYPE entra_sidecar_a counter\nentra_sidecar_a{kind=\"token\",status=\"500\"} 1\nentra_sidecar_b 2\n";
    let series = series(metrics);
    for (expression, shown, problems) in [
        (
            r#"sum by (kind) (rate(entra_sidecar_a{status=~"5..",job="x"}[5m])) / entra_sidecar_b"#,
            "{{kind}} {{instance}}",
            0,
        ),
        ("entra_sidecar_c", "", 1),
        (r#"entra_sidecar_a{kind="tokens"}"#, "", 1),
        (r#"entra_sidecar_b{kind="token"}"#, "", 1),
        (r#"entra_sidecar_a{kind=~"token|other",state!="x"}"#, "", 2),
        ("sum by (kind, name) (entra_sidecar_a)", "", 1),
        ("entra_sidecar_b", "{{ $labels.kind }} is {{ $value | humanizeDuration }}", 1),
    ] {
        let found = wrong(&series, expression, shown);
        assert_eq!(found.len(), problems, "{expression}: {found:?}");
    }
}

#[test]
fn the_page_lists_every_metric() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let metrics = sidecar.get("/metrics").expect(200).body;
    let families = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut running: Vec<String> = families.map(|family| family.replacen(' ', "|", 1)).collect();
    // Without a signing key and without that feature, these are not there.
    let absent = [
        "entra_sidecar_jwks_age_seconds|gauge",
        "entra_sidecar_shared_cache_request_duration_seconds|histogram",
        "entra_sidecar_shared_cache_requests_total|counter",
    ];
    running.extend(absent.map(str::to_owned));
    running.sort();
    running.dedup();
    let page = read("../docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut listed: Vec<String> = rows
        .map(|row| row.split('|').take(2).map(|cell| cell.trim().trim_end_matches('`')).collect::<Vec<_>>().join("|"))
        .collect();
    listed.sort();
    assert_eq!(running, listed);
}
