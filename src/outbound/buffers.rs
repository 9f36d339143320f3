//! Buffers that a thread keeps, so that a stream that waits holds none and the next one allocates none.

use std::cell::RefCell;

/// Per thread: one for what comes, one for what goes.
const SPARES: usize = 2;
/// The largest one that is kept.
const SPARE_BYTES: usize = 64 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Makes room for so many further bytes, in a buffer that was given back if there is one.
pub fn reserve(buffer: &mut Vec<u8>, room: usize) {
    if buffer.capacity() == 0
        && let Some(spare) = SPARE.with_borrow_mut(Vec::pop)
    {
        *buffer = spare;
    }
    buffer.reserve_exact(room);
}

/// Gives an empty buffer back to the thread.
pub fn give_back(buffer: &mut Vec<u8>) {
    if buffer.is_empty() && (1..=SPARE_BYTES).contains(&buffer.capacity()) {
        SPARE.with_borrow_mut(|spares| {
            if spares.len() < SPARES {
                spares.push(std::mem::take(buffer));
            }
        });
    }
}
