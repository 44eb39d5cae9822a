//! SIMILAR TO, whose patterns are translated into regular expressions.
//!
//! | pattern | matches |
//! |---|---|
//! | `%` `_` | any text, any one character |
//! | `a\|b` `(ab)` | one of both, a group |
//! | `*` `+` `?` `{m}` `{m,}` `{m,n}` | repetitions of what is before |
//! | `[a-z]` `[^a]` `[[:digit:]]` | one character of a class |
//!
//! The escape character, a backslash unless `ESCAPE` names another, takes the meaning from the next one. The
//! whole text must match. A pattern that PostgreSQL refuses is refused, and so are those of its extensions
//! that have another meaning in other systems: an escaped letter or digit.

use std::iter::Peekable;
use std::str::Chars;

use crate::sql::{Result, SqlError, sqlstate};

/// The most repetitions that PostgreSQL takes.
const REPEATED_MAX: u32 = 255;

/// The regular expression that matches what the pattern matches.
pub(super) fn regular_expression(pattern: &str, escape: char) -> Result<String> {
    let mut translation = SimilarPattern {
        pattern,
        escape,
        rest: pattern.chars().peekable(),
        regex: String::from(r"\A(?s:"),
        repeats: Repeats::Nothing,
        open: 0,
    };
    while let Some(next) = translation.rest.next() {
        translation.take(next)?;
    }
    if translation.open > 0 {
        return Err(translation.refused("a parenthesis is not closed"));
    }
    translation.regex.push_str(r")\z");
    Ok(translation.regex)
}

/// What a repetition would repeat.
#[derive(Clone, Copy, PartialEq)]
enum Repeats {
    /// The start of the pattern, of a group or of an alternative.
    Nothing,
    Item,
    /// A repetition; only `?` may follow.
    Repetition,
    /// A repetition and `?`.
    Shortest,
}

struct SimilarPattern<'a> {
    pattern: &'a str,
    escape: char,
    rest: Peekable<Chars<'a>>,
    regex: String,
    repeats: Repeats,
    /// Parentheses that are not closed yet.
    open: usize,
}

impl SimilarPattern<'_> {
    fn take(&mut self, next: char) -> Result<()> {
        match next {
            next if next == self.escape => {
                let literal = self.escaped()?;
                self.literal(literal);
            }
            '%' => {
                self.regex.push_str(".*");
                self.repeats = Repeats::Repetition;
            }
            '_' => self.item("."),
            '[' => self.class()?,
            '(' => {
                self.regex.push_str("(?:");
                self.repeats = Repeats::Nothing;
                self.open += 1;
            }
            ')' => {
                self.open = self
                    .open
                    .checked_sub(1)
                    .ok_or_else(|| self.refused("a parenthesis is closed that was not opened"))?;
                self.item(")");
            }
            '|' => {
                self.regex.push('|');
                self.repeats = Repeats::Nothing;
            }
            '*' | '+' | '?' => self.repetition(next)?,
            '{' if self.rest.peek().is_some_and(char::is_ascii_digit) => self.bounds()?,
            other => self.literal(other),
        }
        Ok(())
    }

    fn item(&mut self, regex: &str) {
        self.regex.push_str(regex);
        self.repeats = Repeats::Item;
    }

    fn literal(&mut self, literal: char) {
        push_literal(literal, &mut self.regex);
        self.repeats = Repeats::Item;
    }

    /// The character behind the escape character.
    fn escaped(&mut self) -> Result<char> {
        match self.rest.next() {
            None => Err(self.refused("it ends with the escape character")),
            Some(next) if next.is_ascii_alphanumeric() || next == '"' => {
                let what = format!("the escape of {next:?} in a pattern of SIMILAR TO");
                Err(SqlError::not_built(what)
                    .hint("Escape characters that would have a meaning; use [0-9] for digits."))
            }
            Some(next) => Ok(next),
        }
    }

    fn repetition(&mut self, mark: char) -> Result<()> {
        self.repeats = match (self.repeats, mark) {
            (Repeats::Item, _) => Repeats::Repetition,
            (Repeats::Repetition, '?') => Repeats::Shortest,
            _ => return Err(self.refused("a repetition repeats nothing")),
        };
        self.regex.push(mark);
        Ok(())
    }

    /// `{m}`, `{m,}` or `{m,n}`, behind the brace.
    fn bounds(&mut self) -> Result<()> {
        if self.repeats != Repeats::Item {
            return Err(self.refused("a repetition repeats nothing"));
        }
        let least = self.bound()?;
        let mut bounds = (least, Some(least));
        if self.rest.next_if_eq(&',').is_some() {
            bounds.1 = match self.rest.peek() {
                Some('}') => None,
                _ => Some(self.bound()?),
            };
        }
        let in_order = bounds.1.is_none_or(|most| least <= most);
        if self.rest.next() != Some('}') || !in_order {
            return Err(self.refused("a repetition is {m}, {m,} or {m,n}"));
        }
        let most = bounds.1.map_or(String::new(), |most| most.to_string());
        self.regex.push_str(&format!("{{{least},{most}}}"));
        self.repeats = Repeats::Repetition;
        Ok(())
    }

    fn bound(&mut self) -> Result<u32> {
        let mut bound: u32 = 0;
        let mut digits = 0;
        while let Some(digit) = self.rest.peek().and_then(|next| next.to_digit(10)) {
            bound = bound.saturating_mul(10).saturating_add(digit);
            digits += 1;
            self.rest.next();
        }
        match digits > 0 && bound <= REPEATED_MAX {
            true => Ok(bound),
            false => Err(self.refused("a repetition is up to 255 times")),
        }
    }

    /// A class of characters, behind its bracket.
    fn class(&mut self) -> Result<()> {
        self.regex.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.regex.push('^');
        }
        let mut first = true;
        loop {
            let Some(next) = self.rest.next() else {
                return Err(self.refused("a bracket is not closed"));
            };
            match next {
                ']' if !first => break,
                '[' if matches!(self.rest.peek(), Some(':' | '.' | '=')) => self.named_class()?,
                next => self.range(next)?,
            }
            first = false;
        }
        self.regex.push(']');
        self.repeats = Repeats::Item;
        Ok(())
    }

    /// A character of a class, or a range that begins with it.
    fn range(&mut self, first: char) -> Result<()> {
        let first = self.class_character(first)?;
        push_literal(first, &mut self.regex);
        let mut ahead = self.rest.clone();
        if ahead.next() != Some('-') || matches!(ahead.next(), None | Some(']')) {
            return Ok(());
        }
        self.rest.next();
        let last = self.rest.next().unwrap_or(first);
        let last = self.class_character(last)?;
        if last < first {
            return Err(self.refused("a range of characters is empty"));
        }
        self.regex.push('-');
        push_literal(last, &mut self.regex);
        Ok(())
    }

    fn class_character(&mut self, character: char) -> Result<char> {
        match character == self.escape {
            true => self.escaped(),
            false => Ok(character),
        }
    }

    /// `[:digit:]` behind its bracket.
    fn named_class(&mut self) -> Result<()> {
        let name: String = self.rest.by_ref().take_while(|next| *next != ']').collect();
        let class = match name.as_str() {
            ":alpha:" => r"\p{Alphabetic}",
            ":digit:" => "0-9",
            ":alnum:" => r"\p{Alphabetic}0-9",
            ":upper:" => r"\p{Uppercase}",
            ":lower:" => r"\p{Lowercase}",
            ":space:" => r"\s",
            ":blank:" => r" \t",
            ":xdigit:" => "0-9A-Fa-f",
            _ => {
                let what = format!("[{name}] in a pattern of SIMILAR TO");
                return Err(SqlError::not_built(what).hint(
                    "Use alpha, digit, alnum, upper, lower, space, blank or xdigit, or list the \
                     characters.",
                ));
            }
        };
        self.regex.push_str(class);
        Ok(())
    }

    fn refused(&self, why: &str) -> SqlError {
        let message = format!(
            "the pattern '{}' of SIMILAR TO is wrong: {why}",
            self.pattern
        );
        SqlError::new(sqlstate::INVALID_REGEX, message)
    }
}

/// Appends a character that only means itself. `\<` and `\>` would be the bounds of a word.
fn push_literal(literal: char, regex: &mut String) {
    if literal.is_ascii_punctuation() && !matches!(literal, '<' | '>') {
        regex.push('\\');
    }
    regex.push(literal);
}
