//! Builds everything from the configuration and runs it.

use std::process::ExitCode;

use crate::config::{Loaded, Problem};

/// Reads the configuration again.
pub type Reload = Box<dyn Fn() -> Result<Loaded, Vec<Problem>> + Send + Sync>;

/// Serves until SIGTERM or SIGINT.
pub fn serve(_loaded: Loaded, _reload: Reload) -> ExitCode {
    ExitCode::SUCCESS
}

/// Tries every credential, and with `online` the metadata and a token per API.
pub fn check(_loaded: &Loaded, _online: bool) -> ExitCode {
    ExitCode::SUCCESS
}

/// The OpenAPI document.
pub fn openapi() -> String {
    String::new()
}
