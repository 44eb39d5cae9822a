//! Whether it pays to compress a record before it is written.
//!
//! It pays while the WAL thread would be idle otherwise, and where the disk needs longer to write the
//! saved bytes than the processor to compress them. Both costs are measured on every record; each is an
//! exponential moving average over about the last eight.

use std::time::Duration;

/// The weight of the newest sample.
const NEWEST: f64 = 1.0 / 8.0;

#[derive(Debug)]
pub(super) struct AdaptiveCompression {
    compress_ns: f64,
    write_ns: f64,
    /// Compressed size divided by original size.
    ratio: f64,
}

impl Default for AdaptiveCompression {
    /// Typical of lz4 and a page cache, until there are samples.
    fn default() -> Self {
        Self {
            compress_ns: 2.0,
            write_ns: 0.5,
            ratio: 0.5,
        }
    }
}

impl AdaptiveCompression {
    /// Whether to compress `bytes` bytes, after the thread has been idle for `idle`.
    pub fn pays(&self, bytes: usize, idle: Duration) -> bool {
        let cost = self.compress_ns * bytes as f64;
        cost <= idle.as_nanos() as f64 || self.compress_ns < self.write_ns * (1.0 - self.ratio)
    }

    /// Adds a sample: compressing `from` bytes into `to` took this long.
    pub fn compressed(&mut self, from: usize, to: usize, took: Duration) {
        sample(&mut self.compress_ns, took.as_nanos() as f64, from);
        sample(&mut self.ratio, to as f64, from);
    }

    /// Adds a sample: writing `bytes` bytes took this long.
    pub fn wrote(&mut self, bytes: usize, took: Duration) {
        sample(&mut self.write_ns, took.as_nanos() as f64, bytes);
    }
}

/// Moves `average` towards what was measured, a byte.
fn sample(average: &mut f64, measured: f64, bytes: usize) {
    *average += (measured / bytes.max(1) as f64 - *average) * NEWEST;
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1_000_000;

    #[test]
    fn it_pays_while_the_thread_is_idle() {
        let compression = AdaptiveCompression::default();
        assert!(compression.pays(MB, Duration::from_millis(3)));
        assert!(!compression.pays(MB, Duration::from_millis(1)));
    }

    #[test]
    fn it_pays_on_a_slow_disk() {
        let mut compression = AdaptiveCompression::default();
        (0..50).for_each(|_| compression.wrote(MB, Duration::from_millis(10)));
        assert!(compression.pays(MB, Duration::ZERO));
        // But not if it saves little.
        (0..50).for_each(|_| compression.compressed(MB, MB - 1, Duration::from_millis(2)));
        assert!(!compression.pays(MB, Duration::ZERO));
    }
}
