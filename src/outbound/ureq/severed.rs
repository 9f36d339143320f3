//! A connection that breaks is not one that ends. The client takes either for the end of a body that nothing else
//! delimits, so that whoever cuts the line could pass half an answer for a whole one (RFC 9112 §8, §9.8).

use std::{fmt, io};

use ureq::Error;
use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};

/// Why a connection broke, in a form that the client knows nothing about.
#[derive(Debug)]
pub(super) struct Severed(io::Error);

impl fmt::Display for Severed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Severed {}

/// Whether an error of reading is a break.
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
                    // Of TLS, which ends with an alert (RFC 8446 §6.1); the end of TCP is no error at all.
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
