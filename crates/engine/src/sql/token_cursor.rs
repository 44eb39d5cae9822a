//! A cursor over the tokens of one statement.
//!
//! Headwater's own statements are read with the methods here, one word after another. Ordinary SQL
//! inside them (a query, an expression, a data type) is passed to `sqlparser` with
//! [`TokenCursor::parse`], and the cursor moves past what was read. Words are matched without regard
//! to case; a quoted word is never a keyword.

use std::ops::Range;

use datafusion::sql::sqlparser::ast::{Query, SelectItem, SetExpr};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::dialect::LimitedDialect;
use super::error::{Result, SqlError};
use super::parser_error;
use super::script::Lexeme;
use super::statement::{Name, PAYLOAD, SqlQuery};
use super::suggest::did_you_mean;

/// Recursion limit of `sqlparser`, levels; each parenthesis takes one or two.
const RECURSION_MAX: usize = 80;

/// Reads the tokens of one statement, or of a part of one.
#[derive(Clone)]
pub(super) struct TokenCursor<'a> {
    /// The script that positions count in.
    pub script: &'a str,
    /// All tokens of the statement, beyond `limit` too.
    tokens: &'a [Lexeme],
    /// The index of the next token; at most `limit`.
    next: usize,
    /// The end of this part of the statement, exclusive; at most `tokens.len()`.
    limit: usize,
}

impl<'a> TokenCursor<'a> {
    pub fn new(script: &'a str, tokens: &'a [Lexeme]) -> Self {
        Self {
            script,
            tokens,
            next: 0,
            limit: tokens.len(),
        }
    }

    /// The next token; none at the end.
    pub fn peek(&self) -> Option<&'a Token> {
        self.peek_nth(0)
    }

    /// The `n`-th token from here, from 0.
    pub fn peek_nth(&self, n: usize) -> Option<&'a Token> {
        self.tokens[..self.limit]
            .get(self.next + n)
            .map(|lexeme| &lexeme.token.token)
    }

    /// The next token if it is a word without quotes.
    pub fn peek_word(&self) -> Option<&'a str> {
        self.peek().and_then(unquoted)
    }

    /// The bytes of the next token, or of the one after this part; an empty range at the end of the
    /// statement.
    pub fn here(&self) -> Range<usize> {
        match self.tokens.get(self.next) {
            Some(lexeme) => lexeme.range.clone(),
            None => self.last_byte()..self.last_byte(),
        }
    }

    fn last_byte(&self) -> usize {
        self.tokens
            .last()
            .map_or(self.script.len(), |last| last.range.end)
    }

    /// The bytes of the token that was read last.
    pub fn last(&self) -> Range<usize> {
        let last = self
            .next
            .checked_sub(1)
            .and_then(|index| self.tokens.get(index));
        last.map_or_else(|| self.here(), |lexeme| lexeme.range.clone())
    }

    /// The bytes from here to the end of the last token of this part.
    pub fn rest(&self) -> Range<usize> {
        let start = self.here().start;
        let last = self
            .limit
            .checked_sub(1)
            .and_then(|index| self.tokens.get(index));
        start..last.map_or(start, |last| last.range.end.max(start))
    }

    pub fn at_end(&self) -> bool {
        self.next >= self.limit
    }

    /// Skips the next token.
    pub fn advance(&mut self) {
        self.next = (self.next + 1).min(self.limit);
    }

    /// Whether these words come next.
    pub fn sees(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(n, word)| {
            let next = self.peek_nth(n).and_then(unquoted);
            next.is_some_and(|next| next.eq_ignore_ascii_case(word))
        })
    }

    /// Skips these words if they come next.
    pub fn eat(&mut self, words: &[&str]) -> bool {
        let seen = self.sees(words);
        if seen {
            self.next += words.len();
        }
        seen
    }

    /// Skips this token if it comes next.
    pub fn eat_token(&mut self, token: &Token) -> bool {
        let seen = self.peek() == Some(token);
        if seen {
            self.next += 1;
        }
        seen
    }

    /// Skips this word, which must come next.
    pub fn expect(&mut self, word: &str) -> Result<()> {
        if self.eat(&[word]) {
            Ok(())
        } else {
            Err(self.unexpected(word, &[word]))
        }
    }

    /// Skips this token, which must come next.
    pub fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.eat_token(token) {
            return Ok(());
        }
        Err(self.unexpected(&token.to_string(), &[]))
    }

    /// Skips one of these words, which must come next, and returns its index.
    pub fn expect_one_of(&mut self, words: &[&str]) -> Result<usize> {
        match words.iter().position(|word| self.eat(&[word])) {
            Some(index) => Ok(index),
            None => Err(self.unexpected(&list(words), words)),
        }
    }

    /// Fails unless all tokens of this part have been read.
    pub fn expect_end(&self) -> Result<()> {
        if self.at_end() {
            Ok(())
        } else {
            Err(self.unexpected("the end of the statement", &[]))
        }
    }

    /// The error that the next token is not `expected`; the hint suggests the nearest of `words`.
    pub fn unexpected(&self, expected: &str, words: &[&str]) -> SqlError {
        let hint = self.peek_word().and_then(|word| did_you_mean(word, words));
        let message = format!("expected {expected}, found {}", self.found());
        SqlError::syntax(message).maybe_hint(hint).at(self.here())
    }

    /// The next token as a message shows it.
    fn found(&self) -> String {
        const SHOWN_MAX: usize = 40;
        if self.next >= self.tokens.len() {
            return "the end of the statement".into();
        }
        let written = self.script.get(self.here()).unwrap_or_default();
        let mut shown: String = written.chars().take(SHOWN_MAX).map(one_line).collect();
        if shown.len() < written.len() {
            shown.push('…');
        }
        shown
    }

    /// A name: a word, or anything in double quotes.
    pub fn name(&mut self, of_what: &str) -> Result<Name> {
        let Some(Token::Word(word)) = self.peek() else {
            return Err(self.unexpected(&format!("the name of {of_what}"), &[]));
        };
        let span = self.here();
        if word.value.is_empty() {
            return Err(SqlError::syntax(format!("the name of {of_what} is empty")).at(span));
        }
        if word.quote_style.is_none() && word.value.starts_with(['@', '#']) {
            return Err(self.unexpected(&format!("the name of {of_what}"), &[]));
        }
        self.advance();
        Ok(Name {
            value: word.value.clone(),
            quoted: word.quote_style.is_some(),
            span,
        })
    }

    /// A name with dots in it, as of a table in a schema: `system.gaps`.
    pub fn dotted_name(&mut self, of_what: &str) -> Result<Name> {
        let mut name = self.name(of_what)?;
        while self.eat_token(&Token::Period) {
            let part = self.name(of_what)?;
            name.value = format!("{}.{}", name.value, part.value);
            name.quoted |= part.quoted;
            name.span.end = part.span.end;
        }
        Ok(name)
    }

    /// `[IF NOT EXISTS] name`: whether an existing object is left as it is, and the name.
    pub fn new_name(&mut self, of_what: &str) -> Result<(bool, Name)> {
        let if_not_exists = self.eat(&["IF", "NOT"]);
        if if_not_exists {
            self.expect("EXISTS")?;
        }
        let name = self.name(of_what)?;
        if self.peek() == Some(&Token::Period) {
            return Err(SqlError::not_built("a schema in a name")
                .hint("Names are flat; put a name with a dot in it in double quotes.")
                .at(name.span.start..self.here().end));
        }
        Ok((if_not_exists, name))
    }

    /// Passes the rest of this part to `sqlparser` and skips what it read.
    pub fn parse<T>(
        &mut self,
        read: impl FnOnce(&mut Parser) -> Result<T, ParserError>,
    ) -> Result<T> {
        let part = &self.tokens[self.next..self.limit];
        let tokens: Vec<TokenWithSpan> = part.iter().map(|lexeme| lexeme.token.clone()).collect();
        let dialect = LimitedDialect::for_tokens(tokens.len());
        let mut parser = Parser::new(&dialect)
            .with_recursion_limit(RECURSION_MAX)
            .with_tokens_with_locations(tokens);
        let read = read(&mut parser).map_err(|error| {
            let after = Self {
                next: self.limit,
                ..self.clone()
            };
            parser_error::explain(error, part, after.here(), &after.found())
        })?;
        self.next = (self.next + parser.get_current_index() + 1).min(self.limit);
        Ok(read)
    }

    /// The query that takes up the rest of this part.
    pub fn query(&mut self) -> Result<SqlQuery> {
        self.rest_as("a", "query", |parser| parser.parse_query())
    }

    /// The expression that takes up the rest of this part, as a query over [`PAYLOAD`].
    pub fn expression(&mut self) -> Result<SqlQuery> {
        self.rest_as("an", "expression", |parser| {
            let expr = parser.parse_expr()?;
            let select = format!("SELECT NULL FROM {PAYLOAD}");
            let mut query = Parser::new(&GenericDialect)
                .try_with_sql(&select)?
                .parse_query()?;
            if let SetExpr::Select(select) = query.body.as_mut() {
                select.projection = vec![SelectItem::UnnamedExpr(expr)];
            }
            Ok(query)
        })
    }

    /// Reads the rest of this part; `what`, with this article, is expected there.
    fn rest_as(
        &mut self,
        article: &str,
        what: &str,
        read: impl FnOnce(&mut Parser) -> Result<Box<Query>, ParserError>,
    ) -> Result<SqlQuery> {
        let span = self.rest();
        if self.at_end() {
            return Err(self.unexpected(&format!("{article} {what}"), &[]));
        }
        let origin = self.tokens[self.next].token.span.start;
        let ast = self.parse(|parser| {
            let query = read(parser)?;
            match parser.peek_token_ref() {
                end if end.token == Token::EOF => Ok(query),
                other => parser.expected_ref(&format!("the end of the {what}"), other),
            }
        })?;
        self.next = self.limit;
        let text = self.script.get(span.clone()).unwrap_or_default().to_owned();
        Ok(SqlQuery {
            ast,
            text,
            span,
            origin,
        })
    }

    /// The tokens between the parenthesis that comes next and the one that closes it, both skipped.
    pub fn parenthesized(&mut self) -> Result<Self> {
        let open = self.here();
        self.expect_token(&Token::LParen)?;
        let mut depth = 1_usize;
        for index in self.next..self.limit {
            match self.tokens[index].token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                let inner = Self {
                    limit: index,
                    ..self.clone()
                };
                self.next = index + 1;
                return Ok(inner);
            }
        }
        Err(SqlError::syntax("parenthesis is never closed").at(open))
    }

    /// The parts between the commas that are outside of brackets of any kind. One empty part when
    /// nothing is left.
    pub fn comma_separated(&self) -> Vec<Self> {
        let mut parts = vec![self.clone()];
        let mut depth = 0_isize;
        for index in self.next..self.limit {
            depth += match self.tokens[index].token.token {
                Token::LParen | Token::LBracket | Token::LBrace | Token::Lt => 1,
                Token::RParen | Token::RBracket | Token::RBrace | Token::Gt => -1,
                Token::ShiftRight => -2,
                _ => 0,
            };
            if depth <= 0 && self.tokens[index].token.token == Token::Comma {
                if let Some(part) = parts.last_mut() {
                    part.limit = index;
                }
                parts.push(Self {
                    next: index + 1,
                    ..self.clone()
                });
            }
        }
        parts
    }

    /// Removes the last `count` tokens from this part and returns them.
    pub fn split_tail(&mut self, count: usize) -> Self {
        let cut = self.limit.saturating_sub(count).max(self.next);
        let tail = Self {
            next: cut,
            ..self.clone()
        };
        self.limit = cut;
        tail
    }

    /// The number of tokens that have not been read.
    pub fn remaining(&self) -> usize {
        self.limit - self.next
    }
}

/// The word, if the token is one without quotes.
pub(super) fn unquoted(token: &Token) -> Option<&str> {
    match token {
        Token::Word(Word {
            value,
            quote_style: None,
            ..
        }) => Some(value),
        _ => None,
    }
}

fn one_line(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

/// `A, B or C`.
pub(super) fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).into(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}
