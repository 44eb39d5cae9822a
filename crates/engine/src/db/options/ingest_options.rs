//! The options that every source has: its buffer, its log, how often state is saved.

use headwater_connect::options::{
    ByteSize, Duration, Objection, OptionSet, Options, Row, count, mebibytes, seconds,
};
use headwater_log::Retention;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::dataflow::MetadataColumn;
use crate::source::{Backpressure, SourceConfig, WaitStrategy, WalMode};
use crate::sql::{SqlError, WatermarkClause, sqlstate};

/// The options that every source has, whatever its connector.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IngestOptions {
    /// Rows that wait to be processed, for each handle or connector; a power of two.
    #[serde(default = "count::<65_536>")]
    #[schemars(range(min = 2, max = 1_073_741_824))]
    buffer_size: u64,
    /// What happens to new rows when the buffer is full.
    #[serde(default)]
    backpressure: BackpressureOption,
    /// How a program that pushes rows waits for space.
    #[serde(default)]
    wait_strategy: WaitOption,
    /// A producer that has sent nothing for this long does not hold back the watermark.
    #[serde(default = "seconds::<10>")]
    pub idle_timeout: Duration,
    /// How the watermark goes on while no rows come for `idle_timeout`: by the `clock`, as far as it closes a
    /// window, or not (`none`). By the clock for a source with a connector, as long as that is connected,
    /// unless this says otherwise.
    idle_advance: Option<IdleAdvanceOption>,
    /// When rows are written to the log: `async` soon after they came, `sync` before a push returns
    /// and before any result shows them, `off` never. A database in memory has only `off`.
    pub wal_mode: Option<WalOption>,
    /// What happens to a log that is there for a new source of this name: `adopt` takes it over, with its rows, if its
    /// columns are those of the source. Without this it is an error.
    log: Option<LogOption>,
    /// How often the state of queries is saved; the least of all sources counts.
    #[serde(default = "seconds::<10>")]
    pub checkpoint_interval: Duration,
    /// How long the log keeps rows that no checkpoint needs any more.
    #[serde(default = "seconds::<{ 7 * 24 * 60 * 60 }>")]
    retention: Duration,
    /// How large the log may become before its oldest part goes, if no checkpoint needs that.
    #[serde(default = "mebibytes::<10_240>")]
    retention_bytes: ByteSize,
}

#[derive(Debug, Default, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum BackpressureOption {
    #[default]
    Block,
    DropOldest,
    Reject,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum IdleAdvanceOption {
    Clock,
    None,
}

#[derive(Debug, Default, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum WaitOption {
    Spin,
    #[default]
    SpinYield,
    Park,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WalOption {
    /// The source has no log.
    Off,
    /// Written at once, synced within 100 ms or 8 MiB.
    Async,
    /// Synced before a push returns.
    Sync,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum LogOption {
    Adopt,
}

impl Options for IngestOptions {
    fn objections(&self) -> Vec<Objection> {
        let mut objections = Vec::new();
        let mut object = |options: &[&'static str], reason: &str| {
            objections.push(Objection::new(options, reason));
        };
        let size = self.buffer_size;
        if !size.is_power_of_two() {
            let next = size.next_power_of_two();
            let reason = format!("must be a power of two, such as {next}, not {size}");
            object(&["buffer_size"], &reason);
        }
        if self.idle_timeout.0.is_zero() {
            let reason = "must be more than zero, or no producer would ever be waited for";
            object(&["idle_timeout"], reason);
        }
        let drops = matches!(self.backpressure, BackpressureOption::DropOldest);
        if self.wal_mode == Some(WalOption::Sync) && drops {
            let reason =
                "cannot both be: a push that returned would be lost when a later one drops it";
            object(&["wal_mode", "backpressure"], reason);
        }
        if self.wal_mode == Some(WalOption::Off) && self.adopts_log() {
            let reason = "cannot both be: a source without a log has none to adopt";
            object(&["wal_mode", "log"], reason);
        }
        if self.checkpoint_interval.0.is_zero() {
            object(&["checkpoint_interval"], "must be more than zero");
        }
        objections
    }
}

impl IngestOptions {
    pub fn retention(&self) -> Retention {
        Retention {
            age: Some(self.retention.0),
            bytes: Some(self.retention_bytes.0),
        }
    }

    /// Whether a new source takes over the log that is there.
    pub fn adopts_log(&self) -> bool {
        self.log == Some(LogOption::Adopt)
    }

    /// Whether the watermark goes on by the clock. What a connector brings is mostly of now, and a last window
    /// that stays open is what surprises; a program says the watermark of what it pushes.
    pub fn goes_by_clock(&self, has_connector: bool) -> bool {
        let said = self.idle_advance.map(|it| it == IdleAdvanceOption::Clock);
        said.unwrap_or(has_connector)
    }

    /// An error if the watermark of arrival times is to stand still: they are the clock.
    pub fn check_watermark(&self, watermark: &WatermarkClause) -> Result<(), SqlError> {
        let by_arrival = watermark.column.value == MetadataColumn::Arrival.name();
        match self.idle_advance {
            Some(IdleAdvanceOption::None) if by_arrival => {
                let message = "idle_advance = 'none' with a watermark for _arrival";
                Err(SqlError::new(sqlstate::INVALID_PARAMETER, message)
                    .hint("Arrival times go on with the clock: leave the option out.")
                    .at(watermark.column.span.clone()))
            }
            _ => Ok(()),
        }
    }

    pub fn config(&self) -> SourceConfig {
        SourceConfig {
            wal_mode: match self.wal_mode {
                Some(WalOption::Sync) => Some(WalMode::Sync),
                Some(WalOption::Async | WalOption::Off) | None => None,
            },
            buffer_size: usize::try_from(self.buffer_size).unwrap_or(usize::MAX),
            backpressure: match self.backpressure {
                BackpressureOption::Block => Backpressure::Block,
                BackpressureOption::DropOldest => Backpressure::DropOldest,
                BackpressureOption::Reject => Backpressure::Reject,
            },
            wait_strategy: match self.wait_strategy {
                WaitOption::Spin => WaitStrategy::Spin,
                WaitOption::SpinYield => WaitStrategy::default(),
                WaitOption::Park => WaitStrategy::Park,
            },
            ..SourceConfig::default()
        }
    }
}

/// The options that every source takes in `WITH`, for help and docs.
pub fn source_options() -> Vec<Row> {
    OptionSet::of::<IngestOptions>().rows()
}
