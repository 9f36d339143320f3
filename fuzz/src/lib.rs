//! What must hold for any bytes, boundary by boundary. libFuzzer drives these functions (`fuzz_targets/`), and so does a stable runner
//! over the same seeds (`tests/fuzz_smoke.rs`). That nothing panics is the least of it: each says what an accepted input may be.

pub mod caller;
pub mod http;
pub mod operator;
pub mod token;
pub mod upstream;

/// What is checked of an input. It fails by a panic.
pub type Check = fn(&[u8]);

/// Every target by its name, which is that of its folder of seeds.
pub const TARGETS: &[(&str, Check)] = &[
    ("compact_jwt", token::compact_jwt),
    ("claims", token::claims),
    ("signed_request", token::signed_request),
    #[cfg(feature = "jwe")]
    ("jwe", token::jwe),
    ("http_head", http::head),
    ("chunked_body", http::chunked),
    ("overrides", caller::overrides),
    ("pop_public_key", caller::pop_public_key),
    ("jwks", upstream::jwks),
    ("metadata", upstream::metadata),
    ("www_authenticate", upstream::www_authenticate),
    ("redirect", upstream::redirect),
    ("forwarding", upstream::forwarding),
    ("downstream_answer", upstream::downstream_answer),
    ("configuration", operator::configuration),
    ("pem", operator::pem),
    ("pfx", operator::pfx),
];
