use std::process::ExitCode;

fn main() -> ExitCode {
    entra_sidecar::cli::run(std::env::args_os().skip(1), std::env::vars_os())
}
