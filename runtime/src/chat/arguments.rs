//! The arguments of a call, matched to the names of what is called.

use super::budget::{Result, fault};
use super::text::Text;
use super::value::Value;

#[derive(Clone, Default)]
pub(super) struct Arguments {
    pub positional: Vec<Value>,
    /// The names are the template's own or, after `**`, whatever the keys of the dictionary are.
    pub keyword: Vec<(Text, Value)>,
}

impl Arguments {
    /// The values for `names`, by place or by name; the first `required` must be there.
    pub fn bind<const N: usize>(
        self,
        callee: &str,
        names: [&str; N],
        required: usize,
    ) -> Result<[Option<Value>; N]> {
        let mut values = [const { None }; N];
        if self.positional.len() > N {
            return Err(fault!("{callee} takes at most {N} arguments, not {}", self.positional.len()));
        }
        for (place, value) in values.iter_mut().zip(self.positional) {
            *place = Some(value);
        }
        for (name, value) in self.keyword {
            let name = name.as_str();
            let Some(place) = names.iter().position(|known| *known == name) else {
                return Err(fault!("{callee} has no argument named `{name}`"));
            };
            if values[place].replace(value).is_some() {
                return Err(fault!("{callee} got its argument `{name}` twice"));
            }
        }
        match (0..required).find(|&place| values[place].is_none()) {
            Some(place) => Err(fault!("{callee} needs its argument `{}`", names[place])),
            None => Ok(values),
        }
    }

    /// The values, where none may be named.
    pub fn unnamed(self, callee: &str) -> Result<Vec<Value>> {
        match self.keyword.first() {
            Some((name, _)) => Err(fault!("{callee} has no argument named `{}`", name.as_str())),
            None => Ok(self.positional),
        }
    }
}

/// An argument that is an integer, where it is given and not none.
pub(super) fn int(value: &Option<Value>, what: &str) -> Result<Option<i128>> {
    match value {
        None | Some(Value::None) => Ok(None),
        Some(value) => value.expect_int(what).map(Some),
    }
}

/// An argument that counts something: what is negative is 0.
pub(super) fn size(value: &Option<Value>, what: &str) -> Result<Option<usize>> {
    let size = |int: i128| usize::try_from(int.max(0)).unwrap_or(usize::MAX);
    Ok(int(value, what)?.map(size))
}

/// An argument that is a text, where it is given and not none.
pub(super) fn text<'v>(value: &'v Option<Value>, what: &str) -> Result<Option<&'v Text>> {
    match value {
        None | Some(Value::None) => Ok(None),
        Some(value) => value.expect_text(what).map(Some),
    }
}

/// An argument that is true or false.
pub(super) fn flag(value: &Option<Value>) -> bool {
    value.as_ref().is_some_and(Value::is_true)
}
