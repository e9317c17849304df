//! Quantizing takes the memory that its documentation says, counted in the whole process.

use std::ops::ControlFlow;

use quantloom::alloc::CountingAllocator;
use quantloom::gguf::{Formats, Gguf, GgufWriter, TensorType};
use quantloom::quantize::{Recipe, quantize_file};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The file's writer has one, and each thread 2.1.
const MIB: u64 = 1 << 20;

// The only test here: another one beside it would be counted, too.
#[test]
fn memory_does_not_grow_with_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let [path, target] = ["source.gguf", "target.gguf"].map(|name| folder.path().join(name));
    let zeros = vec![0; MIB as usize];
    // Some rows, and few that are long; both far more than what may be in memory.
    for dims in [[1024, 30 << 10], [15 << 20, 2]] {
        let mut writer = GgufWriter::new(&path);
        writer
            .tensor("blk.0.attn_q.weight", &dims, TensorType::F16, |out| {
                (0..60).try_for_each(|_| out.write_all(&zeros))
            })
            .unwrap();
        writer.write().unwrap();
        let source = Gguf::open(&path).unwrap();
        for (ty, threads) in [("F32", 1), ("Q4_0", 1), ("Q8_0", 4)] {
            let recipe = Recipe::new(ty, &Formats::default()).unwrap();
            let before = CountingAllocator::count();
            quantize_file(&source, &target, &recipe, Some(threads), |_| ControlFlow::Continue(())).unwrap();
            // All that was asked for, given back or not: what was in use at any time is no more.
            let used = (CountingAllocator::count() - before).bytes;
            let limit = MIB + threads as u64 * 21 * MIB / 10;
            assert!(
                used < limit,
                "{dims:?} to {ty} on {threads} threads: {used} bytes, the limit is {limit}"
            );
        }
    }
}
