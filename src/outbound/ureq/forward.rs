//! Plain `http` through a proxy: the request goes to the proxy with an absolute-form target (RFC
//! 9112 §3.2.2). The client only supports tunnels, and few proxies open one to a port other than
//! 443.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::config::Config;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, Either, NextTimeout, Transport};
use ureq::{Error, Proxy};
use zeroize::Zeroizing;

use super::connect::copy;

/// `Proxy-Authorization`, if the proxy's URL has a user (RFC 7617 §2).
pub(super) fn authorization(proxy: &Proxy) -> Option<Zeroizing<String>> {
    let (user, password) = (proxy.username(), proxy.password());
    user.or(password)?;
    let pair = Zeroizing::new(format!("{}:{}", user.unwrap_or_default(), password.unwrap_or_default()));
    Some(Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes()))))
}

/// Connects to the proxy instead of the host.
#[derive(Debug)]
pub(super) struct Forward {
    /// Reaches the proxy itself, without a proxy.
    pub(super) direct: Config,
}

impl<In: Transport> Connector<In> for Forward {
    type Out = Either<In, Forwarded>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(transport) = chained {
            return Ok(Some(Either::A(transport)));
        }
        let Some(proxy) = details.config.proxy().filter(|_| !details.needs_tls()) else { return Ok(None) };
        let authority = details.uri.authority().ok_or(Error::HostNotFound)?;
        let to_proxy = ConnectionDetails { uri: proxy.uri(), config: &self.direct, ..copy(details) };
        let transport = (details.run_connector)(&to_proxy)?;
        Ok(Some(Either::B(Forwarded { transport, origin: format!("http://{authority}"), begins: true })))
    }
}

/// A connection to a proxy, for requests to one origin.
#[derive(Debug)]
pub(super) struct Forwarded {
    transport: Box<dyn Transport>,
    origin: String,
    /// True if the next bytes start a request.
    begins: bool,
}

impl Transport for Forwarded {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if !std::mem::take(&mut self.begins) {
            return self.transport.transmit_output(amount, timeout);
        }
        let head = Zeroizing::new(self.transport.buffers().output()[..amount].to_vec());
        let target = head.iter().position(|byte| *byte == b' ').map_or(0, |space| space + 1);
        let absolute = Zeroizing::new([&head[..target], self.origin.as_bytes(), &head[target..]].concat());
        let mut rest = absolute.as_slice();
        while !rest.is_empty() {
            let output = self.transport.buffers().output();
            let (part, left) = rest.split_at(rest.len().min(output.len()));
            output[..part.len()].copy_from_slice(part);
            self.transport.transmit_output(part.len(), timeout)?;
            rest = left;
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        // A request is sent completely before its response is read.
        self.begins = true;
        self.transport.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.transport.is_open()
    }
}
