//! `stdout`: rows on the standard output, a line a row.
//!
//! Written whenever no further batch waits, so that a terminal or a pipe sees each row at once. When
//! nobody reads the pipe any more the sink fails for good. A pipe cannot be taken back: after a crash
//! rows may be written twice, and whether anyone read them is not known. The table that updates in place on a
//! terminal is the server's; this is for pipes and files.

use arrow::array::RecordBatch;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::formats::{self, Encoder, Frames};
use crate::options::{OptionSet, Options};
use crate::{Connector, Error, Guarantee, Receipt, Result, Retry, Sink, SinkArgs, SinkKind};

/// The connector `stdout`.
pub const CONNECTOR: Connector = Connector {
    name: "stdout",
    summary: "the standard output of the process",
    source: None,
    sink: Some(SinkKind {
        options: OptionSet::of::<StdoutOptions>(),
        formats: formats::LINES,
        guarantee: |_| Guarantee::AtLeastOnce,
        create,
    }),
};

/// So many bytes are written at once.
const WRITE_AT: usize = 64 << 10;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StdoutOptions {}

impl Options for StdoutOptions {}

fn create(args: SinkArgs<'_>) -> Result<Box<dyn Sink>> {
    let StdoutOptions {} = args.options.get()?;
    let encoder = args.encoder.ok_or(Error::NoEncoder)?;
    Ok(Box::new(Stdout::new(encoder, tokio::io::stdout())))
}

struct Stdout<W> {
    encoder: Box<dyn Encoder>,
    /// Of the batch being encoded; empty between calls.
    frames: Frames,
    /// Taken, and not yet written.
    buffer: Vec<u8>,
    /// The rows in `buffer`.
    unsent: u64,
    out: W,
}

impl<W: AsyncWrite + Unpin + Send + Sync + 'static> Stdout<W> {
    fn new(encoder: Box<dyn Encoder>, out: W) -> Self {
        Self {
            encoder,
            frames: Frames::default(),
            buffer: Vec::new(),
            unsent: 0,
            out,
        }
    }
}

#[async_trait]
impl<W: AsyncWrite + Unpin + Send + Sync + 'static> Sink for Stdout<W> {
    async fn validate(&self) -> Result<()> {
        Ok(())
    }

    async fn open(&mut self, _: Option<Receipt>) -> Result<()> {
        Ok(())
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        if self.buffer.len() >= WRITE_AT {
            self.flush().await?;
        }
        self.frames.clear();
        self.encoder.encode(rows, &mut self.frames)?;
        self.frames.write_lines(&mut self.buffer);
        self.unsent += rows.num_rows() as u64;
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let written = match self.out.write_all(&self.buffer).await {
            Ok(()) => self.out.flush().await,
            failed => failed,
        };
        written.map_err(|error| Error::Refused {
            target: "the standard output".to_owned(),
            reason: error.to_string(),
            retry: Retry::Fatal,
        })?;
        self.buffer.clear();
        self.unsent = 0;
        Ok(())
    }

    fn unsent(&self) -> u64 {
        self.unsent
    }

    async fn close(&mut self) -> Result<()> {
        self.flush().await
    }
}

#[cfg(test)]
mod tests;
