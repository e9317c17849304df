//! JSON whose objects keep their members in the order written.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::budget::{Budget, Result};
use super::text::Text;
use super::value::{Dict, VALUE_BYTES, Value};

/// A JSON value whose objects keep their members in the order written, as templates print them.
///
/// Read it with serde, for instance by `serde_json::from_str`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Data(Node);

#[derive(Clone, Debug, Default, PartialEq)]
enum Node {
    #[default]
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Data>),
    Object(Vec<(String, Data)>),
}

/// Roles that templates know by name. They are words of the template's own language and not contents: a template
/// may make the control token `<|user|>` of one.
const ROLES: [&str; 10] = [
    "assistant",
    "chatbot",
    "developer",
    "function",
    "ipython",
    "model",
    "observation",
    "system",
    "tool",
    "user",
];

impl Data {
    /// An object with these members.
    pub(super) fn object(members: impl IntoIterator<Item = (String, Data)>) -> Self {
        Self(Node::Object(members.into_iter().collect()))
    }

    pub(super) fn list(items: impl IntoIterator<Item = Data>) -> Self {
        Self(Node::List(items.into_iter().collect()))
    }

    /// The members of an object.
    pub(super) fn members(&self) -> Option<&[(String, Data)]> {
        match &self.0 {
            Node::Object(members) => Some(members),
            _ => None,
        }
    }

    /// About how many bytes it has.
    pub(super) fn size(&self) -> usize {
        match &self.0 {
            Node::Text(text) => text.len() + 1,
            Node::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Node::Object(members) => {
                1 + members.iter().map(|(name, value)| name.len() + 1 + value.size()).sum::<usize>()
            }
            _ => 1,
        }
    }

    /// As a value of a template, all of whose texts are contents.
    pub(super) fn value(&self, budget: &Budget) -> Result<Value> {
        let text = |text: &str| -> Result<Value> {
            budget.bytes(text.len() + VALUE_BYTES)?;
            Ok(Value::Text(Text::content(text)))
        };
        Ok(match &self.0 {
            Node::Null => Value::None,
            Node::Bool(value) => Value::Bool(*value),
            Node::Int(value) => Value::Int(*value),
            Node::Float(value) => Value::Float(*value),
            Node::Text(string) => text(string)?,
            Node::List(items) => {
                budget.product(VALUE_BYTES, items.len())?;
                Value::list(items.iter().map(|item| item.value(budget)).collect::<Result<_>>()?)?
            }
            Node::Object(members) => {
                let mut dict = Dict::new();
                for (name, value) in members {
                    dict.insert(budget, text(name)?, value.value(budget)?)?;
                }
                Value::dict(dict)
            }
        })
    }

    /// The messages of a conversation as a value: contents but for the names of well-known roles.
    pub(super) fn messages(&self, budget: &Budget) -> Result<Value> {
        let Node::List(messages) = &self.0 else { return self.value(budget) };
        budget.product(VALUE_BYTES, messages.len())?;
        let message = |message: &Data| {
            let Node::Object(members) = &message.0 else { return message.value(budget) };
            let mut dict = Dict::new();
            for (name, value) in members {
                let value = match &value.0 {
                    Node::Text(role) if name == "role" && ROLES.contains(&role.as_str()) => {
                        Value::own(role.as_str())
                    }
                    _ => value.value(budget)?,
                };
                budget.bytes(name.len())?;
                dict.insert(budget, Value::Text(Text::content(name.as_str())), value)?;
            }
            Ok(Value::dict(dict))
        };
        Value::list(messages.iter().map(message).collect::<Result<_>>()?)
    }
}

impl From<&str> for Data {
    fn from(text: &str) -> Self {
        Self(Node::Text(text.into()))
    }
}

impl From<bool> for Data {
    fn from(value: bool) -> Self {
        Self(Node::Bool(value))
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct AnyValue;

        impl<'de> Visitor<'de> for AnyValue {
            type Value = Data;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> std::result::Result<Data, E> {
                Ok(Data(Node::Null))
            }

            fn visit_bool<E>(self, value: bool) -> std::result::Result<Data, E> {
                Ok(Data(Node::Bool(value)))
            }

            fn visit_i64<E>(self, value: i64) -> std::result::Result<Data, E> {
                Ok(Data(Node::Int(value.into())))
            }

            fn visit_u64<E>(self, value: u64) -> std::result::Result<Data, E> {
                Ok(Data(Node::Int(value.into())))
            }

            fn visit_f64<E>(self, value: f64) -> std::result::Result<Data, E> {
                Ok(Data(Node::Float(value)))
            }

            fn visit_str<E>(self, value: &str) -> std::result::Result<Data, E> {
                Ok(Data(Node::Text(value.into())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Data, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Data(Node::List(items)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Data, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Data(Node::Object(members)))
            }

            fn visit_none<E>(self) -> std::result::Result<Data, E> {
                Ok(Data(Node::Null))
            }

            fn visit_some<D: Deserializer<'de>>(self, inner: D) -> std::result::Result<Data, D::Error> {
                Data::deserialize(inner)
            }

            fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> std::result::Result<Data, E> {
                Err(E::custom("bytes are no JSON value"))
            }
        }

        deserializer.deserialize_any(AnyValue).map_err(D::Error::custom)
    }
}
