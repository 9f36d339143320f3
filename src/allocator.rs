//! Tunes the C library's allocator. Builds for musl need no tuning: its allocator returns every
//! large block to the system at once.
//!
//! Whenever a mapped block is freed, glibc raises the size from which it maps blocks (mallopt(3),
//! `M_MMAP_THRESHOLD`). After the first large body, later ones come from the threads' arenas, which
//! never shrink: a hundred answers of 29 MiB, two at a time, left 490 MiB behind. A threshold that
//! is set explicitly stays fixed. It can only be set before the program starts, so the program
//! restarts itself once.

/// Restarts the program with the allocator's settings in its environment, unless they are set.
/// Returns if that is unnecessary or fails.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn settle() {
    use std::env;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    /// mallopt(3) names the variables. The threshold is glibc's own default.
    const SETTINGS: [(&str, &str); 2] = [("MALLOC_MMAP_THRESHOLD_", "131072"), ("MALLOC_ARENA_MAX", "4")];

    // An operator's own setting wins. The variables also tell the restarted program to go on.
    if SETTINGS.iter().any(|(name, _)| env::var_os(name).is_some()) {
        return;
    }
    let mut arguments = env::args_os();
    let name = arguments.next();
    let mut again = Command::new("/proc/self/exe");
    if let Some(name) = name {
        again.arg0(name);
    }
    // `exec` returns only on failure, e.g. without /proc; then the process merely keeps more
    // memory.
    let _ = again.args(arguments).envs(SETTINGS).exec();
}

/// Other allocators need no tuning.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub const fn settle() {}
