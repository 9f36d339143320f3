//! What the C library's allocator is told. Builds for musl need none of it: that allocator gives every large block back
//! to the system at once.
//!
//! glibc raises the size from which blocks are mapped by themselves whenever such a block is freed (mallopt(3),
//! `M_MMAP_THRESHOLD`). After the first large body, those that follow come out of the threads' arenas, each of which keeps
//! what it once had: a hundred answers of 29 MiB, two at a time, left 490 MiB behind. A threshold that is set stays as it
//! is. It can only be set before the program starts, so the program starts itself once more.

/// Starts the program again with the allocator's settings in its environment, unless they are there. Comes back where
/// that is not necessary or not possible.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn settle() {
    use std::env;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    /// mallopt(3) names the variables; the threshold is glibc's own default.
    const SETTINGS: [(&str, &str); 2] = [("MALLOC_MMAP_THRESHOLD_", "131072"), ("MALLOC_ARENA_MAX", "4")];

    // Whoever has set one of them knows better; so it ends after one turn as well.
    if SETTINGS.iter().any(|(name, _)| env::var_os(name).is_some()) {
        return;
    }
    let mut arguments = env::args_os();
    let name = arguments.next();
    let mut again = Command::new("/proc/self/exe");
    if let Some(name) = name {
        again.arg0(name);
    }
    // It returns only where it fails, e.g. without /proc: then more memory is kept, and all else is the same.
    let _ = again.args(arguments).envs(SETTINGS).exec();
}

/// There is nothing to tell other allocators.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub const fn settle() {}
