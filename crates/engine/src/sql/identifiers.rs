//! Finds the declared spelling of the names in a query.
//!
//! A written name matches, in this order: the name that is spelled exactly so; the name that differs
//! in case only, if there is one such name (`SYMBOL` finds `symbol`, and where both `t` and `T` are
//! declared each finds itself); with several of these it is ambiguous. A name in quotes matches the
//! exact spelling alone. This holds for tables, columns and aliases alike.
//!
//! [`resolve_identifiers`] walks a query, scope by scope, and writes the declared spelling into the
//! tree; it changes nothing else, except that `*` leaves out the metadata columns that the query
//! names elsewhere. The planner, which compares exactly, then binds the names. So a name without a
//! match is an error of the planner, and a correct query is bound as the planner would bind it.
//!
//! ```text
//!   query    the CTEs before it, and outside it the scopes of the queries around
//!     FROM     each item gives a name and columns          -> a Scope
//!     SELECT WHERE ON     columns of the scope, then of the scopes around
//!     GROUP BY HAVING     columns, then aliases of the select list
//!     ORDER BY            aliases, then columns
//! ```

mod metadata_columns;
mod scope;
mod spelling;
mod table_lookup;
mod tree;
mod walk;

pub use metadata_columns::NamedMetadataColumns;
pub use table_lookup::TableLookup;
pub use walk::resolve_identifiers;

#[cfg(test)]
mod tests;
