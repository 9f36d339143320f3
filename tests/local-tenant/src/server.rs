//! A small HTTP/1.1 server, one thread a connection. The connections are its own, because a test double must
//! be able to count them, to cut them at any byte, and to answer at once (`TCP_NODELAY`); `tiny_http` hands out
//! neither its sockets nor a way to close one.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::message::{Answer, Ending, Framing, Request};

/// Longest accepted request head.
const HEAD_LIMIT: u64 = 256 * 1024;
/// Longest accepted request body.
const BODY_LIMIT: u64 = 64 * 1024 * 1024;

/// What the server calls for each request.
pub trait Handler: Send + Sync + 'static {
    /// Called when the head is read and the body is not: an answer here leaves the body unread.
    fn head(&self, request: &Request) -> Option<Answer>;
    /// Called with the complete request.
    fn handle(&self, request: Request) -> Answer;
}

/// A running server; it stops when dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
}

struct Shared {
    stopping: AtomicBool,
    accepted: AtomicU64,
    open: Mutex<HashMap<u64, TcpStream>>,
}

impl Server {
    /// Serves what arrives at this listener.
    pub fn start(listener: TcpListener, handler: Arc<dyn Handler>) -> io::Result<Self> {
        allow_many_descriptors();
        let address = listener.local_addr()?;
        // Listening again changes nothing but the length of the queue.
        rustix::net::listen(&listener, 4096)?;
        let shared = Arc::new(Shared {
            stopping: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            open: Mutex::new(HashMap::new()),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared, &handler)
        });
        Ok(Self { address, shared, acceptor })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were accepted since the start.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.shared.open().len()
    }

    /// Cuts every open connection, idle ones included.
    pub fn cut_all(&self) {
        for stream in self.shared.open().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that waits in accept. While there are too many open files, it cannot be woken.
        while !self.acceptor.is_finished() {
            let _ = TcpStream::connect(self.address);
            thread::sleep(Duration::from_millis(1));
        }
        self.cut_all();
    }
}

/// A process usually starts with 1024 descriptors, fewer than the connections that tests make, and may take more itself.
fn allow_many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, some tests say what they lack.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, handler: &Arc<dyn Handler>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        // A failed accept (too many open files) passes; the next one may succeed.
        let Ok(stream) = stream else { continue };
        let (Ok(()), Ok(watched)) = (stream.set_nodelay(true), stream.try_clone()) else { continue };
        let id = shared.accepted.fetch_add(1, Ordering::SeqCst) + 1;
        shared.open().insert(id, watched);
        let (shared, handler) = (Arc::clone(shared), Arc::clone(handler));
        let _ = thread::Builder::new().stack_size(512 * 1024).spawn(move || {
            let _ = serve(&stream, id, handler.as_ref());
            let _ = stream.shutdown(Shutdown::Both);
            shared.open().remove(&id);
        });
    }
}

/// Serves one connection until either side ends it.
fn serve(stream: &TcpStream, id: u64, handler: &dyn Handler) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(16 * 1024, stream);
    loop {
        let (mut request, wants_close) = match read_head(&mut reader) {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return write(stream, &Answer::text(400, error.to_string()), true, false);
            }
            Err(error) => return Err(error),
        };
        // Whoever wants a tunnel (RFC 9110 §9.3.6) finds this same server at its end.
        if request.method == "CONNECT" {
            (&*stream).write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
            continue;
        }
        request.connection = id;
        let is_head = request.method == "HEAD";
        if let Some(answer) = handler.head(&request) {
            return write(stream, &answer, true, is_head);
        }
        if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            (&*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        request.body = read_body(&mut reader, &request)?;
        let answer = handler.handle(request);
        let closes = wants_close || answer.ending != Ending::KeepOpen || answer.framing == Framing::UntilClose;
        write(stream, &answer, closes, is_head)?;
        if closes {
            return Ok(());
        }
    }
}

fn malformed(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

/// Reads a request head; nothing when the client has closed. The flag says whether the connection ends after it.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<(Request, bool)>> {
    let mut budget = reader.take(HEAD_LIMIT);
    let mut line = String::new();
    if budget.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.trim_end_matches(['\r', '\n']).split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(malformed("request line"));
    };
    // A client behind a proxy sends the absolute form (RFC 9112 §3.2.2); this server then plays the proxy.
    let (authority, target) = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or((Some(rest), "/"), |slash| (Some(&rest[..slash]), &rest[slash..])),
        None => (None, target),
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request { method: method.into(), path: path.into(), query: query.into(), ..Request::default() };
    let old = version == "HTTP/1.0";
    loop {
        let mut line = String::new();
        if budget.read_line(&mut line)? == 0 {
            return Err(malformed("incomplete head"));
        }
        let line = line.trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("header"))?;
        request.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    if let Some(authority) = authority {
        request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("host"));
        request.headers.push(("Host".into(), authority.into()));
    }
    let connection = request.header("connection").unwrap_or_default().to_ascii_lowercase();
    let wants_close = connection.contains("close") || (old && !connection.contains("keep-alive"));
    Ok(Some((request, wants_close)))
}

fn read_body(reader: &mut impl BufRead, request: &Request) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if request.header("transfer-encoding").is_some() {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = line.trim().split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size, 16).map_err(|_| malformed("chunk size"))?;
            if size + body.len() as u64 > BODY_LIMIT {
                return Err(malformed("body over the limit"));
            }
            if size == 0 {
                // Trailer lines up to the empty one.
                while !matches!(line.as_str(), "\r\n" | "\n" | "") {
                    line.clear();
                    reader.read_line(&mut line)?;
                }
                return Ok(body);
            }
            reader.take(size).read_to_end(&mut body)?;
            line.clear();
            reader.read_line(&mut line)?;
        }
    }
    let length = request.header("content-length").unwrap_or("0").parse().map_err(|_| malformed("content length"))?;
    if length > BODY_LIMIT {
        return Err(malformed("body over the limit"));
    }
    reader.take(length).read_to_end(&mut body)?;
    if (body.len() as u64) < length { Err(malformed("body incomplete")) } else { Ok(body) }
}

fn write(mut stream: &TcpStream, answer: &Answer, closes: bool, is_head: bool) -> io::Result<()> {
    if answer.ending == Ending::Silent {
        return Ok(());
    }
    let mut bytes = format!("HTTP/1.1 {} {}\r\n", answer.status, phrase(answer.status)).into_bytes();
    for (name, value) in &answer.headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    let bodiless = matches!(answer.status, 100..=199 | 204 | 304);
    match answer.framing {
        _ if bodiless => {}
        Framing::Length => bytes.extend_from_slice(format!("Content-Length: {}\r\n", answer.body.len()).as_bytes()),
        Framing::Chunked | Framing::Events => bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::UntilClose => {}
    }
    if closes {
        bytes.extend_from_slice(b"Connection: close\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    if answer.framing == Framing::Events && !is_head {
        return write_events(stream, &bytes, answer);
    }
    if !answer.pause_before_body.is_zero() {
        stream.write_all(&bytes)?;
        bytes.clear();
        thread::sleep(answer.pause_before_body);
    }
    if !is_head && !bodiless {
        if answer.framing == Framing::Chunked {
            for chunk in answer.body.chunks(8192) {
                bytes.extend_from_slice(&chunked(chunk));
            }
            bytes.extend_from_slice(&chunked(b""));
        } else {
            bytes.extend_from_slice(&answer.body);
        }
    }
    if let Ending::CutAfter(length) = answer.ending {
        bytes.truncate(length);
    }
    stream.write_all(&bytes)
}

/// Sends a head, and then the events of a body one by one, up to where the answer is to be cut.
fn write_events(mut stream: &TcpStream, head: &[u8], answer: &Answer) -> io::Result<()> {
    let mut left = if let Ending::CutAfter(length) = answer.ending { length } else { usize::MAX };
    let mut send = |bytes: &[u8]| {
        let sent = &bytes[..bytes.len().min(left)];
        left -= sent.len();
        stream.write_all(sent)
    };
    send(head)?;
    let text = String::from_utf8_lossy(&answer.body);
    for event in text.split_inclusive("\n\n") {
        thread::sleep(answer.pause_before_body);
        send(&chunked(event.as_bytes()))?;
    }
    send(&chunked(b""))
}

/// A chunk (RFC 9112 §7.1); an empty one is the last.
fn chunked(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
