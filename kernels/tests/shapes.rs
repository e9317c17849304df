//! What every kind of shape that the language can express has: a quantizer, a `gemm`, a proof, and how far the quantizer's
//! error is from that of a plain search. Declarations are text, of which the generator tells the facts; the quantizer runs
//! on the same shape as data, so that nothing is compiled for it. The table is a page, `tests/data/shapes.md`.

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use quantloom_bench::prove::search::{self, Holds};
use quantloom_kernels::quantize::{self, Grid, Number, Numbers, Octet, Product, Shape, Signs, Table, Values};

/// The square root of a quantizer's squared error is at most this many times the plain search's.
const PROMISE: f64 = 1.02;

/// An error that is none.
const NOTHING: f64 = 1e-30;

/// Kinds of shapes that may be above the promise: what their lines contain, where ± is a plus or a minus, how far, and why.
const EXCEPTIONS: &[(&str, f64, &str)] = &[
    ("| i8 | f16 | ± ", 1.1, FINE),
    ("| 7 bits - 64 | f16 | ± ", 1.16, FINE),
    ("| 4 bits - 8 | f16 | + e8m0 |", 1.06, COARSE),
    ("| 4 bits - 12 | f16 | + f16 · (u4 - 8) per 16 |", 1.1, COARSE),
    ("| 4 bits - 12 | f16 | - 0.5 · [ue4m3] per 16 |", 1.03, COARSE),
    ("| 4 bits | f16 · u4 per 16 | - f32 |", 1.25, "σ = 1e-7 has few numbers of f16 for scales"),
    ("| 4 bits | f16 · u4 per 16 | ± ", 1.12, PAIRED),
    ("| 4 bits | f16 | + f16 · (u4 - 8) per 16 |", 1.03, COARSE),
    ("| table | f16 | ± ", 1.06, GRID),
    ("| signs · table | f16 | ± ", 1.03, GRID),
    ("| codebook of 4 | f16 | ± ", 1.03, GRID),
    ("| signs · codebook of 4 | f16 | ± ", 1.05, GRID),
    ("| i8 | f16 · u4 per 4 |", 1.6, FINE),
    ("| 4 bits | f16 · u4 per 4 |", 1.1, FINE),
    ("| f16 | - f16 · u4 per 4 |", 1.16, FINE),
    ("7 bits - 64 | f16 · ", 1.06, FINE),
    ("i8 | f16 · ", 1.05, FINE),
    ("i8 | f32 · [e8m0] per 16 |", 1.05, FINE),
    ("table | f32 · [e8m0] per 16 |", 1.05, COARSE),
    ("table | f16 · (u4 - 8) per 16 |", 1.05, COARSE),
    ("signs · table | f16 · u8 per 16 |", 1.05, FINE),
];

const FINE: &str = "of many values, or in small groups, it is chance which numbers fit best, and the plain search tries more of them";
const COARSE: &str = "of coarse numbers not every pair is tried";
const PAIRED: &str = "scales and minima of groups are looked for in pairs, of which the neighbours alone are tried: it is Q2_K's shape, and fast";
const GRID: &str = "values are not even, and not every scale and minimum is tried";

/// What the codes of weights stand for.
#[derive(Clone, Copy)]
enum Value {
    /// `(q - zero)` of codes up to `max`.
    Linear { max: u8, zero: i32 },
    /// Signed bytes.
    Signed,
    /// The entries of a table.
    Table(&'static [i8]),
    /// A codebook of 256 rows, each of so many weights.
    Codebook(usize),
}

/// A kind of values: name, what codes stand for, the signs of values, weights of a block of at least 16 bytes, and the
/// declaration: fields, codes, and the factor in the formula.
struct ValueKind {
    name: &'static str,
    value: Value,
    signs: Signs,
    len: usize,
    fields: &'static str,
    codes: &'static str,
    factor: &'static str,
}

/// How the numbers of groups are stored.
#[derive(Clone, Copy)]
struct GroupKind {
    name: &'static str,
    number: Number,
    /// Bits of a code: 4 or 8; the type of an array of 8.
    bits: usize,
    ty: &'static str,
    /// Before and after the name of codes in the formula.
    around: [&'static str; 2],
}

/// A product of scales or minima.
#[derive(Clone)]
struct ProductKind {
    constant: f32,
    /// The types of numbers of the block, the finest first.
    block: &'static [(&'static str, Number)],
    group: Option<(GroupKind, usize)>,
}

/// A row of the table.
struct Row {
    value: &'static ValueKind,
    scale: ProductKind,
    minimum: Option<ProductKind>,
}

const NL: &[i8] = &[-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
const E2M1: &[i8] = &[0, 1, 2, 3, 4, 6, 8, 12];
static STEPS: Table = Table::new(&[1, 2, 3, 4, 6, 8, 11, 16, 22, 30, 40, 54, 70, 90, 108, 127]);

const NIBBLES: &str = "q[h: 2, i: 32] = qs[i] >> 4 * h & 15;";

const VALUES: &[ValueKind] = &[
    ValueKind {
        name: "i8",
        value: Value::Signed,
        signs: Signs::Own,
        len: 64,
        fields: "qs: [i8; 64],",
        codes: "",
        factor: "qs",
    },
    ValueKind {
        name: "7 bits - 64",
        value: Value::Linear { max: 127, zero: 64 },
        signs: Signs::Own,
        len: 64,
        fields: "low: [u8; 32], high: [u8; 24],",
        codes: "q[h: 2, j: 4, k: 8] = low[8 * j + k] >> 4 * h & 15 | (high[8 * h + k] >> 2 * j & 3) << 4 | (high[16 + 4 * h + j] >> k & 1) << 6;",
        factor: "(q - 64)",
    },
    ValueKind {
        name: "4 bits - 8",
        value: Value::Linear { max: 15, zero: 8 },
        signs: Signs::Own,
        len: 64,
        fields: "qs: [u8; 32],",
        codes: NIBBLES,
        factor: "(q - 8)",
    },
    ValueKind {
        name: "4 bits",
        value: Value::Linear { max: 15, zero: 0 },
        signs: Signs::Own,
        len: 64,
        fields: "qs: [u8; 32],",
        codes: NIBBLES,
        factor: "q",
    },
    ValueKind {
        name: "4 bits - 12",
        value: Value::Linear { max: 15, zero: 12 },
        signs: Signs::Own,
        len: 64,
        fields: "qs: [u8; 32],",
        codes: NIBBLES,
        factor: "(q - 12)",
    },
    ValueKind {
        name: "2 bits - 1",
        value: Value::Linear { max: 3, zero: 1 },
        signs: Signs::Own,
        len: 64,
        fields: "qs: [u8; 16],",
        codes: "q[i: 16, k: 4] = qs[i] >> 2 * k & 3;",
        factor: "(q - 1)",
    },
    ValueKind {
        name: "1 bit - 1",
        value: Value::Linear { max: 1, zero: 1 },
        signs: Signs::Own,
        len: 128,
        fields: "qs: [u8; 16],",
        codes: "q[i: 16, k: 8] = qs[i] >> k & 1;",
        factor: "(q - 1)",
    },
    ValueKind {
        name: "table",
        value: Value::Table(NL),
        signs: Signs::Own,
        len: 64,
        fields: "qs: [u8; 32],",
        codes: "table NL = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]; q[h: 2, i: 32] = qs[i] >> 4 * h & 15;",
        factor: "NL[q]",
    },
    ValueKind {
        name: "signs · table",
        value: Value::Table(E2M1),
        signs: Signs::Any,
        len: 64,
        fields: "sg: [u8; 8], qs: [u8; 24],",
        codes: "table E2M1 = [0, 1, 2, 3, 4, 6, 8, 12]; q[h: 4, j: 2, i: 8] = qs[8 * j + i] >> 2 * h & 3 | (qs[16 + i] >> (2 * h + j) & 1) << 2;",
        factor: "signs(sg) * E2M1[q]",
    },
    ValueKind {
        name: "even signs · table",
        value: Value::Table(E2M1),
        signs: Signs::Even,
        len: 64,
        fields: "sg: [u8; 7], qs: [u8; 24],",
        codes: "table E2M1 = [0, 1, 2, 3, 4, 6, 8, 12]; n[i: 8] = sg[0] >> 7 * i & 127; q[h: 4, j: 2, i: 8] = qs[8 * j + i] >> 2 * h & 3 | (qs[16 + i] >> (2 * h + j) & 1) << 2;",
        factor: "even_signs(n) * E2M1[q]",
    },
    ValueKind {
        name: "codebook of 4",
        value: Value::Codebook(4),
        signs: Signs::Own,
        len: 64,
        fields: "g: [u8; 16],",
        codes: "codebook GRID: [[i8; 4]; 256] = ROWS;",
        factor: "GRID[g]",
    },
    ValueKind {
        name: "signs · codebook of 4",
        value: Value::Codebook(4),
        signs: Signs::Any,
        len: 64,
        fields: "sg: [u8; 8], g: [u8; 16],",
        codes: "codebook GRID: [[i8; 4]; 256] = ROWS;",
        factor: "signs(sg) * GRID[g]",
    },
    ValueKind {
        name: "even signs · codebook of 8",
        value: Value::Codebook(8),
        signs: Signs::Even,
        len: 64,
        fields: "sg: [u8; 7], g: [u8; 8],",
        codes: "codebook GRID: [[i8; 8]; 256] = ROWS; n[i: 8] = sg[0] >> 7 * i & 127;",
        factor: "even_signs(n) * GRID[g]",
    },
];

const F16: (&str, Number) = ("f16", Number::F16);
const F32: (&str, Number) = ("f32", Number::F32);
const UE4M3: (&str, Number) = ("ue4m3", Number::Ue4m3);
const E8M0: (&str, Number) = ("e8m0", Number::E8m0);

const fn group(
    name: &'static str,
    number: Number,
    bits: usize,
    ty: &'static str,
    around: [&'static str; 2],
) -> GroupKind {
    GroupKind { name, number, bits, ty, around }
}

const U4: GroupKind = group("u4", Number::Integer { first: 0, step: 1, max: 15 }, 4, "u8", ["", ""]);
const GROUPS: &[GroupKind] = &[
    U4,
    group("(u4 - 8)", Number::Integer { first: -8, step: 1, max: 15 }, 4, "u8", ["(", " - 8)"]),
    group("(2 * u4 + 1)", Number::Integer { first: 1, step: 2, max: 15 }, 4, "u8", ["(2 * ", " + 1)"]),
    group("TABLE[u4]", Number::Table(&STEPS), 4, "u8", ["STEPS[", "]"]),
    group("u8", Number::Integer { first: 0, step: 1, max: 255 }, 8, "u8", ["", ""]),
    group("i8", Number::I8, 8, "i8", ["", ""]),
];
const UE4M3S: GroupKind = group("[ue4m3]", Number::Ue4m3, 8, "ue4m3", ["", ""]);
const E8M0S: GroupKind = group("[e8m0]", Number::E8m0, 8, "e8m0", ["", ""]);

/// All rows: every kind of values under every kind of scale, and every kind of minimum under an f16; for 4 bits under scales
/// of groups, too.
fn rows() -> Vec<Row> {
    let product = |constant, block, group| ProductKind { constant, block, group };
    let mut scales: Vec<ProductKind> = [&[F16][..], &[F32], &[UE4M3], &[E8M0], &[F16, E8M0], &[UE4M3, E8M0]]
        .map(|block| product(1.0, block, None))
        .to_vec();
    scales.extend(GROUPS.iter().map(|&group| product(1.0, &[F16], Some((group, 16)))));
    scales.extend([4, 8, 32].map(|size| product(1.0, &[F16], Some((U4, size)))));
    scales.push(product(1.0, &[UE4M3], Some((U4, 16))));
    scales.push(product(1.0, &[E8M0], Some((U4, 16))));
    scales.push(product(0.5, &[], Some((UE4M3S, 16))));
    scales.push(product(0.5, &[], Some((E8M0S, 32))));
    scales.push(product(1.0, &[F32], Some((E8M0S, 16))));
    let mut minima: Vec<ProductKind> = [F16, F32, UE4M3, E8M0]
        .iter()
        .flat_map(|block| [1.0, -1.0].map(|sign| product(sign, std::slice::from_ref(block), None)))
        .collect();
    minima.extend([4, 16, 32].map(|size| product(-1.0, &[F16], Some((U4, size)))));
    minima.push(product(1.0, &[F16], Some((GROUPS[1], 16))));
    minima.push(product(-0.5, &[], Some((UE4M3S, 16))));
    let mut rows = Vec::new();
    for value in VALUES {
        rows.extend(scales.iter().map(|scale| Row { value, scale: scale.clone(), minimum: None }));
        let by_groups = value.name == "4 bits";
        for scale in [&scales[0], &scales[6]].into_iter().take(1 + usize::from(by_groups)) {
            rows.extend(minima.iter().map(|minimum| Row {
                value,
                scale: scale.clone(),
                minimum: Some(minimum.clone()),
            }));
        }
    }
    rows
}

impl ProductKind {
    /// As it stands in the table.
    fn name(&self) -> String {
        let constant = (self.constant.abs() != 1.0).then(|| self.constant.abs().to_string());
        let block = self.block.iter().map(|(name, _)| (*name).to_owned());
        let group = self.group.map(|(kind, size)| format!("{} per {size}", kind.name));
        constant.into_iter().chain(block).chain(group).collect::<Vec<_>>().join(" · ")
    }

    /// Fields and codes, whose names end in `end`, and the product in the formula.
    fn declaration(&self, len: usize, end: &str) -> [String; 3] {
        let [mut fields, mut codes] = [String::new(), String::new()];
        let mut factors = Vec::new();
        if self.constant.abs() != 1.0 {
            factors.push(self.constant.abs().to_string());
        }
        for (i, (ty, _)) in self.block.iter().enumerate() {
            let name = format!("{}_{end}", ["d", "e"][i]);
            fields += &format!("{name}: {ty}, ");
            factors.push(name);
        }
        if let Some((kind, size)) = self.group {
            let (count, name) = (len / size, format!("c_{end}"));
            if kind.bits == 8 {
                fields += &format!("{name}: [{}; {count}], ", kind.ty);
            } else {
                fields += &format!("b_{end}: [u8; {}], ", count / 2);
                codes += &format!("{name}[i: {}, h: 2] = b_{end}[i] >> 4 * h & 15; ", count / 2);
            }
            if kind.around[0].starts_with("STEPS") {
                codes += "table STEPS = [1, 2, 3, 4, 6, 8, 11, 16, 22, 30, 40, 54, 70, 90, 108, 127]; ";
            }
            factors.push(format!("{}{name}{}", kind.around[0], kind.around[1]));
        }
        [fields, codes, factors.join(" * ")]
    }

    fn holds(&self) -> search::Product {
        let constant = f64::from(self.constant);
        let block = match self.block {
            [] => search::Numbers::One(constant),
            [(_, Number::F32), ..] => search::Numbers::Any,
            [(_, finest), others @ ..] => {
                // Powers of two bring the finest to where weights can be, and far beyond.
                let powers: Vec<f64> = if others.is_empty() {
                    vec![1.0]
                } else {
                    (-40..=20).map(|power| 2_f64.powi(power)).collect()
                };
                let numbers = numbers(*finest);
                let all = powers
                    .iter()
                    .flat_map(|power| numbers.iter().map(move |number| number * power * constant));
                search::Numbers::These(all.collect())
            }
        };
        let group = self.group.map(|(kind, size)| search::Group { values: numbers(kind.number), size });
        search::Product { block, group }
    }

    fn product(&self) -> Product {
        let others: &'static [Number] = if self.block.len() > 1 { &[Number::E8m0] } else { &[] };
        Product {
            factor: self.constant,
            block: self.block.first().map(|(_, number)| *number),
            others,
            group: self.group.map(|(kind, _)| kind.number),
        }
    }

    fn groups(&self, len: usize) -> usize {
        self.group.map_or(0, |(_, size)| len / size)
    }

    /// The product of weight `i` where numbers are stored like this.
    fn at(&self, block: u32, exponent: i32, groups: &[u8], i: usize) -> f32 {
        let block = self.block.first().map_or(1.0, |(_, number)| number.value(block));
        let group = self.group.map_or(1.0, |(kind, size)| kind.number.value(groups[i / size].into()));
        self.constant * block * 2_f32.powi(exponent) * group
    }
}

/// All finite numbers that can be stored like this.
fn numbers(number: Number) -> Vec<f64> {
    let last = match number {
        Number::F16 | Number::Bf16 => 0xFFFF,
        Number::F32 => unreachable!("there are too many"),
        Number::E8m0 => 253,
        Number::Ue4m3 => 126,
        Number::Integer { max, .. } => max.into(),
        Number::I8 => 255,
        Number::Table(_) => 15,
    };
    (0..=last).map(|bits| f64::from(number.value(bits))).filter(|number| number.is_finite()).collect()
}

/// Numbers that look random.
struct Noise(u64);

impl Noise {
    /// From -1 to 1.
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Of variance 1, nearly.
    fn gaussian(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() / 2.0
    }
}

/// The rows of a codebook, 32 that repeat; magnitudes where signs are apart.
fn book<const D: usize>(signs: Signs) -> Vec<[i8; D]> {
    let mut noise = Noise(17);
    let mut entry = || {
        let value = noise.gaussian();
        match signs {
            Signs::Own => (value * 12.0) as i8,
            Signs::Any | Signs::Even => [4, 12, 20, 28][((value.abs() * 1.4) as usize).min(3)],
        }
    };
    let rows: Vec<[i8; D]> = (0..32).map(|_| std::array::from_fn(|_| entry())).collect();
    rows.repeat(8)
}

impl Row {
    fn name(&self) -> String {
        let minimum = self.minimum.as_ref().map_or("none".to_owned(), |minimum| {
            format!("{} {}", if minimum.constant < 0.0 { "-" } else { "+" }, minimum.name())
        });
        format!("{} | {} | {minimum}", self.value.name, self.scale.name())
    }

    /// The text of a declaration.
    fn declaration(&self) -> String {
        let ValueKind { len, fields, codes, factor, .. } = self.value;
        let [scale_fields, scale_codes, scale] = self.scale.declaration(*len, "s");
        let (minimum_fields, minimum_codes, minimum) = match &self.minimum {
            None => (String::new(), String::new(), String::new()),
            Some(minimum) => {
                let [fields, codes, product] = minimum.declaration(*len, "m");
                let sign = if minimum.constant < 0.0 { "-" } else { "+" };
                (fields, codes, format!(" {sign} {product}"))
            }
        };
        format!(
            "block Row[{len}] {{ {scale_fields} {minimum_fields} {fields} {codes} {scale_codes} {minimum_codes} w = {scale} * {factor}{minimum}; }}"
        )
    }

    fn holds(&self) -> Holds {
        let rows = |rows: Vec<Vec<f64>>| search::Values::Rows(rows);
        let single = |values: Vec<f64>| search::Values::Single(values);
        let signs = self.value.signs;
        let values = match self.value.value {
            Value::Linear { max, zero } => {
                single((0..=i32::from(max)).map(|q| f64::from(q - zero)).collect())
            }
            Value::Signed => single((-128..128).map(f64::from).collect()),
            Value::Table(entries) => single(entries.iter().map(|&entry| entry.into()).collect()),
            Value::Codebook(4) => {
                rows(book::<4>(signs).iter().map(|row| row.map(f64::from).to_vec()).collect())
            }
            Value::Codebook(_) => {
                rows(book::<8>(signs).iter().map(|row| row.map(f64::from).to_vec()).collect())
            }
        };
        let signs = match signs {
            Signs::Own => search::Signs::Own,
            Signs::Any => search::Signs::Any,
            Signs::Even => search::Signs::Even,
        };
        Holds {
            values,
            signs,
            scale: self.scale.holds(),
            minimum: self.minimum.as_ref().map(ProductKind::holds),
        }
    }

    /// Weights that were quantized and dequantized.
    fn back(&self, weights: &[f32], importance: Option<&[f32]>) -> Vec<f32> {
        let len = self.value.len;
        let counts = [self.scale.groups(len), self.minimum.as_ref().map_or(0, |minimum| minimum.groups(len))];
        macro_rules! run {
            ($($len:literal $octets:literal [$($scales:literal)*];)*) => {
                $(if len == $len {
                    $(run!(@minima $len $octets $scales counts [0 2 4 8 16 32]);)*
                })*
            };
            (@minima $len:literal $octets:literal $scales:literal $counts:ident [$($minima:literal)*]) => {
                $(if $counts == [$scales, $minima] {
                    return self.run::<$len, $octets, $scales, $minima>(weights, importance);
                })*
            };
        }
        run! { 64 8 [0 2 4 8 16]; 128 16 [0 4 8 16 32]; }
        panic!("{}: {len} weights in groups {counts:?}", self.name());
    }

    fn run<const N: usize, const O: usize, const S: usize, const M: usize>(
        &self,
        weights: &[f32],
        importance: Option<&[f32]>,
    ) -> Vec<f32> {
        let weights: &[f32; N] = weights.try_into().expect("weights of a block");
        let importance = importance.map(|p| <&[f32; N]>::try_from(p).expect("importance of a block"));
        let (scale, minimum) = (self.scale.product(), self.minimum.as_ref().map(ProductKind::product));
        let signs = self.value.signs;
        let finish = |numbers: Numbers<S, M>, values: [f32; N]| -> Vec<f32> {
            let weight = |i: usize| {
                let scale = self.scale.at(numbers.scale, numbers.scale_exponent, &numbers.scales, i);
                let minimum = self.minimum.as_ref().map_or(0.0, |minimum| {
                    minimum.at(numbers.minimum, numbers.minimum_exponent, &numbers.minima, i)
                });
                scale * values[i] + minimum
            };
            (0..N).map(weight).collect()
        };
        let shape = |values| Shape { values, scale, minimum, reference: None };
        let even = |number: Number| {
            let (numbers, codes) = quantize::quantize(&shape(Values::Even(number)), weights, importance);
            finish(numbers, codes.map(|code| number.value(code.into())))
        };
        match self.value.value {
            Value::Linear { max, zero } => even(Number::Integer { first: -zero, step: 1, max }),
            Value::Signed => even(Number::I8),
            Value::Table(entries) if signs == Signs::Own => {
                let values = Values::Table(Table::new(entries));
                let (numbers, codes) = quantize::quantize(&shape(values), weights, importance);
                finish(numbers, codes.map(|code| entries[usize::from(code)].into()))
            }
            Value::Table(entries) => {
                let rows: Vec<[i8; 1]> = entries.iter().map(|&entry| [entry]).collect();
                let (numbers, values) =
                    octets::<1, N, O, S, M>(&rows, signs, scale, minimum, weights, importance);
                finish(numbers, values)
            }
            Value::Codebook(4) => {
                let (numbers, values) =
                    octets::<4, N, O, S, M>(&book(signs), signs, scale, minimum, weights, importance);
                finish(numbers, values)
            }
            Value::Codebook(_) => {
                let (numbers, values) =
                    octets::<8, N, O, S, M>(&book(signs), signs, scale, minimum, weights, importance);
                finish(numbers, values)
            }
        }
    }

    /// How many times the plain search's error the quantizer's is, at the most, over some weights, and over which: two
    /// blocks of Gaussian weights, and a block of another kind, which `turn` chooses.
    fn error(&self, turn: usize) -> (f64, &'static str) {
        let holds = self.holds();
        let mut worst = (0.0, "");
        let cases = cases(self.value.len);
        for (case, blocks) in [(0, 2), (1 + turn % (cases.len() - 1), 1)] {
            let Case { name, weights, importance } = &cases[case];
            let (mut error, mut least, mut power) = (0.0, 0.0, 0.0);
            for weights in weights.chunks(self.value.len).take(blocks) {
                let back = self.back(weights, importance.as_deref());
                for (i, (w, b)) in weights.iter().zip(&back).enumerate() {
                    let p = importance.as_ref().map_or(1.0, |importance| f64::from(importance[i]));
                    error += p * (f64::from(*w) - f64::from(*b)).powi(2);
                    power += p * f64::from(*w).powi(2);
                }
                least += holds.least_error(weights, importance.as_deref());
            }
            // Below the rounding of an f16 it is chance which numbers of it lead nearest.
            let least = least.sqrt().max(power.sqrt() / f64::from(1 << 11));
            // The least number of e8m0 is not 0, but nobody sees it beside a weight.
            let ratio = if error.sqrt() < NOTHING { 0.0 } else { error.sqrt() / least };
            if ratio > worst.0 {
                worst = (ratio, name);
            }
        }
        worst
    }
}

/// The numbers and values of weights by a search over rows.
fn octets<const D: usize, const N: usize, const O: usize, const S: usize, const M: usize>(
    rows: &[[i8; D]],
    signs: Signs,
    scale: Product,
    minimum: Option<Product>,
    weights: &[f32; N],
    importance: Option<&[f32; N]>,
) -> (Numbers<S, M>, [f32; N]) {
    let grid = Grid::new(rows, signs);
    let (numbers, octets): (_, [Octet; O]) =
        quantize::quantize_octets(&grid, scale, minimum, weights, importance);
    let values = std::array::from_fn(|i| {
        let octet = octets[i / 8];
        let value = f32::from(rows[usize::from(octet.rows[i % 8 / D])][i % D]);
        if octet.signs >> (i % 8) & 1 == 1 { -value } else { value }
    });
    (numbers, values)
}

/// Weights of two blocks, or of one, with the importance of a block's.
struct Case {
    name: &'static str,
    weights: Vec<f32>,
    importance: Option<Vec<f32>>,
}

/// Weights of blocks of `len`: Gaussian ones first, then other kinds.
fn cases(len: usize) -> Vec<Case> {
    let mut noise = Noise(5);
    let mut gaussian = |sigma: f32| -> Vec<f32> { (0..2 * len).map(|_| sigma * noise.gaussian()).collect() };
    let mut outlier = gaussian(0.03);
    outlier[len / 3] = 1.0;
    let importance: Vec<f32> = gaussian(1.0)[..len].iter().map(|w| w * w).collect();
    let plain = [
        ("σ = 0.03", gaussian(0.03)),
        ("σ = 1e-7", gaussian(1e-7)),
        ("σ = 1e-5", gaussian(1e-5)),
        ("σ = 1e3", gaussian(1e3)),
        ("an outlier", outlier),
        ("all equal", vec![-0.37; len]),
        ("of one sign", gaussian(0.03).iter().map(|w| w.abs()).collect()),
        ("ternary", gaussian(1.0).iter().map(|w| (w * 1.2).round().clamp(-1.0, 1.0) * 0.05).collect()),
        ("zeros", vec![0.0; len]),
    ];
    let mut cases: Vec<Case> =
        plain.into_iter().map(|(name, weights)| Case { name, weights, importance: None }).collect();
    cases.push(Case { name: "with importance", weights: gaussian(0.03), importance: Some(importance) });
    cases
}

/// What a row has, as it stands in the table, and its error.
fn line(row: &Row, turn: usize) -> (String, Option<f64>) {
    let declaration = row.declaration();
    let facts = quantloom_codegen::facts(declaration.parse().expect("tokens"));
    let facts = facts.unwrap_or_else(|errors| panic!("{declaration}: {}", errors[0]));
    let missing = |operation: &str| {
        let found = facts[0].missing.iter().find(|(missing, _)| *missing == operation);
        found.map(|(_, reason)| format!("no: {reason}"))
    };
    let quantizer = missing("quantize");
    let error = quantizer.is_none().then(|| row.error(turn));
    let shown = match error {
        Some((error, _)) if error <= PROMISE => "≤ 1.02".to_owned(),
        Some((error, case)) => format!("{error:.2}, {case}"),
        None => "no quantizer".to_owned(),
    };
    let text = format!(
        "| {} | {} | {} | {shown} |",
        row.name(),
        quantizer.unwrap_or("yes".into()),
        missing("gemm").unwrap_or("yes".into()),
    );
    (text, error.map(|(error, _)| error))
}

/// Beside such a weight a search meets numbers close to 0 that its steps no longer change.
#[test]
fn one_large_weight_among_zeros_ends() {
    for row in rows().iter().filter(|row| !matches!(row.value.value, Value::Codebook(_))) {
        for large in [1e5, -1e30] {
            let mut weights = vec![0.0; row.value.len];
            weights[7] = large;
            let back = row.back(&weights, None);
            let error: f64 = weights.iter().zip(&back).map(|(w, b)| f64::from(w - b).powi(2)).sum();
            let name = row.name();
            assert!(error <= 1.001 * f64::from(large).powi(2), "{name}: {large} became {}", back[7]);
        }
    }
}

#[test]
fn every_shape_has_what_the_page_says() {
    let rows = rows();
    let next = AtomicUsize::new(0);
    let lines = Mutex::new(vec![(String::new(), None); rows.len()]);
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(row) = rows.get(i) else { return };
            let line = line(row, i);
            lines.lock().expect("no thread has panicked")[i] = line;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let lines = lines.into_inner().expect("no thread has panicked");
    let mut page = String::from(PAGE);
    for (line, _) in &lines {
        let _ = writeln!(page, "{line}");
    }
    page += "\nAbove 1.02, where ± is a minimum, added or subtracted:\n\n";
    for (kind, most, why) in EXCEPTIONS {
        let _ =
            writeln!(page, "- {}, up to {most}: {why}", kind.trim_matches([' ', '|', '·']).replace('|', "/"));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/shapes.md");
    if std::env::var_os("UPDATE_SHAPES").is_some() {
        std::fs::write(path, &page).expect("the page can be written");
    }
    let reviewed = std::fs::read_to_string(path).unwrap_or_default();
    print!("{page}");
    let mut failures = Vec::new();
    for (line, error) in lines.iter().filter_map(|(line, error)| Some((line, (*error)?))) {
        let allowed = EXCEPTIONS
            .iter()
            .filter(|(kind, ..)| ["+", "-"].iter().any(|sign| line.contains(&kind.replace('±', sign))))
            .map(|(_, most, _)| *most)
            .fold(PROMISE, f64::max);
        if error > allowed {
            failures.push(format!(
                "{line}: {error:.3} times the error of the plain search, at most {allowed} is allowed"
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    for (i, (line, reviewed)) in page.lines().zip(reviewed.lines()).enumerate() {
        assert_eq!(line, reviewed, "line {} of tests/data/shapes.md: UPDATE_SHAPES=1 writes it anew", i + 1);
    }
    assert_eq!(
        page.lines().count(),
        reviewed.lines().count(),
        "tests/data/shapes.md: UPDATE_SHAPES=1 writes it anew"
    );
}

const PAGE: &str = "\
# What each kind of shape has

Kinds of values under kinds of scales and minima: whether they have a quantizer and a `gemm`, and the quantizer's error as a
multiple of a plain search's: the larger of that for Gaussian weights of σ = 0.03 and that for weights of another kind, which
differs from row to row (σ = 1e-7, 1e-5 or 1e3, an outlier, all equal, of one sign, ternary, zeros, with importance). Where it is
above 1.02, the weights are named. Whatever is declared can be proved: `prove` takes a layout by hand. Written by `tests/shapes.rs`.

| values | scale | minimum | quantizer | `gemm` | error |
|---|---|---|---|---|---|
";
