//! A team of threads that run the phases of a forward pass.
//!
//! The caller is one of the team; the others are jobs on a rayon pool that is entered once, when the
//! team is made, and not once per matrix. A phase is a number of chunks that threads claim one after the
//! other from a shared counter, so that a thread that loses its core delays only the chunk it holds.
//!
//! ```text
//! caller   write job, open gate ── claim, run, claim, run … ── close gate, wait until it is empty
//! helper   wait for an open gate ── enter ── claim, run … ── leave
//! ```
//!
//! A helper that comes late finds the gate closed and has missed nothing; one that never comes is not
//! waited for. Waiting spins for a bounded time, then yields, then (helpers only) sleeps. No phase
//! allocates.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::Error;

/// A spin takes about 15 ns: these last longer than what the caller does alone between two phases.
const SPINS: u32 = 4_000;
/// Yields before a helper sleeps: longer than sampling a token takes.
const YIELDS: u32 = 200;
/// More would only take the system's threads away from others.
pub const MAX_THREADS: usize = 1024;

/// Threads that divide work among them as rayon does, not phase by phase.
pub fn pool(threads: usize) -> Result<rayon::ThreadPool, Error> {
    let fail = |problem| Error::Threads { threads, problem };
    if threads > MAX_THREADS {
        return Err(fail(format!("the most is {MAX_THREADS}")));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| fail(error.to_string()))
}

/// The caller's thread and its helpers.
pub struct Team {
    shared: Arc<Shared>,
    threads: usize,
    /// Held during a phase: phases of different callers take turns.
    turn: Mutex<()>,
    /// Keeps the helpers' threads; `None` for a team of one.
    _pool: Option<rayon::ThreadPool>,
}

struct Shared {
    /// Phase number · 2³² + [`OPEN`] + helpers inside.
    gate: AtomicU64,
    /// The next chunk to claim.
    next: AtomicUsize,
    /// Written by the caller while the gate is closed and empty, read by helpers inside.
    job: UnsafeCell<Job>,
    stop: AtomicBool,
    /// A helper's chunk panicked in this phase; read by the caller when the gate is empty.
    panicked: AtomicBool,
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

const OPEN: u64 = 1 << 31;
const PHASE: u64 = 1 << 32;

/// A closure without its type and lifetime.
#[derive(Clone, Copy)]
struct Job {
    run: unsafe fn(*const (), usize),
    closure: *const (),
    chunks: usize,
}

// SAFETY: `job` is the one field that is not Sync. The gate orders all access to it: see `Team::run`
// (writes while no helper is inside) and `Shared::help` (reads while inside).
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is only followed inside the gate, while the closure it points to, which
// is Sync, is kept alive by `Team::run`.
unsafe impl Send for Shared {}

impl Team {
    /// A team of `threads`, the caller among them, whose helpers have all run `prepare`.
    pub fn new(threads: usize, prepare: impl Fn() + Sync) -> Result<Self, Error> {
        if threads > MAX_THREADS {
            return Err(Error::Threads { threads, problem: format!("the most is {MAX_THREADS}") });
        }
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            job: UnsafeCell::new(Job { run: |_, _| {}, closure: std::ptr::null(), chunks: 0 }),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        });
        let helpers = threads.saturating_sub(1);
        let pool = if helpers == 0 {
            None
        } else {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(helpers)
                .thread_name(|i| format!("quantloom-{}", i + 1))
                .build()
                .map_err(|error| Error::Threads { threads, problem: error.to_string() })?;
            // Its threads have started when this returns: what they allocate to begin with is behind them.
            pool.broadcast(|_| prepare());
            for _ in 0..helpers {
                let shared = Arc::clone(&shared);
                pool.spawn(move || shared.help());
            }
            Some(pool)
        };
        Ok(Self { shared, threads: threads.max(1), turn: Mutex::new(()), _pool: pool })
    }

    /// Threads, the caller's among them.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `f(0)` to `f(chunks - 1)`, each once, on any thread of the team, and returns when all have
    /// returned. `f` must not run phases of the same team: it would wait for itself.
    ///
    /// # Panics
    /// Where `f` panics, on whichever thread.
    pub fn run<F: Fn(usize) + Sync>(&self, chunks: usize, f: F) {
        if self.threads == 1 || chunks == 1 {
            return (0..chunks).for_each(f);
        }
        /// # Safety
        /// `closure` points to an `F`.
        unsafe fn call<F: Fn(usize)>(closure: *const (), chunk: usize) {
            // SAFETY: what the caller of this function promises.
            let f = unsafe { &*closure.cast::<F>() };
            f(chunk);
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        // SAFETY: `turn` keeps other callers out, and the last one left the gate closed and empty.
        unsafe { *shared.job.get() = Job { run: call::<F>, closure: (&raw const f).cast(), chunks } };
        shared.next.store(0, Ordering::Relaxed);
        let phase = (shared.gate.load(Ordering::Relaxed) & !(PHASE - 1)).wrapping_add(PHASE);
        // Sequentially consistent, as the sleepers' own store and load: one of both sides sees the other.
        shared.gate.store(phase | OPEN, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            drop(shared.lock.lock().unwrap_or_else(PoisonError::into_inner));
            shared.wake.notify_all();
        }
        // Closes the gate and waits even if `f` panics here: helpers may still be inside with it.
        let close = Close(shared);
        shared.claim(chunks, &f);
        drop(close);
        if shared.panicked.swap(false, Ordering::Relaxed) {
            panic!("a chunk panicked on another thread; its message is above");
        }
    }

    /// Splits `buffer`, rows of `width`, into chunks of up to `chunk` columns and runs `f` on each, with the
    /// range of columns and access to them in all rows.
    pub fn for_columns<T, F>(&self, buffer: &mut [T], width: usize, chunk: usize, f: F)
    where
        T: Send,
        F: Fn(Range<usize>, Columns<'_, T>) + Sync,
    {
        let rows = buffer.len() / width.max(1);
        self.for_tiles(buffer, width, (rows.max(1), chunk), |_, columns, tile| f(columns, tile));
    }

    /// Splits `buffer`, rows of `width`, into tiles of up to `rows` × `columns` and runs `f` on each, with the ranges
    /// of both and access to the tile, whose rows count from 0. Neither number is 0.
    pub fn for_tiles<T, F>(&self, buffer: &mut [T], width: usize, (rows, columns): (usize, usize), f: F)
    where
        T: Send,
        F: Fn(Range<usize>, Range<usize>, Columns<'_, T>) + Sync,
    {
        assert!(width > 0 && buffer.len().is_multiple_of(width), "a whole number of rows");
        let height = buffer.len() / width;
        let base = Base(buffer.as_mut_ptr());
        let across = width.div_ceil(columns);
        let down = height.div_ceil(rows);
        self.run(down * across, |i| {
            // From the last rows on: those are a prompt's last tokens, whose attention takes longest.
            let first = (down - 1 - i / across) * rows;
            let tile_rows = first..height.min(first + rows);
            let range = i % across * columns..width.min((i % across + 1) * columns);
            // The whole wrapper is captured, not the pointer in it.
            let base = &base;
            let base = base.0.wrapping_add(tile_rows.start * width);
            let tile =
                Columns { base, width, range: range.clone(), rows: tile_rows.len(), buffer: PhantomData };
            f(tile_rows, range, tile);
        });
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.wake.notify_all();
    }
}

struct Close<'a>(&'a Shared);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.gate.fetch_and(!OPEN, Ordering::AcqRel);
        let mut waited = 0;
        // Acquire: what helpers wrote in their chunks is visible from here on.
        while self.0.gate.load(Ordering::Acquire) & (OPEN - 1) != 0 {
            pause(&mut waited);
        }
    }
}

impl Shared {
    /// A helper's life.
    fn help(&self) {
        let mut done = 0;
        loop {
            let gate = self.await_phase_after(done);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let entered = self.gate.compare_exchange(gate, gate + 1, Ordering::Acquire, Ordering::Relaxed);
            if entered.is_err() {
                continue;
            }
            let leave = Leave(self);
            // SAFETY: this thread is inside the gate, so the caller neither writes `job` nor returns.
            let job = unsafe { *self.job.get() };
            // The caller is told, and panics in its turn: the closure is not used after that.
            let claimed = catch_unwind(AssertUnwindSafe(|| {
                self.claim(job.chunks, |chunk| {
                    // SAFETY: as above; `run` was made for what `closure` points to.
                    unsafe { (job.run)(job.closure, chunk) }
                });
            }));
            if claimed.is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            drop(leave);
            done = gate / PHASE;
        }
    }

    fn claim(&self, chunks: usize, f: impl Fn(usize)) {
        loop {
            let chunk = self.next.fetch_add(1, Ordering::Relaxed);
            if chunk >= chunks {
                return;
            }
            f(chunk);
        }
    }

    /// Waits for an open gate with another phase number than `done`, or for the end.
    fn await_phase_after(&self, done: u64) -> u64 {
        let ready = |gate: u64| gate & OPEN != 0 && gate / PHASE != done || self.stop.load(Ordering::SeqCst);
        let mut waited = 0;
        while waited < SPINS + YIELDS {
            let gate = self.gate.load(Ordering::Relaxed);
            if ready(gate) {
                return gate;
            }
            pause(&mut waited);
        }
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let gate = loop {
            let gate = self.gate.load(Ordering::SeqCst);
            if ready(gate) {
                break gate;
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        gate
    }
}

/// Leaves the gate.
struct Leave<'a>(&'a Shared);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.gate.fetch_sub(1, Ordering::Release);
    }
}

/// One step of waiting: spin at first, then give the core to whoever needs it.
fn pause(waited: &mut u32) {
    if *waited < SPINS {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
    *waited = waited.saturating_add(1);
}

/// A pointer that a closure may share between threads.
struct Base<T>(*mut T);

// SAFETY: `for_tiles` hands each thread disjoint elements, whose type is Send.
unsafe impl<T: Send> Sync for Base<T> {}

/// Some columns of some rows of a row-major buffer; the rest of it may be in other hands.
pub struct Columns<'a, T> {
    base: *mut T,
    width: usize,
    range: Range<usize>,
    rows: usize,
    buffer: PhantomData<&'a mut [T]>,
}

impl<T> Columns<'_, T> {
    /// The columns in one row.
    pub fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: row and range lie inside the buffer, which is borrowed for as long as `self` lives; no
        // other `Columns` has these columns of these rows, and `&mut self` keeps a second slice of them away.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.base.wrapping_add(row * self.width + self.range.start),
                self.range.len(),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_runs_once_on_any_number_of_threads() {
        // Miri takes a second for what takes a machine a millisecond.
        let rounds = if cfg!(miri) { 1 } else { 50 };
        for threads in [1, 2, 3, 7] {
            let team = Team::new(threads, || ()).unwrap();
            for chunks in [0, 1, 2, 5, 64, 1000] {
                for _ in 0..rounds {
                    let counts: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
                    team.run(chunks, |i| {
                        counts[i].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(
                        counts.iter().all(|count| count.load(Ordering::Relaxed) == 1),
                        "{threads} {chunks}"
                    );
                }
            }
        }
    }

    #[test]
    fn helpers_that_sleep_wake_up() {
        let team = Team::new(2, || ()).unwrap();
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let count = AtomicUsize::new(0);
            team.run(100, |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.into_inner(), 100);
        }
    }

    #[test]
    fn columns_cover_the_buffer() {
        let team = Team::new(3, || ()).unwrap();
        for (width, chunk, rows) in [(1, 1, 1), (10, 3, 4), (64, 64, 2), (7, 100, 3)] {
            let mut buffer = vec![0; width * rows];
            team.for_columns(&mut buffer, width, chunk, |range, mut columns| {
                for row in 0..rows {
                    for (value, column) in columns.row(row).iter_mut().zip(range.clone()) {
                        *value += row * width + column + 1;
                    }
                }
            });
            assert_eq!(buffer, (1..=width * rows).collect::<Vec<_>>());
        }
    }

    #[test]
    fn tiles_cover_the_buffer() {
        let team = Team::new(3, || ()).unwrap();
        for (width, height, tile) in [(1, 1, (1, 1)), (10, 4, (3, 4)), (64, 5, (2, 64)), (7, 3, (100, 2))] {
            let mut buffer = vec![0; width * height];
            team.for_tiles(&mut buffer, width, tile, |rows, columns, mut tile| {
                for (i, row) in rows.enumerate() {
                    for (value, column) in tile.row(i).iter_mut().zip(columns.clone()) {
                        *value += row * width + column + 1;
                    }
                }
            });
            assert_eq!(buffer, (1..=width * height).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_panic_in_a_chunk_reaches_the_caller_and_leaves_the_team_usable() {
        let team = Team::new(3, || ()).unwrap();
        for panicking in [0, 1, 57, 99] {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                team.run(100, |i| {
                    std::thread::yield_now();
                    assert_ne!(i, panicking, "on purpose");
                });
            }));
            assert!(caught.is_err(), "chunk {panicking}");
            let count = AtomicUsize::new(0);
            team.run(100, |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.into_inner(), 100);
        }
    }

    #[test]
    fn a_closure_lives_until_the_last_chunk_has_returned() {
        let team = Team::new(3, || ()).unwrap();
        for _ in 0..200 {
            let owned = vec![1_usize; 64];
            let sum = AtomicUsize::new(0);
            let sum_ref = &sum;
            team.run(64, move |i| {
                std::thread::yield_now();
                sum_ref.fetch_add(owned[i], Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 64);
        }
    }
}
