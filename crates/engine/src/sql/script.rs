//! A script as tokens: read once, split at its semicolons, measured before it is parsed.
//!
//! `sqlparser` gives every token a line and a column; here each also gets its bytes, so that an
//! error can point into the text and a query can be cut out of it. White space and comments are
//! dropped.
//!
//! [`measure`] keeps deep text from exhausting the stack. A parser that descends once per
//! parenthesis, and a tree that is as deep as a chain `a + b + c + ...` is long, both overflow on a
//! text of a few kilobytes. So it bounds the nesting by [`NESTING_MAX`] and the depth of the
//! operator tree by [`DEPTH_MAX`] from the tokens alone, before a tree exists.

use std::ops::Range;

use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

use super::dialect::LimitedDialect;
use super::error::{Result, SqlError, lower_first, sqlstate};

/// Maximum nesting of parentheses, brackets and angle brackets, levels.
pub(super) const NESTING_MAX: usize = 32;

/// Maximum nesting of CASE, levels.
pub(super) const CASES_MAX: usize = 50;

/// Maximum depth of a tree of operators, levels.
pub(super) const DEPTH_MAX: usize = 128;

/// Maximum number of common table expressions in a statement: each can read the one before.
pub(super) const CTES_MAX: usize = 128;

/// A token with its position in the script.
#[derive(Debug, Clone)]
pub(super) struct Lexeme {
    /// The token with its line and column.
    pub token: TokenWithSpan,
    /// Its bytes in the script. Ranges ascend and do not overlap.
    pub range: Range<usize>,
}

/// The tokens of a whole script, without white space and comments.
pub(super) fn lex(script: &str) -> Result<Vec<Lexeme>> {
    let tokens = Tokenizer::new(&LimitedDialect::for_tokens(0), script)
        .tokenize_with_location()
        .map_err(|error| {
            let start = LocationReader::new(script, 0, FIRST).seek(error.location);
            let end = script[start..]
                .chars()
                .next()
                .map_or(start, |c| start + c.len_utf8());
            let message = lower_first(&error.message);
            SqlError::syntax(message).at(start..end)
        })?;
    let mut reader = LocationReader::new(script, 0, FIRST);
    let lexemes = tokens.into_iter().map(|token| {
        let start = reader.seek(token.span.start);
        let end = reader.seek(token.span.end);
        Lexeme {
            token,
            range: start..end,
        }
    });
    Ok(lexemes
        .filter(|lexeme| !matches!(lexeme.token.token, Token::Whitespace(_) | Token::EOF))
        .collect())
}

/// The statements of a script: the runs of tokens between semicolons, empty ones left out.
pub(super) fn statements(lexemes: &[Lexeme]) -> impl Iterator<Item = &[Lexeme]> {
    lexemes
        .split(|lexeme| lexeme.token.token == Token::SemiColon)
        .filter(|statement| !statement.is_empty())
}

/// Refuses a statement that is nested or chained deeper than the stack allows.
pub(super) fn measure(statement: &[Lexeme]) -> Result<()> {
    let (mut depth, mut ctes, mut arrays) = (TreeDepth::default(), 0, 0);
    for (index, lexeme) in statement.iter().enumerate() {
        let before = index
            .checked_sub(1)
            .map(|index| &statement[index].token.token);
        depth.token(&lexeme.token.token, before);
        let opens = lexeme.token.token == Token::LParen;
        ctes += usize::from(opens && before.is_some_and(is_as));
        // `BIGINT[][]` nests without a bracket around another.
        arrays = match (&lexeme.token.token, before) {
            (Token::LBracket, _) => arrays,
            (Token::RBracket, Some(Token::LBracket)) => arrays + 1,
            _ => 0,
        };
        let (what, found, limit) = if depth.nesting() > NESTING_MAX {
            ("parentheses nested", depth.nesting(), NESTING_MAX)
        } else if depth.cases > CASES_MAX {
            ("CASE nested", depth.cases, CASES_MAX)
        } else if depth.operators() > DEPTH_MAX {
            ("operators chained", depth.operators(), DEPTH_MAX)
        } else if arrays > NESTING_MAX {
            ("arrays nested", arrays, NESTING_MAX)
        } else if ctes > CTES_MAX {
            ("common table expressions chained", ctes, CTES_MAX)
        } else {
            continue;
        };
        let message = format!("statement is too complex: {what} {found} deep, at most {limit}");
        return Err(SqlError::new(sqlstate::STATEMENT_TOO_COMPLEX, message)
            .hint("Cut it into several views or streams, or replace a chain of OR by IN (...).")
            .at(lexeme.range.clone()));
    }
    Ok(())
}

/// The depth of the tree that the tokens so far will make; never less than the true depth.
#[derive(Default)]
struct TreeDepth {
    /// The open levels around `level`, outermost first.
    open: Vec<Level>,
    level: Level,
    /// Open `ARRAY<` and `STRUCT<`, which nest without parentheses.
    angles: usize,
    /// `INTERVAL INTERVAL ...`, which descends without parentheses.
    prefixes: usize,
    /// Open `CASE`, which nest without parentheses.
    cases: usize,
}

#[derive(Default)]
struct Level {
    /// The longest chain of `AND` and `OR` in an expression that has ended, with the operators
    /// below it.
    ended: usize,
    /// `AND` and `OR` in the expression being read.
    logic: usize,
    /// Other operators in the longest operand of these so far, and in the one being read.
    longest: usize,
    operand: usize,
    /// Joins and set operations, which no comma ends.
    chained: usize,
}

impl Level {
    fn total(&self) -> usize {
        self.ended.max(self.expression()) + self.chained
    }

    fn expression(&self) -> usize {
        self.logic + self.longest.max(self.operand)
    }

    fn next_operand(&mut self) {
        self.longest = self.longest.max(self.operand);
        self.operand = 0;
    }

    fn next_expression(&mut self) {
        self.ended = self.ended.max(self.expression());
        (self.logic, self.longest, self.operand) = (0, 0, 0);
    }
}

impl TreeDepth {
    fn nesting(&self) -> usize {
        self.open.len() + self.angles + self.prefixes
    }

    fn operators(&self) -> usize {
        self.level.total()
    }

    fn token(&mut self, token: &Token, before: Option<&Token>) {
        self.prefixes = match (word(token), before.and_then(word)) {
            (Some("INTERVAL"), Some("INTERVAL")) => self.prefixes + 1,
            _ => 0,
        };
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                self.open.push(std::mem::take(&mut self.level));
            }
            Token::RParen | Token::RBracket | Token::RBrace => self.close(),
            Token::Comma => self.level.next_expression(),
            Token::Lt if opens_type(before) => self.angles += 1,
            Token::Gt if self.angles > 0 => self.angles -= 1,
            Token::ShiftRight if self.angles > 0 => self.angles = self.angles.saturating_sub(2),
            Token::Period => {}
            Token::Word(word) if word.quote_style.is_some() => {}
            Token::Word(word) => self.word(&word.value),
            other if is_operand(other) => {}
            _ => self.level.operand += 1,
        }
    }

    fn word(&mut self, word: &str) {
        match word.to_ascii_uppercase().as_str() {
            "CASE" => self.cases += 1,
            "END" => self.cases = self.cases.saturating_sub(1),
            "WHEN" | "THEN" | "ELSE" => self.level.next_expression(),
            "AND" | "OR" => {
                self.level.logic += 1;
                self.level.next_operand();
            }
            "XOR" | "NOT" | "IS" | "IN" | "LIKE" | "ILIKE" | "RLIKE" | "REGEXP" | "SIMILAR"
            | "BETWEEN" | "OVERLAPS" | "COLLATE" | "DIV" | "AT" | "MEMBER" | "OPERATOR"
            | "NOTNULL" => self.level.operand += 1,
            "UNION" | "EXCEPT" | "INTERSECT" | "MINUS" | "JOIN" | "APPLY" | "PIVOT" | "UNPIVOT"
            | "MATCH_RECOGNIZE" => self.level.chained += 1,
            _ => {}
        }
    }

    fn close(&mut self) {
        let inner = self.level.total() + 1;
        if let Some(outer) = self.open.pop() {
            self.level = outer;
            self.level.operand = self.level.operand.max(inner);
        }
    }
}

fn word(token: &Token) -> Option<&'static str> {
    match token {
        Token::Word(word) if word.value.eq_ignore_ascii_case("INTERVAL") => Some("INTERVAL"),
        _ => None,
    }
}

fn is_as(token: &Token) -> bool {
    matches!(token, Token::Word(word) if word.value.eq_ignore_ascii_case("AS"))
}

fn opens_type(before: Option<&Token>) -> bool {
    let Some(Token::Word(word)) = before else {
        return false;
    };
    ["ARRAY", "STRUCT", "MAP"]
        .iter()
        .any(|name| word.value.eq_ignore_ascii_case(name))
}

fn is_operand(token: &Token) -> bool {
    use Token::*;
    matches!(
        token,
        Number(..)
            | Char(_)
            | SingleQuotedString(_)
            | DoubleQuotedString(_)
            | DollarQuotedString(_)
            | SingleQuotedByteStringLiteral(_)
            | NationalStringLiteral(_)
            | EscapedStringLiteral(_)
            | UnicodeStringLiteral(_)
            | HexStringLiteral(_)
            | Placeholder(_)
    )
}

/// The location of the first character of a script.
pub(super) const FIRST: Location = Location { line: 1, column: 1 };

/// The text of a query and its position in the script: turns spans of the tree into bytes.
#[derive(Clone, Copy)]
pub(super) struct QueryText<'a> {
    text: &'a str,
    /// The byte of the script at which the text begins.
    start: usize,
    /// Line and column of the script at which the text begins.
    origin: Location,
}

impl<'a> QueryText<'a> {
    pub fn new(text: &'a str, start: usize, origin: Location) -> Self {
        Self {
            text,
            start,
            origin,
        }
    }

    /// The bytes of the script that `span` covers; `None` for the empty span.
    pub fn position(&self, span: Span) -> Option<Range<usize>> {
        if span.start.line == 0 {
            return None;
        }
        let mut reader = LocationReader::new(self.text, self.start, self.origin);
        let from = reader.seek(span.start);
        Some(from..reader.seek(span.end))
    }
}

/// Reads a text forward, counting lines and columns as `sqlparser` does: both from 1, a column for
/// each character, a line for each `\n`.
struct LocationReader<'a> {
    rest: std::str::Chars<'a>,
    byte: usize,
    at: Location,
}

impl<'a> LocationReader<'a> {
    fn new(text: &'a str, byte: usize, at: Location) -> Self {
        Self {
            rest: text.chars(),
            byte,
            at,
        }
    }

    /// The byte at which `location` begins, or the current byte if the reader is past it.
    fn seek(&mut self, location: Location) -> usize {
        while (self.at.line, self.at.column) < (location.line, location.column) {
            let Some(c) = self.rest.next() else { break };
            self.byte += c.len_utf8();
            if c == '\n' {
                self.at = Location {
                    line: self.at.line + 1,
                    column: 1,
                };
            } else {
                self.at.column += 1;
            }
        }
        self.byte
    }
}
