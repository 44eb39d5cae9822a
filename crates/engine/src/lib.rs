//! The engine as a library. Its front page is the README of the project, whose example is a test.

#![doc = include_str!("../../../README.md")]

#[cfg(test)]
extern crate self as headwater;

mod batch_bytes;
mod canonical;
mod clock;
pub mod dataflow;
mod db;
mod durable;
mod error;
mod event_log;
mod event_time;
pub mod folder;
mod ingest;
mod locked;
pub mod record;
mod sequencer;
mod source;
pub mod sql;
mod store;
mod stream_status;
pub mod streams;
mod subscription;
mod tap;
pub mod telemetry;
mod time_zone;
mod topic;
mod worker;

pub use arrow;
pub use db::{Builder, Db, Guarantees, Kind, Link, Outcome, shown_sql, source_options};
pub use error::{Error, Result};
pub use event_log::{Events, Watched};
pub use event_time::WatermarkConfig;
pub use headwater_connect as connect;
pub use headwater_ring::{ByteRead, ByteReader, ByteRing};
pub use record::{Record, RecordError, Symbol, SymbolTooLong, Timestamp};
pub use source::{
    ArrowSource, Backpressure, Source, SourceConfig, SourceError, TryPushError, WaitStrategy,
    WalMode,
};
pub use streams::{StreamStats, StreamStatus, Streams};
pub use subscription::{Event, QueueConfig, Subscription, TypedSubscription, WhenFull};
pub use telemetry::{LifecycleEvent, Metric};
