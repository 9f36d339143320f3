//! In a build without the feature `shared-cache`: [`Shared`] does not exist, and nothing asks it.

use std::sync::Arc;
use std::time::Duration;

use super::access_token::AccessToken;
use super::cache::Lead;
use super::error::Error;
use super::leg::Job;
use super::session::{SessionId, Sessions};
use crate::clock::Clock;
use crate::turns::Lane;

pub enum Shared {}

pub enum Sharing {}

pub enum Answer {
    Found(Arc<AccessToken>),
    Ask(Option<Box<Sharing>>),
}

impl Shared {
    pub fn lane() -> Lane {
        Lane::ManagedIdentity
    }

    pub const fn session_lifetime(&self) -> Duration {
        match *self {}
    }

    pub const fn is_asked(&self) -> bool {
        match *self {}
    }

    pub const fn find_session(&self, _: &SessionId, _: &Sessions, _: u64) -> Duration {
        match *self {}
    }

    pub const fn look_up(&self, _: &mut Job, _: &Lead, _: &Sessions, _: &dyn Clock) -> Answer {
        match *self {}
    }
}

impl Sharing {
    pub const fn publish(&self, _: &Lead, _: &Result<Arc<AccessToken>, Error>) {
        match *self {}
    }
}
