//! Encrypted tokens (RFC 7516), as an Entra tenant with token encryption would issue them.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockEncryptMut as _, KeyIvInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use rsa::rand_core::{OsRng, RngCore as _};
use rsa::{BigUint, Oaep, RsaPublicKey};

use crate::jwt::Claims;
use crate::keys::PublicKey;

/// Encrypts a token for an RSA key. `alg` is `RSA-OAEP` or `RSA-OAEP-256`, `enc` one of `A128CBC-HS256`,
/// `A256CBC-HS512`, `A128GCM` and `A256GCM`; more header members are added as given.
pub fn encrypt(token: &str, key: &PublicKey, alg: &str, enc: &str, members: &Claims) -> String {
    let PublicKey::Rsa { n, e } = key else { panic!("tokens are encrypted for RSA keys") };
    let key = RsaPublicKey::new(BigUint::from_bytes_be(n), BigUint::from_bytes_be(e)).expect("an RSA key");
    let size = match enc {
        "A128GCM" => 16,
        "A256GCM" | "A128CBC-HS256" => 32,
        "A256CBC-HS512" => 64,
        _ => panic!("unknown enc {enc}"),
    };
    let mut content_key = vec![0; size];
    OsRng.fill_bytes(&mut content_key);
    let padding = match alg {
        "RSA-OAEP" => Oaep::new::<sha1::Sha1>(),
        "RSA-OAEP-256" => Oaep::new::<rsa::sha2::Sha256>(),
        _ => panic!("unknown alg {alg}"),
    };
    let wrapped = key.encrypt(&mut OsRng, padding, &content_key).expect("a key that holds the content key");

    let mut header = Claims::default();
    header.set("alg", alg);
    header.set("enc", enc);
    header.set("typ", "JWT");
    header.set("cty", "JWT");
    header.extend(members);
    let header = URL_SAFE_NO_PAD.encode(header.text());
    let (iv, sealed, tag) = seal(enc, &content_key, header.as_bytes(), token.as_bytes());
    let parts = [wrapped, iv, sealed, tag].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{header}.{}", parts.join("."))
}

fn seal(enc: &str, key: &[u8], header: &[u8], text: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    if let Some(algorithm) =
        [("A128GCM", &AES_128_GCM), ("A256GCM", &AES_256_GCM)].iter().find(|(name, _)| *name == enc)
    {
        let mut iv = [0; 12];
        OsRng.fill_bytes(&mut iv);
        let key = LessSafeKey::new(UnboundKey::new(algorithm.1, key).expect("a key of the algorithm's size"));
        let mut sealed = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(iv);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(header), &mut sealed).expect("a short text");
        return (iv.to_vec(), sealed, tag.as_ref().to_vec());
    }
    // RFC 7518 §5.2.2: the first half of the key authenticates, the second encrypts.
    let (mac_key, content_key) = key.split_at(key.len() / 2);
    let mut iv = [0; 16];
    OsRng.fill_bytes(&mut iv);
    let sealed = match content_key.len() {
        16 => cbc::Encryptor::<aes::Aes128>::new_from_slices(content_key, &iv)
            .expect("sizes of AES-128")
            .encrypt_padded_vec_mut::<Pkcs7>(text),
        _ => cbc::Encryptor::<aes::Aes256>::new_from_slices(content_key, &iv)
            .expect("sizes of AES-256")
            .encrypt_padded_vec_mut::<Pkcs7>(text),
    };
    let algorithm = if mac_key.len() == 16 { hmac::HMAC_SHA256 } else { hmac::HMAC_SHA512 };
    let header_bits = (header.len() as u64 * 8).to_be_bytes();
    let authenticated = [header, &iv, &sealed, &header_bits].concat();
    let tag = hmac::sign(&hmac::Key::new(algorithm, mac_key), &authenticated).as_ref()[..mac_key.len()].to_vec();
    (iv.to_vec(), sealed, tag)
}

#[cfg(test)]
mod tests {
    use rsa::pkcs8::DecodePrivateKey as _;

    use super::*;
    use crate::certificate::CLIENT_1;

    #[test]
    fn the_content_key_is_wrapped_and_the_text_is_sealed() {
        let private = rsa::RsaPrivateKey::from_pkcs8_pem(CLIENT_1.key_pem).unwrap();
        for (enc, size) in [("A128CBC-HS256", 32), ("A256CBC-HS512", 64), ("A128GCM", 16), ("A256GCM", 32)] {
            let jwe = encrypt("a.b.c", &CLIENT_1.certificate().key, "RSA-OAEP", enc, &Claims::default());
            let parts: Vec<Vec<u8>> = jwe.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
            let key = private.decrypt(Oaep::new::<sha1::Sha1>(), &parts[1]).unwrap();
            assert_eq!((parts.len(), key.len()), (5, size), "{enc}");
            assert!(!parts[3].windows(5).any(|window| window == b"a.b.c"));
        }
    }
}
