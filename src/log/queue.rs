//! A bounded queue of lines, and the one thread that writes them.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex};

/// Capacity in lines.
const LINES: usize = 4_096;
const BYTES: usize = 1 << 20;

#[derive(Default)]
pub struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    writing: bool,
}

impl Queue {
    /// Starts the writer. Without a thread there is no log, but the program still serves.
    pub fn start(mut out: impl Write + Send + 'static) -> Arc<Self> {
        let queue = Arc::new(Self::default());
        let own = Arc::clone(&queue);
        let writer = thread::Builder::new().name("log".to_owned()).spawn(move || {
            loop {
                let batch = own.take();
                write(&mut out, &batch);
            }
        });
        drop(writer);
        queue
    }

    /// Queues a line, or counts it as dropped. Never blocks on the writer.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        if state.lines.len() >= LINES || state.bytes + line.len() > BYTES {
            state.dropped += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_vec());
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until the queue is empty, for at most `limit`.
    pub fn flush(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut state = self.state.lock();
        while state.writing || !state.lines.is_empty() {
            let Some(rest) = end.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) else { return };
            state = self.changed.wait_timeout(state, rest);
        }
    }

    /// Blocks until there are lines, and takes all of them.
    fn take(&self) -> Vec<u8> {
        let mut state = self.state.lock();
        state.writing = false;
        self.changed.notify_all();
        while state.lines.is_empty() {
            state = self.changed.wait(state);
        }
        state.writing = true;
        state.bytes = 0;
        let mut batch: Vec<u8> = std::mem::take(&mut state.lines).into_iter().flatten().collect();
        let dropped = std::mem::take(&mut state.dropped);
        drop(state);
        if dropped > 0 {
            batch.extend_from_slice(
                format!("dropped {dropped} log records: they came faster than they were read\n").as_bytes(),
            );
        }
        batch
    }
}

/// Writes as much as possible. A closed descriptor only loses lines.
fn write(out: &mut impl Write, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return,
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another process made the shared descriptor non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(10)),
            Err(_) => return,
        }
    }
}

/// Adapts the queue to `Write`, one line per call.
pub struct Sink(pub Arc<Queue>);

impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Hands over what is written, and waits for leave before each write.
    struct Gate {
        leave: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.leave.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_never_time() {
        let ((leave, gate), (written, lines)) = (mpsc::channel(), mpsc::channel());
        let queue = Queue::start(Gate { leave: gate, written });
        queue.push(b"first\n");
        while !queue.state.lock().writing {
            thread::yield_now();
        }
        for _ in 0..LINES + 7 {
            queue.push(b"x\n");
        }
        queue.flush(Duration::ZERO);
        leave.send(()).unwrap();
        leave.send(()).unwrap();
        assert_eq!(lines.recv().unwrap(), b"first\n");
        let rest = String::from_utf8(lines.recv().unwrap()).unwrap();
        assert_eq!(rest.lines().filter(|line| *line == "x").count(), LINES);
        assert!(rest.ends_with("\ndropped 7 log records: they came faster than they were read\n"));
    }

    #[test]
    fn flush_waits_for_the_last_line() {
        let ((leave, gate), (written, lines)) = (mpsc::channel(), mpsc::channel());
        let queue = Queue::start(Gate { leave: gate, written });
        queue.push(b"last\n");
        leave.send(()).unwrap();
        queue.flush(Duration::from_mins(1));
        assert_eq!(lines.try_recv().unwrap(), b"last\n");
    }

    #[test]
    fn a_closed_descriptor_is_survived() {
        let ((leave, gate), (written, _lines)) = (mpsc::channel(), mpsc::channel());
        drop(leave);
        let queue = Queue::start(Gate { leave: gate, written });
        queue.push(b"lost\n");
        queue.flush(Duration::from_mins(1));
        queue.push(b"lost as well\n");
        queue.flush(Duration::from_mins(1));
    }
}
