//! What the server derives from the configured limits.

use std::time::Duration;

use crate::config::Limits;
use crate::value::chunked::Bounds;

impl Limits {
    /// How soon to try again to send. The kernel reports room only once a third of its buffer is free, so smaller progress
    /// has to be found by trying.
    pub fn send_again(&self) -> Duration {
        self.write_timeout / 8
    }

    /// Of a body that is held in memory.
    pub(super) const fn bounds(&self) -> Bounds {
        Bounds { body: self.body_bytes, ..self.streamed_bounds() }
    }

    /// Of a streamed body, which may have any size.
    pub(super) const fn streamed_bounds(&self) -> Bounds {
        Bounds { body: usize::MAX, trailers: self.head_bytes }
    }
}
