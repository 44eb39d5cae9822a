//! The size of what a queue of results holds, and its limit: rows and bytes.

use arrow::array::RecordBatch;

use crate::batch_bytes::batch_bytes;

/// What a queue holds, or may hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct QueueSize {
    pub rows: usize,
    pub bytes: usize,
}

impl QueueSize {
    pub fn of(batch: &RecordBatch) -> Self {
        Self {
            rows: batch.num_rows(),
            bytes: batch_bytes(batch),
        }
    }

    pub fn with(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            bytes: self.bytes + other.bytes,
        }
    }

    pub fn without(self, other: Self) -> Self {
        Self {
            rows: self.rows.saturating_sub(other.rows),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    /// Whether it is more than `limit`, in rows or in bytes.
    pub fn exceeds(self, limit: Self) -> bool {
        self.rows > limit.rows || self.bytes > limit.bytes
    }

    pub fn half(self) -> Self {
        Self {
            rows: self.rows / 2,
            bytes: self.bytes / 2,
        }
    }
}
