//! `generate`: rows from a seed, at a rate, for demonstrations, tests and benchmarks.
//!
//! A row is a function of the seed and its number: the same options make the same rows on every machine
//! and in every run, and a source continues from its cursor, the number of rows made so far, without
//! keeping anything else. The cursor also holds the options that decide the rows: a cursor of another seed
//! or rate is refused. Event time is generated as well, at the same rate.
//!
//! `rows.rs` fills any columns by type, `nexmark.rs` makes the tables of the Nexmark benchmark, `dice.rs`
//! makes random numbers.

mod dice;
mod nexmark;
mod rows;

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use async_trait::async_trait;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::options::{ByteSize, Checked, Objection, OptionSet, Options};
use crate::{
    Clock, Connector, Cursor, End, Error, Lifecycle, Output, Result, Source, SourceArgs,
    SourceKind, SystemClock,
};
use nexmark::Nexmark;
use rows::Rows;

pub const CONNECTOR: Connector = Connector {
    name: "generate",
    summary: "rows from a seed at a rate, or the streams of the Nexmark benchmark",
    source: Some(SourceKind {
        options: OptionSet::of::<GenerateOptions>(),
        formats: &[],
        max_frame: ByteSize(0),
        columns,
        create,
    }),
    sink: None,
};

/// The largest number of rows in a batch.
const BATCH: u64 = 8_192;
/// The shortest time between two batches at a limited rate.
const PACE: Duration = Duration::from_millis(10);
/// The longest delay that a source catches up with.
const HELD_UP: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GenerateOptions {
    /// The kind of rows: `rows` fills the declared columns by type (the first column of whole numbers
    /// counts from 0, texts are one of `keys`, times are event time, the rest is random); `nexmark`
    /// makes one `table` of the Nexmark benchmark.
    #[serde(default)]
    kind: GenerateKind,
    /// The table of `kind = 'nexmark'`.
    #[serde(default)]
    table: Option<NexmarkTable>,
    /// The number of rows per second; 0 is as fast as they are taken. Event time runs at the same rate, at
    /// 10,000 events per second if this is 0.
    #[serde(default = "ten")]
    #[schemars(range(min = 0))]
    rows_per_second: f64,
    /// The number of rows after which the source ends. Default: no end.
    #[serde(default)]
    rows: Option<u64>,
    /// Decides every random value.
    #[serde(default)]
    seed: u64,
    /// The number of different texts in a column of text. Default: 10.
    #[serde(default)]
    #[schemars(range(min = 1))]
    keys: Option<u64>,
    /// The event time of the first row: a time such as '2026-01-01T00:00:00Z', or 'now'.
    #[serde(default)]
    start_time: StartTime,
}

fn ten() -> f64 {
    10.0
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum GenerateKind {
    #[default]
    Rows,
    Nexmark,
}

/// A table of the Nexmark benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum NexmarkTable {
    Person,
    Auction,
    Bid,
}

impl fmt::Display for NexmarkTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Person => "person",
            Self::Auction => "auction",
            Self::Bid => "bid",
        })
    }
}

impl Options for GenerateOptions {
    fn objections(&self) -> Vec<Objection> {
        let mut objections = Vec::new();
        let mut object = |options: &[&'static str], reason: &str| {
            objections.push(Objection::new(options, reason));
        };
        let nexmark = self.kind == GenerateKind::Nexmark;
        if nexmark && self.table.is_none() {
            let reason = "kind 'nexmark' needs one of 'person', 'auction', 'bid'";
            object(&["table"], reason);
        }
        if !nexmark && self.table.is_some() {
            object(&["table", "kind"], "only kind 'nexmark' has tables");
        }
        if nexmark && self.keys.is_some() {
            object(&["keys", "kind"], "kind 'nexmark' has its own texts");
        }
        objections
    }
}

/// When event time begins.
#[derive(Debug, Clone, Copy, PartialEq)]
enum StartTime {
    Now,
    At(jiff::Timestamp),
}

impl Default for StartTime {
    /// Default: 2026-01-01T00:00:00Z, in seconds.
    fn default() -> Self {
        Self::At(jiff::Timestamp::constant(1_767_225_600, 0))
    }
}

impl StartTime {
    fn us(self, clock: &dyn Clock) -> i64 {
        match self {
            Self::Now => clock.now_us(),
            Self::At(time) => time.as_microsecond(),
        }
    }
}

impl Serialize for StartTime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Now => serializer.serialize_str("now"),
            Self::At(time) => serializer.collect_str(time),
        }
    }
}

impl<'de> Deserialize<'de> for StartTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.eq_ignore_ascii_case("now") {
            return Ok(Self::Now);
        }
        let wrong =
            |_| de::Error::custom(format!("{text:?} is neither 'now' nor a time with a zone"));
        text.parse().map(Self::At).map_err(wrong)
    }
}

impl JsonSchema for StartTime {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StartTime".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-kind": "time", "x-example": "'2026-01-01T00:00:00Z'" })
    }
}

/// The event time of the n-th row, or of the n-th event of all tables.
#[derive(Debug, Clone, Copy)]
struct Clockwork {
    start_us: i64,
    row_us: f64,
    event_us: f64,
}

impl Clockwork {
    fn new(options: &GenerateOptions, start_us: i64) -> Self {
        let events_per_row = match options.table {
            Some(table) => nexmark::ROUND as f64 / nexmark::share(table) as f64,
            None => 1.0,
        };
        if options.rows_per_second > 0.0 {
            let row_us = 1e6 / options.rows_per_second;
            Self {
                start_us,
                row_us,
                event_us: row_us / events_per_row,
            }
        } else {
            Self {
                start_us,
                row_us: 100.0 * events_per_row,
                event_us: 100.0,
            }
        }
    }

    fn row(&self, row: u64) -> i64 {
        self.start_us
            .saturating_add((row as f64 * self.row_us) as i64)
    }

    fn event(&self, number: u64) -> i64 {
        self.start_us
            .saturating_add((number as f64 * self.event_us) as i64)
    }
}

/// Makes rows from their numbers.
trait Maker: Send + Sync {
    fn make(&self, rows: Range<u64>, time: &Clockwork) -> Result<RecordBatch, ArrowError>;
}

fn maker(options: &GenerateOptions, schema: SchemaRef) -> Result<Box<dyn Maker>> {
    Ok(match options.table {
        Some(table) => Box::new(Nexmark::new(table, schema, options.seed)?),
        None => Box::new(Rows::new(schema, options.seed, options.keys.unwrap_or(10))?),
    })
}

fn columns(options: &Checked, declared: Option<SchemaRef>) -> Result<Option<SchemaRef>> {
    let options: GenerateOptions = options.get()?;
    let schema = declared.or_else(|| options.table.map(Nexmark::schema));
    let Some(schema) = schema else {
        return Ok(None);
    };
    maker(&options, schema.clone())?;
    Ok(Some(schema))
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct GenerateCursor {
    /// The number of rows made so far.
    row: u64,
    /// The event time of row 0.
    start_us: i64,
    /// The options that decided the rows.
    made_by: MadeBy,
}

/// The options that decide every row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct MadeBy {
    seed: u64,
    table: Option<NexmarkTable>,
    keys: Option<u64>,
    rows_per_second: f64,
}

impl MadeBy {
    fn of(options: &GenerateOptions) -> Self {
        Self {
            seed: options.seed,
            table: options.table,
            keys: options.keys,
            rows_per_second: options.rows_per_second,
        }
    }

    /// The first difference from `now`, as a sentence.
    fn differs(&self, now: &Self) -> Option<String> {
        let of = |made_by: &Self| {
            let table = made_by.table.map(|table| table.to_string());
            let keys = made_by.keys.map(|keys| keys.to_string());
            [
                ("seed", made_by.seed.to_string()),
                ("table", table.unwrap_or_else(|| "none".to_owned())),
                ("keys", keys.unwrap_or_else(|| "the default".to_owned())),
                ("rows_per_second", made_by.rows_per_second.to_string()),
            ]
        };
        let mut pairs = of(self).into_iter().zip(of(now));
        let ((name, then), (_, now)) = pairs.find(|(then, now)| then != now)?;
        Some(format!(
            "its rows were made with {name} {then}, now it is {now}"
        ))
    }
}

impl GenerateCursor {
    fn start(options: &GenerateOptions) -> Self {
        Self {
            row: 0,
            start_us: options.start_time.us(&SystemClock),
            made_by: MadeBy::of(options),
        }
    }

    fn of(cursor: &Cursor, options: &GenerateOptions) -> Result<Self> {
        let at: Self = cursor.read()?;
        match at.made_by.differs(&MadeBy::of(options)) {
            Some(reason) => Err(Error::BadCursor { reason }),
            None => Ok(at),
        }
    }
}

fn create(args: SourceArgs<'_>) -> Result<Box<dyn Source>> {
    let options: GenerateOptions = args.options.get()?;
    let cursor = match args.cursor {
        Some(cursor) => GenerateCursor::of(&cursor, &options)?,
        None => GenerateCursor::start(&options),
    };
    let maker = maker(&options, args.schema)?;
    Ok(Box::new(Generate {
        options,
        maker,
        cursor,
    }))
}

struct Generate {
    options: GenerateOptions,
    maker: Box<dyn Maker>,
    cursor: GenerateCursor,
}

#[async_trait]
impl Source for Generate {
    async fn validate(&self) -> Result<()> {
        Ok(())
    }

    async fn run(&mut self, out: &mut Output, stop: CancellationToken) -> Result<End> {
        let to = format!("seed {}", self.options.seed);
        out.lifecycle(Lifecycle::Connected { to }).await?;
        let time = Clockwork::new(&self.options, self.cursor.start_us);
        let end = self.options.rows.unwrap_or(u64::MAX);
        let mut pace = RowPace::new(self.options.rows_per_second);
        while self.cursor.row < end {
            if stop.is_cancelled() {
                return Ok(End::Stopped);
            }
            let due = pace.due().min(BATCH).min(end - self.cursor.row);
            if due > 0 {
                self.emit(due, &time, out).await?;
                pace.made += due;
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = pace.wait() => {}
            }
        }
        Ok(End::Finished)
    }

    fn supports_incremental(&self) -> bool {
        true
    }

    fn is_finite(&self) -> bool {
        self.options.rows.is_some()
    }
}

impl Generate {
    /// The next `count` rows, with the cursor behind them.
    async fn emit(&mut self, count: u64, time: &Clockwork, out: &mut Output) -> Result<()> {
        let next = self.cursor.row + count;
        let batch = self.maker.make(self.cursor.row..next, time);
        let batch = batch.map_err(|error| Error::Generate {
            reason: error.to_string(),
        })?;
        out.rows(batch).await?;
        self.cursor.row = next;
        out.cursor(Cursor::of(&self.cursor)?).await
    }
}

/// Computes how many rows are due.
struct RowPace {
    per_second: f64,
    since: Instant,
    made: u64,
}

impl RowPace {
    /// Starts now; a `per_second` of 0 is without limit.
    fn new(per_second: f64) -> Self {
        Self {
            per_second,
            since: Instant::now(),
            made: 0,
        }
    }

    /// The number of rows that should have been made by now and were not.
    fn due(&mut self) -> u64 {
        if self.per_second <= 0.0 {
            return u64::MAX;
        }
        let should = |since: Instant, rate: f64| (since.elapsed().as_secs_f64() * rate) as u64 + 1;
        let due = should(self.since, self.per_second).saturating_sub(self.made);
        let lag = due as f64 / self.per_second;
        if due > 1 && lag > HELD_UP.as_secs_f64() + 1.0 / self.per_second {
            (self.since, self.made) = (Instant::now(), 0);
            return 1;
        }
        due
    }

    /// Waits until the next row is due, at least [`PACE`].
    async fn wait(&self) {
        let next = self.made as f64 / self.per_second;
        let next = Duration::try_from_secs_f64(next).unwrap_or(Duration::MAX);
        let soonest = Instant::now() + PACE;
        let at = self
            .since
            .checked_add(next)
            .map_or(soonest, |next| next.max(soonest));
        tokio::time::sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests;
