//! Code written by hand shows that each invariant can fail, and which loop is taken.

use quantloom_kernels::formats::Q4_0;
use quantloom_kernels::{BlockFormat, Isa};

use super::Invariant::{Call, Ceiling, Encoding, Instruction, Stack};
use super::Operation::{Dequantize, Dot, Gemv};
use super::binary::{Function, content};
use super::{Cell, Exception, Operation, largest};

/// `vpdpbusd ymm0, ymm1, [rdi+rax]` in VEX and in EVEX, and its predecessor.
const DPBUSD: &[u8] = &[0xC4, 0xE2, 0x75, 0x50, 0x04, 0x07];
const DPBUSD_EVEX: &[u8] = &[0x62, 0xF2, 0x75, 0x28, 0x50, 0x04, 0x07];
const MADDUBSW: &[u8] = &[0xC4, 0xE2, 0x75, 0x04, 0x04, 0x07];
/// `vpxord ymm16, ymm16, ymm16`
const XOR_EVEX: &[u8] = &[0x62, 0xA1, 0x7D, 0x20, 0xEF, 0xC0];
/// `call` to itself, `push rbx`, `vmovups [rsp+32], ymm0`, `vmovups ymm0, [rbp-32]`
const CALL: &[u8] = &[0xE8, 0xFB, 0xFF, 0xFF, 0xFF];
const PUSH: &[u8] = &[0x53];
const SPILL: &[u8] = &[0xC5, 0xFC, 0x11, 0x44, 0x24, 0x20];
const RELOAD: &[u8] = &[0xC5, 0xFC, 0x10, 0x45, 0xE0];
/// `mov rbp, rsp`
const FRAME: &[u8] = &[0x48, 0x89, 0xE5];
/// `vmovups [rdi+rax], ymm0`, a quarter of the floats of a Q4_0 block, and `vcvtdq2ps ymm0, ymm0`
const STORE: &[u8] = &[0xC5, 0xFC, 0x11, 0x04, 0x07];
const CONVERT: &[u8] = &[0xC5, 0xFC, 0x5B, 0xC0];

/// Instructions one after another.
type Code = &'static [&'static [u8]];

/// The body again and again, while flags say so.
fn repeated(body: &[&[u8]]) -> Vec<u8> {
    let mut code = body.concat();
    // jne to the beginning, from behind its own two bytes.
    let back = -(code.len() as i8 + 2);
    code.extend([0x75, back as u8]);
    code
}

fn cell(operation: Operation, isa: Isa, code: &[&[u8]]) -> Cell {
    let function = Function::decode(&[code.concat(), vec![0xC3]].concat(), 0x1000);
    largest(Q4_0::FORMAT, operation, isa, &function, &[]).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn each_invariant_can_fail() {
    let cases: &[(&str, Operation, Isa, Code, &[super::Invariant])] = &[
        ("as it should be", Dot, Isa::AvxVnni, &[DPBUSD], &[]),
        ("as it should be", Dot, Isa::Avx512Vnni, &[DPBUSD_EVEX, XOR_EVEX], &[]),
        ("as it should be", Dot, Isa::Avx2Fma, &[MADDUBSW], &[]),
        ("as it should be", Dequantize, Isa::Avx2Fma, &[CONVERT, STORE, STORE, STORE, STORE], &[]),
        ("EVEX vpdpbusd", Dot, Isa::AvxVnni, &[DPBUSD_EVEX], &[Instruction, Encoding]),
        ("one of two is EVEX", Dot, Isa::AvxVnni, &[DPBUSD, DPBUSD_EVEX], &[Instruction, Encoding]),
        ("EVEX beside it", Dot, Isa::AvxVnni, &[DPBUSD, XOR_EVEX], &[Encoding]),
        ("VEX vpdpbusd", Dot, Isa::Avx512Vnni, &[DPBUSD], &[Instruction]),
        ("vpdpbusd beside vpmaddubsw", Dot, Isa::Avx2Fma, &[MADDUBSW, DPBUSD], &[Instruction]),
        ("VEX", Dot, Isa::Scalar, &[MADDUBSW], &[Encoding]),
        ("no conversion", Dequantize, Isa::Avx2Fma, &[STORE, STORE, STORE, STORE], &[Instruction]),
        ("a call", Dot, Isa::AvxVnni, &[DPBUSD, CALL], &[Call]),
        ("a call", Dot, Isa::Scalar, &[CALL], &[Call]),
        ("a spill", Dot, Isa::AvxVnni, &[DPBUSD, SPILL], &[Stack]),
        ("a push", Dot, Isa::AvxVnni, &[DPBUSD, PUSH], &[Stack]),
        ("rbp is a pointer as any", Dot, Isa::AvxVnni, &[DPBUSD, RELOAD], &[]),
        ("five for a block", Dot, Isa::AvxVnni, &[DPBUSD, RELOAD, RELOAD, RELOAD], &[Ceiling]),
        ("eight for two", Dot, Isa::AvxVnni, &[DPBUSD, DPBUSD, RELOAD, RELOAD, RELOAD, RELOAD, RELOAD], &[]),
    ];
    let ceilings: &[super::Ceiling] = &[
        ("q4_0_dot", &[("scalar", 4), ("avx2_fma", 4)]),
        ("q4_0_dequantize", &[("scalar", 6), ("avx2_fma", 6)]),
    ];
    for (what, operation, isa, body, expected) in cases {
        let violations = cell(*operation, *isa, &[&repeated(body)]).violations(ceilings);
        let found: Vec<_> = violations.iter().map(|violation| violation.invariant).collect();
        assert_eq!(found, *expected, "{what}, {isa}: {violations:?}");
    }
    let framed = cell(Dot, Isa::AvxVnni, &[FRAME, &repeated(&[DPBUSD, RELOAD])]);
    assert_eq!(framed.violations(ceilings)[0].invariant, Stack, "rbp is the frame pointer");
    let without = cell(Dot, Isa::AvxVnni, &[&repeated(&[DPBUSD])]).violations(&[]);
    assert_eq!(without[0].invariant, Ceiling, "a kernel without a ceiling");
}

#[test]
fn exceptions_are_for_what_fails() {
    let cells = [cell(Dot, Isa::AvxVnni, &[&repeated(&[DPBUSD, SPILL])])];
    let cases: &[(&[Exception], Option<&str>)] = &[
        (&[("q4_0_dot_avx_vnni", Stack, "by hand")], None),
        (&[], Some("q4_0_dot_avx_vnni: Stack: `vmovups")),
        (
            &[("q4_0_dot_avx_vnni", Stack, ""), ("q4_0_dot_avx_vnni", Call, "")],
            Some("Call holds: strike out"),
        ),
        (&[("q4_0_gemv_avx_vnni", Stack, "")], Some("q4_0_gemv_avx_vnni: Stack holds")),
    ];
    for (exceptions, expected) in cases {
        let check = || super::assert_invariants(&cells, &[("q4_0_dot", &[("avx2_fma", 9)])], exceptions);
        let message = std::panic::catch_unwind(check).err().and_then(|panic| panic.downcast::<String>().ok());
        assert_eq!(message.is_some(), expected.is_some(), "{message:?}");
        assert!(message.unwrap_or_default().contains(expected.unwrap_or_default()), "{expected:?}");
    }
}

#[test]
fn the_loop_over_blocks_is_taken() {
    let rows = |body| repeated(&[RELOAD, body]);
    let (one, two) = (repeated(&[DPBUSD]), repeated(&[DPBUSD, DPBUSD]));
    let cases: [(_, _, [&[u8]; 2], _, _); 5] = [
        ("dot: the outermost loop, with the one inside", Dot, [&rows(&one), &[]], 4, 1),
        ("gemv: inside the loop over rows", Gemv, [&rows(&one), &[]], 2, 1),
        ("the one that does more, before", Dot, [&two, &one], 3, 2),
        ("the one that does more, after", Dot, [&one, &two], 3, 2),
        ("the work counts, not the length", Dot, [&repeated(&[RELOAD, RELOAD, RELOAD]), &one], 2, 1),
    ];
    for (what, operation, code, instructions, blocks) in cases {
        let cell = cell(operation, Isa::AvxVnni, &code);
        assert_eq!((cell.instructions.len(), cell.blocks), (instructions, Some(blocks)), "{what}");
    }
    let function = Function::decode(&repeated(&[MADDUBSW]), 0);
    let error = largest(Q4_0::FORMAT, Dot, Isa::AvxVnni, &function, &[]).err().expect("no work in any loop");
    assert!(error.to_string().starts_with("q4_0_dot_avx_vnni: no loop"), "{error}");
}

#[test]
fn constants_read_as_arrays() {
    let cases: &[(&[u8], &str)] = &[
        (&[15], "0x0f"),
        (&[15; 32], "0x0f; 32"),
        (&[1, 0, 1, 0], "0x0001; 2"),
        (&[0, 0, 128, 63], "0x3f800000"),
        (
            &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
            "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        ),
        (&[0, 0, 128, 63, 0, 0, 128, 63], "0x3f800000; 2"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(content(bytes), *expected);
    }
}
