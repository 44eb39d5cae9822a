//! What the JSON decoder accepts, what it refuses and why, and that one frame never spoils another.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Fields, Float32Type, Float64Type, Int8Type,
    Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType, TimestampSecondType,
    UInt64Type,
};
use serde_json::{Value, json};

use crate::formats::tests::{decoder, encoder, frames, schema};
use crate::formats::{Decoded, Frames};

const MILLIS: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

fn decode(schema: &SchemaRef, texts: &[impl AsRef<[u8]>]) -> Decoded {
    decoder("json", schema.clone(), &Value::Null)
        .unwrap()
        .decode(&frames(texts))
}

/// The rows as JSON again, one line each.
fn lines(rows: &RecordBatch) -> Vec<String> {
    let mut out = Frames::default();
    encoder("json", rows.schema_ref(), &Value::Null)
        .unwrap()
        .encode(rows, &mut out)
        .unwrap();
    out.iter()
        .map(|frame| String::from_utf8(frame.to_vec()).unwrap())
        .collect()
}

/// The only reason, of the only frame.
fn refusal(schema: &SchemaRef, text: impl AsRef<[u8]>) -> String {
    let decoded = decode(schema, &[text.as_ref()]);
    assert_eq!(
        decoded.rows.num_rows(),
        0,
        "{}",
        String::from_utf8_lossy(text.as_ref())
    );
    assert_eq!(decoded.bad.len(), 1);
    assert_eq!(decoded.bad[0].bytes, text.as_ref());
    decoded.bad[0].reason.clone()
}

fn value(data_type: DataType, text: &str) -> Result<RecordBatch, String> {
    let schema = schema(&[("v", data_type)]);
    let decoded = decode(&schema, &[format!("{{\"v\":{text}}}")]);
    match decoded.bad.first() {
        Some(bad) => Err(bad.reason.clone()),
        None => Ok(decoded.rows),
    }
}

fn trades() -> SchemaRef {
    schema(&[
        ("symbol", DataType::Utf8),
        ("price", DataType::Float64),
        ("qty", DataType::Int64),
        ("ts", MILLIS),
    ])
}

#[test]
fn objects_become_rows() {
    let decoded = decode(
        &trades(),
        &[
            r#"{"symbol":"BTC","price":50000.5,"qty":3,"ts":1700000000000}"#,
            r#"{"symbol":"ETH","price":1e3,"qty":-4,"ts":"2023-11-14T22:13:20.5Z"}"#,
            r#" { "ts" : null , "qty" : 5 , "other" : [ { } ] , "symbol" : "a\u00e9\n" } "#,
        ],
    );
    assert_eq!(decoded.bad, []);
    assert_eq!(
        lines(&decoded.rows),
        [
            r#"{"symbol":"BTC","price":50000.5,"qty":3,"ts":"2023-11-14T22:13:20Z"}"#,
            r#"{"symbol":"ETH","price":1000.0,"qty":-4,"ts":"2023-11-14T22:13:20.500Z"}"#,
            r#"{"symbol":"aé\n","price":null,"qty":5,"ts":null}"#,
        ]
    );
}

#[test]
fn bad_frames_leave_the_others_alone() {
    let good = r#"{"symbol":"BTC","price":1.5,"qty":3,"ts":1}"#;
    let texts = [
        good,
        "",
        r#"{"symbol":"BTC","price":1.5,"qty":3,"ts":"#,
        good,
        r#"{"symbol":"BTC","price":"x","qty":3,"ts":1}"#,
        r#"{"symbol":"BTC","price":1.5,"qty":3,"ts":1} {}"#,
        good,
        "hello",
        r#"{"symbol":"BTC","price":1.5,"qty":3.5,"ts":1}"#,
        good,
    ];
    let decoded = decode(&trades(), &texts);
    assert_eq!(decoded.rows.num_rows(), 4);
    assert_eq!(
        lines(&decoded.rows)
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        1
    );
    let bad: Vec<_> = decoded
        .bad
        .iter()
        .map(|bad| (&bad.bytes[..], bad.reason.as_str()))
        .collect();
    assert_eq!(
        bad,
        [
            (texts[1].as_bytes(), "the frame is empty"),
            (
                texts[2].as_bytes(),
                "malformed JSON at byte 41: the frame ends in the middle of a value"
            ),
            (
                texts[4].as_bytes(),
                "column price: \"x\" is not of type DOUBLE"
            ),
            (
                texts[5].as_bytes(),
                "malformed JSON at byte 44: something follows the value"
            ),
            (
                texts[7].as_bytes(),
                "malformed JSON at byte 0: a value was expected"
            ),
            (
                texts[8].as_bytes(),
                "column qty: 3.5 is not whole, as BIGINT must be"
            ),
        ]
    );
}

#[test]
fn a_not_null_column_must_have_a_value() {
    let fields = vec![
        Field::new("a", DataType::Int64, false),
        Field::new("b", DataType::Utf8, true),
    ];
    let schema = Arc::new(Schema::new(fields));
    let missing = "column a is NOT NULL, and the frame has no value for it";
    assert_eq!(refusal(&schema, r#"{"b":"x"}"#), missing);
    assert_eq!(refusal(&schema, "{}"), missing);
    assert_eq!(
        refusal(&schema, r#"{"a":null}"#),
        "column a is NOT NULL, and the value is null"
    );
    assert_eq!(
        lines(&decode(&schema, &[r#"{"a":1}"#]).rows),
        [r#"{"a":1,"b":null}"#]
    );
}

#[test]
fn what_is_not_json_is_refused() {
    let schema = trades();
    for text in [
        "{",
        "}",
        "[",
        "nul",
        r#"{"qty":NaN}"#,
        r#"{"price":Infinity}"#,
        r#"{"price":01}"#,
        r#"{"price":1.}"#,
        r#"{"price":+1}"#,
        r#"{"qty":1,}"#,
        r#"{"qty" 1}"#,
        r#"{qty:1}"#,
        r#"{'qty':1}"#,
        r#"{"other":1.e5}"#,
        "{\"symbol\":\"a\tb\"}",
        r#"{"symbol":"\q"}"#,
        r#"{"symbol":"\ud8"}"#,
        r#"{"qty":1}}"#,
        r#"[{"qty":1}"#,
        r#"{"qty":1}x"#,
        "\u{feff}{}",
    ] {
        let reason = refusal(&schema, text);
        assert!(
            reason.starts_with("malformed JSON at byte"),
            "{text}: {reason}"
        );
    }
    assert_eq!(refusal(&schema, "  "), "the frame is empty");
    assert_eq!(refusal(&schema, "5"), "an object was expected");
    assert_eq!(
        refusal(&schema, b"{\"symbol\":\"\xff\"}"),
        "not UTF-8 at byte 11"
    );
    // Two halves of one character, in two frames, are valid only together.
    let halves = decode(&schema, &[&b"{\"symbol\":\"\xc3"[..], &b"\xa9\"}"[..]]);
    assert_eq!((halves.rows.num_rows(), halves.bad.len()), (0, 2));
}

#[test]
fn half_a_surrogate_pair_is_refused_where_it_would_be_kept() {
    let schema = schema(&[("a", DataType::Utf8)]);
    let reason = refusal(&schema, r#"{"a":"x\ud800y"}"#);
    assert_eq!(
        reason,
        r#"column a: "x\ud800y" escapes half of a surrogate pair"#
    );
    let decoded = decode(&schema, &[r#"{"b":"\ud800","a":"\ud83d\ude00"}"#]);
    assert_eq!(lines(&decoded.rows), ["{\"a\":\"\u{1f600}\"}"]);
}

#[test]
fn nesting_is_limited_and_deep_frames_do_no_harm() {
    let deep = |depth: usize| format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let schema = trades();
    assert_eq!(decode(&schema, &[deep(100)]).rows.num_rows(), 1);
    assert!(refusal(&schema, deep(100_000)).ends_with("values are nested more than 128 deep"));
}

#[test]
fn exact_names_win_over_those_that_differ_in_case() {
    let both = schema(&[("t", DataType::Int64), ("T", DataType::Int64)]);
    assert_eq!(
        lines(&decode(&both, &[r#"{"t":1,"T":2}"#]).rows),
        [r#"{"t":1,"T":2}"#]
    );
    let upper = schema(&[("T", DataType::Int64)]);
    // Among them one that is only looked at when the exact one is missing, and then fits or not.
    let texts = [
        r#"{"t":1,"T":2}"#,
        r#"{"T":2,"t":1}"#,
        r#"{"t":1}"#,
        r#"{"t":"x","T":2}"#,
        r#"{"T":2,"t":"x"}"#,
        r#"{"t":7,"T":null}"#,
        r#"{"t":1,"t":2}"#,
    ];
    let expected = ["2", "2", "1", "2", "2", "null", "2"].map(|value| format!("{{\"T\":{value}}}"));
    assert_eq!(lines(&decode(&upper, &texts).rows), expected);
    // Whatever the first object was and made the template of, at the start of the object or behind others.
    for first in texts {
        for (second, expected) in texts.iter().zip(&expected) {
            assert_eq!(&lines(&decode(&upper, &[first, second]).rows)[1], expected);
            let behind = [first, second].map(|text| text.replacen('{', "{\"x\":0,", 1));
            assert_eq!(
                &lines(&decode(&upper, &behind).rows)[1],
                expected,
                "{behind:?}"
            );
        }
    }
    let ambiguous = schema(&[("Ab", DataType::Int64), ("aB", DataType::Int64)]);
    assert_eq!(
        lines(&decode(&ambiguous, &[r#"{"AB":1}"#]).rows),
        [r#"{"Ab":null,"aB":null}"#]
    );
}

#[test]
fn the_last_of_equal_keys_wins() {
    let decoded = decode(
        &trades(),
        &[r#"{"qty":1,"qty":2}"#, r#"{"qty":1,"qty":null,"qty":3}"#],
    );
    let quantities = decoded.rows.column(2).as_primitive::<Int64Type>();
    assert_eq!(quantities.values(), &[2, 3]);
    assert_eq!(quantities.null_count(), 0);
}

#[test]
fn keys_in_any_order_and_number_find_their_columns() {
    let schema = trades();
    let parts = [
        r#""symbol":"A""#,
        r#""price":2.5"#,
        r#""qty":3"#,
        r#""ts":4"#,
        r#""more":{"a":[]}"#,
    ];
    let mut texts = Vec::new();
    for round in 0..200_usize {
        let keys: Vec<_> = (0..5).filter(|part| (round >> part) & 1 == 0).collect();
        let at = |place: usize| parts[keys[(place + round) % keys.len()]];
        let keys: Vec<_> = (0..keys.len()).map(at).collect();
        texts.push(format!(
            "{{{}}}",
            keys.join(if round % 3 == 0 { " , " } else { "," })
        ));
    }
    let decoded = decode(&schema, &texts);
    assert_eq!(decoded.bad, []);
    for (text, line) in texts.iter().zip(lines(&decoded.rows)) {
        let given: Value = serde_json::from_str(text).unwrap();
        let mut row: Value = serde_json::from_str(&line).unwrap();
        if row["ts"].is_string() {
            row["ts"] = json!(4);
        }
        for column in ["symbol", "price", "qty", "ts"] {
            assert_eq!(row[column], given[column], "{text}");
        }
    }
}

#[test]
fn an_array_of_many_bad_elements_is_no_larger_than_it_came() {
    const ELEMENTS: usize = 200_000;
    let schema = schema(&[("v", DataType::Int64)]);
    let mut text = "[".to_owned();
    for at in 0..ELEMENTS {
        text.push_str(if at % 4 == 0 { r#"{"v":7},"# } else { "1," });
    }
    text.push_str(r#""last"]"#);
    let decoded = decode(&schema, &[&text]);
    assert_eq!(decoded.rows.num_rows(), ELEMENTS / 4, "no good row is lost");
    let bad = decoded.bad;
    assert_eq!(bad.len(), 1_001);
    let held = |bad: &crate::Bad| size_of_val(bad) + bad.bytes.len() + bad.reason.len();
    let held: usize = bad.iter().map(held).sum();
    assert!(held < text.len(), "{held} bytes of {}", text.len());
    let rest: Vec<Value> = serde_json::from_slice(&bad[1_000].bytes).unwrap();
    assert_eq!(rest.len(), ELEMENTS / 4 * 3 + 1 - 1_000);
    assert_eq!(rest.last(), Some(&json!("last")));
    let expected = "149001 further elements of an array are bad, the first: an object was expected";
    assert_eq!(bad[1_000].reason, expected);
}

#[test]
fn an_array_is_a_row_for_each_object() {
    let schema = trades();
    let text = r#" [ {"qty":1}, {"qty":"x"}, 7, {"qty":2} ] "#;
    let decoded = decode(&schema, &[text, "[]", r#"[{"qty":3}]"#]);
    let quantities = decoded.rows.column(2).as_primitive::<Int64Type>();
    assert_eq!(quantities.values(), &[1, 2, 3]);
    let bad: Vec<_> = decoded
        .bad
        .iter()
        .map(|bad| (&bad.bytes[..], bad.reason.as_str()))
        .collect();
    assert_eq!(
        bad,
        [
            (
                &br#"{"qty":"x"}"#[..],
                "column qty: \"x\" is not of type BIGINT"
            ),
            (&b"7"[..], "an object was expected"),
        ]
    );
    // A malformed array gives no rows at all, not even those before the mistake.
    assert!(refusal(&schema, r#"[{"qty":1},{"qty":2]"#).starts_with("malformed JSON at byte 19"));
}

#[test]
fn numbers_may_be_strings_but_must_fit() {
    for (data_type, text) in [
        (DataType::Int64, r#""12""#),
        (DataType::Float64, r#""12.0""#),
        (DataType::UInt64, "12"),
        (DataType::Int8, "1.2e1"),
        (DataType::Float32, "12"),
        (DataType::Decimal128(10, 2), "\"12\""),
    ] {
        let rows = value(data_type.clone(), text).unwrap();
        let rows = arrow::compute::cast(rows.column(0), &DataType::Float64).unwrap();
        assert_eq!(
            rows.as_primitive::<Float64Type>().value(0),
            12.0,
            "{data_type} {text}"
        );
    }
    for (data_type, text, reason) in [
        (DataType::Int8, "128", "128 is out of the range of TINYINT"),
        (
            DataType::UInt8,
            "-1",
            "-1 is out of the range of TINYINT UNSIGNED",
        ),
        (
            DataType::Int64,
            "9223372036854775808",
            "9223372036854775808 is out of the range of BIGINT",
        ),
        (
            DataType::Float64,
            "1e999",
            "1e999 is out of the range of DOUBLE",
        ),
        (
            DataType::Float64,
            r#""NaN1""#,
            "\"NaN1\" is not of type DOUBLE",
        ),
        (DataType::Float64, r#""""#, "\"\" is not of type DOUBLE"),
        (DataType::Int64, r#""1 ""#, "\"1 \" is not of type BIGINT"),
        (DataType::Int64, "true", "true is not of type BIGINT"),
        (DataType::Int64, "[1]", "[1] is not of type BIGINT"),
        (DataType::Utf8, "1", "1 is not of type VARCHAR"),
        (DataType::Boolean, "1", "1 is not of type BOOLEAN"),
        (
            DataType::Boolean,
            r#""true""#,
            "\"true\" is not of type BOOLEAN",
        ),
        (DataType::Binary, "7", "7 is not of type BINARY"),
        (DataType::Binary, r#""*""#, "\"*\" is not base64"),
        (
            DataType::Date32,
            r#""2023-02-30""#,
            "\"2023-02-30\" is not of type DATE",
        ),
        (MILLIS, r#""soon""#, "\"soon\" is not of type TIMESTAMP"),
        (
            DataType::Decimal128(4, 2),
            "123.4",
            "123.4 is out of the range of DECIMAL(4, 2)",
        ),
    ] {
        assert_eq!(
            value(data_type, text).unwrap_err(),
            format!("column v: {reason}")
        );
    }
    assert_eq!(
        value(DataType::UInt64, "18446744073709551615")
            .unwrap()
            .column(0)
            .as_primitive::<UInt64Type>()
            .value(0),
        u64::MAX
    );
}

#[test]
fn every_type_is_filled() {
    let rows = value(DataType::Int8, "-128").unwrap();
    assert_eq!(rows.column(0).as_primitive::<Int8Type>().value(0), -128);
    let rows = value(DataType::Float32, "0.1").unwrap();
    assert_eq!(rows.column(0).as_primitive::<Float32Type>().value(0), 0.1);
    let rows = value(DataType::Date32, r#""1970-01-11""#).unwrap();
    assert_eq!(rows.column(0).as_primitive::<Date32Type>().value(0), 10);
    let rows = value(DataType::Date32, "10").unwrap();
    assert_eq!(rows.column(0).as_primitive::<Date32Type>().value(0), 10);
    let rows = value(DataType::Binary, r#""aGk=""#).unwrap();
    assert_eq!(rows.column(0).as_binary::<i32>().value(0), b"hi");
    let rows = value(DataType::BinaryView, r#""aGk""#).unwrap();
    assert_eq!(rows.column(0).as_binary_view().value(0), b"hi");
    let rows = value(DataType::Decimal128(20, 3), "-1.0005").unwrap();
    assert_eq!(
        rows.column(0).as_primitive::<Decimal128Type>().value(0),
        -1001
    );
    let rows = value(DataType::Boolean, "true").unwrap();
    assert!(rows.column(0).as_boolean().value(0));
    let rows = value(DataType::Utf8View, r#""text""#).unwrap();
    assert_eq!(rows.column(0).as_string_view().value(0), "text");
    let rows = value(DataType::LargeUtf8, r#"{"a": [1, "]"]}"#).unwrap();
    assert_eq!(
        rows.column(0).as_string::<i64>().value(0),
        r#"{"a": [1, "]"]}"#
    );
}

#[test]
fn timestamps_are_counted_in_the_unit_of_the_options() {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into()));
    let schema = schema(&[
        ("v", micros),
        ("w", DataType::Timestamp(TimeUnit::Second, None)),
    ]);
    for (unit, text, micros, seconds) in [
        (
            json!("s"),
            "1700000000.25",
            1_700_000_000_250_000,
            1_700_000_000,
        ),
        (
            json!("ms"),
            "1700000000999",
            1_700_000_000_999_000,
            1_700_000_000,
        ),
        (
            json!("us"),
            "\"1700000000000001\"",
            1_700_000_000_000_001,
            1_700_000_000,
        ),
        (json!("ns"), "-1", -1, -1),
        (
            json!("ns"),
            "\"2023-11-14T23:13:20+01:00\"",
            1_700_000_000_000_000,
            1_700_000_000,
        ),
    ] {
        let options = json!({ "timestamp_unit": unit });
        let mut decoder = decoder("json", schema.clone(), &options).unwrap();
        let decoded = decoder.decode(&frames(&[format!("{{\"v\":{text},\"w\":{text}}}")]));
        assert_eq!(decoded.bad, []);
        let (v, w) = (decoded.rows.column(0), decoded.rows.column(1));
        assert_eq!(
            v.as_primitive::<TimestampMicrosecondType>().value(0),
            micros
        );
        assert_eq!(w.as_primitive::<TimestampSecondType>().value(0), seconds);
    }
    let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
    assert!(
        value(nanos, "9223372036855")
            .unwrap_err()
            .contains("out of the range")
    );
}

#[test]
fn lists_and_structs_are_filled_and_rolled_back() {
    let point = Fields::from(vec![
        Field::new("x", DataType::Int64, false),
        Field::new("tags", DataType::new_list(DataType::Utf8, false), true),
    ]);
    let points = DataType::new_list(DataType::Struct(point.clone()), true);
    let schema = schema(&[
        ("p", DataType::Struct(point)),
        ("ps", points),
        ("n", DataType::Int64),
    ]);
    let texts = [
        r#"{"p":{"x":1,"tags":["a","b"]},"ps":[{"x":2,"tags":[]},null],"n":1}"#,
        r#"{"p":{"x":1,"tags":["a",null]},"ps":[],"n":2}"#,
        r#"{"p":null,"ps":null,"n":3}"#,
        r#"{"ps":[{"x":2},{"tags":["q"]}],"n":4}"#,
        r#"{"ps":[{"x":2},{"x":"y"}],"n":4}"#,
        r#"{"ps":[{"x":2}],"p":{"x":9},"n":"no"}"#,
        r#"{"p":7}"#,
        r#"{"ps":[{"x":3,"tags":null}],"n":5}"#,
    ];
    let decoded = decode(&schema, &texts);
    assert_eq!(
        lines(&decoded.rows),
        [
            r#"{"p":{"x":1,"tags":["a","b"]},"ps":[{"x":2,"tags":[]},null],"n":1}"#,
            r#"{"p":null,"ps":null,"n":3}"#,
            r#"{"p":null,"ps":[{"x":3,"tags":null}],"n":5}"#,
        ]
    );
    let reasons: Vec<_> = decoded.bad.iter().map(|bad| bad.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            r#"column p.tags[] is NOT NULL, and the value is null"#,
            r#"column ps[].x is NOT NULL, and the frame has no value for it"#,
            r#"column ps[].x: "y" is not of type BIGINT"#,
            r#"column n: "no" is not of type BIGINT"#,
            r#"column p: 7 is not of type STRUCT"#,
        ]
    );
}

#[test]
fn ndjson_takes_lines() {
    let schema = trades();
    let mut decoder = decoder("ndjson", schema, &Value::Null).unwrap();
    let decoded = decoder.decode(&frames(&[
        "{\"qty\":1}\r\n\n{\"qty\":2}\n{\"qty\":}\n{\"qty\":3}",
        "\n",
        "{\"qty\":4}",
    ]));
    assert_eq!(
        decoded.rows.column(2).as_primitive::<Int64Type>().values(),
        &[1, 2, 3, 4]
    );
    let bad: Vec<_> = decoded
        .bad
        .iter()
        .map(|bad| (&bad.bytes[..], bad.reason.as_str()))
        .collect();
    assert_eq!(
        bad,
        [
            (
                &b"{\"qty\":}"[..],
                "malformed JSON at byte 7: a value was expected"
            ),
            (&b"\n"[..], "the frame is empty"),
        ]
    );
}

#[test]
fn columns_that_no_text_can_fill_are_refused() {
    let schema = schema(&[
        ("ok", DataType::Int64),
        ("d", DataType::Duration(TimeUnit::Second)),
    ]);
    let error = decoder("json", schema, &Value::Null)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.starts_with("column \"d\" cannot be used here"),
        "{error}"
    );
}

#[test]
fn a_source_without_columns_counts_its_rows() {
    let decoded = decode(&schema(&[]), &["{}", r#"{"a":1}"#, "x"]);
    assert_eq!((decoded.rows.num_rows(), decoded.bad.len()), (2, 1));
}

#[test]
fn long_values_are_shown_shortened() {
    let reason = value(DataType::Int64, &format!("\"{}\"", "x".repeat(1_000_000))).unwrap_err();
    assert!(reason.len() < 120, "{reason}");
}

#[test]
fn timestamps_are_written_as_the_options_say() {
    let decoded = decode(&trades(), &[r#"{"ts":-1}"#]);
    for (written, expected) in [
        ("s", "-1"),
        ("ms", "-1"),
        ("us", "-1000"),
        ("ns", "-1000000"),
    ] {
        let mut out = Frames::default();
        let options = json!({ "timestamps": written });
        let mut encoder = encoder("json", decoded.rows.schema_ref(), &options).unwrap();
        encoder.encode(&decoded.rows, &mut out).unwrap();
        let row: Value = serde_json::from_slice(&out.bytes).unwrap();
        assert_eq!(row["ts"].to_string(), expected);
    }
}

#[test]
fn floats_that_are_no_numbers_are_strings_and_read_back() {
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0];
    let wide = arrow::array::Float64Array::from(values.to_vec());
    let narrow = arrow::array::Float32Array::from(values.map(|value| value as f32).to_vec());
    let list = ListArray::from_iter_primitive::<Float64Type, _, _>(
        values.map(|value| Some(vec![Some(value)])),
    );
    let rows = RecordBatch::try_from_iter([
        ("w", Arc::new(wide) as ArrayRef),
        ("n", Arc::new(narrow) as ArrayRef),
        ("l", Arc::new(list) as ArrayRef),
    ]);
    let rows = rows.unwrap();
    let written = lines(&rows);
    assert_eq!(
        written,
        [
            r#"{"w":"NaN","n":"NaN","l":["NaN"]}"#,
            r#"{"w":"Infinity","n":"Infinity","l":["Infinity"]}"#,
            r#"{"w":"-Infinity","n":"-Infinity","l":["-Infinity"]}"#,
            r#"{"w":-0.0,"n":-0.0,"l":[-0.0]}"#,
        ]
    );
    let decoded = decode(&rows.schema(), &written);
    assert_eq!(decoded.bad, []);
    // There is one zero.
    let read = written.iter().map(|line| line.replace("-0.0", "0.0"));
    assert_eq!(lines(&decoded.rows), read.collect::<Vec<_>>());
    let mut out = Frames::default();
    let options = json!({ "non_finite": "null" });
    let mut encoder = encoder("json", rows.schema_ref(), &options).unwrap();
    encoder.encode(&rows.slice(1, 1), &mut out).unwrap();
    assert_eq!(out.bytes, br#"{"w":null,"n":null,"l":[null]}"#);
    let integer = schema(&[("v", DataType::Int64)]);
    let refused = decode(&integer, &[r#"{"v":"NaN"}"#]);
    assert_eq!(
        refused.bad[0].reason,
        r#"column v: "NaN" is not of type BIGINT"#
    );
}
