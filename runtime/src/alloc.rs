//! An allocator that counts, so that "allocates nothing" is a measurement.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::Sub;
use std::sync::atomic::{AtomicU64, Ordering};

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

fn note(bytes: usize) {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
}

// SAFETY: every request goes to the system's allocator as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the promises of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller keeps the promises of `realloc`.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(old, layout) }
    }
}
