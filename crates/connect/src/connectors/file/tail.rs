//! One file being read: its open handle, its read position, and the line that has not ended.
//!
//! Everything here blocks, and is called on a thread where that is allowed. Positions count bytes of
//! content: of the file itself, or of what gzip or zstd compressed into it, recognised by its first bytes.
//! A compressed file cannot be read from a position, so its start is decompressed again and skipped.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use tokio::time::Instant;

use super::identity::{FileId, Prefix, file_id};
use super::kind::other_than_file;
use crate::lines::{Framing, LineSplitter, first_line};

/// The largest distance from the end of a file at which the start of its last line is found, and the
/// largest header that is read, bytes.
const LAST_LINE_MAX: u64 = 64 << 10;

pub(super) struct TailedFile {
    pub id: FileId,
    pub path: PathBuf,
    /// The path, as the origin of its rows.
    pub origin: Arc<str>,
    pub prefix: Prefix,
    pub lines: LineSplitter,
    /// Its first line, to be repeated before its rows when they follow those of another file.
    pub header: Option<Vec<u8>>,
    /// Whether something may have changed since its end was reached.
    pub woken: bool,
    /// Whether its end was reached.
    pub at_end: bool,
    /// When its end was reached after something was read.
    pub quiet_since: Instant,
    /// Why its compressed content ends too early, until that is reported.
    pub truncated: Option<String>,
    /// Since when no pattern matches it.
    pub gone: Option<Instant>,
    /// Whether it is being read for the last time.
    pub final_read: bool,
    /// The file that had its path before, and must be read first.
    pub after: Option<FileId>,
    /// Length and modification time (seconds, nanoseconds) at the last call of `has_changed`.
    modified: Option<(u64, i64, i64)>,
    /// The last known length, bytes.
    length: u64,
    file: File,
    encoding: FileEncoding,
    /// The position up to which it was read; `lines` holds what follows the last line end before it.
    offset: u64,
    /// Bytes before `offset` that were not handed on yet, besides what `lines` holds.
    pub ahead: u64,
}

enum FileEncoding {
    /// Nothing was read yet.
    Unknown,
    Plain,
    Compressed(Box<dyn Read + Send + Sync>),
    /// Decompressed to its end, or to its damage: nothing more comes while the file has this length.
    Exhausted {
        length: u64,
    },
}

/// The outcome of one read.
#[derive(Debug, PartialEq)]
pub(super) enum ReadStep {
    /// The number of bytes read.
    Data(usize),
    /// The end, for now.
    End,
    /// The file was truncated or rewritten, after it had been read up to this position. The next read
    /// begins at its start.
    Rewritten { read: u64 },
    /// The compressed content is incomplete; its writer may still add the rest.
    Truncated { reason: String },
    /// The compressed content is damaged behind this position.
    Damaged { read: u64, reason: String },
}

impl TailedFile {
    /// Opens a file, whose bytes are cut into lines as `framing` says. A pipe that has taken its place since it
    /// was found is refused, and not waited for.
    pub(super) fn open(path: PathBuf, framing: Framing) -> io::Result<Self> {
        let mut how = File::options();
        how.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let file = how.read(true).open(&path)?;
        let metadata = file.metadata()?;
        if let Some(other) = other_than_file(metadata.file_type()) {
            return Err(io::Error::other(format!("it is {other}, not a file")));
        }
        Ok(Self {
            id: file_id(&metadata),
            origin: path.display().to_string().into(),
            path,
            prefix: Prefix::of(&file)?,
            lines: LineSplitter::new(framing),
            header: None,
            woken: true,
            at_end: false,
            quiet_since: Instant::now(),
            truncated: None,
            gone: None,
            final_read: false,
            after: None,
            modified: None,
            length: metadata.len(),
            file,
            encoding: FileEncoding::Unknown,
            offset: 0,
            ahead: 0,
        })
    }

    /// The position after the last line that was handed on, where a restart continues.
    pub(super) fn position(&self) -> u64 {
        self.offset - self.ahead - self.lines.pending()
    }

    /// Whether the block of this length that was just read is its first.
    pub(super) fn is_first_block(&self, length: usize) -> bool {
        self.offset == length as u64
    }

    /// Bytes that were not read yet; 0 if it is compressed.
    pub(super) fn behind(&self) -> u64 {
        match self.encoding {
            FileEncoding::Unknown | FileEncoding::Plain => self.length.saturating_sub(self.offset),
            FileEncoding::Compressed(_) | FileEncoding::Exhausted { .. } => 0,
        }
    }

    /// Continues at a saved position, if the file still begins as it did then.
    pub(super) fn resume(&mut self, prefix: Prefix, position: u64) -> io::Result<bool> {
        let mut before = prefix;
        if !before.follow(&self.file)? {
            return Ok(false);
        }
        self.offset = position;
        Ok(true)
    }

    pub(super) fn rename(&mut self, path: &Path) {
        if self.path != path {
            self.path = path.to_owned();
            self.origin = path.display().to_string().into();
        }
    }

    /// Continues behind the last line end that the file has now.
    pub(super) fn skip_to_end(&mut self) -> io::Result<()> {
        if self.is_compressed()? {
            return self.exhaust();
        }
        let length = self.length()?;
        let mut last = vec![0; length.min(LAST_LINE_MAX) as usize];
        let start = length - last.len() as u64;
        let read = self.file.read_at(&mut last, start)?;
        let line = memchr::memrchr(b'\n', &last[..read]).map(|at| start + at as u64 + 1);
        self.offset = line.unwrap_or(if start == 0 { 0 } else { length });
        Ok(())
    }

    /// Keeps the first line as the header.
    pub(super) fn read_header(&mut self, framing: Framing) -> io::Result<()> {
        let mut start = vec![0; LAST_LINE_MAX as usize];
        let read = match self.is_compressed()? {
            false => self.file.read_at(&mut start, 0)?,
            true => decompressed(&self.file)?.read(&mut start)?,
        };
        self.header = first_line(&start[..read], framing).map(<[u8]>::to_vec);
        Ok(())
    }

    /// Whether it was removed.
    pub(super) fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|found| found.nlink() == 0)
    }

    /// Whether it has changed since the last call.
    pub(super) fn has_changed(&mut self) -> bool {
        let now = self
            .file
            .metadata()
            .ok()
            .map(|found| (found.len(), found.mtime(), found.mtime_nsec()));
        self.length = now.map_or(self.length, |(length, ..)| length);
        std::mem::replace(&mut self.modified, now) != now
    }

    /// Reads the next bytes into `block`.
    ///
    /// Whether the file is still the same is checked after reading, not before: bytes of a file that was
    /// truncated and filled again in between must not count.
    pub(super) fn step(&mut self, block: &mut [u8]) -> io::Result<ReadStep> {
        self.woken = false;
        if matches!(self.encoding, FileEncoding::Exhausted { length } if length != self.length()?) {
            self.encoding = FileEncoding::Unknown;
        }
        let filled = self.fill(block);
        if matches!(self.encoding, FileEncoding::Plain) {
            self.length = self.length()?;
        }
        let shorter = matches!(self.encoding, FileEncoding::Plain) && self.length < self.offset;
        if shorter || !self.prefix.follow(&self.file)? {
            return self.rewind();
        }
        match filled {
            Ok(0) => {
                if let FileEncoding::Compressed(_) = self.encoding {
                    self.exhaust()?;
                }
                Ok(ReadStep::End)
            }
            Ok(read) => {
                self.offset += read as u64;
                Ok(ReadStep::Data(read))
            }
            Err(error)
                if matches!(
                    self.encoding,
                    FileEncoding::Compressed(_) | FileEncoding::Exhausted { .. }
                ) =>
            {
                self.exhaust()?;
                let (read, reason) = (self.offset, error.to_string());
                Ok(match error.kind() {
                    io::ErrorKind::UnexpectedEof => ReadStep::Truncated { reason },
                    _ => ReadStep::Damaged { read, reason },
                })
            }
            Err(error) => Err(error),
        }
    }

    fn exhaust(&mut self) -> io::Result<()> {
        let length = self.length()?;
        self.encoding = FileEncoding::Exhausted { length };
        Ok(())
    }

    fn rewind(&mut self) -> io::Result<ReadStep> {
        let read = std::mem::take(&mut self.offset);
        self.prefix = Prefix::of(&self.file)?;
        self.encoding = FileEncoding::Unknown;
        self.woken = true;
        Ok(ReadStep::Rewritten { read })
    }

    fn fill(&mut self, block: &mut [u8]) -> io::Result<usize> {
        if matches!(self.encoding, FileEncoding::Unknown) {
            self.encoding = self.recognise()?;
        }
        loop {
            let read = match &mut self.encoding {
                FileEncoding::Plain => self.file.read_at(block, self.offset),
                FileEncoding::Compressed(reader) => reader.read(block),
                FileEncoding::Unknown | FileEncoding::Exhausted { .. } => Ok(0),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Recognises the encoding by the first bytes, and goes to `offset`.
    fn recognise(&mut self) -> io::Result<FileEncoding> {
        if self.length()? == 0 {
            return Ok(FileEncoding::Unknown);
        }
        if !self.is_compressed()? {
            return Ok(FileEncoding::Plain);
        }
        self.exhaust()?;
        let mut reader = decompressed(&self.file)?;
        let skipped = io::copy(&mut (&mut reader).take(self.offset), &mut io::sink())?;
        match skipped == self.offset {
            true => Ok(FileEncoding::Compressed(reader)),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn is_compressed(&self) -> io::Result<bool> {
        compression(&self.file).map(|found| found.is_some())
    }

    fn length(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.len())
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum FileCompression {
    Gzip,
    Zstd,
}

/// The compression of a file, by its first bytes.
fn compression(file: &File) -> io::Result<Option<FileCompression>> {
    let mut magic = [0; 4];
    let read = file.read_at(&mut magic, 0)?;
    Ok(match magic[..read] {
        [0x1f, 0x8b, ..] => Some(FileCompression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd] => Some(FileCompression::Zstd),
        _ => None,
    })
}

/// The content of a compressed file, from its start.
fn decompressed(file: &File) -> io::Result<Box<dyn Read + Send + Sync>> {
    let mut again = file.try_clone()?;
    again.seek(SeekFrom::Start(0))?;
    let reader = BufReader::with_capacity(64 << 10, again);
    Ok(match compression(file)? {
        Some(FileCompression::Zstd) => Box::new(zstd::stream::read::Decoder::with_buffer(reader)?),
        Some(FileCompression::Gzip) | None => {
            Box::new(flate2::bufread::MultiGzDecoder::new(reader))
        }
    })
}
