//! `quantloom kernels`.

use std::env::consts::ARCH;
use std::io::{BufWriter, Write};
use std::thread;

use crate::bench::cpu_features;
use crate::gguf::Formats;
use quantloom_kernels::{Format, Isa, Supported, Variant};

use super::Result;
use super::table::{self, Align::Left};

pub fn run(formats: &Formats, out: &mut impl Write) -> Result {
    let chosen = Supported::selected().map_err(crate::Error::from)?.isa();
    let out = &mut BufWriter::new(out);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    writeln!(out, "CPU: {}, {ARCH}, {threads} threads", cpu_name().as_deref().unwrap_or("unknown"))?;

    writeln!(out, "features: {}", cpu_features().join(" "))?;

    writeln!(out)?;
    let rows = Isa::ALL.iter().map(|&isa| describe(isa, chosen));
    table::write(out, [Left; 3], ["instruction set", "on this CPU", "needs"], rows)?;

    writeln!(out)?;
    let rows = formats.iter().flat_map(|format| operations(format, chosen));
    table::write(out, [Left; 3], ["format", "operation", "kernels: * is chosen, - can't run here"], rows)?;
    Ok(out.flush()?)
}

fn describe(isa: Isa, chosen: Isa) -> [String; 3] {
    let missing = isa.missing();
    let state = match missing.as_slice() {
        [] if isa == chosen => "chosen".into(),
        [] => "supported".into(),
        missing => format!("lacks {}", missing.join(", ")),
    };
    [isa.to_string(), state, isa.features().join(" ")]
}

/// Format, operation, and the kernels for it with their marks.
fn operations(format: &Format, chosen: Isa) -> [[String; 3]; 5] {
    let list = |name: &dyn Fn(&Variant) -> String| {
        let mut names = Vec::new();
        let mut used_by_chosen = None;
        for variant in format.variants {
            let name = name(variant);
            if variant.isa() == chosen {
                used_by_chosen = Some(name.clone());
            }
            // A function that instruction sets share is that of the plainest, which comes first.
            if names.iter().all(|(listed, _)| *listed != name) {
                names.push((name, variant.isa()));
            }
        }
        let marked = names.into_iter().map(|(name, isa)| match isa.missing().as_slice() {
            _ if used_by_chosen.as_ref() == Some(&name) => format!("{name}*"),
            [] => name,
            _ => format!("{name}-"),
        });
        marked.collect::<Vec<_>>().join("  ")
    };
    ["dequantize", "dot", "gemm", "gemv", "quantize"].map(|operation| {
        let kernels = match (operation, format.quantize) {
            // Models are quantized once: that need not be fast.
            ("quantize", Some(_)) => "one for all".into(),
            ("quantize", None) => "none".into(),
            ("gemm", _) if format.panel.is_none() => "none".into(),
            // Its core is the same for all formats.
            ("gemm", _) => list(&|variant| format!("{}_gemm_{}", format.name.to_lowercase(), variant.isa())),
            _ => list(&|variant| variant.kernel_name(operation).expect("every format has these").to_owned()),
        };
        [format.name.into(), operation.into(), kernels]
    })
}

/// The name that the CPU gives itself.
fn cpu_name() -> Option<String> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::__cpuid;
        // 48 characters in three leaves, where there are as many. Source: Intel SDM, CPUID.
        const LEAVES: [u32; 3] = [0x8000_0002, 0x8000_0003, 0x8000_0004];
        if __cpuid(0x8000_0000).eax < LEAVES[2] {
            return None;
        }
        let registers = LEAVES.map(__cpuid).map(|leaf| [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]);
        let bytes: Vec<u8> =
            registers.as_flattened().iter().flat_map(|register| register.to_le_bytes()).collect();
        let name = String::from_utf8_lossy(&bytes);
        Some(name.trim_matches(['\0', ' ']).to_owned()).filter(|name| !name.is_empty())
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}
