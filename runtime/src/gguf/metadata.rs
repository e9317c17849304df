//! The keys of a file and typed access to their values.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::Arc;

use super::error::{Error, Kind, Result};
use super::read::Part;
use super::strings::{ByteString, Strings};
use super::value::{Array, Value};

/// The keys of a file, in its order, and their values.
///
/// The getter named after a type returns `None` where the key is absent; with `require_` in front that is an
/// error. Either way a value of another type is an error that names file, key, value and expectation.
#[derive(Clone, Debug)]
pub struct Metadata {
    path: Arc<Path>,
    entries: Vec<(String, Value)>,
    by_key: HashMap<String, usize>,
}

impl Metadata {
    /// No keys yet; `path` is the file that errors name.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().into(), entries: Vec::new(), by_key: HashMap::new() }
    }

    /// The file that errors name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn shared_path(&self) -> &Arc<Path> {
        &self.path
    }

    /// Adds a key after the others.
    ///
    /// # Errors
    ///
    /// Where the key is there already.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) -> Result<()> {
        let key = key.into();
        match self.by_key.entry(key.clone()) {
            Entry::Occupied(_) => {
                Err(Error::new(&self.path, Kind::DuplicateKey { key: key.as_str().into() }))
            }
            Entry::Vacant(slot) => {
                slot.insert(self.entries.len());
                self.entries.push((key, value.into()));
                Ok(())
            }
        }
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`, whatever its type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.by_key.get(key).map(|&i| &self.entries[i].1)
    }

    fn optional<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        T::from_value(value).map(Some).ok_or_else(|| {
            let actual = format!("{value} ({})", value.type_name());
            Error::new(&self.path, Kind::WrongType { key: key.into(), actual, expected: T::EXPECTED })
        })
    }

    /// The value of `key`: a string that is UTF-8.
    ///
    /// # Errors
    ///
    /// Where the key has another value.
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        self.byte_string(key)?.map(|bytes| self.text(key, bytes)).transpose()
    }

    /// The value of `key`: a string that is UTF-8.
    ///
    /// # Errors
    ///
    /// Where the key is missing or has another value.
    pub fn require_str(&self, key: &str) -> Result<&str> {
        self.require_byte_string(key).and_then(|bytes| self.text(key, bytes))
    }

    fn text<'a>(&self, key: &str, bytes: &'a ByteString) -> Result<&'a str> {
        bytes
            .to_str()
            .ok_or_else(|| Error::new(&self.path, Kind::Utf8 { part: Part::Value(key).to_string() }))
    }

    /// The value of `key`: an integer from 0 to 4294967295, or an array with that integer for each of `layers` layers.
    ///
    /// # Errors
    ///
    /// Where the key has another value.
    pub fn u32_of_layers(&self, key: &str, layers: usize) -> Result<Option<u32>> {
        let Some(Value::Array(array)) = self.get(key) else { return self.u32(key) };
        let fail = |kind| Err(Error::new(&self.path, kind));
        let Some(first) = array.integer(0).and_then(|first| u32::try_from(first).ok()) else {
            let actual = format!("[{} × {}]", array.len(), array.element_name());
            let expected = "an integer from 0 to 4294967295, or one for each layer";
            return fail(Kind::WrongType { key: key.into(), actual, expected });
        };
        if array.len() != layers {
            return fail(Kind::LayerCount { key: key.into(), count: array.len(), layers });
        }
        match (1..layers).find(|&layer| array.integer(layer) != Some(first.into())) {
            None => Ok(Some(first)),
            Some(layer) => {
                let other = array.integer(layer).unwrap_or_default();
                fail(Kind::LayersDiffer { key: key.into(), first, layer, other })
            }
        }
    }

    fn required<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T> {
        self.optional(key)?.ok_or_else(|| Error::new(&self.path, Kind::MissingKey { key: key.into() }))
    }
}

/// What a value is read as; `None` where its type or size doesn't fit.
trait FromValue<'a>: Sized {
    const EXPECTED: &'static str;

    fn from_value(value: &'a Value) -> Option<Self>;
}

macro_rules! getters {
    ($($name:ident $require:ident $ty:ty, $expected:literal, $from:expr;)*) => {
        $(impl<'a> FromValue<'a> for $ty {
            const EXPECTED: &'static str = $expected;

            fn from_value(value: &'a Value) -> Option<Self> {
                let from: fn(&'a Value) -> Option<Self> = $from;
                from(value)
            }
        })*

        impl<'a> Metadata {
            $(#[doc = concat!("The value of `key`: ", $expected, ".")]
            ///
            /// # Errors
            ///
            /// Where the key has another value.
            pub fn $name(&'a self, key: &str) -> Result<Option<$ty>> {
                self.optional(key)
            }

            #[doc = concat!("The value of `key`: ", $expected, ".")]
            ///
            /// # Errors
            ///
            /// Where the key is missing or has another value.
            pub fn $require(&'a self, key: &str) -> Result<$ty> {
                self.required(key)
            })*
        }
    };
}

getters! {
    u32 require_u32 u32, "an integer from 0 to 4294967295", |value| value.integer()?.try_into().ok();
    f32 require_f32 f32, "a floating-point number", |value| match *value {
        Value::F32(v) => Some(v),
        Value::F64(v) => Some(v as f32),
        _ => None,
    };
    bool require_bool bool, "a boolean", |value| match *value {
        Value::Bool(v) => Some(v),
        _ => None,
    };
    byte_string require_byte_string &'a ByteString, "a string", |value| match value {
        Value::String(v) => Some(v),
        _ => None,
    };
    strings require_strings &'a Strings, "an array of strings", |value| match value {
        Value::Array(Array::String(v)) => Some(v),
        _ => None,
    };
    f32s require_f32s &'a [f32], "an array of f32", |value| match value {
        Value::Array(Array::F32(v)) => Some(v),
        _ => None,
    };
    i32s require_i32s Cow<'a, [i32]>, "an array of i32", |value| match value {
        Value::Array(Array::I32(v)) => Some(v.into()),
        // Some converters write unsigned where llama.cpp writes signed.
        Value::Array(Array::U32(v)) => v.iter().map(|&v| v.try_into().ok()).collect(),
        _ => None,
    };
}
