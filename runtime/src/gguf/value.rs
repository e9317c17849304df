//! Metadata values: one table of types, from which reading, writing and naming follow.

use std::fmt::{self, Display};
use std::io::{self, Write};

use super::error::{Kind, Result, one_line};
use super::read::{Cursor, Part, reserved};

/// GGUF's number for the one value type that is not in the table below: an array.
const ARRAY_ID: u32 = 9;

/// The most elements of an array; the longest in use, a vocabulary's tokens and merges, have under a million.
const MAX_ELEMENTS: usize = 1 << 27;

/// What can stand alone as a value or be the element of an array.
trait Element: Sized {
    /// The fewest bytes that one takes in a file.
    const MIN_BYTES: usize;

    fn read(cursor: &mut Cursor<'_>, part: Part<'_>) -> Result<Self, Kind>;
    fn write(&self, out: &mut impl Write) -> io::Result<()>;
}

macro_rules! value_types {
    ($($variant:ident($ty:ty) = $id:literal $name:literal;)*) => {
        /// The value of a metadata key.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Value {
            $(#[doc = concat!("GGUF's value type ", $id, ": ", $name, ".")] $variant($ty),)*
            /// GGUF's value type 9: array.
            Array(Array),
        }

        /// The value of a metadata key that is an array. Arrays of arrays are refused when a file is read.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Array {
            $(#[doc = concat!("Elements of GGUF's value type ", $id, ": ", $name, ".")] $variant(Vec<$ty>),)*
        }

        $(impl From<$ty> for Value {
            fn from(value: $ty) -> Self {
                Self::$variant(value)
            }
        }

        impl From<Vec<$ty>> for Value {
            fn from(values: Vec<$ty>) -> Self {
                Self::Array(Array::$variant(values))
            }
        })*

        impl Value {
            /// The name of the type: `u32`, `string`, `array`.
            pub fn type_name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                    Self::Array(_) => "array",
                }
            }

            /// Reads a value type and a value.
            pub(super) fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self, Kind> {
                let part = Part::Value(key);
                match cursor.u32(part)? {
                    $($id => Ok(Self::$variant(Element::read(cursor, part)?)),)*
                    ARRAY_ID => Ok(Self::Array(Array::read(cursor, key)?)),
                    id => Err(Kind::ValueType { part: part.to_string(), id }),
                }
            }

            /// Writes the value type and the value.
            pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
                match self {
                    $(Self::$variant(value) => {
                        write_u32(out, $id)?;
                        value.write(out)
                    })*
                    Self::Array(array) => {
                        write_u32(out, ARRAY_ID)?;
                        array.write(out)
                    }
                }
            }
        }

        impl Array {
            /// The number of elements.
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$variant(values) => values.len(),)*
                }
            }

            /// The name of the elements' type: `u32`, `string`.
            pub fn element_name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                }
            }

            fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self, Kind> {
                let part = Part::Value(key);
                match cursor.u32(part)? {
                    $($id => Ok(Self::$variant(read_elements(cursor, key)?)),)*
                    ARRAY_ID => Err(Kind::NestedArray { part: part.to_string() }),
                    id => Err(Kind::ValueType { part: part.to_string(), id }),
                }
            }

            fn write(&self, out: &mut impl Write) -> io::Result<()> {
                match self {
                    $(Self::$variant(values) => {
                        write_u32(out, $id)?;
                        write_u64(out, values.len() as u64)?;
                        values.iter().try_for_each(|value| value.write(out))
                    })*
                }
            }
        }
    };
}

value_types! {
    U8(u8) = 0 "u8";
    I8(i8) = 1 "i8";
    U16(u16) = 2 "u16";
    I16(i16) = 3 "i16";
    U32(u32) = 4 "u32";
    I32(i32) = 5 "i32";
    F32(f32) = 6 "f32";
    Bool(bool) = 7 "bool";
    String(String) = 8 "string";
    U64(u64) = 10 "u64";
    I64(i64) = 11 "i64";
    F64(f64) = 12 "f64";
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl Value {
    /// The value of any of the eight integer types.
    pub(super) fn integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(v) => v.into(),
            Self::I8(v) => v.into(),
            Self::U16(v) => v.into(),
            Self::I16(v) => v.into(),
            Self::U32(v) => v.into(),
            Self::I32(v) => v.into(),
            Self::U64(v) => v.into(),
            Self::I64(v) => v.into(),
            _ => return None,
        })
    }
}

impl Array {
    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One line, long values cut short: `4096`, `"llama"`, `[32000 × string]`.
impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX_CHARS: usize = 80;
        match self {
            Self::U8(v) => v.fmt(f),
            Self::I8(v) => v.fmt(f),
            Self::U16(v) => v.fmt(f),
            Self::I16(v) => v.fmt(f),
            Self::U32(v) => v.fmt(f),
            Self::I32(v) => v.fmt(f),
            Self::F32(v) => v.fmt(f),
            Self::Bool(v) => v.fmt(f),
            Self::String(v) => write!(f, "\"{}\"", one_line(v, MAX_CHARS)),
            Self::Array(v) => write!(f, "[{} × {}]", v.len(), v.element_name()),
            Self::U64(v) => v.fmt(f),
            Self::I64(v) => v.fmt(f),
            Self::F64(v) => v.fmt(f),
        }
    }
}

macro_rules! numbers {
    ($($ty:ty)*) => {
        $(impl Element for $ty {
            const MIN_BYTES: usize = size_of::<$ty>();

            fn read(cursor: &mut Cursor<'_>, part: Part<'_>) -> Result<Self, Kind> {
                Ok(<$ty>::from_le_bytes(cursor.bytes(part)?))
            }

            fn write(&self, out: &mut impl Write) -> io::Result<()> {
                out.write_all(&self.to_le_bytes())
            }
        })*
    };
}

numbers! { u8 i8 u16 i16 u32 i32 f32 u64 i64 f64 }

impl Element for bool {
    const MIN_BYTES: usize = 1;

    fn read(cursor: &mut Cursor<'_>, part: Part<'_>) -> Result<Self, Kind> {
        match u8::read(cursor, part)? {
            0 => Ok(false),
            1 => Ok(true),
            byte => Err(Kind::Bool { part: part.to_string(), byte }),
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&[u8::from(*self)])
    }
}

impl Element for String {
    const MIN_BYTES: usize = size_of::<u64>();

    fn read(cursor: &mut Cursor<'_>, part: Part<'_>) -> Result<Self, Kind> {
        cursor.string(part)
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        write_string(out, self)
    }
}

fn read_elements<T: Element>(cursor: &mut Cursor<'_>, key: &str) -> Result<Vec<T>, Kind> {
    let n = cursor.count(T::MIN_BYTES, MAX_ELEMENTS, Part::Value(key), "elements")?;
    let mut values = reserved(n);
    for index in 0..n {
        values.push(T::read(cursor, Part::Element(key, index))?);
    }
    Ok(values)
}

pub(super) fn write_u32(out: &mut impl Write, value: u32) -> io::Result<()> {
    out.write_all(&value.to_le_bytes())
}

pub(super) fn write_u64(out: &mut impl Write, value: u64) -> io::Result<()> {
    out.write_all(&value.to_le_bytes())
}

pub(super) fn write_string(out: &mut impl Write, text: &str) -> io::Result<()> {
    write_u64(out, text.len() as u64)?;
    out.write_all(text.as_bytes())
}
