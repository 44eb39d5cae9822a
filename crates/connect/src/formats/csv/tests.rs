//! CSV read beside the `csv` crate, written and read back, and refused.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::formats::tests::{decoder, encoder, frames, schema};
use crate::formats::{Decoded, Frames};

fn two() -> SchemaRef {
    schema(&[("name", DataType::Utf8), ("n", DataType::Int64)])
}

fn decode(schema: &SchemaRef, options: &Value, texts: &[impl AsRef<[u8]>]) -> Decoded {
    decoder("csv", schema.clone(), options)
        .unwrap()
        .decode(&frames(texts))
}

/// Name and number of each row.
fn pairs(rows: &RecordBatch) -> Vec<(Option<&str>, Option<i64>)> {
    let numbers = rows.column(1).as_primitive::<Int64Type>().iter();
    rows.column(0)
        .as_string::<i32>()
        .iter()
        .zip(numbers)
        .collect()
}

fn reasons(decoded: &Decoded) -> Vec<&str> {
    decoded.bad.iter().map(|bad| bad.reason.as_str()).collect()
}

#[test]
fn empty_fields_differ_from_null_by_their_quotes() {
    let texts = [
        "a,1",
        "\"\",2\r\n",
        ",3",
        "\"b, \"\"c\"\"\nd\",\"4\"",
        "f,",
        " g , 7 ",
    ];
    let decoded = decode(&two(), &Value::Null, &texts);
    assert_eq!(decoded.bad, []);
    assert_eq!(
        pairs(&decoded.rows),
        [
            (Some("a"), Some(1)),
            (Some(""), Some(2)),
            (None, Some(3)),
            (Some("b, \"c\"\nd"), Some(4)),
            (Some("f"), None),
            (Some(" g "), Some(7)),
        ]
    );
}

#[test]
fn there_is_one_nan_and_no_negative_zero() {
    let decoded = decode(
        &schema(&[("f", DataType::Float64)]),
        &Value::Null,
        &["nan", "-NaN", "-0", "-0.0e5"],
    );
    let floats = decoded.rows.column(0).as_primitive::<Float64Type>();
    let bits: Vec<u64> = floats.values().iter().map(|it| it.to_bits()).collect();
    assert_eq!(bits, [f64::NAN.to_bits(), f64::NAN.to_bits(), 0, 0]);
}

#[test]
fn bad_records_say_why_and_leave_the_others_alone() {
    let texts = [
        "a,1\nb,x\nc,3",
        "d,4,5",
        "e",
        "\"e,5",
        "\"f\"g,6",
        "",
        "h,\u{9}8",
        "\n\n",
    ];
    let decoded = decode(&two(), &Value::Null, &texts);
    let names: Vec<_> = pairs(&decoded.rows)
        .into_iter()
        .filter_map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["a", "c", "h"]);
    assert_eq!(
        reasons(&decoded),
        [
            "column n: x is not of type BIGINT",
            "the record has 3 fields, there are 2 columns",
            "the record has 1 field, there are 2 columns",
            "malformed CSV: the quote of a field is not closed before the frame ends",
            "malformed CSV: something follows the closing quote of a field",
            "the frame is empty",
            "the frame is empty",
        ]
    );
    assert_eq!(decoded.bad[0].bytes, b"b,x");
    assert_eq!(
        reasons(&decode(&two(), &Value::Null, &[b"\xff,1"])),
        ["not UTF-8 at byte 0"]
    );
}

#[test]
fn a_header_names_the_columns() {
    let header = json!({ "header": true });
    let texts = [
        "N,other,name\n1,x,a",
        "2,y,b",
        "name,n",
        "c,3",
        "name,n",
        "d,4",
    ];
    let decoded = decode(&two(), &header, &texts);
    assert_eq!(decoded.bad, []);
    let expected: Vec<_> = ["a", "b", "c", "d"]
        .into_iter()
        .map(Some)
        .zip((1..).map(Some))
        .collect();
    assert_eq!(pairs(&decoded.rows), expected);
    let without = decode(&two(), &header, &["a,1", "name,n", "b,2"]);
    assert_eq!(
        reasons(&without),
        ["a header was expected, but no column is named a"]
    );
    assert_eq!(pairs(&without.rows), [(Some("b"), Some(2))]);
    let twice = decode(&two(), &header, &["n,Name,name", "name,n", "b,2"]);
    assert_eq!(
        reasons(&twice),
        ["a header was expected, but two fields name the column name"]
    );
    assert_eq!(pairs(&twice.rows), [(Some("b"), Some(2))]);
}

#[test]
fn a_header_without_a_column_is_a_warning() {
    let fields = vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
        Field::new("m", DataType::Int64, false),
    ];
    let schema = Arc::new(Schema::new(fields));
    let mut csv = decoder("csv", schema.clone(), &json!({ "header": true })).unwrap();
    let decoded = csv.decode(&frames(&["name,m", "a,1", "b", "c,2,3"]));
    assert_eq!(pairs(&decoded.rows), [(Some("a"), None)]);
    assert_eq!(
        reasons(&decoded),
        [
            "the record has 1 field, the header names 2",
            "the record has 3 fields, the header names 2",
        ]
    );
    assert_eq!(
        csv.warnings(),
        ["the header does not name the column n, which is NULL"]
    );
    let decoded = csv.decode(&frames(&["n,name", "1,a"]));
    assert_eq!(
        reasons(&decoded),
        ["column m is NOT NULL, and the frame has no value for it"]
    );
    assert_eq!(
        csv.warnings(),
        ["the header does not name the column m, which is NOT NULL: every record is bad"]
    );
    assert!(csv.warnings().is_empty());
}

#[test]
fn not_null_columns_need_a_value_and_take_an_empty_string() {
    let fields = vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("n", DataType::Int64, false),
    ];
    let decoded = decode(
        &Arc::new(Schema::new(fields)),
        &Value::Null,
        &[",1", "a,", "b"],
    );
    assert_eq!(pairs(&decoded.rows), [(Some(""), Some(1))]);
    assert_eq!(
        reasons(&decoded),
        [
            "column n is NOT NULL, and the value is null",
            "the record has 1 field, there are 2 columns",
        ]
    );
}

#[test]
fn the_dialect_is_an_option() {
    let options = json!({ "delimiter": "\\t", "quote": "'", "null": "NA" });
    let decoded = decode(&two(), &options, &["'a\tb'\t1", "NA\tNA", "'NA'\t2", "\t3"]);
    assert_eq!(
        pairs(&decoded.rows),
        [
            (Some("a\tb"), Some(1)),
            (None, None),
            (Some("NA"), Some(2)),
            (Some(""), Some(3))
        ]
    );
    for (options, message) in [
        (
            json!({ "delimiter": ",," }),
            "\",,\" is not one ASCII character",
        ),
        (json!({ "quote": "" }), "\"\" is not one ASCII character"),
        (
            json!({ "quote": "," }),
            "delimiter and quote must be different",
        ),
    ] {
        let error = decoder("csv", two(), &options).err().unwrap().to_string();
        assert!(error.contains(message), "{error}");
    }
    assert!(decoder("csv", two(), &json!({ "delimeter": ";" })).is_err());
}

fn every_type() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "i",
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(7)])),
        ),
        (
            "f",
            Arc::new(Float64Array::from(vec![
                Some(f64::INFINITY),
                Some(0.1),
                Some(-1e300),
            ])),
        ),
        (
            "s",
            Arc::new(StringArray::from(vec![
                Some(""),
                None,
                Some("a,\"b\"\r\nc"),
            ])),
        ),
        (
            "b",
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        ),
        (
            "d",
            Arc::new(Date32Array::from(vec![Some(19_675), None, Some(-1)])),
        ),
        (
            "t",
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(1_700_000_000_000_001),
                None,
                Some(-1),
            ])),
        ),
        (
            "x",
            Arc::new(BinaryArray::from(vec![
                Some(&b"\xff\x00"[..]),
                None,
                Some(b""),
            ])),
        ),
        (
            "m",
            Arc::new(
                Decimal128Array::from(vec![Some(-12_345), None, Some(1)])
                    .with_precision_and_scale(10, 2)
                    .unwrap(),
            ),
        ),
    ];
    let columns = columns
        .into_iter()
        .map(|(name, column)| (name, column, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

#[test]
fn what_is_written_is_read_back() {
    let rows = every_type();
    for (format, write, read) in [
        ("csv", json!({}), json!({})),
        (
            "csv",
            json!({ "header": true, "null": "\\N" }),
            json!({ "header": true, "null": "\\N" }),
        ),
        ("json", json!({}), json!({})),
        (
            "json",
            json!({ "timestamps": "us" }),
            json!({ "timestamp_unit": "us" }),
        ),
        ("ndjson", json!({}), json!({})),
    ] {
        let mut out = Frames::default();
        encoder(format, rows.schema_ref(), &write)
            .unwrap()
            .encode(&rows, &mut out)
            .unwrap();
        let decoded = decoder(format, rows.schema(), &read).unwrap().decode(&out);
        assert_eq!(decoded.bad, [], "{format}");
        for (found, written) in decoded.rows.columns().iter().zip(rows.columns()) {
            assert_eq!(found, written, "{format}");
        }
    }
}

proptest! {
    #[test]
    fn records_are_split_as_the_csv_crate_splits_them(
        records in prop::collection::vec(prop::collection::vec("[a-c,\"\r\n ;é]{0,6}", 3), 1..6),
    ) {
        let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
        for record in &records {
            writer.write_record(record).unwrap();
        }
        let text = writer.into_inner().unwrap();
        let names = [("a", DataType::Utf8), ("b", DataType::Utf8), ("c", DataType::Utf8)];
        let options = json!({ "null": "never" });
        let decoded = decode(&schema(&names), &options, &[text]);
        prop_assert_eq!(&decoded.bad, &[]);
        let mut found = vec![Vec::new(); records.len()];
        for column in decoded.rows.columns() {
            for (row, value) in column.as_string::<i32>().iter().enumerate() {
                found[row].push(value.unwrap().to_owned());
            }
        }
        prop_assert_eq!(&found, &records);
        let mut out = Frames::default();
        let mut encoder = encoder("csv", decoded.rows.schema_ref(), &options).unwrap();
        encoder.encode(&decoded.rows, &mut out).unwrap();
        let again = decoder("csv", decoded.rows.schema(), &options).unwrap().decode(&out);
        prop_assert_eq!(again.rows, decoded.rows);
    }
}
