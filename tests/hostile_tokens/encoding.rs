//! Games with the encoding and the parts (RFC 7515 §2, RFC 4648 §3.5): one token, one text.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE};

use crate::mint::{Case, HEADER, b64, case, good, jws, parts, payload, payload_and, signed, tenants_key};

const REFUSED: &str = "malformed";

pub fn cases() -> Vec<Case> {
    let mut cases = alphabets();
    cases.extend(trailing_bits());
    cases.extend(counts());
    cases.extend(truncations());
    cases.extend(characters());
    cases
}

/// Signs the first two parts as texts, however they are encoded.
fn signed_texts(header: &str, payload: &str) -> String {
    let input = format!("{header}.{payload}");
    let signature = b64(tenants_key("rsa").sign("RS256", input.as_bytes()));
    format!("{input}.{signature}")
}

fn alphabets() -> Vec<Case> {
    // Two bytes over a multiple of three need one sign of padding; `>>>` and `???` need the signs that differ.
    let header = format!("{HEADER} ");
    let odd = payload_and(r#","x":">>>???~~~""#);
    let padded =
        |text: &str| URL_SAFE.encode(if text.len().is_multiple_of(3) { format!("{text} ") } else { text.into() });
    let standard = (0..3)
        .map(|blanks| STANDARD_NO_PAD.encode(format!("{}{odd}", " ".repeat(blanks))))
        .find(|text| text.contains('+') && text.contains('/'))
        .unwrap();
    let signature = |edit: fn(&str) -> String| {
        let [header, payload, signature] = parts();
        format!("{header}.{payload}.{}", edit(&signature))
    };
    vec![
        case("a padded header", signed_texts(&padded(&header), &b64(payload(&[]))), REFUSED),
        case("a padded payload", signed_texts(&b64(HEADER), &padded(&odd)), REFUSED),
        case("a padded signature", signature(|text| format!("{text}==")), REFUSED),
        case("padding in front", signature(|text| format!("={text}")), REFUSED),
        case("a payload in the standard alphabet", signed_texts(&b64(HEADER), &standard), REFUSED),
        case("a payload in hexadecimal and a dash", signed_texts(&b64(HEADER), "7b7d-"), REFUSED),
        case("a header that is plain JSON", signed_texts(HEADER, &b64(payload(&[]))), REFUSED),
        case("a payload that is plain JSON", signed_texts(&b64(HEADER), &payload(&[])), REFUSED),
        case("a header encoded twice", signed_texts(&b64(b64(HEADER)), &b64(payload(&[]))), REFUSED),
        case("a payload encoded twice", signed_texts(&b64(HEADER), &b64(b64(payload(&[])))), REFUSED),
        case("a payload with a lone character", signed_texts(&b64(HEADER), "AAAAA"), REFUSED),
        case("a signature encoded twice", signature(b64_text), "signature_invalid"),
    ]
}

fn b64_text(text: &str) -> String {
    b64(text)
}

/// The last character of a part holds bits that encode nothing: another one there is another text of the same bytes.
fn trailing_bits() -> Vec<Case> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = |part: &str| {
        let (rest, last) = part.split_at(part.len() - 1);
        let index = ALPHABET.iter().position(|own| *own == last.as_bytes()[0]).unwrap();
        format!("{rest}{}", char::from(ALPHABET[index + 1]))
    };
    // Blanks behind the object until the part does not end with its bits all used.
    let uneven = |text: String| if text.len().is_multiple_of(3) { format!("{text} ") } else { text };
    let [header, payload, signature] = parts();
    vec![
        case("unused bits in the signature", format!("{header}.{payload}.{}", next(&signature)), REFUSED),
        case("unused bits in the header", signed_texts(&next(&b64(uneven(HEADER.into()))), &payload), REFUSED),
        case(
            "unused bits in the payload",
            signed_texts(&header, &next(&b64(uneven(crate::mint::payload(&[]))))),
            REFUSED,
        ),
    ]
}

fn counts() -> Vec<Case> {
    let [header, payload, signature] = parts();
    [
        ("nothing", String::new()),
        ("one dot", ".".into()),
        ("two dots", "..".into()),
        ("three dots", "...".into()),
        ("the header alone", header.clone()),
        ("header and payload", format!("{header}.{payload}")),
        ("an empty header", format!(".{payload}.{signature}")),
        ("an empty payload", format!("{header}..{signature}")),
        ("a dot behind", format!("{header}.{payload}.{signature}.")),
        ("a dot in front", format!(".{header}.{payload}.{signature}")),
        ("four parts", format!("{header}.{payload}.{signature}.{signature}")),
        ("six parts", format!("{header}.{payload}.{signature}.{header}.{payload}.{signature}")),
        ("a thousand dots", ".".repeat(1000)),
        ("the JSON form", format!(r#"{{"payload":"{payload}","protected":"{header}","signature":"{signature}"}}"#)),
        ("commas in place of dots", format!("{header},{payload},{signature}")),
        ("three tokens and commas", format!("{0},{0},{0}", good())),
        ("a scheme in front", format!("Bearer {}", good())),
        ("quotes around", format!("\"{}\"", good())),
    ]
    .map(|(what, token)| {
        case(format!("parts: {what}"), token, if what == "an empty payload" { "signature_invalid" } else { REFUSED })
    })
    .into()
}

fn truncations() -> Vec<Case> {
    let good = good();
    let [header, payload, signature] = parts();
    let at = |what: &str, length: usize, code| case(format!("cut off {what}"), &good[..length], code);
    let bytes = |drop: usize| {
        let mut whole = tenants_key("rsa").sign("RS256", format!("{header}.{payload}").as_bytes());
        whole.truncate(whole.len() - drop);
        format!("{header}.{payload}.{}", b64(whole))
    };
    vec![
        at("within the header", header.len() / 2, REFUSED),
        at("behind the header's dot", header.len() + 1, REFUSED),
        at("within the payload", header.len() + 1 + payload.len() / 2, REFUSED),
        at("behind the payload's dot", header.len() + payload.len() + 2, "signature_invalid"),
        case("a signature without its last byte", bytes(1), "signature_invalid"),
        case("a signature of one byte", bytes(255), "signature_invalid"),
        case("without its first character", &good[1..], REFUSED),
        case(
            "another token's signature",
            format!("{}.{signature}", b64(HEADER) + "." + &b64(payload_and(" "))),
            "signature_invalid",
        ),
        case(
            "the signature of a cut payload",
            jws(HEADER, "{}", |_| tenants_key("rsa").sign("RS256", format!("{header}.{payload}").as_bytes())),
            "signature_invalid",
        ),
    ]
}

/// Characters that a lenient decoder would pass over.
fn characters() -> Vec<Case> {
    let good = good();
    let dot = good.find('.').unwrap();
    let mut cases = Vec::new();
    for (what, odd) in [
        ("a blank", " "),
        ("a line feed", "\n"),
        ("a carriage return and a line feed", "\r\n"),
        ("a tab", "\t"),
        ("NUL", "\0"),
        ("a percent sign", "%2B"),
        ("a zero-width space", "\u{200b}"),
        ("a byte order mark", "\u{feff}"),
        ("a full-width letter", "\u{ff21}"),
        ("an exclamation mark", "!"),
    ] {
        for (place, at) in
            [("in front of", 0), ("within the header of", dot / 2), ("before the dot of", dot), ("behind", good.len())]
        {
            let mut token = good.clone();
            token.insert_str(at, odd);
            cases.push(case(format!("{what} {place} a token"), token, REFUSED));
        }
    }
    cases.push(case("dots percent-encoded", good.replace('.', "%2E"), REFUSED));
    cases.push(case("dots of another script", good.replace('.', "\u{3002}"), REFUSED));
    cases.push(case(
        "a header that is no UTF-8",
        signed(b"{\"alg\":\"RS256\",\"kid\":\"rsa\",\"x\":\"\xff\"}", payload(&[])),
        REFUSED,
    ));
    cases.push(case(
        "a payload that is no UTF-8",
        signed(HEADER, [payload(&[]).as_bytes(), b"\xff"].concat()),
        REFUSED,
    ));
    cases
}
