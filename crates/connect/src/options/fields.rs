//! Reads a struct of options from values that already have the right types, and reports for each
//! value that the struct's own types refuse to which option it belongs.
//!
//! serde stops at the first error and does not report the key. So the values are fed in one by one, and
//! the key is noted; an option found wrong goes to the end of the line, and the next round finds the
//! next one, until the first in line is known to be wrong.

use std::cell::Cell;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value as Json};

use super::{Objection, Options};

pub(super) type Map = serde_json::Map<String, Json>;

/// Why the struct refuses its values.
pub(super) enum Complaint {
    /// A value its type refuses.
    Invalid { option: String, reason: String },
    /// The values are each right and cannot be together.
    Objection(Objection),
}

/// All complaints; those of the whole only when each value is right and none is missing.
pub(super) fn verify<T: Options>(values: &Map) -> Vec<Complaint> {
    let mut line: Vec<(&str, &Json)> = values.iter().map(|(key, value)| (&**key, value)).collect();
    let mut wrong: Vec<(String, String)> = Vec::new();
    loop {
        let at = Cell::new(None);
        let fields = Fields {
            line: line.iter(),
            value: None,
            at: &at,
        };
        let (read, at) = (T::deserialize(fields), at.get());
        match (read, at) {
            (Ok(whole), _) => {
                return whole
                    .objections()
                    .into_iter()
                    .map(Complaint::Objection)
                    .collect();
            }
            (Err(error), Some(at)) if !wrong.iter().any(|(option, _)| option == at) => {
                wrong.push((at.to_owned(), error.to_string()));
                let position = line.iter().position(|(key, _)| *key == at).unwrap_or(0);
                let last = line.remove(position);
                line.push(last);
            }
            (Err(_), _) => {
                let invalid = |(option, reason)| Complaint::Invalid { option, reason };
                return wrong.into_iter().map(invalid).collect();
            }
        }
    }
}

/// A deserializer that notes whose value is being read.
struct Fields<'a> {
    line: std::slice::Iter<'a, (&'a str, &'a Json)>,
    value: Option<(&'a str, &'a Json)>,
    at: &'a Cell<Option<&'a str>>,
}

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.value = self.line.next().copied();
        let key = self
            .value
            .map(|(key, _)| seed.deserialize(StrDeserializer::<Error>::new(key)));
        key.transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, value) = self.value.take().ok_or_else(|| Error::custom("no value"))?;
        self.at.set(Some(key));
        let value = seed.deserialize(value.clone())?;
        self.at.set(None);
        Ok(value)
    }
}
