//! Holds the connections that no thread is working on. A worker takes one out, so no lock is held
//! while it works. Events that occur meanwhile are noted in the connection's cell.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::connection::{Connection, Stage, Wait};
use super::handler::{ConnectionId, Wake};
use super::poller::{Event, Poller};
use super::slots::{ConnState, Slots};
use crate::config::Limits;
use crate::sync::{Mutex, MutexGuard};
use crate::turns::Turn;

/// Candidates that one eviction tries. Each that has to be skipped has a request waiting to be
/// read, so the workers are behind and another connection would not be served either.
const CANDIDATES: usize = 64;

pub(super) struct Table<P> {
    slots: Arc<Slots>,
    poller: Arc<Poller>,
    cells: Box<[Mutex<Cell<P>>]>,
    free: Mutex<Vec<u32>>,
}

struct Cell<P> {
    conn: Option<Box<Connection<P>>>,
    /// Events reported while a thread had the connection.
    missed: Event,
    /// The last call of the handler whose waker was used. Calls are numbered from 1.
    woken: u64,
    /// A turn that came while a thread had the connection.
    turn: Option<Turn>,
}

impl<P> Table<P> {
    pub fn new(connections: usize, slots: Arc<Slots>, poller: Arc<Poller>) -> Self {
        let places = u32::try_from(connections).unwrap_or(u32::MAX);
        Self {
            slots,
            poller,
            cells: (0..places)
                .map(|_| Mutex::new(Cell { conn: None, missed: Event::None, woken: 0, turn: None }))
                .collect(),
            free: Mutex::new((0..places).rev().collect()),
        }
    }

    fn cell(&self, id: ConnectionId) -> MutexGuard<'_, Cell<P>> {
        self.cells[id.index as usize].lock()
    }

    /// Open connections, including those that threads have taken out.
    pub fn open(&self) -> usize {
        self.cells.len() - self.free.lock().len()
    }

    /// Reserves a slot, and says whether it is the only connection. `None`: the table is full.
    pub fn reserve(&self) -> Option<(ConnectionId, bool)> {
        let mut free = self.free.lock();
        let only = free.len() == self.cells.len();
        free.pop().map(|index| (self.slots.id(index), only))
    }

    /// Puts a new connection into its slot and watches it for input.
    pub fn insert(&self, conn: Connection<P>) {
        let id = conn.id;
        let mut cell = self.cell(id);
        let conn = cell.conn.insert(Box::new(conn));
        self.slots.waiting(id, conn.state(), conn.deadline, conn.waiting_since);
        if self.poller.add(&conn.socket, id).is_err() {
            self.vacate(cell, id);
        }
    }

    /// Takes a connection out, and says whether it was woken. `None`: it is closed, or another
    /// thread has it and will see the event when putting it back.
    pub fn take(&self, id: ConnectionId, event: Event) -> Option<(Box<Connection<P>>, bool)> {
        let mut cell = self.cell(id);
        if !self.slots.is_current(id) {
            return None;
        }
        let Some(mut conn) = cell.conn.take() else {
            cell.missed = cell.missed.max(event);
            return None;
        };
        conn.unread = conn.unread.max(event);
        let woken = cell.woken == conn.call;
        self.slots.working(id, conn.state());
        Some((conn, woken))
    }

    /// Puts a connection back until the next event. Returns it if that has occurred already.
    pub fn put(&self, mut conn: Box<Connection<P>>, wait: Wait) -> Option<Box<Connection<P>>> {
        let id = conn.id;
        let mut cell = self.cell(id);
        let missed = mem::take(&mut cell.missed);
        conn.unread = conn.unread.max(missed);
        if missed > Event::None && matches!(wait, Wait::Bytes | Wait::Room) {
            return Some(conn);
        }
        self.slots.waiting(id, conn.state(), conn.deadline, conn.waiting_since);
        let woken = cell.woken == conn.call;
        let conn = cell.conn.insert(conn);
        match wait {
            // Watched once only: adding it again would report unread input each time.
            Wait::Room if !conn.room_watched => {
                conn.room_watched = true;
                if self.poller.watch_for_room(&conn.socket, id).is_err() {
                    self.vacate(cell, id);
                }
            }
            Wait::Turn => self.poller.visit(id),
            Wait::Wake if woken => self.poller.visit(id),
            Wait::Bytes | Wait::Room | Wait::Wake => {}
        }
        None
    }

    /// Puts a connection back whose request waits for a turn. Returns it if the turn has come
    /// already.
    pub fn enqueue(&self, conn: Box<Connection<P>>) -> Option<(Box<Connection<P>>, Turn)> {
        let id = conn.id;
        let mut cell = self.cell(id);
        if let Some(turn) = cell.turn.take() {
            return Some((conn, turn));
        }
        let missed = mem::take(&mut cell.missed);
        self.slots.waiting(id, conn.state(), conn.deadline, conn.waiting_since);
        let conn = cell.conn.insert(conn);
        conn.unread = conn.unread.max(missed);
        if missed == Event::End {
            self.poller.visit(id);
        }
        None
    }

    /// Takes out a connection whose request has its turn. Gives the turn back if the connection is
    /// closed or waits for something else, and leaves it for [`Self::enqueue`] if another thread
    /// has the connection.
    pub fn begin(&self, id: ConnectionId, number: u64, turn: Turn) -> Option<(Box<Connection<P>>, Turn)> {
        let mut cell = self.cell(id);
        if !self.slots.is_current(id) {
            drop(cell);
            return None;
        }
        let Some(conn) = &mut cell.conn else {
            cell.turn = Some(turn);
            return None;
        };
        if conn.call != number || !matches!(conn.stage, Stage::Queued(..)) {
            drop(cell);
            return None;
        }
        let mut conn = cell.conn.take()?;
        conn.unread = conn.unread.max(mem::take(&mut cell.missed));
        self.slots.working(id, ConnState::Handling);
        Some((conn, turn))
    }

    /// Puts a connection back and has a worker visit it.
    pub fn hand_over(&self, conn: Box<Connection<P>>) {
        self.put(conn, Wait::Turn);
    }

    /// Closes a connection that was taken out.
    pub fn close(&self, conn: Box<Connection<P>>) {
        let id = conn.id;
        drop(conn);
        self.vacate(self.cell(id), id);
    }

    /// Closes the descriptor before the slot is free, so that there are never more descriptors than
    /// slots.
    fn vacate(&self, mut cell: MutexGuard<'_, Cell<P>>, id: ConnectionId) {
        cell.conn = None;
        cell.missed = Event::None;
        cell.woken = 0;
        let turn = cell.turn.take();
        self.slots.retire(id);
        drop(cell);
        drop(turn);
        self.free.lock().push(id.index);
    }

    /// Closes the connection that has waited longest for a request. False if every one has a
    /// request.
    pub fn evict(&self, limits: &Limits) -> bool {
        let mut after = None;
        for _ in 0..CANDIDATES {
            let Some((place, id)) = self.slots.next_to_evict(after) else { return false };
            after = Some(place);
            let cell = self.cell(id);
            if self.slots.is_current(id) && cell.conn.as_ref().is_some_and(|conn| conn.is_evictable(limits)) {
                self.vacate(cell, id);
                self.slots.evictions.fetch_add(1, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    /// Closes every connection that no thread has taken out.
    pub fn clear(&self) {
        for id in self.slots.all_in(|state| state != ConnState::Free) {
            let cell = self.cell(id);
            if self.slots.is_current(id) && cell.conn.is_some() {
                self.vacate(cell, id);
            }
        }
    }
}

impl<P: Send> Wake for Table<P> {
    fn wake(&self, id: ConnectionId, number: u64) {
        let mut cell = self.cell(id);
        if !self.slots.is_current(id) || number <= cell.woken {
            return;
        }
        // The handler has not returned yet, so `put` will find it.
        cell.woken = number;
        if cell.conn.as_ref().is_some_and(|conn| matches!(conn.stage, Stage::Parked(_) | Stage::Unread(..))) {
            self.poller.visit(id);
        }
    }
}
