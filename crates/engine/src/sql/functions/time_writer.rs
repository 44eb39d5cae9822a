//! Writes timestamps, dates and intervals by a pattern, as PostgreSQL's `to_char` does.

use headwater_connect::calendar::{
    DAY_SECONDS, civil_from_days, days_from_civil, iso_year, weekday,
};

use super::time_pattern::{LetterCase, TimeField as F, TimePattern, TimePiece, TimeTemplate};
use crate::sql::{Result, SqlError, sqlstate};

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(super) const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
pub(super) const ROMAN_MONTHS: [&str; 12] = [
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII",
];
/// The longest name of a month or a day, to which the others are padded.
const NAME_WIDTH: usize = 9;
const ROMAN_WIDTH: usize = 4;
/// The Julian day of 1970-01-01.
pub(super) const JULIAN_EPOCH: i64 = 2_440_588;

pub(super) const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = DAY_SECONDS * SECOND_US;

/// A time in the parts that templates name. Parts of an interval may be negative.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeParts {
    /// Days since 1970-01-01; for an interval, its days if a month has 30.
    days: i64,
    year: i64,
    month: i64,
    day: i64,
    /// Seconds that have passed since midnight.
    seconds: i64,
    micros: i64,
    /// Whether the value has a time zone, which is UTC.
    zoned: bool,
}

impl TimeParts {
    pub fn of_timestamp(us: i64, zoned: bool) -> Self {
        let of_day = us.rem_euclid(DAY_US);
        Self {
            seconds: of_day / SECOND_US,
            micros: of_day % SECOND_US,
            zoned,
            ..Self::of_days(us.div_euclid(DAY_US))
        }
    }

    /// Midnight of a day.
    pub fn of_days(days: i64) -> Self {
        let (year, month, day) = civil_from_days(days);
        Self {
            days,
            year,
            month,
            day,
            seconds: 0,
            micros: 0,
            zoned: false,
        }
    }

    pub fn of_interval(months: i64, days: i64, us: i64) -> Self {
        Self {
            days: months * 30 + days,
            year: months / 12,
            month: months % 12,
            day: days,
            seconds: us / SECOND_US,
            micros: us % SECOND_US,
            zoned: false,
        }
    }

    fn hour(&self) -> i64 {
        self.seconds / 3600
    }

    fn day_of_year(&self) -> i64 {
        self.days - days_from_civil(self.year, 1, 1) + 1
    }

    fn iso_day_of_year(&self) -> i64 {
        self.days - iso_year(self.days).1 + 1
    }

    /// The year as it is written: 1 BC is 1.
    fn written_year(year: i64) -> i64 {
        if year <= 0 { 1 - year } else { year }
    }
}

impl TimePattern {
    /// Reads a pattern by which intervals are written.
    pub fn of_interval(pattern: &str) -> Result<Self> {
        let read = Self::new(pattern)?;
        let is_foreign = |template: &&TimeTemplate| !has_interval(template.field);
        if let Some(template) = read.templates().find(is_foreign) {
            let message = format!("an interval has nothing for the template {}", template.name);
            return Err(SqlError::new(sqlstate::INVALID_DATETIME_FORMAT, message)
                .hint("An interval has years, months, days and a time, but no calendar date."));
        }
        Ok(read)
    }

    /// Appends the value to `out`.
    pub fn write(&self, time: &TimeParts, out: &mut String) {
        self.write_with(time, false, out);
    }

    /// Appends the interval to `out`.
    pub fn write_interval(&self, time: &TimeParts, out: &mut String) {
        self.write_with(time, true, out);
    }

    fn write_with(&self, time: &TimeParts, interval: bool, out: &mut String) {
        for piece in &self.pieces {
            match piece {
                TimePiece::Separator(text) | TimePiece::Text(text) => out.push(*text),
                TimePiece::Template(template) if interval => template.write_interval(time, out),
                TimePiece::Template(template) => template.write(time, out),
            }
        }
    }
}

fn has_interval(field: F) -> bool {
    let of_date = matches!(
        field,
        F::Year(_) | F::YearWithComma | F::Month | F::Day | F::DayOfYear | F::Exact
    );
    of_date || field.is_time_of_day()
}

impl TimeTemplate {
    fn write_interval(&self, time: &TimeParts, out: &mut String) {
        match self.field {
            F::Year(digits) => self.year(time.year, digits, out),
            F::YearWithComma => self.year_with_comma(time.year, out),
            F::DayOfYear => self.fixed(time.days, 3, out),
            _ => self.write(time, out),
        }
    }

    fn write(&self, time: &TimeParts, out: &mut String) {
        match self.field {
            F::Exact => {}
            F::Era { dots } => {
                let era = match (time.year <= 0, dots) {
                    (true, false) => "BC",
                    (true, true) => "B.C.",
                    (false, false) => "AD",
                    (false, true) => "A.D.",
                };
                self.letters(era, out);
            }
            F::Century => {
                let century = match time.year {
                    1.. => (time.year - 1) / 100 + 1,
                    _ => time.year / 100 - 1,
                };
                self.number(century, if century.abs() > 99 { 0 } else { 2 }, out);
            }
            F::YearWithComma => self.year_with_comma(TimeParts::written_year(time.year), out),
            F::Year(digits) => self.year(TimeParts::written_year(time.year), digits, out),
            F::IsoYear(digits) => {
                let year = iso_year(time.days).0;
                self.year(TimeParts::written_year(year), digits, out);
            }
            F::MonthName => self.name(MONTHS[time.month as usize - 1], out),
            F::MonthShort => self.letters(&MONTHS[time.month as usize - 1][..3], out),
            F::RomanMonth => {
                let width = if self.fill { 0 } else { ROMAN_WIDTH };
                self.word(ROMAN_MONTHS[time.month as usize - 1], width, out);
            }
            F::DayName => self.name(DAYS[sunday_first(time.days)], out),
            F::DayShort => self.letters(&DAYS[sunday_first(time.days)][..3], out),
            F::Month => self.number(time.month, 2, out),
            F::Day => self.fixed(time.day, 2, out),
            F::DayOfYear => self.fixed(time.day_of_year(), 3, out),
            F::IsoDayOfYear => self.fixed(time.iso_day_of_year(), 3, out),
            F::DayOfWeek => self.fixed(sunday_first(time.days) as i64 + 1, 0, out),
            F::IsoDayOfWeek => self.fixed(weekday(time.days) + 1, 0, out),
            F::WeekOfMonth => self.fixed((time.day - 1) / 7 + 1, 0, out),
            F::WeekOfYear => self.fixed((time.day_of_year() - 1) / 7 + 1, 2, out),
            F::IsoWeek => self.fixed((time.iso_day_of_year() - 1) / 7 + 1, 2, out),
            F::Quarter => self.fixed((time.month - 1) / 3 + 1, 0, out),
            F::JulianDay => self.fixed(time.days + JULIAN_EPOCH, 0, out),
            _ => self.write_time(time, out),
        }
    }

    fn write_time(&self, time: &TimeParts, out: &mut String) {
        match self.field {
            F::Meridiem { dots } => {
                let meridiem = match (time.hour() % 24 >= 12, dots) {
                    (true, false) => "PM",
                    (true, true) => "P.M.",
                    (false, false) => "AM",
                    (false, true) => "A.M.",
                };
                self.letters(meridiem, out);
            }
            F::Hour12 => {
                let hour = time.hour() % 12;
                let digits = if time.hour() < 0 { 3 } else { 2 };
                self.fixed(if hour == 0 { 12 } else { hour }, digits, out);
            }
            F::Hour24 => self.number(time.hour(), 2, out),
            F::Minute => self.number(time.seconds / 60 % 60, 2, out),
            F::Second => self.number(time.seconds % 60, 2, out),
            F::Milliseconds => self.fraction(time.micros, 3, out),
            F::Microseconds => self.fraction(time.micros, 6, out),
            F::Fraction(digits) => self.fraction(time.micros, digits, out),
            F::SecondOfDay => self.fixed(time.seconds, 0, out),
            F::Zone if time.zoned => self.letters("UTC", out),
            F::ZoneHours | F::ZoneOffset => out.push_str(match self.field {
                F::ZoneOffset if self.fill => "+0",
                _ => "+00",
            }),
            F::ZoneMinutes => out.push_str("00"),
            _ => {}
        }
    }

    /// Padded with zeros to this many digits, unless `FM` is given.
    fn number(&self, value: i64, digits: usize, out: &mut String) {
        self.fixed(value, digits + usize::from(value < 0), out);
    }

    /// Padded with zeros to this many characters, the sign included, unless `FM` is given.
    fn fixed(&self, value: i64, width: usize, out: &mut String) {
        self.padded(value, if self.fill { 0 } else { width }, out);
    }

    fn fraction(&self, micros: i64, digits: usize, out: &mut String) {
        self.padded(micros / 10_i64.pow(6 - digits as u32), digits, out);
    }

    fn padded(&self, value: i64, width: usize, out: &mut String) {
        let start = out.len();
        push_padded(value, width, out);
        self.ordinal(start, out);
    }

    fn year(&self, year: i64, digits: usize, out: &mut String) {
        match digits {
            4 => self.number(year, 4, out),
            1 => self.fixed(year % 10, 1, out),
            _ => {
                let width = digits + usize::from(year < 0);
                self.fixed(year % 10_i64.pow(digits as u32), width, out);
            }
        }
    }

    fn year_with_comma(&self, year: i64, out: &mut String) {
        let start = out.len();
        push_padded(year / 1000, 0, out);
        out.push(',');
        push_padded(year % 1000, 3, out);
        self.ordinal(start, out);
    }

    /// Appends the suffix of the number that begins at `start`, if there is to be one.
    fn ordinal(&self, start: usize, out: &mut String) {
        if let Some(case) = self.ordinal {
            let suffix = ordinal(&out[start..]);
            in_case(suffix, case, out);
        }
    }

    /// The name of a month or a day, padded with blanks unless `FM` or `TM` is given.
    fn name(&self, name: &str, out: &mut String) {
        let bare = self.fill || self.localized;
        self.word(name, if bare { 0 } else { NAME_WIDTH }, out);
    }

    fn word(&self, word: &str, width: usize, out: &mut String) {
        self.letters(word, out);
        (word.len()..width).for_each(|_| out.push(' '));
    }

    fn letters(&self, text: &str, out: &mut String) {
        in_case(text, self.case, out);
    }
}

fn sunday_first(days: i64) -> usize {
    (weekday(days) as usize + 1) % 7
}

/// The English suffix of a number: `st`, `nd`, `rd` or `th`.
pub(super) fn ordinal(number: &str) -> &'static str {
    let mut digits = number.bytes().rev();
    let (last, before) = (digits.next(), digits.next());
    match last {
        _ if before == Some(b'1') => "th",
        Some(b'1') => "st",
        Some(b'2') => "nd",
        Some(b'3') => "rd",
        _ => "th",
    }
}

pub(super) fn in_case(text: &str, case: LetterCase, out: &mut String) {
    match case {
        LetterCase::Title => out.push_str(text),
        LetterCase::Upper => out.extend(text.chars().map(|c| c.to_ascii_uppercase())),
        LetterCase::Lower => out.extend(text.chars().map(|c| c.to_ascii_lowercase())),
    }
}

/// Appends a number, with zeros behind its sign until it has `width` characters.
fn push_padded(value: i64, width: usize, out: &mut String) {
    let mut digits = [b'0'; 20];
    let (mut left, mut at) = (value.unsigned_abs(), digits.len());
    while left > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    let sign = usize::from(value < 0);
    if sign == 1 {
        out.push('-');
    }
    at = at.min(digits.len() - width.saturating_sub(sign).min(digits.len()));
    out.extend(digits[at..].iter().map(|digit| char::from(*digit)));
}
