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
    U8,
    I8,
}

/// A vector of small integers and where its bits lie.
pub struct Codes {
    pub name: String,
    /// Slowest first.
    pub digits: Vec<Digit>,
    /// The planes, joined by OR.
    pub terms: Vec<Term>,
    /// Two's complement bytes rather than unsigned codes; then there is one term of 8 bits.
    pub signed: bool,
}

pub struct Digit {
    pub name: String,
    pub radix: usize,
}

/// One plane: `field[byte] >> shift & (2^bits - 1) << position`.
pub struct Term {
    pub field: usize,
    pub byte: Affine,
    pub shift: Affine,
    pub bits: usize,
    pub position: usize,
}

/// A constant plus a sum of digits times strides.
#[derive(Clone, Default)]
pub struct Affine {
    pub constant: usize,
    /// One stride per digit of the code vector.
    pub strides: Vec<usize>,
}

/// `w = Π scale · value(code) ± Π minimum`
pub struct Weight {
    pub scale: Product,
    pub code: usize,
    pub value: Value,
    pub minimum: Option<Minimum>,
}

/// What a code stands for.
pub enum Value {
    /// The code minus a zero point; 0 for signed codes.
    Linear { zero: i32 },
    /// The entry of a table.
    Table { entries: Vec<i8> },
}

/// Scale factors: any number of block-wide ones and at most one vector of group scales.
#[derive(Default)]
pub struct Product {
    /// Indices of single `f16` fields.
    pub block: Vec<usize>,
    pub group: Option<GroupScale>,
}

/// One scale code per group of consecutive weights.
pub struct GroupScale {
    pub code: usize,
    pub zero: i32,
    /// Weights per group.
    pub size: usize,
}

pub struct Minimum {
    pub subtract: bool,
    pub product: Product,
}

impl FieldType {
    pub fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::U8 | Self::I8 => 1,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::U8 => "u8",
            Self::I8 => "i8",
        }
    }
}

impl Field {
    pub fn bytes(&self) -> usize {
        self.ty.bytes() * self.count.unwrap_or(1)
    }
}

impl Affine {
    pub fn constant(constant: usize, digits: usize) -> Self {
        Self { constant, strides: vec![0; digits] }
    }

    fn at(&self, digits: &[usize]) -> usize {
        self.constant + self.strides.iter().zip(digits).map(|(stride, digit)| stride * digit).sum::<usize>()
    }
}

impl Codes {
    pub fn len(&self) -> usize {
        self.digits.iter().map(|digit| digit.radix).product()
    }

    /// Bits per code.
    pub fn bits(&self) -> usize {
        self.terms.iter().map(|term| term.position + term.bits).max().unwrap_or(0)
    }

    /// The largest code, were it unsigned.
    pub fn max(&self) -> usize {
        (1 << self.bits()) - 1
    }

    /// The digits of element `e`, slowest first.
    fn digits_of(&self, e: usize) -> Vec<usize> {
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
        digits
    }

    /// Where `term` keeps its bits of element `e`: byte within the field, and shift.
    pub fn locate(&self, term: &Term, e: usize) -> (usize, usize) {
        let digits = self.digits_of(e);
        (term.byte.at(&digits), term.shift.at(&digits))
    }
}

impl Format {
    /// Bytes per block.
    pub fn bytes(&self) -> usize {
        self.fields.iter().map(Field::bytes).sum()
    }

    /// The codes of the weights.
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
