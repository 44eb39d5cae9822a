//! The names and columns of all tables, as the catalog has them.

use crate::dataflow::MetadataColumn;

/// Looks up the tables that a query can name.
pub trait TableLookup {
    /// The names of all sources, streams and views in their declared spelling; of a table in a
    /// schema with a dot, `system.gaps`.
    fn names(&self) -> Vec<String>;

    /// The columns of a table by its declared name, in order; `None` if there is no such table.
    fn columns(&self, table: &str) -> Option<Vec<String>>;

    /// The metadata columns of a table, which a query can name though `*` leaves them out.
    fn metadata_columns(&self, _table: &str) -> Vec<MetadataColumn> {
        Vec::new()
    }
}
