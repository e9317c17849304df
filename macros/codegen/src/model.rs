//! Formats as plain data, and the facts that follow from it. No tokens and no spans: whatever is here
//! has been checked.

/// One block format.
pub struct Format {
    pub name: String,
    /// Weights per block; a multiple of [`CHUNK`].
    pub len: usize,
    pub gguf: Option<u32>,
    pub fields: Vec<Field>,
    pub codes: Vec<Codes>,
    pub weight: Weight,
    /// The quantizer that the declaration asks for, where no importance weighs the weights.
    pub reference: Option<Reference>,
}

/// The quantizers of `quantloom_kernels::quantize::Reference`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    Furthest { zero: u8, max: u8 },
    Symmetric { limit: u8, zero: u8 },
    Range { max: u8 },
    Mean { negative: u8 },
    Exponent,
    Largest,
}

/// Activations are quantized in blocks of this many, and kernels take this many weights at a time.
pub const CHUNK: usize = 32;

/// A field of the block, in file order.
pub struct Field {
    pub name: String,
    pub ty: FieldType,
    /// Array length; `None` for a single value.
    pub count: Option<usize>,
    /// Byte offset in the block.
    pub offset: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldType {
    F16,
    /// The upper half of an f32.
    BF16,
    F32,
    /// 8 bits of exponent: a power of two.
    E8M0,
    /// 4 bits of exponent, 3 of fraction, and a sign that doesn't count.
    Ue4m3,
    U8,
    I8,
}

/// A vector of small integers and where they lie.
pub struct Codes {
    pub name: String,
    /// One after the other, each with its own walk.
    pub pieces: Vec<Piece>,
    /// Two's complement bytes rather than unsigned codes; then there is one term of 8 bits.
    pub signed: bool,
}

/// Codes that one walk reaches.
pub struct Piece {
    /// Slowest first.
    pub digits: Vec<Digit>,
    /// The planes, joined by OR.
    pub terms: Vec<Term>,
}

pub struct Digit {
    pub name: String,
    pub radix: usize,
}

/// One plane.
pub struct Term {
    pub field: usize,
    pub byte: Affine,
    pub cut: Cut,
}

/// What of a byte belongs to a code.
pub enum Cut {
    /// `field[byte] >> shift & (2^bits - 1) << position`, the field being one number: little-endian, so that a shift by 8 or
    /// more goes on into the bytes that follow; or big-endian, where `highest_first`, and those are below bit 0 of the byte,
    /// at a shift below 0.
    Bits { shift: Affine, bits: usize, position: usize, highest_first: bool },
    /// `digit(field[byte], base, power)`: a digit of a base that is no power of two, 0 the lowest.
    ///
    /// Or `trit(field[byte], power)`, where `is_fraction`: a byte is a fraction of 256; five digits of it, the most
    /// significant first, are weights.
    Digit { base: usize, power: Affine, is_fraction: bool },
}

/// How many digits of `base` a byte holds.
pub fn digits_of_byte(base: usize) -> usize {
    (u8::MAX as usize + 1).ilog(base) as usize
}

/// Where an element of a plane lies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Within the field: of bits in several bytes the one that has the lowest.
    pub byte: usize,
    /// Within the byte: a shift, or which of the digits.
    pub within: usize,
}

/// A constant plus a sum of digits times strides.
#[derive(Clone, Default)]
pub struct Affine {
    pub constant: i64,
    /// One stride per digit of the code vector.
    pub strides: Vec<i64>,
}

/// `w = Π scale · ± value(code) ± Π minimum`
pub struct Weight {
    pub scale: Product,
    /// One code per weight, or per entry of a codebook.
    pub code: usize,
    pub value: Value,
    pub signs: Option<Signs>,
    pub minimum: Option<Minimum>,
}

/// What a code stands for.
pub enum Value {
    /// The code minus a zero point; 0 for signed codes.
    Linear { zero: i32 },
    /// The entry of a table: of the one that there is, or of the chosen one of several, which follow each other in `entries`.
    Table { entries: Vec<i8>, choice: Option<Choice> },
    /// The entry of a codebook: several weights.
    Codebook { name: String, weights: usize },
}

/// Which of several tables: one code per group of consecutive weights. Its bits go above those of the weights' codes.
pub struct Choice {
    pub code: usize,
    /// Weights per group.
    pub size: usize,
}

/// One code for each [`SIGNS`] weights, a bit for each: where it is set, the weight is negated.
pub struct Signs {
    pub code: usize,
    /// The last bit is not stored: it makes the number of set bits even.
    pub even: bool,
}

/// Weights whose signs are in one code.
pub const SIGNS: usize = 8;

/// Scale factors: any number of block-wide ones, and any number of vectors of group scales, whose groups may differ in size.
#[derive(Clone)]
pub struct Product {
    /// A power of two.
    pub constant: f32,
    /// Indices of single fields of a number format.
    pub block: Vec<usize>,
    pub groups: Vec<GroupScale>,
}

/// One scale per group of consecutive weights. A single byte is that of a group as large as the block.
#[derive(Clone)]
pub struct GroupScale {
    pub source: Source,
    pub value: ScaleValue,
    /// A number of the block that is added to the value.
    pub offset: Option<Offset>,
    /// Weights per group.
    pub size: usize,
}

/// Where the scales of groups are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// In codes of up to 8 bits.
    Codes(usize),
    /// In a field that is an array of numbers wider than a byte.
    Numbers(usize),
}

/// A number of the block that is added to the scales of groups, or subtracted.
#[derive(Clone, Copy)]
pub struct Offset {
    pub subtract: bool,
    /// The index of a single field of a number format.
    pub field: usize,
}

/// What a scale's code stands for.
#[derive(Clone)]
pub enum ScaleValue {
    /// factor · code - zero
    Linear { factor: i32, zero: i32 },
    /// The entry of a table.
    Table { entries: Vec<i8> },
    /// A number.
    Number(FieldType),
}

pub struct Minimum {
    pub subtract: bool,
    pub product: Product,
    /// What is taken off codes, or added to them, before they are multiplied by the scale, if that is where the minimum comes
    /// from: `product` is then the scale times this.
    pub zero: Option<Product>,
}

impl FieldType {
    pub const ALL: [Self; 7] =
        [Self::F16, Self::BF16, Self::F32, Self::E8M0, Self::Ue4m3, Self::U8, Self::I8];

    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::E8M0 | Self::Ue4m3 | Self::U8 | Self::I8 => 1,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F32 => "f32",
            Self::E8M0 => "e8m0",
            Self::Ue4m3 => "ue4m3",
            Self::U8 => "u8",
            Self::I8 => "i8",
        }
    }

    /// Whether one value of it is a scale by itself.
    pub fn is_number(self) -> bool {
        !matches!(self, Self::U8 | Self::I8)
    }
}

impl Field {
    /// Whether it is an array of numbers wider than a byte, which are no codes.
    pub fn is_wide(&self) -> bool {
        self.count.is_some() && self.ty.bytes() > 1
    }

    pub fn bytes(&self) -> usize {
        self.ty.bytes() * self.count.unwrap_or(1)
    }
}

impl Affine {
    pub fn constant(constant: i64, digits: usize) -> Self {
        Self { constant, strides: vec![0; digits] }
    }

    /// `self + other`
    pub fn plus(&self, other: &Self) -> Self {
        let strides = self.strides.iter().zip(&other.strides).map(|(a, b)| a + b).collect();
        Self { constant: self.constant + other.constant, strides }
    }

    /// `factor · self`
    pub fn times(&self, factor: i64) -> Self {
        let strides = self.strides.iter().map(|stride| factor * stride).collect();
        Self { constant: factor * self.constant, strides }
    }

    /// The value for some digits.
    fn at(&self, digits: &[usize]) -> i64 {
        let products = self.strides.iter().zip(digits).map(|(stride, &digit)| stride * digit as i64);
        self.constant + products.sum::<i64>()
    }
}

impl Default for Product {
    fn default() -> Self {
        Self { constant: 1.0, block: Vec::new(), groups: Vec::new() }
    }
}

impl Product {
    /// `self · other`
    pub fn times(&self, other: &Self) -> Self {
        Self {
            constant: self.constant * other.constant,
            block: [&self.block[..], &other.block].concat(),
            groups: [&self.groups[..], &other.groups].concat(),
        }
    }
}

impl GroupScale {
    /// The code vector of the scales, where these are codes.
    pub fn code(&self) -> Option<usize> {
        match self.source {
            Source::Codes(code) => Some(code),
            Source::Numbers(_) => None,
        }
    }
}

impl Term {
    /// Where its part of an element lies; `None` before the field.
    fn at(&self, digits: &[usize]) -> Option<Place> {
        let byte = usize::try_from(self.byte.at(digits)).ok()?;
        Some(match &self.cut {
            Cut::Bits { shift, highest_first: false, .. } => {
                let shift = usize::try_from(shift.at(digits)).ok()?;
                Place { byte: byte + shift / 8, within: shift % 8 }
            }
            Cut::Bits { bits, highest_first: true, .. } => {
                let last = usize::try_from(self.first_from_top(*bits).at(digits)).ok()? + bits - 1;
                Place { byte: last / 8, within: 7 - last % 8 }
            }
            Cut::Digit { power, .. } => Place { byte, within: usize::try_from(power.at(digits)).ok()? },
        })
    }

    /// Of bits that stand highest first the first, counted from the highest bit of the field.
    pub fn first_from_top(&self, bits: usize) -> Affine {
        let Cut::Bits { shift, .. } = &self.cut else { unreachable!("digits have no bits") };
        let from_top = self.byte.times(8).plus(&shift.times(-1));
        Affine { constant: from_top.constant + 8 - bits as i64, ..from_top }
    }

    /// Whether the part that lies there goes on into another byte.
    pub fn straddles(&self, place: Place) -> bool {
        matches!(self.cut, Cut::Bits { bits, .. } if place.within + bits > 8)
    }

    /// The bytes that have parts of what lies there, the first and the last.
    pub fn bytes(&self, Place { byte, within }: Place) -> [usize; 2] {
        match self.cut {
            Cut::Bits { bits, highest_first, .. } => {
                let others = (within + bits - 1) / 8;
                if highest_first { [byte - others, byte] } else { [byte, byte + others] }
            }
            Cut::Digit { .. } => [byte; 2],
        }
    }

    /// The bits of what lies there that are in each byte, the lowest first: the byte, the first of them in it, and how many.
    pub fn parts(&self, place: Place) -> Vec<(usize, usize, usize)> {
        let Cut::Bits { bits, highest_first, .. } = self.cut else { return Vec::new() };
        let Place { mut byte, mut within } = place;
        let (mut left, mut parts) = (bits, Vec::new());
        while left > 0 {
            let count = left.min(8 - within);
            parts.push((byte, within, count));
            left -= count;
            within = 0;
            byte = if highest_first { byte.wrapping_sub(1) } else { byte + 1 };
        }
        parts
    }

    /// The least and the largest shift of the elements of `piece`, of bits.
    pub fn shifts(&self, piece: &Piece) -> Option<[i64; 2]> {
        let Cut::Bits { shift, .. } = &self.cut else { return None };
        let reach = |larger: fn(i64) -> bool| {
            let strides = piece.digits.iter().zip(&shift.strides).filter(|(_, stride)| larger(**stride));
            shift.constant + strides.map(|(digit, stride)| stride * (digit.radix as i64 - 1)).sum::<i64>()
        };
        Some([reach(|stride| stride < 0), reach(|stride| stride > 0)])
    }
}

impl Piece {
    pub fn len(&self) -> usize {
        self.digits.iter().map(|digit| digit.radix).product()
    }

    /// Where `term` keeps its part of element `e`.
    pub fn locate(&self, term: &Term, e: usize) -> Place {
        self.try_locate(term, e).expect("the checker has seen to it that elements lie in their fields")
    }

    /// Where `term` keeps its part of element `e`; `None` before its field.
    pub fn try_locate(&self, term: &Term, e: usize) -> Option<Place> {
        let mut rest = e;
        let mut digits: Vec<_> = self
            .digits
            .iter()
            .rev()
            .map(|digit| {
                let value = rest % digit.radix;
                rest /= digit.radix;
                value
            })
            .collect();
        digits.reverse();
        term.at(&digits)
    }

    /// The largest code, were it unsigned.
    pub fn max(&self) -> usize {
        let bits = |term: &Term| match term.cut {
            Cut::Bits { bits, position, .. } => (1 << (position + bits)) - 1,
            Cut::Digit { base, .. } => base - 1,
        };
        self.terms.iter().map(bits).max().unwrap_or(0)
    }
}

impl Codes {
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Piece::len).sum()
    }

    /// The largest code, were it unsigned.
    pub fn max(&self) -> usize {
        self.pieces.iter().map(Piece::max).max().unwrap_or(0)
    }

    /// Bits per code.
    pub fn bits(&self) -> usize {
        (usize::BITS - self.max().leading_zeros()) as usize
    }

    /// The piece that holds element `e`, and the element's number in it.
    pub fn piece_of(&self, e: usize) -> (&Piece, usize) {
        let mut first = 0;
        for piece in &self.pieces {
            if e < first + piece.len() {
                return (piece, e - first);
            }
            first += piece.len();
        }
        unreachable!("element {e} of {first}")
    }

    /// Whether they are digits of another base than 2.
    pub fn has_digits(&self) -> bool {
        let terms = self.pieces.iter().flat_map(|piece| &piece.terms);
        terms.into_iter().any(|term| matches!(term.cut, Cut::Digit { .. }))
    }

    /// Whether each code lies within one byte, and has no more than its bits.
    pub fn is_bytes(&self) -> bool {
        let whole = |piece: &Piece| {
            let inside = |term: &Term| (0..piece.len()).all(|e| !term.straddles(piece.locate(term, e)));
            piece.terms.iter().all(inside)
        };
        self.max() < 256 && self.pieces.iter().all(whole)
    }
}

impl Weight {
    /// Which of several tables a code is looked up in, where there are several.
    pub fn choice(&self) -> Option<&Choice> {
        match &self.value {
            Value::Table { choice, .. } => choice.as_ref(),
            Value::Linear { .. } | Value::Codebook { .. } => None,
        }
    }
}

impl Format {
    /// Bytes per block.
    pub fn bytes(&self) -> usize {
        self.fields.iter().map(Field::bytes).sum()
    }

    /// The codes of the weights, or of the entries of a codebook.
    pub fn weight_codes(&self) -> &Codes {
        &self.codes[self.weight.code]
    }

    /// Chunks of [`CHUNK`] weights per block.
    pub fn chunks(&self) -> usize {
        self.len / CHUNK
    }

    /// Name in the grammar `format_operation_isa`: `q4_0`.
    pub fn snake_name(&self) -> String {
        self.name.to_lowercase()
    }
}
