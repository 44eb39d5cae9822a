//! `#[derive(Record)]`: every type in both directions, and the errors when columns do not fit.
//!
//! `derive/src/tests.rs` tests what the derive refuses to compile.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use arrow::array::{
    Array, ArrayRef, BinaryViewArray, DictionaryArray, Float32Array, Float64Array, Int16Array,
    Int32Array, Int64Array, LargeStringArray, NullArray, RecordBatch, StringArray, StringViewArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int8Type, Schema, SchemaRef, TimeUnit};
use headwater::record::matches;
use headwater::{Record, RecordError, Symbol, Timestamp};
use proptest::prelude::*;

/// Every type that a column can have.
#[derive(Record, Debug, Clone, PartialEq)]
struct Every {
    a: i8,
    b: i16,
    c: i32,
    d: i64,
    e: u8,
    f: u16,
    g: u32,
    h: u64,
    i: f32,
    j: f64,
    k: bool,
    l: String,
    m: Box<str>,
    n: Arc<str>,
    o: Cow<'static, str>,
    p: Symbol<8>,
    q: Vec<u8>,
    r: Box<[u8]>,
    s: Arc<[u8]>,
    t: Timestamp,
    u: SystemTime,
    #[record(timestamp = "s")]
    v: i64,
    #[record(timestamp = "ms")]
    w: i64,
    #[record(timestamp)]
    x: i64,
    #[record(timestamp = "ns")]
    y: i64,
}

/// The same, each of them nullable.
#[derive(Record, Debug, Clone, PartialEq, Default)]
struct Maybe {
    a: Option<i8>,
    b: Option<i16>,
    c: Option<i32>,
    d: Option<i64>,
    e: Option<u8>,
    f: Option<u16>,
    g: Option<u32>,
    h: Option<u64>,
    i: Option<f32>,
    j: Option<f64>,
    k: Option<bool>,
    l: Option<String>,
    m: Option<Box<str>>,
    n: Option<Arc<str>>,
    o: Option<Cow<'static, str>>,
    p: Option<Symbol<8>>,
    q: Option<Vec<u8>>,
    r: Option<Box<[u8]>>,
    s: Option<Arc<[u8]>>,
    t: Option<Timestamp>,
    u: Option<SystemTime>,
    #[record(timestamp = "s")]
    v: Option<i64>,
    #[record(timestamp = "ms")]
    w: Option<i64>,
    #[record(timestamp)]
    x: Option<i64>,
    #[record(timestamp = "ns")]
    y: Option<i64>,
}

#[derive(Record, Debug, Clone, PartialEq)]
struct Trade {
    symbol: Symbol<8>,
    price: f64,
    qty: i64,
    #[record(event_time)]
    ts: Timestamp,
}

fn trade(symbol: &str, ts: i64) -> Trade {
    let (price, qty, ts) = (187.5, 100, Timestamp::from_micros(ts));
    let symbol = symbol.parse().unwrap();
    Trade {
        symbol,
        price,
        qty,
        ts,
    }
}

fn at(micros: i64) -> SystemTime {
    Timestamp::from_micros(micros).to_system_time().unwrap()
}

fn every(n: i64, text: &str) -> Every {
    let small: String = text.chars().take(2).collect();
    Every {
        a: n as i8,
        b: n as i16,
        c: n as i32,
        d: n,
        e: n as u8,
        f: n as u16,
        g: n as u32,
        h: n as u64,
        i: n as f32,
        j: n as f64 / 3.0,
        k: n % 2 == 0,
        l: text.into(),
        m: text.into(),
        n: text.into(),
        o: text.to_owned().into(),
        p: small.parse().unwrap(),
        q: text.as_bytes().into(),
        r: text.as_bytes().into(),
        s: text.as_bytes().into(),
        t: Timestamp::from_micros(n),
        u: at(n / 1_000_000),
        v: n,
        w: n,
        x: n,
        y: n,
    }
}

/// Field by field: `Some` where the mask has a bit.
fn maybe(row: &Every, mask: u32) -> Maybe {
    let row = row.clone();
    let has = |bit: u32| mask & (1 << bit) != 0;
    Maybe {
        a: has(0).then_some(row.a),
        b: has(1).then_some(row.b),
        c: has(2).then_some(row.c),
        d: has(3).then_some(row.d),
        e: has(4).then_some(row.e),
        f: has(5).then_some(row.f),
        g: has(6).then_some(row.g),
        h: has(7).then_some(row.h),
        i: has(8).then_some(row.i),
        j: has(9).then_some(row.j),
        k: has(10).then_some(row.k),
        l: has(11).then_some(row.l),
        m: has(12).then_some(row.m),
        n: has(13).then_some(row.n),
        o: has(14).then_some(row.o),
        p: has(15).then_some(row.p),
        q: has(16).then_some(row.q),
        r: has(17).then_some(row.r),
        s: has(18).then_some(row.s),
        t: has(19).then_some(row.t),
        u: has(20).then_some(row.u),
        v: has(21).then_some(row.v),
        w: has(22).then_some(row.w),
        x: has(23).then_some(row.x),
        y: has(24).then_some(row.y),
    }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

/// To columns and back.
fn round<T: Record>(rows: &[T]) -> Vec<T> {
    let batch = T::to_columns(rows).unwrap();
    assert_eq!(batch.schema(), T::schema());
    assert_eq!(batch.num_rows(), rows.len());
    T::from_columns(&batch).unwrap()
}

#[test]
fn the_schema_has_types_and_nullability() {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    let expected = Schema::new(vec![
        Field::new("symbol", DataType::Utf8, false),
        Field::new("price", DataType::Float64, false),
        Field::new("qty", DataType::Int64, false),
        Field::new("ts", micros, false),
    ]);
    assert_eq!(*Trade::schema(), expected);
    assert!(Arc::ptr_eq(&Trade::schema(), &Trade::schema()));

    let types = |schema: SchemaRef| -> Vec<_> {
        schema
            .fields()
            .iter()
            .map(|f| f.data_type().clone())
            .collect()
    };
    assert_eq!(types(Every::schema()), types(Maybe::schema()));
    assert!(Every::schema().fields().iter().all(|f| !f.is_nullable()));
    assert!(Maybe::schema().fields().iter().all(|f| f.is_nullable()));
    let times = [
        TimeUnit::Second,
        TimeUnit::Millisecond,
        TimeUnit::Microsecond,
        TimeUnit::Nanosecond,
    ];
    let times = times.map(|unit| DataType::Timestamp(unit, None));
    assert_eq!(types(Every::schema())[21..], times);
}

#[test]
fn every_type_goes_there_and_back() {
    let rows: Vec<_> = [0, 1, -1, i64::MAX, i64::MIN, 42]
        .into_iter()
        .zip([
            "",
            "a",
            "naïve",
            "日本語",
            "a longer text than any inline view",
            "\0",
        ])
        .map(|(n, text)| every(n, text))
        .collect();
    assert_eq!(round(&rows), rows);
    let single = rows[2].to_record_batch();
    assert_eq!(single, Every::to_columns(&rows[2..3]).unwrap());
}

#[test]
fn the_columns_hold_the_values() {
    let rows = [trade("AAPL", 7), trade("", -1), trade("12345678", 9)];
    let columns = Trade::to_columns(&rows).unwrap();
    let expected: [ArrayRef; 4] = [
        Arc::new(StringArray::from(vec!["AAPL", "", "12345678"])),
        Arc::new(Float64Array::from(vec![187.5; 3])),
        Arc::new(Int64Array::from(vec![100; 3])),
        Arc::new(TimestampMicrosecondArray::from(vec![7, -1, 9])),
    ];
    assert_eq!(columns.columns(), expected);
}

#[test]
fn every_type_may_be_null() {
    let full = maybe(&every(5, "text"), u32::MAX);
    let rows = [Maybe::default(), full.clone(), Maybe::default()];
    let columns = Maybe::to_columns(&rows).unwrap();
    assert!(
        columns
            .columns()
            .iter()
            .all(|column| column.null_count() == 2 && column.is_valid(1))
    );
    assert_eq!(Maybe::from_columns(&columns).unwrap(), rows);

    let columns = Maybe::to_columns(&[full]).unwrap();
    assert!(
        columns
            .columns()
            .iter()
            .all(|column| column.nulls().is_none())
    );
}

#[test]
fn no_rows_are_an_empty_batch() {
    assert!(round::<Every>(&[]).is_empty());
    assert!(round::<Maybe>(&[]).is_empty());
    assert_eq!(
        Every::from_columns(&RecordBatch::new_empty(Every::schema())),
        Ok(vec![])
    );
}

proptest! {
    #[test]
    fn rows_survive_the_columns(rows in prop::collection::vec((any::<i64>(), ".{0,40}", any::<u32>()), 0..50)) {
        let full: Vec<_> = rows.iter().map(|(n, text, _)| every(*n, text)).collect();
        prop_assert_eq!(&round(&full), &full);
        let masked: Vec<_> = full.iter().zip(&rows).map(|(row, (.., mask))| maybe(row, *mask)).collect();
        prop_assert_eq!(&round(&masked), &masked);
    }

    #[test]
    fn a_slice_of_a_batch_is_read_alone(rows in prop::collection::vec(any::<(i64, u32)>(), 1..50), cut in any::<prop::sample::Index>()) {
        let rows: Vec<_> = rows.iter().map(|&(n, mask)| maybe(&every(n, "text"), mask)).collect();
        let from = cut.index(rows.len());
        let batch = Maybe::to_columns(&rows).unwrap().slice(from, rows.len() - from);
        prop_assert_eq!(&Maybe::from_columns(&batch).unwrap(), &rows[from..]);
    }
}

#[derive(Record, Debug, PartialEq)]
struct Renamed {
    #[record(rename = "Time")]
    t: i64,
    r#type: String,
    #[record(skip)]
    note: Option<&'static str>,
    #[record(rename = "two words")]
    words: bool,
}

#[test]
fn fields_are_renamed_unraw_and_skipped() {
    let schema = Renamed::schema();
    let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["Time", "type", "two words"]);
    let (t, words) = (1, true);
    let r#type = "x".to_owned();
    let rows = [Renamed {
        t,
        r#type,
        note: Some("lost"),
        words,
    }];
    assert_eq!(round(&rows)[0].note, None);
    assert_eq!(round(&rows)[0].r#type, "x");
}

#[derive(Record)]
struct InMillis {
    #[record(timestamp = "ms", event_time)]
    ts: i64,
}

#[derive(Record)]
struct InNanos {
    #[record(timestamp = "ns", event_time)]
    ts: Option<i64>,
}

#[derive(Record)]
struct OnTheClock {
    #[record(event_time)]
    ts: Option<SystemTime>,
}

#[test]
fn event_times_are_microseconds() {
    assert_eq!(trade("A", 7).event_time(), Some(7));
    assert_eq!(every(7, "").event_time(), None);
    assert_eq!(InMillis { ts: -3 }.event_time(), Some(-3_000));
    assert_eq!(InMillis { ts: i64::MAX }.event_time(), None);
    assert_eq!(InNanos { ts: Some(-1) }.event_time(), Some(-1));
    assert_eq!(InNanos { ts: None }.event_time(), None);
    assert_eq!(OnTheClock { ts: Some(at(-5)) }.event_time(), Some(-5));
    assert_eq!(OnTheClock { ts: None }.event_time(), None);
}

#[test]
fn columns_are_found_by_name_in_any_order() {
    let columns = batch(vec![
        ("extra", Arc::new(StringArray::from(vec!["?"]))),
        ("ts", Arc::new(TimestampMicrosecondArray::from(vec![1]))),
        ("qty", Arc::new(Int64Array::from(vec![100]))),
        ("symbol", Arc::new(StringArray::from(vec!["A"]))),
        ("price", Arc::new(Float64Array::from(vec![187.5]))),
    ]);
    assert_eq!(Trade::from_columns(&columns), Ok(vec![trade("A", 1)]));
}

#[derive(Record, Debug, PartialEq)]
struct Text {
    v: Option<String>,
}

#[derive(Record, Debug, PartialEq)]
struct Bytes {
    v: Vec<u8>,
}

#[derive(Record, Debug, PartialEq)]
struct Long {
    v: i64,
}

#[derive(Record, Debug, PartialEq)]
struct Natural {
    v: u32,
}

#[derive(Record, Debug, PartialEq)]
struct Real {
    v: f64,
}

#[derive(Record, Debug, PartialEq)]
struct When {
    v: Timestamp,
}

#[derive(Record, Debug, PartialEq)]
struct Nanos {
    #[record(timestamp = "ns")]
    v: i64,
}

fn one<T: Record>(array: impl Array + 'static) -> Result<Vec<T>, RecordError> {
    T::from_columns(&batch(vec![("v", Arc::new(array))]))
}

#[test]
fn text_and_bytes_are_read_in_every_encoding() {
    let expected = || {
        Ok(vec![
            Text {
                v: Some("a text beyond twelve bytes".into()),
            },
            Text { v: None },
        ])
    };
    let values = vec![Some("a text beyond twelve bytes"), None];
    assert_eq!(one(StringArray::from(values.clone())), expected());
    assert_eq!(one(LargeStringArray::from(values.clone())), expected());
    assert_eq!(one(StringViewArray::from(values.clone())), expected());
    assert_eq!(
        one(values.into_iter().collect::<DictionaryArray<Int8Type>>()),
        expected()
    );
    assert_eq!(one(NullArray::new(1)), Ok(vec![Text { v: None }]));
    assert_eq!(
        one(BinaryViewArray::from(vec![&b"\xff"[..]])),
        Ok(vec![Bytes { v: vec![0xff] }])
    );
}

#[test]
fn numbers_widen_only_without_loss() {
    assert_eq!(one(Int16Array::from(vec![-7])), Ok(vec![Long { v: -7 }]));
    assert_eq!(
        one(Int32Array::from(vec![i32::MIN])),
        Ok(vec![Real {
            v: f64::from(i32::MIN)
        }])
    );
    assert_eq!(
        one(Float32Array::from(vec![0.5])),
        Ok(vec![Real { v: 0.5 }])
    );
    assert_eq!(
        one(UInt32Array::from(vec![u32::MAX])),
        Ok(vec![Long { v: 4_294_967_295 }])
    );
    assert!(is_refused(one::<Real>(Int64Array::from(vec![1]))));
    assert!(is_refused(one::<Natural>(Int16Array::from(vec![1]))));
    assert!(is_refused(one::<Long>(UInt64Array::from(vec![1]))));
    assert!(is_refused(one::<Long>(Float32Array::from(vec![1.0]))));
    assert!(is_refused(one::<Long>(StringArray::from(vec!["1"]))));
}

fn is_refused<T>(result: Result<T, RecordError>) -> bool {
    matches!(result, Err(RecordError::Columns(_)))
}

#[test]
fn times_are_read_in_every_unit_rounded_down() {
    let when = |micros| {
        Ok(vec![When {
            v: Timestamp::from_micros(micros),
        }])
    };
    assert_eq!(one(TimestampSecondArray::from(vec![-2])), when(-2_000_000));
    assert_eq!(one(TimestampMillisecondArray::from(vec![2])), when(2_000));
    assert_eq!(
        one(TimestampNanosecondArray::from(vec![-1]).with_timezone_utc()),
        when(-1)
    );
    assert_eq!(
        one(TimestampMicrosecondArray::from(vec![5]).with_timezone("+02:00")),
        when(5)
    );
    assert_eq!(
        one(TimestampMicrosecondArray::from(vec![5])),
        Ok(vec![Nanos { v: 5_000 }])
    );
    let beyond = one::<When>(TimestampSecondArray::from(vec![Some(0), Some(i64::MAX)]));
    let expected = "row 1 of column \"v\": 9223372036854775807 s since 1970 is out of range";
    assert_eq!(beyond.unwrap_err().to_string(), expected);
}

#[test]
fn a_bad_batch_is_explained_in_full() {
    let columns = batch(vec![
        ("Symbol", Arc::new(StringArray::from(vec!["A"]))),
        ("price", Arc::new(StringArray::from(vec!["1.5"]))),
        ("qty", Arc::new(Int64Array::from(vec![None]))),
    ]);
    let expected = "column \"symbol\" of type Utf8 is missing, there is \"Symbol\"; \
                    column \"price\" is Utf8 where Float64 is expected; \
                    column \"ts\" of type Timestamp(µs) is missing";
    assert_eq!(
        Trade::from_columns(&columns).unwrap_err().to_string(),
        expected
    );
}

#[test]
fn a_null_or_a_value_that_does_not_fit_names_its_row() {
    let null = one::<Long>(Int64Array::from(vec![Some(1), None])).unwrap_err();
    assert_eq!(
        null.to_string(),
        "row 1 of column \"v\" is NULL, and its field is not an Option"
    );
    assert_eq!(
        one::<Long>(Int64Array::from(vec![Some(1), Some(2)])),
        Ok(vec![Long { v: 1 }, Long { v: 2 }])
    );

    let mut rows = Trade::to_columns(&[trade("A", 1)])
        .unwrap()
        .columns()
        .to_vec();
    rows[0] = Arc::new(StringArray::from(vec!["NINELETTR"]));
    let columns = RecordBatch::try_new(Trade::schema(), rows).unwrap();
    let expected = "row 0 of column \"symbol\": \"NINELETTR\" has 9 bytes, the symbol holds 8";
    assert_eq!(
        Trade::from_columns(&columns).unwrap_err().to_string(),
        expected
    );
}

#[derive(Record)]
struct Shared {
    text: Arc<str>,
}

#[test]
fn more_text_than_a_column_can_hold_is_refused() {
    let text: Arc<str> = "x".repeat(1 << 20).into();
    let rows: Vec<_> = (0..2048).map(|_| Shared { text: text.clone() }).collect();
    let expected = RecordError::TooLarge {
        column: "text".into(),
        bytes: 1 << 31,
        limit: (1 << 31) - 1,
    };
    assert_eq!(Shared::to_columns(&rows), Err(expected));
}

/// As the requirement has it: the two functions and no derive.
struct ByHand(i64);

impl Record for ByHand {
    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]))
    }

    fn to_record_batch(&self) -> RecordBatch {
        let rows = if self.0 < 0 { vec![] } else { vec![self.0] };
        RecordBatch::try_new(Self::schema(), vec![Arc::new(Int64Array::from(rows))]).unwrap()
    }
}

#[test]
fn a_record_may_be_written_by_hand() {
    let columns = ByHand::to_columns(&[ByHand(1), ByHand(2)]).unwrap();
    assert_eq!(
        Long::from_columns(&columns),
        Ok(vec![Long { v: 1 }, Long { v: 2 }])
    );
    assert_eq!(ByHand::to_columns(&[]).unwrap().num_rows(), 0);
    assert_eq!(ByHand(1).event_time(), None);
    assert!(matches!(
        ByHand::from_columns(&columns),
        Err(RecordError::WriteOnly(_))
    ));
    let lost = ByHand::to_columns(&[ByHand(1), ByHand(-1)]).unwrap_err();
    assert_eq!(
        lost.to_string(),
        "the record contradicts its schema: 2 records became 1 rows"
    );
}

#[test]
fn a_matching_batch_takes_the_declared_schema() {
    let declared: Vec<_> = Trade::schema()
        .fields()
        .iter()
        .map(|f| f.as_ref().clone().with_nullable(true))
        .collect();
    let declared = Arc::new(Schema::new(declared));
    assert_eq!(matches(&declared, &Trade::schema()), Ok(()));
    let columns = Trade::to_columns(&[trade("A", 1)]).unwrap();
    assert_eq!(
        columns.with_schema(declared.clone()).unwrap().schema(),
        declared
    );
}
