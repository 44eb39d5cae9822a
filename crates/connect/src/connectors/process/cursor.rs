//! The cursor of a command: a field of its own lines.
//!
//! Only the command knows what its rows mean, so only it can continue. It prints JSON objects, one field of
//! which holds its position; a [`CursorFinder`] finds the last such line of a block and gives its value to
//! the next run. It parses one line a block, not every line.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use crate::formats::Frames;
use crate::{Cursor, Result};

/// The longest text that a command is given in its environment, bytes. Linux takes 128 KiB for one variable, its
/// name included; with more no command would ever start again.
const TEXT_MAX: usize = 64 << 10;

/// Finds cursors in lines, and keeps the last one.
pub(super) struct CursorFinder {
    field: String,
    last: Option<Json>,
    /// Whether lines came and none of them had the field.
    field_missing: bool,
}

/// The cursor as it is saved.
#[derive(Deserialize)]
struct CommandCursor {
    cursor: Json,
}

/// A JSON object, of which one field is read.
type ObjectLine<'a> = HashMap<Cow<'a, str>, &'a RawValue>;

impl CursorFinder {
    /// `None` without a field. Fails on a cursor of another connector.
    pub(super) fn new(field: Option<&str>, cursor: Option<Cursor>) -> Result<Option<Self>> {
        let Some(field) = field else { return Ok(None) };
        let saved: Option<CommandCursor> = cursor.map(|cursor| cursor.read()).transpose()?;
        Ok(Some(Self {
            field: field.to_owned(),
            last: saved.map(|saved| saved.cursor),
            field_missing: false,
        }))
    }

    /// The cursor as the text that the next run finds in its environment.
    pub(super) fn text(&self) -> Option<String> {
        self.last.as_ref().map(text_of)
    }

    /// The number of lines that the last cursor among them covers, and that cursor.
    pub(super) fn find(&mut self, lines: &Frames) -> Option<(usize, Cursor)> {
        let all: Vec<&[u8]> = lines.iter().collect();
        let mut backwards = all.iter().enumerate().rev();
        let found = backwards.find_map(|(at, line)| Some((at + 1, self.field_of(line)?)));
        match found {
            Some((covered, value)) => {
                self.field_missing = false;
                let cursor = Cursor(json!({ "cursor": value }));
                self.last = Some(value);
                Some((covered, cursor))
            }
            None => {
                self.field_missing |= self.last.is_none() && !all.is_empty();
                None
            }
        }
    }

    /// The reason for `degraded` when lines came and none had the field.
    pub(super) fn missing_field(&self) -> Option<String> {
        let field = &self.field;
        self.field_missing.then(|| {
            format!(
                "no line is a JSON object with the field {field:?} that fits a variable: there is no cursor"
            )
        })
    }

    fn field_of(&self, line: &[u8]) -> Option<Json> {
        let line: ObjectLine<'_> = serde_json::from_slice(line).ok()?;
        let value = line.get(self.field.as_str())?;
        let value = serde_json::from_str(value.get()).ok()?;
        Some(value).filter(|value: &Json| !value.is_null() && fits_a_variable(&text_of(value)))
    }
}

fn text_of(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether a command can be started with this text in its environment.
fn fits_a_variable(text: &str) -> bool {
    text.len() <= TEXT_MAX && !text.contains('\0')
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
        let mut finder = CursorFinder::new(Some("at"), None).unwrap().unwrap();
        assert_eq!((finder.text(), finder.missing_field()), (None, None));
        assert!(
            finder
                .find(&frames(&["no json", "[1]", "{}", r#"{"at": null}"#]))
                .is_none()
        );
        assert!(finder.missing_field().is_some());
        let lines = frames(&[
            r#"{"at": 1}"#,
            r#"{"x": {"at": 9}, "at": "a b"}"#,
            "{\"at\": ",
        ]);
        let (covered, Cursor(cursor)) = finder.find(&lines).unwrap();
        assert_eq!((covered, cursor), (2, json!({ "cursor": "a b" })));
        assert_eq!(finder.text().as_deref(), Some("a b"));
        assert_eq!(finder.missing_field(), None);
        finder
            .find(&frames(&[r#"{"\u0061t": {"page": 2}}"#]))
            .unwrap();
        assert_eq!(finder.text().as_deref(), Some(r#"{"page":2}"#));
    }

    #[test]
    fn a_value_that_no_command_can_be_given_is_no_cursor() {
        let mut finder = CursorFinder::new(Some("at"), None).unwrap().unwrap();
        let long = format!(r#"{{"at": "{}"}}"#, "x".repeat(TEXT_MAX + 1));
        let lines = [r#"{"at": 1}"#, r#"{"at": "a\u0000b"}"#, &long];
        assert_eq!(finder.find(&frames(&lines)).unwrap().0, 1);
        assert_eq!(finder.text().as_deref(), Some("1"));
    }

    #[test]
    fn a_saved_cursor_is_read_and_a_foreign_one_refused() {
        let finder = CursorFinder::new(Some("at"), Some(Cursor(json!({ "cursor": 7 }))));
        assert_eq!(finder.unwrap().unwrap().text().as_deref(), Some("7"));
        assert!(CursorFinder::new(Some("at"), Some(Cursor(7.into()))).is_err());
        assert!(CursorFinder::new(None, None).unwrap().is_none());
    }
}
