//! PostgreSQL's patterns for numbers, such as `9,999.99`, read into pieces.
//!
//! The locale is C: `D` is a point, `G` a comma, `L` a blank.

use super::time_pattern::{LetterCase, quoted_text};
use crate::sql::{Result, SqlError, sqlstate};

/// Longest pattern: far longer than any number.
const PATTERN_BYTES_MAX: usize = 1_024;

/// What a template of a number writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum NumberPiece {
    /// `9` or `0`: a digit, a blank before the number, or its sign.
    Digit {
        zero: bool,
    },
    Point,
    Comma,
    Currency,
    /// `MI`: a minus or a blank.
    Minus,
    /// `PL`: a plus or a blank.
    Plus,
    /// `SG`: a plus or a minus.
    Sign,
    Ordinal(LetterCase),
    Roman(LetterCase),
    Text(char),
}

/// What only says how the others are written.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Modifier {
    Blank,
    Fill,
    Signed,
    Bracket,
    Shift,
    Scientific,
    Spelt,
}

#[derive(Clone, Copy)]
enum NumberTemplate {
    Piece(NumberPiece),
    Modifier(Modifier),
}

use LetterCase::{Lower, Upper};
use NumberTemplate::{Modifier as Says, Piece as Writes};

/// The templates in capitals; small letters mean the same but where they are listed.
const TEMPLATES: &[(&str, NumberTemplate)] = &[
    ("9", Writes(NumberPiece::Digit { zero: false })),
    ("0", Writes(NumberPiece::Digit { zero: true })),
    (".", Writes(NumberPiece::Point)),
    ("D", Writes(NumberPiece::Point)),
    (",", Writes(NumberPiece::Comma)),
    ("G", Writes(NumberPiece::Comma)),
    ("L", Writes(NumberPiece::Currency)),
    ("MI", Writes(NumberPiece::Minus)),
    ("PL", Writes(NumberPiece::Plus)),
    ("SG", Writes(NumberPiece::Sign)),
    ("th", Writes(NumberPiece::Ordinal(Lower))),
    ("TH", Writes(NumberPiece::Ordinal(Upper))),
    ("rn", Writes(NumberPiece::Roman(Lower))),
    ("RN", Writes(NumberPiece::Roman(Upper))),
    ("B", Says(Modifier::Blank)),
    ("FM", Says(Modifier::Fill)),
    ("S", Says(Modifier::Signed)),
    ("PR", Says(Modifier::Bracket)),
    ("V", Says(Modifier::Shift)),
    ("SP", Says(Modifier::Spelt)),
    ("EEEE", Says(Modifier::Scientific)),
];

/// Where the sign of `S` is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum SignPlace {
    /// Before the number, after this many digits of the pattern.
    Before(usize),
    Behind,
}

/// A pattern for numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct NumberPattern {
    pub pieces: Vec<NumberPiece>,
    /// Digits before the point.
    pub whole: usize,
    /// Digits behind the point.
    pub fraction: usize,
    pub point: bool,
    /// Digits from the first `0` before the point on, counted from 0.
    pub first_zero: Option<usize>,
    /// Digits up to the last `0`.
    pub last_zero: usize,
    /// Whether `FM` takes the padding away.
    pub fill: bool,
    pub sign: Option<SignPlace>,
    pub minus: bool,
    pub plus: bool,
    /// `PR`: a negative number in angle brackets.
    pub bracket: bool,
    pub roman: bool,
    /// Digits behind `V`: the number is multiplied by as many tens.
    pub shift: Option<usize>,
    pub scientific: bool,
    blank: bool,
}

impl NumberPattern {
    /// Reads a pattern by which numbers are written.
    pub fn new(pattern: &str) -> Result<Self> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(refused(&format!("more than {PATTERN_BYTES_MAX} bytes")));
        }
        let mut read = Self::default();
        let mut rest = pattern;
        while !rest.is_empty() {
            rest = match template(rest) {
                Some((name, template)) => {
                    if read.scientific && !matches!(template, Says(Modifier::Scientific)) {
                        return Err(refused("EEEE must be the last template"));
                    }
                    match template {
                        Writes(piece) => read.piece(piece)?,
                        Says(modifier) => read.modify(modifier)?,
                    }
                    &rest[name.len()..]
                }
                None => read.literal(pattern, rest)?,
            };
        }
        read.agrees().map(|()| read)
    }

    /// Refuses templates that PostgreSQL takes and then writes nonsense for.
    fn agrees(&self) -> Result<()> {
        let has_digits = self.whole + self.fraction + self.shift.unwrap_or(0) > 0;
        let has_sign = self.sign.is_some() || self.minus || self.plus || self.bracket;
        let has_ordinal = self
            .pieces
            .iter()
            .any(|piece| matches!(piece, NumberPiece::Ordinal(_)));
        if self.roman && (has_digits || has_sign || has_ordinal || self.point || self.scientific) {
            return Err(refused("RN goes with FM and text only"));
        }
        if has_ordinal && !has_digits {
            return Err(refused("TH needs a digit"));
        }
        Ok(())
    }

    fn piece(&mut self, piece: NumberPiece) -> Result<()> {
        match piece {
            NumberPiece::Digit { .. } if self.bracket => {
                return Err(refused("a digit must be before PR"));
            }
            NumberPiece::Digit { zero } => self.digit(zero),
            NumberPiece::Point if self.point => return Err(refused("a second decimal point")),
            NumberPiece::Point if self.shift.is_some() => {
                return Err(refused("V and a decimal point exclude each other"));
            }
            NumberPiece::Point => self.point = true,
            NumberPiece::Minus | NumberPiece::Plus | NumberPiece::Sign if self.sign.is_some() => {
                return Err(refused("S excludes MI, PL and SG"));
            }
            NumberPiece::Minus => self.minus = true,
            NumberPiece::Plus => self.plus = true,
            NumberPiece::Sign => (self.minus, self.plus) = (true, true),
            NumberPiece::Roman(_) => self.roman = true,
            NumberPiece::Comma
            | NumberPiece::Currency
            | NumberPiece::Ordinal(_)
            | NumberPiece::Text(_) => {}
        }
        self.pieces.push(piece);
        Ok(())
    }

    fn digit(&mut self, zero: bool) {
        if zero && !self.point && self.first_zero.is_none() {
            self.first_zero = Some(self.whole);
        }
        match (&mut self.shift, self.point) {
            (Some(shift), _) if !zero => *shift += 1,
            (_, true) => self.fraction += 1,
            (_, false) => self.whole += 1,
        }
        if zero {
            self.last_zero = self.whole + self.fraction;
        }
    }

    fn modify(&mut self, modifier: Modifier) -> Result<()> {
        match modifier {
            Modifier::Blank => {
                self.blank |= self.whole == 0 && self.fraction == 0 && self.first_zero.is_none();
            }
            Modifier::Fill => self.fill = true,
            Modifier::Signed => return self.signed(),
            Modifier::Bracket if self.sign.is_some() || self.minus || self.plus => {
                return Err(refused("PR excludes S, MI, PL and SG"));
            }
            Modifier::Bracket => self.bracket = true,
            Modifier::Shift if self.point => {
                return Err(refused("V and a decimal point exclude each other"));
            }
            Modifier::Shift => self.shift = self.shift.or(Some(0)),
            Modifier::Spelt => {
                return Err(SqlError::not_built("the template SP in a pattern")
                    .hint("Leave it out: numbers are not spelt as words."));
            }
            Modifier::Scientific => {
                let alone = !(self.blank
                    || self.fill
                    || self.sign.is_some()
                    || self.bracket
                    || self.minus
                    || self.plus
                    || self.roman
                    || self.shift.is_some()
                    || self.scientific);
                if !alone {
                    return Err(refused("EEEE goes with digits and a decimal point only"));
                }
                self.scientific = true;
            }
        }
        Ok(())
    }

    fn signed(&mut self) -> Result<()> {
        if self.sign.is_some() {
            return Err(refused("a second S"));
        }
        if self.plus || self.minus || self.bracket {
            return Err(refused("S excludes MI, PL, SG and PR"));
        }
        self.sign = Some(match self.point {
            false => SignPlace::Before(self.whole),
            true => SignPlace::Behind,
        });
        Ok(())
    }

    /// Takes the character or the quoted text at the start of `text`; returns what follows it.
    fn literal<'a>(&mut self, pattern: &str, text: &'a str) -> Result<&'a str> {
        if let Some(quoted) = text.strip_prefix('"') {
            let pieces = &mut self.pieces;
            return Ok(quoted_text(quoted, |text| {
                pieces.push(NumberPiece::Text(text))
            }));
        }
        let escaped = text.strip_prefix('\\').filter(|rest| rest.starts_with('"'));
        let mut chars = escaped.unwrap_or(text).chars();
        match chars.next() {
            Some(letter) if letter.is_ascii_alphabetic() => {
                let message =
                    format!("'{letter}' in the pattern '{pattern}' belongs to no template");
                return Err(SqlError::new(sqlstate::SYNTAX_ERROR, message).hint(
                    "Patterns are PostgreSQL's, such as '9,990.00'; put text into double quotes: \
                     '990\" EUR\"'.",
                ));
            }
            Some(text) => self.pieces.push(NumberPiece::Text(text)),
            None => {}
        }
        Ok(chars.as_str())
    }
}

/// The longest template at the start of `text`.
fn template(text: &str) -> Option<(&'static str, NumberTemplate)> {
    let found = TEMPLATES.iter().filter(|(name, _)| {
        let start = text.get(..name.len()).unwrap_or_default();
        start == *name || start == name.to_ascii_lowercase()
    });
    found
        .copied()
        .max_by_key(|(name, _)| (name.len(), text.starts_with(name)))
}

fn refused(why: &str) -> SqlError {
    SqlError::new(
        sqlstate::SYNTAX_ERROR,
        format!("in a pattern of numbers: {why}"),
    )
}
