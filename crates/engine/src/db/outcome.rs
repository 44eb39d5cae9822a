//! [`Outcome`]: what a statement returns.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::sql::Kind;
use crate::stream_status::StreamStatus;
use crate::subscription::Subscription;

/// What a statement returns.
#[derive(Debug)]
pub enum Outcome {
    /// The statement created an entry.
    Created {
        /// What the entry is.
        kind: Kind,
        /// The name of the entry.
        name: String,
    },
    /// The entry exists and the statement has IF NOT EXISTS, or it does not and the statement has IF
    /// EXISTS.
    Unchanged {
        /// The name of the entry.
        name: String,
    },
    /// A stream is now in this state, or a source was attached to it or detached from it.
    Lifecycle {
        /// The name of the stream.
        name: String,
        /// The state that the stream is in now.
        status: StreamStatus,
    },
    /// A sink that had failed is started again.
    Started {
        /// The name of the sink.
        name: String,
    },
    /// The options of a source, stream or view were changed.
    Altered {
        /// What the entry is.
        kind: Kind,
        /// The name of the source, stream or view.
        name: String,
    },
    /// An entry was dropped, and with CASCADE all that read it.
    Dropped {
        /// The names, in the order in which the entries were dropped.
        names: Vec<String>,
    },
    /// An answer that ends.
    Rows {
        /// The columns of the answer.
        schema: SchemaRef,
        /// The rows of the answer.
        batches: Vec<RecordBatch>,
        /// The finite sources that it reads and that are still being read: their rows so far are in it.
        reading: Vec<String>,
    },
    /// The rows of SUBSCRIBE.
    Subscribed {
        /// The source, stream or view.
        name: String,
        /// Its rows, which go on as long as it does.
        rows: Subscription,
    },
    /// The rows of REPLAY, which ends.
    Replayed(Subscription),
}

impl Outcome {
    pub(crate) fn created(kind: Kind, name: String) -> Self {
        Self::Created { kind, name }
    }

    pub(crate) fn rows(rows: RecordBatch) -> Self {
        Self::Rows {
            schema: rows.schema(),
            batches: vec![rows],
            reading: Vec::new(),
        }
    }
}
