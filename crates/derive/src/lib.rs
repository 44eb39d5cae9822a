//! `#[derive(Record)]`: a struct as Arrow columns, and back.
//!
//! ```text
//!   tokens --input--> Struct { columns } --expand--> impl Record for ...
//! ```
//!
//! `input` reads the struct and refuses what cannot be a row, each error at its token and all at once;
//! `expand` writes the implementation. This crate does not know which Rust types are columns: the
//! generated code requires the traits of `headwater::record`, and the compiler checks each field.
//! The trait `headwater::Record` documents the derive for its users.

mod expand;
mod input;

#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

/// Implements `headwater::Record` for a struct, whose values are then rows of a stream. The trait documents fields and
/// attributes.
#[proc_macro_derive(Record, attributes(record))]
pub fn derive_record(tokens: TokenStream) -> TokenStream {
    record(tokens.into()).into()
}

/// Returns the implementation, or the errors as tokens.
fn record(tokens: proc_macro2::TokenStream) -> proc_macro2::TokenStream {
    match syn::parse2(tokens).and_then(input::Struct::read) {
        Ok(input) => expand::record(&input),
        Err(e) => e.into_compile_error(),
    }
}
