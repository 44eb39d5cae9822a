//! A text while it is read by the templates of a pattern.

use super::found_time::FoundTime;
use super::time_pattern::{TimeField as F, TimeTemplate, is_blank};
use super::time_writer::{DAYS, MONTHS, ROMAN_MONTHS};
use crate::sql::{Result, SqlError, sqlstate};

/// The text, how far it was read, and what was found.
#[derive(Default)]
pub(super) struct TimeScan<'a> {
    text: &'a str,
    at: usize,
    /// Whether `FX` was passed.
    pub exact: bool,
    /// Blanks and marks that were skipped beyond those of the pattern.
    pub skipped: i64,
    /// Whether the value that is next takes all digits there are.
    pub open_ended: bool,
    pub found: FoundTime,
}

impl<'a> TimeScan<'a> {
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            ..Self::default()
        }
    }

    pub fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn first(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub fn skip_blanks(&mut self) {
        if !self.exact {
            let blanks = blanks(self.rest());
            self.at += blanks;
            self.skipped += blanks as i64;
        }
    }

    fn skip_char(&mut self) {
        self.at += self.first().map_or(0, char::len_utf8);
    }

    pub fn separator(&mut self) {
        if self.exact {
            return self.skip_char();
        }
        self.skipped -= 1;
        let is_separator = |c: char| c.is_ascii_punctuation() || is_blank(c);
        if self.first().is_some_and(is_separator) {
            self.at += 1;
            self.skipped += 1;
        }
    }

    pub fn text(&mut self) {
        if !self.exact && self.skipped > 0 {
            // It may already be part of a value.
            self.skipped -= 1;
        } else {
            self.skip_char();
        }
    }

    pub fn template(&mut self, template: &TimeTemplate) -> Result<()> {
        match template.field {
            field if field.is_time_of_day() => self.time_template(template),
            F::ZoneHours => self.zone_hours(template),
            F::ZoneMinutes => {
                self.found.zone_sign = if self.found.zone_sign == 0 {
                    1
                } else {
                    self.found.zone_sign
                };
                self.put(template, 2, |found| &mut found.zone_minutes)
            }
            F::Era { dots } => {
                let eras = if dots { ["A.D.", "B.C."] } else { ["AD", "BC"] };
                let found = self.word(template, &eras)?;
                set(&mut self.found.before_christ, found as i64, template)
            }
            F::MonthName | F::MonthShort | F::RomanMonth => self.month_name(template),
            F::DayName | F::DayShort => {
                let short = template.field == F::DayShort;
                let found = self.word(
                    template,
                    &DAYS.map(|day| if short { &day[..3] } else { day }),
                )?;
                // The last name wins, also over a number.
                set(&mut self.found.day_of_week, found as i64, template)?;
                self.found.day_of_week += 1;
                Ok(())
            }
            _ => self.date_template(template),
        }
    }

    fn time_template(&mut self, template: &TimeTemplate) -> Result<()> {
        match template.field {
            F::Meridiem { dots } => {
                let meridiems = if dots { ["A.M.", "P.M."] } else { ["AM", "PM"] };
                let found = self.word(template, &meridiems)?;
                set(&mut self.found.afternoon, found as i64, template)?;
                self.found.half_day = true;
                return Ok(());
            }
            F::Hour12 => {
                self.take(template, 2, |found| &mut found.hour)?;
                self.found.half_day = true;
            }
            F::Hour24 => self.put(template, 2, |found| &mut found.hour)?,
            F::Minute => self.put(template, 2, |found| &mut found.minute)?,
            F::Second => self.put(template, 2, |found| &mut found.second)?,
            F::SecondOfDay => {
                self.take(template, template.name.len(), |scan| {
                    &mut scan.second_of_day
                })?;
            }
            F::Milliseconds => {
                let length = self.take(template, 3, |found| &mut found.millis)?;
                self.found.millis *= 10_i64.pow(3_usize.saturating_sub(length) as u32);
            }
            field => {
                let digits = if let F::Fraction(digits) = field {
                    digits
                } else {
                    6
                };
                if field != F::Microseconds {
                    self.found.fraction_digits = digits;
                }
                let length = self.take(template, digits, |found| &mut found.micros)?;
                self.found.micros *= 10_i64.pow(6_usize.saturating_sub(length) as u32);
            }
        }
        self.skip_ordinal(template);
        Ok(())
    }

    fn date_template(&mut self, template: &TimeTemplate) -> Result<()> {
        let length = template.name.len();
        match template.field {
            F::Century => self.put(template, length, |found| &mut found.century)?,
            F::YearWithComma => self.year_with_comma(template)?,
            F::Year(digits) | F::IsoYear(digits) => self.year(template, digits)?,
            F::Month => self.put(template, length, |found| &mut found.month)?,
            F::Day => self.put(template, length, |found| &mut found.day)?,
            F::DayOfYear => self.put(template, length, |found| &mut found.day_of_year)?,
            F::IsoDayOfYear => self.put(template, 3, |found| &mut found.day_of_year)?,
            F::DayOfWeek => self.put(template, length, |found| &mut found.day_of_week)?,
            F::IsoDayOfWeek => {
                self.take(template, 1, |found| &mut found.day_of_week)?;
                // Monday is 1, here it is 2.
                self.found.day_of_week = if self.found.day_of_week >= 7 {
                    1
                } else {
                    self.found.day_of_week + 1
                };
            }
            F::WeekOfMonth => self.put(template, length, |found| &mut found.week_of_month)?,
            F::WeekOfYear | F::IsoWeek => self.put(template, length, |found| &mut found.week)?,
            F::JulianDay => self.put(template, length, |found| &mut found.julian_day)?,
            // A quarter says nothing that a month does not.
            _ => self.integer(template, length).map(|_| ())?,
        }
        self.found.iso |= matches!(
            template.field,
            F::IsoYear(_) | F::IsoWeek | F::IsoDayOfWeek | F::IsoDayOfYear
        );
        self.skip_ordinal(template);
        Ok(())
    }

    fn month_name(&mut self, template: &TimeTemplate) -> Result<()> {
        let found = match template.field {
            F::MonthShort => self.word(template, &MONTHS.map(|month| &month[..3]))?,
            F::MonthName => self.word(template, &MONTHS)?,
            _ => {
                // From the last: VIII begins with V.
                let mut backwards = ROMAN_MONTHS;
                backwards.reverse();
                11 - self.word(template, &backwards)?
            }
        };
        set(&mut self.found.month, found as i64 + 1, template)
    }

    fn year(&mut self, template: &TimeTemplate, digits: usize) -> Result<()> {
        let length = self.take(template, digits, |found| &mut found.year)?;
        if digits < 4 && length < 4 {
            self.found.year += match self.found.year {
                ..70 => 2000,
                70..100 => 1900,
                100..520 => 2000,
                520..1000 => 1000,
                _ => 0,
            };
        }
        self.found.year_digits = digits;
        Ok(())
    }

    fn year_with_comma(&mut self, template: &TimeTemplate) -> Result<()> {
        let wrong = || {
            let message = format!("{:?} is not a year of the template Y,YYY", self.rest());
            SqlError::new(sqlstate::INVALID_DATETIME_FORMAT, message)
        };
        let (thousands, length) = leading_integer(self.rest());
        let rest = &self.rest()[length..];
        let Some(rest) = rest.strip_prefix(',').filter(|_| length > 0) else {
            return Err(wrong());
        };
        let three = rest.len().min(blanks(rest) + 3);
        let (years, taken) = leading_integer(rest.get(..three).unwrap_or_default());
        let year = thousands.saturating_mul(1000).saturating_add(years);
        if taken == 0 || i32::try_from(year).is_err() {
            return Err(wrong());
        }
        self.at += length + 1 + taken;
        self.found.year_digits = 4;
        set(&mut self.found.year, year, template)
    }

    fn zone_hours(&mut self, template: &TimeTemplate) -> Result<()> {
        match self.first() {
            Some(sign @ ('+' | '-' | ' ')) => {
                self.found.zone_sign = if sign == '-' { -1 } else { 1 };
                self.at += 1;
            }
            _ => {
                // The sign may have been skipped as a mark.
                let minus = self.skipped > 0 && self.text[..self.at].ends_with('-');
                self.found.zone_sign = if minus { -1 } else { 1 };
            }
        }
        self.put(template, 2, |found| &mut found.zone_hours)
    }

    /// Reads an integer into a value; returns how many bytes it took.
    fn take(
        &mut self,
        template: &TimeTemplate,
        width: usize,
        of: impl FnOnce(&mut FoundTime) -> &mut i64,
    ) -> Result<usize> {
        let (value, length) = self.integer(template, width)?;
        set(of(&mut self.found), value, template)?;
        Ok(length)
    }

    fn put(
        &mut self,
        template: &TimeTemplate,
        width: usize,
        of: impl FnOnce(&mut FoundTime) -> &mut i64,
    ) -> Result<()> {
        self.take(template, width, of).map(|_| ())
    }

    /// The integer that is next, and how many bytes it took.
    fn integer(&mut self, template: &TimeTemplate, width: usize) -> Result<(i64, usize)> {
        let start = self.at;
        self.at += blanks(self.rest());
        let rest = self.rest();
        let shown = rest
            .char_indices()
            .nth(width)
            .map_or(rest, |(end, _)| &rest[..end]);
        let invalid = |detail: String| {
            let message = format!("invalid value {shown:?} for {:?}", template.name);
            SqlError::new(sqlstate::INVALID_DATETIME_FORMAT, message).detail(detail)
        };
        let value = if self.open_ended {
            let (value, length) = leading_integer(rest);
            self.at = if length == 0 { start } else { self.at + length };
            value
        } else {
            if rest.len() < width {
                let message = format!("source string too short for {:?}", template.name);
                let detail = format!(
                    "The template takes {width} characters, {} are left.",
                    rest.len()
                );
                return Err(SqlError::new(sqlstate::INVALID_DATETIME_FORMAT, message)
                    .detail(detail)
                    .hint("If the text has no fixed width, use the modifier FM."));
            }
            let (value, length) = leading_integer(fixed(rest, width));
            if length > 0 && length < width {
                let detail =
                    format!("The template takes {width} characters, {length} are a number.");
                return Err(
                    invalid(detail).hint("If the text has no fixed width, use the modifier FM.")
                );
            }
            self.at += length;
            value
        };
        if self.at == start {
            return Err(invalid("It is not an integer.".to_owned()));
        }
        if i32::try_from(value).is_err() {
            let message = format!(
                "value for {:?} in source string is out of range",
                template.name
            );
            return Err(SqlError::new(sqlstate::DATETIME_OVERFLOW, message));
        }
        Ok((value, self.at - start))
    }

    /// Which of the words is next, in any case.
    fn word(&mut self, template: &TimeTemplate, words: &[&str]) -> Result<usize> {
        let rest = self.rest();
        let begins = |word: &&str| {
            let start = rest.as_bytes().get(..word.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
        };
        let Some(found) = words.iter().position(begins) else {
            let end = rest.find(is_blank).unwrap_or(rest.len());
            let message = format!("invalid value {:?} for {:?}", &rest[..end], template.name);
            return Err(SqlError::new(sqlstate::INVALID_DATETIME_FORMAT, message));
        };
        self.at += words[found].len();
        Ok(found)
    }

    /// Skips the two letters of `1st`.
    fn skip_ordinal(&mut self, template: &TimeTemplate) {
        if template.ordinal.is_some() {
            self.skip_char();
            self.skip_char();
        }
    }
}

/// Sets a value that was not found before, or is the same.
fn set(value: &mut i64, found: i64, template: &TimeTemplate) -> Result<()> {
    if *value != 0 && *value != found {
        let message = format!("conflicting values for {:?}", template.name);
        return Err(SqlError::new(sqlstate::INVALID_DATETIME_FORMAT, message)
            .detail("Another template has set the same part of the date or time."));
    }
    *value = found;
    Ok(())
}

fn blanks(text: &str) -> usize {
    let is_blank = |byte: &u8| is_blank(char::from(*byte));
    text.bytes().take_while(|byte| is_blank(byte)).count()
}

/// The first `width` bytes, without half a character at the end.
fn fixed(text: &str, width: usize) -> &str {
    let mut end = width;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The integer at the start, with blanks and a sign before it, and its length in bytes: 0 if there is none.
/// One that does not fit is the nearest that does.
fn leading_integer(text: &str) -> (i64, usize) {
    let bytes = text.as_bytes();
    let mut at = blanks(text);
    let negative = bytes.get(at) == Some(&b'-');
    at += usize::from(matches!(bytes.get(at), Some(b'-' | b'+')));
    let first = at;
    let mut value: i64 = 0;
    while let Some(digit) = bytes.get(at).filter(|byte| byte.is_ascii_digit()) {
        value = value
            .saturating_mul(10)
            .saturating_add(i64::from(digit - b'0'));
        at += 1;
    }
    match at > first {
        true => (if negative { -value } else { value }, at),
        false => (0, 0),
    }
}
