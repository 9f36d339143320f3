//! Which program is tested.

use std::path::PathBuf;

/// The one that was built with the tests, or the one that `SIDECAR_BINARY` names: a released one, or a script that starts one
/// under an emulator.
pub fn program() -> PathBuf {
    std::env::var_os("SIDECAR_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_entra-sidecar").into(), PathBuf::from)
}
