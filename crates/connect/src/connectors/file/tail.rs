//! One file being read: its open handle, how far it is read, and the line that has not ended.
//!
//! Everything here blocks, and is called on a thread that may. Positions count bytes of content: of
//! the file itself, or of what was packed into it by gzip or zstd, recognised by its first bytes.
//! A packed file has no position to go to, so its start is unpacked again and skipped.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::time::Instant;

use super::find::Node;
use super::identity::Prefix;
use crate::lines::{Lines, unmarked};

/// So far back a line's start is looked for when a file is read from its end.
const LAST_LINE_MAX: u64 = 64 << 10;

/// One file being read.
pub(super) struct Tail {
    pub node: Node,
    pub path: PathBuf,
    /// The path, as the origin of its rows.
    pub origin: Arc<str>,
    pub prefix: Prefix,
    pub lines: Lines,
    /// Its first line, if rows of it must be told after those of another file.
    pub header: Option<Vec<u8>>,
    /// Whether something may have changed since its end was reached.
    pub woken: bool,
    /// Whether its end was reached.
    pub at_end: bool,
    /// When its end was reached after something was read.
    pub quiet_since: Instant,
    /// Why what is packed in it ends too early, until that is told.
    pub cut: Option<String>,
    /// Whether no pattern leads to it any more: since when.
    pub gone: Option<Instant>,
    /// Whether it is being read for the last time.
    pub last_look: bool,
    /// The file that was under its path before, and must be read first.
    pub after: Option<Node>,
    /// Its length and time of change when that was last asked.
    stamp: Option<(u64, i64, i64)>,
    /// Its length when that was last asked.
    length: u64,
    file: File,
    unpack: Unpack,
    /// The position up to which it was read; `lines` holds what follows the last line end before it.
    offset: u64,
    /// How much of that was not handed on yet, besides what `lines` holds.
    pub ahead: u64,
}

enum Unpack {
    /// Nothing was read yet: it is not known what it is.
    Unknown,
    Plain,
    Packed(Box<dyn Read + Send + Sync>),
    /// Unpacked to its end, or as far as can be: nothing comes unless its length is another than this.
    Spent {
        length: u64,
    },
}

/// What came of trying to read.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// So many bytes.
    Data(usize),
    /// The end, for now.
    End,
    /// What was read is not there any more: the file was emptied or written anew. It is read from its
    /// start; it had been read up to this position.
    Rewritten { read: u64 },
    /// Packed content that cannot be unpacked beyond this position, and why: it is damaged or, if
    /// `cut`, not all there, or not yet.
    Broken {
        read: u64,
        cut: bool,
        reason: String,
    },
}

impl Tail {
    /// Opens a file. `max` is the longest line.
    pub(super) fn open(path: PathBuf, max: usize) -> io::Result<Self> {
        let file = File::open(&path)?;
        let metadata = file.metadata()?;
        Ok(Self {
            node: (metadata.dev(), metadata.ino()),
            origin: path.display().to_string().into(),
            path,
            prefix: Prefix::of(&file)?,
            lines: Lines::new(max),
            header: None,
            woken: true,
            at_end: false,
            quiet_since: Instant::now(),
            cut: None,
            gone: None,
            last_look: false,
            after: None,
            stamp: None,
            length: metadata.len(),
            file,
            unpack: Unpack::Unknown,
            offset: 0,
            ahead: 0,
        })
    }

    /// The position after the last line that was handed on: where to continue.
    pub(super) fn position(&self) -> u64 {
        self.offset - self.ahead - self.lines.pending()
    }

    /// Whether the block of this length that was just read is its first.
    pub(super) fn has_only_read(&self, length: usize) -> bool {
        self.offset == length as u64
    }

    /// How many bytes of it were not read yet; 0 if it is packed.
    pub(super) fn behind(&self) -> u64 {
        match self.unpack {
            Unpack::Unknown | Unpack::Plain => self.length.saturating_sub(self.offset),
            Unpack::Packed(_) | Unpack::Spent { .. } => 0,
        }
    }

    /// Continues at a position that was reached before, if the file begins as it did then.
    pub(super) fn resume(&mut self, prefix: Prefix, position: u64) -> io::Result<bool> {
        let mut before = prefix;
        if !before.follow(&self.file)? {
            return Ok(false);
        }
        self.offset = position;
        Ok(true)
    }

    /// It has this path now.
    pub(super) fn call(&mut self, path: &Path) {
        if self.path != path {
            self.path = path.to_owned();
            self.origin = path.display().to_string().into();
        }
    }

    /// Continues behind the last line end there is now.
    pub(super) fn skip_to_end(&mut self) -> io::Result<()> {
        if self.is_packed()? {
            self.unpack = Unpack::Spent {
                length: self.length()?,
            };
            return Ok(());
        }
        let length = self.length()?;
        let mut last = vec![0; length.min(LAST_LINE_MAX) as usize];
        let start = length - last.len() as u64;
        let read = self.file.read_at(&mut last, start)?;
        let line = memchr::memrchr(b'\n', &last[..read]).map(|at| start + at as u64 + 1);
        self.offset = line.unwrap_or(if start == 0 { 0 } else { length });
        Ok(())
    }

    /// Keeps the first line, to be told again.
    pub(super) fn read_header(&mut self) -> io::Result<()> {
        let mut start = vec![0; LAST_LINE_MAX as usize];
        let read = match self.is_packed()? {
            false => self.file.read_at(&mut start, 0)?,
            true => unpacked(&self.file)?.read(&mut start)?,
        };
        let header = memchr::memchr(b'\n', &start[..read]).map(|end| &start[..end]);
        self.header = header.map(|header| unmarked(header).to_vec());
        Ok(())
    }

    /// Whether it was removed.
    pub(super) fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|found| found.nlink() == 0)
    }

    /// Whether it has changed since this was last asked.
    pub(super) fn has_stirred(&mut self) -> bool {
        let now = self
            .file
            .metadata()
            .ok()
            .map(|found| (found.len(), found.mtime(), found.mtime_nsec()));
        self.length = now.map_or(self.length, |(length, ..)| length);
        std::mem::replace(&mut self.stamp, now) != now
    }

    /// Reads on into `block`.
    ///
    /// Whether the file is still the same is checked after reading, not before: what was read of a file
    /// that was emptied and filled again in between must not count.
    pub(super) fn step(&mut self, block: &mut [u8]) -> io::Result<Step> {
        self.woken = false;
        if matches!(self.unpack, Unpack::Spent { length } if length != self.length()?) {
            self.unpack = Unpack::Unknown;
        }
        let filled = self.fill(block);
        if matches!(self.unpack, Unpack::Plain) {
            self.length = self.length()?;
        }
        let shorter = matches!(self.unpack, Unpack::Plain) && self.length < self.offset;
        if shorter || !self.prefix.follow(&self.file)? {
            return self.rewind();
        }
        match filled {
            Ok(0) => {
                if let Unpack::Packed(_) = self.unpack {
                    self.unpack = Unpack::Spent {
                        length: self.length()?,
                    };
                }
                Ok(Step::End)
            }
            Ok(read) => {
                self.offset += read as u64;
                Ok(Step::Data(read))
            }
            Err(error) if matches!(self.unpack, Unpack::Packed(_) | Unpack::Spent { .. }) => {
                self.unpack = Unpack::Spent {
                    length: self.length()?,
                };
                let cut = error.kind() == io::ErrorKind::UnexpectedEof;
                Ok(Step::Broken {
                    read: self.offset,
                    cut,
                    reason: error.to_string(),
                })
            }
            Err(error) => Err(error),
        }
    }

    fn rewind(&mut self) -> io::Result<Step> {
        let read = std::mem::take(&mut self.offset);
        self.prefix = Prefix::of(&self.file)?;
        self.unpack = Unpack::Unknown;
        self.woken = true;
        Ok(Step::Rewritten { read })
    }

    fn fill(&mut self, block: &mut [u8]) -> io::Result<usize> {
        if matches!(self.unpack, Unpack::Unknown) {
            self.unpack = self.recognise()?;
        }
        loop {
            let read = match &mut self.unpack {
                Unpack::Plain => self.file.read_at(block, self.offset),
                Unpack::Packed(reader) => reader.read(block),
                Unpack::Unknown | Unpack::Spent { .. } => Ok(0),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Finds out what the file is, and goes to the position where reading goes on.
    fn recognise(&mut self) -> io::Result<Unpack> {
        if self.length()? == 0 {
            return Ok(Unpack::Unknown);
        }
        if !self.is_packed()? {
            return Ok(Unpack::Plain);
        }
        self.unpack = Unpack::Spent {
            length: self.length()?,
        };
        let mut reader = unpacked(&self.file)?;
        let skipped = io::copy(&mut (&mut reader).take(self.offset), &mut io::sink())?;
        match skipped == self.offset {
            true => Ok(Unpack::Packed(reader)),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn is_packed(&self) -> io::Result<bool> {
        packing(&self.file).map(|packing| packing.is_some())
    }

    fn length(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.len())
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Packing {
    Gzip,
    Zstd,
}

/// How a file is packed, by its first bytes.
fn packing(file: &File) -> io::Result<Option<Packing>> {
    let mut magic = [0; 4];
    let read = file.read_at(&mut magic, 0)?;
    Ok(match magic[..read] {
        [0x1f, 0x8b, ..] => Some(Packing::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd] => Some(Packing::Zstd),
        _ => None,
    })
}

/// The content of a packed file, from its start.
fn unpacked(file: &File) -> io::Result<Box<dyn Read + Send + Sync>> {
    let mut again = file.try_clone()?;
    again.seek(SeekFrom::Start(0))?;
    let reader = BufReader::with_capacity(64 << 10, again);
    Ok(match packing(file)? {
        Some(Packing::Zstd) => Box::new(zstd::stream::read::Decoder::with_buffer(reader)?),
        Some(Packing::Gzip) | None => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
    })
}
