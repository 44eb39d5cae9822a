//! Random SQL expressions over the columns at hand, of a class that is asked for.
//!
//! They must give the same whatever the batches are cut to. So what may fail (division by zero, a
//! cast of text) is wrapped so that it does not, unless a query asks for one [`Expressions::risky`]
//! expression, which is then alone: after an AND, whether it fails would depend on the cut.

use datafusion::arrow::datatypes::DataType;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::data::{Care, Column};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Number,
    Text,
    Bool,
    Time,
}

pub fn class_of(data_type: &DataType) -> Option<Class> {
    match data_type {
        DataType::Boolean => Some(Class::Bool),
        DataType::Utf8 => Some(Class::Text),
        DataType::Date32 | DataType::Timestamp(..) => Some(Class::Time),
        number if number.is_numeric() => Some(Class::Number),
        _ => None,
    }
}

/// Whether a small product or difference may be outside of the type.
fn is_narrow(data_type: &DataType) -> bool {
    use DataType::*;
    matches!(data_type, Int8 | Int16 | UInt8 | UInt16 | UInt32 | UInt64)
}

/// Makes expressions over `columns`.
pub struct Expressions<'a> {
    pub columns: &'a [Column],
    pub rng: &'a mut StdRng,
    /// Whether numbers are small and their types wide, so that arithmetic does not overflow.
    pub tame: bool,
}

impl Expressions<'_> {
    fn pick(&mut self, from: &[&str]) -> String {
        (*from.choose(self.rng).expect("a choice")).to_owned()
    }

    /// A column for which `fits` holds.
    pub fn column(&mut self, fits: impl Fn(&Column) -> bool) -> Option<Column> {
        let fitting: Vec<_> = self.columns.iter().filter(|it| fits(it)).collect();
        fitting.choose(self.rng).map(|&it| it.clone())
    }

    fn column_of(&mut self, class: Class) -> Option<String> {
        let tame = self.tame && class == Class::Number;
        let most = if tame { Care::None } else { Care::Wild };
        let fits = |it: &Column| it.care <= most && class_of(&it.data_type) == Some(class);
        let column = self.column(fits)?;
        let narrow = is_narrow(&column.data_type);
        Some(match tame && narrow {
            true => format!("CAST({} AS BIGINT)", column.name),
            false => column.name,
        })
    }

    /// An expression of any class.
    pub fn any(&mut self, depth: u32) -> String {
        let classes = [
            Class::Number,
            Class::Number,
            Class::Text,
            Class::Bool,
            Class::Time,
        ];
        let class = *classes.choose(self.rng).expect("a choice");
        self.of(class, depth)
    }

    pub fn of(&mut self, class: Class, depth: u32) -> String {
        let leaf = depth == 0 || self.rng.random_bool(0.25);
        if leaf && let Some(column) = self.column_of(class).filter(|_| self.rng.random_bool(0.9)) {
            return column;
        }
        if leaf {
            return self.literal(class);
        }
        let depth = depth - 1;
        match class {
            Class::Number => self.number(depth),
            Class::Text => self.text(depth),
            Class::Bool => self.truth(depth),
            Class::Time => self.time(depth),
        }
    }

    fn literal(&mut self, class: Class) -> String {
        match class {
            Class::Number => self.pick(&["0", "1", "2", "-3", "2.5", "-0.25", "100", "NULL"]),
            Class::Text => self.pick(&["''", "'a'", "'ab'", "'12'", "'Äö'", "'%'"]),
            Class::Bool => self.pick(&["TRUE", "FALSE", "1 = 1"]),
            Class::Time => self.pick(&[
                "DATE '2023-12-09'",
                "TIMESTAMP '2023-11-15T10:00:00'",
                "TIMESTAMPTZ '2023-10-29T02:30:00+02'",
            ]),
        }
    }

    fn number(&mut self, depth: u32) -> String {
        let kind = self.rng.random_range(0..22);
        let was_tame = self.tame;
        self.tame |= kind <= 7;
        let (a, b) = (self.of(Class::Number, depth), self.of(Class::Number, depth));
        self.tame = was_tame;
        match kind {
            0..=2 => format!("({a} + {b})"),
            3 => format!("({a} - {b})"),
            4 | 5 => format!("({a} * {b})"),
            6 => format!("({a} / NULLIF({b}, 0))"),
            7 => format!("({a} % NULLIF({b}, 0))"),
            8 => format!("COALESCE({a}, {b})"),
            9 => format!("NULLIF({a}, {b})"),
            10 => format!(
                "CASE WHEN {} THEN {a} ELSE {b} END",
                self.of(Class::Bool, depth)
            ),
            11 => format!("CASE {a} WHEN 1 THEN 10 WHEN {b} THEN 20 END"),
            12 => format!("CAST({a} AS DOUBLE)"),
            13 => format!("TRY_CAST({} AS BIGINT)", self.of(Class::Text, depth)),
            14 => format!("TRY_CAST({} AS DOUBLE)", self.of(Class::Text, depth)),
            15 => self.wide(format!("TRY_CAST({a} AS SMALLINT)")),
            16 => {
                let function = self.pick(&["ABS", "FLOOR", "CEIL", "ROUND", "SIGNUM", "TRUNC"]);
                format!("{function}(CAST({a} AS DOUBLE))")
            }
            17 => format!("SQRT(ABS(CAST({a} AS DOUBLE)))"),
            18 => {
                let function = self.pick(&["LENGTH", "CHARACTER_LENGTH", "ASCII", "OCTET_LENGTH"]);
                let text = self.of(Class::Text, depth);
                self.wide(format!("{function}({text})"))
            }
            19 => {
                let part = self.pick(&[
                    "HOUR", "MINUTE", "SECOND", "DAY", "MONTH", "YEAR", "DOW", "EPOCH",
                ]);
                let mut time = self.of(Class::Time, depth);
                if ["HOUR", "MINUTE", "SECOND"].contains(&part.as_str()) {
                    // A DATE has none.
                    time = format!("CAST({time} AS TIMESTAMP)");
                }
                let part = format!("EXTRACT({part} FROM {time})");
                match self.tame {
                    true => format!("CAST({part} AS DOUBLE)"),
                    false => part,
                }
            }
            20 => format!("GREATEST({a}, {b})"),
            _ => format!("CAST({} AS INT)", self.of(Class::Bool, depth)),
        }
    }

    /// An integer, as a BIGINT where that matters.
    fn wide(&self, integer: String) -> String {
        match self.tame {
            true => format!("CAST({integer} AS BIGINT)"),
            false => integer,
        }
    }

    fn text(&mut self, depth: u32) -> String {
        let t = self.of(Class::Text, depth);
        match self.rng.random_range(0..17) {
            0 => format!("UPPER({t})"),
            1 => format!("LOWER({t})"),
            2 => format!("TRIM({t})"),
            3 => format!("REVERSE({t})"),
            4 => format!("({t} || {})", self.of(Class::Text, depth)),
            5 => format!("CONCAT({t}, '-', {})", self.of(Class::Number, depth)),
            6 => format!("SUBSTR({t}, 2, 2)"),
            7 => format!("REPLACE({t}, 'a', 'xx')"),
            8 => format!("LEFT({t}, 1)"),
            9 => format!("LPAD({t}, 5, '.')"),
            10 => {
                let when = self.of(Class::Bool, depth);
                format!("CASE WHEN {when} THEN {t} ELSE 'else' END")
            }
            11 => format!("COALESCE({t}, 'none')"),
            12 => format!("CAST({} AS VARCHAR)", self.of(Class::Number, depth)),
            13 => match self.rng.random_bool(0.5) {
                true => format!("CAST({} AS VARCHAR(3))", self.of(Class::Time, depth)),
                false => format!("INITCAP(MD5({t}))"),
            },
            14 => format!("SPLIT_PART({t}, 'b', 1)"),
            15 => format!("REGEXP_REPLACE({t}, 'a+', 'z')"),
            _ => format!("CAST({} AS VARCHAR)", self.of(Class::Bool, depth)),
        }
    }

    pub fn truth(&mut self, depth: u32) -> String {
        let compare = self.pick(&["=", "<>", "<", "<=", ">", ">="]);
        match self.rng.random_range(0..16) {
            0..=3 => {
                let (a, b) = (self.of(Class::Number, depth), self.of(Class::Number, depth));
                format!("({a} {compare} {b})")
            }
            4 => format!(
                "({} {compare} {})",
                self.of(Class::Text, depth),
                self.of(Class::Text, depth)
            ),
            5 => format!("({} IS NULL)", self.any(depth)),
            6 => format!("({} IS NOT NULL)", self.any(depth)),
            7 => {
                let pattern = self.pick(&["'a%'", "'%b%'", "'_'", "'A_'", "'%'"]);
                let like = self.pick(&["LIKE", "NOT LIKE", "ILIKE"]);
                format!("({} {like} {pattern})", self.of(Class::Text, depth))
            }
            8 => format!("({} IN (1, 2, -3, 2.5))", self.of(Class::Number, depth)),
            9 => format!("({} NOT IN ('a', 'b', ''))", self.of(Class::Text, depth)),
            10 => format!("({} BETWEEN -1 AND 3)", self.of(Class::Number, depth)),
            11 => format!("({} AND {})", self.truth_at(depth), self.truth_at(depth)),
            12 => format!("({} OR {})", self.truth_at(depth), self.truth_at(depth)),
            13 => format!("(NOT {})", self.truth_at(depth)),
            14 => {
                let (a, b) = (self.of(Class::Number, depth), self.of(Class::Number, depth));
                format!("({a} IS DISTINCT FROM {b})")
            }
            _ => format!("({} ~ '^[a-c]+$')", self.of(Class::Text, depth)),
        }
    }

    fn truth_at(&mut self, depth: u32) -> String {
        self.of(Class::Bool, depth)
    }

    fn time(&mut self, depth: u32) -> String {
        let t = self.of(Class::Time, depth);
        let zones = [
            "Europe/Berlin",
            "America/New_York",
            "Asia/Kathmandu",
            "-5:30",
        ];
        let zone = self.pick(&zones);
        match self.rng.random_range(0..10) {
            0 => {
                let unit = self.pick(&["second", "hour", "week", "year", "century"]);
                format!("DATE_TRUNC('{unit}', {t})")
            }
            5 => format!(
                "DATE_BIN(INTERVAL '25 minutes', CAST({t} AS TIMESTAMP), TIMESTAMP '0001-01-01')"
            ),
            6 => format!("CAST({t} AS TIMESTAMP(0))"),
            1 => format!("CAST({t} AS DATE)"),
            2 => format!("({t} + INTERVAL '1 day')"),
            3 => format!("COALESCE({t}, DATE '2024-01-01')"),
            7 | 8 => format!("TIMEZONE('{zone}', {t})"),
            9 => format!("DATE_TRUNC('day', {t}, '{zone}')"),
            _ => format!("DATE_TRUNC('month', {t})"),
        }
    }

    /// An expression that fails for some rows, or wraps.
    pub fn risky(&mut self) -> String {
        let number = self.column_of(Class::Number).unwrap_or_else(|| "0".into());
        let text = self.column_of(Class::Text);
        // A constant fails in PostgreSQL even if there is no row.
        let text = text.unwrap_or_else(|| format!("CONCAT('x', {number})"));
        let other = self.column_of(Class::Number).unwrap_or_else(|| "1".into());
        match self.rng.random_range(0..14) {
            9 => {
                let function = self.pick(&["LN", "SQRT", "EXP", "ACOS", "LOG10"]);
                format!("{function}(CAST({number} AS DOUBLE))")
            }
            10 => format!("POWER(CAST({number} AS DOUBLE), CAST({other} AS DOUBLE))"),
            11 => format!("CAST({text} AS DOUBLE)"),
            12 => format!("CAST({text} AS DATE)"),
            13 => format!("CAST({text} AS DECIMAL(9, 2))"),
            4 | 5 => format!("({number} {} {other})", self.pick(&["+", "-", "*"])),
            6 => format!("({number} {} {other})", self.pick(&["/", "%"])),
            7 => format!("(- {number})"),
            8 => format!("ABS({number})"),
            0 => format!("CAST({text} AS BIGINT)"),
            1 => format!("(10 / {number})"),
            2 => format!("CAST({number} AS TINYINT)"),
            _ => format!("CAST({text} AS TIMESTAMP)"),
        }
    }
}
