//! The machine code of kernels: for each cell of format × operation × instruction set the loop over the blocks,
//! found in the running binary and disassembled, with what must hold of it.
//!
//! **Which loop.** `dot` and `dequantize` have one loop over the blocks of a row, `gemv` has it inside a loop
//! over the rows; the dot products stand in a function of their own, `q4_0_rows_…`, where the compiler did not
//! inline it. Of all loops at that depth (there may be one for left-over rows, or one that the compiler made
//! for left-over blocks) it is the one that does most: most dot products, then most instructions, then the
//! first.
//!
//! **What is shown** is that whole loop, inner ones included, with neither addresses nor encoding lengths: jumps
//! go to labels or out of the loop (`…`), constants stand where they are read, padding is left out. The text
//! follows from the compiler and its flags alone, so that a snapshot is the same on every machine.

use std::fmt;

use iced_x86::{EncodingKind, FlowControl, Instruction, Mnemonic, OpAccess, Register};
use quantloom_kernels::{Format, Isa};

use binary::{Binary, Function};
use loops::Loop;

mod binary;
mod loops;
#[cfg(test)]
mod tests;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The test's executable can't be read.
    #[error("this test's own executable: {0}")]
    Read(#[from] std::io::Error),
    /// It is not an ELF file that `object` understands.
    #[error("this test's own executable: {0}")]
    Parse(#[from] object::Error),
    /// A kernel has no symbol.
    #[error(
        "no function `{0}` in this binary: it needs its symbols (`strip = false` in the profile), and code of \
         its own (the compiler merges functions that are equal)"
    )]
    Missing(String),
    /// Two formats of one name.
    #[error("`{0}` is two functions, `{1}` and `{2}`: formats of one binary need names that differ")]
    Ambiguous(String, String, String),
    /// No loop has the work of whole blocks.
    #[error(
        "{0}: no loop with the work of whole blocks. Is it compiled without optimisation? Kernels need \
         `opt-level = 3` and `debug-assertions = false` in `[profile.dev.package.…]`"
    )]
    NoLoop(String),
}

/// What a kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// One row times one vector.
    Dot,
    /// A matrix times one vector.
    Gemv,
    /// Blocks to floats.
    Dequantize,
}

/// One kernel's loop over blocks.
pub struct Cell {
    /// As in kernel names: `q4_0_gemv`.
    kernel: String,
    operation: Operation,
    isa: Isa,
    instructions: Vec<Instruction>,
    /// Blocks that an iteration takes: those of several rows count each. `None` where the code does not tell.
    blocks: Option<usize>,
    /// Whether `rbp` points into the stack.
    frame: bool,
    text: String,
}

/// What must hold of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// It computes with the instruction that its instruction set is for, in the right encoding.
    Instruction,
    /// It holds no instruction of a larger instruction set: EVEX only for AVX-512, VEX only for AVX.
    Encoding,
    /// It calls nothing.
    Call,
    /// It keeps nothing on the stack. Scalar kernels are free of this one: their vectors are arrays and the
    /// sixteen 128-bit registers of plain x86-64 hold fewer than a block needs.
    Stack,
    /// It has no more instructions than were granted.
    Ceiling,
}

/// An invariant that does not hold.
#[derive(Debug)]
pub struct Violation {
    /// The cell, as `q4_0_gemv_avx_vnni`.
    pub cell: String,
    /// Which invariant.
    pub invariant: Invariant,
    /// What there is instead.
    pub found: String,
}

/// Of a kernel, as `q4_0_gemv`, the most instructions per block on each instruction set; per iteration where the
/// code does not tell how many blocks that takes. One that is not named, as a new one, may have no more than the
/// nearest before it that it includes.
pub type Ceiling<'a> = (&'a str, &'a [(&'a str, usize)]);

/// A cell, as `q4_0_gemv_avx_vnni`, and an invariant that does not hold of it, with the reason.
pub type Exception<'a> = (&'a str, Invariant, &'a str);

/// The cells of `formats` for every instruction set, out of the running binary. A kernel that instruction sets share is one
/// cell, of the plainest.
///
/// # Errors
/// A kernel can't be found in it.
pub fn cells(formats: &[&'static Format]) -> Result<Vec<Cell>, Error> {
    let bytes = std::fs::read(std::env::current_exe()?)?;
    let binary = Binary::parse(&bytes)?;
    let mut cells = Vec::new();
    for format in formats {
        for operation in [Operation::Dot, Operation::Gemv, Operation::Dequantize] {
            for variant in format.variants {
                let name = kernel_name(format, operation.name(), variant.isa());
                if variant.kernel_name(operation.name()) == Some(&name) {
                    cells.push(cell(&binary, format, operation, variant.isa())?);
                }
            }
        }
    }
    Ok(cells)
}

/// Asserts that every invariant holds of every cell, but for `exceptions`: those that are known not to, each with
/// the reason. An exception that is none is a failure too.
///
/// # Panics
/// That is not so. All that fails is named.
pub fn assert_invariants(cells: &[Cell], ceilings: &[Ceiling], exceptions: &[Exception]) {
    let violations: Vec<_> = cells.iter().flat_map(|cell| cell.violations(ceilings)).collect();
    let is_of = |violation: &Violation, (cell, invariant, _): &Exception| {
        violation.cell == *cell && violation.invariant == *invariant
    };
    let unknown =
        violations.iter().filter(|violation| !exceptions.iter().any(|known| is_of(violation, known)));
    let stale = exceptions.iter().filter(|known| !violations.iter().any(|violation| is_of(violation, known)));
    let stale =
        stale.map(|(cell, invariant, _)| format!("{cell}: {invariant:?} holds: strike out the exception"));
    let no_kernel = ceilings.iter().filter(|(kernel, _)| cells.iter().all(|cell| cell.kernel != *kernel));
    let no_kernel = no_kernel.map(|(kernel, _)| format!("{kernel}: a ceiling for no kernel: strike it out"));
    let names = ceilings.iter().flat_map(|(kernel, row)| row.iter().map(move |(isa, _)| (kernel, isa)));
    let no_isa = names.filter(|(_, name)| Isa::ALL.iter().all(|isa| isa.name() != **name));
    let no_isa =
        no_isa.map(|(kernel, isa)| format!("{kernel}: a ceiling for `{isa}`, which is no instruction set"));
    let lines: Vec<_> =
        unknown.map(Violation::to_string).chain(stale).chain(no_kernel).chain(no_isa).collect();
    assert!(lines.is_empty(), "of what must hold of every loop:\n{}", lines.join("\n"));
}

fn cell(binary: &Binary, format: &Format, operation: Operation, isa: Isa) -> Result<Cell, Error> {
    let function = binary.function(&kernel_name(format, operation.name(), isa))?;
    let callees = binary.callees(&function, &kernel_name(format, "rows", isa))?;
    let mut cell = largest(format, operation, isa, &function, &callees)?;
    cell.text = binary.text(&cell.instructions);
    Ok(cell)
}

/// `q4_0_gemv_avx_vnni`, as the macro names kernels.
fn kernel_name(format: &Format, operation: &str, isa: Isa) -> String {
    format!("{}_{operation}_{isa}", format.name.to_lowercase())
}

/// The loop that does most, of those over blocks in a kernel and in the functions for its rows.
fn largest(
    format: &Format,
    operation: Operation,
    isa: Isa,
    function: &Function,
    callees: &[Function],
) -> Result<Cell, Error> {
    let own = loops::of(&function.instructions);
    let own: Vec<Loop> = match operation {
        Operation::Gemv => own.into_iter().flat_map(Loop::inner).collect(),
        Operation::Dot | Operation::Dequantize => own,
    };
    let called = callees
        .iter()
        .flat_map(|callee| loops::of(&callee.instructions).into_iter().map(move |own| (callee, own)));
    let candidates = own.into_iter().map(|own| (function, own)).chain(called);
    // Where two blocks are worked on at once, the last of an odd number is a pass for itself: a loop over passes.
    let has_passes = isa.blocks() > 1 && operation != Operation::Dequantize;
    let candidates = candidates.flat_map(|(function, found)| {
        let inner = if has_passes { found.clone().inner() } else { Vec::new() };
        let found = if inner.is_empty() { vec![found] } else { inner };
        found.into_iter().map(move |found| (function, found))
    });
    let candidates = candidates.map(|(function, found)| {
        let instructions = found.instructions(&function.instructions);
        Cell {
            kernel: format!("{}_{}", format.name.to_lowercase(), operation.name()),
            operation,
            isa,
            blocks: blocks(format, operation, isa, &instructions, function.frame),
            frame: function.frame,
            text: String::new(),
            instructions,
        }
    });
    let candidates: Vec<_> = candidates.collect();
    // Of equals `max_by_key` takes the last.
    let largest = candidates.into_iter().rev().max_by_key(|cell| (cell.blocks, cell.instructions.len()));
    let found = largest.filter(|cell| cell.blocks.is_some() || isa == Isa::Scalar);
    found.ok_or_else(|| Error::NoLoop(kernel_name(format, operation.name(), isa)))
}

/// The instructions that multiply codes with activations; none where the compiler chooses.
fn products(isa: Isa) -> Vec<Mnemonic> {
    let ours = [isa.product(false), isa.product(true)];
    Mnemonic::values().filter(|mnemonic| ours.contains(&Some(&*lower(*mnemonic)))).collect()
}

/// The encoding of an instruction set's own instructions; those of its bases may be in the ones before it.
fn encoding(isa: Isa) -> EncodingKind {
    match isa.features() {
        [] => EncodingKind::Legacy,
        features if features.iter().any(|feature| feature.starts_with("avx512")) => EncodingKind::EVEX,
        _ => EncodingKind::VEX,
    }
}

/// How many blocks one iteration takes: for a dot product by its steps, one for each 32 weights, which are 32 bytes; for the
/// dequantizer by the floats that it stores. `None` where that comes to no whole number or to none.
fn blocks(
    format: &Format,
    operation: Operation,
    isa: Isa,
    instructions: &[Instruction],
    frame: bool,
) -> Option<usize> {
    let (work, per_block) = match operation {
        Operation::Dot | Operation::Gemv => {
            let products = products(isa);
            let of_products = instructions.iter().filter(|i| products.contains(&i.mnemonic()));
            let codes: usize = of_products.map(|product| product.op0_register().size()).sum();
            (codes, format.block_len)
        }
        Operation::Dequantize => {
            (instructions.iter().map(|instruction| stored(instruction, frame)).sum(), 4 * format.block_len)
        }
    };
    (work > 0 && work.is_multiple_of(per_block)).then_some(work / per_block)
}

/// Bytes that go to memory other than the stack.
fn stored(instruction: &Instruction, frame: bool) -> usize {
    let mut factory = iced_x86::InstructionInfoFactory::new();
    let written = factory.info(instruction).used_memory().iter().filter(|memory| {
        matches!(memory.access(), OpAccess::Write | OpAccess::ReadWrite) && !is_stack(memory.base(), frame)
    });
    written.map(|memory| memory.memory_size().size()).sum()
}

fn is_stack(base: Register, frame: bool) -> bool {
    base == Register::RSP || base == Register::RBP && frame
}

impl Operation {
    /// As in kernel names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dot => "dot",
            Self::Gemv => "gemv",
            Self::Dequantize => "dequantize",
        }
    }
}

impl Cell {
    /// Its name, as `q4_0_gemv_avx_vnni`.
    pub fn name(&self) -> String {
        format!("{}_{}", self.kernel, self.isa)
    }

    /// The invariants that don't hold.
    pub fn violations(&self, ceilings: &[Ceiling]) -> Vec<Violation> {
        let found = [
            (Invariant::Instruction, self.wrong_instruction()),
            (Invariant::Encoding, self.first(|i| rank(i.encoding()) > rank(encoding(self.isa)))),
            (Invariant::Call, self.first(is_call)),
            (Invariant::Stack, self.first(|i| self.isa != Isa::Scalar && self.uses_stack(i))),
            (Invariant::Ceiling, self.above(ceilings)),
        ];
        let violation = |(invariant, found): (_, Option<String>)| {
            Some(Violation { cell: self.name(), invariant, found: found? })
        };
        found.into_iter().filter_map(violation).collect()
    }

    /// The first instruction of which `wrong` is true, and how many there are.
    fn first(&self, wrong: impl Fn(&Instruction) -> bool) -> Option<String> {
        let mut all = self.instructions.iter().filter(|instruction| wrong(instruction));
        let first = all.next()?;
        Some(format!("`{first}` and {} more", all.count()))
    }

    fn wrong_instruction(&self) -> Option<String> {
        let products = products(self.isa);
        if products.is_empty() {
            return None;
        }
        let mnemonics = || self.instructions.iter().map(Instruction::mnemonic);
        if self.operation == Operation::Dequantize {
            return (!mnemonics().any(|m| m == Mnemonic::Vcvtdq2ps)).then(|| "no vcvtdq2ps".to_owned());
        }
        let mut steps = self.instructions.iter().filter(|i| products.contains(&i.mnemonic())).peekable();
        if steps.peek().is_none() {
            return Some(format!("no {}", products.into_iter().map(lower).collect::<Vec<_>>().join(" or ")));
        }
        if let Some(step) = steps.find(|step| step.encoding() != encoding(self.isa)) {
            return Some(format!("{} in the encoding {:?}", lower(step.mnemonic()), step.encoding()));
        }
        let others: Vec<_> = Isa::ALL.iter().flat_map(|&isa| self::products(isa)).collect();
        let other = mnemonics().find(|m| others.contains(m) && !products.contains(m))?;
        Some(format!("{} beside it", lower(other)))
    }

    fn uses_stack(&self, instruction: &Instruction) -> bool {
        is_stack(instruction.memory_base(), self.frame)
            || instruction.is_stack_instruction() && !is_call(instruction)
    }

    fn above(&self, ceilings: &[Ceiling]) -> Option<String> {
        let Some((_, row)) = ceilings.iter().find(|(kernel, _)| *kernel == self.kernel) else {
            return Some(format!("{}, and no ceiling for `{}`", self.size(), self.kernel));
        };
        let granted =
            |isa: &Isa| row.iter().find(|(name, _)| *name == isa.name()).map(|(_, ceiling)| ceiling);
        let before = Isa::ALL.iter().rev().skip_while(|isa| **isa != self.isa);
        let mut included = before.filter(|isa| self.isa.includes(**isa));
        let Some(ceiling) = included.find_map(granted) else {
            return Some(format!("{}, and no ceiling for {}", self.size(), self.isa));
        };
        let above = self.instructions.len() > ceiling * self.blocks.unwrap_or(1);
        above.then(|| format!("{}, the ceiling is {ceiling}", self.size()))
    }

    /// How long it is, in words.
    fn size(&self) -> String {
        let count = self.instructions.len();
        match self.blocks {
            None => format!("{count} instructions"),
            Some(1) => format!("{count} instructions for 1 block"),
            Some(blocks) => {
                format!("{count} instructions for {blocks} blocks: {} a block", count as f64 / blocks as f64)
            }
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.name(), self.size())?;
        writeln!(f)?;
        f.write_str(&self.text)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}: {}", self.cell, self.invariant, self.found)
    }
}

fn is_call(instruction: &Instruction) -> bool {
    matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall)
}

fn lower(mnemonic: Mnemonic) -> String {
    format!("{mnemonic:?}").to_lowercase()
}

/// Encodings from the oldest on.
fn rank(encoding: EncodingKind) -> usize {
    [EncodingKind::Legacy, EncodingKind::VEX, EncodingKind::EVEX]
        .iter()
        .position(|known| *known == encoding)
        .unwrap_or(usize::MAX)
}
