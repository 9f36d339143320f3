//! No bit of a token is without meaning: each, changed alone, makes it another token, and that one is refused.

use entra_sidecar::internal::jwt::Validator;

use crate::mint::{NOW, jws, key_set, payload, policy, tenants_key};

/// Refused in each of these bits. One that leaves no text cannot arrive in a header.
fn every_bit_matters(what: &str, validator: &Validator, token: &str, bits: impl Iterator<Item = usize>) {
    let keys = key_set();
    assert!(validator.validate(token, &keys, NOW).is_ok(), "{what}");
    for bit in bits {
        let mut bytes = token.to_owned().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let accepted = String::from_utf8(bytes).is_ok_and(|changed| validator.validate(&changed, &keys, NOW).is_ok());
        assert!(!accepted, "{what}, bit {bit}");
    }
}

#[test]
fn of_every_kind_of_signature() {
    for (kid, algorithm) in [("rsa", "RS256"), ("rsa", "PS256"), ("p256", "ES256"), ("p384", "ES384")] {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"{kid}"}}"#);
        let token = jws(&header, payload(&[]), |input| tenants_key(kid).sign(algorithm, input));
        every_bit_matters(algorithm, &crate::validator(policy(), 10_000), &token, 0..token.len() * 8);
    }
}

/// Each try costs an RSA decryption, so only some bits of the long parts are tried: all of the ends, and every 23rd of the rest.
#[cfg(feature = "jwe")]
#[test]
fn of_an_encrypted_token() {
    for enc in ["A128CBC-HS256", "A256GCM"] {
        let token = crate::encrypted::encrypted(&crate::mint::good(), "RSA-OAEP", enc);
        let dots: Vec<usize> = token.match_indices('.').map(|(at, _)| at).chain([token.len()]).collect();
        let near_an_end = |bit: usize| dots.iter().any(|dot| (dot.saturating_sub(2)..dot + 2).contains(&(bit / 8)));
        let bits = (0..token.len() * 8).filter(|bit| near_an_end(*bit) || bit.is_multiple_of(23));
        every_bit_matters(enc, &crate::validator(policy(), 10_000), &token, bits);
    }
}
