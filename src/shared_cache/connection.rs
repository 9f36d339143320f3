//! One connection to the store. The crate `redis` writes the commands and reads the answers; the
//! socket is ours, because every command has a deadline, and not each of its reads a timeout.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, Parser, Value};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::failure::{Failure, expect};
use super::seal::MAX_VALUE;
use crate::outbound::resolver::{Resolve, addresses};
use crate::value::store_url::{Server, StoreUrl};

/// Room for one answer: a value of the permitted size, or an error message.
const ANSWER_BYTES: usize = MAX_VALUE + 4 * 1024;

pub struct Target {
    pub url: StoreUrl,
    pub tls: Arc<ClientConfig>,
    pub resolver: Arc<dyn Resolve>,
}

pub struct Connection {
    stream: Stream,
    parser: Parser,
}

struct Stream {
    socket: Socket,
    tls: Option<Box<ClientConnection>>,
}

/// A socket whose reads and writes end at the deadline. `UnixStream` treats both kinds of socket
/// alike.
struct Socket {
    stream: UnixStream,
    deadline: Instant,
}

impl Connection {
    pub fn open(target: &Target, deadline: Instant) -> Result<Self, Failure> {
        let StoreUrl { server, user, password, database } = &target.url;
        let (stream, tls) = match server {
            // Either connects or fails at once.
            Server::Unix(path) => (UnixStream::connect(path)?, None),
            Server::Tcp(origin) => {
                let addresses = addresses(&target.resolver, origin.host(), origin.port, left(deadline)?)?;
                let tcp = connect(&addresses, deadline)?;
                tcp.set_nodelay(true)?;
                let tls = if origin.https {
                    let host = origin.host().trim_start_matches('[').trim_end_matches(']').to_owned();
                    let name = ServerName::try_from(host).map_err(io::Error::other)?;
                    let tls = ClientConnection::new(Arc::clone(&target.tls), name).map_err(io::Error::other)?;
                    Some(Box::new(tls))
                } else {
                    None
                };
                (OwnedFd::from(tcp).into(), tls)
            }
        };
        let stream = Stream { socket: Socket { stream, deadline }, tls };
        let mut connection = Self { stream, parser: Parser::new() };
        let mut introduction = Vec::new();
        if let Some(password) = password {
            let mut auth = redis::cmd("AUTH");
            if let Some(user) = user {
                auth.arg(user.as_str());
            }
            auth.arg(password.expose().as_str());
            introduction.push(auth);
        }
        if *database > 0 {
            introduction.push(redis::cmd("SELECT").arg(*database).take());
        }
        if !introduction.is_empty() {
            for answer in connection.ask(&introduction, deadline)? {
                expect(answer)?;
            }
        }
        Ok(connection)
    }

    /// Sends all commands at once and returns their answers, errors of the server among them.
    pub fn ask(&mut self, commands: &[Cmd], deadline: Instant) -> Result<Vec<Value>, Failure> {
        let mut packed = zeroize::Zeroizing::new(Vec::new());
        for command in commands {
            command.write_packed_command(&mut packed);
        }
        let Self { stream, parser } = self;
        stream.socket.deadline = deadline;
        stream.write_all(&packed)?;
        stream.flush()?;
        let mut answers = Answers { stream, room: ANSWER_BYTES * commands.len(), ended: 2, refused: false };
        let mut values = Vec::with_capacity(commands.len());
        for _ in commands {
            match parser.parse_value(&mut answers) {
                Ok(value) => values.push(value),
                Err(_) if answers.refused => return Err(Failure::Value("the store sent no value of ours")),
                Err(error) => return Err(Failure::Server(error.to_string())),
            }
        }
        Ok(values)
    }
}

/// Connects to the first address that answers. Each but the last gets half of the remaining time.
fn connect(addresses: &[std::net::SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (index, address) in addresses.iter().enumerate() {
        let left = left(deadline)?;
        match TcpStream::connect_timeout(address, if index + 1 == addresses.len() { left } else { left / 2 }) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    // The system takes no timeout of less than a microsecond.
    if left < Duration::from_micros(1) { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

impl Socket {
    fn prepare(&self) -> io::Result<()> {
        let left = Some(left(self.deadline)?);
        self.stream.set_read_timeout(left)?;
        self.stream.set_write_timeout(left)
    }
}

/// A timeout of the socket, which the system reports as "would block".
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.prepare()?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.prepare()?;
        self.stream.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.read(buffer),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.socket).read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.write(bytes),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.socket).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => Ok(()),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.socket).flush(),
        }
    }
}

/// The answers to one batch of commands: bounded, and without aggregates. None of our commands is
/// answered by one, and the parser recurses for each level of them, on a small stack. Our own
/// values contain no line ends.
struct Answers<'a> {
    stream: &'a mut Stream,
    room: usize,
    /// 2 behind a line end, 1 within one.
    ended: u8,
    refused: bool,
}

impl Read for Answers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        for byte in &buffer[..read] {
            self.refused |= self.ended == 2 && matches!(byte, b'*' | b'%' | b'~' | b'|' | b'>');
            self.ended = match byte {
                b'\r' => 1,
                b'\n' if self.ended == 1 => 2,
                _ => 0,
            };
        }
        self.refused |= read > self.room;
        self.room = self.room.saturating_sub(read);
        if self.refused { Err(io::ErrorKind::InvalidData.into()) } else { Ok(read) }
    }
}
