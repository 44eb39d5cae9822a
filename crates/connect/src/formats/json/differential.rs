//! The JSON decoder against `serde_json`, over random objects and random bytes.
//!
//! Objects are made of keys that match columns exactly, but for their case, or not at all, in any
//! order, repeated, with values that mostly fit. What a row must then be is computed by a plain
//! reading of the rules over `serde_json` values. Bytes are objects with random damage.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::formats::Frames;
use crate::formats::tests::{decoder, encoder, frames};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("price", DataType::Float64, true),
        Field::new("t", DataType::Int32, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("ok", DataType::Boolean, true),
        Field::new("xs", DataType::new_list(DataType::Int64, true), true),
    ]))
}

fn key() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        4 => prop::sample::select(vec!["id", "price", "t", "name", "ok", "xs"]),
        1 => prop::sample::select(vec!["ID", "Price", "T", "x", "a rather long key that no column has"]),
    ]
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n)),
        any::<i32>().prop_map(|n| json!(n)),
        (-100..100_i32).prop_map(|n| json!(n)),
        any::<f64>()
            .prop_filter("JSON has no others", |n| n.is_finite())
            .prop_map(|n| json!(n)),
        (-1000..1000_i32).prop_map(|n| json!(f64::from(n) / 8.0)),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(|b| json!(b)),
        number(),
        any::<String>().prop_map(|s| json!(s)),
        "[a-z\"\\\\\n/]{0,20}".prop_map(|s| json!(s)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|members| Value::Object(Map::from_iter(members))),
        ]
    })
}

fn fitting(key: &'static str) -> BoxedStrategy<Value> {
    match key {
        "id" => any::<i64>().prop_map(|n| json!(n)).boxed(),
        "price" => number()
            .prop_map(|n| if n.is_f64() { n } else { json!(n.to_string()) })
            .boxed(),
        "t" => any::<i32>().prop_map(|n| json!(n)).boxed(),
        "name" => "\\PC{0,30}".prop_map(|s| json!(s)).boxed(),
        "ok" => any::<bool>().prop_map(|b| json!(b)).boxed(),
        "xs" => prop::collection::vec(any::<i64>(), 0..4)
            .prop_map(|xs| json!(xs))
            .boxed(),
        _ => any_value().boxed(),
    }
}

type Members = Vec<(&'static str, Value)>;

fn members() -> impl Strategy<Value = Members> {
    let member = key().prop_flat_map(|key| {
        prop_oneof![9 => fitting(key), 1 => any_value()].prop_map(move |value| (key, value))
    });
    let always = any::<i64>().prop_map(|id| ("id", json!(id)));
    (always, prop::collection::vec(member, 0..8), any::<bool>()).prop_map(|(id, mut rest, with)| {
        if with {
            rest.insert(0, id);
        }
        rest
    })
}

fn text(members: &Members, blank: &str) -> String {
    let member =
        |(key, value): &(&str, Value)| format!("{blank}{}{blank}:{blank}{value}", json!(key));
    let members: Vec<_> = members.iter().map(member).collect();
    format!("{{{}{blank}}}", members.join(&format!("{blank},")))
}

/// What the column of this name gets, by the rules; `Err` if it makes the frame bad.
fn expected(members: &Members, field: &Field) -> Result<Value, ()> {
    let last = |same: &dyn Fn(&str) -> bool| members.iter().rev().find(|(key, _)| same(key));
    let exact = last(&|key| key == field.name());
    let member = exact.or_else(|| last(&|key| key.eq_ignore_ascii_case(field.name())));
    // A value that does not fit makes the frame bad even if a later one of the same key wins.
    for (_, value) in members.iter().filter(|(key, _)| key == field.name()) {
        fit(value, field)?;
    }
    match member {
        Some((_, value)) => fit(value, field),
        None if field.is_nullable() => Ok(Value::Null),
        None => Err(()),
    }
}

fn fit(value: &Value, field: &Field) -> Result<Value, ()> {
    let numeric = |value: &Value| match value {
        Value::Number(_) => Ok(value.clone()),
        Value::String(text) => match serde_json::from_str(text) {
            Ok(Value::Number(number)) if !text.contains(char::is_whitespace) => Ok(json!(number)),
            _ => Err(()),
        },
        _ => Err(()),
    };
    let whole = |value: &Value| match numeric(value)? {
        value if value.is_i64() => Ok(value),
        value => match value.as_f64() {
            Some(float) if value.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => {
                Ok(json!(float as i64))
            }
            _ => Err(()),
        },
    };
    match field.data_type() {
        _ if value.is_null() && field.is_nullable() => Ok(Value::Null),
        DataType::Int64 => whole(value),
        DataType::Int32 => whole(value).and_then(|value| {
            i32::try_from(value.as_i64().ok_or(())?)
                .map(|n| json!(n))
                .map_err(|_| ())
        }),
        // By way of text, since `serde_json` does not always find the nearest float.
        DataType::Float64 => match numeric(value)? {
            Value::Number(_) if value.is_string() => Ok(json!(
                value.as_str().and_then(|text| text.parse::<f64>().ok())
            )),
            number => Ok(json!(number.to_string().parse::<f64>().ok())),
        },
        DataType::Utf8 if value.is_string() => Ok(value.clone()),
        DataType::Utf8 if value.is_array() || value.is_object() => Ok(json!(value.to_string())),
        DataType::Boolean if value.is_boolean() => Ok(value.clone()),
        DataType::List(items) => {
            let values = value.as_array().ok_or(())?;
            values
                .iter()
                .map(|value| fit(value, items))
                .collect::<Result<Vec<_>, _>>()
                .map(Value::Array)
        }
        _ => Err(()),
    }
}

proptest! {
    #[test]
    fn rows_are_what_the_rules_say(
        runs in prop::collection::vec(prop::collection::vec(members(), 1..12), 1..3),
        blank in prop::sample::select(vec!["", " ", "\n  "]),
    ) {
        let schema = schema();
        let mut decoder = decoder("json", schema.clone(), &Value::Null).unwrap();
        let mut encoder = encoder("json", &schema, &Value::Null).unwrap();
        for run in runs {
            let texts: Vec<_> = run.iter().map(|members| text(members, blank)).collect();
            let decoded = decoder.decode(&frames(&texts));
            let (mut rows, mut bad) = (Vec::new(), Vec::new());
            for (members, text) in run.iter().zip(&texts) {
                let cells = schema.fields().iter().map(|field| {
                    Ok((field.name().clone(), expected(members, field)?))
                });
                match cells.collect::<Result<Map<_, _>, ()>>() {
                    Ok(row) => rows.push(Value::Object(row)),
                    Err(()) => bad.push(text.clone().into_bytes()),
                }
            }
            let mut out = Frames::default();
            encoder.encode(&decoded.rows, &mut out).unwrap();
            let prices = decoded.rows.column(1).as_primitive::<Float64Type>().iter();
            let found: Vec<Value> = out.iter().zip(prices).map(|(row, price)| {
                let mut row: Value = serde_json::from_slice(row).unwrap();
                row["price"] = json!(price);
                row
            }).collect();
            prop_assert_eq!(found, rows);
            prop_assert_eq!(decoded.bad.into_iter().map(|bad| bad.bytes).collect::<Vec<_>>(), bad);
        }
    }

    #[test]
    fn damaged_frames_are_refused_exactly_when_serde_refuses_them(
        all in prop::collection::vec((members(), any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..12),
    ) {
        let texts: Vec<Vec<u8>> = all.iter().map(|(members, place, byte, damage)| {
            let mut text = text(members, "").into_bytes();
            let place = place.index(text.len());
            match damage {
                0 => text[place] = *byte,
                1 => { text.remove(place); }
                2 => text.truncate(place),
                _ => {}
            }
            text
        }).collect();
        // Columns that take anything, so that only the grammar decides.
        let none = Arc::new(Schema::empty());
        let decoded = decoder("json", none, &Value::Null).unwrap().decode(&frames(&texts));
        let is_object = |text: &[u8]| matches!(serde_json::from_slice(text), Ok(Value::Object(_)));
        let good = texts.iter().filter(|text| is_object(text)).count();
        // `serde_json` refuses what we let pass unread: half of a surrogate pair, a huge exponent.
        prop_assert!(decoded.rows.num_rows() >= good);
        prop_assert_eq!(decoded.rows.num_rows() + decoded.bad.len(), texts.len());
        for bad in &decoded.bad {
            prop_assert!(!is_object(&bad.bytes));
        }
    }

    #[test]
    fn any_bytes_are_rows_or_bad(
        texts in prop::collection::vec(prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\u0123456789-.eEtrufalsn ".to_vec())], 0..60), 0..8),
        format in prop::sample::select(vec!["json", "ndjson", "csv"]),
    ) {
        let fields = schema().fields().iter().take(5).cloned().collect::<Vec<_>>();
        let mut decoder = decoder(format, Arc::new(Schema::new(fields)), &Value::Null).unwrap();
        let decoded = decoder.decode(&frames(&texts));
        if format == "json" {
            let arrays = texts.iter().filter(|text| text.contains(&b'[')).count();
            prop_assert!(decoded.rows.num_rows() + decoded.bad.len() + arrays >= texts.len());
        }
        for bad in &decoded.bad {
            prop_assert!(!bad.reason.is_empty());
        }
    }
}
