//! Traps each `vpdpbusd` and `vpdpwssd` that the CPU refuses and does its work on the registers in the signal frame.
//!
//! An instruction that the CPU does not have raises SIGILL. The kernel saves all registers where the handler
//! can change them: the general ones in `gregs`, the vector ones in the layout of the XSAVE instruction (Intel
//! SDM, volume 1, chapter 13): the lower 128 bits in the legacy area, the upper ones where CPUID leaf 0xD says.
//! The handler decodes the instruction, computes, writes the destination back and steps over it. Any other
//! illegal instruction ends the process, with a word about which.

use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind, Register};
use quantloom_kernels::{Isa, Supported};

/// Instructions emulated so far.
static TRAPS: AtomicU64 = AtomicU64::new(0);
/// Where XSAVE keeps the upper halves of the ymm registers, from the start of the area.
static UPPER_HALVES: AtomicUsize = AtomicUsize::new(0);

/// The legacy area of XSAVE: xmm0 from this byte on, and the header behind it, which begins with the bit map
/// of the components that are saved.
const XMM: usize = 160;
const HEADER: usize = 512;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;

/// The CPU feature that the handler provides.
pub const EMULATED: [&str; 1] = ["avxvnni"];

/// `isa`, of which the CPU lacks [`EMULATED`] and nothing else.
pub fn supported(isa: Isa) -> Supported {
    assert_eq!(isa.missing(), EMULATED, "this CPU lacks more than the emulator provides");
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(install);
    // SAFETY: the CPU lacks nothing of `isa` but avxvnni. Of its instructions kernels use `vpdpbusd` and
    // `vpdpwssd`, which the handler executes; any other ends the process.
    unsafe { Supported::assume(isa) }
}

/// Instructions emulated so far.
pub fn traps() -> u64 {
    TRAPS.load(Ordering::Relaxed)
}

fn install() {
    // Leaf 0xD, sub-leaf 2: the AVX component's size and offset.
    let about = __cpuid_count(0xD, 2);
    assert_eq!(about.eax, 256, "16 upper halves of 16 bytes");
    UPPER_HALVES.store(about.ebx as usize, Ordering::Relaxed);
    // The decoder builds its tables when first used; a signal handler must not allocate.
    decode(&[0xC4, 0xE2, 0x75, 0x50, 0xC2], 0);
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_illegal_instruction;
    // SAFETY: an all-zero sigaction is a valid one with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    // Not deferred: were the handler itself to trap, that must end the process and not hang it.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
    // SAFETY: `action` is initialised; the handler only uses what it is given, atomics and the decoder.
    let installed = unsafe { libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut()) };
    assert_eq!(installed, 0, "sigaction failed");
}

fn decode(bytes: &[u8], address: u64) -> Instruction {
    Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode()
}

extern "C" fn on_illegal_instruction(_signal: i32, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: SA_SIGINFO makes the third argument the interrupted thread's ucontext, ours until we return.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let registers = &mut context.uc_mcontext.gregs;
    let address = registers[libc::REG_RIP as usize] as u64;
    // SAFETY: the instruction was fetched from there; 15 bytes, the longest, lie within the mapped text, which
    // ends with more than that of padding and read-only data.
    let bytes = unsafe { std::slice::from_raw_parts(address as *const u8, 15) };
    #[cfg(test)]
    let (bytes, address) = tests::skip_mark(bytes, address);
    let instruction = decode(bytes, address);
    let (products, wide): (Products, bool) = match instruction.code() {
        Code::VEX_Vpdpbusd_ymm_ymm_ymmm256 => (of_bytes, true),
        Code::VEX_Vpdpbusd_xmm_xmm_xmmm128 => (of_bytes, false),
        Code::VEX_Vpdpwssd_ymm_ymm_ymmm256 => (of_words, true),
        Code::VEX_Vpdpwssd_xmm_xmm_xmmm128 => (of_words, false),
        _ => die(bytes),
    };
    // SAFETY: the kernel points it to the XSAVE area, whose size covers the AVX component: this CPU has AVX.
    let mut vectors = unsafe { Vectors::new(context.uc_mcontext.fpregs.cast()) };
    let first = vectors.read(instruction.op1_register());
    let second = if instruction.op2_kind() == OpKind::Memory {
        let general =
            |register: Register| general_index(register).map_or(0, |index| registers[index as usize] as u64);
        let displacement = instruction.memory_displacement64();
        // With RIP as base the displacement is the address.
        let place = if instruction.is_ip_rel_memory_operand() {
            displacement
        } else {
            general(instruction.memory_base())
                .wrapping_add(
                    general(instruction.memory_index()).wrapping_mul(instruction.memory_index_scale().into()),
                )
                .wrapping_add(displacement)
        };
        let mut loaded = [0; 32];
        // SAFETY: the instruction reads these bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(place as *const u8, loaded.as_mut_ptr(), if wide { 32 } else { 16 })
        };
        loaded
    } else {
        vectors.read(instruction.op2_register())
    };
    let mut sums = vectors.read(instruction.op0_register());
    let pairs = first.as_chunks::<4>().0.iter().zip(second.as_chunks::<4>().0);
    for (sum, (first, second)) in sums.as_chunks_mut::<4>().0.iter_mut().zip(pairs) {
        *sum = i32::from_le_bytes(*sum).wrapping_add(products(*first, *second)).to_le_bytes();
    }
    if !wide {
        // A VEX instruction on xmm registers clears the upper half of its destination.
        sums[16..].fill(0);
    }
    vectors.write(instruction.op0_register(), sums);
    registers[libc::REG_RIP as usize] = instruction.next_ip() as i64;
    TRAPS.fetch_add(1, Ordering::Relaxed);
}

/// What an instruction adds to a sum, without saturation.
type Products = fn([u8; 4], [u8; 4]) -> i32;

/// As in the pseudo-code of VPDPBUSD: unsigned times signed bytes.
fn of_bytes(first: [u8; 4], second: [u8; 4]) -> i32 {
    first.into_iter().zip(second).map(|(a, b)| i32::from(a) * i32::from(b as i8)).sum()
}

/// As in that of VPDPWSSD: signed integers of 16 bits, of which two products of -32768 by itself wrap around.
fn of_words([a, b, c, d]: [u8; 4], [e, f, g, h]: [u8; 4]) -> i32 {
    let product = |a, b| i32::from(i16::from_le_bytes(a)) * i32::from(i16::from_le_bytes(b));
    product([a, b], [e, f]).wrapping_add(product([c, d], [g, h]))
}

/// The number of an xmm or ymm register.
fn number(register: Register) -> usize {
    let first = if register >= Register::YMM0 { Register::YMM0 } else { Register::XMM0 };
    register as usize - first as usize
}

/// Where `gregs` keeps a general register; `None` for no register.
fn general_index(register: Register) -> Option<i32> {
    Some(match register {
        Register::None => return None,
        Register::RAX => libc::REG_RAX,
        Register::RBX => libc::REG_RBX,
        Register::RCX => libc::REG_RCX,
        Register::RDX => libc::REG_RDX,
        Register::RSI => libc::REG_RSI,
        Register::RDI => libc::REG_RDI,
        Register::RBP => libc::REG_RBP,
        Register::RSP => libc::REG_RSP,
        Register::R8 => libc::REG_R8,
        Register::R9 => libc::REG_R9,
        Register::R10 => libc::REG_R10,
        Register::R11 => libc::REG_R11,
        Register::R12 => libc::REG_R12,
        Register::R13 => libc::REG_R13,
        Register::R14 => libc::REG_R14,
        Register::R15 => libc::REG_R15,
        _ => die(b"an address in 64-bit registers, of which this is none"),
    })
}

/// The vector registers of a signal frame.
struct Vectors(*mut u8);

impl Vectors {
    /// # Safety
    /// `area` points to an XSAVE area in the standard layout that holds the AVX component.
    unsafe fn new(area: *mut u8) -> Self {
        let mut vectors = Self(area);
        let present = u64::from_le_bytes(vectors.bytes(HEADER));
        // A component that is not marked is in its initial state, all zeros, whatever its bytes are.
        for register in 0..16 {
            if present & SSE == 0 {
                *vectors.at::<16>(XMM + 16 * register) = [0; 16];
            }
            if present & AVX == 0 {
                *vectors.at::<16>(Self::upper(register)) = [0; 16];
            }
        }
        *vectors.at(HEADER) = (present | SSE | AVX).to_le_bytes();
        vectors
    }

    fn upper(register: usize) -> usize {
        UPPER_HALVES.load(Ordering::Relaxed) + 16 * register
    }

    fn at<const N: usize>(&mut self, offset: usize) -> &mut [u8; N] {
        // SAFETY: all offsets used here lie within the area that `new` was promised, and `&mut self` is the one
        // access to it.
        unsafe { &mut *self.0.wrapping_add(offset).cast() }
    }

    fn bytes<const N: usize>(&mut self, offset: usize) -> [u8; N] {
        *self.at(offset)
    }

    fn read(&mut self, register: Register) -> [u8; 32] {
        let number = number(register);
        let mut value = [0; 32];
        value[..16].copy_from_slice(self.at::<16>(XMM + 16 * number));
        value[16..].copy_from_slice(self.at::<16>(Self::upper(number)));
        value
    }

    fn write(&mut self, register: Register, value: [u8; 32]) {
        let number = number(register);
        self.at::<16>(XMM + 16 * number).copy_from_slice(&value[..16]);
        self.at::<16>(Self::upper(number)).copy_from_slice(&value[16..]);
    }
}

/// Ends the process, naming the bytes of the instruction; only with what a signal handler may call.
fn die(bytes: &[u8]) -> ! {
    let message = b"illegal instruction other than vpdpbusd and vpdpwssd: ";
    let mut line = [0_u8; 256];
    line[..message.len()].copy_from_slice(message);
    let mut end = message.len();
    for byte in bytes.iter().take(64) {
        for nibble in [byte >> 4, byte & 15] {
            line[end] = b"0123456789abcdef"[usize::from(nibble)];
            end += 1;
        }
        line[end] = b' ';
        end += 1;
    }
    line[end] = b'\n';
    // SAFETY: the buffer outlives the call, which a signal handler may make.
    unsafe { libc::write(2, line.as_ptr().cast(), end + 1) };
    // SAFETY: may be called from a signal handler.
    unsafe { libc::abort() }
}

#[cfg(test)]
mod tests {
    use std::arch::asm;

    use super::*;

    /// `ud2`, which no CPU executes, marks an instruction that is to be emulated though the CPU may have it.
    const MARK: [u8; 2] = [0x0F, 0x0B];

    pub fn skip_mark(bytes: &[u8], address: u64) -> (&[u8], u64) {
        if bytes.starts_with(&MARK) { (&bytes[2..], address + 2) } else { (bytes, address) }
    }

    /// Registers as bytes.
    #[repr(C, align(32))]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Ymm([u8; 32]);

    /// Runs one instruction on three registers, `seed` being the destination, behind `mark`.
    macro_rules! run {
        ($mark:literal, $instruction:literal, $vectors:ident) => {{
            let [seed, codes, activations] = $vectors;
            let mut sums = Ymm([0xEE; 32]);
            // SAFETY: loads and one store within the four values; all registers that change are named. The CPU,
            // or the handler, has AVX-VNNI.
            unsafe {
                asm!(
                    "vmovdqa ymm12, [{seed}]",
                    "vmovdqa ymm3, [{codes}]",
                    "vmovdqa ymm9, [{activations}] /* {index} {below} */",
                    $mark,
                    $instruction,
                    "vmovdqa [{sums}], ymm12",
                    seed = in(reg) &raw const seed,
                    codes = in(reg) &raw const codes,
                    activations = in(reg) &raw const activations,
                    sums = in(reg) &raw mut sums,
                    index = in(reg) 4_u64,
                    below = in(reg) (&raw const activations).wrapping_byte_sub(48),
                    out("ymm12") _, out("ymm3") _, out("ymm9") _,
                );
            }
            sums
        }};
    }

    /// On a CPU that has AVX-VNNI the handler gives, in every form of the operands, what the CPU gives.
    #[test]
    fn emulation_equals_the_cpu() {
        if Supported::new(Isa::AvxVnni).is_err() {
            // Then all `avx_vnni` cells run through the handler, and their results have oracles.
            eprintln!("NOT RUN: this CPU has no AVX-VNNI to compare with");
            return;
        }
        install();
        let mut state = 1_u64;
        let mut random = move || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            (state >> 56) as u8
        };
        for case in 0..200 {
            let vectors = [(); 3].map(|()| Ymm([(); 32].map(|()| random())));
            macro_rules! compare {
                ($($instruction:literal)+) => {$({
                    let before = traps();
                    let emulated = run!("ud2", $instruction, vectors);
                    assert!(traps() > before, "{} did not trap", $instruction);
                    assert_eq!(emulated, run!("", $instruction, vectors), "{} case {case}", $instruction);
                })+};
            }
            compare! {
                "{{vex}} vpdpbusd ymm12, ymm3, ymm9"
                "{{vex}} vpdpbusd xmm12, xmm3, xmm9"
                "{{vex}} vpdpbusd ymm12, ymm9, [{codes}]"
                "{{vex}} vpdpbusd ymm12, ymm3, [{below} + 8 * {index} + 16]"
                "{{vex}} vpdpbusd xmm12, xmm3, [{activations} + 4 * {index}]"
                "{{vex}} vpdpwssd ymm12, ymm3, ymm9"
                "{{vex}} vpdpwssd xmm12, xmm3, xmm9"
                "{{vex}} vpdpwssd ymm12, ymm3, [{below} + 8 * {index} + 16]"
            }
        }
    }
}
