//! An upstream that the test talks for: each connection's request head arrives in a queue together with the socket, and
//! what is said and read on it, and when, is the test's own affair.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::support::PATIENCE;

/// The running server; its thread ends with the test's process.
pub struct LiveUpstream {
    pub address: SocketAddr,
    arrivals: Mutex<Receiver<TcpStream>>,
}

/// One connection, and what was read of it and not asked for yet.
pub struct Line {
    pub stream: TcpStream,
    ahead: Vec<u8>,
}

impl LiveUpstream {
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if sender.send(stream).is_err() {
                    return;
                }
            }
        });
        Self { address, arrivals: Mutex::new(receiver) }
    }

    /// The next connection, and the head of the first request on it.
    #[track_caller]
    pub fn accept(&self) -> (Line, String) {
        let stream = self.arrivals.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut line = Line { stream, ahead: Vec::new() };
        let head = line.head();
        (line, head)
    }
}

impl Line {
    /// The head of the next request, with its empty line.
    #[track_caller]
    pub fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.ahead.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                return String::from_utf8(self.ahead.drain(..at + 4).collect()).unwrap();
            }
            assert!(self.more(), "no whole head: {:?}", String::from_utf8_lossy(&self.ahead));
        }
    }

    fn more(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        let read = self.stream.read(&mut piece).unwrap();
        self.ahead.extend_from_slice(&piece[..read]);
        read > 0
    }

    /// Waits for these bytes.
    #[track_caller]
    pub fn expect(&mut self, bytes: &str) {
        while self.ahead.len() < bytes.len() {
            assert!(self.more(), "{:?} and the end", String::from_utf8_lossy(&self.ahead));
        }
        assert_eq!(String::from_utf8_lossy(&self.ahead[..bytes.len()]), bytes);
        self.ahead.drain(..bytes.len());
    }

    /// Reads and drops so many bytes.
    #[track_caller]
    pub fn skip(&mut self, bytes: usize) {
        let mut left = bytes;
        loop {
            let taken = left.min(self.ahead.len());
            self.ahead.drain(..taken);
            left -= taken;
            if left == 0 {
                return;
            }
            assert!(self.more(), "{left} of {bytes} bytes are missing");
        }
    }

    pub fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the other end to end it, in whatever way.
    pub fn ends(&mut self) {
        let mut piece = [0; 16 * 1024];
        while self.stream.read(&mut piece).is_ok_and(|read| read > 0) {}
    }

    /// Ends it as a program does that has crashed.
    pub fn reset(self) {
        // Without time to linger the kernel sends a reset instead of an end.
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(std::time::Duration::ZERO)).unwrap();
    }
}
