//! Distinguishes broken connections from closed ones. The client takes either for the end of a body
//! without other framing, so an attacker who cuts the connection could truncate it unnoticed (RFC
//! 9112 §8, §9.8).

use std::{fmt, io};

use ureq::Error;
use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};

/// Why a connection broke, wrapped in a type that the client does not recognize.
#[derive(Debug)]
pub(super) struct Severed(io::Error);

impl fmt::Display for Severed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Severed {}

/// True if a read error is a broken connection.
pub(super) fn is_break(cause: &io::Error) -> bool {
    cause.get_ref().and_then(|inner| inner.downcast_ref::<Severed>()).is_some()
}

/// A connection whose breaks are errors.
#[derive(Debug)]
pub(super) struct Unsevered<T>(pub(super) T);

impl<T: Transport> Transport for Unsevered<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.0.await_input(timeout).map_err(|error| match error {
            Error::Io(cause)
                if matches!(
                    cause.kind(),
                    // TLS must end with an alert (RFC 8446 §6.1). A closed TCP connection is not an
                    // error.
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
                ) =>
            {
                Error::Io(io::Error::other(Severed(cause)))
            }
            other => other,
        })
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}
