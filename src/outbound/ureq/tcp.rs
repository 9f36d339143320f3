//! TCP connections that are checked while idle. The client's pool checks one only before using it;
//! until then, a connection closed by the upstream would occupy a descriptor in CLOSE-WAIT.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ureq::Error;
use ureq::unversioned::transport::{Buffers, LazyBuffers, NextTimeout, Transport};

use crate::sync::Mutex;

/// Interval between checks of idle connections.
const LOOK_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    idle_since: Mutex<Option<Instant>>,
    /// Set on non-blocking sockets: bytes that did not fit. TLS has counted them as sent.
    unsent: Mutex<Option<Vec<u8>>>,
}

impl Socket {
    pub(super) fn unblock(&self) -> io::Result<()> {
        self.stream.set_nonblocking(true)?;
        *self.unsent.lock() = Some(Vec::new());
        Ok(())
    }

    /// Marks it as in use.
    pub(super) fn begin(&self) {
        *self.idle_since.lock() = None;
    }

    fn blocks(&self) -> bool {
        self.unsent.lock().is_none()
    }

    /// Sends these bytes behind those that did not fit before; true if all are sent. `None`: the socket blocks.
    pub(super) fn send_later(&self, bytes: &[u8]) -> Option<io::Result<bool>> {
        let mut unsent = self.unsent.lock();
        let unsent = unsent.as_mut()?;
        unsent.extend_from_slice(bytes);
        while !unsent.is_empty() {
            match (&self.stream).write(unsent) {
                Ok(written) => drop(unsent.drain(..written)),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Some(Ok(false)),
                Err(cause) => return Some(Err(cause)),
            }
        }
        Some(Ok(true))
    }

    /// True if nothing was received: on an idle connection, only its end can arrive.
    fn is_quiet(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN | PollFlags::RDHUP)];
        matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
    }

    /// Closes the connection if it is idle and either the peer has closed it or it was idle for too
    /// long. The lock keeps it idle meanwhile.
    fn tidy(&self, longest: Duration) {
        let idle_since = self.idle_since.lock();
        if idle_since.is_some_and(|since| since.elapsed() > longest || !self.is_quiet()) {
            // Fails if the connection is closed already.
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

/// All open sockets, and the thread that checks the idle ones.
#[derive(Debug)]
pub(super) struct Sockets {
    list: Mutex<Vec<Weak<Socket>>>,
    watched: Mutex<bool>,
    longest: Duration,
}

impl Sockets {
    /// `longest` is the maximum idle time.
    pub(super) fn new(longest: Duration) -> Arc<Self> {
        Arc::new(Self { list: Mutex::default(), watched: Mutex::new(false), longest })
    }

    /// Connects to the first address that answers. Each but the last gets half of the remaining
    /// time.
    pub(super) fn connect(
        self: &Arc<Self>,
        addresses: &[SocketAddr],
        timeout: NextTimeout,
        buffers: LazyBuffers,
    ) -> Result<Tcp, Error> {
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
                    return Ok(Tcp { socket: self.add(stream), buffers });
                }
                Err(cause) => last = explain(cause, timeout),
            }
        }
        Err(last)
    }

    fn add(self: &Arc<Self>, stream: TcpStream) -> Arc<Socket> {
        let socket = Arc::new(Socket { stream, idle_since: Mutex::new(None), unsent: Mutex::default() });
        self.list.lock().push(Arc::downgrade(&socket));
        let mut watched = self.watched.lock();
        if !*watched {
            let own = Arc::downgrade(self);
            let watch = move || {
                while let Some(sockets) = own.upgrade() {
                    sockets.tidy();
                    drop(sockets);
                    std::thread::sleep(LOOK_EVERY);
                }
            };
            // Without the thread, connections are still checked before use.
            *watched = std::thread::Builder::new().name("idle".into()).spawn(watch).is_ok();
        }
        socket
    }

    pub(super) fn tidy(&self) {
        let sockets: Vec<_> = {
            let mut list = self.list.lock();
            list.retain(|socket| socket.strong_count() > 0);
            list.iter().filter_map(Weak::upgrade).collect()
        };
        for socket in sockets {
            socket.tidy(self.longest);
        }
    }
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
        if let Some(sent) = self.socket.send_later(&self.buffers.output()[..amount]) {
            return sent.map(drop).map_err(Error::Io);
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

    /// Called before a connection enters the pool and after it leaves, which is when the check is
    /// needed.
    fn is_open(&mut self) -> bool {
        let mut idle_since = self.socket.idle_since.lock();
        let open = idle_since.is_none() || self.socket.is_quiet();
        *idle_since = open.then(Instant::now);
        open
    }
}
