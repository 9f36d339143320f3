//! The system calls on a connection. None of them blocks.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

#[derive(Debug)]
pub(super) struct Socket(pub OwnedFd);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Socket {
    /// Appends to the spare capacity of `into`. `None`: nothing to read yet. `Some(0)`: the peer
    /// has closed its end.
    pub fn receive(&self, into: &mut Vec<u8>) -> Result<Option<usize>, Errno> {
        self.receive_with(into, RecvFlags::empty())
    }

    /// As [`Self::receive`], but leaves the bytes in the socket.
    pub fn peek(&self, into: &mut Vec<u8>) -> Result<Option<usize>, Errno> {
        self.receive_with(into, RecvFlags::PEEK)
    }

    fn receive_with(&self, into: &mut Vec<u8>, flags: RecvFlags) -> Result<Option<usize>, Errno> {
        match retry_on_intr(|| rustix::net::recv(&self.0, spare_capacity(into), flags)) {
            Ok((_, bytes)) => Ok(Some(bytes)),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends as much as fits of `head`, then `body`, in one system call.
    pub fn send(&self, head: &[u8], body: &[u8]) -> Result<usize, Errno> {
        let sent = retry_on_intr(|| {
            if body.is_empty() {
                return rustix::net::send(&self.0, head, SendFlags::NOSIGNAL);
            }
            let pieces = [IoSlice::new(head), IoSlice::new(body)];
            rustix::net::sendmsg(&self.0, &pieces, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
        });
        match sent {
            Err(Errno::AGAIN) => Ok(0),
            other => other,
        }
    }

    pub fn finish_sending(&self) {
        // Fails on a broken connection, which the next read reports too.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Write);
    }
}
