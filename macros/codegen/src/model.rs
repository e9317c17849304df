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
    /// `field[byte] >> shift & (2^bits - 1) << position`; a shift by 8 or more goes on into the bytes that follow.
    Bits { shift: Affine, bits: usize, position: usize },
    /// `trit(field[byte], power)`: a digit of the base 3. A byte is a fraction of 256; five digits of it, the most
    /// significant first, are weights.
    Trit { power: Affine },
}

/// Where an element of a plane lies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Within the field.
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

/// Scale factors: any number of block-wide ones and at most one vector of group scales.
pub struct Product {
    /// A power of two.
    pub constant: f32,
    /// Indices of single fields of a number format.
    pub block: Vec<usize>,
    pub group: Option<GroupScale>,
}

/// One scale code per group of consecutive weights.
pub struct GroupScale {
    pub code: usize,
    pub value: ScaleValue,
    /// Weights per group.
    pub size: usize,
}

/// What a scale's code stands for.
pub enum ScaleValue {
    /// factor · code - zero
    Linear { factor: i32, zero: i32 },
    /// The entry of a table.
    Table { entries: Vec<i8> },
    /// A number of 8 bits.
    Number(FieldType),
}

pub struct Minimum {
    pub subtract: bool,
    pub product: Product,
}

impl FieldType {
    pub const ALL: [Self; 6] = [Self::F16, Self::F32, Self::E8M0, Self::Ue4m3, Self::U8, Self::I8];

    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::E8M0 | Self::Ue4m3 | Self::U8 | Self::I8 => 1,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
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

    /// The value for some digits; `None` below 0.
    fn at(&self, digits: &[usize]) -> Option<usize> {
        let products = self.strides.iter().zip(digits).map(|(stride, &digit)| stride * digit as i64);
        usize::try_from(self.constant + products.sum::<i64>()).ok()
    }
}

impl Default for Product {
    fn default() -> Self {
        Self { constant: 1.0, block: Vec::new(), group: None }
    }
}

impl Term {
    /// Where its part of an element lies; `None` before the field.
    fn at(&self, digits: &[usize]) -> Option<Place> {
        let byte = self.byte.at(digits)?;
        Some(match &self.cut {
            Cut::Bits { shift, .. } => {
                let shift = shift.at(digits)?;
                Place { byte: byte + shift / 8, within: shift % 8 }
            }
            Cut::Trit { power } => Place { byte, within: power.at(digits)? },
        })
    }

    /// Whether the part that lies there goes on into the next byte.
    pub fn straddles(&self, place: Place) -> bool {
        matches!(self.cut, Cut::Bits { bits, .. } if place.within + bits > 8)
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
            Cut::Trit { .. } => 2,
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

    /// Whether they are digits of the base 3.
    pub fn has_trits(&self) -> bool {
        let terms = self.pieces.iter().flat_map(|piece| &piece.terms);
        terms.into_iter().any(|term| matches!(term.cut, Cut::Trit { .. }))
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
