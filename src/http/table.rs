//! Where connections live while no worker has them. A worker takes one out, so no lock is held while it works;
//! what happens to the connection meanwhile is left as a note in its place.

use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::board::{Board, State};
use super::conn::{Conn, Wait};
use super::handler::{Token, Wake};
use super::limits::Limits;
use super::poller::{Event, Poller};

/// How many candidates an eviction looks at before it gives up: each that is passed over has a whole request
/// waiting to be read, so the workers are behind and a further connection would not be served either.
const CANDIDATES: usize = 64;

pub(super) struct Table<P> {
    board: Arc<Board>,
    poller: Arc<Poller>,
    cells: Box<[Mutex<Cell<P>>]>,
    free: Mutex<Vec<u32>>,
}

struct Cell<P> {
    conn: Option<Box<Conn<P>>>,
    /// What the kernel said while a worker had the connection.
    missed: Event,
    /// The latest call whose waker was used; calls are counted from 1.
    woken: u64,
}

impl<P> Table<P> {
    /// For this many connections.
    pub fn new(connections: usize, board: Arc<Board>, poller: Arc<Poller>) -> Self {
        let places = u32::try_from(connections).unwrap_or(u32::MAX);
        Self {
            board,
            poller,
            cells: (0..places).map(|_| Mutex::new(Cell { conn: None, missed: Event::None, woken: 0 })).collect(),
            free: Mutex::new((0..places).rev().collect()),
        }
    }

    fn cell(&self, token: Token) -> MutexGuard<'_, Cell<P>> {
        self.cells[token.index as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free(&self) -> MutexGuard<'_, Vec<u32>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections there are, those that workers have included.
    pub fn open(&self) -> usize {
        self.cells.len() - self.free().len()
    }

    /// A place for a new connection, and whether it is the only one. `None`: the table is full.
    pub fn reserve(&self) -> Option<(Token, bool)> {
        let mut free = self.free();
        let only = free.len() == self.cells.len();
        free.pop().map(|index| (self.board.token(index), only))
    }

    /// Puts a new connection into its place and lets it be read.
    pub fn insert(&self, conn: Conn<P>) {
        let token = conn.token;
        let mut cell = self.cell(token);
        let conn = cell.conn.insert(Box::new(conn));
        self.board.waiting(token, conn.state(), conn.deadline, conn.waiting_since);
        if self.poller.add(&conn.socket, token).is_err() {
            self.vacate(cell, token);
        }
    }

    /// Takes a connection out, and whether it was woken. `None`: it is gone, or a worker has it, which will find
    /// the event when it puts it back.
    pub fn take(&self, token: Token, event: Event) -> Option<(Box<Conn<P>>, bool)> {
        let mut cell = self.cell(token);
        if !self.board.is_current(token) {
            return None;
        }
        let Some(mut conn) = cell.conn.take() else {
            cell.missed = cell.missed.max(event);
            return None;
        };
        conn.unread = conn.unread.max(event);
        let woken = cell.woken == conn.call;
        self.board.working(token, conn.state());
        Some((conn, woken))
    }

    /// Puts a connection back until something happens. It comes back if that has happened already.
    pub fn put(&self, mut conn: Box<Conn<P>>, wait: Wait) -> Option<Box<Conn<P>>> {
        let token = conn.token;
        let mut cell = self.cell(token);
        let missed = mem::take(&mut cell.missed);
        conn.unread = conn.unread.max(missed);
        if missed > Event::None && matches!(wait, Wait::Bytes | Wait::Room) {
            return Some(conn);
        }
        self.board.waiting(token, conn.state(), conn.deadline, conn.waiting_since);
        let woken = cell.woken == conn.call;
        let conn = cell.conn.insert(conn);
        match wait {
            // Said once: it would report what is unread each time.
            Wait::Room if !conn.room_watched => {
                conn.room_watched = true;
                if self.poller.watch_for_room(&conn.socket, token).is_err() {
                    self.vacate(cell, token);
                }
            }
            Wait::Turn => self.poller.visit(token),
            Wait::Wake if woken => self.poller.visit(token),
            Wait::Bytes | Wait::Room | Wait::Wake => {}
        }
        None
    }

    /// Ends a connection that was taken out.
    pub fn close(&self, conn: Box<Conn<P>>) {
        let token = conn.token;
        drop(conn);
        self.vacate(self.cell(token), token);
    }

    /// The descriptor is closed before the place is free, so that there never are more of them than places.
    fn vacate(&self, mut cell: MutexGuard<'_, Cell<P>>, token: Token) {
        cell.conn = None;
        cell.missed = Event::None;
        cell.woken = 0;
        self.board.retire(token);
        drop(cell);
        self.free().push(token.index);
    }

    /// Closes the connection that has waited longest for a request. `false`: every one holds a request.
    pub fn evict(&self, limits: &Limits) -> bool {
        let mut after = None;
        for _ in 0..CANDIDATES {
            let Some((place, token)) = self.board.oldest_waiting(after) else { return false };
            after = Some(place);
            let cell = self.cell(token);
            if self.board.is_current(token) && cell.conn.as_ref().is_some_and(|conn| conn.is_evictable(limits)) {
                self.vacate(cell, token);
                self.board.evictions.fetch_add(1, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    /// Closes every connection that no worker has.
    pub fn clear(&self) {
        for token in self.board.all_in(|state| state != State::Free) {
            let cell = self.cell(token);
            if self.board.is_current(token) && cell.conn.is_some() {
                self.vacate(cell, token);
            }
        }
    }
}

impl<P: Send> Wake for Table<P> {
    fn wake(&self, token: Token, call: u64) {
        let mut place = self.cell(token);
        if !self.board.is_current(token) || call <= place.woken {
            return;
        }
        // Left for `put` to find where the handler has not returned yet.
        place.woken = call;
        if place.conn.as_ref().is_some_and(|conn| conn.state() == State::Parked) {
            self.poller.visit(token);
        }
    }
}
