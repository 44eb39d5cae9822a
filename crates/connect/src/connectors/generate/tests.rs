//! The same seed makes the same rows, at the configured rate, and continues from its cursor.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};

use super::*;
use crate::options::Value;
use crate::scripted::{care, next, source_spec, start};
use crate::{Blueprint, Item, SourceHandle, SourceSpec};

fn spec(list: &[(&str, Value)], columns: Option<SchemaRef>) -> Result<SourceSpec, String> {
    source_spec("generate", list, columns)
}

fn columns() -> SchemaRef {
    let field = |name: &str, of| Field::new(name, of, false);
    Arc::new(Schema::new(vec![
        field("n", DataType::Int64),
        field("x", DataType::Int32),
        field("price", DataType::Float64),
        field("key", DataType::Utf8),
        field("ok", DataType::Boolean),
        field("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
        field("day", DataType::Date32),
        field("cost", DataType::Decimal128(10, 2)),
    ]))
}

/// All rows of a source that ends, and its last cursor.
async fn all(spec: SourceSpec, cursor: Option<Cursor>) -> (RecordBatch, Option<Cursor>) {
    let schema = spec.schema();
    let source = SourceHandle::new(Arc::new(spec), cursor, care());
    let mut items = start(&source);
    let mut batches = Vec::new();
    while let Some(item) = next(&mut items).await {
        if let Item::Rows(delivery) = item {
            assert!(delivery.cursor.is_some(), "each delivery has its cursor");
            batches.push(delivery.rows);
        }
    }
    (
        concat_batches(&schema, &batches).unwrap(),
        source.status().cursor,
    )
}

fn fast(rows: i64) -> Vec<(&'static str, Value)> {
    vec![
        ("rows", rows.into()),
        ("rows_per_second", 0.into()),
        ("seed", 7.into()),
    ]
}

#[tokio::test]
async fn the_same_seed_makes_the_same_rows() {
    let (first, _) = all(spec(&fast(20_000), Some(columns())).unwrap(), None).await;
    let (again, _) = all(spec(&fast(20_000), Some(columns())).unwrap(), None).await;
    assert_eq!(first.num_rows(), 20_000);
    assert_eq!(first, again);
    let other = [
        ("rows", 20_000.into()),
        ("rows_per_second", 0.into()),
        ("seed", 8.into()),
    ];
    let (other, _) = all(spec(&other, Some(columns())).unwrap(), None).await;
    assert_ne!(first, other);
    let numbers = first.column(0).as_primitive::<Int64Type>().values();
    assert!(numbers.iter().copied().eq(0..20_000));
    let times = first
        .column(5)
        .as_primitive::<TimestampMicrosecondType>()
        .values();
    assert_eq!(
        (times[0], times[1]),
        (1_767_225_600_000_000, 1_767_225_600_000_100)
    );
}

#[tokio::test]
async fn a_count_begins_again_where_its_type_ends() {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int8, false)]));
    let (rows, _) = all(spec(&fast(300), Some(schema)).unwrap(), None).await;
    let column = rows.column(0).as_primitive::<arrow::datatypes::Int8Type>();
    assert_eq!(column.values()[126..130], [126, 127, 0, 1]);
    let tight = Field::new("d", DataType::Decimal128(4, 2), false);
    let error = spec(&[], Some(Arc::new(Schema::new(vec![tight]))))
        .err()
        .unwrap();
    assert!(
        error.ends_with("generate needs 3 digits before the point, it has 2"),
        "{error}"
    );
}

#[tokio::test]
async fn it_goes_on_from_its_cursor() {
    let (whole, _) = all(spec(&fast(10_000), Some(columns())).unwrap(), None).await;
    let (head, cursor) = all(spec(&fast(3_333), Some(columns())).unwrap(), None).await;
    let (tail, _) = all(spec(&fast(10_000), Some(columns())).unwrap(), cursor).await;
    assert_eq!(concat_batches(&columns(), [&head, &tail]).unwrap(), whole);
}

#[tokio::test]
async fn every_table_goes_on_from_every_cursor() {
    for table in ["person", "auction", "bid"] {
        let list = |rows| {
            let mut list = fast(rows);
            list.extend([("kind", "nexmark".into()), ("table", table.into())]);
            spec(&list, None).unwrap()
        };
        let schema = list(1).schema();
        let (whole, _) = all(list(1_000), None).await;
        for rows in [0, 1, 45, 46, 47, 700] {
            let (head, cursor) = all(list(rows), None).await;
            let (tail, _) = all(list(1_000), cursor).await;
            let joined = concat_batches(&schema, [&head, &tail]).unwrap();
            assert_eq!(joined, whole, "{table} {rows}");
        }
    }
}

#[tokio::test]
async fn a_cursor_of_other_rows_is_refused() {
    let (_, cursor) = all(spec(&fast(10), Some(columns())).unwrap(), None).await;
    for (key, value, expected) in [
        ("seed", Value::from(8), "made with seed 7, now it is 8"),
        (
            "rows_per_second",
            5.into(),
            "rows_per_second 0, now it is 5",
        ),
        ("keys", 3.into(), "keys the default, now it is 3"),
    ] {
        let mut list = fast(10);
        list.retain(|(other, _)| *other != key);
        list.push((key, value));
        let source = spec(&list, Some(columns())).unwrap().source(cursor.clone());
        let error = source.err().unwrap().to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn rows_come_at_the_rate_asked_for() {
    let list = [("rows_per_second", 1_000.into())];
    let spec = spec(&list, Some(columns())).unwrap();
    let source = SourceHandle::new(Arc::new(spec), None, care());
    let mut items = start(&source);
    let started = Instant::now();
    let (mut rows, mut batches) = (0, 0);
    while started.elapsed() < Duration::from_secs(10) {
        if let Some(Item::Rows(delivery)) = next(&mut items).await {
            rows += delivery.rows.num_rows();
            batches += 1;
        }
    }
    assert!((9_990..=10_030).contains(&rows), "{rows}");
    assert!((500..=1_100).contains(&batches), "{batches}");
    // Held up for a minute: it does not make up for it.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let (mut late, resumed) = (0, Instant::now());
    while resumed.elapsed() < Duration::from_secs(1) {
        if let Some(Item::Rows(delivery)) = next(&mut items).await {
            late += delivery.rows.num_rows();
        }
    }
    assert!(late < 2_200, "{late}");
    source.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_one_makes_its_first_row_at_once() {
    let list = [("rows_per_second", Value::Number(0.01)), ("rows", 2.into())];
    let started = Instant::now();
    let (rows, _) = all(spec(&list, Some(columns())).unwrap(), None).await;
    assert_eq!(rows.num_rows(), 2);
    assert_eq!(started.elapsed().as_secs(), 100);
}

#[tokio::test]
async fn nexmark_tables_fit_together() {
    let table = |name: &str, rows: i64| {
        let mut list = fast(rows);
        list.extend([("kind", "nexmark".into()), ("table", name.into())]);
        all(spec(&list, None).unwrap(), None)
    };
    let ((people, _), (auctions, _), (bids, _)) = tokio::join!(
        table("person", 400),
        table("auction", 1_200),
        table("bid", 18_400)
    );
    let ids = |batch: &RecordBatch, name: &str| {
        let column = batch
            .column_by_name(name)
            .unwrap()
            .as_primitive::<Int64Type>();
        column.values().to_vec()
    };
    assert!(ids(&people, "id").into_iter().eq(1_000..1_400));
    assert!(ids(&auctions, "id").into_iter().eq(1_000..2_200));
    assert!(
        ids(&auctions, "seller")
            .iter()
            .all(|id| (1_000..1_400).contains(id))
    );
    assert!(
        ids(&bids, "bidder")
            .iter()
            .all(|id| (1_000..1_400).contains(id))
    );
    let auctioned = ids(&bids, "auction");
    assert!(auctioned.iter().all(|id| (1_000..2_200).contains(id)));
    let hot = auctioned.iter().filter(|id| *id % 100 == 0).count();
    assert!(
        (9_000..10_000).contains(&hot),
        "{hot} of 18,400 bids are for hot auctions"
    );
    let prices = ids(&bids, "price");
    assert!(
        prices
            .iter()
            .all(|price| (100..=100_000_000).contains(price))
    );

    let times = |batch: &RecordBatch| {
        let column = batch.column_by_name("date_time").unwrap();
        column
            .as_primitive::<TimestampMicrosecondType>()
            .values()
            .to_vec()
    };
    // An event every 100 us: a person, three auctions, then bids.
    let start = times(&people)[0];
    assert_eq!(
        times(&auctions)[..4],
        [start + 100, start + 200, start + 300, start + 5_100]
    );
    assert_eq!(times(&bids)[0], start + 400);
    // Nobody bids for what is not there yet.
    let opened = |id: i64| times(&auctions)[(id - 1_000) as usize];
    let early = auctioned
        .iter()
        .zip(times(&bids))
        .filter(|(id, at)| opened(**id) > *at)
        .count();
    assert_eq!(early, 0);
}

#[tokio::test]
async fn nexmark_columns_may_be_chosen() {
    let fields = vec![
        Field::new("PRICE", DataType::Float64, false),
        Field::new("channel", DataType::Utf8View, true),
        Field::new(
            "date_time",
            DataType::Timestamp(TimeUnit::Nanosecond, None),
            false,
        ),
    ];
    let schema = Arc::new(Schema::new(fields));
    let mut list = fast(100);
    list.extend([("kind", "nexmark".into()), ("table", "bid".into())]);
    let (some, _) = all(spec(&list, Some(schema.clone())).unwrap(), None).await;
    assert_eq!(some.schema(), schema);
    let wrong = Arc::new(Schema::new(vec![Field::new(
        "prize",
        DataType::Int64,
        false,
    )]));
    let error = spec(&list, Some(wrong)).err().unwrap();
    assert!(error.contains("did you mean price?"), "{error}");
}

#[test]
fn what_cannot_be_made_is_refused() {
    let binary = Arc::new(Schema::new(vec![Field::new("b", DataType::Binary, false)]));
    let refused = |list: &[(&str, Value)], columns| spec(list, columns).err().unwrap();
    let error = refused(&[], Some(binary));
    assert_eq!(
        error,
        "column \"b\" cannot be used here: generate knows no values of type Binary"
    );
    let error = refused(&[], None);
    assert_eq!(
        error,
        "connector generate needs columns: it has none of its own"
    );
    let error = refused(&[("kind", "nexmark".into()), ("keys", 3.into())], None);
    assert!(
        error.contains("\"table\" is wrong: kind 'nexmark' needs one of"),
        "{error}"
    );
    assert!(error.contains("\"keys\" contradicts \"kind\""), "{error}");
    let error = refused(
        &[
            ("start_time", "soon".into()),
            ("rows_per_second", (-1).into()),
        ],
        None,
    );
    assert!(
        error.contains("\"soon\" is neither 'now' nor a time"),
        "{error}"
    );
    assert!(error.contains("must be at least 0, it is -1"), "{error}");
}

#[test]
fn a_foreign_cursor_is_refused() {
    let spec = spec(&fast(1), Some(columns())).unwrap();
    let error = spec.source(Some(Cursor("elsewhere".into()))).err().unwrap();
    assert!(
        error
            .to_string()
            .starts_with("the saved cursor is not from this connector")
    );
}
