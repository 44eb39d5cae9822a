//! Names as written, made into names as declared.
//!
//! A name means, in this order: what is spelled exactly so; what is spelled so but for case, if
//! only one thing is (`SYMBOL` finds `symbol`, and where both `t` and `T` are declared each finds
//! itself); and when several are, it is ambiguous. A name in quotes means the exact spelling alone.
//! This holds for tables, columns and aliases alike.
//!
//! [`resolve_identifiers`] walks a query, scope by scope, and writes the declared spelling into the
//! tree; only the spelling is changed. The planner, which compares exactly, then does the binding,
//! so a name that fits nothing is left for it to complain about, and a correct query cannot be
//! bound otherwise than the planner would. The one thing that changes is `*`, which leaves out the
//! hidden columns that the query names elsewhere.
//!
//! ```text
//!   query    the CTEs before it, and outside it the scopes of the queries around
//!     FROM     each relation gives a name and columns      -> a Scope
//!     SELECT WHERE ON     columns of the scope, then of the scopes around
//!     GROUP BY HAVING     columns, then aliases of the select list
//!     ORDER BY            aliases, then columns
//! ```

mod metadata_columns;
mod scope;
mod tree;
mod walk;

pub use metadata_columns::Named;
pub use walk::resolve_identifiers;

use crate::dataflow::MetadataColumn;

/// What exists, for those who look up names.
pub trait Tables {
    /// The names of all sources, streams and views in their declared spelling; of a table in a
    /// schema with a dot, `system.gaps`.
    fn names(&self) -> Vec<String>;

    /// The columns of a table by its declared name, in order; none if there is no such table.
    fn columns(&self, table: &str) -> Option<Vec<String>>;

    /// The columns that a query may name besides those.
    fn metadata(&self, _table: &str) -> Vec<MetadataColumn> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
