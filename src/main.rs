//! The program `entra-sidecar`.

fn main() {}
