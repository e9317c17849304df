//! The bytes that everything here reads.

use std::cell::{Cell, OnceCell};

use crate::{Place, machine};

/// The bytes that cells read as weights, and that the machine's bandwidth is measured on.
///
/// All formats share them: any bytes are blocks. What is to come from a cache is the same bytes each time;
/// what is to come from memory is the next window of a long stream that goes round and round, so that
/// every byte was last read a whole stream ago, by whichever cell it was, and no cache still has it.
pub struct Weights {
    near: Vec<u8>,
    /// Made when it is first asked for.
    stream: OnceCell<Vec<u8>>,
    next: Cell<usize>,
}

/// Cache lines start here.
const LINE: usize = 64;

impl Weights {
    /// Bytes near at hand; those in memory cost nothing until they are read.
    #[expect(clippy::new_without_default, reason = "nothing about these bytes is a default")]
    pub fn new() -> Self {
        let near = blocks(Place::L2.bytes() + LINE);
        Self { near, stream: OnceCell::new(), next: Cell::new(0) }
    }

    /// `bytes` of them from `place`, on a cache line's boundary.
    ///
    /// # Panics
    /// That is more than the place holds.
    pub fn read(&self, place: Place, bytes: usize) -> &[u8] {
        match place {
            Place::L1 | Place::L2 => &on_a_line(&self.near)[..bytes],
            Place::Memory => {
                let stream = self.stream.get_or_init(|| blocks(Self::stream_bytes() + LINE));
                let stream = on_a_line(stream);
                let start = if self.next.get() + bytes <= stream.len() { self.next.get() } else { 0 };
                self.next.set((start + bytes).next_multiple_of(LINE));
                &stream[start..start + bytes]
            }
        }
    }

    /// How long the stream is: twice the last-level cache. Where the CPU doesn't tell of one, several times
    /// that of most; and no more than a small machine can spare.
    pub fn stream_bytes() -> usize {
        const LEAST: usize = 192 << 20;
        const MOST: usize = 1 << 30;
        machine::caches().last().map_or(0, |last| 2 * last.bytes).clamp(LEAST, MOST)
    }
}

/// Bytes that are blocks of any format with scales near 0.01, which is 0x211F as an f16.
fn blocks(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes.as_chunks_mut().0.fill([0x1F, 0x21]);
    bytes
}

fn on_a_line(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.as_ptr().align_offset(LINE)..]
}
