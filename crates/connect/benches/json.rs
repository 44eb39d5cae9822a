//! JSON decoding beside `arrow-json`, over the same frames in the same run.
//!
//! `cargo bench -p headwater-connect --bench json [frames]` prints MB/s and rows/s of both and their
//! ratio, for a few shapes of objects. Frames are made once, in memory, and decoded in runs of 8,192;
//! each decoder goes over all of them in turn, and the best of several passes counts, as on a
//! shared machine every disturbance makes a pass slower and none makes it faster.
//!
//! `arrow-json` reads the frames as lines with its push decoder, which is how it would be used here.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use headwater_connect::formats::{Decoder, Frames, format};
use headwater_connect::options::check;

const RUN: usize = 8_192;
const PASSES: usize = 5;

struct Shape {
    name: &'static str,
    schema: SchemaRef,
    frame: fn(u64) -> String,
}

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let field = |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

fn shapes() -> Vec<Shape> {
    let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
    vec![
        Shape {
            name: "trades",
            schema: schema(&[
                ("symbol", DataType::Utf8),
                ("price", DataType::Float64),
                ("qty", DataType::Int64),
                ("ts", DataType::Int64),
            ]),
            frame: |i| {
                let symbol = ["BTC", "ETH", "SOL", "DOGE"][(i % 4) as usize];
                let price = 50_000.5 + (i % 1_000) as f64 / 2.0;
                let (qty, ts) = (i % 100, 1_700_000_000_000 + i);
                format!(r#"{{"symbol":"{symbol}","price":{price:?},"qty":{qty},"ts":{ts}}}"#)
            },
        },
        Shape {
            name: "trades, ts a TIMESTAMP",
            schema: schema(&[
                ("symbol", DataType::Utf8),
                ("price", DataType::Float64),
                ("qty", DataType::Int64),
                ("ts", millis.clone()),
            ]),
            frame: |i| {
                let symbol = ["BTC", "ETH", "SOL", "DOGE"][(i % 4) as usize];
                let (qty, ts) = (i % 100, 1_700_000_000_000 + i);
                format!(r#"{{"symbol":"{symbol}","price":50000.5,"qty":{qty},"ts":{ts}}}"#)
            },
        },
        Shape {
            name: "binance, 4 of 10 keys",
            schema: schema(&[
                ("s", DataType::Utf8),
                ("p", DataType::Float64),
                ("q", DataType::Float64),
                ("T", millis),
            ]),
            frame: |i| {
                let (price, id, time) = (i % 90_000, 12_345 + i, 1_700_000_000_000 + i);
                format!(
                    r#"{{"e":"trade","E":{time},"s":"BNBBTC","t":{id},"p":"{price}.10000000","q":"0.10000000","b":{id},"T":{time},"m":true,"M":true}}"#
                )
            },
        },
        Shape {
            name: "log lines, blanks, long text",
            schema: schema(&[
                ("level", DataType::Utf8),
                ("message", DataType::Utf8),
                ("status", DataType::Int32),
                ("seconds", DataType::Float64),
            ]),
            frame: |i| {
                let status = 200 + i % 300;
                format!(
                    r#"{{"level": "info", "message": "GET /api/v1/items/{i}?q=something%20long&page=3 HTTP/1.1 from 10.0.{}.{}", "extra": {{"user": null, "tags": ["a", "b"]}}, "status": {status}, "seconds": 0.{:06}}}"#,
                    i / 256 % 256,
                    i % 256,
                    i % 1_000_000
                )
            },
        },
    ]
}

fn ours(schema: &SchemaRef, runs: &[Frames]) -> Duration {
    let mut decoder = decoder(schema.clone());
    let start = Instant::now();
    for run in runs {
        let decoded = decoder.decode(run);
        assert!(decoded.bad.is_empty(), "{}", decoded.bad[0].reason);
        assert_eq!(decoded.rows.num_rows(), run.len());
        black_box(decoded.rows);
    }
    start.elapsed()
}

fn decoder(schema: SchemaRef) -> Box<dyn Decoder> {
    let json = format("json").expect("there is such a format");
    let options = check::<()>("", json.decoder_options.as_slice(), &[]);
    let options = options.expect("no option is required");
    let make = json.decoder.expect("it is read");
    make(schema, &options).expect("these columns can be decoded")
}

fn theirs(schema: &SchemaRef, runs: &[Vec<u8>]) -> Duration {
    let mut decoder = arrow_json::ReaderBuilder::new(schema.clone())
        .with_batch_size(RUN)
        .build_decoder()
        .expect("these columns can be decoded");
    let start = Instant::now();
    for run in runs {
        let mut rest = &run[..];
        while !rest.is_empty() {
            let read = decoder.decode(rest).expect("the frames are well-formed");
            rest = &rest[read..];
            if read == 0 || rest.is_empty() {
                black_box(decoder.flush().expect("the frames fit the columns"));
            }
        }
    }
    start.elapsed()
}

fn main() {
    let frames = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(1_000_000_u64);
    println!(
        "{:<30} {:>10} {:>10} {:>10} {:>10} {:>7}",
        "json", "MB/s", "M rows/s", "arrow MB/s", "M rows/s", "ratio"
    );
    for Shape {
        name,
        schema,
        frame,
    } in shapes()
    {
        let (mut runs, mut lines) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        for first in (0..frames).step_by(RUN) {
            let (mut run, mut line) = (Frames::default(), Vec::new());
            for i in first..frames.min(first + RUN as u64) {
                let frame = frame(i);
                bytes += frame.len();
                run.push(frame.as_bytes());
                line.extend_from_slice(frame.as_bytes());
                line.push(b'\n');
            }
            runs.push(run);
            lines.push(line);
        }
        let passes = (0..PASSES).map(|_| (ours(&schema, &runs), theirs(&schema, &lines)));
        let best = passes
            .reduce(|a, b| (a.0.min(b.0), a.1.min(b.1)))
            .expect("there are passes");
        let (us, them) = (best.0.as_secs_f64(), best.1.as_secs_f64());
        let (mega, rows) = (bytes as f64 / 1e6, frames as f64 / 1e6);
        println!(
            "{name:<30} {:>10.0} {:>10.2} {:>10.0} {:>10.2} {:>6.1}x",
            mega / us,
            rows / us,
            mega / them,
            rows / them,
            them / us
        );
    }
}
