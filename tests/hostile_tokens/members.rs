//! What two readers of JSON could read differently (RFC 8725 §2.4, RFC 8259 §4), truly signed.

use crate::mint::{Case, HEADER, case, payload, payload_and, signed};

const REFUSED: &str = "malformed";

pub fn cases() -> Vec<Case> {
    let mut cases = duplicates();
    cases.extend(payloads());
    cases.extend(headers());
    cases.extend(critical());
    cases
}

fn duplicates() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in ["iss", "aud", "exp", "nbf", "tid", "scp", "roles", "oid", "cnf"] {
        let twice = payload_and(&format!(r#","{name}":0,"{name}":1"#));
        cases.push(case(format!("'{name}' twice"), signed(HEADER, twice), REFUSED));
    }
    for (what, more) in [
        ("the same value", format!(r#","aud":"{}""#, crate::mint::CLIENT)),
        ("a name escaped", r#","\u0061ud":"other""#.to_owned()),
        ("a name escaped in capitals", r#","\u0065\u0078\u0070":99999999999"#.to_owned()),
        ("within an object", r#","x":{"a":1,"a":2}"#.to_owned()),
        ("within an array", r#","x":[{"a":1,"\u0061":2}]"#.to_owned()),
        ("an empty name", r#","":1,"":2"#.to_owned()),
        ("deep down", r#","x":{"y":{"z":[[{"a":1,"a":1}]]}}"#.to_owned()),
        ("a surrogate pair and its character", ",\"\\ud83d\\ude00\":1,\"\u{1f600}\":2".to_owned()),
    ] {
        cases.push(case(format!("duplicates: {what}"), signed(HEADER, payload_and(&more)), REFUSED));
    }
    cases
}

fn payloads() -> Vec<Case> {
    let good = payload(&[]);
    let nested = |depth: usize| payload_and(&format!(",\"x\":{}{}", "[".repeat(depth), "]".repeat(depth)));
    let objects = |depth: usize| payload_and(&format!(",\"x\":{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth)));
    [
        ("empty", String::new()),
        ("a blank", " ".into()),
        ("null", "null".into()),
        ("true", "true".into()),
        ("a number", "1".into()),
        ("a text", format!("{good:?}")),
        ("an array", format!("[{good}]")),
        ("two objects", format!("{good}{good}")),
        ("an object and a comma", format!("{good},")),
        ("an object and a brace", format!("{good}}}")),
        ("an object and NUL", format!("{good}\0")),
        ("an object and a comment", format!("{good}//")),
        ("a comment within", payload_and("/**/")),
        ("a trailing comma", payload_and(",")),
        ("a byte order mark", format!("\u{feff}{good}")),
        ("single quotes", good.replace('"', "'")),
        ("names without quotes", good.replace("\"aud\":", "aud:")),
        ("a raw line feed in a text", payload_and(",\"x\":\"\n\"")),
        ("a lone surrogate", payload_and(r#","x":"\ud800""#)),
        ("an unknown escape", payload_and(r#","x":"\x41""#)),
        ("an object cut off", good[..good.len() - 1].to_owned()),
        ("16 arrays in it", nested(16)),
        ("10,000 arrays in it", nested(10_000)),
        ("5,000 objects in it", objects(5_000)),
        ("40,000 open brackets", "[".repeat(40_000)),
        ("a form", "iss=x&aud=y".into()),
    ]
    .map(|(what, text)| case(format!("a payload of {what}"), signed(HEADER, text), REFUSED))
    .into()
}

fn headers() -> Vec<Case> {
    [
        ("empty", String::new()),
        ("null", "null".into()),
        ("an array", format!("[{HEADER}]")),
        ("a text", format!("{HEADER:?}")),
        ("two objects", format!("{HEADER}{HEADER}")),
        ("an object and a letter", format!("{HEADER}x")),
        ("a trailing comma", HEADER.replace('}', ",}")),
        ("a duplicate within its jwk", HEADER.replace('}', r#","jwk":{"n":"a","n":"b"}}"#)),
        ("16 arrays in it", HEADER.replace('}', &format!(",\"x\":{}{}}}", "[".repeat(16), "]".repeat(16)))),
        ("a number beyond a double", HEADER.replace('}', r#","x":1e400}"#)),
    ]
    .map(|(what, text)| case(format!("a header of {what}"), signed(text, payload(&[])), REFUSED))
    .into()
}

/// RFC 7515 §4.1.11: what is critical must be understood.
fn critical() -> Vec<Case> {
    [
        r#""crit":["exp"]"#, r#""crit":["b64"],"b64":false"#, r#""crit":["b64"],"b64":true"#, r#""crit":[]"#,
        r#""crit":null"#, r#""crit":"exp""#, r#""crit":{}"#, r#""crit":["x"],"x":1"#, r#""crit":["alg"]"#,
        r#""\u0063rit":["x"]"#, r#""b64":false"#, r#""b64":true"#,
    ]
    .map(|more| {
        case(
            format!("a header with {more}"),
            signed(HEADER.replace('}', &format!(",{more}}}")), payload(&[])),
            "critical_header",
        )
    })
    .into()
}
