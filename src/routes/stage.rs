//! How far a pending answer has come. A worker and a thread that may block go on with the same one.

use std::mem;

pub enum CallStage<R, T> {
    /// What it is begun with.
    Ready(R),
    Running(T),
    Over,
}

impl<R, T> CallStage<R, T> {
    /// Begins, unless that was done before. `None`: it is over.
    pub fn begin<E>(&mut self, begin: impl FnOnce(R) -> Result<T, E>) -> Result<Option<&mut T>, E> {
        if let Self::Ready(_) = self
            && let Self::Ready(ready) = mem::replace(self, Self::Over)
        {
            *self = Self::Running(begin(ready)?);
        }
        match self {
            Self::Running(running) => Ok(Some(running)),
            Self::Ready(_) | Self::Over => Ok(None),
        }
    }

    pub const fn running(&self) -> Option<&T> {
        match self {
            Self::Running(running) => Some(running),
            Self::Ready(_) | Self::Over => None,
        }
    }

    pub fn end(&mut self) -> Option<T> {
        match mem::replace(self, Self::Over) {
            Self::Running(running) => Some(running),
            Self::Ready(_) | Self::Over => None,
        }
    }
}
