//! A place in the tokens of one statement, moving forward.
//!
//! The statements that are ours are read with the methods here, one word after another. Whatever
//! is ordinary SQL inside them (a query, an expression, a data type) is handed to `sqlparser` with
//! [`Cursor::parse`] and the cursor moves behind what was read. Words are matched without regard
//! to case; a quoted word is never a keyword.

use std::ops::Range;

use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::dialect::Limited;
use super::error::{Result, SqlError};
use super::parser_error;
use super::script::Lexeme;
use super::statement::{Name, SqlQuery};
use super::suggest::did_you_mean;

/// How deep `sqlparser` may descend; each parenthesis takes it one or two levels down.
const RECURSION_MAX: usize = 80;

/// Reads the tokens of one statement, or of a part of one.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    /// The whole script.
    pub script: &'a str,
    /// The whole statement.
    tokens: &'a [Lexeme],
    /// The next token; at most `limit`.
    next: usize,
    /// Behind the last token of this part of the statement; at most `tokens.len()`.
    limit: usize,
}

impl<'a> Cursor<'a> {
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

    /// The bytes of the next token, or of the one that stands behind this part; an empty range at
    /// the end of the statement.
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

    /// The bytes of the token just taken.
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

    /// Moves behind the next token.
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

    /// Moves behind these words if they come next.
    pub fn eat(&mut self, words: &[&str]) -> bool {
        let seen = self.sees(words);
        if seen {
            self.next += words.len();
        }
        seen
    }

    /// Moves behind this token if it comes next.
    pub fn eat_token(&mut self, token: &Token) -> bool {
        let seen = self.peek() == Some(token);
        if seen {
            self.next += 1;
        }
        seen
    }

    /// Moves behind this word, which must come next.
    pub fn expect(&mut self, word: &str) -> Result<()> {
        if self.eat(&[word]) {
            Ok(())
        } else {
            Err(self.unexpected(word, &[word]))
        }
    }

    /// Moves behind this token, which must come next.
    pub fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.eat_token(token) {
            return Ok(());
        }
        Err(self.unexpected(&token.to_string(), &[]))
    }

    /// Moves behind one of these words, which must come next, and gives its index.
    pub fn expect_one_of(&mut self, words: &[&str]) -> Result<usize> {
        match words.iter().position(|word| self.eat(&[word])) {
            Some(index) => Ok(index),
            None => Err(self.unexpected(&list(words), words)),
        }
    }

    /// Nothing may come any more.
    pub fn expect_end(&self) -> Result<()> {
        if self.at_end() {
            Ok(())
        } else {
            Err(self.unexpected("the end of the statement", &[]))
        }
    }

    /// The error that something else stands here than `expected`. The words that could have stood
    /// here are searched for the one that was meant.
    pub fn unexpected(&self, expected: &str, words: &[&str]) -> SqlError {
        let hint = self.peek_word().and_then(|word| did_you_mean(word, words));
        let message = format!("expected {expected}, found {}", self.found());
        SqlError::syntax(message).maybe_hint(hint).at(self.here())
    }

    /// The next token as it is named in a message.
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

    /// A name: a word that is not in the way of the grammar, or anything in double quotes.
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

    /// Hands what follows to `sqlparser` and moves behind what it read.
    pub fn parse<T>(
        &mut self,
        read: impl FnOnce(&mut Parser) -> Result<T, ParserError>,
    ) -> Result<T> {
        let part = &self.tokens[self.next..self.limit];
        let tokens: Vec<TokenWithSpan> = part.iter().map(|lexeme| lexeme.token.clone()).collect();
        let dialect = Limited::for_tokens(tokens.len());
        let mut parser = Parser::new(&dialect)
            .with_recursion_limit(RECURSION_MAX)
            .with_tokens_with_locations(tokens);
        let read = read(&mut parser).map_err(|error| {
            let behind = Self {
                next: self.limit,
                ..self.clone()
            };
            parser_error::explain(error, part, behind.here(), &behind.found())
        })?;
        self.next = (self.next + parser.get_current_index() + 1).min(self.limit);
        Ok(read)
    }

    /// The query that takes up everything from here to the end.
    pub fn query(&mut self) -> Result<SqlQuery> {
        let span = self.rest();
        if self.at_end() {
            return Err(self.unexpected("a query", &[]));
        }
        let origin = self.tokens[self.next].token.span.start;
        let ast = self.parse(|parser| {
            let query = parser.parse_query()?;
            match parser.peek_token_ref() {
                end if end.token == Token::EOF => Ok(query),
                other => parser.expected_ref("the end of the query", other),
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

    /// Takes what stands between the parenthesis that comes next and the one that closes it, and
    /// moves behind that.
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

    /// The parts between the commas, those inside brackets of any kind not counted. One empty
    /// part when there is nothing.
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

    /// Cuts the last `count` tokens off and gives them.
    pub fn split_tail(&mut self, count: usize) -> Self {
        let cut = self.limit.saturating_sub(count).max(self.next);
        let tail = Self {
            next: cut,
            ..self.clone()
        };
        self.limit = cut;
        tail
    }

    /// How many tokens are left.
    pub fn remaining(&self) -> usize {
        self.limit - self.next
    }
}

/// The word, unless it is quoted or no word.
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
