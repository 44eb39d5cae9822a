//! Acknowledgement by message: the server confirms rows with a field that comes back.
//!
//! ```text
//!   sink                                server
//!    |-- {"id": 1, "price": 3} ----------->|
//!    |-- {"id": 2, "price": 4} ----------->|  processes both, and says so:
//!    |<----------------- {"id": 2} --------|
//! ```
//!
//! A pong is the answer of a library, often before the program behind it has read anything. With `ack.match`
//! only a message of that program confirms: a JSON object whose field has the value that the field has in a row
//! it was sent. It confirms this row and all before it, so a server acknowledges in the order of the rows. A text
//! and an integer of the same digits are the same value, for programs whose numbers are too small for 64 bits.
//!
//! Values are compared by a keyed hash: a queue of many rows keeps 8 bytes of each, and a server cannot look for
//! two values that collide.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::time::Duration;

use arrow::datatypes::{DataType, Schema};

use crate::formats::json_field;
use crate::{Error, Result};

/// The value of the field in one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AckKey(u64);

impl AckKey {
    pub fn of(value: &str) -> Self {
        static KEYED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(KEYED.hash_one(value))
    }
}

/// How the server acknowledges.
#[derive(Debug, Clone)]
pub(super) struct AckBy {
    /// The field that comes back.
    field: String,
    /// The longest wait for the next acknowledgement while rows are not confirmed.
    pub timeout: Duration,
}

impl AckBy {
    /// Fails if rows of these columns in this format have no such field, or one that does not come back as it
    /// was sent.
    pub fn new(
        field: &str,
        timeout: Duration,
        schema: &Schema,
        format: Option<&str>,
    ) -> Result<Self> {
        if format != Some("json") {
            let name = format.unwrap_or("none");
            let why = format!("ack.match needs messages with fields: format 'json', not '{name}'");
            return Err(Error::Options(why));
        }
        let Ok(column) = schema.field_with_name(field) else {
            let names: Vec<_> = schema
                .fields()
                .iter()
                .map(|it| it.name().as_str())
                .collect();
            let names = names.join(", ");
            let why = format!("ack.match names the column {field:?}; the columns are {names}");
            return Err(Error::Options(why));
        };
        if !comes_back(column.data_type()) {
            let why = "ack.match needs an integer or a text, which a server sends back as it came";
            return Err(Error::UnusableColumn {
                column: field.to_owned(),
                reason: why.to_owned(),
            });
        }
        Ok(Self {
            field: field.to_owned(),
            timeout,
        })
    }

    /// The key in a message of the server; `None` if it is none that acknowledges.
    pub fn find(&self, message: &[u8]) -> Option<AckKey> {
        json_field(message, &self.field).map(|value| AckKey::of(&value))
    }

    /// The key of a row, which must have one.
    pub fn key_of_row(&self, row: &[u8]) -> Result<AckKey> {
        self.find(row).ok_or_else(|| Error::Encode {
            format: "json",
            reason: format!("column {} is NULL, and ack.match needs a value", self.field),
        })
    }
}

/// Whether each JSON library writes a value of this type as it has read it.
fn comes_back(data_type: &DataType) -> bool {
    let is_text = matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    );
    is_text || data_type.is_integer()
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;

    use super::*;

    fn by(field: &str, data_type: DataType, format: &str) -> Result<AckBy> {
        let schema = Schema::new(vec![Field::new("id", data_type, true)]);
        AckBy::new(field, Duration::from_secs(1), &schema, Some(format))
    }

    #[test]
    fn the_field_is_found_whatever_else_there_is() {
        let by = by("id", DataType::Int64, "json").expect("a fine column");
        let seven = Some(AckKey::of("7"));
        for message in [
            r#"{"id": 7}"#,
            r#" { "x": {"id": 1}, "y": [{"id": 2}], "id":"7" } "#,
            r#"{"\u0069d":7,"more":true}"#,
        ] {
            assert_eq!(by.find(message.as_bytes()), seven, "{message}");
        }
        for message in [
            "",
            "7",
            "null",
            "[7]",
            "{}",
            r#"{"id": null}"#,
            r#"{"id": [7]}"#,
            r#"{"id": 7.0}"#,
            r#"{"id": 7e0}"#,
            r#"{"id": true}"#,
            r#"{"ID": 7}"#,
            r#"{"x": {"id": 7}}"#,
            r#"{"id": 7"#,
            r#"{"id": 7} x"#,
        ] {
            assert_eq!(by.find(message.as_bytes()), None, "{message}");
        }
        assert_ne!(by.find(br#"{"id": 8}"#), seven);
        assert_eq!(by.find(&[b'{', 0xff]), None);
        assert!(
            by.key_of_row(br#"{"id": null}"#)
                .is_err_and(|error| error.is_of_rows())
        );
    }

    #[test]
    fn a_field_that_cannot_come_back_is_refused() {
        assert!(by("id", DataType::Utf8, "json").is_ok());
        let why = |field, data_type, format| {
            let refused = by(field, data_type, format).expect_err("it cannot come back");
            refused.to_string()
        };
        let texts = [
            why("id", DataType::Float64, "json"),
            why("ID", DataType::Int64, "json"),
            why("id", DataType::Utf8, "text"),
        ];
        for (text, part) in texts
            .iter()
            .zip(["an integer or a text", "columns are id", "'json'"])
        {
            assert!(text.contains(part), "{text}");
        }
    }
}
