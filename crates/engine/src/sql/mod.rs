//! SQL text into statements.
//!
//! ```text
//!   script --lex--> tokens --measure--> statements --parse--> Statement { SqlQuery }
//!                                                                   |
//!                              windows::rewrite   TUMBLE, HOP, SESSION -> __window_start, __window_end
//!                              resolve_identifiers   names -> the spelling of the declared ones
//!                                                                   |
//!                                                          DataFusion's planner
//! ```
//!
//! Ordinary SQL is read by `sqlparser` in DataFusion's own dialect; what is ours is read here. Names
//! keep the case in which they are written: the planner is to run with
//! `sql_parser.enable_ident_normalization = false` behind [`resolve_identifiers`], which finds the
//! declared spelling. Everything wrong is a [`SqlError`] with its place in the script. No text makes
//! this panic or overflow the stack.
//!
//! Planning, options of connectors and what exists are left to others.

mod alter;
mod annotated;
mod columns;
mod cursor;
mod dialect;
mod error;
mod identifiers;
mod interval;
mod lifecycle;
mod options;
mod parse;
mod parser_error;
pub mod plan;
mod refuse;
mod replay;
mod script;
mod stack;
mod statement;
mod suggest;
mod types;
pub mod windows;

pub(crate) use alter::quoted;
pub use error::{Result, SqlError, sqlstate};
pub use identifiers::{Named, Tables, resolve_identifiers};
pub use parse::{parse, parse_each};
pub(crate) use stack::STACK;
pub use stack::deep;
pub use statement::{
    AlterSource, Attach, Column, CreateSink, CreateSource, CreateSourceGroup, CreateStream,
    CreateView, Drop, Emit, Explain, ExplainTarget, Instant, Kind, Name, OptionEntry, OptionValue,
    Replay, Shown, SinkInput, Spanned, SqlQuery, Statement, StreamAction, Watermark,
};

#[cfg(test)]
mod tests;
