//! The running executable: functions by name, constants by address, and instructions as text that says nothing
//! of addresses.

use std::collections::BTreeMap;

use iced_x86::{
    Decoder, DecoderOptions, EncodingKind, FlowControl, Formatter, Instruction, IntelFormatter,
    MemorySizeOptions, OpKind, Register, SymbolResolver, SymbolResult,
};
use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

use super::{Error, is_call};

/// An executable.
pub struct Binary<'d> {
    file: object::File<'d>,
    symbols: Vec<Symbol>,
}

/// A function's place and name.
struct Symbol {
    address: u64,
    size: u64,
    /// With its path, without the hash.
    name: String,
}

/// A function's code.
pub struct Function {
    pub instructions: Vec<Instruction>,
    /// Whether `rbp` is its frame pointer.
    pub frame: bool,
}

impl<'d> Binary<'d> {
    /// The executable that is `bytes`.
    pub fn parse(bytes: &'d [u8]) -> Result<Self, object::Error> {
        let file = object::File::parse(bytes)?;
        let functions =
            file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0);
        let symbols = functions.filter_map(|symbol| {
            let name = format!("{:#}", rustc_demangle::demangle(symbol.name().ok()?));
            Some(Symbol { address: symbol.address(), size: symbol.size(), name })
        });
        Ok(Self { symbols: symbols.collect(), file })
    }

    /// The function whose path ends with `name`.
    pub fn function(&self, name: &str) -> Result<Function, Error> {
        let mut named = self.symbols.iter().filter(|symbol| symbol.is_called(name));
        let symbol = named.next().ok_or_else(|| Error::Missing(name.to_owned()))?;
        match named.find(|other| other.address != symbol.address) {
            None => self.read(symbol),
            Some(other) => Err(Error::Ambiguous(name.to_owned(), symbol.name.clone(), other.name.clone())),
        }
    }

    /// The functions whose path ends with `name` that `function` calls.
    pub fn callees(&self, function: &Function, name: &str) -> Result<Vec<Function>, Error> {
        let calls = function.instructions.iter().filter(|instruction| is_call(instruction));
        let mut callees = BTreeMap::new();
        for target in calls.map(Instruction::near_branch_target) {
            let called =
                self.symbols.iter().find(|symbol| symbol.address == target && symbol.is_called(name));
            if let Some(symbol) = called {
                callees.insert(target, self.read(symbol)?);
            }
        }
        Ok(callees.into_values().collect())
    }

    fn read(&self, symbol: &Symbol) -> Result<Function, Error> {
        let code =
            self.bytes(symbol.address, symbol.size).ok_or_else(|| Error::Missing(symbol.name.clone()))?;
        Ok(Function::decode(code, symbol.address))
    }

    /// What the file holds for `size` bytes of memory from `address` on, where they are not written at run time.
    fn bytes(&self, address: u64, size: u64) -> Option<&'d [u8]> {
        let mut sections = self.file.sections();
        let constant = |kind| {
            matches!(kind, SectionKind::Text | SectionKind::ReadOnlyData | SectionKind::ReadOnlyString)
        };
        sections
            .find_map(|section| section.data_range(address, size).ok()?.filter(|_| constant(section.kind())))
    }

    /// Instructions a line each, with labels where jumps among them lead.
    pub fn text(&self, instructions: &[Instruction]) -> String {
        let jumps = instructions.iter().filter(|instruction| {
            matches!(
                instruction.flow_control(),
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
            )
        });
        let mut targets: Vec<_> = jumps.map(Instruction::near_branch_target).collect();
        targets.retain(|target| instructions.iter().any(|instruction| instruction.ip() == *target));
        targets.sort_unstable();
        targets.dedup();
        let labels: BTreeMap<u64, String> =
            targets.into_iter().enumerate().map(|(i, target)| (target, format!(".L{i}"))).collect();

        // The formatter owns its resolver and asks for `'static`; what the names are is settled before.
        let names = instructions.iter().filter_map(|instruction| self.names(instruction, &labels)).collect();
        let mut formatter = IntelFormatter::with_options(Some(Box::new(Names(names))), None);
        let options = formatter.options_mut();
        options.set_hex_prefix("0x");
        options.set_hex_suffix("");
        options.set_uppercase_hex(false);
        options.set_space_after_operand_separator(true);
        options.set_memory_size_options(MemorySizeOptions::Never);
        options.set_rip_relative_addresses(false);
        options.set_show_branch_size(false);
        options.set_first_operand_char_index(16);

        let mut text = String::new();
        for instruction in instructions {
            if let Some(label) = labels.get(&instruction.ip()) {
                text += &format!("{label}:\n");
            }
            let mut line = String::new();
            formatter.format(instruction, &mut line);
            // Text alone does not tell a VEX `vpdpbusd` from an EVEX one.
            let mark = if instruction.encoding() == EncodingKind::EVEX { "    ; EVEX" } else { "" };
            text += &format!("    {line}{mark}\n");
        }
        text
    }

    /// What stands for the address in `instruction`, if it has one.
    fn names(&self, instruction: &Instruction, labels: &BTreeMap<u64, String>) -> Option<(u64, String)> {
        let ip = instruction.ip();
        if is_call(instruction) {
            let called =
                self.symbols.iter().find(|symbol| symbol.address == instruction.near_branch_target());
            return Some((ip, called.map_or("…".to_owned(), |symbol| symbol.name.clone())));
        }
        if instruction.op0_kind() == OpKind::NearBranch64 {
            return Some((
                ip,
                labels.get(&instruction.near_branch_target()).cloned().unwrap_or("…".to_owned()),
            ));
        }
        if instruction.is_ip_rel_memory_operand() {
            let size = instruction.memory_size().size();
            let constant = self.bytes(instruction.ip_rel_memory_address(), size as u64).filter(|_| size > 0);
            return Some((ip, constant.map_or("…".to_owned(), content)));
        }
        None
    }
}

impl Symbol {
    /// Whether `name` is the last part of its path, generic arguments aside.
    fn is_called(&self, name: &str) -> bool {
        let plain = self.name.split("::<").next().unwrap_or(&self.name);
        plain.rsplit("::").next() == Some(name)
    }
}

impl Function {
    /// The function whose code is `bytes` and lies at `address`.
    pub fn decode(bytes: &[u8], address: u64) -> Self {
        let instructions: Vec<_> =
            Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).into_iter().collect();
        let sets_frame = |instruction: &Instruction| {
            instruction.op0_register() == Register::RBP && instruction.op1_register() == Register::RSP
        };
        Self { frame: instructions.iter().any(sets_frame), instructions }
    }
}

/// A constant, as an array in Rust: of bytes, or of larger numbers where one is repeated.
pub fn content(bytes: &[u8]) -> String {
    let repeated = [1, 2, 4, 8].into_iter().find(|&width| {
        bytes.len().is_multiple_of(width) && bytes.chunks(width).all(|number| *number == bytes[..width])
    });
    match repeated {
        Some(width) => {
            let number: String = bytes[..width].iter().rev().map(|byte| format!("{byte:02x}")).collect();
            let count = bytes.len() / width;
            if count == 1 { format!("0x{number}") } else { format!("0x{number}; {count}") }
        }
        None => bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// What stands for the addresses in instructions, by the instruction's own address.
struct Names(BTreeMap<u64, String>);

impl SymbolResolver for Names {
    fn symbol(
        &mut self,
        instruction: &Instruction,
        _operand: u32,
        instruction_operand: Option<u32>,
        address: u64,
        _address_size: u32,
    ) -> Option<SymbolResult<'_>> {
        // Also asked for immediates and displacements, which are no addresses.
        let kind = instruction.op_kind(instruction_operand?);
        let is_address = matches!(kind, OpKind::NearBranch64)
            || kind == OpKind::Memory && instruction.is_ip_rel_memory_operand();
        let name = self.0.get(&instruction.ip()).filter(|_| is_address)?;
        Some(SymbolResult::with_str(address, name))
    }
}
