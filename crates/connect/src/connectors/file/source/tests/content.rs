//! Compressed files, byte order marks and headers.

use std::fs;
use std::io::Write;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::bench::Bench;
use crate::Item;
use crate::conform::within;

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

#[tokio::test]
async fn compressed_files_are_decompressed() {
    let mut bench = Bench::new("*", &[("follow", false.into())]);
    let mut two = gzip("a\nb\n");
    two.extend(gzip("c\nd"));
    fs::write(bench.path("1"), two).unwrap();
    fs::write(
        bench.path("2"),
        zstd::encode_all(&b"e\nf\n"[..], 0).unwrap(),
    )
    .unwrap();
    fs::write(bench.path("3"), "\u{1f}plain\n").unwrap();
    bench.start();
    bench
        .expect_all(&[
            "1: a",
            "1: b",
            "1: c",
            "1: d",
            "2: e",
            "2: f",
            "3: \u{1f}plain",
        ])
        .await;
}

#[tokio::test]
async fn a_compressed_file_is_continued_and_its_damage_is_reported() {
    let mut bench = Bench::new("*", &[]);
    let text: String = (0..1_000).map(|line| format!("{line}\n")).collect();
    fs::write(bench.path("log.gz"), gzip(&text)).unwrap();
    bench.start();
    bench.take_until(1_000).await;
    bench.shown.clear();
    bench.stop().await;
    let mut more = bench.writer("log.gz");
    more.write_all(&gzip("more\n")).unwrap();
    bench.restart_from_cursor();
    bench.expect(&["log.gz: more"]).await;
    // Half a member: the other half may still come.
    let member = gzip("later\n");
    more.write_all(&member[..10]).unwrap();
    bench.take().await;
    let gap = bench.shown.pop().unwrap();
    assert!(
        gap.starts_with("gap: log.gz cannot be decompressed: "),
        "{gap}"
    );
    more.write_all(&member[10..]).unwrap();
    bench.expect(&["log.gz: later"]).await;
    bench.stop().await;
    fs::write(
        bench.path("bad.gz"),
        [&gzip("fine\n")[..], b"\x1f\x8b\x08\x00 not gzip at all"].concat(),
    )
    .unwrap();
    bench.restart_from_cursor();
    while !bench
        .shown
        .iter()
        .any(|line| line.starts_with("gap: bad.gz cannot be decompressed"))
    {
        bench.take().await;
    }
    assert_eq!(bench.shown[0], "bad.gz: fine");
    bench.stop().await;
}

/// Some programs put a byte order mark before a text; without this the first column would be NULL.
#[tokio::test]
async fn a_byte_order_mark_is_not_part_of_the_text() {
    let columns = Schema::new(vec![
        Field::new("a", DataType::Utf8, true),
        Field::new("b", DataType::Utf8, true),
    ]);
    let more = [("format", "csv".into()), ("header", true.into())];
    let mut bench = Bench::with_columns("*", &more, Some(Arc::new(columns)));
    bench.append("plain", "\u{feff}a,b\n1,x\n");
    let text = "\u{feff}b,a\ny,2\n";
    let packed = zstd::encode_all(text.as_bytes(), 0).unwrap();
    fs::write(bench.path("packed"), packed).unwrap();
    bench.start();
    bench.expect(&["packed: 2", "plain: 1"]).await;
    bench.stop().await;
    // The cursor is behind the mark as well.
    bench.append("plain", "\u{feff}3,z\n");
    bench.restart_from_cursor();
    bench.expect(&["plain: \u{feff}3"]).await;
    bench.stop().await;
    for (format, expected) in [("text", "t: a"), ("bytes", "t: \u{feff}a")] {
        let column = match format {
            "text" => DataType::Utf8,
            _ => DataType::Binary,
        };
        let columns = Schema::new(vec![Field::new("line", column, true)]);
        let more = [("format", format.into())];
        let mut bench = Bench::with_columns("t", &more, Some(Arc::new(columns)));
        bench.append("t", "\u{feff}a\n");
        bench.start();
        bench.expect(&[expected]).await;
        bench.stop().await;
    }
}

#[tokio::test]
async fn the_header_of_each_file_counts_for_its_own_lines() {
    let columns = Schema::new(vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
    ]);
    let more = [("format", "csv".into()), ("header", true.into())];
    let mut bench = Bench::with_columns("*", &more, Some(Arc::new(columns)));
    bench.append("a", "name,n\na,1\n");
    bench.append("b", "n,name\n2,b\n");
    bench.start();
    bench.expect(&["a: a", "b: b"]).await;
    bench.append("a", "c,3\n");
    bench.expect(&["a: c"]).await;
    bench.append("b", "4,d\n");
    bench.expect(&["b: d"]).await;
    bench.stop().await;
    bench.append("b", "5,e\n");
    bench.restart_from_cursor();
    let delivery = async {
        loop {
            if let Some(Item::Rows(delivery)) = bench.items.recv().await {
                break delivery;
            }
        }
    };
    let delivery = within("rows", delivery).await;
    assert_eq!(delivery.rows.column(0).as_string::<i32>().value(0), "e");
    assert_eq!(
        delivery.rows.column(1).as_primitive::<Int64Type>().value(0),
        5
    );
    bench.stop().await;
}

fn two_columns() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
    ]))
}

/// The cursor is at the end of a record, never in its quotes; what is open is waited for.
#[tokio::test]
async fn a_record_of_csv_has_line_ends_in_quotes() {
    let more = [("format", "csv".into())];
    let mut bench = Bench::with_columns("csv", &more, Some(two_columns()));
    bench.append("csv", "\"a\nb\",1\nc,2\n\"d\n");
    bench.start();
    bench.expect(&["csv: a\nb", "csv: c"]).await;
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    bench.stop().await;
    bench.expect_all(&[]).await;
    bench.append("csv", "e\"\",f\n\",3\r\ng,4\n");
    bench.restart_from_cursor();
    bench.expect(&["csv: d\ne\",f\n", "csv: g"]).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_quote_that_is_never_closed_costs_one_bad_row() {
    let more = [
        ("format", "csv".into()),
        ("max_frame", "16 B".into()),
        ("follow", false.into()),
    ];
    let mut bench = Bench::with_columns("csv", &more, Some(two_columns()));
    bench.append("csv", "a,1\n\"b,2\nccc,3\ndddd,4\ne,5\nf\n\"g\n");
    bench.start();
    bench
        .expect_sorted(&[
            "<malformed CSV: the quote of a field is not closed before the frame ends>",
            "<the frame has 17 bytes, the largest taken has 16>",
            "<the record has 1 field, there are 2 columns>",
            "csv: a",
            "csv: e",
        ])
        .await;
}

#[tokio::test]
async fn a_header_without_a_column_is_a_warning_once_a_file() {
    let more = [("format", "csv".into()), ("header", true.into())];
    let mut bench = Bench::with_columns("*", &more, Some(two_columns()));
    bench.append("a", "name\nx\n");
    bench.append("b", "name\ny\n");
    let warning = "warning: a: the header does not name the column n, which is NULL";
    bench.start();
    bench
        .expect(&[warning, "a: x", &warning.replace(" a:", " b:"), "b: y"])
        .await;
    // The header is read again when rows of another file came in between.
    bench.append("a", "z\n");
    bench.expect(&["a: z"]).await;
    bench.stop().await;
}
