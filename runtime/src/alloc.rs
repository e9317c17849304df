//! An allocator that counts, so that "allocates nothing" is a measurement; and buffers for which there may be no
//! memory.

use std::alloc::{GlobalAlloc, Layout, System, alloc_zeroed};
use std::cell::Cell;
use std::ops::Sub;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::Zeroable;

use crate::Error;

/// The system's allocator, counting every request of the process for memory.
///
/// It counts only where it is installed, which a program does once:
///
/// ```
/// use quantloom::alloc::CountingAllocator;
///
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator;
///
/// let before = CountingAllocator::count();
/// let values = vec![0_u8; 1000];
/// let used = CountingAllocator::count() - before;
/// assert_eq!((used.allocations, used.bytes), (1, values.len() as u64));
/// ```
#[derive(Debug)]
pub struct CountingAllocator;

/// Requests for memory since the start of the process, or between two points when subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Blocks asked for; growing or shrinking one counts as a request.
    pub allocations: u64,
    /// Bytes asked for, whether given back since or not.
    pub bytes: u64,
}

// Relaxed is enough: the counters order nothing, and who reads them has joined the threads it asks about.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

impl CountingAllocator {
    /// Whether it is this program's allocator, so that its counts mean something.
    pub fn is_installed() -> bool {
        let before = Self::count();
        drop(std::hint::black_box(Box::new(0_u8)));
        Self::count() != before
    }

    /// The requests of all threads so far; zero where the allocator is not installed.
    pub fn count() -> Count {
        Count { allocations: ALLOCATIONS.load(Ordering::Relaxed), bytes: BYTES.load(Ordering::Relaxed) }
    }
}

impl Sub for Count {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { allocations: self.allocations - earlier.allocations, bytes: self.bytes - earlier.bytes }
    }
}

/// What ends the process where a request fails that nobody handles.
static END: OnceLock<fn() -> !> = OnceLock::new();

thread_local! {
    /// Whether this thread handles the failure of a request for memory. Made at compile time, so that the allocator may
    /// ask.
    static HANDLES_FAILURE: Cell<bool> = const { Cell::new(false) };
}

/// Has `end` end the process where the system has no memory for a [`CountingAllocator`]; without it the standard library
/// aborts. Requests within [`fallible`] fail as ever. `end` may allocate nothing.
#[cfg(feature = "cli")]
pub(crate) fn when_exhausted(end: fn() -> !) {
    // The first stays.
    let _ = END.set(end);
}

/// Runs `request`, as with `Vec::try_reserve`, which handles it where there is no memory.
pub(crate) fn fallible<T>(request: impl FnOnce() -> T) -> T {
    let before = HANDLES_FAILURE.replace(true);
    let result = request();
    HANDLES_FAILURE.set(before);
    result
}

/// Returns `memory`, unless that is null and nobody handles it.
fn checked(memory: *mut u8) -> *mut u8 {
    // A thread that is ending has no more local values, and handles nothing.
    if memory.is_null()
        && !HANDLES_FAILURE.try_with(Cell::get).unwrap_or(false)
        && let Some(end) = END.get()
    {
        end();
    }
    memory
}

/// `len` zeros for `what`. Pages that nothing touches cost no memory.
///
/// # Errors
/// There is no memory for them.
pub(crate) fn zeros<T: Zeroable>(what: &'static str, len: usize) -> Result<Vec<T>, Error> {
    let fail = || Error::Memory { what, bytes: len.saturating_mul(size_of::<T>()) };
    let layout = Layout::array::<T>(len).map_err(|_| fail())?;
    if layout.size() == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the size is not 0.
    let memory = fallible(|| unsafe { alloc_zeroed(layout) });
    if memory.is_null() {
        return Err(fail());
    }
    // SAFETY: the global allocator has made the memory for exactly `len` of `T`, of which all bits 0 are a value.
    Ok(unsafe { Vec::from_raw_parts(memory.cast(), len, len) })
}

/// An empty list with room for `len` of `what`.
///
/// # Errors
/// There is no memory for them.
pub(crate) fn room<T>(what: &'static str, len: usize) -> Result<Vec<T>, Error> {
    let mut list = Vec::new();
    let fail = |_| Error::Memory { what, bytes: len.saturating_mul(size_of::<T>()) };
    fallible(|| list.try_reserve_exact(len)).map_err(fail)?;
    Ok(list)
}

/// `len` copies of `value` for `what`.
///
/// # Errors
/// There is no memory for them.
pub(crate) fn copies<T: Clone>(what: &'static str, value: T, len: usize) -> Result<Vec<T>, Error> {
    let mut list = room(what, len)?;
    list.resize(len, value);
    Ok(list)
}

fn note(bytes: usize) {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
}

// SAFETY: every request goes to the system's allocator as it came, and its answer comes back; counting neither allocates
// nor unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the promises of `alloc`.
        checked(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the promises of `alloc_zeroed`.
        checked(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller keeps the promises of `realloc`.
        checked(unsafe { System.realloc(old, layout, size) })
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(old, layout) }
    }
}
