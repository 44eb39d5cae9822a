//! The options that every source and every query has, and how problems with options are told.

use headwater_connect::options::{
    ByteSize, Duration, Fault, Given, Objection, OptionSet, Options, Problem, Row, Value,
};
use headwater_log::Retention;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::source::{Backpressure, SourceConfig, WaitStrategy, WalMode};
use crate::sql::{OptionEntry, OptionValue, SqlError, sqlstate};

/// The bytes of a script that an option stands in.
pub(in crate::db) type Place = std::ops::Range<usize>;

/// What every source can be told.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceOptions {
    /// Rows that wait to be processed, for each handle or connector; a power of two.
    #[serde(default = "buffer_size")]
    #[schemars(range(min = 2, max = 1_073_741_824))]
    buffer_size: u64,
    /// What happens to new rows when the buffer is full.
    #[serde(default)]
    backpressure: BackpressureOption,
    /// How a program that pushes rows waits for space.
    #[serde(default)]
    wait_strategy: WaitOption,
    /// A producer that has sent nothing for this long does not hold back the watermark.
    #[serde(default = "idle_timeout")]
    idle_timeout: Duration,
    /// When rows are written to the log: `async` soon after they came, `sync` before a push returns
    /// and before any result shows them, `off` never. A database in memory has only `off`.
    wal_mode: Option<WalOption>,
    /// How often the state of queries is saved; the least of all sources counts.
    #[serde(default = "checkpoint_interval")]
    checkpoint_interval: Duration,
    /// How long the log keeps rows that no checkpoint needs any more.
    #[serde(default = "retention")]
    retention: Duration,
    /// How large the log may become before its oldest part goes, if no checkpoint needs that.
    #[serde(default = "retention_bytes")]
    retention_bytes: ByteSize,
}

fn checkpoint_interval() -> Duration {
    Duration::from_secs(10)
}

fn retention() -> Duration {
    Duration::from_secs(7 * 24 * 60 * 60)
}

fn retention_bytes() -> ByteSize {
    ByteSize(10 << 30)
}

fn buffer_size() -> u64 {
    65_536
}

fn idle_timeout() -> Duration {
    Duration::from_secs(10)
}

#[derive(Debug, Default, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum BackpressureOption {
    #[default]
    Block,
    DropOldest,
    Reject,
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
    /// Nothing is written.
    Off,
    /// Written at once, synced within 100 ms or 8 MiB.
    Async,
    /// Synced before a push returns.
    Sync,
}

impl Options for SourceOptions {
    fn objections(&self) -> Vec<Objection> {
        let mut objections = Vec::new();
        if !self.buffer_size.is_power_of_two() {
            let next = self.buffer_size.next_power_of_two();
            let given = self.buffer_size;
            let reason = format!("must be a power of two, such as {next}, not {given}");
            objections.push(Objection {
                options: vec!["buffer_size"],
                reason,
            });
        }
        if self.idle_timeout.0.is_zero() {
            let reason = "must be more than zero, or no producer would ever be waited for";
            objections.push(Objection {
                options: vec!["idle_timeout"],
                reason: reason.to_owned(),
            });
        }
        let drops = matches!(self.backpressure, BackpressureOption::DropOldest);
        if self.wal_mode == Some(WalOption::Sync) && drops {
            let reason =
                "cannot both be: a push that returned would be lost when a later one drops it";
            objections.push(Objection {
                options: vec!["wal_mode", "backpressure"],
                reason: reason.to_owned(),
            });
        }
        if self.checkpoint_interval.0.is_zero() {
            let reason = "must be more than zero";
            objections.push(Objection {
                options: vec!["checkpoint_interval"],
                reason: reason.to_owned(),
            });
        }
        objections
    }
}

impl SourceOptions {
    pub fn idle_timeout(&self) -> std::time::Duration {
        self.idle_timeout.0
    }

    /// What was said of the log, if something was.
    pub fn wal_mode(&self) -> Option<WalOption> {
        self.wal_mode
    }

    /// How often state is to be saved.
    pub fn checkpoint_interval(&self) -> std::time::Duration {
        self.checkpoint_interval.0
    }

    /// What the log keeps.
    pub fn retention(&self) -> Retention {
        Retention {
            age: Some(self.retention.0),
            bytes: Some(self.retention_bytes.0),
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

/// What every source can be told in `WITH`, for help and docs.
pub fn source_options() -> Vec<Row> {
    OptionSet::of::<SourceOptions>().rows()
}

/// Options by name that are known and not built, and what each waits for.
const UNBUILT: &[(&str, &str)] = &[("start", "beginning in the past is")];

/// Refuses what is known and not built.
pub(in crate::db) fn refuse_unbuilt_options(options: &[OptionEntry]) -> Result<()> {
    for option in options {
        let key = option.key.to_lowercase();
        let hit = UNBUILT.iter().find(|(name, _)| {
            key == *name
                || key.ends_with(&format!(".{name}"))
                || key.starts_with(&format!("{name}."))
        });
        if let Some((_, what)) = hit {
            let error = SqlError::not_built(format!("option {:?}", option.key))
                .hint(format!("Leave it out: {what} not built yet."))
                .at(option.key_span.clone());
            return Err(error.into());
        }
    }
    Ok(())
}

/// A `WITH` list for the walker. `connector` is taken out.
pub(in crate::db) fn given(options: &[OptionEntry]) -> (Option<&OptionEntry>, Vec<Given<Place>>) {
    let is_connector = |option: &&OptionEntry| option.key.eq_ignore_ascii_case("connector");
    let connector = options.iter().find(is_connector);
    let others = options.iter().filter(|option| !is_connector(option));
    let given = others.map(|option| Given {
        key: option.key.clone(),
        value: value(&option.value),
        span: option.key_span.start..option.value_span.end,
    });
    (connector, given.collect())
}

fn value(value: &OptionValue) -> Value {
    match value {
        OptionValue::String(text) => Value::Text(text.clone()),
        OptionValue::Bool(truth) => Value::Bool(*truth),
        OptionValue::Number(digits) => match digits.parse::<i64>() {
            Ok(number) => Value::Integer(number),
            Err(_) => digits
                .parse()
                .map_or(Value::Text(digits.clone()), Value::Number),
        },
    }
}

/// All that is wrong with a list of options.
pub(in crate::db) fn rejected(problems: Vec<Problem<Place>>, statement: &Place) -> Error {
    let errors = problems.into_iter().map(|problem| {
        let state = match problem.fault {
            Fault::Unknown { .. } => sqlstate::UNDEFINED_OBJECT,
            Fault::Missing { .. } | Fault::Duplicate { .. } => sqlstate::SYNTAX_ERROR,
            _ => sqlstate::INVALID_PARAMETER,
        };
        let place = problem.span.clone().unwrap_or_else(|| statement.clone());
        SqlError::new(state, problem.to_string())
            .maybe_hint(problem.hint())
            .at(place)
    });
    Error::Statement(errors.collect())
}
