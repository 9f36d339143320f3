//! The committed reference of settings is the one that the table makes.

use std::path::Path;

#[test]
fn the_reference_of_settings_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let made = entra_sidecar::internal::config::documentation() + &entra_sidecar::internal::categories();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == made, "docs/configuration.md is old: run scripts/gen-docs.sh");
}
