//! An upstream that is nothing but bytes, with TLS or without: it keeps each request as it came and answers what the
//! test says. For what the tenant is too well-behaved to do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The root that vouches for [`RawUpstream::tls`], at `localhost`, `api.test` and `other.test`.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/root.pem");

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// The lines up to the empty one, without their ends.
    pub head: Vec<String>,
    /// Without its transfer coding.
    pub body: Vec<u8>,
}

impl Received {
    /// The second word of the first line.
    pub fn target(&self) -> &str {
        self.head[0].split(' ').nth(1).unwrap()
    }

    /// All values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let fields = self.head[1..].iter().filter_map(|line| line.split_once(": "));
        fields.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }
}

/// What is written, and what becomes of the connection then.
pub enum Act {
    /// It serves the next request.
    Keep(Vec<u8>),
    /// It ends as it should.
    Close(Vec<u8>),
    /// It breaks: over TLS without the alert that ends it.
    Cut(Vec<u8>),
    /// It stays open, and nothing more comes.
    Stall(Vec<u8>),
}

/// `200` with this body.
pub fn ok(body: &str) -> Act {
    Act::Keep(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

/// The running server; its threads end with the test's process.
pub struct RawUpstream {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
}

impl RawUpstream {
    pub fn start(answer: impl Fn(&Received) -> Act + Send + Sync + 'static) -> Self {
        Self::serve(None, answer)
    }

    /// As `https://localhost` and, through a proxy, `https://api.test` and `https://other.test`.
    pub fn tls(answer: impl Fn(&Received) -> Act + Send + Sync + 'static) -> Self {
        Self::serve(Some(tls_config()), answer)
    }

    /// As [`Self::tls`], but it answers every request before it reads the body, and is gone then.
    pub fn tls_in_a_hurry(answer: &'static str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let upstream =
            Self { address: listener.local_addr().unwrap(), received: Arc::default(), connections: Arc::default() };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Else the answer could wait for an acknowledgement, and be lost with the connection.
                stream.set_nodelay(true).unwrap();
                let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(tls_config()).unwrap(), stream));
                let mut line = String::new();
                while line != "\r\n" {
                    line.clear();
                    stream.read_line(&mut line).unwrap();
                }
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        upstream
    }

    fn serve(tls: Option<Arc<ServerConfig>>, answer: impl Fn(&Received) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (received, connections) = (Arc::default(), Arc::default());
        let upstream = Self { address, received: Arc::clone(&received), connections: Arc::clone(&connections) };
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                connections.fetch_add(1, Ordering::SeqCst);
                let (tls, received, answer) = (tls.clone(), Arc::clone(&received), Arc::clone(&answer));
                stream.set_nodelay(true).unwrap();
                thread::spawn(move || {
                    let handle = |request: Received| {
                        received.lock().unwrap().push(request.clone());
                        answer(&request)
                    };
                    match tls {
                        None => converse(stream, handle, |_| {}),
                        Some(config) => {
                            let stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                            converse(stream, handle, |stream| {
                                stream.conn.send_close_notify();
                                let _ = stream.flush();
                            });
                        }
                    }
                });
            }
        });
        upstream
    }

    /// What came, in the order of arrival.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The newest request.
    pub fn last(&self) -> Received {
        self.received().pop().unwrap()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn tls_config() -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("../data/tls/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../data/tls/server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

fn converse<S: Read + Write>(stream: S, mut handle: impl FnMut(Received) -> Act, end: impl Fn(&mut S)) {
    let mut reader = BufReader::new(stream);
    while let Some((head, body)) = read(&mut reader) {
        let act = handle(Received { head, body });
        let (Act::Keep(bytes) | Act::Close(bytes) | Act::Cut(bytes) | Act::Stall(bytes)) = &act;
        let stream = reader.get_mut();
        // Whoever asks too much of the other side learns it from a write that fails.
        if stream.write_all(bytes).and_then(|()| stream.flush()).is_err() {
            return;
        }
        match act {
            Act::Keep(_) => {}
            Act::Close(_) => return end(stream),
            Act::Cut(_) => return,
            Act::Stall(_) => {
                let _ = reader.read(&mut [0]);
                return;
            }
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<(Vec<String>, Vec<u8>)> {
    let mut head = Vec::new();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    let length = head.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}
