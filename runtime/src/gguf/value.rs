//! Metadata values: one table of types, from which reading, writing and naming follow.

use std::fmt::{self, Display};
use std::io::{self, Write};

use super::error::{Kind, Result, one_line_of_bytes};
use super::read::{Cursor, Part, memory};
use super::strings::{Buffers, ByteString, Strings};
use crate::alloc::fallible;

/// GGUF's number for the one value type that is not in the table below: an array.
const ARRAY_ID: u32 = 9;

/// The most elements of an array; the longest in use, a vocabulary's tokens and merges, have under a million.
const MAX_ELEMENTS: usize = 1 << 27;

/// What can stand alone as a value.
trait Element: Sized {
    fn read(cursor: &mut Cursor<'_>, part: Part<'_>) -> Result<Self, Kind>;
    fn write(&self, out: &mut impl Write) -> io::Result<()>;
}

/// The elements of an array. In memory they take no more than in the file.
trait Elements: Sized {
    fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self, Kind>;
    fn write(&self, out: &mut impl Write) -> io::Result<()>;
}

macro_rules! value_types {
    ($($variant:ident($ty:ty, $elements:ty) = $id:literal $name:literal;)*) => {
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
            $(#[doc = concat!("Elements of GGUF's value type ", $id, ": ", $name, ".")] $variant($elements),)*
        }

        $(impl From<$ty> for Value {
            fn from(value: $ty) -> Self {
                Self::$variant(value)
            }
        }

        impl From<$elements> for Value {
            fn from(values: $elements) -> Self {
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
                    $($id => Ok(Self::$variant(Elements::read(cursor, key)?)),)*
                    ARRAY_ID => Err(Kind::NestedArray { part: part.to_string() }),
                    id => Err(Kind::ValueType { part: part.to_string(), id }),
                }
            }

            fn write(&self, out: &mut impl Write) -> io::Result<()> {
                match self {
                    $(Self::$variant(values) => {
                        write_u32(out, $id)?;
                        write_u64(out, values.len() as u64)?;
                        Elements::write(values, out)
                    })*
                }
            }
        }
    };
}

value_types! {
    U8(u8, Vec<u8>) = 0 "u8";
    I8(i8, Vec<i8>) = 1 "i8";
    U16(u16, Vec<u16>) = 2 "u16";
    I16(i16, Vec<i16>) = 3 "i16";
    U32(u32, Vec<u32>) = 4 "u32";
    I32(i32, Vec<i32>) = 5 "i32";
    F32(f32, Vec<f32>) = 6 "f32";
    Bool(bool, Vec<bool>) = 7 "bool";
    String(ByteString, Strings) = 8 "string";
    U64(u64, Vec<u64>) = 10 "u64";
    I64(i64, Vec<i64>) = 11 "i64";
    F64(f64, Vec<f64>) = 12 "f64";
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::String(value.into())
    }
}

impl From<Vec<String>> for Value {
    fn from(values: Vec<String>) -> Self {
        Self::Array(Array::String(values.into_iter().collect()))
    }
}

impl Value {
    /// The value of any of the eight integer types.
    pub(crate) fn integer(&self) -> Option<i128> {
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

    /// The element at `index`, where elements are of any of the eight integer types.
    pub(crate) fn integer(&self, index: usize) -> Option<i128> {
        match self {
            Self::U8(values) => values.get(index).map(|&v| v.into()),
            Self::I8(values) => values.get(index).map(|&v| v.into()),
            Self::U16(values) => values.get(index).map(|&v| v.into()),
            Self::I16(values) => values.get(index).map(|&v| v.into()),
            Self::U32(values) => values.get(index).map(|&v| v.into()),
            Self::I32(values) => values.get(index).map(|&v| v.into()),
            Self::U64(values) => values.get(index).map(|&v| v.into()),
            Self::I64(values) => values.get(index).map(|&v| v.into()),
            Self::F32(_) | Self::F64(_) | Self::Bool(_) | Self::String(_) => None,
        }
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
            Self::String(v) => write!(f, "\"{}\"", one_line_of_bytes(v.as_bytes(), MAX_CHARS)),
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

impl Element for ByteString {
    fn read(cursor: &mut Cursor<'_>, part: Part<'_>) -> Result<Self, Kind> {
        cursor.string(part).map(Self::from)
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        write_string(out, self.as_bytes())
    }
}

/// A number, or a boolean, takes as many bytes in a file as in memory.
impl<T: Element> Elements for Vec<T> {
    fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self, Kind> {
        let part = Part::Value(key);
        let n = cursor.count(size_of::<T>(), MAX_ELEMENTS, part, "elements")?;
        let mut values = Self::new();
        fallible(|| values.try_reserve_exact(n)).map_err(|_| memory(part, n * size_of::<T>()))?;
        for index in 0..n {
            values.push(T::read(cursor, Part::Element(key, index))?);
        }
        Ok(values)
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.iter().try_for_each(|value| value.write(out))
    }
}

impl Elements for Strings {
    fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self, Kind> {
        let part = Part::Value(key);
        let n = cursor.count(size_of::<u64>(), MAX_ELEMENTS, part, "elements")?;
        // Twice, first for the length: buffers that grow would take up to three times as much on the way.
        let mut lengths = *cursor;
        let mut total = 0_usize;
        for index in 0..n {
            total = total.saturating_add(lengths.skip_string(Part::Element(key, index))?);
        }
        let limit = |total| Kind::limit(part, total as u64, "bytes of strings", Self::MAX_BYTES);
        if total > Self::MAX_BYTES {
            return Err(limit(total));
        }
        let mut buffers = Buffers::default();
        fallible(|| buffers.try_reserve(total, n)).map_err(|_| memory(part, total + n * size_of::<u32>()))?;
        let mut left = total;
        for index in 0..n {
            let string = cursor.str_bytes(Part::Element(key, index))?;
            // The mapped bytes may have changed since they were counted.
            left = left.checked_sub(string.len()).ok_or_else(|| limit(total))?;
            buffers.push_with(|bytes| bytes.extend_from_slice(string));
        }
        Ok(buffers.finish())
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.iter().try_for_each(|string| write_string(out, string))
    }
}

pub(super) fn write_u32(out: &mut impl Write, value: u32) -> io::Result<()> {
    out.write_all(&value.to_le_bytes())
}

pub(super) fn write_u64(out: &mut impl Write, value: u64) -> io::Result<()> {
    out.write_all(&value.to_le_bytes())
}

pub(super) fn write_string(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    write_u64(out, bytes.len() as u64)?;
    out.write_all(bytes)
}
