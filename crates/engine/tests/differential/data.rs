//! Random columns and rows: every type, NULLs, special floats, duplicates, rows out of order and at
//! the ends of time.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::scalar::ScalarValue;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

/// What can be done with the values of a column without the order of rows showing in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Care {
    /// Anything.
    None,
    /// Values at the ends of their type: sums of floats would depend on the order.
    Wild,
    /// The result of float arithmetic: must not decide anything.
    Noisy,
}

#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    pub data_type: DataType,
    pub nullable: bool,
    pub care: Care,
}

/// The types that columns can have, as SQL and as Arrow have them.
fn types() -> Vec<(&'static str, DataType)> {
    use DataType::*;
    let utc = || Some("+00:00".into());
    vec![
        ("TINYINT", Int8),
        ("SMALLINT", Int16),
        ("INT", Int32),
        ("BIGINT", Int64),
        ("BIGINT", Int64),
        ("TINYINT UNSIGNED", UInt8),
        ("SMALLINT UNSIGNED", UInt16),
        ("INT UNSIGNED", UInt32),
        ("BIGINT UNSIGNED", UInt64),
        ("REAL", Float32),
        ("DOUBLE", Float64),
        ("DOUBLE", Float64),
        ("BOOLEAN", Boolean),
        ("VARCHAR", Utf8),
        ("VARCHAR", Utf8),
        ("DATE", Date32),
        ("DECIMAL(9, 2)", Decimal128(9, 2)),
        ("DECIMAL(20, 4)", Decimal128(20, 4)),
        ("TIMESTAMP(0)", Timestamp(TimeUnit::Second, None)),
        ("TIMESTAMP(3)", Timestamp(TimeUnit::Millisecond, None)),
        ("TIMESTAMP", Timestamp(TimeUnit::Microsecond, None)),
        ("TIMESTAMP(9)", Timestamp(TimeUnit::Nanosecond, None)),
        ("TIMESTAMPTZ", Timestamp(TimeUnit::Microsecond, utc())),
        ("TIMESTAMPTZ(3)", Timestamp(TimeUnit::Millisecond, utc())),
    ]
}

/// A source: its columns, and how its event time runs.
#[derive(Debug, Clone)]
pub struct Source {
    pub name: String,
    /// `id` and `ts` first.
    pub columns: Vec<Column>,
    pub create: String,
    pub delay_us: i64,
    /// Whether rows may be further out of order than the watermark's delay.
    pub disorder: bool,
}

/// Units of a timestamp type in a second.
pub fn per_second(data_type: &DataType) -> i64 {
    match data_type {
        DataType::Timestamp(TimeUnit::Second, _) => 1,
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1_000_000_000,
        other => panic!("{other} is no timestamp"),
    }
}

impl Source {
    /// `shared` are columns that another source has too, so that the two can be united.
    pub fn random(name: &str, time: &(&str, DataType), shared: &[usize], rng: &mut StdRng) -> Self {
        let types = types();
        let mut columns = vec![
            column("id", DataType::Int64, false, Care::None),
            column("ts", time.1.clone(), rng.random_bool(0.3), Care::None),
        ];
        let mut declared = vec!["BIGINT", time.0];
        for (number, &kind) in shared.iter().enumerate() {
            let (sql, data_type) = &types[kind];
            let care = if rng.random_bool(0.2) {
                Care::Wild
            } else {
                Care::None
            };
            let nullable = rng.random_bool(0.7);
            columns.push(column(
                &format!("c{number}"),
                data_type.clone(),
                nullable,
                care,
            ));
            declared.push(sql);
        }
        let delay_s = *[0, 0, 1, 5, 30].choose(rng).expect("some");
        let list = columns.iter().zip(declared).map(|(column, sql)| {
            let null = if column.nullable { "" } else { " NOT NULL" };
            format!("{} {sql}{null}", column.name)
        });
        let list = list.collect::<Vec<_>>().join(", ");
        let create = format!(
            "CREATE SOURCE {name} ({list}, WATERMARK FOR ts AS ts - INTERVAL '{delay_s} seconds') \
             WITH (idle_timeout = '1 hour')"
        );
        Self {
            name: name.into(),
            columns,
            create,
            delay_us: delay_s * 1_000_000,
            disorder: rng.random_bool(0.5),
        }
    }

    /// The types of its columns after `id` and `ts`, and the type of `ts`, at random.
    pub fn shape(rng: &mut StdRng) -> ((&'static str, DataType), Vec<usize>) {
        let types = types();
        let times: Vec<_> = types
            .iter()
            .filter(|(sql, _)| sql.starts_with("TIMESTAMP"))
            .collect();
        let time = (*times.choose(rng).expect("some")).clone();
        let count = rng.random_range(2..8);
        (
            time,
            (0..count)
                .map(|_| rng.random_range(0..types.len()))
                .collect(),
        )
    }

    pub fn schema(&self) -> SchemaRef {
        let fields = self.columns.iter();
        let fields = fields.map(|it| Field::new(&it.name, it.data_type.clone(), it.nullable));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// `count` rows with ids from `first_id`.
    pub fn rows(&self, first_id: i64, count: usize, rng: &mut StdRng) -> RecordBatch {
        let ids = (0..count).map(|row| ScalarValue::Int64(Some(first_id + row as i64)));
        let mut columns = vec![
            array(ids.collect(), &DataType::Int64),
            self.times(count, rng),
        ];
        for column in &self.columns[2..] {
            let nulls = if rng.random_bool(0.05) { 1.0 } else { 0.15 };
            let values = (0..count).map(|_| match column.nullable && rng.random_bool(nulls) {
                true => ScalarValue::try_from(&column.data_type).expect("a NULL"),
                false => value(&column.data_type, column.care == Care::Wild, rng),
            });
            columns.push(array(values.collect(), &column.data_type));
        }
        RecordBatch::try_new(self.schema(), columns).expect("columns of the schema")
    }

    fn times(&self, count: usize, rng: &mut StdRng) -> ArrayRef {
        let ts = &self.columns[1];
        let second = per_second(&ts.data_type);
        let start = *[0, 1_700_000_000, -7_000].choose(rng).expect("some") * second;
        let step = second * *[1, 2, 10].choose(rng).expect("some");
        let least = match rng.random_range(0..4) {
            0 => 1,
            1 => (second / 1_000_000).max(1),
            _ => second,
        };
        let extreme = self.disorder && rng.random_bool(0.15);
        let mut latest = start;
        let values = (0..count).map(|_| {
            if ts.nullable && rng.random_bool(0.05) {
                return None;
            }
            if extreme && rng.random_bool(0.03) {
                // Not within a window of the first or last instant, where a window has no first or last one.
                let ends = [i64::MIN + second * 100_000, i64::MAX - second * 100_000];
                return ends.choose(rng).copied();
            }
            let ahead = if rng.random_bool(0.05) { 20 } else { 2 };
            let back = match self.disorder && rng.random_bool(0.2) {
                true => rng.random_range(0..40 * second),
                false => rng.random_range(0..=self.delay_us / 1_000_000 * second),
            };
            let at = latest - back + rng.random_range(0..=ahead * step) / 2;
            let at = at - at.rem_euclid(least);
            // Rounding down must not make a row late.
            let at = if self.disorder {
                at
            } else {
                at.max(latest - self.delay_us / 1_000_000 * second)
            };
            latest = latest.max(at);
            Some(at)
        });
        let values = values.collect::<Vec<_>>().into_iter();
        array(
            values.map(|at| instant(at, &ts.data_type)).collect(),
            &ts.data_type,
        )
    }
}

fn column(name: &str, data_type: DataType, nullable: bool, care: Care) -> Column {
    let name = name.into();
    Column {
        name,
        data_type,
        nullable,
        care,
    }
}

/// Values as a column, also when there are none.
pub fn array(values: Vec<ScalarValue>, data_type: &DataType) -> ArrayRef {
    match values.is_empty() {
        true => datafusion::arrow::array::new_empty_array(data_type),
        false => ScalarValue::iter_to_array(values).expect("values of one type"),
    }
}

/// A timestamp of type `data_type`.
pub fn instant(at: Option<i64>, data_type: &DataType) -> ScalarValue {
    match data_type {
        DataType::Timestamp(TimeUnit::Second, zone) => {
            ScalarValue::TimestampSecond(at, zone.clone())
        }
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            ScalarValue::TimestampMillisecond(at, zone.clone())
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            ScalarValue::TimestampMicrosecond(at, zone.clone())
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            ScalarValue::TimestampNanosecond(at, zone.clone())
        }
        other => panic!("{other} is no timestamp"),
    }
}

const TEXTS: &[&str] = &[
    "",
    "a",
    "b",
    "c",
    "A",
    "ab",
    "abc",
    "Äö",
    " x ",
    "12",
    "-7",
    "3.5",
    "nan",
    "%",
    "a_b",
    "it's",
    "2024-02-29",
    "true",
    "日本",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// Letters that other cases or forms have more or fewer of, lines, and a long text.
const WILD_TEXTS: &[&str] = &[
    "ß",
    "İ",
    "ı",
    "ŉ",
    "ǰ",
    "ﬁ",
    "ς",
    "Σ",
    "e\u{301}",
    "\u{1f642}",
    "\u{200b}",
    "a\nb",
    "\t",
    "\\",
    "'",
    "NaN",
    "-0",
    "1e400",
    "9223372036854775808",
    "0001-01-01",
    "9999-12-31 23:59:59",
    "\u{a0}1\u{a0}",
];

/// A value; few different ones, so that rows meet in groups.
fn value(data_type: &DataType, wild: bool, rng: &mut StdRng) -> ScalarValue {
    let extreme = wild && rng.random_bool(0.3);
    macro_rules! integer {
        ($kind:ident, $type:ty, $low:expr) => {{
            let ends = [<$type>::MIN, <$type>::MAX, <$type>::MAX - 1];
            ScalarValue::$kind(Some(match extreme {
                true => *ends.choose(rng).expect("some"),
                false => rng.random_range($low..6),
            }))
        }};
    }
    match data_type {
        DataType::Int8 => integer!(Int8, i8, -5),
        DataType::Int16 => integer!(Int16, i16, -5),
        DataType::Int32 => integer!(Int32, i32, -5),
        DataType::Int64 => integer!(Int64, i64, -5),
        DataType::UInt8 => integer!(UInt8, u8, 0),
        DataType::UInt16 => integer!(UInt16, u16, 0),
        DataType::UInt32 => integer!(UInt32, u32, 0),
        DataType::UInt64 => integer!(UInt64, u64, 0),
        DataType::Float32 => ScalarValue::Float32(Some(float(extreme, rng) as f32)),
        DataType::Float64 => ScalarValue::Float64(Some(float(extreme, rng))),
        DataType::Boolean => ScalarValue::Boolean(Some(rng.random())),
        DataType::Utf8 if extreme && rng.random_bool(0.1) => {
            ScalarValue::Utf8(Some("long ".repeat(1_000)))
        }
        DataType::Utf8 => {
            let texts = if extreme { WILD_TEXTS } else { TEXTS };
            ScalarValue::Utf8(texts.choose(rng).map(ToString::to_string))
        }
        DataType::Date32 => {
            let ends = [-719_162, 0, 2_932_896];
            ScalarValue::Date32(Some(match extreme {
                true => *ends.choose(rng).expect("some"),
                false => 19_700 + rng.random_range(0..5) * 20,
            }))
        }
        DataType::Decimal128(precision, scale) => {
            let most = 10_i128.pow(u32::from(*precision)) - 1;
            let digits = match extreme {
                true => *[most, -most].choose(rng).expect("some"),
                false => rng.random_range(-8..8) * 25,
            };
            ScalarValue::Decimal128(Some(digits), *precision, *scale)
        }
        DataType::Timestamp(..) => {
            let second = per_second(data_type);
            let at = rng.random_range(0..5) * 40_000 + 1_700_000_000;
            // Of nanoseconds whole microseconds, so that other databases have them, too.
            let last = if wild {
                second - 1
            } else {
                second - (second / 1_000_000).max(1)
            };
            let part = [0, second / 2, last].choose(rng).copied().unwrap_or(0);
            // The ends of the calendar, if the type goes there.
            let ends = [-62_135_596_800_i64, 253_402_300_799];
            let end = ends.choose(rng).and_then(|end| end.checked_mul(second));
            let at = end.filter(|_| extreme).unwrap_or(at * second);
            instant(Some(at + part), data_type)
        }
        other => panic!("no values of {other}"),
    }
}

/// Quarters: their sums are exact in any order. In wild columns also what is no number.
fn float(extreme: bool, rng: &mut StdRng) -> f64 {
    let special = [
        f64::NAN,
        -f64::NAN,
        -0.0,
        0.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1e300,
        -1e-300,
    ];
    match extreme {
        true => *special.choose(rng).expect("some"),
        false => f64::from(rng.random_range(-20..20)) / 4.0,
    }
}
