//! PostgreSQL's patterns for dates and times, such as `YYYY-MM-DD HH24:MI:SS`, read into pieces.
//!
//! PostgreSQL copies letters that belong to no template, and percent signs. Here those letters are refused,
//! and a percent sign before a letter: they are a pattern of another system (`%Y-%m-%d`), or a misspelt
//! template. In double quotes every text is text.

use crate::sql::{Result, SqlError, sqlstate};

/// What a template stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum TimeField {
    Meridiem {
        dots: bool,
    },
    Era {
        dots: bool,
    },
    Hour12,
    Hour24,
    Minute,
    Second,
    Milliseconds,
    Microseconds,
    /// The first digits of the fraction of a second, 1 to 6.
    Fraction(usize),
    SecondOfDay,
    Zone,
    ZoneHours,
    ZoneMinutes,
    ZoneOffset,
    Century,
    YearWithComma,
    /// The last digits of the year, 1 to 4; 4 are all there are.
    Year(usize),
    IsoYear(usize),
    MonthName,
    MonthShort,
    RomanMonth,
    Month,
    DayName,
    DayShort,
    Day,
    DayOfYear,
    IsoDayOfYear,
    DayOfWeek,
    IsoDayOfWeek,
    WeekOfMonth,
    WeekOfYear,
    IsoWeek,
    Quarter,
    JulianDay,
    /// From here on the text must be exactly as long as the pattern.
    Exact,
}

use TimeField as F;

impl TimeField {
    /// Whether it is a part of the time since midnight.
    pub fn is_time_of_day(self) -> bool {
        matches!(
            self,
            F::Meridiem { .. }
                | F::Hour12
                | F::Hour24
                | F::Minute
                | F::Second
                | F::Milliseconds
                | F::Microseconds
                | F::Fraction(_)
                | F::SecondOfDay
        )
    }
}

/// How the letters of a name are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum LetterCase {
    Upper,
    Title,
    Lower,
}

use LetterCase::{Lower, Title, Upper};

/// Templates whose letters are written in the case of the template.
const NAMES: &[(&str, TimeField, LetterCase)] = &[
    ("A.M.", F::Meridiem { dots: true }, Upper),
    ("P.M.", F::Meridiem { dots: true }, Upper),
    ("a.m.", F::Meridiem { dots: true }, Lower),
    ("p.m.", F::Meridiem { dots: true }, Lower),
    ("AM", F::Meridiem { dots: false }, Upper),
    ("PM", F::Meridiem { dots: false }, Upper),
    ("am", F::Meridiem { dots: false }, Lower),
    ("pm", F::Meridiem { dots: false }, Lower),
    ("A.D.", F::Era { dots: true }, Upper),
    ("B.C.", F::Era { dots: true }, Upper),
    ("a.d.", F::Era { dots: true }, Lower),
    ("b.c.", F::Era { dots: true }, Lower),
    ("AD", F::Era { dots: false }, Upper),
    ("BC", F::Era { dots: false }, Upper),
    ("ad", F::Era { dots: false }, Lower),
    ("bc", F::Era { dots: false }, Lower),
    ("MONTH", F::MonthName, Upper),
    ("Month", F::MonthName, Title),
    ("month", F::MonthName, Lower),
    ("MON", F::MonthShort, Upper),
    ("Mon", F::MonthShort, Title),
    ("mon", F::MonthShort, Lower),
    ("RM", F::RomanMonth, Upper),
    ("rm", F::RomanMonth, Lower),
    ("DAY", F::DayName, Upper),
    ("Day", F::DayName, Title),
    ("day", F::DayName, Lower),
    ("DY", F::DayShort, Upper),
    ("Dy", F::DayShort, Title),
    ("dy", F::DayShort, Lower),
    ("TZ", F::Zone, Upper),
    ("tz", F::Zone, Lower),
];

/// Templates that may be written in capitals or in small letters.
const NUMBERS: &[(&str, TimeField)] = &[
    ("HH24", F::Hour24),
    ("HH12", F::Hour12),
    ("HH", F::Hour12),
    ("MI", F::Minute),
    ("SSSSS", F::SecondOfDay),
    ("SSSS", F::SecondOfDay),
    ("SS", F::Second),
    ("MS", F::Milliseconds),
    ("US", F::Microseconds),
    ("FF1", F::Fraction(1)),
    ("FF2", F::Fraction(2)),
    ("FF3", F::Fraction(3)),
    ("FF4", F::Fraction(4)),
    ("FF5", F::Fraction(5)),
    ("FF6", F::Fraction(6)),
    ("FX", F::Exact),
    ("TZH", F::ZoneHours),
    ("TZM", F::ZoneMinutes),
    ("OF", F::ZoneOffset),
    ("CC", F::Century),
    ("Y,YYY", F::YearWithComma),
    ("YYYY", F::Year(4)),
    ("YYY", F::Year(3)),
    ("YY", F::Year(2)),
    ("Y", F::Year(1)),
    ("IYYY", F::IsoYear(4)),
    ("IYY", F::IsoYear(3)),
    ("IY", F::IsoYear(2)),
    ("I", F::IsoYear(1)),
    ("MM", F::Month),
    ("DDD", F::DayOfYear),
    ("DD", F::Day),
    ("D", F::DayOfWeek),
    ("IDDD", F::IsoDayOfYear),
    ("ID", F::IsoDayOfWeek),
    ("WW", F::WeekOfYear),
    ("W", F::WeekOfMonth),
    ("IW", F::IsoWeek),
    ("Q", F::Quarter),
    ("J", F::JulianDay),
];

/// A part of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum TimePiece {
    Template(TimeTemplate),
    /// A blank or a punctuation mark, which stands for any other when text is read.
    Separator(char),
    Text(char),
}

/// A template with its modifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TimeTemplate {
    pub field: TimeField,
    /// The template in capitals, or as it is listed if it is a name.
    pub name: &'static str,
    /// How the letters of a name are written.
    pub case: LetterCase,
    /// Whether `FM` takes the padding away.
    pub fill: bool,
    /// `TM`: a name of the locale, which is the C locale; it has no padding.
    pub localized: bool,
    /// `TH` or `th`: with an English ordinal suffix in this case.
    pub ordinal: Option<LetterCase>,
}

/// A pattern for dates and times.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TimePattern {
    pub pieces: Vec<TimePiece>,
}

impl TimePattern {
    /// Reads a pattern by which values are written.
    pub fn new(pattern: &str) -> Result<Self> {
        let mut pieces = Vec::new();
        let mut rest = pattern;
        while !rest.is_empty() {
            let (prefix, behind) = prefix(rest);
            rest = match template(behind, prefix) {
                Some((found, rest)) => {
                    let (found, rest) = with_suffix(found, rest)?;
                    pieces.push(TimePiece::Template(found));
                    rest
                }
                None => literal(pattern, behind, &mut pieces)?,
            };
        }
        Ok(Self { pieces })
    }

    pub fn templates(&self) -> impl Iterator<Item = &TimeTemplate> {
        self.pieces.iter().filter_map(|piece| match piece {
            TimePiece::Template(template) => Some(template),
            TimePiece::Separator(_) | TimePiece::Text(_) => None,
        })
    }
}

#[derive(Clone, Copy, PartialEq)]
enum TemplatePrefix {
    None,
    Fill,
    Localized,
}

/// The modifier before a template, and what follows it. Only one is read, as in PostgreSQL.
fn prefix(text: &str) -> (TemplatePrefix, &str) {
    match text.as_bytes() {
        [b'F', b'M', ..] | [b'f', b'm', ..] => (TemplatePrefix::Fill, &text[2..]),
        [b'T', b'M', ..] | [b't', b'm', ..] => (TemplatePrefix::Localized, &text[2..]),
        _ => (TemplatePrefix::None, text),
    }
}

/// The longest template at the start of `text`, and what follows it.
fn template(text: &str, prefix: TemplatePrefix) -> Option<(TimeTemplate, &str)> {
    let names = NAMES
        .iter()
        .filter(|(name, ..)| text.starts_with(name))
        .copied();
    let numbers = NUMBERS.iter().filter(|(name, _)| {
        let start = text.get(..name.len()).unwrap_or_default();
        start == *name || start == name.to_ascii_lowercase()
    });
    let numbers = numbers.map(|&(name, field)| (name, field, Upper));
    let (name, field, case) = names.chain(numbers).max_by_key(|(name, ..)| name.len())?;
    let template = TimeTemplate {
        field,
        name,
        case,
        fill: prefix == TemplatePrefix::Fill,
        localized: prefix == TemplatePrefix::Localized,
        ordinal: None,
    };
    Some((template, &text[name.len()..]))
}

fn with_suffix(found: TimeTemplate, rest: &str) -> Result<(TimeTemplate, &str)> {
    let ordinal = match rest.as_bytes() {
        [b'T', b'H', ..] => Some(Upper),
        [b't', b'h', ..] => Some(Lower),
        [b'S', b'P', ..] => {
            return Err(SqlError::not_built("the modifier SP in a pattern")
                .hint("Leave it out: numbers are not spelt as words."));
        }
        _ => None,
    };
    let rest = if ordinal.is_some() { &rest[2..] } else { rest };
    Ok((TimeTemplate { ordinal, ..found }, rest))
}

/// Takes the character or the quoted text at the start of `text`; returns what follows it.
fn literal<'a>(pattern: &str, text: &'a str, pieces: &mut Vec<TimePiece>) -> Result<&'a str> {
    if let Some(quoted) = text.strip_prefix('"') {
        return Ok(quoted_text(quoted, |text| {
            pieces.push(TimePiece::Text(text));
        }));
    }
    let text = text
        .strip_prefix('\\')
        .filter(|rest| rest.starts_with('"'))
        .unwrap_or(text);
    let mut chars = text.chars();
    match chars.next() {
        Some(letter) if letter.is_ascii_alphabetic() => {
            return Err(not_a_template(pattern, letter));
        }
        // `%d` would be a mark and the day of the week.
        Some('%')
            if chars
                .as_str()
                .starts_with(|next: char| next.is_ascii_alphabetic()) =>
        {
            return Err(not_a_template(pattern, '%'));
        }
        Some(mark) if mark.is_ascii_punctuation() => pieces.push(TimePiece::Separator(mark)),
        Some(blank) if is_blank(blank) => pieces.push(TimePiece::Separator(blank)),
        Some(other) => pieces.push(TimePiece::Text(other)),
        None => {}
    }
    Ok(chars.as_str())
}

/// Hands on the text behind an opening quote, up to the closing one; returns what follows it. A
/// backslash makes any character text.
pub(super) fn quoted_text(text: &str, mut take: impl FnMut(char)) -> &str {
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        match next {
            '"' => break,
            '\\' => take(chars.next().unwrap_or('\\')),
            other => take(other),
        }
    }
    chars.as_str()
}

pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

fn not_a_template(pattern: &str, letter: char) -> SqlError {
    let message = format!("'{letter}' in the pattern '{pattern}' belongs to no template");
    SqlError::new(sqlstate::INVALID_DATETIME_FORMAT, message).hint(
        "Patterns are PostgreSQL's, such as 'YYYY-MM-DD HH24:MI:SS'; put text into double quotes: \
         'YYYY\"y\"'.",
    )
}
