//! Signing keys: where they come from, what they are, and when they are fetched again.

mod document;
mod key_set;
mod refresh;
mod schedule;
mod settings;

pub use key_set::{Key, KeySet, Material};
pub use refresh::{Answer, Keys};
pub use settings::Settings;
