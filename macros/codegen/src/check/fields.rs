//! Rules: field types, and that every bit is used once.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::Ident;

use super::planes::MOST_DIGITS;
use super::{Checker, MAX_BLOCK, Rule, is_padding, numbers};
use crate::error::Noted;
use crate::model::{Cut, Field, FieldType};
use crate::parse;

impl Checker<'_> {
    /// A field, at the end of those before it.
    pub fn field(&mut self, declared: &parse::Field) -> Result<(), Noted> {
        let Some(ty) = FieldType::ALL.into_iter().find(|ty| declared.ty == ty.name()) else {
            let message = format!(
                "`{}` is no field type: use f16, bf16, f32, e8m0, ue4m3, u8 or i8, or an array of these",
                declared.ty
            );
            return self.errors.refuse(Rule::Fields, &declared.ty, message);
        };
        let count = declared.count.as_ref().map(|count| numbers::number(count, self.errors)).transpose()?;
        if count.is_some_and(|count| count == 0 || count > MAX_BLOCK / ty.bytes()) {
            let message = format!("an array holds 1 to {MAX_BLOCK} bytes");
            return self.errors.refuse(Rule::Fields, &declared.count, message);
        }
        let offset = self.fields.iter().map(Field::bytes).sum();
        self.fields.push(Field { name: declared.name.to_string(), ty, count, offset });
        Ok(())
    }

    /// Asks the tokens, not the checked formula: a mistake elsewhere makes nothing unused.
    pub fn all_used(&mut self) {
        let body = self.body;
        let formula = body.weight.to_token_stream();
        let values = body.codes.iter().flat_map(|codes| &codes.pieces).map(|piece| &piece.value);
        let anywhere = quote!(#formula #(#values)*);
        let mut look = |name: &Ident, tokens: &TokenStream, place: &str, message: &str| {
            let message = match (mentions(tokens.clone(), name), is_padding(name)) {
                (true, false) | (false, true) => return,
                (false, false) => format!("`{name}` is never used{place}: {message}"),
                (true, true) => {
                    format!(
                        "`{name}` is used, and a name that begins with `_` says that it is padding: rename it"
                    )
                }
            };
            self.errors.note(Rule::EveryBitOnce, name, message);
        };
        for name in body.fields.iter().map(|field| &field.name) {
            // Codes may be padding, too, and take bits of any field.
            look(
                name,
                &anywhere,
                "",
                "use it in `w` or in codes, remove the field, or call it `_…` where it is padding",
            );
        }
        let tables = body.tables.iter().map(|table| &table.name);
        let codebooks = body.codebooks.iter().map(|codebook| &codebook.name);
        for name in body.codes.iter().map(|codes| &codes.name).chain(tables).chain(codebooks) {
            look(name, &formula, " in `w`", "use it there or remove it");
        }
    }

    /// Every bit of an array belongs to one code, or is padding.
    pub fn every_bit_once(&mut self) {
        for (f, field) in self.fields.iter().enumerate() {
            // Numbers are used as a whole.
            let Some(count) = field.count.filter(|_| !field.is_wide()) else { continue };
            let mut bits = vec![0_u32; count * 8];
            let mut digits = vec![0_u32; count * MOST_DIGITS];
            let mut bases = vec![None; count];
            let mut of_two_bases = None;
            for piece in self.codes.iter().flat_map(|codes| &codes.pieces) {
                for term in piece.terms.iter().filter(|term| term.field == f) {
                    for place in (0..piece.len()).map(|e| piece.locate(term, e)) {
                        match term.cut {
                            Cut::Bits { .. } => {
                                for (byte, within, count) in term.parts(place) {
                                    bits[8 * byte + within..][..count]
                                        .iter_mut()
                                        .for_each(|count| *count += 1);
                                }
                            }
                            Cut::Digit { base, is_fraction, .. } => {
                                digits[MOST_DIGITS * place.byte + place.within] += 1;
                                if *bases[place.byte].get_or_insert((base, is_fraction))
                                    != (base, is_fraction)
                                {
                                    of_two_bases.get_or_insert(place.byte);
                                }
                            }
                        }
                    }
                }
            }
            let blame = &self.body.fields[f].name;
            if let Some(byte) = of_two_bases {
                let message = format!(
                    "byte {byte} of `{blame}` is read by digits of different kinds: all have one base, by `digit` or by `trit`"
                );
                self.errors.note(Rule::EveryBitOnce, blame, message);
                continue;
            }
            if bits.iter().chain(&digits).all(|&count| count == 0) {
                // Padding, or noted already as a field that is never used.
                continue;
            }
            for (byte, (bits, digits)) in
                bits.chunks_exact(8).zip(digits.chunks_exact(MOST_DIGITS)).enumerate()
            {
                // The last digits of a byte may be left over, if not all.
                let in_digits = digits.iter().any(|&count| count > 0);
                let read = digits.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1);
                let (readers, unit) = if in_digits { (&digits[..read], "digit") } else { (bits, "bit") };
                let problem = if in_digits && bits.iter().any(|&count| count > 0) {
                    format!("byte {byte} of `{blame}` is read by bits and by digits: it is one or the other")
                } else if let Some(at) = readers.iter().position(|&count| count > 1) {
                    format!(
                        "{unit} {at} of byte {byte} of `{blame}` belongs to {} codes: check the index and the shift, or a digit is missing in them",
                        readers[at]
                    )
                } else if let Some(at) = readers.iter().position(|&count| count == 0) {
                    format!(
                        "{unit} {at} of byte {byte} of `{blame}` is read by no code: shorten the field, add the plane that is missing, or read it into codes that are called `_…` where it is padding"
                    )
                } else {
                    continue;
                };
                self.errors.note(Rule::EveryBitOnce, blame, problem);
                break;
            }
        }
    }
}

/// Whether `name` is among `tokens`.
fn mentions(tokens: TokenStream, name: &Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == *name,
        TokenTree::Group(group) => mentions(group.stream(), name),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}
