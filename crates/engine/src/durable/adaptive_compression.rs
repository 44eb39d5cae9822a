//! Whether it pays to compress a record before it is written.
//!
//! It pays while the thread would rest otherwise, and where the disk takes longer to write what is saved
//! than the processor to save it. What either takes is measured as it happens; each measure is the mean
//! of about the last eight.

use std::time::Duration;

/// How much the newest of the measured counts.
const NEWEST: f64 = 1.0 / 8.0;

/// What compressing and writing take.
#[derive(Debug)]
pub(super) struct AdaptiveCompression {
    /// Nanoseconds for a byte to be compressed.
    pressing: f64,
    /// Nanoseconds for a byte to be written.
    writing: f64,
    /// The part of the bytes that is left when they are compressed.
    left: f64,
}

impl Default for AdaptiveCompression {
    /// About what lz4 and a page cache do, until it is known.
    fn default() -> Self {
        Self {
            pressing: 2.0,
            writing: 0.5,
            left: 0.5,
        }
    }
}

impl AdaptiveCompression {
    /// Whether to compress so many bytes, after the thread has rested so long.
    pub fn pays(&self, bytes: usize, rested: Duration) -> bool {
        let cost = self.pressing * bytes as f64;
        cost <= rested.as_nanos() as f64 || self.pressing < self.writing * (1.0 - self.left)
    }

    /// So many bytes became so many in this time.
    pub fn pressed(&mut self, from: usize, to: usize, took: Duration) {
        mean(&mut self.pressing, took.as_nanos() as f64, from);
        mean(&mut self.left, to as f64, from);
    }

    /// So many bytes were written in this time.
    pub fn wrote(&mut self, bytes: usize, took: Duration) {
        mean(&mut self.writing, took.as_nanos() as f64, bytes);
    }
}

/// Takes in what was measured for so many bytes.
fn mean(known: &mut f64, measured: f64, bytes: usize) {
    *known += (measured / bytes.max(1) as f64 - *known) * NEWEST;
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1_000_000;

    #[test]
    fn it_pays_while_the_thread_rests() {
        let press = AdaptiveCompression::default();
        assert!(press.pays(MB, Duration::from_millis(3)));
        assert!(!press.pays(MB, Duration::from_millis(1)));
    }

    #[test]
    fn it_pays_on_a_slow_disk() {
        let mut press = AdaptiveCompression::default();
        (0..50).for_each(|_| press.wrote(MB, Duration::from_millis(10)));
        assert!(press.pays(MB, Duration::ZERO));
        // But not if it saves little.
        (0..50).for_each(|_| press.pressed(MB, MB - 1, Duration::from_millis(2)));
        assert!(!press.pays(MB, Duration::ZERO));
    }
}
