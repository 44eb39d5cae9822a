//! `stdout`: rows on the standard output, a line a row.
//!
//! The sink writes whenever no further batch waits, so that a terminal or a pipe shows each row at once.
//! When the reader of the pipe is gone the sink fails for good. A pipe cannot be rewound: after a crash
//! rows may be written twice, and whether anyone read them is not known. The server draws the table that
//! updates in place on a terminal; this connector is for pipes and files, and on a terminal writes no
//! character that commands it.

use std::io::IsTerminal;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::formats::{self, Encoder};
use crate::line_buffer::LineBuffer;
use crate::options::{OptionSet, Options};
use crate::shown::printable;
use crate::{Connector, Error, Guarantee, Receipt, Result, Retry, Sink, SinkArgs, SinkKind};

pub const CONNECTOR: Connector = Connector {
    name: "stdout",
    summary: "the standard output of the process",
    source: None,
    sink: Some(SinkKind {
        options: OptionSet::of::<StdoutOptions>(),
        formats: formats::LINES,
        guarantee: |_| Guarantee::AtLeastOnce,
        reaches: SinkKind::the_system,
        create,
    }),
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StdoutOptions {}

impl Options for StdoutOptions {}

fn create(args: SinkArgs<'_>) -> Result<Box<dyn Sink>> {
    let StdoutOptions {} = args.options.get()?;
    let encoder = args.encoder.ok_or(Error::NoEncoder)?;
    let is_terminal = std::io::stdout().is_terminal();
    let out = tokio::io::stdout();
    Ok(Box::new(Stdout::new(encoder, out, is_terminal)))
}

struct Stdout<W> {
    buffer: LineBuffer,
    out: W,
    is_terminal: bool,
}

impl<W: AsyncWrite + Unpin + Send + Sync + 'static> Stdout<W> {
    fn new(encoder: Box<dyn Encoder>, out: W, is_terminal: bool) -> Self {
        Self {
            buffer: LineBuffer::new(encoder),
            out,
            is_terminal,
        }
    }

    async fn write_out(&mut self) -> std::io::Result<()> {
        let bytes = self.buffer.bytes();
        match self.is_terminal {
            true => {
                let text = String::from_utf8_lossy(bytes);
                self.out.write_all(printable(&text).as_bytes()).await?;
            }
            false => self.out.write_all(bytes).await?,
        }
        self.out.flush().await
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
        if self.buffer.is_full() {
            self.flush().await?;
        }
        self.buffer.push(rows)
    }

    async fn flush(&mut self) -> Result<()> {
        self.write_out().await.map_err(|error| Error::Refused {
            target: "the standard output".to_owned(),
            reason: error.to_string(),
            retry: Retry::Fatal,
        })?;
        self.buffer.clear();
        Ok(())
    }

    fn unsent(&self) -> u64 {
        self.buffer.rows()
    }

    async fn close(&mut self) -> Result<()> {
        self.flush().await
    }
}

#[cfg(test)]
mod tests;
