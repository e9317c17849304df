//! Runs AVX-VNNI machine code on a CPU without AVX-VNNI: traps each `vpdpbusd` that the CPU refuses and does
//! its work on the registers in the signal frame.
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

/// AVX-VNNI, by the CPU where it has it and else by this emulator, and which of the two.
pub fn avx_vnni() -> (Supported, &'static str) {
    if let Ok(native) = Supported::new(Isa::AvxVnni) {
        return (native, "natively");
    }
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(install);
    // SAFETY: of what AVX-VNNI consists of, the handler does what the CPU lacks; `install` has seen to it that
    // this is nothing but avxvnni.
    (unsafe { Supported::assume(Isa::AvxVnni) }, "under emulation")
}

/// Instructions emulated so far.
pub fn traps() -> u64 {
    TRAPS.load(Ordering::Relaxed)
}

fn install() {
    assert_eq!(Isa::AvxVnni.missing(), ["avxvnni"], "this CPU lacks more than the emulator provides");
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
    let instruction = decode(bytes, address);
    let wide = match instruction.code() {
        Code::VEX_Vpdpbusd_ymm_ymm_ymmm256 => true,
        Code::VEX_Vpdpbusd_xmm_xmm_xmmm128 => false,
        _ => die(bytes),
    };
    // SAFETY: the kernel points it to the XSAVE area, whose size covers the AVX component: this CPU has AVX.
    let mut vectors = unsafe { Vectors::new(context.uc_mcontext.fpregs.cast()) };
    let codes = vectors.read(instruction.op1_register());
    let activations = if instruction.op2_kind() == OpKind::Memory {
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
    for (i, sum) in sums.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        // As in the pseudo-code of VPDPBUSD: unsigned times signed bytes, summed without saturation.
        let products = (4 * i..4 * i + 4).map(|j| i32::from(codes[j]) * i32::from(activations[j] as i8));
        *sum = i32::from_le_bytes(*sum).wrapping_add(products.sum()).to_le_bytes();
    }
    if !wide {
        // A VEX instruction on xmm registers clears the upper half of its destination.
        sums[16..].fill(0);
    }
    vectors.write(instruction.op0_register(), sums);
    registers[libc::REG_RIP as usize] = instruction.next_ip() as i64;
    TRAPS.fetch_add(1, Ordering::Relaxed);
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
    let message = b"illegal instruction other than vpdpbusd: ";
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
