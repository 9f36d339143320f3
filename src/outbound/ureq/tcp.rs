//! TCP connections, which do not block once TLS and a tunnel are there.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ureq::Error;
use ureq::unversioned::transport::{Buffers, LazyBuffers, NextTimeout, Transport};

use crate::sync::Mutex;

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    /// Set on non-blocking sockets.
    unsent: Mutex<Option<Unsent>>,
}

/// TLS has counted as sent what it gave.
#[derive(Debug, Default)]
struct Unsent {
    /// What did not fit.
    bytes: Vec<u8>,
    /// Set once the other side takes no more. What is given then is dropped, since TLS reads an answer that came before only
    /// after it has sent what it has.
    is_refused: bool,
}

impl Socket {
    pub(super) fn unblock(&self) -> io::Result<()> {
        self.stream.set_nonblocking(true)?;
        *self.unsent.lock() = Some(Unsent::default());
        Ok(())
    }

    fn blocks(&self) -> bool {
        self.unsent.lock().is_none()
    }

    /// Sends these bytes behind those that did not fit before; true if none are left. `None`: the socket blocks.
    pub(super) fn send_later(&self, bytes: &[u8]) -> Option<bool> {
        let mut unsent = self.unsent.lock();
        let Unsent { bytes: unsent, is_refused } = unsent.as_mut()?;
        unsent.extend_from_slice(bytes);
        while !unsent.is_empty() && !*is_refused {
            match (&self.stream).write(unsent) {
                Ok(written) => drop(unsent.drain(..written)),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Some(false),
                Err(_) => *is_refused = true,
            }
        }
        unsent.clear();
        Some(true)
    }

    /// Whether the other side takes no more.
    pub(super) fn is_refused(&self) -> bool {
        self.unsent.lock().as_ref().is_some_and(|unsent| unsent.is_refused)
    }
}

const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// On an idle connection, only its end can arrive.
fn arrival(socket: &Socket) -> PollFd<'_> {
    PollFd::new(&socket.stream, PollFlags::IN | PollFlags::RDHUP)
}

/// For each socket, whether something has arrived.
pub(super) fn arrivals<'a>(sockets: impl Iterator<Item = &'a Socket>) -> Vec<bool> {
    let mut fds: Vec<_> = sockets.map(arrival).collect();
    // Where it fails, there are none: whoever uses a connection looks again.
    let _ = poll(&mut fds, Some(&AT_ONCE));
    fds.iter().map(|fd| !fd.revents().is_empty()).collect()
}

/// Connects to the first address that answers. Each but the last gets half of the remaining time.
pub(super) fn connect(addresses: &[SocketAddr], timeout: NextTimeout, buffers: LazyBuffers) -> Result<Tcp, Error> {
    let start = Instant::now();
    let mut last = Error::HostNotFound;
    for (index, address) in addresses.iter().enumerate() {
        let left = timeout.after.saturating_sub(start.elapsed());
        let share = if index + 1 == addresses.len() { left } else { left / 2 };
        if share.is_zero() {
            return Err(Error::Timeout(timeout.reason));
        }
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                let socket = Arc::new(Socket { stream, unsent: Mutex::default() });
                return Ok(Tcp { socket, buffers });
            }
            Err(cause) => last = explain(cause, timeout),
        }
    }
    Err(last)
}

#[derive(Debug)]
pub(super) struct Tcp {
    socket: Arc<Socket>,
    buffers: LazyBuffers,
}

impl Tcp {
    pub(super) fn socket(&self) -> Arc<Socket> {
        Arc::clone(&self.socket)
    }
}

/// Repeats a system call that is interrupted, for as long as the timeout allows. `limit` sets that on a socket that blocks.
fn within<T>(
    timeout: NextTimeout,
    limit: impl Fn(Duration) -> io::Result<()>,
    mut call: impl FnMut() -> io::Result<T>,
) -> Result<T, Error> {
    let start = Instant::now();
    loop {
        let left = timeout.after.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(Error::Timeout(timeout.reason));
        }
        limit(left)?;
        match call() {
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            done => return done.map_err(|cause| explain(cause, timeout)),
        }
    }
}

/// Converts an error of a socket with this timeout.
fn explain(cause: io::Error, timeout: NextTimeout) -> Error {
    match cause.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => Error::Io(cause),
    }
}

impl Transport for Tcp {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.socket.send_later(&self.buffers.output()[..amount]).is_some() {
            return Ok(());
        }
        let (timeout, start) = (timeout.for_write(), Instant::now());
        let mut stream = &self.socket.stream;
        let mut output = &self.buffers.output()[..amount];
        while !output.is_empty() {
            let left = NextTimeout { after: (*timeout.after).saturating_sub(start.elapsed()).into(), ..timeout };
            match within(left, |left| stream.set_write_timeout(Some(left)), || stream.write(output))? {
                0 => return Err(Error::Io(io::ErrorKind::WriteZero.into())),
                written => output = &output[written..],
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let mut stream = &self.socket.stream;
        let blocks = self.socket.blocks();
        let limit = |left| if blocks { stream.set_read_timeout(Some(left)) } else { Ok(()) };
        let amount = within(timeout.for_read(), limit, || stream.read(self.buffers.input_append_buf()))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        !self.socket.is_refused() && matches!(poll(&mut [arrival(&self.socket)], Some(&AT_ONCE)), Ok(0))
    }
}
