//! The front door over real sockets.

mod ending;
mod hostile;
mod limits;
mod messages;
mod parking;
mod support;
