//! Buffers that a thread keeps, so that a stream that waits holds none and the next one allocates none.

use std::cell::{Cell, RefCell};
use std::mem;

use zeroize::{Zeroize as _, Zeroizing};

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
                spares.push(mem::take(buffer));
            }
        });
    }
}

/// Larger buffers of heads are not kept.
const HEAD_BYTES: usize = 8 * 1024;

thread_local! {
    static HEAD: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer for the head of a request, with room for so many bytes. Heads hold a token, and are wiped.
pub fn for_head(room: usize) -> Zeroizing<Vec<u8>> {
    let mut buffer = HEAD.take();
    buffer.reserve_exact(room);
    Zeroizing::new(buffer)
}

/// Wipes a head that has left, and keeps its buffer for the thread's next one.
pub fn wipe_head(head: &mut Zeroizing<Vec<u8>>) {
    head.as_mut_slice().zeroize();
    head.clear();
    if (1..=HEAD_BYTES).contains(&head.capacity()) {
        HEAD.set(mem::take(&mut **head));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_wiped_and_its_buffer_is_used_again() {
        let mut head = for_head(100);
        head.extend_from_slice(b"secret");
        let (place, room) = (head.as_ptr(), head.capacity());
        wipe_head(&mut head);
        assert_eq!((head.len(), head.capacity()), (0, 0));
        let mut again = for_head(50);
        assert_eq!((again.as_ptr(), again.capacity()), (place, room));
        again.resize(6, b'-');
        assert_eq!(*again, b"------");
        let mut long = for_head(HEAD_BYTES + 1);
        wipe_head(&mut long);
        assert!(long.capacity() > HEAD_BYTES, "it is dropped with its owner");
    }
}
