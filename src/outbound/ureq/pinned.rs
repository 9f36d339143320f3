//! TLS to the managed identity endpoint of Service Fabric. Its certificate is self-signed; the
//! platform provides the thumbprint. A certificate that the roots vouch for is accepted as well.
//! <https://learn.microsoft.com/azure/service-fabric/how-to-managed-identity-service-fabric-app-code>

use std::fmt;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use ring::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use super::super::roots::Roots;
use crate::value::hex;

/// SHA-1 of a certificate. It identifies a known certificate, so collisions do not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thumbprint([u8; 20]);

impl Thumbprint {
    /// The environment variable set by the platform.
    pub const VARIABLE: &str = "IDENTITY_SERVER_THUMBPRINT";

    /// 40 hexadecimal digits in either case. A malformed value is an error: ignoring it would trust
    /// the roots alone, and report a failed handshake.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::digits(text)
            .ok_or_else(|| format!("the environment's {}: expected 40 hexadecimal digits (SHA-1)", Self::VARIABLE))
    }

    fn digits(text: &str) -> Option<Self> {
        hex::decode(text.trim())?.try_into().ok().map(Self)
    }

    fn is_of(self, certificate: &[u8]) -> bool {
        digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, certificate).as_ref() == self.0
    }
}

/// Connects to servers with the pinned certificate.
#[derive(Debug)]
pub struct PinnedTls(Arc<ClientConfig>);

impl PinnedTls {
    /// Trusts one certificate in addition to the roots.
    pub fn new(thumbprint: Thumbprint, roots: &Roots) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chains = WebPkiServerVerifier::builder_with_provider(roots.store().into(), Arc::clone(&provider));
        let chains = chains.build().map_err(|error| rustls::Error::General(error.to_string()))?;
        let verifier = Verifier { thumbprint, chains, provider: Arc::clone(&provider) };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

#[derive(Debug)]
struct Verifier {
    thumbprint: Thumbprint,
    chains: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.thumbprint.is_of(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        self.chains
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    // As usual, the server must prove possession of the certificate's key.

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl<In: Transport> Connector<In> for PinnedTls {
    type Out = Either<In, Pinned>;

    fn connect(&self, details: &ConnectionDetails<'_>, tcp: Option<In>) -> Result<Option<Self::Out>, Error> {
        let Some(tcp) = tcp else { return Ok(None) };
        if !details.needs_tls() || tcp.is_tls() {
            return Ok(Some(Either::A(tcp)));
        }
        let host = details.uri.host().ok_or(Error::HostNotFound)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|_| Error::HostNotFound)?;
        let mut tls = ClientConnection::new(Arc::clone(&self.0), name)?;
        let mut tcp = TransportAdapter::new(tcp.boxed(), Arc::clone(&details.current_time));
        tcp.set_timeout(details.timeout);
        tls.complete_io(&mut tcp)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(Pinned { buffers, stream: StreamOwned::new(tls, tcp) })))
    }
}

pub struct Pinned {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pinned").field(&self.stream.sock.inner()).finish()
    }
}

impl Transport for Pinned {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let read = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbprint_is_40_hexadecimal_digits() {
        let digits = "0123456789abcdefABCDEF0123456789ABCDEF01";
        assert_eq!(Thumbprint::parse(digits).unwrap().0[..3], [0x01, 0x23, 0x45]);
        assert_eq!(Thumbprint::parse(&digits.to_lowercase()), Thumbprint::parse(&digits.to_uppercase()));
        for text in
            ["", &digits[1..], &digits[2..], &format!("{digits}0"), &format!("{digits}00"), &digits.replace('a', "g")]
        {
            assert!(Thumbprint::parse(text).is_err(), "{text}");
        }
    }
}
