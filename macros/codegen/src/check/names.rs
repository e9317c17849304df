//! Rule: names have one meaning each.

use syn::Ident;

use super::{Checker, Rule, numbers};
use crate::error::Errors;
use crate::parse;

/// What every block has of its own, whatever is declared.
const OWN: [&str; 5] = ["ZERO", "FORMAT", "from_bytes", "to_bytes", "from_weights"];

/// Types that generated code names, and the primitive ones, which a format of that name would hide from it.
const TYPES: [&str; 19] = [
    "Codebooks",
    "kernels",
    "bool",
    "char",
    "f32",
    "f64",
    "i8",
    "i16",
    "i32",
    "i64",
    "i128",
    "isize",
    "str",
    "u8",
    "u16",
    "u32",
    "u64",
    "u128",
    "usize",
];

/// Variants of the prelude. A pattern of such a name is the variant, never a variable.
const VARIANTS: [&str; 4] = ["None", "Some", "Ok", "Err"];

/// Formats of one declaration differ in name and in number.
pub fn of_formats(declarations: &parse::Declarations, errors: &mut Errors) {
    let mut seen: Vec<(&Ident, Option<usize>)> = Vec::new();
    for declared in &declarations.formats {
        no_keyword(&declared.name, errors);
        if TYPES.iter().any(|ty| declared.name == ty) {
            errors.note(
                Rule::Names,
                &declared.name,
                format!("`{}` is a type that generated code uses: rename the format", declared.name),
            );
        }
        let gguf = declared.gguf.as_ref().and_then(|id| numbers::number(id, errors).ok());
        for (name, other) in &seen {
            // Kernels and benches are named in lower case, so that is where names must differ.
            if declared.name.to_string().to_lowercase() == name.to_string().to_lowercase() {
                let message = if declared.name == **name {
                    format!("a second format called `{name}`: rename one of the two")
                } else {
                    format!(
                        "`{}` and `{name}` are the same in lower case, in which kernels are named: rename one of the two",
                        declared.name
                    )
                };
                errors.note(Rule::Names, &declared.name, message);
            }
            if gguf.is_some() && gguf == *other {
                errors.note(
                    Rule::Names,
                    &declared.gguf,
                    format!("`{name}` already has this GGUF number: give another, or leave out `= gguf …`"),
                );
            }
        }
        seen.push((&declared.name, gguf));
    }
}

impl Checker<'_> {
    /// Names of one declaration.
    pub fn unique_names(&mut self) {
        let (declared, body) = (self.declared, self.body);
        let names = body
            .fields
            .iter()
            .map(|field| &field.name)
            .chain(body.tables.iter().map(|table| &table.name))
            .chain(body.codebooks.iter().map(|codebook| &codebook.name))
            .chain(body.codes.iter().map(|codes| &codes.name));
        let mut seen: Vec<&Ident> = Vec::new();
        for name in names {
            no_keyword(name, self.errors);
            if seen.contains(&name) {
                let message = format!("`{name}` is declared twice in `{}`: rename one", declared.name);
                self.errors.note(Rule::Names, name, message);
            }
            seen.push(name);
        }
        let pieces = body.codes.iter().flat_map(|codes| &codes.pieces);
        for digit in pieces.flat_map(|piece| &piece.digits).map(|digit| &digit.name) {
            no_keyword(digit, self.errors);
            if VARIANTS.iter().any(|variant| digit == variant) {
                let message = format!("`{digit}` is a variant and can name no variable: rename the digit");
                self.errors.note(Rule::Names, digit, message);
            }
            if seen.contains(&digit) {
                let message = format!("`{digit}` has a meaning already: rename the digit");
                self.errors.note(Rule::Names, digit, message);
            }
        }
    }

    /// Names of the block's methods and constants: every code vector has two methods, named after it, and every codebook is a
    /// constant.
    pub fn own_names(&mut self) {
        let codebooks = self.body.codebooks.iter().map(|codebook| (&codebook.name, "codebook"));
        let codes = self.blame.iter().map(|name| (name, "codes"));
        for (name, kind) in codebooks.chain(codes) {
            if OWN.iter().any(|own| name == own) {
                let message = format!("every block has a `{name}` of its own: rename the {kind}");
                self.errors.note(Rule::Names, name, message);
            }
            if let Some(other) = name.to_string().strip_prefix("set_")
                && self.blame.iter().any(|codes| codes == other)
            {
                let message = format!("`{name}` is the method that stores `{other}`: rename the {kind}");
                self.errors.note(Rule::Names, name, message);
            }
        }
    }
}

/// Names become fields and methods of generated code, in every edition.
fn no_keyword(name: &Ident, errors: &mut Errors) {
    let text = name.to_string();
    if text.starts_with("r#") || text == "gen" {
        errors.note(
            Rule::Names,
            name,
            format!("`{name}` names methods and functions too: use a name that is no keyword"),
        );
    }
}
