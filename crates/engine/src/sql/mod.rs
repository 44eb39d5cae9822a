//! Reads SQL text into statements and plans their queries.
//!
//! ```text
//!   script --lex--> tokens --measure--> statements --parse--> Statement { SqlQuery }
//!                                                                   |
//!                              windows::rewrite   TUMBLE, HOP, SESSION -> __window_start, __window_end
//!                              resolve_identifiers   names -> their declared spelling
//!                                                                   |
//!                                                          DataFusion's planner
//! ```
//!
//! `sqlparser` reads ordinary SQL in DataFusion's own dialect; Headwater's statements are read here.
//! Names keep the case in which they are written: [`resolve_identifiers`] finds the declared
//! spelling, and the planner then runs with `sql_parser.enable_ident_normalization = false`. Every
//! mistake is a [`SqlError`] with its position in the script. No text makes this panic or overflow
//! the stack.
//!
//! Nothing here knows which sources and streams exist, or which options a connector has.

mod alter;
mod annotated;
mod columns;
mod dialect;
mod error;
mod function_call;
pub mod functions;
mod identifiers;
mod interval;
mod lifecycle;
pub mod numbers;
mod options;
pub(crate) mod output_names;
mod parse;
mod parser_error;
pub mod plan;
mod refuse;
mod replay_source;
mod script;
mod shown;
mod stack;
mod statement;
mod suggest;
mod time_zone;
mod token_cursor;
mod types;
mod values;
pub mod windows;

pub(crate) use alter::{alter_text, quoted};
pub use error::{Result, SqlError, sqlstate};
pub use identifiers::{NamedMetadataColumns, TableLookup, resolve_identifiers};
pub use parse::{parse, parse_each};
pub use shown::ShownSql;
pub(crate) use stack::STACK;
pub use stack::deep;
pub use statement::{
    AlterSource, AlterStream, Attach, ColumnDefinition, CreateQuery, CreateSink, CreateSource,
    CreateSourceGroup, Drop, Emit, Explain, ExplainTarget, Kind, Name, OptionEntry, OptionValue,
    PAYLOAD, ReplaySource, Shown, SinkInput, Spanned, SqlQuery, Statement, StreamAction,
    TimeLiteral, WatermarkClause,
};
pub(crate) use suggest::did_you_mean;

#[cfg(test)]
mod tests;
