//! The examples of RFC 7515, 7516, 7517 and 7520, as they stand there (`rfc/examples.json`): accepted where the algorithm is one of ours
//! and the token names its key, and otherwise refused for just that.

use entra_sidecar::internal::jwks::{KeySet, document};
use entra_sidecar::internal::jwt;
use entra_sidecar::internal::value::Key;
use serde_json::Value;

fn examples() -> Value {
    serde_json::from_str(include_str!("rfc/examples.json")).unwrap()
}

fn list(kind: &str) -> Vec<Value> {
    examples()[kind].as_array().unwrap().clone()
}

#[test]
fn signed_examples() {
    for example in list("jws") {
        let keys: Vec<Key> = Key::from_jwk(&example["key"].to_string()).into_iter().collect();
        let keys = KeySet::new(keys, "https://issuer.example/", Vec::new());
        let outcome = match jwt::verify_signature(example["token"].as_str().unwrap(), &keys) {
            Ok(_) => "accepted",
            Err(rejection) => rejection.code(),
        };
        assert_eq!(outcome, example["outcome"], "{}", example["source"]);
    }
}

#[test]
fn of_the_key_set_the_key_that_signs_is_taken() {
    let (parsed, skipped) = document::keys(examples()["jwks"]["document"].to_string().as_bytes()).unwrap();
    let ids: Vec<_> = parsed.iter().map(Key::kid).collect();
    assert_eq!((ids, skipped), (vec!["2011-04-29"], 1), "the other one is for encryption");
}

#[cfg(feature = "jwe")]
#[test]
fn encrypted_examples() {
    for example in list("jwe") {
        let key: Vec<_> = super::encryption::key(&example["key"]).into_iter().collect();
        let opened = jwt::jwe::decrypt(example["token"].as_str().unwrap(), &key);
        match example["plaintext"].as_str() {
            Some(text) => assert_eq!(opened.unwrap().as_slice(), text.as_bytes(), "{}", example["source"]),
            None => assert!(opened.is_err(), "{}", example["source"]),
        }
    }
}
