//! Writes rows into a file, a line a row, each exactly once.
//!
//! Rows are buffered and written 64 KiB at a time, and whenever no further batch waits. The file always
//! ends with a whole line: what a failed write left behind is truncated before the next one, so a disk
//! that was full for a while leaves no torn line. `sync` and `close` force the file to the disk.
//!
//! A receipt is the position behind the last whole write, see `position.rs`; buffered rows are unsent.
//! Opened with a receipt, the sink truncates whatever follows that position, and continues there. A file
//! that was renamed, removed or truncated while it is open fails the next write, since nobody would ever
//! read what is written then.
//!
//! What may not be written, such as a link that others can replace or a pipe, is refused when the sink is created and
//! when it is opened; see `target.rs`.
//!
//! There is no rotation: a sink has one file. It is locked while it is open, since of two sinks with one
//! file each would truncate what the other wrote. The system releases the lock with the handle, even when
//! the process dies.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

use super::follower::blocking;
use super::identity::{FileId, file_id};
use super::position::{FilePosition, FileReceipt};
use super::target;
use crate::formats;
use crate::line_buffer::LineBuffer;
use crate::options::{OptionSet, Options, yes};
use crate::{Error, Guarantee, Receipt, Result, Sink, SinkArgs, SinkKind};

pub(super) const KIND: SinkKind = SinkKind {
    options: OptionSet::of::<FileSinkOptions>(),
    formats: formats::LINES,
    guarantee: |_| Guarantee::ExactlyOnce,
    reaches: SinkKind::the_system,
    create,
};

/// Attempts to take the lock: a child process being started holds our handles for a moment.
const LOCK_TRIES: u32 = 5;
/// The wait between two attempts.
const LOCK_WAIT: Duration = Duration::from_millis(20);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FileSinkOptions {
    /// The file; its folder must exist. Nothing else may write to it: after a crash whatever follows
    /// the last saved row is truncated. It is locked while it is open, so a second sink with the same
    /// file fails at once. A new file has mode 640, less the umask. A pipe, device, socket or folder is refused; so is a
    /// link, unless it belongs to this user or root in a folder where nobody else may replace it; and in a folder
    /// where others may write, such as `/tmp`, a file of another user or one with a second name.
    path: PathBuf,
    /// Whether rows are appended to a file that already exists; otherwise it is replaced. A sink that
    /// continues after a restart appends to its own file in any case.
    #[serde(default = "yes")]
    append: bool,
}

impl Options for FileSinkOptions {}

fn create(args: SinkArgs<'_>) -> Result<Box<dyn Sink>> {
    let options = args.options.get()?;
    let encoder = args.encoder.ok_or(Error::NoEncoder)?;
    Ok(Box::new(FileSink {
        options,
        buffer: LineBuffer::new(encoder),
        open: None,
    }))
}

struct FileSink {
    options: FileSinkOptions,
    /// Rows that are not yet in the file.
    buffer: LineBuffer,
    open: Option<OpenFile>,
}

struct OpenFile {
    file: File,
    /// Behind the last whole write.
    position: FilePosition,
    id: FileId,
    /// Whether a failed write may have left something behind `position`.
    torn: bool,
    /// Whether the folder's entry for the file is on the disk.
    linked: bool,
}

impl FileSink {
    async fn write_buffer(&mut self) -> Result<()> {
        let open = self.open.as_mut().ok_or(Error::NotOpen)?;
        open.write(&self.options.path, self.buffer.bytes()).await?;
        self.buffer.clear();
        Ok(())
    }
}

#[async_trait]
impl Sink for FileSink {
    async fn validate(&self) -> Result<()> {
        let path = &self.options.path;
        let folder = folder(path);
        let found = fs::metadata(folder)
            .await
            .map_err(failed("cannot look into", folder))?;
        if !found.is_dir() {
            let source = std::io::ErrorKind::NotADirectory.into();
            return Err(failed("cannot look into", folder)(source));
        }
        self.refusal()
    }

    fn refusal(&self) -> Result<()> {
        target::refusal(&self.options.path)
    }

    async fn open(&mut self, from: Option<Receipt>) -> Result<()> {
        let path = &self.options.path;
        let open = match from {
            Some(receipt) => resume(path, &receipt).await?,
            None => begin(path, self.options.append).await?,
        };
        self.buffer.clear();
        if open.position.length > 0 {
            self.buffer.resume();
        }
        self.open = Some(open);
        Ok(())
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        if self.open.is_none() {
            return Err(Error::NotOpen);
        }
        // Writing comes before buffering the batch: a batch whose `write` fails was not taken.
        if self.buffer.is_full() {
            self.write_buffer().await?;
        }
        self.buffer.push(rows)
    }

    async fn flush(&mut self) -> Result<()> {
        self.write_buffer().await
    }

    fn receipt(&self) -> Option<Receipt> {
        self.open.as_ref().and_then(|open| open.position.receipt())
    }

    fn unsent(&self) -> u64 {
        self.buffer.rows()
    }

    async fn sync(&mut self) -> Result<()> {
        self.flush().await?;
        let open = self.open.as_mut().ok_or(Error::NotOpen)?;
        let synced = open.sync(folder(&self.options.path)).await;
        synced.map_err(failed("cannot sync", &self.options.path))
    }

    async fn close(&mut self) -> Result<()> {
        self.sync().await?;
        self.open = None;
        Ok(())
    }
}

impl OpenFile {
    fn new(file: File, id: FileId, position: FilePosition) -> Self {
        Self {
            file,
            position,
            id,
            torn: false,
            linked: false,
        }
    }

    /// Writes all bytes into the file, which is at `path`.
    async fn write(&mut self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.check_path(path)?;
        let written = self.write_all(bytes).await;
        written.map_err(failed("cannot write", path))
    }

    /// Fails if the path is not that of this file any more. One system call, which does not read the
    /// disk.
    fn check_path(&self, path: &Path) -> Result<()> {
        let differs = |reason: String| {
            let target = path.display().to_string();
            Err(Error::BadReceipt { target, reason })
        };
        let wrote = self.position.length;
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                differs(format!("it was removed, it had {wrote} bytes"))
            }
            Ok(found) if file_id(&found) != self.id => {
                differs("another file has taken its name".to_owned())
            }
            Ok(found) if found.len() < wrote => {
                let length = found.len();
                differs(format!(
                    "it was truncated to {length} bytes, it had {wrote}"
                ))
            }
            // Other errors come from the write itself.
            _ => Ok(()),
        }
    }

    async fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.torn {
            self.file.set_len(self.position.length).await?;
        }
        self.torn = true;
        self.file.write_all(bytes).await?;
        self.file.flush().await?;
        self.torn = false;
        self.position.advance(bytes);
        Ok(())
    }

    async fn sync(&mut self, folder: &Path) -> std::io::Result<()> {
        self.file.sync_data().await?;
        if !self.linked {
            File::open(folder).await?.sync_all().await?;
            self.linked = true;
        }
        Ok(())
    }
}

/// Opens the file as it is, or empties it.
async fn begin(path: &Path, append: bool) -> Result<OpenFile> {
    let mut file = opened(path, true).await?;
    if !append {
        let emptied = file.set_len(0).await;
        emptied.map_err(failed("cannot replace", path))?;
    }
    let cannot = failed("cannot open", path);
    let found = file.metadata().await.map_err(&cannot)?;
    let position = FilePosition::read(&mut file, found.len()).await;
    let position = position.map_err(&cannot)?;
    Ok(OpenFile::new(file, file_id(&found), position))
}

/// Opens the file at the position of the receipt, and truncates what follows.
async fn resume(path: &Path, receipt: &Receipt) -> Result<OpenFile> {
    let target = path.display().to_string();
    let saved = FileReceipt::of(receipt, &target)?;
    let differs = |reason: String| Error::BadReceipt {
        target: target.clone(),
        reason,
    };
    let mut file = match opened(path, saved.length == 0).await {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            let length = saved.length;
            return Err(differs(format!("it is gone, it had {length} bytes")));
        }
        opened => opened?,
    };
    let cannot = failed("cannot open", path);
    let found = file.metadata().await.map_err(&cannot)?;
    let (id, length) = (file_id(&found), found.len());
    if length < saved.length {
        let was = saved.length;
        return Err(differs(format!("it has {length} bytes, it had {was}")));
    }
    let position = FilePosition::read(&mut file, saved.length).await;
    let position = position.map_err(&cannot)?;
    if position.file_receipt() != saved {
        let reason = "it is another file than the one written before";
        return Err(differs(reason.to_owned()));
    }
    if length > saved.length {
        let truncated = length - saved.length;
        tracing::info!(
            target,
            truncated,
            "bytes written after the last checkpoint are truncated"
        );
        let truncated = file.set_len(saved.length).await;
        truncated.map_err(failed("cannot truncate", path))?;
    }
    Ok(OpenFile::new(file, id, position))
}

/// Opens and locks a file. Always in append mode: after a truncation, writing continues at the end.
async fn opened(path: &Path, create: bool) -> Result<File> {
    let name = path.to_owned();
    let file = blocking(move || target::open(&name, create)).await??;
    locked(file, path).await
}

/// Locks the file until this handle is dropped.
async fn locked(file: std::fs::File, path: &Path) -> Result<File> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(File::from_std(file)),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_WAIT).await,
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                let target = path.display();
                tracing::warn!(%target, "its file system has no locks: nothing else may write it");
                return Ok(File::from_std(file));
            }
            Err(TryLockError::Error(source)) => return Err(failed("cannot lock", path)(source)),
        }
    }
    let target = path.display().to_string();
    Err(Error::InUse { target })
}

pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

pub(super) fn failed(what: &str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    let what = format!("{what} {}", path.display());
    move |source| Error::Io {
        what: what.clone(),
        source,
    }
}

#[cfg(test)]
mod receipts;
#[cfg(test)]
mod tests;
