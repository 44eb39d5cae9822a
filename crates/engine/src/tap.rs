//! The tap of a source: its raw bytes, for whoever wants to look.
//!
//! Nothing is kept until somebody asks: an untapped source counts bytes and pays one load for each message. From then
//! on the last 1 MiB of what it reads stands in a byte ring, each message on a line of its own unless
//! the format says that messages are not text.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use headwater_connect::Tap;
use headwater_ring::{ByteReader, ByteRing};

/// How many bytes are kept.
const KEPT: usize = 1 << 20;

/// Where a source's raw bytes go. Clones share it.
#[derive(Clone)]
pub(crate) struct SourceTap {
    /// Made when the first reader comes.
    ring: Arc<OnceLock<ByteRing>>,
    bytes: Arc<AtomicU64>,
    lines: bool,
}

impl SourceTap {
    /// For messages of this format.
    pub fn new(format: Option<&str>) -> Self {
        Self {
            ring: Arc::default(),
            bytes: Arc::default(),
            lines: format != Some("bytes"),
        }
    }

    /// What the connector calls with each message.
    pub fn tap(&self) -> Tap {
        let Self { ring, bytes, lines } = self.clone();
        Arc::new(move |frame| {
            bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
            if let Some(ring) = ring.get() {
                write(ring, frame, lines);
            }
        })
    }

    /// The bytes of all messages so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A reader of what comes from now on, and of what is kept.
    pub fn reader(&self) -> ByteReader {
        let ring = self
            .ring
            .get_or_init(|| ByteRing::new(KEPT).expect("only a ring of no bytes is refused"));
        ring.reader()
    }

    /// Nothing more will come: readers read what is left and are told.
    pub fn close(&self) {
        if let Some(ring) = self.ring.get() {
            ring.close();
        }
    }
}

fn write(mut ring: &ByteRing, frame: &[u8], lines: bool) {
    // A ring takes everything until it is closed, and then nobody reads.
    let _ = ring.write_all(frame);
    if lines && !frame.ends_with(b"\n") {
        let _ = ring.write_all(b"\n");
    }
}

#[cfg(test)]
mod tests {
    use headwater_ring::ByteRead;

    use super::*;

    fn read(reader: &mut ByteReader) -> Vec<u8> {
        let mut buffer = [0; 64];
        match reader.try_read(&mut buffer) {
            ByteRead::Bytes(count) => buffer[..count].to_vec(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn nothing_is_kept_before_somebody_reads() {
        let source = SourceTap::new(Some("text"));
        let tap = source.tap();
        tap(b"early");
        let mut reader = source.reader();
        tap(b"one");
        tap(b"two\n");
        assert_eq!(read(&mut reader), b"one\ntwo\n");
        source.close();
        assert_eq!(reader.try_read(&mut [0; 1]), ByteRead::Closed);
    }

    #[test]
    fn bytes_stay_as_they_are() {
        let source = SourceTap::new(Some("bytes"));
        let mut reader = source.reader();
        source.tap()(&[0, 1]);
        source.tap()(&[2]);
        assert_eq!(read(&mut reader), [0, 1, 2]);
    }
}
