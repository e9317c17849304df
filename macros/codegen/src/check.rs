//! The rules of a declaration. Whatever passes them expands without failing.

use syn::{Attribute, Ident};

use crate::error::{Error, Errors, Noted};
use crate::model::{CHUNK, Codes, Field, Format};
use crate::parse;

mod fields;
mod names;
mod numbers;
mod planes;
mod reference;
mod weight;

macro_rules! rules {
    ($($name:ident: $text:literal,)+) => {
        /// A rule of the language: what it asks, and why.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Rule {
            $(#[doc = $text] $name,)+
        }

        impl Rule {
            /// Every rule, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// What it asks, and why.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

rules! {
    Names: "Formats, fields, codes, tables, codebooks and digits have one meaning each, in the generated code too.",
    Declared: "Every name in a formula is declared.",
    Fields: "Field types are numbers, `f16`, `bf16`, `f32`, `e8m0`, `ue4m3`, bytes, `u8` or `i8`, or arrays of one of these: what kernels can load.",
    EveryBitOnce: "Every field, code, table and codebook is used, and every bit of an array belongs to exactly one code: a bit that nobody reads is a typing error, or padding, whose name begins with `_`.",
    Planes: "A plane is `field[index] >> shift & mask << position`, `digit(field[index], base, power)` or `trit(field[index], power)`, with index, shift and power sums of digits: only then is the walk the same for every block, so that it can be planned at compile time.",
    Inside: "Every element lies inside its field; its bits may go on from one byte into the next.",
    Whole: "The planes of one code touch no bit twice and leave no gap, and all pieces of it have the same planes.",
    OneLoad: "16 consecutive codes, and the codes that choose their tables, lie within 16 bytes of a block of at least 16 bytes, one vector load, and 8 of which some go on into another byte within 8, one shift of bits.",
    Product: "`w` is one product that holds the codes of all weights, with or without a zero point that blocks or groups store, plus or minus a second that does not: kernels multiply codes by activations, and sums of activations by minima.",
    Chunks: "A block is a whole number of chunks of 32: activations are quantized 32 at a time.",
    Groups: "Groups that have a scale or a zero point, or that choose a table, divide a chunk evenly or span whole chunks, and hold at least 4 weights: one lane of a dot product.",
    Headroom: "Two codes times two activations fit the i16 sum of `vpmaddubsw`: unsigned codes have at most 7 bits (2 · 127 · 127 = 32,258 ≤ 32,767).",
    Values: "A zero point lies within the codes, a table has an `i8` for each code, and a codebook an entry; several tables are as many as the codes that choose one, and a code and its table make up a byte.",
    Signs: "Signs, a bit for each weight, go with what has no zero point: a table or a codebook.",
    Numbers: "Numbers are whole and plain, and constant factors powers of two, alone and all together, which round nothing and keep scales in range.",
    Quantizers: "A quantizer of ggml's, as in `quantize by furthest;`, goes with the formula that it was written for; without one the block of least squared error is searched for.",
}

impl Rule {
    /// Its place among all, from 1.
    pub fn number(self) -> usize {
        self as usize + 1
    }
}

/// The largest block that a declaration may have: far above every known format, and low enough that
/// checking it bit by bit takes no time.
const MAX_BLOCK: usize = 4096;

/// Checks every format of a declaration; `Err` holds the errors of all of them.
pub(crate) fn check(declarations: &parse::Declarations) -> Result<Vec<Format>, Vec<Error>> {
    let mut errors = Errors::default();
    let mut formats = Vec::new();
    if let Some(list) = &declarations.list {
        only_docs(&list.attrs, &mut errors);
    }
    names::of_formats(declarations, &mut errors);
    for declared in &declarations.formats {
        only_docs(&declared.attrs, &mut errors);
        match &declared.body {
            Ok(body) => formats.extend(Checker::new(declared, body, &mut errors).format()),
            Err(error) => errors.syntax(error.clone()),
        }
    }
    if errors.len() == 0 { Ok(formats) } else { Err(errors.into_vec()) }
}

/// A format on its way through the rules.
struct Checker<'a> {
    declared: &'a parse::Format,
    body: &'a parse::Body,
    errors: &'a mut Errors,
    /// Weights of a block.
    len: usize,
    fields: Vec<Field>,
    codes: Vec<Codes>,
    /// For each code vector the tokens to blame.
    blame: Vec<Ident>,
}

impl<'a> Checker<'a> {
    fn new(declared: &'a parse::Format, body: &'a parse::Body, errors: &'a mut Errors) -> Self {
        Self { declared, body, errors, len: 0, fields: Vec::new(), codes: Vec::new(), blame: Vec::new() }
    }

    fn format(mut self) -> Result<Format, Noted> {
        let (declared, body) = (self.declared, self.body);
        self.len = self.chunks()?;
        self.unique_names();
        self.all_used();
        let before = self.errors.len();
        for field in &body.fields {
            only_docs(&field.attrs, self.errors);
            // Errors of one field don't hide those of the next.
            let _ = self.field(field);
        }
        for codes in &body.codes {
            let _ = self.code_vector(codes);
        }
        if self.errors.len() > before {
            // A formula over broken fields would only repeat their errors.
            return Err(Noted);
        }
        let weight = self.weight(&body.weight)?;
        self.own_names();
        self.every_bit_once();
        let mut format = Format {
            name: declared.name.to_string(),
            len: self.len,
            gguf: declared.gguf.as_ref().and_then(|id| id.base10_parse().ok()),
            fields: std::mem::take(&mut self.fields),
            codes: std::mem::take(&mut self.codes),
            weight,
            reference: None,
        };
        format.reference = self.reference(&format)?;
        planes::one_load(&format, &self.blame, self.errors);
        Ok(format)
    }

    /// The weights of a block.
    fn chunks(&mut self) -> Result<usize, Noted> {
        let declared = &self.declared.len;
        let len = numbers::number(declared, self.errors)?;
        if len == 0 || len > MAX_BLOCK {
            return self.errors.refuse(
                Rule::Chunks,
                declared,
                format!("a block holds a multiple of {CHUNK} weights, at most {MAX_BLOCK}"),
            );
        }
        if !len.is_multiple_of(CHUNK) {
            let whole =
                (1..=CHUNK).map(|blocks| blocks * len).find(|all| all.is_multiple_of(CHUNK)).unwrap_or(len);
            return self.errors.refuse(
                Rule::Chunks,
                declared,
                format!(
                    "a block holds a multiple of {CHUNK} weights, which kernels take at a time: where {} blocks of {len} can be written as one of {whole}, with their scales as an array, declare that",
                    whole / len
                ),
            );
        }
        Ok(len)
    }
}

fn only_docs(attrs: &[Attribute], errors: &mut Errors) {
    for attr in attrs.iter().filter(|attr| !parse::is_doc(attr)) {
        errors.syntax(syn::Error::new_spanned(
            attr,
            "only doc comments and `allow` go with a declaration: remove this attribute",
        ));
    }
}

/// "`a`, `b`", or a word for nothing.
fn list<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Whether a name says that what it names is padding.
fn is_padding(name: &Ident) -> bool {
    name.to_string().starts_with('_')
}
