//! Where a command continues: a field of its own lines.
//!
//! Only the command knows what its rows mean, so only it can continue. It prints JSON objects, one
//! field of which says where it is; a [`Marker`] finds the last such line of what was read, and what was
//! found goes to the next run. What is parsed is one line a block, not every line.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use crate::formats::Frames;
use crate::{Cursor, Error, Result};

/// Finds cursors in lines, and keeps the last one.
pub(super) struct Marker {
    field: String,
    last: Option<Json>,
    /// Whether lines came and none of them had the field.
    unmarked: bool,
}

/// What is saved.
#[derive(Deserialize)]
struct Saved {
    cursor: Json,
}

/// An object, of which one field is read.
type Line<'a> = HashMap<Cow<'a, str>, &'a RawValue>;

impl Marker {
    /// `None` without a field. Fails on a cursor that is none of this connector.
    pub(super) fn new(field: Option<&str>, cursor: Option<Cursor>) -> Result<Option<Self>> {
        let Some(field) = field else { return Ok(None) };
        let read = |Cursor(saved): Cursor| match Saved::deserialize(saved) {
            Ok(saved) => Ok(saved.cursor),
            Err(error) => Err(Error::BadCursor {
                reason: error.to_string(),
            }),
        };
        Ok(Some(Self {
            field: field.to_owned(),
            last: cursor.map(read).transpose()?,
            unmarked: false,
        }))
    }

    /// What the next run is told.
    pub(super) fn told(&self) -> Option<String> {
        self.last.as_ref().map(|last| match last {
            Json::String(text) => text.clone(),
            other => other.to_string(),
        })
    }

    /// How many of the lines are covered by the last cursor among them, and that cursor.
    pub(super) fn find(&mut self, lines: &Frames) -> Option<(usize, Cursor)> {
        let all: Vec<&[u8]> = lines.iter().collect();
        let mut places = all.iter().enumerate().rev();
        let found = places.find_map(|(at, line)| Some((at + 1, self.field_of(line)?)));
        match found {
            Some((covered, value)) => {
                self.unmarked = false;
                let cursor = Cursor(json!({ "cursor": value }));
                self.last = Some(value);
                Some((covered, cursor))
            }
            None => {
                self.unmarked |= self.last.is_none() && !all.is_empty();
                None
            }
        }
    }

    /// That lines came and none had the field, for a person.
    pub(super) fn unmarked(&self) -> Option<String> {
        let field = &self.field;
        self.unmarked.then(|| {
            format!("no line is a JSON object with the field {field:?}: there is no cursor")
        })
    }

    fn field_of(&self, line: &[u8]) -> Option<Json> {
        let line: Line<'_> = serde_json::from_slice(line).ok()?;
        let value = line.get(self.field.as_str())?;
        let value = serde_json::from_str(value.get()).ok()?;
        Some(value).filter(|value: &Json| !value.is_null())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(lines: &[&str]) -> Frames {
        let mut frames = Frames::default();
        lines.iter().for_each(|line| frames.push(line.as_bytes()));
        frames
    }

    #[test]
    fn the_last_line_with_the_field_counts() {
        let mut marker = Marker::new(Some("at"), None).unwrap().unwrap();
        assert_eq!((marker.told(), marker.unmarked()), (None, None));
        assert!(
            marker
                .find(&frames(&["no json", "[1]", "{}", r#"{"at": null}"#]))
                .is_none()
        );
        assert!(marker.unmarked().is_some());
        let lines = frames(&[
            r#"{"at": 1}"#,
            r#"{"x": {"at": 9}, "at": "a b"}"#,
            "{\"at\": ",
        ]);
        let (covered, Cursor(cursor)) = marker.find(&lines).unwrap();
        assert_eq!((covered, cursor), (2, json!({ "cursor": "a b" })));
        assert_eq!(marker.told().as_deref(), Some("a b"));
        assert_eq!(marker.unmarked(), None);
        marker
            .find(&frames(&[r#"{"\u0061t": {"page": 2}}"#]))
            .unwrap();
        assert_eq!(marker.told().as_deref(), Some(r#"{"page":2}"#));
    }

    #[test]
    fn a_cursor_is_read_again_and_a_foreign_one_refused() {
        let marker = Marker::new(Some("at"), Some(Cursor(json!({ "cursor": 7 }))));
        assert_eq!(marker.unwrap().unwrap().told().as_deref(), Some("7"));
        assert!(Marker::new(Some("at"), Some(Cursor(7.into()))).is_err());
        assert!(Marker::new(None, None).unwrap().is_none());
    }
}
