//! The tap of a source: its raw bytes, to be followed live.
//!
//! Nothing is kept before the first reader: until then a message costs one atomic load and the count of
//! its bytes. From then on a byte ring holds the last 1 MiB that the source reads, each message on its
//! own line unless the format is `bytes`.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use headwater_connect::Tap;
use headwater_ring::{ByteReader, ByteRing};

/// Size of the ring, bytes.
const RING_BYTES: usize = 1 << 20;

/// Where a source's raw bytes go. Clones share it.
#[derive(Clone)]
pub(crate) struct SourceTap {
    /// Created for the first reader.
    ring: Arc<OnceLock<ByteRing>>,
    bytes: Arc<AtomicU64>,
    /// Whether each message ends with a line feed.
    lines: bool,
}

impl SourceTap {
    /// The tap of a source whose messages have this format.
    pub fn new(format: Option<&str>) -> Self {
        Self {
            ring: Arc::default(),
            bytes: Arc::default(),
            lines: format != Some("bytes"),
        }
    }

    /// The function that the connector calls with each message.
    pub fn tap(&self) -> Tap {
        let Self { ring, bytes, lines } = self.clone();
        Arc::new(move |frame| {
            bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
            if let Some(ring) = ring.get() {
                write(ring, frame, lines);
            }
        })
    }

    /// The size of all messages so far, bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A reader of what the ring holds and of what comes from now on.
    pub fn reader(&self) -> ByteReader {
        let ring = self
            .ring
            .get_or_init(|| ByteRing::new(RING_BYTES).expect("the size of the ring is not 0"));
        ring.reader()
    }

    /// Closes the ring: readers read what is left, and then the end.
    pub fn close(&self) {
        if let Some(ring) = self.ring.get() {
            ring.close();
        }
    }
}

fn write(mut ring: &ByteRing, frame: &[u8], lines: bool) {
    // A write fails only once the ring is closed, when there is nothing more to read.
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
