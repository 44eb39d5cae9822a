//! Sync, save the cursor, sync again and get only the new events.
//!
//! ```text
//!   first sync: everything -> save the cursor -> ... -> load the cursor -> only NEW events
//! ```
//!
//! The source is an event log that some program appends to. The connector defines what is in the cursor;
//! the application only saves it together with the events it covers.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use headwater::arrow::array::AsArray;
use headwater::arrow::datatypes::{DataType, Field, Schema};
use headwater::connect::options::{Given, Value};
use headwater::connect::{Care, Connectors, Cursor, Item, SourceHandle};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[allow(dead_code)] // Also a module of the tests.
fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("headwater-sync-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let done = run(&folder, &mut std::io::stdout());
    fs::remove_dir_all(&folder)?;
    done
}

/// Runs the example with its files in `folder` and prints into `out`.
pub fn run(folder: &Path, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let (log, saved) = (folder.join("events.ndjson"), folder.join("cursor.json"));
    let runtime = tokio::runtime::Runtime::new()?;

    append(&log, &["c1", "c2", "c3"])?;
    let events = runtime.block_on(sync(&log, &saved))?;
    writeln!(out, "first sync: {}", events.join(", "))?;

    append(&log, &["c4", "c5"])?;
    let events = runtime.block_on(sync(&log, &saved))?;
    writeln!(out, "second sync: {}", events.join(", "))?;

    let events = runtime.block_on(sync(&log, &saved))?;
    writeln!(out, "third sync: {} events", events.len())?;
    Ok(())
}

fn append(log: &Path, ids: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut log = OpenOptions::new().append(true).create(true).open(log)?;
    for id in ids {
        writeln!(log, r#"{{"event_id": "{id}", "event_type": "commit"}}"#)?;
    }
    Ok(())
}

/// Reads the log from the saved cursor to its end, and saves the new cursor.
async fn sync(log: &Path, saved: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let cursor: Option<Cursor> = match fs::read(saved) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes)?),
        Err(_) => None,
    };
    let text = |name| Field::new(name, DataType::Utf8, false);
    let columns = Arc::new(Schema::new(vec![text("event_id"), text("event_type")]));
    let options = [
        Given::new(
            "path",
            Value::from(log.to_str().ok_or("the path is not UTF-8")?),
        ),
        Given::new("format", "ndjson"),
        Given::new("follow", false),
    ];
    let spec = Connectors::builtin().source("file", &options, Some(columns), &[])?;
    let source = SourceHandle::new(Arc::new(spec), cursor, Care::default());
    source.validate().await?;

    let (lane, mut items) = mpsc::channel(16);
    source.start(&CancellationToken::new(), Some(Box::new(lane)))?;
    let mut events = Vec::new();
    while let Some(item) = items.recv().await {
        let Item::Rows(delivery) = item else { continue };
        let ids = delivery.rows.column(0).as_string::<i32>();
        events.extend(ids.iter().flatten().map(str::to_owned));
        if let Some(cursor) = delivery.cursor {
            fs::write(saved, serde_json::to_vec(&cursor)?)?;
        }
    }
    Ok(events)
}
