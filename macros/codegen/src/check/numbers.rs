//! Numbers as a declaration writes them: plain literals, in parentheses and out of macros, too.

use syn::{Expr, ExprUnary, Lit, LitInt, UnOp};

use super::{Checker, Rule};
use crate::error::{Errors, Noted};

/// The factors that a constant, and a product of constants, may be: far from where a scale times it would overflow or
/// vanish as an f32.
const FACTORS: std::ops::RangeInclusive<i32> = -19..=19;

/// `value` without parentheses, and without the invisible ones around what a macro was given.
pub fn plain(value: &Expr) -> &Expr {
    match value {
        Expr::Paren(inner) => plain(&inner.expr),
        Expr::Group(inner) => plain(&inner.expr),
        value => value,
    }
}

/// Whether `value` is a literal.
pub fn is_literal(value: &Expr) -> bool {
    matches!(plain(value), Expr::Lit(_))
}

/// A count of a declaration.
pub fn number(literal: &LitInt, errors: &mut Errors) -> Result<usize, Noted> {
    no_suffix(literal.suffix(), literal, errors)?;
    match literal.base10_parse::<u32>() {
        Ok(value) => Ok(value as usize),
        Err(_) => errors.refuse(Rule::Numbers, literal, "expected a whole number up to 4294967295"),
    }
}

impl Checker<'_> {
    /// A whole number of a formula.
    pub fn constant(&mut self, value: &Expr) -> Result<usize, Noted> {
        let Expr::Lit(literal) = plain(value) else {
            return self.errors.refuse(Rule::Numbers, value, "expected a whole number");
        };
        let Lit::Int(int) = &literal.lit else {
            return self.errors.refuse(Rule::Numbers, value, "expected a whole number");
        };
        no_suffix(int.suffix(), value, self.errors)?;
        // Far above every block, and low enough that its product with a part of an index fits an i64.
        match int.base10_parse::<u16>() {
            Ok(value) => Ok(value.into()),
            Err(_) => self.errors.refuse(Rule::Numbers, value, "expected a whole number up to 65535"),
        }
    }

    /// An entry of a table.
    pub fn entry(&mut self, value: &Expr) -> Result<i8, Noted> {
        let (negative, magnitude) = match plain(value) {
            Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr, .. }) => (true, plain(expr)),
            magnitude => (false, magnitude),
        };
        if let Expr::Lit(literal) = magnitude
            && let Lit::Int(int) = &literal.lit
        {
            no_suffix(int.suffix(), value, self.errors)?;
            let magnitude = int.base10_parse::<i16>().ok();
            let signed = magnitude.map(|magnitude| if negative { -magnitude } else { magnitude });
            if let Some(entry) = signed.and_then(|entry| i8::try_from(entry).ok()) {
                return Ok(entry);
            }
        }
        self.errors.refuse(Rule::Values, value, "a table entry is a whole number from -128 to 127")
    }

    /// A constant factor, as the exponent of 2.
    pub fn power_of_two(&mut self, value: &Expr) -> Result<i32, Noted> {
        if let Expr::Lit(literal) = plain(value) {
            let (digits, suffix) = match &literal.lit {
                Lit::Int(int) => (int.base10_digits(), int.suffix()),
                Lit::Float(float) => (float.base10_digits(), float.suffix()),
                _ => ("", ""),
            };
            no_suffix(suffix, value, self.errors)?;
            let is_it = |exponent: &i32| scientific(digits) == scientific(&power(*exponent).to_string());
            if let Some(exponent) = FACTORS.into_iter().find(is_it) {
                return Ok(exponent);
            }
        }
        self.errors.refuse(
            Rule::Numbers,
            value,
            "a constant factor is a power of two from 2⁻¹⁹ to 2¹⁹, which rounds nothing: 0.5, 0.125, 2",
        )
    }

    /// The factor of a product whose constants are 2 to the power of `exponents` in all.
    pub fn factor_of(&mut self, product: &Expr, exponent: i32) -> Result<f32, Noted> {
        if FACTORS.contains(&exponent) {
            return Ok(power(exponent) as f32);
        }
        self.errors.refuse(
            Rule::Numbers,
            product,
            format!(
                "the constants of this product are 2^{exponent} together, where scales overflow or vanish: keep them from 2⁻¹⁹ to 2¹⁹"
            ),
        )
    }
}

fn power(exponent: i32) -> f64 {
    2_f64.powi(exponent)
}

fn no_suffix(suffix: &str, tokens: impl quote::ToTokens, errors: &mut Errors) -> Result<(), Noted> {
    if suffix.is_empty() {
        return Ok(());
    }
    errors.refuse(
        Rule::Numbers,
        tokens,
        format!("numbers of a declaration have no type: drop the `{suffix}`"),
    )
}

/// A decimal number as its significant digits and the exponent of 10 of the last: equal for equal numbers, however
/// many digits they have, which no conversion to a float would say.
fn scientific(text: &str) -> Option<(String, i64)> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.parse::<i64>().ok()?;
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let dropped = digits.len() - significant.len();
    let last = exponent.checked_sub(fraction.len() as i64)?.checked_add(dropped as i64)?;
    Some((significant.trim_start_matches('0').to_owned(), last))
}

#[cfg(test)]
mod tests {
    use super::{FACTORS, power, scientific};

    #[test]
    fn equal_numbers_are_equal_however_they_are_written() {
        for (a, b) in
            [("0.5", "5e-1"), ("2", "2.000"), ("0.125", "125E-3"), ("1024", "1.024e3"), ("1", "01.")]
        {
            assert_eq!(scientific(a), scientific(b), "{a} and {b}");
        }
        for other in
            ["0.12500000001", "0.1250000000000000000000000001", "0.124999999999999999999999", "1e99999"]
        {
            assert_ne!(scientific("0.125"), scientific(other), "{other}");
        }
        for no_number in ["", "1e99999999999999999999", "1e-9223372036854775808"] {
            assert!(FACTORS.into_iter().all(|e| scientific(no_number) != scientific(&power(e).to_string())));
        }
    }
}
