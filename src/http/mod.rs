//! The front door: a fixed pool of workers on one shared epoll. It knows HTTP/1.1 and no route.

pub mod message;

pub use message::{Headers, Method, Peer, Reply, Request};
