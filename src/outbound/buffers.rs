//! Buffers that a thread keeps, so that a stream that waits holds none and the next one allocates none.

use std::cell::{Cell, RefCell};
use std::mem;

use crate::value::wide;
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

/// Room for the head of a usual request, in bytes.
const USUAL_HEAD: usize = 1024;
/// Larger buffers of heads are not kept.
const HEAD_BYTES: usize = 8 * 1024;

thread_local! {
    static HEAD: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An empty buffer for the head of a request. Heads hold a token, and are wiped.
pub fn for_head() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(HEAD.take())
}

/// Appends to a head. Where it grows, it is moved, and wiped where it was.
pub fn append(head: &mut Zeroizing<Vec<u8>>, parts: &[&[u8]]) {
    let length = head.len() + parts.iter().map(|part| part.len()).sum::<usize>();
    if length > head.capacity() {
        let mut larger = Vec::with_capacity(length.next_power_of_two().max(USUAL_HEAD));
        larger.extend_from_slice(head);
        *head = Zeroizing::new(larger);
    }
    for part in parts {
        wide::push(head, part);
    }
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
        let mut head = for_head();
        append(&mut head, &[b"sec", b"ret"]);
        assert_eq!(*head, b"secret");
        let (place, room) = (head.as_ptr(), head.capacity());
        wipe_head(&mut head);
        assert_eq!((head.len(), head.capacity()), (0, 0));
        let mut again = for_head();
        assert_eq!((again.as_ptr(), again.capacity()), (place, room));
        append(&mut again, &[&b"-".repeat(USUAL_HEAD), b"+"]);
        assert_eq!((again.len(), again.last()), (USUAL_HEAD + 1, Some(&b'+')));
        append(&mut again, &[&b"-".repeat(HEAD_BYTES)]);
        wipe_head(&mut again);
        assert!(again.capacity() > HEAD_BYTES, "it is dropped with its owner");
    }
}
