//! The HTTP client of the tests. It sends the bytes that it is given and hides nothing of the answer: one that is not
//! framed as RFC 9112 §6 demands fails the test.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything takes on the slowest machine; only a test that fails waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until it holds.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A request in the making.
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// Without a body, for host `localhost`.
    pub fn new(method: &str, target: &str) -> Self {
        let host = ("Host".to_owned(), "localhost".to_owned());
        Self { method: method.to_owned(), target: target.to_owned(), headers: vec![host], body: Vec::new() }
    }

    /// `GET` of this target.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// Sets a header, in place of an earlier one of this name.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets `Authorization` to a bearer token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Sets body and `Content-Length`.
    #[must_use]
    pub fn bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.header("Content-Length", &length)
    }

    /// Sets the body with its type and length.
    #[must_use]
    pub fn body(self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.header("Content-Type", content_type).bytes(body)
    }

    /// Sends it on a connection of its own, which must end after the one answer.
    #[track_caller]
    pub fn send(self, address: SocketAddr) -> Response {
        let mut client = Client::connect(address);
        let response = self.header("Connection", "close").send_on(&mut client);
        assert!(client.ends(), "something follows the last answer: {:?}", String::from_utf8_lossy(&client.ahead));
        response
    }

    /// Sends it on a connection that stays open.
    #[track_caller]
    pub fn send_on(&self, client: &mut Client) -> Response {
        self.begin_on(client);
        if self.method == "HEAD" { client.answer_to_head() } else { client.answer() }
    }

    /// Without waiting for the answer.
    #[track_caller]
    pub fn begin_on(&self, client: &mut Client) {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(&self.body);
        client.send(bytes);
    }
}

/// One connection, with what was read from it and not asked for yet.
pub struct Client {
    /// For what is not a message.
    pub stream: TcpStream,
    ahead: Vec<u8>,
}

impl Client {
    /// Connects, with [`PATIENCE`] for every read and write.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout above zero");
        stream.set_nodelay(true).expect("an open socket");
        Self { stream, ahead: Vec::new() }
    }

    /// Sends these very bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).expect("an open connection");
        self
    }

    /// Sends a `GET` and nothing but `Host`.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> &mut Self {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// Reads one more piece; false at the end.
    fn more(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => false,
            Ok(bytes) => {
                self.ahead.extend_from_slice(&piece[..bytes]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    fn take(&mut self, bytes: usize) -> Vec<u8> {
        while self.ahead.len() < bytes {
            assert!(self.more(), "the answer ended after {} of {bytes} bytes", self.ahead.len());
        }
        self.ahead.drain(..bytes).collect()
    }

    /// Everything up to this delimiter, without it.
    fn take_until(&mut self, delimiter: &[u8]) -> String {
        loop {
            if let Some(at) = self.ahead.windows(delimiter.len()).position(|window| window == delimiter) {
                let mut taken = self.take(at + delimiter.len());
                taken.truncate(at);
                return String::from_utf8(taken).expect("text");
            }
            assert!(self.more(), "the connection ended with {:?}", String::from_utf8_lossy(&self.ahead));
        }
    }

    /// Reads the head of an answer, without its empty line.
    #[track_caller]
    pub fn head(&mut self) -> String {
        self.take_until(b"\r\n\r\n")
    }

    /// Reads an answer.
    #[track_caller]
    pub fn answer(&mut self) -> Response {
        let mut response = self.answer_to_head();
        let body = match (response.all("Content-Length").as_slice(), response.all("Transfer-Encoding").as_slice()) {
            ([], ["chunked"]) => self.chunks(),
            ([length], []) => {
                assert!(length.bytes().all(|byte| byte.is_ascii_digit()), "Content-Length: {length}");
                self.take(length.parse().expect("a length"))
            }
            ([], []) if matches!(response.status, 204 | 304) => Vec::new(),
            ([], []) if response.header("Connection") == Some("close") => self.rest(),
            framing => panic!("nobody can tell where the body ends: {framing:?}"),
        };
        response.body = String::from_utf8(body).expect("text");
        response
    }

    /// Reads an answer to `HEAD`, which ends with its head.
    #[track_caller]
    pub fn answer_to_head(&mut self) -> Response {
        Response::of_head(&self.head())
    }

    /// A chunked body without extensions and trailers (RFC 9112 §7.1).
    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(&self.take_until(b"\r\n"), 16).expect("the size of a chunk");
            body.extend(self.take(size));
            assert_eq!(self.take(2), b"\r\n", "the end of a chunk");
            if size == 0 {
                return body;
            }
        }
    }

    /// Everything until the end of the connection, as it comes.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.ahead)
    }

    /// Waits for the end of the connection; false if something comes before it.
    pub fn ends(&mut self) -> bool {
        while self.more() {}
        self.ahead.is_empty()
    }
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names and values as they came.
    pub headers: Vec<(String, String)>,
    /// Without its transfer coding.
    pub body: String,
}

#[allow(clippy::return_self_not_must_use, reason = "what expects something asserts it")]
impl Response {
    #[track_caller]
    fn of_head(head: &str) -> Self {
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|line| {
            let (code, _) = line.split_once(' ')?;
            (code.len() == 3).then(|| code.parse().ok())?
        });
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            let sound = !name.is_empty() && !name.contains(' ') && !value.contains(char::is_control);
            sound.then(|| (name.to_owned(), value.to_owned()))
        };
        let headers: Option<_> = lines.map(header).collect();
        let (Some(status), Some(headers)) = (status, headers) else { panic!("a malformed head: {head:?}") };
        Self { status, headers, body: String::new() }
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let of_name = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| value.as_str()).collect()
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The same answer, which must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    /// The same answer, which must be a problem (RFC 9457) with this detail.
    #[track_caller]
    pub fn problem(self, status: u16, detail: &str) -> Self {
        assert_eq!((self.status, self.json()["detail"].as_str()), (status, Some(detail)), "{}", self.body);
        assert_eq!(self.header("Content-Type"), Some("application/problem+json"));
        assert_eq!(self.header("Cache-Control"), Some("no-store"));
        self
    }

    /// The token in the member `authorizationHeader`.
    #[track_caller]
    pub fn token(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.body);
        let header = self.json()["authorizationHeader"].as_str().map(str::to_owned).expect("authorizationHeader");
        header.split_once(' ').expect("a scheme and a token").1.to_owned()
    }

    /// The AADSTS number of a token endpoint's refusal.
    #[track_caller]
    pub fn code(&self) -> u64 {
        assert_ne!(self.status, 200, "{}", self.body);
        self.json()["error_codes"][0].as_u64().expect("error_codes")
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::panic::catch_unwind;

    use super::*;

    /// What a client makes of these bytes, after which the connection ends; nothing where it refuses them.
    fn answer(bytes: &'static str) -> Option<Response> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(bytes.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let answer = catch_unwind(|| Request::get("/").send(address)).ok();
        server.join().unwrap();
        answer
    }

    #[test]
    fn well_framed_answers_are_read() {
        for (bytes, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n", "hi!"),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi", "hi"),
            ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ] {
            assert_eq!(answer(bytes).unwrap().body, body, "{bytes:?}");
        }
    }

    #[test]
    fn malformed_answers_fail_the_test() {
        for bytes in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi!",
            "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nhi",
            "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            "HTTP/1.1 200 OK\r\nX: a\nY: b\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        ] {
            assert!(answer(bytes).is_none(), "{bytes:?}");
        }
    }
}
