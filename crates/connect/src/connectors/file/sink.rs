//! Writes rows into a file, a line a row, each exactly once.
//!
//! Rows are gathered and written 64 KiB at a time, and whenever no further batch waits. The file always
//! ends with a whole line: what a failed write left behind is cut off before the next one, so a disk
//! that was full for a while leaves no torn line. Syncing and closing bring the file to the disk.
//!
//! A receipt is a place in the file, see `place`, behind its last whole write; what is only gathered is
//! unsent. A file that is no longer under its name, or was cut, while it is written is told with the
//! next write, since nobody would ever read what is written then. Opened with a receipt, the sink cuts
//! off whatever follows that place, and goes on there. There is no
//! rotation, so a sink has one file. It is locked while it is open: of two sinks with one file each
//! would cut off what the other wrote. The system ends the lock with the handle, however that ends.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;

use super::place::{Place, Saved};
use crate::formats::{self, Encoder, Frames};
use crate::options::{OptionSet, Options};
use crate::{Error, Guarantee, Receipt, Result, Sink, SinkArgs, SinkKind};

pub(super) const KIND: SinkKind = SinkKind {
    options: OptionSet::of::<FileSinkOptions>(),
    formats: formats::LINES,
    guarantee: |_| Guarantee::ExactlyOnce,
    create,
};

/// So many bytes are written at once.
const WRITE_AT: usize = 64 << 10;
/// So often the lock is tried: a program being started holds our handles for the blink of an eye.
const LOCK_TRIES: u32 = 5;
/// The wait between two tries.
const LOCK_WAIT: Duration = Duration::from_millis(20);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FileSinkOptions {
    /// The file; its folder must exist. Nothing else may write to it: after a crash whatever follows
    /// the last row that was saved is cut off. It is locked while it is open, so a second sink with the
    /// same file fails at once.
    path: PathBuf,
    /// Whether rows are added to a file that is there already; otherwise it is replaced. A sink that
    /// goes on after a restart adds to its own file in any case.
    #[serde(default = "yes")]
    append: bool,
}

impl Options for FileSinkOptions {}

fn yes() -> bool {
    true
}

fn create(args: SinkArgs<'_>) -> Result<Box<dyn Sink>> {
    let options = args.options.get()?;
    let encoder = args.encoder.ok_or(Error::NoEncoder)?;
    Ok(Box::new(FileSink {
        options,
        encoder,
        frames: Frames::default(),
        open: None,
    }))
}

struct FileSink {
    options: FileSinkOptions,
    encoder: Box<dyn Encoder>,
    /// Of the batch being encoded; empty between calls.
    frames: Frames,
    open: Option<Open>,
}

/// An open file.
struct Open {
    file: File,
    /// Taken, and not yet in the file.
    buffer: Vec<u8>,
    /// The rows in `buffer`.
    rows: u64,
    /// Behind the last whole write.
    place: Place,
    /// Tells the file from another one under its name.
    id: FileId,
    /// Whether a failed write may have left something behind `place`.
    torn: bool,
    /// Whether the folder's entry for the file is on the disk.
    linked: bool,
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
        regular(path).await
    }

    async fn open(&mut self, from: Option<Receipt>) -> Result<()> {
        let path = &self.options.path;
        let open = match from {
            Some(receipt) => resume(path, &receipt).await?,
            None => begin(path, self.options.append).await?,
        };
        if open.place.length > 0 {
            self.encoder.resume();
        }
        self.open = Some(open);
        Ok(())
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let open = self.open.as_mut().ok_or(Error::NotOpen)?;
        // First make room, then take the batch: what fails has not been taken.
        if open.buffer.len() >= WRITE_AT {
            open.write(&self.options.path).await?;
        }
        self.frames.clear();
        self.encoder.encode(rows, &mut self.frames)?;
        self.frames.write_lines(&mut open.buffer);
        open.rows += rows.num_rows() as u64;
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let open = self.open.as_mut().ok_or(Error::NotOpen)?;
        open.write(&self.options.path).await
    }

    fn receipt(&self) -> Option<Receipt> {
        self.open.as_ref().and_then(|open| open.place.receipt())
    }

    fn unsent(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.rows)
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

impl Open {
    fn new(file: File, id: FileId, place: Place) -> Self {
        Self {
            file,
            buffer: Vec::new(),
            rows: 0,
            place,
            id,
            torn: false,
            linked: false,
        }
    }

    /// Puts everything into the file, which is at `path`.
    async fn write(&mut self, path: &Path) -> Result<()> {
        self.still_there(path)?;
        let written = self.write_all().await;
        written.map_err(failed("cannot write", path))
    }

    /// One call of the system, which does not read the disk.
    fn still_there(&self, path: &Path) -> Result<()> {
        let differs = |reason: String| {
            let target = path.display().to_string();
            Err(Error::BadReceipt { target, reason })
        };
        let wrote = self.place.length;
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                differs(format!("it was removed, it had {wrote} bytes"))
            }
            Ok(found) if file_id(&found) != self.id => {
                differs("another file has taken its name".to_owned())
            }
            Ok(found) if found.len() < wrote => {
                let length = found.len();
                differs(format!("it was cut to {length} bytes, it had {wrote}"))
            }
            // What else is wrong with it the write tells.
            _ => Ok(()),
        }
    }

    async fn write_all(&mut self) -> std::io::Result<()> {
        if self.torn {
            self.file.set_len(self.place.length).await?;
        }
        self.torn = true;
        self.file.write_all(&self.buffer).await?;
        self.file.flush().await?;
        self.torn = false;
        self.place.advance(&self.buffer);
        self.buffer.clear();
        self.rows = 0;
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
async fn begin(path: &Path, append: bool) -> Result<Open> {
    let mut file = opened(path, true).await?;
    if !append {
        let emptied = file.set_len(0).await;
        emptied.map_err(failed("cannot replace", path))?;
    }
    let cannot = failed("cannot open", path);
    let found = file.metadata().await.map_err(&cannot)?;
    let place = Place::read(&mut file, found.len()).await;
    Ok(Open::new(file, file_id(&found), place.map_err(&cannot)?))
}

/// What tells a file from another one under its name, where the system has something.
type FileId = Option<(u64, u64)>;

fn file_id(found: &std::fs::Metadata) -> FileId {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Some((found.dev(), found.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = found;
        None
    }
}

/// Opens the file where the receipt says, and cuts off what follows.
async fn resume(path: &Path, receipt: &Receipt) -> Result<Open> {
    let target = path.display().to_string();
    let saved = Saved::of(receipt, &target)?;
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
    let place = Place::read(&mut file, saved.length).await;
    let place = place.map_err(&cannot)?;
    if place.saved() != saved {
        return Err(differs(
            "it is another file than the one written before".to_owned(),
        ));
    }
    if length > saved.length {
        let cut = length - saved.length;
        tracing::info!(
            target,
            cut,
            "bytes written after the last checkpoint are cut off"
        );
        let cut = file.set_len(saved.length).await;
        cut.map_err(failed("cannot cut off", path))?;
    }
    Ok(Open::new(file, id, place))
}

/// Always in append mode: after a cut, writing goes on at the end.
async fn opened(path: &Path, create: bool) -> Result<File> {
    regular(path).await?;
    let mut how = OpenOptions::new();
    how.read(true).append(true).create(create);
    let file = how.open(path).await.map_err(failed("cannot open", path))?;
    locked(file, path).await
}

/// Nobody else opens it as long as this handle lives.
async fn locked(file: File, path: &Path) -> Result<File> {
    let file = file.into_std().await;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(File::from_std(file)),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_WAIT).await,
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                let target = path.display();
                tracing::warn!(%target, "its file system knows no locks: nothing else may write it");
                return Ok(File::from_std(file));
            }
            Err(TryLockError::Error(source)) => return Err(failed("cannot lock", path)(source)),
        }
    }
    let target = path.display().to_string();
    Err(Error::InUse { target })
}

/// Refuses pipes, devices and folders: nothing can be taken back from them.
async fn regular(path: &Path) -> Result<()> {
    match fs::metadata(path).await {
        Ok(found) if !found.is_file() => {
            let source = std::io::Error::other("it is no regular file");
            Err(failed("cannot write", path)(source))
        }
        _ => Ok(()),
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn failed(what: &str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    let what = format!("{what} {}", path.display());
    move |source| Error::Io {
        what: what.clone(),
        source,
    }
}

#[cfg(test)]
mod receipts;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::Connectors;
    use crate::options::Given;

    fn sink(path: &Path, append: bool) -> Box<dyn Sink> {
        let columns = Schema::new(vec![Field::new("line", DataType::Utf8, false)]);
        let path = path.to_str().unwrap();
        let given = [
            Given::new("path", path),
            Given::new("append", append),
            Given::new("format", "text"),
        ];
        let spec = Connectors::builtin().sink("file", &given, Arc::new(columns), &[]);
        spec.unwrap_or_else(|rejection| panic!("{rejection}"))
            .sink()
            .unwrap()
    }

    fn rows(line: &str) -> RecordBatch {
        let column: arrow::array::ArrayRef = Arc::new(arrow::array::StringArray::from(vec![line]));
        RecordBatch::try_from_iter([("line", column)]).unwrap()
    }

    async fn write(path: &Path, append: bool, line: &str) {
        let mut sink = sink(path, append);
        sink.open(None).await.unwrap();
        sink.write(&rows(line)).await.unwrap();
        sink.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_file_is_added_to_or_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        write(&path, true, "a").await;
        write(&path, true, "b").await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\nb\n");
        write(&path, false, "c").await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "c\n");
    }

    /// Each would cut off what the other wrote, and then know the file no more.
    #[tokio::test]
    async fn a_file_has_one_sink_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut first = sink(&path, true);
        first.open(None).await.unwrap();
        first.write(&rows("a")).await.unwrap();
        first.flush().await.unwrap();
        for append in [true, false] {
            let error = sink(&path, append).open(None).await.unwrap_err();
            let target = path.display();
            let expected = format!("cannot write {target}: another sink or program is writing it");
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.retry(), crate::Retry::Fatal);
            assert!(error.hint().is_some_and(|hint| hint.contains("of its own")));
        }
        let receipt = first.receipt();
        // As after a crash: it was not closed.
        drop(first);
        let mut again = sink(&path, true);
        again.open(receipt.clone()).await.unwrap();
        again.close().await.unwrap();
        sink(&path, true).open(receipt).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\n");
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_told() {
        let path = Path::new("/nowhere at all/out");
        let error = sink(path, true).validate().await.unwrap_err().to_string();
        assert!(
            error.starts_with("cannot look into /nowhere at all: "),
            "{error}"
        );
        let error = sink(path, true).open(None).await.unwrap_err().to_string();
        assert!(
            error.starts_with("cannot open /nowhere at all/out: "),
            "{error}"
        );
        let error = sink(Path::new("/tmp"), true)
            .validate()
            .await
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("cannot write /tmp: "), "{error}");
    }

    /// A failed write leaves half a line behind; the next one begins where the last whole one ended.
    #[tokio::test]
    async fn a_torn_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        std::fs::write(&path, "whole\n").unwrap();
        let mut open = begin(&path, true).await.unwrap();
        std::fs::write(&path, "whole\nto").unwrap();
        (open.buffer, open.torn) = (b"torn\n".to_vec(), true);
        open.write(&path).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole\ntorn\n");
        assert_eq!((open.place.length, open.torn), (11, false));
    }

    #[tokio::test]
    async fn a_file_that_goes_while_it_is_written_is_told() {
        type Harm = fn(&Path) -> std::io::Result<()>;
        let harms: [(Harm, &str); 3] = [
            (
                |path| std::fs::remove_file(path),
                "it was removed, it had 6 bytes",
            ),
            (
                |path| {
                    std::fs::rename(path, path.with_extension("1"))?;
                    std::fs::write(path, "another\n")
                },
                "another file has taken its name",
            ),
            (
                |path| std::fs::write(path, "w"),
                "it was cut to 1 bytes, it had 6",
            ),
        ];
        for (harm, told) in harms {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("out");
            std::fs::write(&path, "whole\n").unwrap();
            let mut open = begin(&path, true).await.unwrap();
            harm(&path).unwrap();
            open.buffer = b"more\n".to_vec();
            let error = open.write(&path).await.unwrap_err();
            assert!(error.to_string().ends_with(told), "{error}");
            assert_eq!(error.retry(), crate::Retry::Fatal);
            assert_eq!(open.buffer, b"more\n", "nothing is taken for written");
        }
    }

    #[tokio::test]
    async fn a_batch_that_was_not_written_can_be_given_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        std::fs::write(&path, "").unwrap();
        let columns = Arc::new(Schema::new(vec![Field::new("line", DataType::Utf8, false)]));
        let given = [
            Given::new("path", path.to_str().unwrap()),
            Given::new("format", "text"),
        ];
        let spec = Connectors::builtin().sink("file", &given, columns, &[]);
        let spec = spec.unwrap_or_else(|rejection| panic!("{rejection}"));
        let args = spec.args().unwrap();
        let options = args.options.get().unwrap();
        // A file opened for reading: every write fails.
        let file = File::open(&path).await.unwrap();
        let id = file_id(&file.metadata().await.unwrap());
        let mut sink = FileSink {
            options,
            encoder: args.encoder.unwrap(),
            frames: Frames::default(),
            open: Some(Open::new(file, id, Place::default())),
        };
        let nothing = sink.receipt();
        let large = "x".repeat(WRITE_AT);
        sink.write(&rows(&large)).await.unwrap();
        for _ in 0..2 {
            let error = sink.write(&rows("next")).await.unwrap_err();
            assert_eq!(error.retry(), crate::Retry::Backoff);
            assert_eq!((sink.receipt(), sink.unsent()), (nothing.clone(), 1));
        }
        let mut how = OpenOptions::new();
        let writable = how.append(true).open(&path).await.unwrap();
        sink.open.as_mut().unwrap().file = writable;
        sink.write(&rows("next")).await.unwrap();
        sink.close().await.unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            format!("{large}\nnext\n")
        );
    }
}
