//! The only place that verifies a token's signature.

use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};

use super::Rejection;
use crate::value::jwk::{Algorithm, PublicKey};

/// The caller has checked that the key allows the algorithm. A key of another type fails here too.
pub fn verify(algorithm: Algorithm, key: &PublicKey, message: &[u8], signature: &[u8]) -> Result<(), Rejection> {
    let outcome = match (algorithm, key) {
        (Algorithm::Es256, PublicKey::P256(point)) => {
            UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
        }
        (Algorithm::Es384, PublicKey::P384(point)) => {
            UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point).verify(message, signature)
        }
        (_, PublicKey::Rsa { modulus, exponent }) => {
            let parameters = rsa(algorithm).ok_or(Rejection::KeyMismatch)?;
            RsaPublicKeyComponents { n: modulus, e: exponent }.verify(parameters, message, signature)
        }
        _ => return Err(Rejection::KeyMismatch),
    };
    outcome.map_err(|_| Rejection::SignatureInvalid)
}

/// The PSS variants require a salt as long as the hash (RFC 7518 §3.5).
fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        Algorithm::Es256 | Algorithm::Es384 => return None,
    })
}

#[cfg(test)]
mod tests {
    use crate::jwt::{Rejection, compact};
    use crate::value::jwk::Key;

    const PAYLOAD: &str =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

    fn verify(jwk: &str, header: &str, signature: &str) -> Result<(), Rejection> {
        let token = format!("{header}.{PAYLOAD}.{signature}");
        let jws = compact::parse(&token)?;
        let key = Key::from_jwk(jwk).unwrap();
        super::verify(jws.algorithm, key.public_key(), jws.signing_input.as_bytes(), &jws.signature)
    }

    #[test]
    fn rfc_7515_appendix_a_2_rs256() {
        let jwk = concat!(
            r#"{"kid":"a2","kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-"#,
            "4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSX",
            "ndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWN",
            r#"moudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#
        );
        let signature = concat!(
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CU",
            "Ar7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_d",
            "O--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0ig",
            "cN_IoypGlUPQGe77Rw"
        );
        assert_eq!(verify(jwk, "eyJhbGciOiJSUzI1NiJ9", signature), Ok(()));
        assert_eq!(verify(jwk, "eyJhbGciOiJSUzM4NCJ9", signature), Err(Rejection::SignatureInvalid));
    }

    #[test]
    fn rfc_7515_appendix_a_3_es256() {
        let jwk = concat!(
            r#"{"kid":"a3","kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","#,
            r#""y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#
        );
        let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        assert_eq!(verify(jwk, "eyJhbGciOiJFUzI1NiJ9", signature), Ok(()));
        assert_eq!(verify(jwk, "eyJhbGciOiJFUzM4NCJ9", signature), Err(Rejection::KeyMismatch));
    }

    #[test]
    fn rfc_7515_appendices_a_1_and_a_5_are_refused() {
        for header in ["eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9", "eyJhbGciOiJub25lIn0"] {
            let token = format!("{header}.{PAYLOAD}.");
            assert_eq!(compact::parse(&token).map(|_| ()), Err(Rejection::AlgorithmNotAllowed), "{header}");
        }
    }
}
