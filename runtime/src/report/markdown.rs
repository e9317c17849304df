//! The report to read.

use std::fmt::{self, Display, Formatter};
use std::iter;
use std::path::Path;

use super::{BASE, BaseRow, Figure, Rate, Report, Row, Share, Size, Speed};
use crate::perplexity::Estimate;
use crate::table::{self, Align, Align::*};

/// What stands where nothing was measured.
const NOTHING: &str = "–";

/// What the table tells of each type, and where it stands.
const COLUMNS: [(&str, Align); 13] = [
    ("type", Left),
    ("bits per weight", Right),
    ("of matrices", Right),
    ("error of weights", Right),
    ("perplexity", Right),
    ("KL divergence", Right),
    ("same top-1", Right),
    ("prefill, tok/s", Right),
    ("× base", Right),
    ("decode, tok/s", Right),
    ("× base", Right),
    ("of roofline", Right),
    ("matrices", Left),
];

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { model, cpu, isa, threads, rounds, base, types } = self;
        // Where they lie is of no interest to who reads the table elsewhere.
        let name =
            |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().escape_debug().to_string();
        let BaseRow { size, speed, .. } = base;
        writeln!(f, "# {} in other types\n", name(model))?;
        write!(f, "- base: {}, {:.1} MB", name(&base.path), size.file_bytes as f64 / 1e6)?;
        match &base.logits {
            Some(path) => writeln!(f, "; of its text the logits in {}", name(path)),
            None => writeln!(f),
        }?;
        match &base.perplexity {
            Some(text) => writeln!(
                f,
                "- text: {} chunks of {} tokens, of which {} are scored; ± is the standard error",
                text.chunks, text.context, text.scored
            ),
            None => writeln!(f, "- text: none"),
        }?;
        writeln!(
            f,
            "- speed: {cpu}, {threads} threads, {isa}; prompts of {} tokens and {} generated ones",
            speed.prefill.tokens, speed.decode.tokens
        )?;
        match rounds {
            1 => writeln!(f, "- each was measured once"),
            _ => writeln!(
                f,
                "- medians of {rounds} rounds, in each of which every model had its turn; × base is by the base's speed in \
                 the same round; quartiles are in brackets"
            ),
        }?;
        writeln!(
            f,
            "- the roofline is the speed at which the same threads read the weights and do nothing else, in the same \
             round; the base's file is read at {:.1} GB/s\n",
            speed.read_bandwidth.median / 1e9
        )?;
        let rows = iter::once(base_row(base)).chain(types.iter().map(row));
        table::markdown(f, COLUMNS.map(|(_, align)| align), COLUMNS.map(|(name, _)| name), rows)
    }
}

fn base_row(base: &BaseRow) -> [String; COLUMNS.len()] {
    let nothing = || NOTHING.to_owned();
    let perplexity = base.perplexity.as_ref().map(|text| perplexity(text.perplexity));
    let (bits, speed) = (bits(base.size), speed(&base.speed));
    cells(
        BASE,
        bits,
        [nothing(), perplexity.unwrap_or_else(nothing), nothing(), nothing()],
        speed,
        &base.matrices,
    )
}

fn row(row: &Row) -> [String; COLUMNS.len()] {
    let Row { name, matrices, size, error, divergence, speed: measured, .. } = row;
    let figures = divergence.as_ref().map(|divergence| {
        let means = &divergence.means;
        [
            perplexity(means.perplexity),
            estimate(means.kl_divergence, 1.0, 5),
            estimate(means.same_top, 100.0, 1) + " %",
        ]
    });
    let [perplexity, divergence, same_top] = figures.unwrap_or([NOTHING; 3].map(String::from));
    let error = format!("{} %", digits(100.0 * error.relative_rms));
    cells(name, bits(*size), [error, perplexity, divergence, same_top], speed(measured), matrices)
}

fn cells(
    name: &str,
    [whole, matrices]: [String; 2],
    [error, perplexity, divergence, same_top]: [String; 4],
    [prefill, prefill_by_base, decode, decode_by_base, roofline]: [String; 5],
    shares: &[Share],
) -> [String; COLUMNS.len()] {
    [
        name.into(),
        whole,
        matrices,
        error,
        perplexity,
        divergence,
        same_top,
        prefill,
        prefill_by_base,
        decode,
        decode_by_base,
        roofline,
        composition(shares),
    ]
}

fn bits(size: Size) -> [String; 2] {
    [size.bits_per_weight, size.matrix_bits_per_weight].map(|bits| format!("{bits:.3}"))
}

fn speed(speed: &Speed) -> [String; 5] {
    let ratio = |figure: &Figure| with_quartiles(figure, |ratio| format!("{ratio:.2}"));
    let rate = |rate: &Rate| [digits(rate.tokens_per_second.median), ratio(&rate.by_base)];
    let ([prefill, prefill_by_base], [decode, decode_by_base]) = (rate(&speed.prefill), rate(&speed.decode));
    let roofline = with_quartiles(&speed.roofline_share, |share| format!("{:.0}", 100.0 * share)) + " %";
    [prefill, prefill_by_base, decode, decode_by_base, roofline]
}

/// The median, and the quartiles, unless it is always the same.
fn with_quartiles(figure: &Figure, show: impl Fn(f64) -> String) -> String {
    let [low, median, high] = [figure.low, figure.median, figure.high].map(show);
    if figure.low == figure.high { median } else { format!("{median} [{low}–{high}]") }
}

/// What matrices are made of: `Q5_0 90 % instead of Q4_K, Q6_K 10 %`.
fn composition(shares: &[Share]) -> String {
    let all: usize = shares.iter().map(|share| share.weights).sum();
    let each = shares.iter().map(|Share { ty, instead_of, weights, .. }| {
        let part = match shares.len() {
            1 => String::new(),
            _ => format!(" {} %", digits(100.0 * *weights as f64 / all as f64)),
        };
        let wanted = instead_of.map(|wanted| format!(" instead of {wanted}")).unwrap_or_default();
        format!("{ty}{part}{wanted}")
    });
    each.collect::<Vec<_>>().join(", ")
}

/// To three decimals, as types are compared on one text and differ by less than the error; but none of what a type has
/// broken.
fn perplexity(perplexity: Estimate) -> String {
    estimate(perplexity, 1.0, if perplexity.value < 1000.0 { 3 } else { 0 })
}

fn estimate(Estimate { value, error }: Estimate, scale: f64, decimals: usize) -> String {
    let (value, error) = (value * scale, error * scale);
    // Of one token there is none.
    if error.is_nan() {
        format!("{value:.decimals$}")
    } else {
        format!("{value:.decimals$} ± {error:.decimals$}")
    }
}

/// Three digits that tell, and all before the point.
pub fn digits(value: f64) -> String {
    let before = value.abs().log10().floor() + 1.0;
    let decimals = if value == 0.0 { 0 } else { (3.0 - before).clamp(0.0, 8.0) as usize };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_tell() {
        for (value, expected) in [
            (0.0, "0"),
            (1234.5, "1234"),
            (123.45, "123"),
            (12.345, "12.3"),
            (1.2345, "1.23"),
            (0.12345, "0.123"),
            (0.0012345, "0.00123"),
            (100.0, "100"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(digits(value), expected, "{value}");
        }
    }

    #[test]
    fn matrices_name_what_they_should_have_been() {
        let share = |ty, instead_of, weights| Share { ty, instead_of, matrices: 1, weights };
        for (shares, expected) in [
            (vec![share("Q4_0", None, 32)], "Q4_0"),
            (vec![share("F16", Some("Q4_0"), 91)], "F16 instead of Q4_0"),
            (
                vec![share("Q5_0", Some("Q4_K"), 900), share("Q6_K", None, 100)],
                "Q5_0 90.0 % instead of Q4_K, Q6_K 10.0 %",
            ),
        ] {
            assert_eq!(composition(&shares), expected);
        }
    }
}
