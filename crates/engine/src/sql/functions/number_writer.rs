//! Writes numbers by a pattern, as PostgreSQL's `to_char` does.
//!
//! ```text
//!   value --digits--> "1234.50" and its sign --pieces--> " 1,234.50"
//! ```
//!
//! The number is first written with as many digits as the pattern has behind the point; then each digit of
//! the pattern writes the next one. A number with too many digits before the point becomes `#`.

use super::number_pattern::{NumberPattern, NumberPiece, SignPlace};
use super::time_pattern::LetterCase;
use super::time_writer::{in_case, ordinal};

/// Characters that a Roman number is padded to.
const ROMAN_WIDTH: usize = 15;
/// Decimal digits that a float holds for certain.
const F32_DIGITS: usize = 6;
const F64_DIGITS: usize = 15;

/// A number as it comes from a column.
#[derive(Debug, Clone, Copy)]
pub(super) enum NumberValue<'a> {
    Int32(i32),
    /// The digits of an integer, with a minus if it is negative, of which `scale` are behind the point.
    Decimal {
        digits: &'a str,
        scale: i32,
    },
    Float32(f32),
    Float64(f64),
}

/// Writes numbers by one pattern; keeps its buffer.
#[derive(Debug)]
pub(super) struct NumberWriter<'a> {
    pattern: &'a NumberPattern,
    /// The number without its sign: digits with a point, `#` for each where they do not fit, or a word.
    text: String,
    negative: bool,
    /// Digits before the point that the pattern has, and behind it.
    whole: usize,
    fraction: usize,
}

impl<'a> NumberWriter<'a> {
    pub fn new(pattern: &'a NumberPattern) -> Self {
        Self {
            pattern,
            text: String::new(),
            negative: false,
            whole: 0,
            fraction: 0,
        }
    }

    /// Appends the number to `out`.
    pub fn write(&mut self, value: NumberValue<'_>, out: &mut String) {
        self.text.clear();
        self.negative = false;
        self.whole = self.pattern.whole + self.pattern.shift.unwrap_or(0);
        self.fraction = self.pattern.fraction;
        if self.pattern.roman {
            self.roman(value);
            return self.pieces(0, out);
        }
        if self.pattern.scientific {
            self.scientific(value);
            return out.push_str(&self.text);
        }
        match value {
            NumberValue::Int32(value) => {
                let mut digits = [0; 12];
                self.decimal(integer_text(value, &mut digits), 0);
            }
            NumberValue::Decimal { digits, scale } => self.decimal(digits, scale),
            NumberValue::Float32(value) => {
                let shift = 10_f32.powi(self.pattern.shift.unwrap_or(0) as i32);
                self.float((value * shift).into(), F32_DIGITS);
            }
            NumberValue::Float64(value) => {
                let shift = 10_f64.powi(self.pattern.shift.unwrap_or(0) as i32);
                self.float(value * shift, F64_DIGITS);
            }
        }
        let whole = self.text.find('.').unwrap_or(self.text.len());
        if whole > self.whole {
            self.text.clear();
            let places = self.whole + 1 + self.fraction;
            self.text
                .extend((0..places).map(|at| if at == self.whole { '.' } else { '#' }));
        }
        self.pieces(self.whole.saturating_sub(whole), out);
    }

    /// The digits of a decimal number, rounded; a half goes away from zero.
    fn decimal(&mut self, digits: &str, scale: i32) {
        let scale = scale - self.pattern.shift.unwrap_or(0) as i32;
        self.negative = digits.starts_with('-');
        let digits = digits.trim_start_matches('-');
        let kept = digits.len() as i32 - scale + self.fraction as i32;
        let rounds_up = round(digits, kept, &mut self.text);
        if kept > digits.len() as i32 {
            self.text.extend((digits.len() as i32..kept).map(|_| '0'));
        }
        if rounds_up {
            increment(&mut self.text);
        }
        let leading = self.text.len() - self.text.trim_start_matches('0').len();
        let needed = self.fraction + 1;
        match self.text.len().checked_sub(needed) {
            Some(more) => drop(self.text.drain(..leading.min(more))),
            None => self
                .text
                .insert_str(0, &"0".repeat(needed - self.text.len())),
        }
        self.negative &= self.text.bytes().any(|digit| digit != b'0');
        if self.fraction > 0 {
            self.text.insert(self.text.len() - self.fraction, '.');
        }
    }

    fn float(&mut self, value: f64, digits: usize) {
        use std::fmt::Write as _;
        self.negative = value.is_sign_negative() && !value.is_nan();
        let value = value.abs();
        if !value.is_finite() {
            self.text
                .push_str(if value.is_nan() { "NaN" } else { "Infinity" });
            self.fraction = self.fraction.min(digits.saturating_sub(self.text.len()));
            return;
        }
        // Writing to a string cannot fail.
        let _ = write!(self.text, "{value:.0}");
        self.fraction = self.fraction.min(digits.saturating_sub(self.text.len()));
        self.text.clear();
        let _ = write!(self.text, "{value:.*}", self.fraction);
    }

    /// `1.5e+03`, with a blank for the sign of a positive number.
    fn scientific(&mut self, value: NumberValue<'_>) {
        let places = self.pattern.fraction;
        match value {
            NumberValue::Int32(value) => self.scientific_float(value.into(), places),
            NumberValue::Float32(value) => self.scientific_float(value.into(), places),
            NumberValue::Float64(value) => self.scientific_float(value, places),
            NumberValue::Decimal { digits, scale } => {
                self.text
                    .push(if digits.starts_with('-') { '-' } else { ' ' });
                let digits = digits.trim_start_matches(['-', '0']);
                let exponent = match digits.len() {
                    0 => 0,
                    length => length as i32 - 1 - scale,
                };
                let mut kept = String::new();
                let up = round(digits, places as i32 + 1, &mut kept);
                kept.extend((kept.len()..places + 1).map(|_| '0'));
                if up {
                    increment(&mut kept);
                }
                if places > 0 {
                    kept.insert(kept.len() - places, '.');
                }
                self.text.push_str(&kept);
                self.exponent(exponent);
            }
        }
    }

    fn scientific_float(&mut self, value: f64, places: usize) {
        if !value.is_finite() {
            // As wide as a number would be.
            let width = self.pattern.whole + places + 6;
            let point = self.pattern.whole + 1;
            self.text.extend((0..width).map(|at| match at {
                0 => ' ',
                at if at == point => '.',
                _ => '#',
            }));
            return;
        }
        self.text
            .push(if value.is_sign_negative() { '-' } else { ' ' });
        let written = format!("{:.*e}", places, value.abs());
        let (digits, exponent) = written.split_once('e').unwrap_or((&written, "0"));
        self.text.push_str(digits);
        self.exponent(exponent.parse().unwrap_or(0));
    }

    fn exponent(&mut self, exponent: i32) {
        self.text.push_str(if exponent < 0 { "e-" } else { "e+" });
        let exponent = exponent.unsigned_abs();
        self.text.push_str(if exponent < 10 { "0" } else { "" });
        self.text.push_str(&exponent.to_string());
    }

    fn roman(&mut self, value: NumberValue<'_>) {
        let number = match value {
            NumberValue::Int32(value) => i64::from(value),
            NumberValue::Float32(value) => f64::from(value).round_ties_even() as i64,
            NumberValue::Float64(value) => value.round_ties_even() as i64,
            NumberValue::Decimal { digits, scale } => {
                let negative = digits.starts_with('-');
                let digits = digits.trim_start_matches('-');
                let mut whole = String::new();
                if round(digits, digits.len() as i32 - scale, &mut whole) {
                    increment(&mut whole);
                }
                let whole = whole
                    .parse()
                    .unwrap_or(if whole.is_empty() { 0 } else { i64::MAX });
                if negative { -whole } else { whole }
            }
        };
        if !(1..=3999).contains(&number) {
            return self.text.extend((0..ROMAN_WIDTH).map(|_| '#'));
        }
        let mut left = number;
        for (worth, numeral) in ROMAN {
            while left >= worth {
                self.text.push_str(numeral);
                left -= worth;
            }
        }
    }

    fn pieces(&self, blanks: usize, out: &mut String) {
        let start = out.len();
        let mut at = NumberPosition::new(self, blanks);
        for piece in &self.pattern.pieces {
            match piece {
                NumberPiece::Digit { zero } => at.place(*zero, out),
                NumberPiece::Point => at.place(false, out),
                NumberPiece::Comma if at.begun => out.push(','),
                NumberPiece::Comma => self.blank(out),
                NumberPiece::Currency => out.push(' '),
                NumberPiece::Minus if self.negative => out.push('-'),
                NumberPiece::Plus if !self.negative => out.push('+'),
                NumberPiece::Minus | NumberPiece::Plus => self.blank(out),
                NumberPiece::Sign => out.push(if self.negative { '-' } else { '+' }),
                NumberPiece::Ordinal(case) => self.ordinal(*case, out),
                NumberPiece::Roman(case) => {
                    if !self.pattern.fill {
                        out.extend((self.text.len()..ROMAN_WIDTH).map(|_| ' '));
                    }
                    in_case(&self.text, *case, out);
                }
                NumberPiece::Text(text) => out.push(*text),
            }
        }
        if let Some(ended) = at.ended {
            out.truncate(ended.max(start));
        }
    }

    fn blank(&self, out: &mut String) {
        if !self.pattern.fill {
            out.push(' ');
        }
    }

    fn ordinal(&self, case: LetterCase, out: &mut String) {
        let is_number = self.text.ends_with(|c: char| c.is_ascii_digit());
        if is_number && !self.negative && !self.pattern.point {
            in_case(ordinal(&self.text), case, out);
        }
    }
}

/// How far the digits of the pattern have come.
struct NumberPosition<'a> {
    number: &'a NumberWriter<'a>,
    text: &'a [u8],
    /// The next character of the number.
    next: usize,
    /// How many digits of the pattern, and its point, were passed.
    place: usize,
    /// Digits of the pattern before the first of the number.
    blanks: usize,
    /// The number of places; the sign behind the number follows the last.
    places: usize,
    /// With `FM`, the last character of the fraction that is written.
    last: Option<usize>,
    sign: Option<SignPlace>,
    bracket: bool,
    signed: bool,
    /// Whether a digit was written last.
    begun: bool,
    /// Where the number had no more digits, although the pattern had: PostgreSQL's text ends there.
    ended: Option<usize>,
}

impl<'a> NumberPosition<'a> {
    fn new(number: &'a NumberWriter<'a>, blanks: usize) -> Self {
        let pattern = number.pattern;
        let text = number.text.as_bytes();
        let bracket = pattern.bracket && (number.negative || !pattern.fill);
        let signed = match pattern.plus || pattern.minus {
            true => pattern.minus,
            false => !number.negative && pattern.fill && pattern.sign.is_none(),
        };
        let sign = match pattern.sign {
            Some(SignPlace::Before(digits))
                if digits == number.whole && !(pattern.plus || pattern.minus) =>
            {
                Some(SignPlace::Behind)
            }
            sign => sign,
        };
        let sign_place = usize::from(!signed && blanks == 0) + usize::from(blanks > 0);
        Self {
            number,
            text,
            next: 0,
            place: 0,
            blanks,
            places: number.whole + number.fraction + sign_place + usize::from(pattern.point),
            last: last_kept(pattern, text, blanks),
            sign,
            bracket,
            signed,
            begun: false,
            ended: None,
        }
    }

    /// Writes what stands at a digit or the point of the pattern.
    fn place(&mut self, zero: bool, out: &mut String) {
        let pattern = self.number.pattern;
        let first_zero = pattern.first_zero.filter(|first| *first <= self.place);
        self.begun = false;
        self.sign_before(first_zero, out);
        if self.place < self.blanks && first_zero.is_none() {
            self.number.blank(out);
        } else if self.place < self.blanks {
            out.push('0');
            self.begun = true;
        } else {
            self.character(zero, out);
        }
        self.place += 1;
        // With FM, the last character that is kept is never the last place.
        if self.last != Some(self.next) && self.place + 1 == self.places {
            self.sign_behind(out);
        }
    }

    /// Whether this is the zero of `0.5`, for which a pattern without a zero has a blank.
    fn is_lone_zero(&self) -> bool {
        let pattern = self.number.pattern;
        let has_zero = pattern.first_zero.is_some();
        !has_zero && self.next == 0 && self.text.first() == Some(&b'0') && self.number.fraction > 0
    }

    fn ends_at_point(&self) -> bool {
        self.last
            .is_some_and(|last| self.text.get(last) == Some(&b'.'))
    }

    fn sign_before(&mut self, first_zero: Option<usize>, out: &mut String) {
        let here = self.place >= self.blanks || first_zero == Some(self.place);
        if self.signed || !here || self.is_lone_zero() && !self.ends_at_point() {
            return;
        }
        let negative = self.number.negative;
        match self.sign {
            Some(SignPlace::Behind) => return,
            Some(SignPlace::Before(_)) => out.push(if negative { '-' } else { '+' }),
            None if self.bracket => out.push(if negative { '<' } else { ' ' }),
            None if negative => out.push('-'),
            None => self.number.blank(out),
        }
        self.signed = true;
    }

    fn character(&mut self, zero: bool, out: &mut String) {
        let fill = self.number.pattern.fill;
        match self.text.get(self.next) {
            Some(b'.') => {
                if fill || !self.ends_at_point() {
                    out.push('.');
                }
            }
            _ if self.last.is_some_and(|last| self.next > last) && !zero => {}
            _ if self.is_lone_zero() => match fill {
                false => out.push(' '),
                true if self.ends_at_point() => out.push('0'),
                true => {}
            },
            Some(digit) => {
                out.push(char::from(*digit));
                self.begun = true;
            }
            None => {
                self.ended = self.ended.or(Some(out.len()));
                self.begun = true;
            }
        }
        self.next = (self.next + 1).min(self.text.len());
    }

    fn sign_behind(&self, out: &mut String) {
        let negative = self.number.negative;
        if self.signed && self.bracket {
            out.push(if negative { '>' } else { ' ' });
        } else if self.sign == Some(SignPlace::Behind) {
            out.push(if negative { '-' } else { '+' });
        }
    }
}

/// With `FM`, the last character that is written of a number with a fraction: zeros at its end are not,
/// but where the pattern has a `0`.
fn last_kept(pattern: &NumberPattern, text: &[u8], blanks: usize) -> Option<usize> {
    let point = text.iter().position(|byte| *byte == b'.');
    let point = point.filter(|_| pattern.fill && pattern.point)?;
    let last = text
        .iter()
        .rposition(|byte| *byte != b'0')
        .unwrap_or(point)
        .max(point);
    if pattern.last_zero > blanks {
        let zero = (pattern.last_zero - blanks).min(text.len() - 1);
        return Some(last.max(zero));
    }
    Some(last)
}

const ROMAN: [(i64, &str); 13] = [
    (1000, "M"),
    (900, "CM"),
    (500, "D"),
    (400, "CD"),
    (100, "C"),
    (90, "XC"),
    (50, "L"),
    (40, "XL"),
    (10, "X"),
    (9, "IX"),
    (5, "V"),
    (4, "IV"),
    (1, "I"),
];

/// Appends the first `kept` digits; whether the rest rounds them up.
fn round(digits: &str, kept: i32, out: &mut String) -> bool {
    let Ok(kept) = usize::try_from(kept) else {
        return false;
    };
    out.push_str(&digits[..kept.min(digits.len())]);
    digits
        .as_bytes()
        .get(kept)
        .is_some_and(|digit| *digit >= b'5')
}

/// Adds one to the last digit.
fn increment(digits: &mut String) {
    let nines = digits.len() - digits.trim_end_matches('9').len();
    digits.truncate(digits.len() - nines);
    let next = match digits.pop() {
        Some(digit) => char::from(digit as u8 + 1),
        None => '1',
    };
    digits.push(next);
    digits.extend((0..nines).map(|_| '0'));
}

/// The digits of an integer, written to the end of `digits`.
fn integer_text(value: i32, digits: &mut [u8; 12]) -> &str {
    let (mut left, mut at) = (value.unsigned_abs(), digits.len());
    while left > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    if value < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    std::str::from_utf8(&digits[at..]).unwrap_or_default()
}
